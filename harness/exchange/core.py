"""The exchange: what its connections share. One market clock, one set of tickets, one REST, one ledger.

timeline + plan ──▶ Exchange ──▶ ExchangeConnection (one per TCP connection) ──▶ bytes
                       │                        │
                       └────────────────────────┴──▶ entries of the ledger
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np

from harness.actions import NO_FAULT, Manners, Span, Withhold
from harness.exchange.commands import Timers
from harness.exchange.connection import ExchangeConnection
from harness.exchange.marks import with_marks
from harness.exchange.rest import Rest
from harness.exchange.settings import MAX, ExchangeSettings
from harness.exchange.tape import Tape
from harness.faults.plan import format_fault
from harness.ledger import Struck, Withheld
from harness.script import compile_manners, compile_market, compile_script

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.actions import Action
    from harness.faults.plan import Plan
    from harness.ledger import AnyEntry
    from harness.timeline import Timeline

NS_PER_MS = 1_000_000
FAR_NS = 1 << 62
"""A tape time that every frame is due by."""


class Exchange:
    """
    Turns scripts into conversations.

    Args:
        timeline: the tape to play.
        plan: what goes wrong; None for nothing.
        settings: pace, dialect and limits.
        write: takes the entries of the ledger, in order.
        wall_offset_ns: wall clock minus the clock that `now_ns` is read from.
    """

    def __init__(
        self,
        timeline: Timeline,
        plan: Plan | None = None,
        *,
        settings: ExchangeSettings | None = None,
        write: Callable[[AnyEntry], None],
        wall_offset_ns: int = 0,
    ) -> None:
        self.recorded = timeline
        self.plan = plan
        self.settings = settings or ExchangeSettings()
        self.write = write
        self.wall_offset_ns = wall_offset_ns
        self.tape = Tape(timeline, self.settings.cache_bytes)
        self.rest = Rest(self)
        self.connections: dict[int, ExchangeConnection] = {}
        self.started_ns: int | None = None
        """When tape time `from_ns` was, or will be, due; None before the first subscription."""
        self.hidden = np.zeros(len(timeline), dtype=bool)
        """Frames that nobody can get, REST included."""
        self.timers = Timers()
        """What is due for the exchange itself; `advance_to` runs it."""
        self._offset_ms = 0
        self._laps: dict[int, Tape] = {0: self.tape}
        self._reached = self.timeline.frame_at(self.settings.from_ns)
        self._tickets: dict[tuple[int, int], int] = {}
        self._struck: set[tuple[int, int, int]] = set()
        self._numbers = 0
        self._returned: list[int] = []
        self._sides = 0
        self._upgrades_ns: list[int] = []

    @property
    def timeline(self) -> Timeline:
        """The tape; once the clock has started, with its times moved where that was asked for."""
        return self.tape.timeline

    def wall_ns(self, now_ns: int) -> int:
        """Nanoseconds since 1970."""
        return now_ns + self.wall_offset_ns

    # --- Connections ---------------------------------------------------------------------------

    def connection(self, *, secure: bool, now_ns: int, rest_only: bool = False) -> ExchangeConnection:
        """
        Open a connection; one per TCP connection.

        Args:
            secure: whether TLS is spoken below it.
            now_ns: when it was accepted.
            rest_only: it came to an origin that has no streams, so it takes no number from those that have.
        """
        number = None if rest_only else self.take_number()
        return ExchangeConnection(self, secure=secure, number=number, now_ns=now_ns)

    def take_number(self) -> int:
        """Return the next connection number, from 1."""
        if self._returned:
            return heapq.heappop(self._returned)
        self._numbers += 1
        return self._numbers

    def peek_number(self) -> int:
        """Return the number that `take_number` would."""
        return self._returned[0] if self._returned else self._numbers + 1

    def return_number(self, number: int) -> int:
        """Give a number back: the connection asked for REST only. Return its own, negative one."""
        if number == self._numbers:
            self._numbers -= 1
        else:
            heapq.heappush(self._returned, number)
        return self.take_side_number()

    def take_side_number(self) -> int:
        """Return the next number of a REST connection, from -1 down."""
        self._sides += 1
        return -self._sides

    def manners(self, number: int) -> Manners:
        """How to behave towards a connection."""
        if self.plan is None or not self.plan.faults or not number:
            return Manners()
        return compile_manners(self.plan, connection=number)

    def advance_to(self, now_ns: int) -> None:
        """Do what is due for the exchange itself."""
        self.now_ns = now_ns
        self.timers.run(now_ns)

    def replan(self, plan: Plan, now_ns: int) -> None:
        """Go on with another plan: the numbers of its faults must mean what they meant."""
        self.plan = plan
        self.now_ns = now_ns
        for connection in list(self.connections.values()):
            connection.replan(now_ns)

    def admits(self, now_ns: int) -> bool:
        """Count an upgrade against the limit of 300 per 5 minutes (binance-protocol, section 3)."""
        if not self.settings.connect_limit:
            return True
        self._upgrades_ns.append(now_ns)
        while self._upgrades_ns[0] <= now_ns - self.settings.connect_window_ns:
            self._upgrades_ns.pop(0)
        del self._upgrades_ns[: -self.settings.connect_limit - 1]
        return len(self._upgrades_ns) <= self.settings.connect_limit

    # --- The market's clock ------------------------------------------------------------------------

    def start_clock(self, now_ns: int) -> None:
        """Start the market, once: the first subscription was made."""
        if self.started_ns is not None:
            return
        self.started_ns = now_ns + self.settings.grace_ns
        if self.settings.retime == "auto" and len(self.recorded):
            recorded_ms = self.recorded.start_ms + self.settings.from_ns // NS_PER_MS
            offset_ms = self.wall_ns(self.started_ns) // NS_PER_MS - recorded_ms
            self._offset_ms = offset_ms if abs(offset_ms) > self.settings.retime_slack_ms else 0
        timeline = self._marketed(self.recorded.retimed(self._offset_ms))
        if timeline is not self.timeline:
            self.tape = Tape(timeline, self.settings.cache_bytes)
            self._laps = {0: self.tape}
            self.hidden = np.zeros(len(timeline), dtype=bool)
            self.rest.forget()
        self._hide(self.script(1, self.manners(1)))

    def _marketed(self, timeline: Timeline) -> Timeline:
        # Faults that change the market itself change the tape for everybody.
        if self.plan is None or not self.plan.faults:
            return timeline
        return compile_market(timeline, self.plan)

    @property
    def _period_ns(self) -> int:
        # One lap, and the mean distance of two frames before the next begins.
        count = len(self.recorded)
        return self.recorded.length_ns + max(1, self.recorded.length_ns // max(1, count - 1))

    def running_ns(self, now_ns: int) -> int:
        """Tape time at `now_ns`, laps added up; before `from_ns` until the clock has started."""
        if self.started_ns is None or now_ns < self.started_ns:
            return self.settings.from_ns - 1
        if self.settings.speed == MAX:
            return FAR_NS
        return self.settings.from_ns + int((now_ns - self.started_ns) * self.settings.speed)

    def lap_of(self, running_ns: int) -> int:
        """Which round of the tape a time belongs to, from 0."""
        if not self.settings.loop or running_ns == FAR_NS or not len(self.recorded):
            return 0
        return max(0, running_ns) // self._period_ns

    def in_lap_ns(self, running_ns: int, lap: int) -> int:
        """The tape time inside a round."""
        return running_ns if running_ns == FAR_NS else running_ns - lap * self._period_ns

    def due_ns(self, tape_ns: int, lap: int) -> int:
        """The time at which a tape time is due."""
        assert self.started_ns is not None
        if self.settings.speed == MAX:
            return self.started_ns
        ahead = tape_ns + lap * self._period_ns - self.settings.from_ns
        if self.settings.speed == 1.0:
            return self.started_ns + max(0, ahead)
        # Rounded up, so that what is due at this time really is.
        return self.started_ns + max(0, int(ahead / self.settings.speed) + 1)

    def lap_tape(self, lap: int) -> Tape:
        """The tape of a round; with moved times, each round moves on."""
        if not self._offset_ms:
            return self.tape
        if lap not in self._laps:
            offset = self._offset_ms + int(lap * self._period_ns / self.settings.speed) // NS_PER_MS
            self._laps = {
                0: self.tape,
                lap: Tape(self._marketed(self.recorded.retimed(offset)), self.settings.cache_bytes // 4),
            }
        return self._laps[lap]

    def position(self, now_ns: int) -> tuple[int, int, int]:
        """Where a connection that subscribes now starts: lap, tape time, first frame."""
        running = self.running_ns(now_ns)
        if running == FAR_NS:
            # Nothing keeps time at full speed: the market is where the fastest connection is.
            frame = self._reached
            at = int(self.timeline.due_ns[frame]) if frame < len(self.timeline) else self.timeline.length_ns + 1
            return 0, at, frame
        running = max(running, self.settings.from_ns)
        lap = self.lap_of(running)
        tape_ns = self.in_lap_ns(running, lap)
        return lap, tape_ns, self.timeline.frame_at(tape_ns)

    def reached(self, now_ns: int) -> int:
        """How many frames of the tape were due until now."""
        running = self.running_ns(now_ns)
        if running == FAR_NS:
            return self._reached
        if self.started_ns is None or now_ns < self.started_ns:
            return self.timeline.frame_at(self.settings.from_ns)
        if self.lap_of(running):
            return len(self.timeline)
        return int(np.searchsorted(self.timeline.due_ns, running, side="right"))

    def passed(self, frame: int) -> None:
        """Note that a connection has come to a frame."""
        self._reached = max(self._reached, frame)

    def ended(self, now_ns: int) -> bool:
        """Whether everything on the tape was due."""
        return self.started_ns is not None and not self.settings.loop and self.reached(now_ns) >= len(self.timeline)

    # --- Scripts and tickets ----------------------------------------------------------------------

    def script(self, number: int, manners: Manners, lap: int = 0, from_ns: int = 0) -> Sequence[Action]:
        """Compile what a connection will do."""
        timeline = self.timeline
        if self.plan is None or not self.plan.faults:
            actions: Sequence[Action] = (Span(first=0, last=len(timeline)),) if len(timeline) else ()
        else:
            actions = compile_script(timeline, self.plan, connection=number, manners=manners, from_ns=from_ns).actions
        if self.settings.marks and not lap:
            actions = with_marks(actions, timeline)
        return actions

    def _hide(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Withhold) and action.everywhere:
                carried = slice(action.first, action.last)
                if action.streams:
                    codes = [code for code, name in enumerate(self.timeline.streams) if name in action.streams]
                    self.hidden[carried] |= np.isin(self.timeline.stream_codes[carried], codes)
                else:
                    self.hidden[carried] = True

    def may_strike(self, action: Action, number: int, *, claim: bool) -> bool:
        """
        Ask for the ticket of an action: a strike happens once, whoever comes first.

        Faults that name connections, or strike every one, need no ticket.
        """
        ticket = (action.fault, action.strike)
        if isinstance(action, Withhold) and action.everywhere:
            number, free = 0, True
        else:
            free = self._strikes_everywhere(action.fault) or self._tickets.get(ticket, number) == number
        if free and claim:
            self._tickets.setdefault(ticket, number)
            self._note_strike(action, number)
        return free

    def _strikes_everywhere(self, fault: int) -> bool:
        if self.plan is None or not 0 <= fault < len(self.plan.faults):
            return False
        planned = self.plan.faults[fault]
        return not planned.once

    def _note_strike(self, action: Action, number: int) -> None:
        key = (action.fault, action.strike, number)
        if action.fault == NO_FAULT or key in self._struck:
            return
        self._struck.add(key)
        # Written with the time of the connection that asks.
        self.write(Struck(at_ns=self.now_ns, connection=number, fault=action.fault, text=self.name_of(action.fault)))
        if isinstance(action, Withhold) and action.everywhere:
            self.write(
                Withheld(at_ns=self.now_ns, connection=0, first=action.first, last=action.last, fault=action.fault)
            )

    now_ns = 0
    """Time of the call in progress; connections set it before they ask."""

    def name_of(self, fault: int) -> str:
        """The short form of a planned fault."""
        if self.plan is None or not 0 <= fault < len(self.plan.faults):
            return "recorded" if fault < NO_FAULT else ""
        return format_fault(self.plan.faults[fault])
