"""binance-sdk-spot: `create_connection()`, `agg_trade(...)`, `stream.on("message", ...)`, as its README shows."""

from binance_common.configuration import ConfigurationWebSocketStreams
from binance_common.constants import SPOT_WS_STREAMS_PROD_URL
from binance_sdk_spot.spot import Spot

DOCUMENTATION = "binance-sdk-spot 13.2, README: WebSocket streams"


class Service:
    async def start(self, symbols):
        configuration = ConfigurationWebSocketStreams(stream_url=SPOT_WS_STREAMS_PROD_URL)
        client = Spot(config_ws_streams=configuration)
        self.connection = await client.websocket_streams.create_connection()
        self.stream = await self.connection.agg_trade(symbol=symbols[0])
        self.stream.on("message", self.message)

    def message(self, data):
        self.on_trade(data.s, {"s": data.s, "a": data.a, "p": data.p, "q": data.q, "T": data.T, "m": data.m})

    def on_trade(self, symbol, trade):
        pass

    async def stop(self):
        await self.connection.close_connection(close_session=True)
