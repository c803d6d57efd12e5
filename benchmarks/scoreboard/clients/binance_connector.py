"""binance-connector: `SpotWebsocketStreamClient(on_message=...)`, `agg_trade(symbol=...)`, as its README shows."""

import json
import logging

from binance.websocket.spot.websocket_stream import SpotWebsocketStreamClient

DOCUMENTATION = "binance-connector 3.13, README: WebSocket stream"


class Service:
    def start(self, symbols):
        # The client reports errors to its own logger and to on_error; the README's example sets up logging.
        logging.getLogger("binance").setLevel(logging.INFO)
        self.client = SpotWebsocketStreamClient(on_message=self.message_handler)
        self.client.agg_trade(symbol=symbols[0])

    def message_handler(self, _, message):
        trade = json.loads(message)
        if trade.get("e") == "aggTrade":
            self.on_trade(trade["s"], trade)

    def on_trade(self, symbol, trade):
        pass

    def stop(self):
        self.client.stop()
