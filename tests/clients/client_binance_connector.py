import time

from common import arguments, report

args = arguments()

from binance.spot import Spot  # noqa: E402
from binance.websocket.spot.websocket_stream import SpotWebsocketStreamClient  # noqa: E402

raw = []


def on_message(_, message):
    if '"e":"aggTrade"' in message:
        raw.append(message)


client = SpotWebsocketStreamClient(stream_url=args.ws, on_message=on_message)
client.agg_trade(symbol="btcusdt")
while len(raw) < args.count:
    time.sleep(0.01)
assert Spot(base_url=args.http).agg_trades("BTCUSDT", limit=5)
report(raw=raw[: args.count])
