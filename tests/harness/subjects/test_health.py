"""Health in every shape, written down when it says something new."""

from __future__ import annotations

from enum import Enum
from types import SimpleNamespace

import pytest

from harness.subjects import HealthPoller
from harness.subjects.health import verdict_of


class State(Enum):
    STALE = "stale"
    OK = 1


@pytest.mark.parametrize(
    ("value", "healthy"),
    [
        (True, True),
        (False, False),
        ("ok", True),
        ("STALE", False),
        ("no data for 30 s", False),
        ("not connected", False),
        ("starting", None),
        (None, None),
        (3, None),
        ({"ok": True}, True),
        ({"status": "healthy"}, True),
        ({"running": True, "status": "stale"}, False),
        ({"feeds": 2}, None),
        (SimpleNamespace(healthy=False), False),
        (SimpleNamespace(status=State.STALE), False),
        (State.OK, True),
        ((False, "no data"), False),
        ({"healthy": {"ok": False}}, False),
    ],
)
def test_what_a_value_says(value, healthy):
    assert verdict_of(value) is healthy


class Subject:
    def __init__(self):
        self.running = True
        self.ok = True

    def health(self):
        return {"ok": self.ok}

    async def status(self):
        return "ok" if self.ok else "down"

    def is_healthy(self):
        raise RuntimeError("cannot tell")


def test_only_news_is_written_down():
    entries, subject = [], Subject()
    poller = HealthPoller(entries.append)
    for ok in (True, True, False, False, True):
        subject.ok = ok
        poller.poll(subject, ("health", "running"))
    assert [(e.name, e.healthy) for e in entries] == [
        ("health()", True), ("running", True), ("health()", False), ("health()", True),
    ]  # fmt: skip


def test_asynchronous_health_is_read_outside_any_loop():
    entries = []
    HealthPoller(entries.append).poll(Subject(), ("status",))
    assert entries[0].healthy is True


def test_health_that_raises_is_not_well():
    entries = []
    HealthPoller(entries.append).poll(Subject(), ("is_healthy",))
    assert entries[0].healthy is False
    assert "cannot tell" in entries[0].value
