import asyncio

from common import arguments, report

args = arguments()

from binance import AsyncClient, BinanceSocketManager  # noqa: E402

AsyncClient.API_URL = f"{args.http}/api"
BinanceSocketManager.STREAM_URL = f"{args.ws}/"


async def main():
    client = await AsyncClient.create()
    manager = BinanceSocketManager(client)
    messages = []
    async with manager.aggtrade_socket("BTCUSDT") as socket:
        while len(messages) < args.count:
            messages.append(await socket.recv())
    assert await client.get_aggregate_trades(symbol="BTCUSDT", limit=5)
    report(trades=[[m["a"], m["p"], m["q"], m["f"], m["l"], m["T"], m["m"]] for m in messages])


asyncio.run(main())
