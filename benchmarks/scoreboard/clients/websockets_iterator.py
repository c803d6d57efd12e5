"""websockets: the reconnect iterator, with `except ConnectionClosed: continue`, as its documentation shows."""

import asyncio
import json

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

DOCUMENTATION = "websockets 17.4, `connect` as an infinite asynchronous iterator"


class Service:
    async def start(self, symbols):
        # In the foreground, as the documentation has it: what ends main() reaches whoever awaits this.
        self.task = asyncio.current_task()
        await self.main(symbols[0])

    async def main(self, symbol):
        async for websocket in connect(f"wss://stream.binance.com:9443/ws/{symbol}@aggTrade"):
            try:
                async for message in websocket:
                    trade = json.loads(message)
                    self.on_trade(trade["s"], trade)
            except ConnectionClosed:
                continue

    def on_trade(self, symbol, trade):
        pass

    async def stop(self):
        self.task.cancel()
