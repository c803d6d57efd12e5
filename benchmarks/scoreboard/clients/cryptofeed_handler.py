"""cryptofeed: `FeedHandler().add_feed(Binance(...)); run()`, as its README shows, in a thread of its own."""

import asyncio
import threading

from cryptofeed import FeedHandler
from cryptofeed.defines import TRADES
from cryptofeed.exchanges import Binance

DOCUMENTATION = "cryptofeed 2.4, README: FeedHandler"


class Service:
    def start(self, symbols):
        self.thread = threading.Thread(target=self.main, args=(symbols[0],), daemon=True)
        self.thread.start()

    def main(self, symbol):
        handler = FeedHandler()
        name = f"{symbol[:-4].upper()}-{symbol[-4:].upper()}"
        handler.add_feed(Binance(symbols=[name], channels=[TRADES], callbacks={TRADES: self.trade}))
        # Behind FeedHandler(), which chooses the policy (uvloop) that loops are made by.
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        handler.run(install_signal_handlers=False)

    async def trade(self, trade, receipt_timestamp):
        raw = trade.raw
        self.on_trade(raw["s"], raw)

    def on_trade(self, symbol, trade):
        pass

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
