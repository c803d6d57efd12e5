from common import STREAM, arguments, report

args = arguments()

import websocket  # noqa: E402

raw = []


def on_message(ws, message):
    raw.append(message)
    if len(raw) == args.count:
        report(raw=raw)


app = websocket.WebSocketApp(f"{args.ws}/ws/{STREAM}", on_message=on_message)
app.run_forever(ping_interval=5, ping_timeout=3, http_no_proxy=["127.0.0.1", "localhost"])
