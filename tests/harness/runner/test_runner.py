"""What the parent makes of a worker that left a ledger and no verdict."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from harness.ledger import Accepted, Logged, Opened, Sent, Subscribed, Upgraded
from harness.recording import load_timeline
from harness.runner import judge_remains
from harness.runner.results import Job, Moved, Setting
from harness.scenario import Scenario
from harness.verdict import Noise

RECORDING = str(Path(__file__).resolve().parents[3] / "recordings" / "btcusdt.parquet")
S = 1_000_000_000
START = 100 * S
TAKEN = 40


@pytest.fixture
def remains(tmp_path):
    """A job of 2 s, and the ledger of a worker that took 40 trades, with other entries at the end."""

    def left(*more, quiet_s=60, deadline_ns=5 * S):
        timeline = load_timeline([RECORDING])
        trade = msgspec.json.decode(timeline.payload(0))
        entries = [
            Opened(at_ns=START, connection=1, secure=True),
            Upgraded(at_ns=START, connection=1, target="/ws/btcusdt@aggTrade"),
            Subscribed(at_ns=START, connection=1, streams=("btcusdt@aggTrade",), via="url", tape_ns=0),
        ]
        for frame in range(TAKEN):
            trade = msgspec.json.decode(timeline.payload(frame))
            at_ns = START + int(timeline.due_ns[frame])
            entries.append(Sent(at_ns=at_ns, connection=1, first=frame, last=frame + 1))
            entries.append(
                Accepted(
                    at_ns=at_ns + 1000,
                    symbol="BTCUSDT",
                    trade_id=trade["a"],
                    price=trade["p"],
                    quantity=trade["q"],
                    trade_time=trade["T"],
                    is_buyer_maker=trade["m"],
                )
            )
        heads = [Setting(symbols=("BTCUSDT",), started_ns=START), Moved(clock_ns=START, offset_ms=0)]
        lines = [b"#" + msgspec.json.encode(head) for head in heads]
        lines += [msgspec.json.encode(entry) for entry in (*entries, *more)]
        ledger = tmp_path / "ledger.jsonl"
        ledger.write_bytes(b"\n".join(lines) + b"\n")
        long_ago = ledger.stat().st_mtime - quiet_s
        os.utime(ledger, (long_ago, long_ago))
        (tmp_path / "noise.json").write_bytes(msgspec.json.encode(Noise(templates=("log bot WARNING hello",))))
        return Job(
            scenario=Scenario(
                subject="bot:Service", recordings=(RECORDING,), duration_ns=2 * S, deadline_ns=deadline_ns
            ),
            ledger=str(ledger),
            result=str(tmp_path / "result.json"),
            noise=str(tmp_path / "noise.json"),
            negative_control=False,
        )

    return left


def test_a_process_that_hung_as_a_whole_is_silent_although_we_ended_it(remains):
    verdict = judge_remains(remains(), None, 70).verdict
    (finding,) = verdict.findings
    assert verdict.silent
    assert (finding.check, finding.stage) == ("stopped", "callback")
    assert "hung" in finding.cause
    assert verdict.lost == verdict.obtainable - TAKEN > 0


def test_a_process_that_died_of_a_signal_has_told_by_its_exit(remains):
    verdict = judge_remains(remains(), -11, 3).verdict
    assert verdict.loud
    assert [signal.source for signal in verdict.signals] == ["exit"]
    assert "signal 11" in verdict.findings[0].cause


def test_a_process_that_ended_well_in_the_middle_of_the_tape_is_silent(remains):
    assert judge_remains(remains(), 0, 3).verdict.silent


def test_no_trade_behind_the_part_that_was_to_be_played_is_missed(remains):
    timeline = load_timeline([RECORDING])
    assert judge_remains(remains(), 0, 3).verdict.obtainable == timeline.frame_at(2 * S)


def test_what_a_sound_run_says_too_excuses_no_hang(remains):
    said = {"logger": "bot", "level": 30, "level_name": "WARNING"}
    heard = Logged(at_ns=START + S, template="hello", text="hello", **said)
    assert judge_remains(remains(heard), None, 70).verdict.silent


def test_a_run_in_which_things_still_happened_is_not_judged(remains):
    verdict = judge_remains(remains(quiet_s=0), None, 70).verdict
    assert verdict.outcome == "unjudged"
    assert "70 s" in verdict.reason


@pytest.fixture
def unbegun(tmp_path):
    """A job whose worker wrote nothing but its empty ledger."""
    (tmp_path / "ledger").touch()
    scenario = Scenario(subject="bot.flow:OrderFlowService", recordings=("recordings/btcusdt.parquet",))
    files = {name: str(tmp_path / name) for name in ("ledger", "result")}
    return Job(scenario=scenario, noise=None, negative_control=False, **files)


def test_a_worker_that_was_ended_while_it_imported_is_said_to_hang(unbegun):
    """A signal 9 of our own would send its reader to look for who else has killed it."""
    verdict = judge_remains(unbegun, None, 51.2).verdict
    assert verdict.outcome == "unjudged"
    assert verdict.reason == (
        "bot.flow:OrderFlowService was still being imported or made after 51 s, and was ended: "
        "something in it waits or loops before start() can be called"
    )


@pytest.mark.parametrize(
    ("code", "words"), [(-9, "the process died of signal 9"), (5, "the process ended with code 5")]
)
def test_a_worker_that_died_before_the_run_is_said_to_have(unbegun, code, words):
    assert judge_remains(unbegun, code, 1.0).verdict.reason == f"{words} before start() was called"
