"""Which names are the real exchange's."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.redirect.hook import Gate

REAL_HOSTS = re.compile(r"(^|\.)(binance\.(com|vision|us)|binancefuture\.com)$")


def only_real_hosts(gate: Gate) -> Gate:
    """Let the exchange's own names through, and raise for every other: nothing may reach the real network."""

    def guarded(host: str, port: int) -> tuple[str, int]:
        if not REAL_HOSTS.search(host.lower().rstrip(".")):
            raise socket.gaierror(
                socket.EAI_NONAME, f"{host} is no host of the exchange, and nothing else is reachable here"
            )
        return gate(host, port)

    return guarded
