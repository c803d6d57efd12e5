"""The command line as a whole: its exit codes, and that it stays light."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from harness.cli import VERBS, main

RECORDING = "recordings/btcusdt.parquet"
SUBJECT = "orderflow.order_flow_service:OrderFlowService"


def test_every_verb_has_a_module_and_shows_its_help(capsys):
    for verb in VERBS:
        assert main([verb, "--help"]) == 0
        assert f"harness {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ([], "VERB"),
        (["rnu"], "did you mean 'run'?"),
        (["list", "nosuch"], "invalid choice: 'nosuch'"),
        (["run"], "--recording"),
        (["run", "a:B", "--recording", "r", "--jobs", "0"], "--jobs: '0' is not a whole number from 1"),
        (["run", "a:B", "--recording", "r", "--seed", "abc"], "--seed: 'abc' is not a whole number"),
        (["run", "a:B", "--recording", "r", "--format", "yaml"], "invalid choice: 'yaml'"),
        (["run", "a:B", "--recording", "r", "--out"], "--out: expected one argument"),
        (["serve", "r", "--port", "99999"], "--port: '99999' is not a whole number from 0 to 65535"),
        (["sweep", "a:B", "--recording", "r", "--runs", "0"], "--runs: '0' is not a whole number from 1"),
        (["record", "btcusdt", "--frames", "0"], "--frames: '0' is not a whole number from 1"),
        (["run", "a:B", "--recording", "r", "extra"], "unrecognized arguments: extra; `harness run --help`"),
        (["run", "a:B", "--recording", "r", "--fualt=x"], "unknown option '--fualt'; did you mean '--fault'?"),
        (["run", "a:B", "--recodring", "r"], "unknown option '--recodring'; did you mean '--recording'?"),
        (
            ["exec", "--recording", RECORDING, "--fault", "tcp.reset_peer@frame=1001", "--", "true"],
            "1001 is past the end",
        ),
        (["run", "a:B", "--recording", "none.parquet"], "no such recording; `harness list recordings` shows"),
        (["run", "a:B", "--recording", RECORDING, "--host", "awit"], "--host: unknown fault 'host.awit'; did you mean"),
        (["run", "a:B", "--recording", RECORDING, "--deadline", "0"], "--deadline 0: nobody can tell in no time"),
        (["run", "a:B", "--recording", RECORDING, "--symbol", ""], "--symbol '': names no symbol"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_exits_with_two(line, said, capsys):
    assert main(line) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("harness: ")
    assert said in lines[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "/nonexistent/report.json"], "--out /nonexistent/report.json: cannot be written"),
        (["--out", "."], "--out .: cannot be written"),
        (["--faults", ""], "names no layer; write all, or some of: dns, tcp"),
        (["--duration", "0"], "--duration 0: nothing would be played"),
        (["--path", "/nonexistent"], "--path /nonexistent: no such folder"),
        (["--symbol", "dogeusdt"], "no trade of DOGEUSDT in it; it holds BTCUSDT"),
        (["--tap", "no.such"], "has no tap 'no.such'"),
    ],
)
def test_a_run_that_could_not_be_judged_is_refused_in_one_sentence(options, said, capsys):
    assert main(["run", SUBJECT, "--recording", RECORDING, "--mode", "sim", *options]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[-1]
    assert not any("Traceback" in line for line in lines)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["synth", "--frames", "10", "--symbol", "", "--out", "made.parquet"], "--symbol ''"),
        (["import", RECORDING, "--out", "/dev/null/folder"], "--out /dev/null/folder: is no folder"),
        (["sweep", SUBJECT, "--recording", RECORDING, "--runs", "1", "--out", "/dev/null/folder"], "is no folder"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(line, said, capsys):
    assert main(line) == 2
    assert said in capsys.readouterr().err


def test_faults_of_a_layer_and_faults_by_name_are_both_run(capsys):
    """A fault that was asked for and left out without a word would be a silent failure of our own."""
    line = ["run", SUBJECT, "--recording", RECORDING, "--mode", "sim", "--duration", "1s", "--format", "json"]
    assert main([*line, "--faults", "tcp.latency", "--fault", "tcp.jitter", "--fault", "tcp.slicer"]) == 0
    faults = [one["faults"] for one in json.loads(capsys.readouterr().out)["runs"]]
    assert sorted(faults) == [["tcp.jitter", "tcp.slicer"], ["tcp.latency"]]


def test_a_dry_run_survives_what_the_subject_does_while_it_is_loaded(tmp_path, monkeypatch, capsys):
    """It happens in our own process: what is printed there is no result, and an exit there is not ours."""
    (tmp_path / "chatty_bot.py").write_text("print('loading')\nclass Bot:\n    def start(self, symbols): pass\n")
    (tmp_path / "ended_bot.py").write_text("raise SystemExit(5)")
    monkeypatch.setattr(sys, "path", [*sys.path])
    line = ["--recording", RECORDING, "--dry-run", "--path", str(tmp_path)]
    assert main(["run", "chatty_bot:Bot", *line]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("subject  chatty_bot:Bot (Bot)\n")
    assert err == "loading\n"
    assert main(["run", "ended_bot:Bot", *line]) == 2
    assert "ended_bot cannot be imported: SystemExit: 5" in capsys.readouterr().err


def test_a_dry_run_ends_though_a_thread_of_the_subject_does_not(tmp_path):
    body = "import threading\nclass Bot:\n    def start(self, symbols): pass\n"
    (tmp_path / "bot.py").write_text(body + "threading.Thread(target=threading.Event().wait).start()\n")
    line = ["run", "bot:Bot", "--recording", RECORDING, "--dry-run", "--path", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "harness", *line], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("subject  bot:Bot (Bot)\n")
    assert done.stdout.endswith("none found\n")


def test_a_report_whose_file_cannot_be_written_in_the_end_is_not_lost(tmp_path, monkeypatch, capsys):
    """The disk may fill up while the runs go on."""
    monkeypatch.setattr("harness.cli.run_.check_file", lambda _: (tmp_path / "report.json").mkdir())
    line = ["run", SUBJECT, "--recording", RECORDING, "--mode", "sim", "--duration", "1s", "--format", "json"]
    assert main([*line, "--out", str(tmp_path / "report.json")]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["runs"][0]["verdict"] == "intact"
    assert "the report is on standard output" in err


def test_a_reader_who_has_had_enough_does_not_make_a_silent_run_green(monkeypatch):
    """`harness run ... | head` under `set -o pipefail` is a gate as well."""
    done = []

    class Gone:
        def write(self, _):
            raise BrokenPipeError

        def fileno(self):
            done.append(True)
            return os.open(os.devnull, os.O_WRONLY)

        def isatty(self):
            return False

    monkeypatch.setattr(sys, "stdout", Gone())
    subject = "fixtures.subjects.no_watchdog:Service"
    line = [
        "run",
        subject,
        "--recording",
        RECORDING,
        "--mode",
        "sim",
        "--duration",
        "1s",
        "--host",
        "run_until_complete",
    ]
    assert main(line) == 1
    assert done


def test_the_version_is_shown(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("harness ")


def test_a_bug_of_ours_exits_with_three(monkeypatch, capsys):
    monkeypatch.setattr("harness.cli.list_.run", lambda _: 1 / 0)
    assert main(["list", "faults"]) == 3
    assert "bug of ours: ZeroDivisionError" in capsys.readouterr().err


def test_a_supervisor_that_says_sigterm_is_obeyed_as_ctrl_c_is(monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("harness.cli.list_.run", lambda _: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(5))
    assert main(["list", "faults"]) == 143
    assert capsys.readouterr().err == "harness: terminated\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_bad_recording_hides_none_of_the_others_in_a_list(tmp_path, capsys):
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    shutil.copy(RECORDING, tmp_path / "whole.parquet")
    assert main(["list", "recordings", "--dir", str(tmp_path)]) == 0
    torn, whole = capsys.readouterr().out.splitlines()
    assert "torn.parquet   (is torn" in torn
    assert "1000 frames  BTCUSDT" in whole
    assert main(["list", "recordings", "--dir", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    """`--help` is typed most by people who wait; numpy, pyarrow, asyncio and rich come with the verbs."""
    heavy = ["numpy", "pyarrow", "asyncio", "rich", "msgspec", "websockets", "importlib.metadata"]
    code = (
        "import sys; from harness.cli import main; main(['--help']);"
        f"sys.stderr.write(','.join(m for m in {heavy!r} if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "record" in done.stdout
