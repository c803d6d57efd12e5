import asyncio

from common import STREAM, arguments, report

args = arguments()

import aiohttp  # noqa: E402


async def main():
    # The style of hummingbot: a bare /ws, then SUBSCRIBE.
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{args.ws}/ws", heartbeat=10, compress=15 if args.deflate else 0) as ws,
    ):
        await ws.send_json({"method": "SUBSCRIBE", "params": [STREAM], "id": 1})
        assert await ws.receive_json() == {"result": None, "id": 1}
        report(raw=[(await ws.receive()).data for _ in range(args.count)])


asyncio.run(main())
