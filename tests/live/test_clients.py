"""Real client libraries, those that are installed, against the live exchange; `tests/clients/run.py` has them all."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(90)]

_FILE = Path(__file__).resolve().parent.parent / "clients" / "run.py"


def _load():
    spec = importlib.util.spec_from_file_location("clients_run", _FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


table = _load()


@pytest.mark.parametrize("mode", ["ws", "wss", "deflate"])
@pytest.mark.parametrize("name", table.CLIENTS)
def test_a_real_client_gets_exactly_what_was_sent(name, mode):
    command = table.interpreter(name, None)
    if command is None:
        pytest.skip(f"{name} is not installed here; tox -e clients installs them all")
    assert table.play(name, mode, command, None) in table.GOOD
