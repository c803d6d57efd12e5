import asyncio

from common import arguments, report

args = arguments()

from binance_common.configuration import ConfigurationRestAPI, ConfigurationWebSocketStreams  # noqa: E402
from binance_sdk_spot.spot import Spot  # noqa: E402


async def main():
    client = Spot(
        config_ws_streams=ConfigurationWebSocketStreams(stream_url=args.ws),
        config_rest_api=ConfigurationRestAPI(api_key="", api_secret="", base_path=args.http),
    )
    connection = await client.websocket_streams.create_connection()
    trades = []
    done = asyncio.Event()

    def on_message(m):
        trades.append([m.a, m.p, m.q, m.f, m.l, m.T, m.m])
        if len(trades) >= args.count:
            done.set()

    stream = await connection.agg_trade(symbol="btcusdt")
    stream.on("message", on_message)
    await done.wait()
    assert client.rest_api.agg_trades(symbol="BTCUSDT", limit=5).data()
    report(trades=trades[: args.count])


asyncio.run(main())
