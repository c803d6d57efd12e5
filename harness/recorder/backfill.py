"""Fetch over REST what did not come over the wire.

Only `aggTrade` can be fetched by id without a key. Pages are asked for by id, since pages by time lose or repeat
trades that share a millisecond. What comes back is written as the stream would have sent it, and marked.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from harness.errors import NetworkError
from harness.frames import wrap
from harness.recorder.endpoints import REST_PREFIX, is_loopback, public_url
from harness.recorder.wire import trust

if TYPE_CHECKING:
    from harness.recorder.endpoints import Market
    from harness.recorder.sieve import Hole

log = logging.getLogger(__name__)

PAGE = 1000
"""Trades in one answer; the exchange gives no more."""
ATTEMPTS_MAX = 6
LATEST_TIMEOUT_S = 5.0
"""Who asks for the newest id has heard nothing for a while, and will not say so before there is an answer."""
PAUSE_S = 0.5
"""Doubled after each failure. The newest trades reach the exchange's database a little after the stream."""
PAUSE_MAX_S = 60.0


class Backfill:
    """
    A client of the REST interface beside the stream.

    Args:
        base: scheme and host.
        market: decides the path.
        cafile: trust only this authority; None for the machine's.
        pause_s: before the second attempt; a test's clock is faster than the world's.
    """

    def __init__(
        self, base: str, market: Market = "spot", *, cafile: str | None = None, pause_s: float = PAUSE_S
    ) -> None:
        self._url = f"{base.rstrip('/')}{REST_PREFIX[market]}/aggTrades"
        host = httpx.URL(base).host
        verify: Any = trust(cafile) if base.startswith("https") else True
        self._client = httpx.AsyncClient(verify=verify, trust_env=not is_loopback(host), timeout=10.0)
        self._pause_s = pause_s

    async def fetch(self, hole: Hole, *, wrapped: bool) -> dict[int, bytes]:
        """
        Fetch every trade of a hole.

        Args:
            hole: which ids of which stream.
            wrapped: write them as a combined connection would bring them.

        Returns:
            Messages by id; fewer than asked when the exchange has no more.

        Raises:
            NetworkError: the exchange does not give them.
        """
        symbol = hole.stream.partition("@")[0].upper()
        found: dict[int, bytes] = {}
        wanted, barren = hole.first, 0
        while wanted <= hole.last:
            limit = min(PAGE, hole.last - wanted + 1)
            page = await self._page({"symbol": symbol, "fromId": wanted, "limit": limit})
            fresh = [item for item in page if wanted <= int(item["a"]) <= hole.last]
            for item in fresh:
                found[int(item["a"])] = _message(item, symbol, hole.stream, wrapped=wrapped)
            if fresh:
                wanted, barren = int(fresh[-1]["a"]) + 1, 0
            elif page or (barren := barren + 1) >= ATTEMPTS_MAX:
                break  # the exchange has later ids but not these, or never gets them
            else:
                await asyncio.sleep(self._pause_s * 2**barren)
        return found

    async def latest_id(self, stream: str) -> int | None:
        """
        Ask for the newest trade of a stream, to tell a quiet market from a mute connection.

        Returns:
            Its id; None when the exchange does not say, or not soon.
        """
        symbol, _, channel = stream.partition("@")
        if channel != "aggTrade":
            return None
        try:
            async with asyncio.timeout(LATEST_TIMEOUT_S):
                page = await self._page({"symbol": symbol.upper(), "limit": 1})
        except (NetworkError, TimeoutError):
            return None
        return int(page[-1]["a"]) if page else None

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()

    async def _page(self, query: dict[str, Any]) -> list[dict[str, Any]]:
        pause, problem = 0.0, ""
        for attempt in range(ATTEMPTS_MAX):
            if attempt:
                log.info("Backfill waits %.1f s: %s", pause, problem)
                await asyncio.sleep(pause)
            pause = min(self._pause_s * 2**attempt, PAUSE_MAX_S)
            try:
                answer = await self._client.get(self._url, params=query)
            except httpx.HTTPError as failure:
                problem = f"{type(failure).__name__}: {failure}"
            else:
                if answer.status_code == 200:
                    return _items(answer)
                problem = f"HTTP {answer.status_code}"
                if answer.status_code in {418, 429}:
                    # Going on in spite of 429 is answered by a ban (418), so we wait as long as we are told.
                    pause = max(pause, _retry_after_s(answer))
                elif answer.status_code < 500:
                    raise NetworkError(f"{public_url(self._url)} answers {problem}: {answer.text[:200]}")
        raise NetworkError(f"{public_url(self._url)} gives nothing after {ATTEMPTS_MAX} attempts: {problem}")


def _items(answer: httpx.Response) -> list[dict[str, Any]]:
    try:
        items = msgspec.json.decode(answer.content)
        assert isinstance(items, list)
        assert all(isinstance(item["a"], int) for item in items)
    except (msgspec.MsgspecError, AssertionError, KeyError, TypeError) as problem:
        raise NetworkError(f"{public_url(str(answer.url))} answers something that is no list of trades") from problem
    return items


def _retry_after_s(answer: httpx.Response) -> float:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.replace(".", "", 1).isdigit() else 0.0


def _message(item: dict[str, Any], symbol: str, stream: str, *, wrapped: bool) -> bytes:
    # REST has no event time; the trade's own time stands in, as on a feed without delay.
    body: dict[str, Any] = {"e": "aggTrade", "E": item["T"]}
    body |= {"s": symbol, "a": item["a"]} if "M" in item else {"a": item["a"], "s": symbol}
    body |= {key: item[key] for key in ("p", "q", "nq", "f", "l", "T", "m", "M") if key in item}
    data = msgspec.json.encode(body)
    return wrap(stream, data) if wrapped else data
