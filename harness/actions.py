"""What the simulated exchange may do to one connection.

Two kinds of thing live here. *Manners* say how the exchange behaves while nothing in
particular is happening: how it lets a client in (`Dial`, `Tls`, `Upgrade`), how it answers
and keeps alive (`Control`), and what the link does to bytes (`Link`). *Actions* are what it does
at an instant of the tape, in list order; a script is mostly `Span`s with single actions between them.

Times named `due_ns` are tape time: nanoseconds since the first frame of the timeline was due.
All other durations are the run's own clock.

    actions  Span ── Span ── Send ── Span ── Abort
    frames   0…248   249     249*    250…    (a changed frame 250; the link is cut after it)
"""

from __future__ import annotations

from typing import Literal

import msgspec

NO_FAULT = -1
"""`fault` of what the exchange does by itself."""
NO_FRAME = -1
"""`frame` of an action that belongs to no recorded frame."""
ANY_STREAM = -1
"""`stream` of an action that concerns whatever the connection carries."""

NS = 1_000_000_000


class _Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The idiom for every value: frozen, named fields, nothing unknown."""


# --- Manners: in the order in which a connection meets them --------------------------------


class Dial(_Value, frozen=True):
    """Name resolution and TCP accept. Acted out where the name is resolved, and by the listener."""

    resolve: Literal["ok", "fail", "wrong"] = "ok"
    """`fail` is NXDOMAIN; `wrong` is the address of nobody."""
    resolve_delay_ns: int = 0
    accept: Literal["ok", "refuse", "blackhole", "hang", "close", "reset"] = "ok"
    """`blackhole`: the SYN is never answered. `hang`: accepted, never a byte. `close`, `reset`: FIN or RST at once."""
    accept_delay_ns: int = 0


class Tls(_Value, frozen=True):
    """The TLS terminator; without meaning on a plain connection."""

    certificate: Literal[
        "good", "expired", "not_yet_valid", "self_signed", "unknown_ca", "wrong_host", "missing_intermediate"
    ] = "good"
    handshake: Literal["ok", "stall", "abort", "reset", "plaintext", "alert"] = "ok"
    """`stall`: ClientHello answered by silence; `abort`: FIN after it; `plaintext`: HTTP bytes on the TLS port."""
    alert: int = 40
    """Which fatal alert (RFC 8446, section 6): 40 handshake_failure, 70 protocol_version, 112 unrecognized_name."""
    version_max: Literal["", "1.0", "1.1", "1.2", "1.3"] = ""
    """The newest version that the server speaks; empty for all."""
    ciphers: str = ""
    """OpenSSL cipher list (TLS 1.2 and below); empty for the defaults."""
    alpn: tuple[str, ...] = ()
    client_certificate: bool = False
    """The server asks for, and insists on, a client certificate."""
    farewell: Literal["notify", "ragged"] = "notify"
    """`ragged`: FIN without close_notify, as most real server deaths look."""
    tickets: int = -1
    """Session tickets sent behind the handshake (TLS 1.3); -1 for the library's own number."""


class Reply(_Value, frozen=True):
    """An HTTP answer in place of 101."""

    status: int
    reason: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Upgrade(_Value, frozen=True):
    """The HTTP upgrade."""

    delay_ns: int = 0
    any_path: bool = False
    """Unknown paths get 101 instead of 404, and stay silent."""
    stall: bool = False
    """Never answer."""
    reply: Reply | None = None
    """Answer with this instead of 101."""
    target_bytes_max: int = 0
    """Longest target of a request; `reply` and `stall` answer only what is longer. 0 for any length."""
    raw: bytes | None = None
    """Answer with these bytes, whatever they are, instead of a rendered response; then FIN."""
    accept: Literal["ok", "bad", "missing"] = "ok"
    """The Sec-WebSocket-Accept header."""
    drop_headers: tuple[str, ...] = ()
    """Response headers left out of the 101, lower case: `upgrade`, `connection`."""
    extra_headers: tuple[tuple[str, str], ...] = ()
    version: Literal["1.1", "1.0"] = "1.1"
    dribble_ns: int = 0
    """Pause after every byte of the response head."""
    cut_after: int = -1
    """Send only so many bytes of the response head, then stay silent; -1 for all."""
    after: Literal["ok", "close", "reset"] = "ok"
    """FIN or RST right behind the 101."""
    early: bytes = b""
    """Bytes sent before the 101 (`ws.data_before_101`)."""
    trailing: bytes = b""
    """Bytes sent in the same segment behind the 101."""


class Control(_Value, frozen=True):
    """Control messages, keepalive and the exchange's own rules."""

    ack: Literal["ok", "missing", "wrong_id", "error"] = "ok"
    ack_delay_ns: int = 0
    error_code: int = 2
    error_msg: str = "Invalid request: invalid stream"
    error_shape: Literal["nested", "flat"] = "nested"
    deliver: bool = True
    """False: subscriptions are acknowledged and never one frame follows."""
    mute_streams: tuple[str, ...] = ()
    """Names or endings (`*@aggTrade`) of streams that are acknowledged and stay silent."""
    forget_subscriptions: bool = False
    """Streams named in the URL are dropped: a SUBSCRIBE message is needed."""
    ping: bool = True
    """The exchange sends pings at its cadence."""
    ping_interval_ns: int | None = None
    """None: the exchange's own setting."""
    pong_deadline_ns: int | None = None
    pong_must_match: bool = False
    """A pong with another payload than the ping closes 1008."""
    pong: Literal["ok", "withhold", "wrong"] = "ok"
    """What the client's own pings get."""
    pong_delay_ns: int = 0
    close_reply: Literal["ok", "withhold", "data"] = "ok"
    """What the client's close frame gets: the echo, nothing, or more data."""
    life_ns: int | None = None
    """Life of a connection, counted from its upgrade; None: the exchange's own setting (24 h)."""
    shutdown_notice_ns: int | None = None
    """Send `serverShutdown` so long before the life ends; None: never."""
    message_limit: int | None = None
    """Messages per rolling second; None: the exchange's own setting (5)."""
    stream_limit: int | None = None
    """Streams per connection; None: the exchange's own setting (1024)."""
    any_stream: bool = False
    """Malformed stream names are acknowledged too, and stay silent."""
    backlog_bytes_max: int | None = None
    """
    A client that leaves more than about this unread is closed with 1008; None: the exchange's own setting.

    An estimate: the frames that are due and not yet handed to the network count 200 bytes each, and what lies in
    buffers below does not count, nor does anything while the socket still takes more.
    """


class Link(_Value, frozen=True):
    """What the network does to bytes, below TLS. `down` is towards the client."""

    latency_ns: int = 0
    jitter_ns: int = 0
    """Each chunk waits latency plus or minus up to this, order kept."""
    bytes_per_s: int = 0
    """Cap on the down direction; 0 for none."""
    slice_bytes: int = 0
    """Write at most so many bytes at a time; 0 for whole blocks."""
    slice_delay_ns: int = 0
    limit_bytes: int = -1
    """FIN after so many bytes down; -1 for no limit."""
    mute_down: bool = False
    """Nothing reaches the client; sockets stay open."""
    mute_up: bool = False
    """Nothing from the client is seen."""
    reading: bool = True
    """False: the exchange stops reading its socket, so the client's writes block."""
    close_delay_ns: int = 0
    """A FIN waits so long."""
    corrupt_per_million: int = 0
    """Chance that a byte down has one bit flipped, in millionths."""
    idle_kill_ns: int = 0
    """RST after so long without a byte either way; 0 for never."""


class Rest(_Value, frozen=True):
    """How one REST request for trades is answered."""

    reply: Reply | None = None
    """Answer with this, whatever was asked."""
    empty: bool = False
    """Answer `[]`."""
    stale_ns: int = 0
    """The newest trades of so long, in tape time, are not in the database yet."""
    limit: int = 0
    """At most so many trades per answer; 0 for the documented limits."""
    stall: bool = False
    """Never answer."""


class Manners(_Value, frozen=True):
    """How the exchange behaves towards one connection."""

    dial: Dial = Dial()
    tls: Tls = Tls()
    upgrade: Upgrade = Upgrade()
    control: Control = Control()
    link: Link = Link()
    rest: Rest = Rest()


# --- Actions ----------------------------------------------------------------------------------


class Span(_Value, frozen=True, tag="span"):
    """
    Recorded frames `first` to `last` (exclusive), bytes untouched.

    Each is due at `max(not_before_ns, pivot_ns + (due - pivot_ns) * stretch + shift_ns)`, which is its
    recorded time unless a timing fault says otherwise.
    """

    first: int
    last: int
    fault: int = NO_FAULT
    strike: int = 0
    shift_ns: int = 0
    not_before_ns: int = 0
    pivot_ns: int = 0
    stretch: float = 1.0


class Withhold(_Value, frozen=True, tag="withhold"):
    """Recorded frames `first` to `last` (exclusive) are not sent."""

    first: int
    last: int
    due_ns: int
    fault: int
    strike: int = 0
    everywhere: bool = False
    """True: REST does not have them either; they are unobtainable, but the hole in the ids stays noticeable."""
    streams: tuple[str, ...] = ()
    """Only frames of these streams are withheld, the others of the range are sent; empty for all."""
    later: bool = False
    """The frames are not lost: late `Send`s of the same fault and strike follow. A connection that does not own the
    strike sends the frames here, in their place, and skips those late `Send`s."""


class Send(_Value, frozen=True, tag="send"):
    """One data message, whole and well framed."""

    due_ns: int
    payload: bytes
    frame: int = NO_FRAME
    """Index of the recorded frame that this is, or stands in for."""
    change: Literal["none", "changed", "added", "late"] = "changed"
    """`none`: a recorded frame sent singly; `late`: its bytes untouched, its place or time not its own."""
    opcode: Literal[1, 2] = 1
    wrap: bool = True
    """On a combined connection, wrap as data of its stream."""
    stream: int = ANY_STREAM
    """Code of the stream in the timeline; only connections that carry it get this."""
    stream_name: str = ""
    """Name to wrap it with on a combined connection (`!serverShutdown`); empty for the stream's own."""
    fragment_bytes: int = 0
    """Split into WebSocket frames of so many payload bytes (RFC 6455, section 5.4); 0 for one frame."""
    between: bytes = b""
    """Sent as it is between the first two of those frames: a ping, for example."""
    fault: int = NO_FAULT
    strike: int = 0


class Wire(_Value, frozen=True, tag="wire"):
    """Bytes put on the wire behind what was sent before, framed or not: broken frames, garbage, floods."""

    due_ns: int
    data: bytes
    fault: int
    frame: int = NO_FRAME
    """The recorded frame that these bytes stand in for."""
    below_tls: bool = False
    """Put on the socket as they are, without encryption; the same as above on a plain connection."""
    stream: int = ANY_STREAM
    strike: int = 0


class Close(_Value, frozen=True, tag="close"):
    """Send a close frame."""

    due_ns: int
    fault: int
    code: int | None = 1000
    """None sends an empty close frame. Any number is sent as it is, reserved ones too."""
    reason: bytes = b""
    """Sent as it is, so that it may be too long or not UTF-8."""
    then: Literal["handshake", "fin", "reset", "data"] = "handshake"
    """Wait for the client's echo and FIN; or FIN, RST, or go on sending data."""
    frame: int = NO_FRAME
    """Only the connection that carries this frame is closed."""
    strike: int = 0


class Abort(_Value, frozen=True, tag="abort"):
    """RST: what was not yet read on the way is lost."""

    due_ns: int
    fault: int
    frame: int = NO_FRAME
    strike: int = 0


class Eof(_Value, frozen=True, tag="eof"):
    """FIN, without a close frame."""

    due_ns: int
    fault: int
    frame: int = NO_FRAME
    strike: int = 0


class Change(_Value, frozen=True, tag="change"):
    """From here on, manners differ."""

    due_ns: int
    field: str
    """For example `link.latency_ns` or `control.ping`."""
    value: bool | int | str | tuple[str, ...] | None
    fault: int
    frame: int = NO_FRAME
    strike: int = 0


Action = Span | Withhold | Send | Wire | Close | Abort | Eof | Change
