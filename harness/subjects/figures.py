"""Reading the figures that a subject computes, so that they can be worked out a second time.

Whoever has `get_pressure(symbol, window_s)` or `get_recent_whales(symbol, size, window_s)`, as the
system of the report has, is asked now and then, from a thread of ours, with both clocks read on both
sides of the call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import TYPE_CHECKING, Any

import msgspec

from harness.clock import NS_PER_MS, monotonic_ns, wall_ns
from harness.ledger import MetricsRead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.ledger import AnyEntry

WINDOWS_S = (2, 10, 60)
"""A short one, that empties soon after a market halts; a long one, that outlasts a short history."""
WHALE_SIZE = "medium"
OWNERS = ("analyzer.whale_detector", "whale_detector", "analyzer", "detector", "")
VOLUMES = {
    "buy": ("buy_volume", "buy", "bought", "buy_usd", "buys"),
    "sell": ("sell_volume", "sell", "sold", "sell_usd", "sells"),
}
EXCUSES = ("reason", "error", "warning", "note")
"""A figure that comes with a reason says itself that it is not the whole truth."""


class Figures:
    """
    Asks one subject for its figures.

    Args:
        write: takes the entries.
        symbols: upper case.
    """

    def __init__(self, write: Callable[[AnyEntry], None], symbols: tuple[str, ...]) -> None:
        self._write = write
        self._symbols = symbols

    def poll(self, subject: Any) -> None:
        """Ask for every figure once."""
        for symbol in self._symbols:
            for window_s in WINDOWS_S:
                for kind, ask in _questions(subject):
                    self._ask(kind, ask, symbol, window_s)

    def _ask(self, kind: str, ask: Callable[..., Any], symbol: str, window_s: int) -> None:
        before_ns, wall_before_ns = monotonic_ns(), wall_ns()
        try:
            answer = ask(symbol, WHALE_SIZE, window_s) if kind == "whales" else ask(symbol, window_s)
            figures = _whales(answer) if kind == "whales" else _volumes(answer)
        except Exception:
            return  # asked in a wrong moment, or it wants other arguments: no figure, no verdict
        if figures is None:
            return
        window = {"from_ms": wall_before_ns // NS_PER_MS, "to_ms": wall_ns() // NS_PER_MS}
        value = msgspec.json.encode(figures | window).decode()
        name = f"{kind} {symbol} {window_s}"
        self._write(MetricsRead(at_ns=monotonic_ns(), name=name, value=value, before_ns=before_ns))


def _questions(subject: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    for kind, method in (("pressure", "get_pressure"), ("whales", "get_recent_whales")):
        for path in OWNERS:
            owner = subject
            for name in path.split(".") if path else ():
                owner = getattr(owner, name, None)
            ask = getattr(owner, method, None)
            if callable(ask):
                yield kind, ask
                break


def _volumes(answer: Any) -> dict[str, float] | None:
    # None where there is no figure, or where it excuses itself.
    get = (
        answer.get if isinstance(answer, Mapping) or hasattr(answer, "get") else lambda key: getattr(answer, key, None)
    )
    if answer is None or any(get(key) for key in EXCUSES):
        return None
    found = {}
    for side, names in VOLUMES.items():
        value = next((get(name) for name in names if get(name) is not None), None)
        if value is None:
            return None
        found[side] = float(value)
    return found


def _whales(answer: Any) -> dict[str, float] | None:
    return (
        {"count": float(len(answer))} if isinstance(answer, Sized) and not isinstance(answer, (str, Mapping)) else None
    )
