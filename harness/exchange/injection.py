"""Faults by hand, on a running exchange: REST under /harness/, as users of Toxiproxy expect.

    GET    /harness/faults             what is planned and injected
    POST   /harness/faults             {"fault": "tcp.latency:latency=200ms", "ttl": "10s"}
    DELETE /harness/faults/3           take one back;  /harness/faults takes all injected ones back
    GET    /harness/ledger?after=0     what happened, in order
    GET    /harness/state              connections, and where the tape is

A fault that lasts (`tcp.latency`) changes open connections at once. One that strikes at a moment and names none
strikes now. When its TTL is over it is as if it had been taken back.
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from harness.clock import parse_duration_ns
from harness.errors import HarnessError
from harness.exchange.http import Answer
from harness.faults.plan import Connections, Plan, PlannedFault, format_fault, parse_fault

if TYPE_CHECKING:
    from harness.exchange.core import Exchange
    from harness.exchange.http import Request
    from harness.ledger import AnyEntry

LEDGER_MAX = 100_000
"""Entries that a running server remembers."""
PAGE_MAX = 10_000
_NOBODY = "4000000000-"


class Recent:
    """The newest entries of a ledger, numbered from 0: what a server that runs for days can keep."""

    def __init__(self, entries_max: int = LEDGER_MAX) -> None:
        self._entries: deque[AnyEntry] = deque(maxlen=entries_max)
        self.written = 0

    def write(self, entry: AnyEntry) -> None:
        """Add one entry."""
        self._entries.append(entry)
        self.written += 1

    def page(self, after: int, limit: int) -> tuple[int, list[AnyEntry]]:
        """Entries from number `after` on, at most `limit`, and the number to ask for next."""
        oldest = self.written - len(self._entries)
        start = max(after, oldest)
        # A deque is slow in its middle; a page is a copy of the end anyway.
        entries = list(self._entries)[start - oldest : start - oldest + limit]
        return start + len(entries), entries


class Injection:
    """
    Answers under /harness/.

    Args:
        exchange: whose plan is changed.
        recent: what happened, or None when nobody keeps it.
    """

    def __init__(self, exchange: Exchange, recent: Recent | None = None) -> None:
        self._exchange = exchange
        self._recent = recent
        self._live: dict[int, tuple[str, int | None]] = {}
        exchange.rest.control = self.answer

    def answer(self, request: Request, now_ns: int) -> Answer:
        """Answer one request."""
        path = request.path.rstrip("/")
        try:
            if path == "/harness/faults":
                return self._faults(request, now_ns)
            if path.startswith("/harness/faults/") and request.method == "DELETE":
                return self._remove(path.rpartition("/")[2], now_ns)
            if path == "/harness/ledger" and self._recent is not None:
                return self._ledger(request, self._recent)
            if path == "/harness/state":
                return _json(200, self._state(now_ns))
        except HarnessError as mistake:
            return _json(400, {"error": str(mistake)})
        return _json(404, {"error": f"nothing at {request.method} {path}"})

    def inject(self, text: str, ttl_ns: int | None, now_ns: int) -> int:
        """
        Add a fault to the plan of a running exchange.

        Args:
            text: its short form.
            ttl_ns: take it back after so long; None for never.
            now_ns: the time.

        Returns:
            Its number, for `remove`.

        Raises:
            PlanError: it cannot be read.
        """
        planned = parse_fault(text, "fault")
        exchange = self._exchange
        plan = exchange.plan or Plan()
        if not (planned.from_start or planned.condition.has_moment or planned.fault.before_data):
            # Now: behind the frame that goes out next.
            frame = min(exchange.reached(now_ns) + 1, max(1, len(exchange.timeline)))
            condition = msgspec.structs.replace(planned.condition, frame=frame)
            planned = PlannedFault(planned.fault, condition)
        number = len(plan.faults)
        exchange.replan(msgspec.structs.replace(plan, faults=(*plan.faults, planned)), now_ns)
        until = None if ttl_ns is None else now_ns + ttl_ns
        self._live[number] = (format_fault(planned), until)
        if until is not None:
            exchange.timers.at(until, lambda now: self._expire(number, now))
        return number

    def _expire(self, number: int, now_ns: int) -> None:
        self.remove(number, now_ns)

    def remove(self, number: int, now_ns: int) -> bool:
        """Take an injected fault back; False when there is none of that number."""
        if self._live.pop(number, None) is None:
            return False
        plan = self._exchange.plan
        assert plan is not None
        # Its place stays, so that the other faults keep their numbers; it just meets nobody any more.
        gone = plan.faults[number]
        nobody = msgspec.structs.replace(gone.condition, connection=Connections(_NOBODY))
        faults = (*plan.faults[:number], PlannedFault(gone.fault, nobody), *plan.faults[number + 1 :])
        self._exchange.replan(msgspec.structs.replace(plan, faults=faults), now_ns)
        return True

    def _faults(self, request: Request, now_ns: int) -> Answer:
        if request.method == "GET":
            plan = self._exchange.plan
            planned = [] if plan is None else [format_fault(fault) for fault in plan.faults]
            known = [text for number, text in enumerate(planned) if number not in self._live and _NOBODY not in text]
            return _json(200, {"planned": known, "injected": [self._shown(number, now_ns) for number in self._live]})
        if request.method == "DELETE":
            gone = [number for number in list(self._live) if self.remove(number, now_ns)]
            return _json(200, {"removed": gone})
        if request.method != "POST":
            return _json(405, {"error": "GET, POST or DELETE"})
        try:
            wish: Any = json.loads(request.body)
        except ValueError:
            wish = None
        if not isinstance(wish, dict) or not isinstance(wish.get("fault"), str) or set(wish) - {"fault", "ttl"}:
            return _json(400, {"error": 'the body is JSON: {"fault": "layer.kind:key=value", "ttl": "10s"}'})
        ttl = wish.get("ttl")
        number = self.inject(wish["fault"], None if ttl is None else parse_duration_ns(ttl), now_ns)
        return _json(201, self._shown(number, now_ns))

    def _remove(self, text: str, now_ns: int) -> Answer:
        if text.isdigit() and self.remove(int(text), now_ns):
            return _json(200, {"removed": [int(text)]})
        return _json(404, {"error": f"no injected fault {text!r}"})

    def _shown(self, number: int, now_ns: int) -> dict[str, Any]:
        text, until = self._live[number]
        left = None if until is None else round((until - now_ns) / 1e9, 3)
        return {"id": number, "fault": text, "ttl_s": left}

    @staticmethod
    def _ledger(request: Request, recent: Recent) -> Answer:
        query = request.query
        after, limit = query.get("after", "0"), query.get("limit", "1000")
        if not (after.isdigit() and limit.isdigit()):
            return _json(400, {"error": "after and limit are numbers"})
        following, entries = recent.page(int(after), min(int(limit), PAGE_MAX))
        body = b'{"next":%d,"entries":%s}' % (following, msgspec.json.encode(entries))
        return Answer(status=200, body=body, content_type="application/json")

    def _state(self, now_ns: int) -> dict[str, Any]:
        exchange = self._exchange
        running = exchange.running_ns(now_ns)
        return {
            "started": exchange.started_ns is not None,
            "tape_s": None if exchange.started_ns is None or running > exchange.timeline.length_ns else running / 1e9,
            "frames": len(exchange.timeline),
            "reached": exchange.reached(now_ns),
            "ended": exchange.ended(now_ns),
            "connections": [
                {"number": number, "secure": connection.secure, "streams": list(connection.streams)}
                for number, connection in sorted(exchange.connections.items())
            ],
        }


def _json(status: int, value: Any) -> Answer:
    body = json.dumps(value, ensure_ascii=False).encode() + b"\n"
    return Answer(status=status, body=body, content_type="application/json")
