"""picows: a `WSListener` and `await transport.wait_disconnected()`, as its README shows."""

import asyncio
import json

from picows import WSListener, WSMsgType, ws_connect

DOCUMENTATION = "picows 2.3, README: client"


class Listener(WSListener):
    def __init__(self, service):
        super().__init__()
        self.service = service

    def on_ws_frame(self, transport, frame):
        if frame.msg_type == WSMsgType.TEXT:
            trade = json.loads(frame.get_payload_as_utf8_text())
            self.service.on_trade(trade["s"], trade)


class Service:
    async def start(self, symbols):
        # In the foreground, as the documentation has it: what ends main() reaches whoever awaits this.
        self.task = asyncio.current_task()
        await self.main(symbols[0])

    async def main(self, symbol):
        url = f"wss://stream.binance.com:9443/ws/{symbol}@aggTrade"
        transport, _ = await ws_connect(lambda: Listener(self), url)
        await transport.wait_disconnected()

    def on_trade(self, symbol, trade):
        pass

    async def stop(self):
        self.task.cancel()
