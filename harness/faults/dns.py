"""Name resolution: before a single packet goes to the exchange."""

from __future__ import annotations

from typing import Any

from harness.faults.base import Context, Duration, Greeting


class Fail(Greeting, frozen=True, tag="dns.fail"):
    """
    A resolver outage, or a host name that the exchange has retired.

    The name does not exist (NXDOMAIN): the client sees `socket.gaierror`.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"dial.resolve": "fail"}


class Slow(Greeting, frozen=True, tag="dns.slow"):
    """
    A resolver that is overloaded, or the first of two resolvers is dead.

    The answer is right, and comes late.
    """

    delay: Duration = Duration("5s")
    """How long the answer takes."""

    def changes(self, context: Context) -> dict[str, Any]:
        return {"dial.resolve_delay_ns": int(self.delay)}


class Wrong(Greeting, frozen=True, tag="dns.wrong"):
    """
    A stale cache after the exchange moved, or a filter that answers for blocked names.

    The name resolves to an address where nobody listens.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"dial.resolve": "wrong"}
