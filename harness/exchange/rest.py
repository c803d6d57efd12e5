"""The exchange's REST, answered from the recording: what was due until now, minus what the plan hides from everyone.

Section numbers are those of the protocol sheet, binance-protocol.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from harness.exchange.http import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from harness.actions import Rest as RestManners
    from harness.exchange.core import Exchange
    from harness.exchange.http import Request

NS = 1_000_000_000
NS_PER_MS = 1_000_000
LIMIT_DEFAULT, LIMIT_MAX = 500, 1000  # section 8

_SYMBOL = re.compile(r"[A-Z0-9_.\-]{1,20}|[^\x00-\x7f]{1,20}.*")
_QUOTES = ("FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USD", "BTC", "ETH", "BNB", "EUR", "TRY", "GBP", "RUB")
_INTERVALS_MS = {
    "1s": 1_000, "1m": 60_000, "3m": 180_000, "5m": 300_000, "15m": 900_000, "30m": 1_800_000, "1h": 3_600_000,
    "2h": 7_200_000, "4h": 14_400_000, "6h": 21_600_000, "8h": 28_800_000, "12h": 43_200_000, "1d": 86_400_000,
}  # fmt: skip


class _Trade(msgspec.Struct):
    """The fields of an aggTrade payload that REST gives back."""

    a: int
    p: str
    q: str
    f: int
    l: int  # noqa: E741 - the exchange's name
    T: int
    m: bool
    nq: str | None = None
    M: bool | None = None


class _Refusal(Exception):  # noqa: N818 - it is the client's mistake
    def __init__(self, code: int, msg: str, status: int = 400) -> None:
        self.answer = Answer(status=status, body=_json({"code": code, "msg": msg}))
        super().__init__(msg)


class _Trades(msgspec.Struct, frozen=True):
    """AggTrades of one symbol, ordered by id, each id once."""

    rows: NDArray[np.int64]
    """Frame numbers in the timeline."""
    ids: NDArray[np.int64]


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


class Rest:
    """
    Answers requests.

    Args:
        exchange: whose market it is.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._trades: dict[str, _Trades] = {}
        self._requests = 0
        self._minute = -1
        self._weight = 0
        self._breaches = 0
        self._banned_until_ns = 0
        self.control: Callable[[Request, int], Answer] | None = None
        """Answers under /harness/; set by whoever runs the exchange."""

    def forget(self) -> None:
        """The tape is another one now."""
        self._trades.clear()

    def weight_headers(self, now_ns: int) -> tuple[tuple[str, str], ...]:
        """Headers that every answer has (section 8)."""
        self._roll(now_ns)
        used = str(self._weight)
        return (("x-mbx-used-weight", used), ("x-mbx-used-weight-1m", used))

    def answer(self, request: Request, now_ns: int) -> Answer | None:
        """Answer one request; None when the plan says never."""
        if request.path.startswith("/harness/") and self._exchange.settings.control and self.control is not None:
            return self.control(request, now_ns)
        try:
            return self._route(request, now_ns)
        except _Refusal as refusal:
            return refusal.answer

    def _route(self, request: Request, now_ns: int) -> Answer | None:
        path = request.path.rstrip("/")
        spot = re.fullmatch(r"/api/v3/(\w+)", path)
        futures = re.fullmatch(r"/([fd]api)/v1/(\w+)", path)
        if spot:
            name, kind = spot[1], "spot"
        elif futures:
            name, kind = futures[2], "um" if futures[1] == "fapi" else "cm"
        else:
            return Answer(
                status=404, body=b"<html><body><h2>404 Not found</h2></body></html>", content_type="text/html"
            )
        if request.method not in {"GET", "HEAD"}:
            return Answer(status=405, body=_json({"code": -1000, "msg": "Request method is not supported."}))
        weights = {"ping": 1, "time": 1, "exchangeInfo": 20, "aggTrades": 4, "klines": 2}
        if name not in weights:
            return Answer(status=404, body=_json({"code": -5000, "msg": f"Path {path}, Method GET is invalid"}))
        self._charge(weights[name], now_ns)
        query = request.query
        if name == "ping":
            return Answer(status=200, body=b"{}")
        if name == "time":
            return Answer(status=200, body=_json({"serverTime": self._time(request, now_ns)}))
        if name == "exchangeInfo":
            # Futures libraries ask for it while they start: an empty list is enough for them, a 404 is not.
            served = kind in {"spot", self._exchange.settings.market}
            return Answer(status=200, body=_json(self._info(query, now_ns) if served else {"symbols": []}))
        self._requests += 1
        manners = self._exchange.manners(-self._requests).rest
        if manners.stall:
            return None
        if manners.reply is not None:
            reply = manners.reply
            named = {key.lower(): value for key, value in reply.headers}
            kind_of = named.pop("content-type", "application/json;charset=UTF-8")
            return Answer(status=reply.status, body=reply.body, headers=tuple(named.items()), content_type=kind_of)
        if manners.empty:
            return Answer(status=200, body=b"[]")
        if name == "klines":
            return self._klines(query, now_ns, manners)
        return self._agg_trades(query, now_ns, manners, micro=_micro(request), futures=kind != "spot")

    # --- Weight, 429 and 418 (sections 6 and 8) ------------------------------------------------------

    def _roll(self, now_ns: int) -> None:
        minute = self._exchange.wall_ns(now_ns) // (60 * NS)
        if minute != self._minute:
            self._minute, self._weight, self._breaches = minute, 0, 0

    def _charge(self, weight: int, now_ns: int) -> None:
        self._roll(now_ns)
        settings = self._exchange.settings
        if now_ns < self._banned_until_ns:
            raise self._banned(now_ns)
        self._weight += weight
        if not settings.weight_limit or self._weight <= settings.weight_limit:
            return
        self._breaches += 1
        # Who goes on after 429 is banned; the real threshold is not published.
        if self._breaches > 10:
            self._banned_until_ns = now_ns + settings.ban_ns
            raise self._banned(now_ns)
        left = 60 - self._exchange.wall_ns(now_ns) // NS % 60
        raise self._too_many(429, left, f"Too much request weight used; current limit is {settings.weight_limit} "
                             "request weight per 1 MINUTE. Please use WebSocket Streams for live updates to avoid "
                             "polling the API.")  # fmt: skip

    def _banned(self, now_ns: int) -> _Refusal:
        until_ms = self._exchange.wall_ns(self._banned_until_ns) // NS_PER_MS
        left = max(1, -(-(self._banned_until_ns - now_ns) // NS))
        return self._too_many(418, left, f"Way too much request weight used; IP banned until {until_ms}. "
                              "Please use WebSocket Streams for live updates to avoid bans.")  # fmt: skip

    @staticmethod
    def _too_many(status: int, retry_s: int, msg: str) -> _Refusal:
        refusal = _Refusal(-1003, msg, status)
        refusal.answer = msgspec.structs.replace(refusal.answer, headers=(("Retry-After", str(retry_s)),))
        return refusal

    # --- ping, time, exchangeInfo -----------------------------------------------------------------------

    def _time(self, request: Request, now_ns: int) -> int:
        wall = self._exchange.wall_ns(now_ns)
        return wall // 1_000 if _micro(request) else wall // NS_PER_MS

    def _symbols(self) -> list[str]:
        found: dict[str, None] = {}
        for name in self._exchange.timeline.streams:
            symbol, at, _ = name.partition("@")
            if at and not symbol.startswith("!"):
                found[symbol.upper()] = None
        return sorted(found)

    def _info(self, query: dict[str, str], now_ns: int) -> dict[str, Any]:
        wanted: Any = [query["symbol"]] if "symbol" in query else None
        if "symbols" in query:
            try:
                wanted = json.loads(query["symbols"])
            except ValueError:
                raise _Refusal(-1100, "Illegal characters found in parameter 'symbols'.") from None
        known = self._symbols()
        if wanted is not None and not (isinstance(wanted, list) and set(map(str, wanted)) <= set(known)):
            raise _Refusal(-1121, "Invalid symbol.")
        return {
            "timezone": "UTC",
            "serverTime": self._exchange.wall_ns(now_ns) // NS_PER_MS,
            "rateLimits": [
                {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000},
                {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100},
                {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 61000},
            ],
            "exchangeFilters": [],
            "symbols": [self._symbol_info(name) for name in (known if wanted is None else wanted)],
        }

    def _symbol_info(self, symbol: str) -> dict[str, Any]:
        quote = next((q for q in _QUOTES if symbol.endswith(q) and len(symbol) > len(q)), "USDT")
        base = symbol.removesuffix(quote) or symbol
        tick, step = self._steps(symbol)
        return {
            "symbol": symbol, "status": "TRADING", "baseAsset": base, "baseAssetPrecision": 8, "quoteAsset": quote,
            "quotePrecision": 8, "quoteAssetPrecision": 8, "baseCommissionPrecision": 8, "quoteCommissionPrecision": 8,
            "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"],
            "icebergAllowed": True, "ocoAllowed": True, "otoAllowed": True, "quoteOrderQtyMarketAllowed": True,
            "allowTrailingStop": True, "cancelReplaceAllowed": True, "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            # PRICE_FILTER comes first: client libraries read `filters[0].tickSize`.
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
                {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "9000.00000000", "stepSize": step},
                {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True,
                 "maxNotional": "9000000.00000000", "applyMaxToMarket": False, "avgPriceMins": 5},
            ],
            "permissions": [], "permissionSets": [["SPOT"]], "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
            "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
        }  # fmt: skip

    def _steps(self, symbol: str) -> tuple[str, str]:
        # The finest step that the first trades of the recording show.
        trades = self._trades_of(symbol)
        sample = [trade for trade in map(self._trade, trades.rows[:64].tolist()) if trade is not None]
        return _step([trade.p for trade in sample]), _step([trade.q for trade in sample])

    # --- aggTrades (section 8) -----------------------------------------------------------------------------

    def _agg_trades(
        self, query: dict[str, str], now_ns: int, manners: RestManners, *, micro: bool, futures: bool
    ) -> Answer:
        symbol = self._symbol(query)
        limit = _number(query, "limit", default=LIMIT_DEFAULT)
        if limit is None or limit < 1:
            raise _Refusal(-1130, "Data sent for parameter 'limit' is not valid.")
        limit = min(limit, LIMIT_MAX, manners.limit or LIMIT_MAX)
        from_id, start, end = (_number(query, name) for name in ("fromId", "startTime", "endTime"))
        if from_id is not None and (start is not None or end is not None):
            raise _Refusal(-1128, "Combination of optional parameters invalid.")
        if start is not None and end is not None and start > end:
            raise _Refusal(-1127, "Start time is greater than end time.")
        trades = self._visible(symbol, now_ns, manners)
        first, last = 0, len(trades.ids)
        if from_id is not None:
            first = int(np.searchsorted(trades.ids, from_id, side="left"))
        if start is not None:
            first = self._by_time(trades, start, after=False)
        if end is not None:
            last = max(first, self._by_time(trades, end, after=True))
        if from_id is None and start is None:
            first = max(first, last - limit)  # the latest; with endTime the latest up to it
        last = min(last, first + limit)
        found = [trade for trade in map(self._trade, trades.rows[first:last].tolist()) if trade is not None]
        return Answer(
            status=200,
            body=_json([_item(trade, micro=micro, futures=futures) for trade in found]),
            first_id=found[0].a if found else -1,
            last_id=found[-1].a if found else -1,
        )

    def _symbol(self, query: dict[str, str]) -> str:
        if not query.get("symbol"):
            raise _Refusal(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        symbol = query["symbol"]
        if not _SYMBOL.fullmatch(symbol):
            raise _Refusal(
                -1100, "Illegal characters found in parameter 'symbol'; legal range is '^[\\w\\-._&&[^a-z]]{1,50}$'."
            )
        if symbol not in self._symbols():
            raise _Refusal(-1121, "Invalid symbol.")
        return symbol

    def _trades_of(self, symbol: str) -> _Trades:
        if symbol not in self._trades:
            timeline = self._exchange.timeline
            name = f"{symbol.lower()}@aggTrade"
            codes = [code for code, stream in enumerate(timeline.streams) if stream == name]
            rows = np.flatnonzero(np.isin(timeline.stream_codes, codes) & (timeline.trade_ids >= 0))
            _, once = np.unique(timeline.trade_ids[rows], return_index=True)
            self._trades[symbol] = _Trades(rows[once], timeline.trade_ids[rows][once])
        return self._trades[symbol]

    def _visible(self, symbol: str, now_ns: int, manners: RestManners) -> _Trades:
        exchange = self._exchange
        trades = self._trades_of(symbol)
        until = exchange.reached(now_ns - exchange.settings.rest_lag_ns)
        if manners.stale_ns and until:
            newest = int(exchange.timeline.due_ns[until - 1])
            until = min(until, exchange.timeline.frame_at(newest - manners.stale_ns))
        keep = (trades.rows < until) & ~exchange.hidden[trades.rows]
        return _Trades(trades.rows[keep], trades.ids[keep])

    def _trade(self, row: int) -> _Trade | None:
        try:
            return msgspec.json.decode(self._exchange.timeline.payload(row), type=_Trade)
        except msgspec.DecodeError:
            return None

    def _by_time(self, trades: _Trades, time: int, *, after: bool) -> int:
        # Index of the first trade at `time` or later (`after`: later than it). Trade times rise with
        # the ids, so a few payloads are enough.
        time_ms = time // 1_000 if time > 10**14 else time
        low, high = 0, len(trades.rows)
        while low < high:
            middle = (low + high) // 2
            trade = self._trade(int(trades.rows[middle]))
            at = 0 if trade is None else (trade.T // 1_000 if trade.T > 10**14 else trade.T)
            if at < time_ms or (after and at == time_ms):
                low = middle + 1
            else:
                high = middle
        return low

    # --- klines, derived --------------------------------------------------------------------------------------

    def _klines(self, query: dict[str, str], now_ns: int, manners: RestManners) -> Answer:
        symbol = self._symbol(query)
        interval = query.get("interval", "")
        if interval not in _INTERVALS_MS:
            missing = not interval
            raise _Refusal(
                -1102 if missing else -1120,
                "Mandatory parameter 'interval' was not sent, was empty/null, or malformed."
                if missing
                else "Invalid interval.",
            )
        limit = min(max(1, _number(query, "limit", default=LIMIT_DEFAULT) or LIMIT_DEFAULT), LIMIT_MAX)
        start, end = _number(query, "startTime"), _number(query, "endTime")
        step = _INTERVALS_MS[interval]
        trades = self._visible(symbol, now_ns, manners)
        first = 0 if start is None else self._by_time(trades, start, after=False)
        last = len(trades.rows) if end is None else self._by_time(trades, end, after=True)
        candles: dict[int, list[Any]] = {}
        rows = trades.rows[first:last].tolist()
        # Without a start the latest candles are wanted, so walk from the end.
        for row in rows if start is not None else reversed(rows):
            trade = self._trade(row)
            if trade is None:
                continue
            opened = (trade.T // 1_000 if trade.T > 10**14 else trade.T) // step * step
            if opened not in candles and len(candles) >= limit:
                break
            candles.setdefault(opened, []).append(trade)
        body = [_candle(opened, step, sorted(candles[opened], key=lambda t: t.a)) for opened in sorted(candles)]
        return Answer(status=200, body=_json(body))


def _candle(opened: int, step: int, trades: list[_Trade]) -> list[Any]:
    volume = quote = taker = taker_quote = Decimal(0)
    for trade in trades:
        price, quantity = Decimal(trade.p), Decimal(trade.q)
        volume += quantity
        quote += price * quantity
        if not trade.m:
            taker += quantity
            taker_quote += price * quantity
    prices = [trade.p for trade in trades]
    count = sum(trade.l - trade.f + 1 for trade in trades)
    high, low = max(prices, key=Decimal), min(prices, key=Decimal)
    amounts = [f"{value:.8f}" for value in (volume, quote, taker, taker_quote)]
    return [
        opened, prices[0], high, low, prices[-1], amounts[0], opened + step - 1, amounts[1], count,
        amounts[2], amounts[3], "0",
    ]  # fmt: skip


def _item(trade: _Trade, *, micro: bool, futures: bool) -> dict[str, Any]:
    time = trade.T * 1_000 if micro and trade.T < 10**14 else trade.T
    item: dict[str, Any] = {"a": trade.a, "p": trade.p, "q": trade.q}
    if futures and trade.nq is not None:
        item["nq"] = trade.nq
    item |= {"f": trade.f, "l": trade.l, "T": time, "m": trade.m}
    if not futures:
        item["M"] = True if trade.M is None else trade.M
    return item


def _number(query: dict[str, str], name: str, default: int | None = None) -> int | None:
    text = query.get(name)
    if text is None:
        return default
    if text == "":
        raise _Refusal(-1105, f"Parameter '{name}' was empty.")
    if not re.fullmatch(r"[0-9]{1,20}", text):
        raise _Refusal(-1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.")
    return int(text)


def _micro(request: Request) -> bool:
    return request.headers.get("x-mbx-time-unit", "").upper() == "MICROSECOND"


def _step(texts: list[str]) -> str:
    decimals = max((len(text.partition(".")[2].rstrip("0")) for text in texts), default=2)
    return f"{10.0**-decimals:.8f}" if decimals else "1.00000000"
