"""What the tests of speech share: an ear."""

from __future__ import annotations

import pytest

from harness.subjects import Speech


@pytest.fixture
def heard():
    entries = []
    with Speech(entries.append, ignored_threads=("harness-",)):
        yield entries
