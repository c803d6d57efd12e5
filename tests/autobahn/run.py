"""Run the Autobahn TestSuite against `harness serve --echo` and count the results."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
GOOD = {"OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED"}
"""UNIMPLEMENTED: a compression parameter that was offered and not agreed to, as the RFC allows."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wstest", help="command of the suite")
    parser.add_argument("--install", type=Path, metavar="FOLDER", help="install the suite there, with --python2")
    parser.add_argument("--python2", default="python2.7", help="the interpreter that the suite needs (python2.7)")
    parser.add_argument("--cases", action="append", default=[], help="for example 6.*; all when not given")
    parser.add_argument("--reports", type=Path, help="keep the suite's reports here")
    args = parser.parse_args()
    suite = {**os.environ}
    if args.install:
        install(args.install, args.python2)
        args.wstest = f"{args.python2} {args.install / 'bin' / 'wstest'}"
        suite["PYTHONPATH"] = str(args.install)
    elif not args.wstest:
        parser.error("give --wstest or --install")
    serve = [sys.executable, "-m", "harness", "serve", "--echo"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server,
    ):
        try:
            assert server.stdout is not None
            url = json.loads(server.stdout.readline())["ws"]
            spec = json.loads((HERE / "fuzzingclient.json").read_text(encoding="utf-8"))
            spec["outdir"] = str(args.reports or Path(folder) / "reports")
            spec["servers"][0]["url"] = url + "/"
            spec["cases"] = args.cases or spec["cases"]
            path = Path(folder) / "fuzzingclient.json"
            path.write_text(json.dumps(spec), encoding="utf-8")
            subprocess.run(
                [*shlex.split(args.wstest), "-m", "fuzzingclient", "-s", str(path)],
                check=True,
                stdout=sys.stderr,
                env=suite,
            )
            results = json.loads((Path(spec["outdir"]) / "index.json").read_text(encoding="utf-8"))["harness"]
        finally:
            server.send_signal(signal.SIGTERM)
    return show(results)


def install(folder: Path, python2: str) -> None:
    """Install the suite beside nothing else."""
    if not (folder / "bin" / "wstest").exists():
        pins = str(HERE / "requirements.txt")
        subprocess.run([python2, "-m", "pip", "install", "-q", "--target", str(folder), "-r", pins], check=True)
        # A namespace package that pip leaves without its file under --target.
        (folder / "zope" / "__init__.py").touch()


def show(results: dict[str, dict[str, str]]) -> int:
    """Print the counts and every case that is not good."""
    print(dict(Counter(result["behavior"] for result in results.values())))
    bad = {name: r for name, r in results.items() if {r["behavior"], r["behaviorClose"]} - GOOD}
    for name, result in sorted(bad.items()):
        print(f"{name}: {result['behavior']}, close {result['behaviorClose']}")
    print(f"{len(results)} cases, {len(bad)} bad")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
