"""The harness in a test suite; loading this module imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, so that `--strict-markers` accepts it."""
    config.addinivalue_line(
        "markers",
        "recording(path, faults=(), seed=0, speed=1): the recording that the `exchange` fixture serves, and its faults",
    )
