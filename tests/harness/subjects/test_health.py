"""Health in every shape, written down when it says something new."""

from __future__ import annotations

import asyncio
import threading
from enum import Enum
from types import SimpleNamespace

import pytest

from harness.subjects import HealthPoller, health_names
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


class Connection:
    """Health as a property: there once start() was called, and it raises when the socket is gone."""

    def __init__(self):
        self.socket = None

    @property
    def connected(self):
        return self.socket.is_open

    @property
    def healthy(self):
        if self.socket is None:
            raise RuntimeError("call start() first")
        return True


def test_a_property_that_raises_was_well_before_under_the_same_name():
    entries, subject = [], Connection()
    poller = HealthPoller(entries.append)
    for socket in (None, SimpleNamespace(is_open=True), None):
        subject.socket = socket
        poller.poll(subject, health_names(subject))
    assert [e.healthy for e in entries if e.name == "healthy"] == [False, True, False]
    assert [e.healthy for e in entries if e.name == "connected"] == [True, False]
    assert poller.names == ("healthy", "connected")


def test_health_that_comes_with_start_is_read_from_then_on():
    subject = SimpleNamespace()
    assert health_names(subject) == ()
    subject.state = "running"
    assert health_names(subject) == ("state",)


class OnItsLoop:
    def is_healthy(self):
        return asyncio.get_running_loop().time() > 0

    async def health(self):
        return {"ok": asyncio.get_running_loop().time() > 0}


async def test_health_may_ask_the_loop_for_the_time():
    entries, loop = [], asyncio.get_running_loop()
    poller = HealthPoller(entries.append, lambda: loop)
    thread = threading.Thread(target=poller.poll, args=(OnItsLoop(), ("is_healthy", "health")))
    thread.start()
    thread.join()
    assert [(entry.name, entry.healthy) for entry in entries] == [("is_healthy()", True), ("health()", True)]
    assert asyncio.get_running_loop() is loop


def test_health_that_raises_is_not_well():
    entries = []
    HealthPoller(entries.append).poll(Subject(), ("is_healthy",))
    assert entries[0].healthy is False
    assert "cannot tell" in entries[0].value
