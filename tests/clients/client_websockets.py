import asyncio

from common import STREAM, arguments, report

args = arguments()

import websockets  # noqa: E402 - the environment is set first


async def main():
    options = {"compression": "deflate" if args.deflate else None}
    if int(websockets.__version__.partition(".")[0]) >= 15:  # before, it asked no environment for a proxy
        options["proxy"] = None
    async with websockets.connect(f"{args.ws}/ws/{STREAM}", **options) as ws:
        report(raw=[await ws.recv() for _ in range(args.count)])


asyncio.run(main())
