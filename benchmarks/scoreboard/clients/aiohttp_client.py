"""aiohttp: `async for msg in ws` with a branch for TEXT and one for ERROR, as its client quick start shows."""

import asyncio
import json

import aiohttp

DOCUMENTATION = "aiohttp 3.14, client quick start: WebSockets"


class Service:
    async def start(self, symbols):
        # In the foreground, as the documentation has it: what ends main() reaches whoever awaits this.
        self.task = asyncio.current_task()
        await self.main(symbols[0])

    async def main(self, symbol):
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"wss://stream.binance.com:9443/ws/{symbol}@aggTrade") as ws,
        ):
            async for msg in ws:
                if msg.type == aiohttp.WSMsgType.TEXT:
                    trade = json.loads(msg.data)
                    self.on_trade(trade["s"], trade)
                elif msg.type == aiohttp.WSMsgType.ERROR:
                    break

    def on_trade(self, symbol, trade):
        pass

    async def stop(self):
        self.task.cancel()
