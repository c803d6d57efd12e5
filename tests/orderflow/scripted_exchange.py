"""An exchange in the test's own process that does on each connection what the test wrote down."""

from __future__ import annotations

import asyncio
import json
import time
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.http11 import Response

FIRST_ID = 3_120_000_000


def now_ms():
    return time.time_ns() // 1_000_000


def trade_fields(number, *, price="91350.00000000", quantity="0.01000000", sold=False, at_ms=None, symbol="BTCUSDT"):
    """The fields of trade `number`, counted from 0, in the order in which spot sends them."""
    at_ms = now_ms() if at_ms is None else at_ms
    trade_id = FIRST_ID + number
    return {
        "e": "aggTrade", "E": at_ms, "s": symbol, "a": trade_id, "p": price, "q": quantity,
        "f": trade_id, "l": trade_id, "T": at_ms, "m": sold, "M": True,
    }  # fmt: skip


def frame(number, **changes):
    """Trade `number` as text; `changes` are settings of `trade_fields`, or replace fields by their keys."""
    known = {key: changes.pop(key) for key in ("price", "quantity", "sold", "at_ms", "symbol") if key in changes}
    return json.dumps({**trade_fields(number, **known), **changes}, separators=(",", ":"))


class ScriptedExchange:
    """
    Streams and REST on one port of loopback.

    `connections` holds one coroutine function for each connection, in order; the last serves all further ones.
    Before the upgrade, an entry of `refusals` (a `Response`, or None to let in) is taken;
    while `refusing` has a status, everybody gets that. REST answers from
    `rest_trades`.
    """

    def __init__(self):
        self.connections = []
        self.refusals = []
        self.refusing = None
        self.rest_trades = {}
        self.rest_status = HTTPStatus.OK
        self.rest_headers = {}
        self.rest_asked = []
        self.rest_delay = asyncio.Event()
        self.rest_delay.set()
        self.attempted = 0
        self.accepted = 0
        self.paths = []
        self.port = 0

    def traded(self, numbers, **changes):
        """Let REST know these trades, and return their frames."""
        frames = []
        for number in numbers:
            text = frame(number, **changes)
            self.rest_trades[FIRST_ID + number] = json.loads(text)
            frames.append(text)
        return frames

    async def __aenter__(self):
        self._server = await serve(self._serve, "127.0.0.1", 0, process_request=self._request, ping_interval=None)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close(close_connections=True)
        await self._server.wait_closed()

    @property
    def stream_url(self):
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def rest_url(self):
        return f"http://127.0.0.1:{self.port}"

    async def _request(self, connection, request):
        url = urlsplit(request.path)
        if url.path == "/api/v3/aggTrades":
            await self.rest_delay.wait()
            return self._rest({key: value[0] for key, value in parse_qs(url.query).items()})
        self.attempted += 1
        self.paths.append(request.path)
        if self.refusing is not None:
            return response(self.refusing, {"code": 0, "msg": "refused"})
        return self.refusals.pop(0) if self.refusals else None

    def _rest(self, query):
        self.rest_asked.append(query)
        items = sorted(self.rest_trades.items())
        if "fromId" in query:
            items = [item for item in items if item[0] >= int(query["fromId"])]
        elif "startTime" in query:
            items = [item for item in items if item[1]["T"] >= int(query["startTime"])]
        keys = ("a", "p", "q", "f", "l", "T", "m", "M")
        rows = [{key: fields[key] for key in keys} for _, fields in items[: int(query.get("limit", 500))]]
        return response(self.rest_status, rows, **self.rest_headers)

    async def _serve(self, ws):
        if ws.request.path.startswith("/api"):
            return  # websockets 13 comes here after an HTTP answer too
        script = self.connections[min(self.accepted, len(self.connections) - 1)]
        self.accepted += 1
        await script(ws)


def response(status, body, **headers):
    """An HTTP answer with a JSON body, or text as it is."""
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    fields = Headers({"Content-Length": str(len(data)), "Connection": "close"})
    for name, value in headers.items():
        fields[name.replace("_", "-")] = value
    return Response(int(status), HTTPStatus(status).phrase, fields, data)


def sends(*messages):
    """A connection that sends these and stays open, mute."""

    async def script(ws):
        for message in messages:
            await ws.send(message)
        await ws.wait_closed()

    return script


def sends_then_cuts(*messages):
    """A connection that sends these and is cut without a close frame, once they are on the way."""

    async def script(ws):
        for message in messages:
            await ws.send(message)
        await asyncio.sleep(0.02)
        ws.transport.abort()

    return script


def sends_then_closes(code, *messages):
    """A connection that sends these and is closed in good order."""

    async def script(ws):
        for message in messages:
            await ws.send(message)
        await ws.close(code)

    return script
