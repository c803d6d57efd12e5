"""No kind of the catalogue goes without a test that shows it on the wire."""

from __future__ import annotations

import importlib
from pathlib import Path

from harness.faults import catalogue
from tests.live.faults.wire import SHOWN


def test_every_kind_of_the_exchange_is_shown_on_the_wire():
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        importlib.import_module(f"tests.live.faults.{path.stem}")
    # Hosts put nothing on the wire: they act inside the subject's own process.
    wanted = {name for name in catalogue() if not name.startswith("host.")}
    assert wanted - SHOWN == set()
    assert SHOWN - wanted == set(), "a test shows a kind that is not in the catalogue"
