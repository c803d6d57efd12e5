"""ccxt.pro: `while True: trades = await exchange.watch_trades(symbol)`, as its manual shows (asked for aggTrade)."""

import asyncio

import ccxt.pro

DOCUMENTATION = "ccxt 4.5.90 manual, watchTrades; `name` set to aggTrade, since that is what the recording holds"


class Service:
    async def start(self, symbols):
        # In the foreground, as the documentation has it: what ends main() reaches whoever awaits this.
        self.task = asyncio.current_task()
        await self.main(symbols[0])

    async def main(self, symbol):
        exchange = ccxt.pro.binance()
        name = f"{symbol[:-4].upper()}/{symbol[-4:].upper()}"
        try:
            while True:
                for trade in await exchange.watch_trades(name, params={"name": "aggTrade"}):
                    self.on_trade(trade["info"]["s"], trade["info"])
        finally:
            await exchange.close()

    def on_trade(self, symbol, trade):
        pass

    async def stop(self):
        self.task.cancel()
