"""Puts a process into a simulation and takes it out again."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import types
from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec

from harness.clock import NS_PER_MS
from harness.errors import HarnessBug
from harness.transports.authority import Authority
from harness.transports.sim import clocks, seal, threads
from harness.transports.sim.loop import SimLoop
from harness.transports.sim.net import SimExchange, lookup
from harness.transports.sim.patches import Patches
from harness.transports.sim.world import World

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

    from harness.exchange.settings import ExchangeSettings
    from harness.faults.plan import Plan
    from harness.ledger import AnyEntry
    from harness.timeline import Timeline
    from harness.transports.sim.net import Network

RETIME_SLACK_MS = 250
"""Connecting takes a millisecond or two here; less lateness than this needs no moving of times."""

_active: list[Simulation] = []
_OURS = __file__.rpartition("/")[0]


class Simulation:
    """
    While the context lasts, this process lives in virtual time.

    It is meant for a process of its own that ends with the run: see `launch`.

    Args:
        seed: of the subject's own chance.
        wall_ns: the wall clock at the beginning, nanoseconds since 1970.
    """

    prepared: ClassVar[Authority | None] = None
    """Made beforehand, for processes that are forked; keys take longer than runs."""

    def __init__(self, *, seed: int = 0, wall_ns: int = 0) -> None:
        self.seed = seed
        self._wall_ns = wall_ns
        self._patches = Patches()
        self.world: World
        self._exchange: SimExchange | None = None

    def __enter__(self) -> Self:
        if _active:
            raise HarnessBug("a process can be in one simulation at a time")
        _active.append(self)
        self.world = World(wall_ns=self._wall_ns)
        patches = self._patches
        try:
            threads.install(self.world, patches)
            clocks.install(self.world, patches)
            seal.install(self.world, patches, self.seed)
            self._patch_loops(patches)
            self._patch_sockets(patches)
            patches.set(sys, "_current_frames", _without_ours(sys._current_frames))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.world.end()
        finally:
            self._patches.undo()
            _active.remove(self)

    def begin(
        self,
        timeline: Timeline,
        plan: Plan | None = None,
        *,
        settings: ExchangeSettings,
        write: Callable[[AnyEntry], None] | None = None,
    ) -> SimExchange:
        """
        Enter the simulation, for good, at the time of a recording, and make its exchange.

        The wall clock is set so that a subject that subscribes at once gets the frames at their recorded
        times, bytes untouched; for one that comes later, `retime="auto"` moves the times inside the frames.

        Args:
            timeline: the tape to play.
            plan: what goes wrong.
            settings: pace, dialect, limits.
            write: takes ledger entries.
        """
        self._wall_ns = timeline.start_ms * NS_PER_MS + settings.from_ns - settings.grace_ns
        authority = self.prepared or Authority(rsa=True)  # by the real clock, as certificates are
        self.__enter__()
        return self.exchange(
            timeline,
            plan,
            settings=msgspec.structs.replace(settings, retime_slack_ms=RETIME_SLACK_MS),
            write=write,
            authority=authority,
        )

    def exchange(
        self,
        timeline: Timeline,
        plan: Plan | None = None,
        *,
        settings: ExchangeSettings | None = None,
        write: Callable[[AnyEntry], None] | None = None,
        authority: Authority | None = None,
    ) -> SimExchange:
        """Make the exchange that this simulation's connections lead to; arguments as `SimExchange`."""
        self._exchange = SimExchange(self.world, timeline, plan, settings=settings, write=write, authority=authority)
        return self._exchange

    # --- Patches -----------------------------------------------------------------------------------

    def _loop_class(self, name: str) -> type[SimLoop]:
        simulation = self

        class Loop(SimLoop):
            def __init__(self) -> None:
                super().__init__(simulation.world, simulation.network)

        Loop.__name__ = Loop.__qualname__ = name
        return Loop

    @property
    def network(self) -> Network:
        """What connections lead to."""
        if self._exchange is None:
            raise HarnessBug("the simulation has no exchange yet")
        return self._exchange.network

    def _patch_loops(self, patches: Patches) -> None:
        policy: Any = asyncio.DefaultEventLoopPolicy
        loop = self._loop_class("SelectorEventLoop")
        patches.set(policy, "_loop_factory", loop)
        before = asyncio.get_event_loop_policy()
        asyncio.set_event_loop_policy(policy())
        patches.then(lambda: asyncio.set_event_loop_policy(before))
        patches.set(asyncio, "SelectorEventLoop", loop)
        # uvloop brings its own loop in C, which lives in real time: who asks for it gets ours.
        uvloop = types.ModuleType("uvloop")
        stand_in = self._loop_class("Loop")
        uvloop.__dict__.update(
            Loop=stand_in, new_event_loop=stand_in, EventLoopPolicy=policy, install=lambda: None,
            run=asyncio.run, __version__="0.0.0+simulated",
        )  # fmt: skip
        modules: dict[str, Any] = sys.modules
        before_it = modules.get("uvloop")
        modules["uvloop"] = uvloop
        patches.then(lambda: modules.pop("uvloop") if before_it is None else modules.update(uvloop=before_it))

    def _patch_sockets(self, patches: Patches) -> None:
        def getaddrinfo(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:  # noqa: A002, ARG001 - the signature of the original
            if family == socket.AF_INET6:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            if self._exchange is None:
                raise HarnessBug("the simulation has no exchange yet")
            address = lookup(self._exchange.gate, host, port)
            return [(socket.AF_INET, type or socket.SOCK_STREAM, proto or socket.IPPROTO_TCP, "", address)]

        patches.set(socket, "getaddrinfo", getaddrinfo)
        for name, what in (
            ("connect", "blocking sockets"), ("connect_ex", "blocking sockets"), ("sendto", "datagrams"),
            ("listen", "servers of the subject's own"),
        ):  # fmt: skip
            patches.set(socket.socket, name, self._fenced(what))
        patches.set(subprocess.Popen, "__init__", self._fenced("child processes"))
        for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp", "system"):
            if hasattr(os, name):
                patches.set(os, name, self._fenced("child processes"))

    def _fenced(self, what: str) -> Callable[..., Any]:
        def refuse(*_: Any, **__: Any) -> Any:
            raise self.world.fence(what)

        return refuse


def _without_ours(original: Callable[[], dict[int, FrameType]]) -> Callable[[], dict[int, FrameType]]:
    # Whoever asks where a thread is means the program, not the machinery that it waits in.
    def current_frames() -> dict[int, FrameType]:
        found = {}
        for ident, frame in original().items():
            outer: FrameType | None = frame
            while outer is not None and outer.f_code.co_filename.startswith(_OURS):
                outer = outer.f_back
            found[ident] = outer or frame
        return found

    return current_frames
