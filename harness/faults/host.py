"""Hosts: what the program around the subject does to it. Declared here, acted out by `harness.hosts`.

These are no faults of the exchange: its script is the same under each of them.
"""

from __future__ import annotations

from typing import ClassVar

from harness.faults.base import Duration, Fault


class _Host(Fault, frozen=True):
    default_at: ClassVar[bool] = False


class Await(_Host, frozen=True, tag="host.await"):
    """
    Sound: the program awaits `start()` on a loop that goes on running.

    The default.
    """


class Thread(_Host, frozen=True, tag="host.thread"):
    """
    Sound: the program keeps a thread with a loop of its own for the subject.

    What synchronous programs do.
    """


class RunUntilComplete(_Host, frozen=True, tag="host.run_until_complete"):
    """
    The report's incident: the loop runs `start()` and is never run again.

    Background tasks were created and wait for ever; nothing is logged.
    """


class ClosedLoop(_Host, frozen=True, tag="host.closed_loop"):
    """
    `asyncio.run(service.start())`: the loop is closed as soon as start() returns.

    Background tasks are cancelled on the way out.
    """


class StartedTwice(_Host, frozen=True, tag="host.started_twice"):
    """
    Two parts of a program both start the service.

    `start()` is called again while it runs; data may come twice.
    """


class BlockedLoop(_Host, frozen=True, tag="host.blocked_loop"):
    """
    A synchronous call in a coroutine blocks the loop: pandas, requests, time.sleep.

    Nothing is read and no pong is sent meanwhile.
    """

    after: Duration = Duration("2s")
    """When it begins, by the run's clock."""
    duration: Duration = Duration("5s")
    """How long the loop is blocked, by the run's clock."""


class Cancelled(_Host, frozen=True, tag="host.cancelled"):
    """
    A framework cancels tasks that it did not start, at a reload or a timeout.

    The subject's background tasks are cancelled while it runs.
    """

    after: Duration = Duration("2s")
    """When, by the run's clock."""


class Collected(_Host, frozen=True, tag="host.collected"):
    """
    Nobody keeps a reference to a task, and the garbage collector takes it.

    The caller drops the subject's coroutine results and a full collection runs.
    """

    after: Duration = Duration("2s")
    """When the collection runs, by the run's clock."""


class SlowConsumer(_Host, frozen=True, tag="host.slow_consumer"):
    """
    The consumer needs longer for a trade than the market for the next.

    Each accepted trade takes some time; buffers fill behind it.
    """

    delay: Duration = Duration("50ms")
    """Per trade, by the run's clock."""
