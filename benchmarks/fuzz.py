"""Bytes, cut anywhere and at any pace, against the exchange, for as long as asked: whatever comes, it answers or ends.

    python benchmarks/fuzz.py --minutes 30 [--seed 1]             Hypothesis, the generators of the tests
    python benchmarks/fuzz.py --minutes 30 --guided CORPUS_FOLDER  atheris, where it is installed: guided by coverage

Each input is a plan of at most one fault, and pieces that one client sends: requests, upgrades, frames, control
messages, raw bytes. A failure ends the run and prints its input; the tests keep those as seeds.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

BATCH = 500
BTC = "btcusdt@aggTrade"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--guided", type=Path, metavar="CORPUS_FOLDER", help="use atheris, and keep its corpus there")
    args = parser.parse_args()
    if args.guided:
        return guided(args.guided, args.minutes, args.seed)
    began = time.monotonic()
    inputs = 0
    while time.monotonic() - began < args.minutes * 60:
        inputs += generated(args.seed + inputs)
    print(f"{inputs} inputs in {(time.monotonic() - began) / 60:.1f} minutes, no finding")
    return 0


def generated(seed: int) -> int:
    """One batch of Hypothesis; returns how many inputs ran."""
    import hypothesis
    from hypothesis import strategies as st

    from tests.harness.exchange import test_fuzz

    ran = 0
    survives, gaps = test_fuzz.survives, st.sampled_from(test_fuzz.GAPS)

    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=BATCH, deadline=None, database=None)
    @hypothesis.given(
        test_fuzz.firsts, test_fuzz.pieces, st.sampled_from(["", *test_fuzz.FAULTS]), st.booleans(), st.data()
    )
    def run(first: bytes, rest: list[bytes], fault: str, hasty: bool, data: Any) -> None:
        nonlocal ran
        ran += 1
        stream = first + b"".join(rest)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
        chunks = [stream[a:b] for a, b in pairwise([0, *cuts, len(stream)])]
        survives(chunks, [data.draw(gaps) for _ in chunks], fault, hasty=hasty)

    run()
    return ran


# --- Guided by coverage ------------------------------------------------------------------------------------------


def guided(corpus: Path, minutes: float, seed: int) -> int:
    """Run atheris, which ends the process itself."""
    import atheris

    with atheris.instrument_imports(include=["harness.exchange"]):
        import harness.exchange  # noqa: F401
    from tests.harness.exchange import test_fuzz

    corpus.mkdir(parents=True, exist_ok=True)

    def one(data: bytes) -> None:
        chunks, gaps, fault, hasty = read_program(atheris.FuzzedDataProvider(data), test_fuzz)
        try:
            test_fuzz.survives(chunks, gaps, fault, hasty=hasty)
        except BaseException:
            print("finding:", json.dumps([[base64.b64encode(c).decode() for c in chunks], gaps, fault, hasty]))
            raise

    argv = [
        sys.argv[0], str(corpus), f"-max_total_time={int(minutes * 60)}", f"-seed={seed}", "-max_len=600",
        "-len_control=0", "-print_final_stats=1", f"-artifact_prefix={corpus}.", "-timeout=60",
    ]  # fmt: skip
    atheris.Setup(argv, one)
    atheris.Fuzz()
    return 0


def read_program(source: Any, test_fuzz: Any) -> tuple[list[bytes], list[int], str, bool]:
    """Read fuzzed bytes as pieces that reach past the handshake: frames are masked, heads complete."""
    faults, times, frame = ["", *test_fuzz.FAULTS], test_fuzz.GAPS, test_fuzz.client
    fault, hasty = faults[source.ConsumeIntInRange(0, len(faults) - 1)], source.ConsumeBool()
    chunks: list[bytes] = []
    gaps: list[int] = []
    while source.remaining_bytes() and len(chunks) < 12:
        gaps.append(times[source.ConsumeIntInRange(0, len(times) - 1)])
        size = source.ConsumeIntInRange(0, 130)
        match source.ConsumeIntInRange(0, 6):
            case 0 | 1:
                head = "GET /{} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n".format(
                    (f"ws/{BTC}", "ws", "stream", "market/ws", f"stream?streams={BTC}")[source.ConsumeIntInRange(0, 4)],
                    ("x", "fstream.binance.com", "dstream.binance.com")[source.ConsumeIntInRange(0, 2)],
                )
                head += "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
                deflate = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if source.ConsumeBool() else ""
                chunks.append(f"{head}{deflate}\r\n".encode())
            case 2:
                opcode, fin, rsv1 = source.ConsumeIntInRange(0, 15), source.ConsumeBool(), source.ConsumeBool()
                chunks.append(frame(opcode, source.ConsumeBytes(size), fin=fin, rsv1=rsv1))
            case 3 | 4:
                method = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY", "x")
                params = (f'["{BTC}"]', '["combined",true]', '["combined"]', source.ConsumeUnicodeNoSurrogates(size))
                verb, wish = method[source.ConsumeIntInRange(0, 5)], params[source.ConsumeIntInRange(0, 3)]
                text = f'{{"method":"{verb}","params":{wish},"id":{source.ConsumeInt(8)}}}'
                chunks.append(frame(1, text.encode()))
            case 5:
                path = source.ConsumeUnicodeNoSurrogates(size)
                chunks.append(f"GET /api/v3/{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            case _:
                chunks.append(source.ConsumeBytes(size))
    return chunks, gaps, fault, hasty


if __name__ == "__main__":
    sys.exit(main())
