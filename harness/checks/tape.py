"""The truth: which trade each frame of the timeline is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from harness.timeline import NO_ID

if TYPE_CHECKING:
    from harness.checks._figures import Meaning
    from harness.timeline import Timeline


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """An aggTrade as a payload tells it; prices stay text."""

    symbol: str
    id: int
    price: str
    quantity: str
    time: int | None
    event_time: int | None
    is_buyer_maker: bool | None


class Tape:
    """
    A timeline with its trades at hand.

    Args:
        timeline: as it was really played, times inside the frames included.
    """

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.symbols = tuple(symbol_of(name) for name in timeline.streams)
        """Upper-case symbol by stream code; empty where the stream is no aggTrade stream."""
        self._names = {plain_symbol(symbol): symbol for symbol in self.symbols}
        self.readings: dict[tuple[str, int], dict[str, list[Meaning]]] = {}
        """What figures may be, in readings that nothing can change any more: a run is looked at often."""
        self._decoded: dict[int, Trade | None] = {}
        self._by_id: dict[str, dict[int, int]] | None = None
        self._by_values: dict[tuple[str, str, str], list[int]] | None = None

    def named(self, text: str) -> str:
        """A symbol as this tape spells it, however it was written: `btcusd_perp@aggTrade` is `BTCUSD_PERP`."""
        plain = plain_symbol(text)
        return self._names.get(plain, plain)

    def symbol(self, frame: int) -> str:
        """Upper-case symbol of a frame, by its stream."""
        return self.symbols[int(self.timeline.stream_codes[frame])]

    def trade(self, frame: int) -> Trade | None:
        """The recorded trade of a frame; None when it is none."""
        if frame not in self._decoded:
            # Fetch a row group's worth at a time: single fetches cost a decompression each.
            first = frame - frame % 1024
            last = min(first + 1024, len(self.timeline))
            for index, payload in enumerate(self.timeline.payloads(first, last), first):
                self._decoded[index] = parse_trade(payload)
        return self._decoded[frame]

    def frame_of(self, symbol: str, trade_id: int) -> int | None:
        """Index of the frame that carries a trade, or None when the recording has no such trade."""
        return self._ids().get(symbol, {}).get(trade_id)

    def symbols_with(self, trade_id: int) -> list[str]:
        """Symbols that have a trade of this id."""
        return [symbol for symbol, ids in self._ids().items() if trade_id in ids]

    def frames_like(self, symbol: str, price: str, quantity: str) -> list[int]:
        """Frames with this price and quantity, for subjects that keep no ids."""
        if self._by_values is None:
            self._by_values = {}
            for frame in range(len(self.timeline)):
                trade = self.trade(frame)
                if trade is not None:
                    key = (self.symbol(frame), _number(trade.price), _number(trade.quantity))
                    self._by_values.setdefault(key, []).append(frame)
        return self._by_values.get((symbol, _number(price), _number(quantity)), [])

    def _ids(self) -> dict[str, dict[int, int]]:
        if self._by_id is None:
            self._by_id = {}
            codes = self.timeline.stream_codes.tolist()
            for frame, (code, trade_id) in enumerate(zip(codes, self.timeline.trade_ids.tolist(), strict=True)):
                if trade_id != NO_ID and self.symbols[code]:
                    # A recording may hold a trade twice; the first place is the one that was due.
                    self._by_id.setdefault(self.symbols[code], {}).setdefault(trade_id, frame)
        return self._by_id


def symbol_of(stream: str) -> str:
    """`BTCUSDT` of `btcusdt@aggTrade`; empty for other kinds of stream."""
    symbol, _, channel = stream.partition("@")
    return symbol.upper() if channel == "aggTrade" else ""


def plain_symbol(text: str) -> str:
    """`BTCUSDT` of the ways in which people write it: `btcusdt`, `BTC/USDT`, `btcusdt@aggTrade`."""
    return "".join(letter for letter in text.partition("@")[0] if letter.isalnum()).upper()


def parse_trade(payload: bytes) -> Trade | None:
    """
    Read whatever a payload says about a trade, as tolerantly as possible.

    Returns:
        None when the payload names no integer trade id or no price: it is no trade then.
    """
    try:
        found: Any = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(found, dict) and isinstance(found.get("data"), dict):
        found = found["data"]
    if not isinstance(found, dict) or type(found.get("a")) is not int or found.get("p") is None:
        return None
    return Trade(
        symbol=str(found.get("s", "")).upper(),
        id=found["a"],
        price=str(found["p"]),
        quantity=str(found.get("q", "")),
        time=found["T"] if type(found.get("T")) is int else None,
        event_time=found["E"] if type(found.get("E")) is int else None,
        is_buyer_maker=found["m"] if isinstance(found.get("m"), bool) else None,
    )


DAY_MS = 86_400_000


def is_plausible(trade: Trade, recorded: Trade | None) -> bool:
    """
    Whether a sound subject may believe a trade: positive finite numbers, complete, and of these days.

    Args:
        trade: what was sent in the place of a recorded trade.
        recorded: that recorded trade, whose time is the yardstick.
    """
    numbers = (to_float(trade.price), to_float(trade.quantity))
    if any(number is None or not math.isfinite(number) or number <= 0 for number in numbers):
        return False
    if trade.time is None or trade.is_buyer_maker is None or trade.id < 0:
        return False
    return recorded is None or recorded.time is None or abs(trade.time - recorded.time) < DAY_MS


def to_float(text: str) -> float | None:
    """The number that a text is, or None."""
    try:
        return float(text)
    except ValueError:
        return None


def same_number(one: str, other: str) -> bool:
    """Equal as numbers: `91350.10` and `91350.1` are, what lost digits on the way is not."""
    return one == other or _number(one) == _number(other)


def _number(text: str) -> str:
    # Doubles hold every price and quantity of the exchange (at most 17 digits), so `repr(float)` is
    # one spelling per number; a value that went through a 32-bit float differs, as it should.
    number = to_float(text)
    return text if number is None else repr(number)
