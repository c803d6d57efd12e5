"""What the stream missed, over REST: `GET /api/v3/aggTrades`.

Pages follow ids, never times: paging by time loses or repeats trades that share a millisecond.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from orderflow.explain import is_loopback, retry_after_s
from orderflow.trade import InvalidTradeError, Trade, Void, parse_rest_page

if TYPE_CHECKING:
    from orderflow.settings import StreamSettings

PAGE_MAX = 1000
"""Trades in one answer, at most (Binance, "Compressed/Aggregate trades list"; weight 4 of 6000 a minute)."""
_REQUEST_TIMEOUT_S = 5.0


class BackfillError(Exception):
    """
    REST could not tell.

    Args:
        reason: why, in words.
        retry_after_s: when the exchange says that it may be asked again; None when it does not say.
    """

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(reason)


class RestTrades:
    """
    Asks for trades by id.

    Args:
        settings: for the address.
        ssl_context: what to trust; None for the machine's own store.
    """

    def __init__(self, settings: StreamSettings, ssl_context: ssl.SSLContext | None = None) -> None:
        self._url = settings.rest_url.rstrip("/") + "/api/v3/aggTrades"
        # A request that takes longer than all of the repair may take is of no use.
        self._timeout_s = min(_REQUEST_TIMEOUT_S, settings.backfill_timeout_s)
        self._ssl_context = ssl_context
        self._client: httpx.AsyncClient | None = None
        self._banned_until_s = 0.0  # monotonic; going on after a 429 leads to a 418, which bans the address

    async def page(self, symbol: str, *, from_id: int | None = None, start_ms: int | None = None) -> list[Trade | Void]:
        """
        Fetch up to 1000 trades.

        Args:
            symbol: upper case.
            from_id: the first id wanted.
            start_ms: or the trade time from which on, milliseconds; with neither, the latest are returned.

        Raises:
            BackfillError: they could not be had.
        """
        wait_s = self._banned_until_s - time.monotonic()
        if wait_s > 0:
            raise BackfillError(f"REST asked not to be called for another {wait_s:.0f} s", wait_s)
        parameters: dict[str, str | int] = {"symbol": symbol, "limit": PAGE_MAX}
        if from_id is not None:
            parameters["fromId"] = from_id
        elif start_ms is not None:
            parameters["startTime"] = start_ms
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._http().get(self._url, params=parameters)
        except TimeoutError as error:
            raise BackfillError(f"{self._url} did not answer within {self._timeout_s:g} s") from error
        except (httpx.HTTPError, OSError) as error:
            raise BackfillError(f"{self._url}: {type(error).__name__}: {error}") from error
        if answer.status_code in {418, 429}:
            pause_s = retry_after_s(answer.headers.get("Retry-After")) or 60.0
            self._banned_until_s = time.monotonic() + pause_s
            raise BackfillError(f"REST answered {answer.status_code}: wait {pause_s:.0f} s", pause_s)
        if answer.status_code != 200:
            raise BackfillError(f"REST answered {answer.status_code}: {answer.text[:200]!r}")
        try:
            return parse_rest_page(answer.content, symbol)
        except InvalidTradeError as error:
            raise BackfillError(str(error)) from error

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            parts = urlsplit(self._url)
            # Reading the machine's certificates takes a while, and is for nothing without TLS.
            verify = self._ssl_context or (ssl.create_default_context() if parts.scheme == "https" else False)
            loopback = is_loopback(parts.hostname)
            self._client = httpx.AsyncClient(timeout=self._timeout_s, trust_env=not loopback, verify=verify)
        return self._client

    async def close(self) -> None:
        """Close idle connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
