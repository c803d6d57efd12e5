"""websockets: `async with connect(uri) as ws: async for message in ws`, as its quick start shows."""

import asyncio
import json

from websockets.asyncio.client import connect

DOCUMENTATION = "websockets 17.4, quick start: connect() and iterate"


class Service:
    async def start(self, symbols):
        # In the foreground, as the documentation has it: what ends main() reaches whoever awaits this.
        self.task = asyncio.current_task()
        await self.main(symbols[0])

    async def main(self, symbol):
        async with connect(f"wss://stream.binance.com:9443/ws/{symbol}@aggTrade") as websocket:
            async for message in websocket:
                trade = json.loads(message)
                self.on_trade(trade["s"], trade)

    def on_trade(self, symbol, trade):
        pass

    async def stop(self):
        self.task.cancel()
