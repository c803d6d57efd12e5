"""Chance, hash order and garbage collection under simulation: the same in every run of a seed."""

from __future__ import annotations

import concurrent.futures
import gc
import itertools
import os
import random
import sys
import threading
from typing import TYPE_CHECKING, Any

from harness import seeds

if TYPE_CHECKING:
    from harness.transports.sim.patches import Patches
    from harness.transports.sim.world import World

COLLECT_NS = 2_000_000_000
"""Garbage is collected at fixed moments. By itself the interpreter would do it whenever enough was allocated, which
differs from run to run; programs whose tasks vanish because nobody holds them do so at the next of these."""


def install(world: World, patches: Patches, seed: int) -> None:
    """Seal this process."""
    _seal_chance(patches, seed)
    _seal_hashes(patches)
    _seal_garbage(world, patches)


def _seal_chance(patches: Patches, seed: int) -> None:
    system = seeds.derive(seed, "simulation", "os.urandom")

    def urandom(size: int) -> bytes:
        return system.randbytes(size)

    replacements: dict[Any, Any] = {os.urandom: urandom}
    if hasattr(os, "getrandom"):
        replacements[os.getrandom] = lambda size, flags=0: system.randbytes(size)  # noqa: ARG005 - its signature
    patches.replace_everywhere(replacements)
    state = random.getstate()
    random.seed(seeds.derive_int(seed, "simulation", "random"))
    patches.then(lambda: random.setstate(state))
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        before = numpy.get_state()
        numpy.seed(seeds.derive_int(seed, "simulation", "numpy") % 2**32)
        patches.then(lambda: numpy.set_state(before))


def _seal_hashes(patches: Patches) -> None:
    # By default an object's hash is its address, and sets are ordered by it. Numbers in the order of first asking
    # are the same in every run. (Tasks get theirs from the loop.)
    numbers = itertools.count(1)

    def number(self: Any) -> int:
        try:
            found: int = self.__dict__["_harness_hash"]
        except KeyError:
            found = self.__dict__["_harness_hash"] = next(numbers)
        return found

    # Threads that were hashed before keep their place in the sets that hold them.
    old = {id(thread) for thread in threading.enumerate()}
    original = threading.Thread.__hash__
    patches.set(threading.Thread, "__hash__", lambda self: original(self) if id(self) in old else number(self))
    patches.set(concurrent.futures.Future, "__hash__", number)


def _seal_garbage(world: World, patches: Patches) -> None:
    enable, was_enabled = gc.enable, gc.isenabled()
    gc.collect()
    gc.disable()
    patches.set(gc, "enable", lambda: None)
    # What exists now stays; later collections look at the subject's own objects alone.
    gc.freeze()

    def collect() -> None:
        gc.collect()
        if not world.idle:
            world.at(world.now_ns + COLLECT_NS, collect)

    world.at(world.now_ns + COLLECT_NS, collect)

    def undo() -> None:
        gc.unfreeze()
        if was_enabled:
            enable()

    patches.then(undo)
