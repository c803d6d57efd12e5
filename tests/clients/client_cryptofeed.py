from common import arguments, report

args = arguments()

from cryptofeed import FeedHandler  # noqa: E402
from cryptofeed.connection import RestEndpoint, Routes, WebsocketEndpoint  # noqa: E402
from cryptofeed.defines import TRADES  # noqa: E402
from cryptofeed.exchanges import Binance  # noqa: E402

Binance.websocket_endpoints = [WebsocketEndpoint(args.ws)]
Binance.rest_endpoints = [RestEndpoint(args.http, routes=Routes(["/api/v3/exchangeInfo"]))]
trades = []


async def on_trade(trade, _receipt):
    raw = trade.raw
    trades.append([raw["a"], str(raw["p"]), str(raw["q"]), raw["f"], raw["l"], raw["T"], raw["m"]])
    if len(trades) == args.count:
        report(trades=trades)


handler = FeedHandler(config={"log": {"disabled": True}, "uvloop": False})
handler.add_feed(Binance(symbols=["BTC-USDT"], channels=[TRADES], callbacks={TRADES: on_trade}))
handler.run()
