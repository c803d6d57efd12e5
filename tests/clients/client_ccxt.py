import asyncio

from common import arguments, report

args = arguments()

import ccxt.pro  # noqa: E402


async def main():
    # It keeps the newest 1000 trades unless told otherwise, which a burst overtakes.
    options = {"watchTrades": {"name": "aggTrade"}, "tradesLimit": 100_000}
    exchange = ccxt.pro.binance({"newUpdates": True, "options": options})
    if args.cafile:
        exchange.cafile = args.cafile
    api = exchange.urls["api"]
    api["public"] = f"{args.http}/api/v3"
    for name, path in [("fapiPublic", "/fapi/v1"), ("dapiPublic", "/dapi/v1")]:
        api[name] = f"{args.http}{path}"
    # It tells spot from futures by whether its own URL holds "/stream", as the real hosts' do.
    api["ws"]["spot"] = f"{args.ws}/ws?host=/stream"
    exchange.has["fetchCurrencies"] = False
    exchange.options["fetchMargins"] = False
    trades = []
    while len(trades) < args.count:
        for trade in await exchange.watch_trades("BTC/USDT"):
            info = trade["info"]
            trades.append([info["a"], info["p"], info["q"], info["f"], info["l"], info["T"], info["m"]])
    report(trades=trades[: args.count])


asyncio.run(main())
