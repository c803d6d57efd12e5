"""python-binance: `BinanceSocketManager` and `await socket.recv()` in a loop, as its documentation shows."""

import asyncio

from binance import AsyncClient, BinanceSocketManager

DOCUMENTATION = "python-binance 1.0.37, Websockets: BinanceSocketManager usage"


class Service:
    async def start(self, symbols):
        # In the foreground, as the documentation has it: what ends main() reaches whoever awaits this.
        self.task = asyncio.current_task()
        await self.main(symbols[0])

    async def main(self, symbol):
        client = await AsyncClient.create()
        manager = BinanceSocketManager(client)
        async with manager.aggtrade_socket(symbol.upper()) as socket:
            while True:
                trade = await socket.recv()
                self.on_trade(trade["s"], trade)

    def on_trade(self, symbol, trade):
        pass

    async def stop(self):
        self.task.cancel()
