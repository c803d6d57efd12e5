"""The subject's clocks."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import queue
import random
import secrets
import subprocess
import time
import uuid
from time import monotonic as bound_early

import pytest

from harness.clock import monotonic_ns, wall_ns
from harness.errors import SubjectError
from harness.transports.sim import Simulation
from tests.harness.exchange.talk import START_MS

START = dt.datetime.fromtimestamp(START_MS / 1000, tz=dt.UTC)


def test_every_clock_tells_the_time_of_the_recording_and_moves_with_sleep(simulation):
    for elapsed in (0, 3600):
        assert time.time() == START_MS / 1000 + elapsed
        assert time.time_ns() == wall_ns() == START_MS * 1_000_000 + elapsed * 10**9
        assert dt.datetime.now(dt.UTC) == START + dt.timedelta(seconds=elapsed)
        assert dt.datetime.utcnow() == dt.datetime.now(dt.UTC).replace(tzinfo=None)
        assert dt.datetime.now() == dt.datetime.fromtimestamp(time.time())
        assert dt.date.today() == dt.datetime.today().date()
        assert time.gmtime()[:6] == dt.datetime.now(dt.UTC).timetuple()[:6]
        assert time.strftime("%H:%M", time.gmtime()) == f"{dt.datetime.now(dt.UTC):%H:%M}"
        assert time.monotonic_ns() == time.perf_counter_ns() == monotonic_ns() == simulation.world.now_ns
        time.sleep(3600)


def test_names_imported_before_the_simulation_follow_it_too(simulation):
    before = bound_early()
    time.sleep(5)
    assert bound_early() - before == 5


def test_microseconds_are_exact(simulation):
    time.sleep(0.000001)
    assert dt.datetime.now(dt.UTC).microsecond == (START.microsecond + 1) % 1_000_000


def test_subclasses_and_instances_of_datetime_stay_what_they_are(simulation):
    class Stamp(dt.datetime):
        pass

    assert type(Stamp.now()) is Stamp
    assert type(dt.datetime.now(dt.UTC)) is dt.datetime
    assert isinstance(START, dt.datetime)


def test_afterwards_everything_is_as_before():
    before = (time.time, time.sleep, dt.datetime.now.__self__, os.urandom, queue.SimpleQueue, random.getstate())
    with Simulation(wall_ns=0):
        assert dt.datetime.now(dt.UTC).year == 1970
    assert (time.time, time.sleep, dt.datetime.now.__self__, os.urandom, queue.SimpleQueue, random.getstate()) == before
    assert dt.datetime.now(dt.UTC).year > 2020


def test_a_queue_with_a_timeout_is_empty_in_virtual_time(simulation):
    before = time.monotonic()
    with pytest.raises(queue.Empty):
        queue.Queue().get(timeout=30)
    assert time.monotonic() - before == 30


def chance():
    return (
        random.random(), secrets.token_hex(8), os.urandom(4), str(uuid.uuid4()), random.SystemRandom().random(),
    )  # fmt: skip


def test_one_seed_one_chance_and_two_seeds_two():
    drawn = []
    for seed in (1, 1, 2):
        with Simulation(seed=seed):
            drawn.append(chance())
    assert drawn[0] == drawn[1]
    assert not set(drawn[0]) & set(drawn[2])


def test_child_processes_are_refused_in_words(simulation):
    with pytest.raises(SubjectError, match=r"no child processes; run this subject with --mode live"):
        subprocess.run(["true"], check=True)


def test_a_loop_that_turns_without_pause_does_not_stop_time(simulation, stage):
    stage()

    async def spin(done):
        while not done.is_set():  # noqa: ASYNC110 - the point
            await asyncio.sleep(0)

    async def main():
        done = asyncio.Event()
        asyncio.get_running_loop().call_later(0.5, done.set)
        await spin(done)

    before = time.monotonic()
    asyncio.run(main())
    assert 0.5 <= time.monotonic() - before < 0.51
