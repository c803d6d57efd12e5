"""Serve a tape to every real client that is installed, and compare what it received with what was sent."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from harness.exchange import ExchangeSettings  # noqa: E402
from harness.transports.live import LiveExchange  # noqa: E402
from tests.harness.exchange.talk import make_tape  # noqa: E402

if TYPE_CHECKING:
    from harness.exchange import Exchange
    from harness.exchange.connection import ExchangeConnection

# name: (script, virtual environment, module that must be there, offers deflate)
CLIENTS = {
    "websockets": ("client_websockets.py", "plain", "websockets", True),
    "aiohttp": ("client_aiohttp.py", "plain", "aiohttp", True),
    "websocket-client": ("client_websocket_client.py", "plain", "websocket", False),
    "python-binance": ("client_python_binance.py", "python-binance", "binance.ws", True),
    "binance-connector": ("client_binance_connector.py", "binance-connector", "binance.spot", False),
    "binance-sdk-spot": ("client_binance_sdk_spot.py", "binance-sdk-spot", "binance_sdk_spot", False),
    "ccxt": ("client_ccxt.py", "ccxt", "ccxt", True),
    "cryptofeed": ("client_cryptofeed.py", "cryptofeed", "cryptofeed", True),
    "unicorn": ("client_unicorn.py", "unicorn", "unicorn_binance_websocket_api", True),
    "node ws": ("client_ws.js", "node", "", True),
}
SWITCHABLE = {"websockets", "aiohttp", "node ws"}
"""Clients whose compression the script can switch; the others offer it always, or never."""
MODES = ("ws", "wss", "deflate", "burst")
COMPRESSED = "exact, compressed"
"""Exact, and permessage-deflate was agreed to in the handshake, as the exchange's own side of it says."""
GOOD = {"exact", COMPRESSED, "never offers", "refuses ws"}


def interpreter(name: str, venvs: Path | None) -> list[str] | None:
    """The command that runs a client's script, or None when it is not installed."""
    script, venv, module, _ = CLIENTS[name]
    if script.endswith(".js"):
        node_modules = (venvs or HERE) / venv / "node_modules"
        return ["node", str(HERE / script)] if (node_modules / "ws").is_dir() else None
    python = str(venvs / venv / "bin" / "python") if venvs else sys.executable
    if not Path(python).exists():
        return None
    there = subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0
    return [python, str(HERE / script)] if there else None


def play(name: str, mode: str, command: list[str], venvs: Path | None, *, timeout_s: float = 60) -> str:
    """Run one client against one exchange; say `exact`, or what was wrong."""
    if mode == "deflate" and not CLIENTS[name][3]:
        return "never offers"
    if mode == "ws" and name == "cryptofeed":
        return "refuses ws"  # it takes only wss:// endpoints
    count = 20_000 if mode == "burst" else 300
    secure = mode != "ws"
    # A burst is the whole tape in a tenth of a second; otherwise two frames a millisecond after a grace
    # that lets clients register their callbacks.
    tape = make_tape(count, step_ns=5_000 if mode == "burst" else 500_000)
    settings = ExchangeSettings(grace_ns=1_000_000_000, deflate=mode == "deflate")
    with LiveExchange(tape, settings=settings, tls=secure) as live:
        lines = watched(live.exchange)
        urls = live.urls
        ws, http = (urls["wss"], urls["https"]) if secure else (urls["ws"], urls["http"])
        line = [*command, "--ws", str(ws), "--http", str(http), "--count", str(count)]
        line += ["--cafile", str(urls["cafile"])] if secure else []
        line += ["--deflate"] if mode == "deflate" and name in SWITCHABLE else []
        env = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        env |= {"NODE_PATH": str((venvs or HERE) / "node" / "node_modules")}
        env |= {"NODE_EXTRA_CA_CERTS": str(urls["cafile"])} if secure else {}
        try:
            with tempfile.TemporaryDirectory() as folder:  # some write log files wherever they are
                done = subprocess.run(line, capture_output=True, timeout=timeout_s, check=False, env=env, cwd=folder)
        except subprocess.TimeoutExpired as late:
            return f"timeout {_last_line(late.stderr)}"
        try:
            got = json.loads(done.stdout)
        except ValueError:
            return f"failed {_last_line(done.stderr)}"
        found = compare(got, tape.payloads(0, count))
        if mode != "deflate" or found != "exact":
            return found
        return COMPRESSED if any(line.session and line.session.agreed for line in lines) else "exact, not compressed"


def watched(exchange: Exchange) -> list[ExchangeConnection]:
    """Keep every connection that the exchange makes, so that what its handshake agreed to can be asked later."""
    made: list[ExchangeConnection] = []
    make = exchange.connection

    def keep(**how: Any) -> ExchangeConnection:
        made.append(make(**how))
        return made[-1]

    exchange.connection = keep
    return made


def _last_line(text: bytes | None) -> str:
    lines = (text or b"").decode(errors="replace").strip().splitlines()
    return lines[-1][:110] if lines else ""


def compare(got: dict, sent: list[bytes]) -> str:
    """`exact` when all arrived, in order and unchanged."""
    if got["raw"] is not None:
        return "exact" if [text.encode() for text in got["raw"]] == sent else "differs"
    wanted = [[m["a"], m["p"], m["q"], m["f"], m["l"], m["T"], m["m"]] for m in map(json.loads, sent)]
    # One library gives numbers as text; the values are what counts for it.
    same = [list(map(str, row)) for row in got["trades"]] == [list(map(str, row)) for row in wanted]
    return "exact" if same else "differs"


def install(venvs: Path) -> None:
    """Make a virtual environment for each set of pins, and the node package where npm is."""
    for pins in sorted(HERE.glob("*.txt")):
        print(f"installing {pins.stem}", file=sys.stderr)
        folder = venvs / pins.stem
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        scripts = folder / ("Scripts" if os.name == "nt" else "bin")
        subprocess.run([str(scripts / "python"), "-m", "pip", "install", "-q", "-r", str(pins)], check=True)
    if shutil.which("npm"):
        (venvs / "node").mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--silent", "ws@8.23.0"], cwd=venvs / "node", check=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venvs", type=Path, help="folder of virtual environments, one for each .txt")
    parser.add_argument("--install", action="store_true", help="make the virtual environments first")
    parser.add_argument("--only", action="append", default=[], help="only this client; may be repeated")
    parser.add_argument("--require-all", action="store_true", help="a client that is not installed is a failure")
    args = parser.parse_args()
    if args.install:
        install(args.venvs or parser.error("--install needs --venvs FOLDER"))
    bad = 0
    print("| client | " + " | ".join(MODES) + " |\n|---|" + "---|" * len(MODES))
    for name in args.only or CLIENTS:
        command = interpreter(name, args.venvs)
        if command is None:
            bad += args.require_all
            print(f"| {name} | " + " | ".join(["not installed"] * len(MODES)) + " |")
            continue
        row = [play(name, mode, command, args.venvs) for mode in MODES]
        bad += sum(cell not in GOOD for cell in row)
        print(f"| {name} | " + " | ".join(row) + " |", flush=True)
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
