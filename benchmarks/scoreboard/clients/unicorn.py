"""unicorn-binance-websocket-api: `create_stream(channels, markets, process_stream_data=...)`, as its README shows."""

import json

from unicorn_binance_websocket_api import BinanceWebSocketApiManager

DOCUMENTATION = "unicorn-binance-websocket-api 2.16, README: process_stream_data callback (update check off)"


class Service:
    def start(self, symbols):
        self.manager = BinanceWebSocketApiManager(exchange="binance.com", warn_on_update=False)
        self.manager.create_stream(
            channels=["aggTrade"], markets=[symbols[0]], process_stream_data=self.process, output="raw_data"
        )

    def process(self, stream_data, **_):
        event = json.loads(stream_data)
        if "data" in event:
            self.on_trade(event["data"]["s"], event["data"])

    def on_trade(self, symbol, trade):
        pass

    def stop(self):
        self.manager.stop_manager()
