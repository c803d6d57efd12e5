"""The command line as a whole: its exit codes, and that it stays light."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.cli import VERBS, main


def test_every_verb_has_a_module_and_shows_its_help(capsys):
    for verb in VERBS:
        assert main([verb, "--help"]) == 0
        assert f"harness {verb}" in capsys.readouterr().out


@pytest.mark.parametrize("line", [[], ["nosuch"], ["list", "nosuch"], ["run"]])
def test_a_wrong_command_line_exits_with_two(line, capsys):
    assert main(line) == 2
    assert "usage:" in capsys.readouterr().err


def test_the_version_is_shown(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("harness ")


def test_a_bug_of_ours_exits_with_three(monkeypatch, capsys):
    monkeypatch.setattr("harness.cli.list_.run", lambda _: 1 / 0)
    assert main(["list", "faults"]) == 3
    assert "bug of ours: ZeroDivisionError" in capsys.readouterr().err


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
