"""What the client scripts share: arguments in, one JSON line out."""

from __future__ import annotations

import argparse
import json
import os
import sys


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ws", required=True, help="ws:// or wss:// origin")
    parser.add_argument("--http", required=True, help="http:// or https:// origin")
    parser.add_argument("--cafile", default="")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--deflate", action="store_true")
    args = parser.parse_args()
    if args.cafile:
        os.environ["SSL_CERT_FILE"] = os.environ["REQUESTS_CA_BUNDLE"] = args.cafile
        os.environ["WEBSOCKET_CLIENT_CA_BUNDLE"] = args.cafile
    return args


def report(*, raw=None, trades=None):
    """Print what was received and end at once: some libraries keep threads that never do."""
    json.dump({"raw": raw, "trades": trades}, sys.stdout)
    sys.stdout.flush()
    os._exit(0)


STREAM = "btcusdt@aggTrade"
