"""What happened: every frame sent, withheld, changed or accepted, and every signal, in order.

The exchange writes the upper half of the entries, the observers around the subject the lower.
Frames that moved in bulk are one entry with a range, so a ledger of a million frames is small.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="entry"):
    """Something that happened."""

    at_ns: int
    """Monotonic time of the run's clock, nanoseconds."""


# --- Written by the exchange -------------------------------------------------------------------


class Attempted(Entry, frozen=True, tag="attempted"):
    """A name was resolved, or a connect was tried, on behalf of the subject."""

    host: str
    port: int
    outcome: str
    """`ok`, `fail`, `refuse`, `blackhole`, `wrong`."""
    fault: int = -1


class Opened(Entry, frozen=True, tag="opened"):
    """TCP accepted."""

    connection: int
    """From 1, in order of acceptance. REST connections have numbers of their own, negative."""
    secure: bool


class Secured(Entry, frozen=True, tag="secured"):
    """The TLS handshake completed."""

    connection: int
    server_name: str = ""
    certificate: str = "good"
    """Which one was presented, as `actions.Tls.certificate` names them."""


class Refused(Entry, frozen=True, tag="refused"):
    """The connection did not get past a stage, because the exchange did not let it."""

    connection: int
    stage: str
    """`connect`, `tls`, `upgrade`."""
    how: str
    fault: int = -1


class Upgraded(Entry, frozen=True, tag="upgraded"):
    """101 was sent."""

    connection: int
    target: str


class Subscribed(Entry, frozen=True, tag="subscribed"):
    """Streams were added to a connection."""

    connection: int
    streams: tuple[str, ...]
    via: str
    """`url` or `message`."""
    tape_ns: int
    """Tape time at that moment."""


class Unsubscribed(Entry, frozen=True, tag="unsubscribed"):
    """Streams were taken off a connection."""

    connection: int
    streams: tuple[str, ...]
    tape_ns: int


class Controlled(Entry, frozen=True, tag="controlled"):
    """A control message, either way."""

    connection: int
    direction: str
    """`received` from the client, or `sent`."""
    text: str


class Sent(Entry, frozen=True, tag="sent"):
    """Recorded frames went out, bytes untouched."""

    connection: int
    first: int
    last: int
    """Exclusive."""
    streams: tuple[int, ...] | None = None
    """Codes of the streams sent out of the range; None for all."""
    late: bool = False
    """Not at their recorded time, or not in their recorded order."""


class Changed(Entry, frozen=True, tag="changed"):
    """Something else went out in the place of a recorded frame."""

    connection: int
    frame: int
    data: bytes
    fault: int


class Added(Entry, frozen=True, tag="added"):
    """Something went out that is not in the recording."""

    connection: int
    data: bytes
    fault: int


class Withheld(Entry, frozen=True, tag="withheld"):
    """Recorded frames that were due did not go out."""

    connection: int
    """0: no connection can get them, nor REST."""
    first: int
    last: int
    fault: int
    streams: tuple[int, ...] | None = None


class Struck(Entry, frozen=True, tag="struck"):
    """A fault did what it does."""

    connection: int
    fault: int
    text: str


class Beat(Entry, frozen=True, tag="beat"):
    """A ping or pong."""

    connection: int
    what: str
    """`ping sent`, `pong received`, `ping received`, `pong sent`."""


class Answered(Entry, frozen=True, tag="answered"):
    """A REST request was answered."""

    target: str
    status: int
    first_id: int = -1
    """First and last agg trade id in the answer; -1 for none."""
    last_id: int = -1


class Closed(Entry, frozen=True, tag="closed"):
    """A connection ended."""

    connection: int
    by: str
    """`exchange`, `client`, `network`."""
    how: str
    """`close`, `fin`, `reset`, `limit`, `deadline`."""
    code: int | None = None
    reason: str = ""
    fault: int = -1


# --- Written by the observers around the subject -----------------------------------------------


class Accepted(Entry, frozen=True, tag="accepted"):
    """The subject took a trade: its tap was called."""

    symbol: str
    trade_id: int | None
    price: str
    """As text, exactly what the subject passed on (`str()` of it when it is no string)."""
    quantity: str
    trade_time: int | None
    """Milliseconds since 1970."""
    is_buyer_maker: bool | None
    thread: str = ""


class Logged(Entry, frozen=True, tag="logged"):
    """A log record reached a handler."""

    logger: str
    level: int
    level_name: str
    template: str
    """The unformatted message: what makes two records the same remark."""
    text: str


class Raised(Entry, frozen=True, tag="raised"):
    """An exception reached whoever called the subject."""

    where: str
    """`start`, `stop`, `import`, `thread`."""
    type: str
    text: str


class HealthRead(Entry, frozen=True, tag="health"):
    """A health attribute or method was polled, and said something new."""

    name: str
    value: str
    healthy: bool | None


class MetricsRead(Entry, frozen=True, tag="metrics"):
    """A metric that the subject offers was read; `before_ns` and `at_ns` bracket the call."""

    name: str
    value: str
    before_ns: int


class Exited(Entry, frozen=True, tag="exited"):
    """The subject's process ended."""

    code: int


class Noted(Entry, frozen=True, tag="noted"):
    """Evidence: seen by us, but no signal, since nobody's alert depends on it."""

    what: str
    """`print`, `stderr`, `interpreter`, `task`, `loop`, `thread`, `swallowed`, `host`, `frozen`, `died`."""
    text: str


AnyEntry = (
    Attempted | Opened | Secured | Refused | Upgraded | Subscribed | Unsubscribed | Controlled
    | Sent | Changed | Added | Withheld | Struck | Beat | Answered | Closed
    | Accepted | Logged | Raised | HealthRead | MetricsRead | Exited | Noted
)  # fmt: skip


class Ledger:
    """
    Entries in the order in which they were written, from several threads.

    Args:
        origin_ns: monotonic time at which the run began.
    """

    def __init__(self, origin_ns: int = 0) -> None:
        self.origin_ns = origin_ns
        self._entries: list[AnyEntry] = []

    def write(self, entry: AnyEntry) -> None:
        """Add one entry. Safe from any thread."""
        self._entries.append(entry)  # one bytecode: atomic under the interpreter's lock

    def extend(self, entries: Iterable[AnyEntry]) -> None:
        """Add several, in order."""
        self._entries.extend(entries)

    def __iter__(self) -> Iterator[AnyEntry]:
        return iter(self._entries)

    def since(self, place: int) -> list[AnyEntry]:
        """The entries from a place on, counted from 0."""
        return self._entries[place:]

    def __len__(self) -> int:
        return len(self._entries)

    def seconds(self, entry: Entry) -> float:
        """Time of an entry since the run began."""
        return (entry.at_ns - self.origin_ns) / 1e9

    def digest(self, *, with_time: bool) -> str:
        """
        SHA-256 of the ledger.

        Args:
            with_time: False leaves the times out, as live runs need.
        """
        sha = hashlib.sha256()
        for entry in self._entries:
            plain = msgspec.to_builtins(entry, builtin_types=(bytes,))
            if not with_time:
                plain = {k: v for k, v in plain.items() if not k.endswith("_ns")}
            sha.update(msgspec.json.encode(plain))
        return sha.hexdigest()
