"""The clocks of a program under simulation: `time.*`, `datetime.now()` and `time.sleep()` follow virtual time."""

from __future__ import annotations

import ctypes
import datetime as dt
import gc
import sys
import time
from typing import TYPE_CHECKING, Any

from harness import clock

if TYPE_CHECKING:
    from harness.transports.sim.patches import Patches
    from harness.transports.sim.world import World

real_perf_counter = time.perf_counter
real_sleep = time.sleep
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
NS = 1_000_000_000


def install(world: World, patches: Patches) -> None:
    """Let every clock of this process follow the world."""
    _patch_time(world, patches)
    _patch_datetime(world, patches)
    # The harness's own observers live in the same time.
    patches.set(clock, "_monotonic_ns", world.read_ns)
    patches.set(clock, "_time_ns", world.wall_ns)


def _patch_time(world: World, patches: Patches) -> None:
    def seconds() -> float:
        return world.wall_ns() / NS

    def monotonic() -> float:
        return world.read_ns() / NS

    def sleep(duration: float) -> None:
        if duration < 0:
            raise ValueError("sleep length must be non-negative")
        if world.mine() is None:
            real_sleep(duration)  # a thread from before the simulation
        else:
            world.sleep(round(duration * NS))

    def broken_down(original: Any) -> Any:
        return lambda when=None: original(seconds() if when is None else when)

    gmtime, localtime = broken_down(time.gmtime), broken_down(time.localtime)
    strftime, asctime, ctime = time.strftime, time.asctime, time.ctime
    patches.replace_everywhere(
        {
            time.time: seconds,
            time.time_ns: world.wall_ns,
            time.monotonic: monotonic,
            time.monotonic_ns: world.read_ns,
            time.perf_counter: monotonic,
            time.perf_counter_ns: world.read_ns,
            time.sleep: sleep,
            time.gmtime: gmtime,
            time.localtime: localtime,
            strftime: lambda form, when=None: strftime(form, localtime() if when is None else when),
            asctime: lambda when=None: asctime(localtime() if when is None else when),
            ctime: lambda when=None: ctime(seconds() if when is None else when),
        }
    )


def _patch_datetime(world: World, patches: Patches) -> None:
    # Built-in types refuse new attributes, so the dictionary behind them is changed. Their identity stays:
    # `isinstance`, subclasses and names imported before are all served.
    def now(cls: Any, tz: dt.tzinfo | None = None) -> Any:
        micros = world.wall_ns() // 1000
        if tz is None:
            return _local(cls, micros)
        # Exact: a float would lose the microseconds.
        aware = cls(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=micros)
        return aware.astimezone(tz)

    def utcnow(cls: Any) -> Any:
        return cls(1970, 1, 1) + dt.timedelta(microseconds=world.wall_ns() // 1000)

    def date_today(cls: Any) -> Any:
        return cls.fromtimestamp(world.wall_ns() / NS)

    def datetime_today(cls: Any) -> Any:
        return now(cls)

    _put(dt.datetime, patches, now=classmethod(now), utcnow=classmethod(utcnow), today=classmethod(datetime_today))
    _put(dt.date, patches, today=classmethod(date_today))
    _check(world)


def _local(cls: Any, micros: int) -> Any:
    whole, rest = divmod(micros, 1_000_000)
    return cls.fromtimestamp(whole).replace(microsecond=rest)


def _put(kind: type, patches: Patches, **methods: Any) -> None:
    inner = next(found for found in gc.get_referents(kind.__dict__) if isinstance(found, dict))
    before = {name: inner[name] for name in methods if name in inner}
    added = [name for name in methods if name not in inner]

    def undo() -> None:
        inner.update(before)
        for name in added:
            del inner[name]
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))

    inner.update(methods)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))
    patches.then(undo)


def _check(world: World) -> None:
    # The technique leans on how CPython keeps its types; were that to change, say so instead of mixing clocks.
    told = dt.datetime.now(dt.UTC)
    if abs((told - _EPOCH).total_seconds() - world.wall_ns() / NS) > 1:
        from harness.errors import HarnessBug  # noqa: PLC0415

        raise HarnessBug(f"the simulation cannot set the clock of datetime on Python {sys.version.split()[0]}")
