"""Subscriptions and the script of one connection: what of the tape goes out on it, and what is done to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from harness.actions import NO_FAULT, NO_FRAME, Abort, Change, Close, Eof, Send, Wire, Withhold
from harness.exchange import wire
from harness.exchange.commands import Below, Fin, Relink
from harness.exchange.cursor import Act, Cursor, Frames
from harness.exchange.tape import BLOCK_FRAMES, Shape, microseconds, wrapped
from harness.ledger import Added, Changed, Sent, Subscribed, Unsubscribed, Withheld

if TYPE_CHECKING:
    from harness.actions import Action
    from harness.exchange.binance import Route
    from harness.exchange.connection import ExchangeConnection

PUMP_BYTES = 256 * 1024
"""What one connection produces before the others get their turn."""
STEP_FRAMES = 2 * BLOCK_FRAMES
"""Frames that are taken from the script at once: of usual ones, as many as one connection produces in its turn."""
FRAME_BYTES = 200
"""A usual frame, for estimates."""


class Player:
    """
    Plays the tape to one connection.

    Args:
        line: the connection.
        route: what its URL asked for.
        agreed: permessage-deflate parameters, or None.
    """

    def __init__(self, line: ExchangeConnection, route: Route, agreed: wire.Deflate | None) -> None:
        self._line = line
        self._exchange = line.exchange
        self._route = route
        self._agreed = agreed
        self.streams: dict[str, None] = {}
        """Subscribed streams, in order."""
        self.combined = route.combined
        """Whether data is wrapped."""
        self._cursor: Cursor | None = None
        self._lap = 0
        self._shape = Shape()
        self._live: frozenset[int] | None = frozenset()
        self._muted: frozenset[int] = frozenset()
        self._carried: frozenset[int] = frozenset()

    def stop(self) -> None:
        """Play nothing more."""
        self._cursor = None

    def backlog_bytes(self) -> int:
        """About how much was due and is not sent."""
        if self._cursor is None:
            return 0
        return max(0, self._exchange.reached(self._line.now_ns) - self._cursor.next_frame) * FRAME_BYTES

    def replan(self) -> None:
        """The plan was changed by hand: go on with its script from here."""
        self.reshape()
        if self._cursor is not None:
            script = self._exchange.script(self._line.number, self._line.manners, self._lap)
            done_ns, frame = self._cursor.done_ns, self._cursor.next_frame
            self._cursor = Cursor(
                script, self._exchange.timeline, self._may_strike, tape_ns=done_ns, frame=frame, resume=True
            )

    def subscribe(self, streams: tuple[str, ...], via: str) -> None:
        """Add streams; the first on any connection starts the market."""
        self.streams.update(dict.fromkeys(streams))
        exchange = self._exchange
        # One client library connects to `/ws/0` and subscribes then: a bare number starts nothing.
        if any("@" in name or name.startswith("!") for name in streams):
            exchange.start_clock(self._line.now_ns)
        lap, tape_ns, frame = exchange.position(self._line.now_ns)
        self._line.write(
            Subscribed(at_ns=self._line.now_ns, connection=self._line.number, streams=streams, via=via, tape_ns=tape_ns)
        )
        self.reshape()
        if self._cursor is None and exchange.started_ns is not None and self._line.state == "open":
            self._lap = lap
            self._cursor = self._new_cursor(lap, tape_ns, frame)

    def unsubscribe(self, streams: tuple[str, ...]) -> None:
        """Take streams off."""
        for name in streams:
            self.streams.pop(name, None)
        _, tape_ns, _ = self._exchange.position(self._line.now_ns)
        self._line.write(
            Unsubscribed(at_ns=self._line.now_ns, connection=self._line.number, streams=streams, tape_ns=tape_ns)
        )
        self.reshape()

    def _new_cursor(self, lap: int, tape_ns: int, frame: int) -> Cursor:
        script = self._exchange.script(self._line.number, self._line.manners, lap, from_ns=tape_ns)
        return Cursor(script, self._exchange.timeline, self._may_strike, tape_ns=tape_ns, frame=frame)

    def reshape(self) -> None:
        """Work out which streams of the tape go out, after a change of subscriptions or manners."""
        names, control = self._exchange.timeline.streams, self._line.manners.control
        self._carried = frozenset(
            code for code, name in enumerate(names) if name in self.streams and self._route.delivers(name)
        )
        muted = self._carried if not control.deliver else {c for c in self._carried if self._is_mute(names[c])}
        self._muted = frozenset(muted)
        live = self._carried - self._muted
        self._live = None if len(live) == len(names) else live
        self._shape = Shape(
            codes=self._live,
            combined=self.combined,
            micro=self._route.micro,
            deflate_bits=self._agreed.server_bits if self._agreed else 0,
        )

    def _is_mute(self, stream: str) -> bool:
        return any(
            stream.endswith(name[1:]) if name.startswith("*") else stream == name
            for name in self._line.manners.control.mute_streams
        )

    # --- The script -----------------------------------------------------------------------------------------

    def next_due_ns(self) -> int | None:
        """When `pump` has something to do next, or None."""
        if self._cursor is None or not self._line.writable:
            return None
        tape_ns = self._cursor.next_due_ns()
        if tape_ns is None:
            return self._next_lap_ns()
        return self._exchange.due_ns(tape_ns, self._lap)

    def _next_lap_ns(self) -> int | None:
        if not self._exchange.settings.loop or not len(self._exchange.timeline):
            return None
        return self._exchange.due_ns(0, self._lap + 1)

    def pump(self) -> None:
        """Do what is due."""
        exchange = self._exchange
        running = exchange.running_ns(self._line.now_ns)
        produced = 0
        while self._cursor is not None and self._line.writable and produced < PUMP_BYTES:
            cursor = self._cursor
            step = cursor.take(exchange.in_lap_ns(running, self._lap), STEP_FRAMES - cursor.next_frame % BLOCK_FRAMES)
            if step is None:
                if not cursor.ended or not self._begin_lap():
                    return
                continue
            if isinstance(step, Frames):
                produced += self._play(step)
            else:
                produced += self._act(step)
            exchange.passed(cursor.next_frame)

    def prepare(self) -> None:
        """Render what comes next, while there is time."""
        if self._cursor is not None and self._carried:
            self._exchange.lap_tape(self._lap).prepare(self._cursor.next_frame, self._shape)

    def _begin_lap(self) -> bool:
        due = self._next_lap_ns()
        if due is None or due > self._line.now_ns:
            return False
        self._lap += 1
        self._cursor = self._new_cursor(self._lap, 0, 0)
        return True

    def _play(self, step: Frames) -> int:
        produced = 0
        pieces = self._exchange.lap_tape(self._lap).frames(step.first, step.last, self._shape)
        if any(pieces):
            self._line.out.extend(pieces)
            produced = sum(map(len, pieces))
            codes = None if self._live is None else tuple(sorted(self._live))
            self._line.write(
                Sent(
                    at_ns=self._line.now_ns, connection=self._line.number, first=step.first, last=step.last,
                    streams=codes, late=step.late,
                )
            )  # fmt: skip
        if self._muted:
            self._withheld(step.first, step.last, tuple(sorted(self._muted)), NO_FAULT)
        return produced

    def _withheld(self, first: int, last: int, codes: tuple[int, ...] | None, fault: int) -> None:
        if codes is not None and len(codes) == len(self._exchange.timeline.streams):
            codes = None
        self._line.write(
            Withheld(
                at_ns=self._line.now_ns,
                connection=self._line.number,
                first=first,
                last=last,
                fault=fault,
                streams=codes,
            )
        )

    def _act(self, step: Act) -> int:
        action = step.action
        if isinstance(action, Withhold):
            return self._withhold(action)
        if isinstance(action, Send):
            return self._send(action)
        if isinstance(action, Wire):
            return self._put(action)
        if action.frame != NO_FRAME and not self._carries(action):
            return 0
        if isinstance(action, Change):
            self.change(action.field, action.value)
        elif isinstance(action, Close):
            self._line.close_as(action)
        elif isinstance(action, Abort):
            self._line.abort("reset", action.fault)
        elif isinstance(action, Eof):
            self._line.end(by="exchange", how="fin", fault=action.fault)
            self._line.finish(Fin())
        return 0

    def _withhold(self, action: Withhold) -> int:
        names = self._exchange.timeline.streams
        kept = (
            self._carried
            if not action.streams
            else frozenset(code for code in self._carried if names[code] in action.streams)
        )
        produced = 0
        if action.streams:
            live = self._carried - kept - self._muted
            shape = msgspec.structs.replace(self._shape, codes=live)
            pieces = self._exchange.lap_tape(self._lap).frames(action.first, action.last, shape)
            if any(pieces):
                self._line.out.extend(pieces)
                produced = sum(map(len, pieces))
                self._line.write(
                    Sent(
                        at_ns=self._line.now_ns, connection=self._line.number, first=action.first, last=action.last,
                        streams=tuple(sorted(live)),
                    )
                )  # fmt: skip
        if kept and not action.later:
            self._withheld(action.first, action.last, tuple(sorted(kept)), action.fault)
        return produced

    def _send(self, action: Send) -> int:
        code = self._stream_of(action)
        if code is not None and code not in self._carried:
            return 0
        if code is not None and code in self._muted:
            if action.frame != NO_FRAME and action.change != "added":
                self._withheld(action.frame, action.frame + 1, (code,), NO_FAULT)
            return 0
        payload = microseconds(action.payload) if self._route.micro else action.payload
        if self.combined and action.wrap:
            if code is None:
                code = min(self._carried - self._muted, default=None)
            if action.stream_name or code is not None:
                name = action.stream_name or self._exchange.timeline.streams[code or 0]
                payload = wrapped(name, payload)
        if action.fragment_bytes:
            data = wire.fragments(action.opcode, payload, action.fragment_bytes, action.between)
        else:
            data = wire.message(action.opcode, payload, self._agreed)
        self._line.out.append(data)
        if action.frame != NO_FRAME and action.change in {"none", "late"}:
            late = action.change == "late"
            self._line.write(
                Sent(
                    at_ns=self._line.now_ns, connection=self._line.number, first=action.frame, last=action.frame + 1,
                    streams=None if code is None else (code,), late=late,
                )
            )  # fmt: skip
        else:
            self._note_bytes(action, action.payload)
        return len(data)

    def _put(self, action: Wire) -> int:
        if not self._carries(action):
            return 0
        self._line.out.append(Below(action.data) if action.below_tls and self._line.secure else action.data)
        self._note_bytes(action, action.data)
        return len(action.data)

    def _note_bytes(self, action: Send | Wire, data: bytes) -> None:
        stands_in = action.frame != NO_FRAME and not (isinstance(action, Send) and action.change == "added")
        if stands_in:
            self._line.write(
                Changed(
                    at_ns=self._line.now_ns,
                    connection=self._line.number,
                    frame=action.frame,
                    data=data,
                    fault=action.fault,
                )
            )
        else:
            self._line.write(
                Added(at_ns=self._line.now_ns, connection=self._line.number, data=data, fault=action.fault)
            )

    def _stream_of(self, action: Action) -> int | None:
        stream = getattr(action, "stream", -1)
        if stream >= 0:
            return int(stream)
        frame = getattr(action, "frame", NO_FRAME)
        return None if frame == NO_FRAME else int(self._exchange.timeline.stream_codes[frame])

    def _carries(self, action: Action) -> bool:
        code = self._stream_of(action)
        return code is None or code in self._carried

    def _may_strike(self, action: Action, *, claim: bool) -> bool:
        if isinstance(action, Withhold) or not hasattr(action, "frame"):
            carried = True
        else:
            carried = self._carries(action)
        # What concerns a stream that this connection does not carry is not its strike.
        if not carried and not isinstance(action, (Send, Wire)):
            return False
        if not carried:
            return True
        return self._exchange.may_strike(action, self._line.number, claim=claim)

    def change(self, field: str, value: Any) -> None:
        """Change one of the manners from here on, for example `link.latency_ns`."""
        group, _, name = field.partition(".")
        before = getattr(self._line.manners, group)
        after = msgspec.structs.replace(before, **{name: value})
        self._line.manners = msgspec.structs.replace(self._line.manners, **{group: after})
        if group == "link":
            self._line.out.append(Relink(self._line.manners.link))
        if self._line.state == "open":
            self.reshape()
            if group == "control" and self._line.session is not None:
                self._line.session.manners_changed()
