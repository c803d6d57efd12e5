"""websocket-client: `run_forever(reconnect=5)` in a thread, callbacks that print, as its README shows."""

import json
import threading

import websocket

DOCUMENTATION = "websocket-client 1.9, README: long-lived connection, reconnect=5"


class Service:
    def start(self, symbols):
        self.app = websocket.WebSocketApp(
            f"wss://stream.binance.com:9443/ws/{symbols[0]}@aggTrade",
            on_open=lambda ws: print("Opened connection"),
            on_message=self.on_message,
            on_error=lambda ws, error: print(error),
            on_close=lambda ws, code, message: print("### closed ###"),
        )
        self.thread = threading.Thread(target=self.app.run_forever, kwargs={"reconnect": 5}, daemon=True)
        self.thread.start()

    def on_message(self, ws, message):
        trade = json.loads(message)
        self.on_trade(trade["s"], trade)

    def on_trade(self, symbol, trade):
        pass

    def stop(self):
        self.app.close()
        self.thread.join(10)
