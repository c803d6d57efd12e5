"""Reading the figures that a subject computes, so that they can be worked out a second time.

Whoever has `get_pressure(symbol, window_s)`, `get_metrics(symbol, window_s)`, `get_cvd(symbol, window_s)` or
`get_recent_whales(symbol, size, window_s)`, as the system of the report has, is asked now and then, from a
thread of ours, with both clocks read on both sides of the call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any

import msgspec

from harness.clock import NS_PER_MS, monotonic_ns, wall_ns
from harness.ledger import MetricsRead

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.ledger import AnyEntry

WINDOWS_S = (2, 10, 60)
"""A short one, that empties soon after a market halts; a long one, that outlasts a short history."""
WHALE_SIZE = "medium"
OWNERS = (
    "analyzer.whale_detector", "whale_detector", "analyzer", "detector", "metrics", "order_flow_metrics", "",
)  # fmt: skip
QUESTIONS = (
    ("pressure", "get_pressure"), ("whales", "get_recent_whales"), ("metrics", "get_metrics"), ("cvd", "get_cvd"),
)  # fmt: skip
FIGURES = {
    "buy": ("buy_volume", "buy", "bought", "buy_usd", "buys"),
    "sell": ("sell_volume", "sell", "sold", "sell_usd", "sells"),
    "delta": ("delta_volume", "net_volume", "volume_delta", "delta"),
    "cvd": ("cvd", "cumulative_volume_delta", "cumulative_delta"),
    "slope": ("cvd_slope",),
    "pressure": ("pressure",),
    "side": ("dominant_side",),
}
"""Figures by the names that subjects give them."""
SIDES = {
    "buy": 1.0,
    "buyers": 1.0,
    "buyer": 1.0,
    "bid": 1.0,
    "sell": -1.0,
    "sellers": -1.0,
    "seller": -1.0,
    "ask": -1.0,
}
"""What a dominant side may be called; every other word claims nothing."""
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
            figures = _READERS[kind](answer)
        except Exception:
            return  # asked in a wrong moment, or it wants other arguments: no figure, no verdict
        if not figures or (kind == "metrics" and not _answers(answer, symbol, window_s)):
            return
        window = {"from_ms": wall_before_ns // NS_PER_MS, "to_ms": wall_ns() // NS_PER_MS}
        value = msgspec.json.encode(figures | window).decode()
        name = f"{kind} {symbol} {window_s}"
        self._write(MetricsRead(at_ns=monotonic_ns(), name=name, value=value, before_ns=before_ns))


def _questions(subject: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    for kind, method in QUESTIONS:
        for path in OWNERS:
            owner = subject
            for name in path.split(".") if path else ():
                owner = getattr(owner, name, None)
            ask = getattr(owner, method, None)
            if callable(ask):
                yield kind, ask
                break


def _field(answer: Any, name: str) -> Any:
    return answer.get(name) if hasattr(answer, "get") else getattr(answer, name, None)


def _answers(answer: Any, symbol: str, window_s: int) -> bool:
    # Metrics that are made for one symbol or one window may not care for what they are asked.
    about, over = _field(answer, "symbol"), _field(answer, "window_s")
    return (about is None or str(about).upper() == symbol) and (over is None or float(over) == window_s)


def _figures(answer: Any) -> dict[str, float]:
    # Nothing where there is no figure, or where it excuses itself.
    if answer is None or any(_field(answer, key) for key in EXCUSES):
        return {}
    found = {}
    for figure, names in FIGURES.items():
        value = next((value for name in names if (value := _field(answer, name)) is not None), None)
        if figure == "side":
            value = SIDES.get(str(getattr(value, "value", value)).lower())
        if value is not None and not isinstance(value, bool) and math.isfinite(float(value)):
            found[figure] = float(value)
    return found


def _cvd(answer: Any) -> dict[str, float]:
    # A number, or the curve that leads to it.
    value = answer[-1] if isinstance(answer, Sequence) and not isinstance(answer, str) else answer
    return {} if value is None or isinstance(value, Mapping) else {"cvd": float(value)}


def _whales(answer: Any) -> dict[str, float]:
    return {"count": float(len(answer))} if isinstance(answer, Sized) and not isinstance(answer, (str, Mapping)) else {}


_READERS: dict[str, Callable[[Any], dict[str, float]]] = {
    "pressure": _figures, "whales": _whales, "metrics": _figures, "cvd": _cvd,
}  # fmt: skip
