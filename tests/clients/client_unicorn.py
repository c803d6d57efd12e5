import time

from common import arguments, report

args = arguments()

from unicorn_binance_websocket_api import BinanceWebSocketApiManager  # noqa: E402

manager = BinanceWebSocketApiManager(
    exchange="binance.com",
    websocket_base_uri=f"{args.ws}/",
    restful_base_uri=f"{args.http}/",
    warn_on_update=False,
    output_default="raw_data",
)
manager.create_stream("aggTrade", "btcusdt")
raw = []
while len(raw) < args.count:
    message = manager.pop_stream_data_from_stream_buffer()
    if not message:
        time.sleep(0.005)
        continue
    prefix = '{"stream":"btcusdt@aggTrade","data":'
    if message.startswith(prefix):
        raw.append(message[len(prefix) : -1])
report(raw=raw)
