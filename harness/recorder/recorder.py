"""The recorder: keeps connections up, replaces them before they are cut, and says when it is blind.

line ── connect ── carry ──┬─ lost ─────────── back off, connect again
                           ├─ too old, ─────── new connection up, then close the old one
                           │  serverShutdown,
                           │  mute
                           └─ stop ─────────── close
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, TypeVar

from harness import clock
from harness.errors import HarnessError, NetworkError
from harness.recorder.backfill import Backfill
from harness.recorder.endpoints import SUBSCRIBE_INTERVAL_NS, lines, public_url, rest_base
from harness.recorder.health import Health
from harness.recorder.scribe import Rotation, Scribe
from harness.recorder.sieve import Ended, Filled, Hole, Missed, Opened, Sieve, row
from harness.recorder.wire import Wire, connect
from harness.recording.journal import Header, Run
from harness.seeds import derive

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from harness.frames import Frame
    from harness.recorder.endpoints import Line
    from harness.recorder.settings import Settings
    from harness.recorder.sieve import Track

T = TypeVar("T")

log = logging.getLogger(__name__)

BACKOFF_MAX_NS = 60 * clock.NS_PER_S
"""300 attempts in 5 minutes get an address banned; one a minute, per connection, never does."""
FILL_PATIENCE_S = 5.0
"""How long a stopping recorder waits for what it is still fetching."""
FILL_IDS_MAX = 10_000
"""So many trades of a hole are fetched before they are written: after a long outage it has millions."""
BEHIND_EVERY_NS = 10 * clock.NS_PER_S
"""A disk that is just too slow falls behind and catches up many times a second; it is told at most so often."""
STALL_WAIT_MAX = 10
"""A stream that stays mute is looked into ever less often, down to every tenth time the stall limit."""


class Recorder:
    """
    Records until told to stop. Use: `paths = await Recorder(settings).run()`.

    Args:
        settings: what to do.
        deliver: called with each finished recording, from a thread of its own; for uploads.
        on_progress: called about twice a second with the health.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        deliver: Callable[[Path], None] | None = None,
        on_progress: Callable[[Health], None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self.health = Health(streams=settings.streams, endpoint=public_url(settings.endpoint))
        self._deliver = deliver
        self._on_progress = on_progress
        self._sieve = Sieve(settings.after)
        self._stop = asyncio.Event()
        self._why = ""
        self._left = settings.frame_count_max
        self._numbers = 0
        self._wires: dict[int, Wire] = {}
        self._reading = True
        self._behind_told_ns = -BEHIND_EVERY_NS
        self._rng = derive(settings.seed, "recorder", "jitter")
        self._holes: asyncio.Queue[Hole] = asyncio.Queue()
        self._replace: dict[int, str] = {}
        """Connections that shall be handed over, and why."""
        self._mute: dict[str, int] = {}
        """Streams that are mute, and how often that was looked into."""
        self._baseline: dict[str, int] = {}
        """Newest id over REST when a stream that never spoke was first looked into."""
        self._replaced = asyncio.Event()

    def stop(self, why: str = "stopped") -> None:
        """Finish. A second call leaves the unfinished recordings to `harness recover`."""
        if self._stop.is_set():
            self._scribe.abandon()
        self._why = self._why or why
        self._stop.set()

    async def run(self) -> list[Path]:
        """
        Record.

        Returns:
            The finished recordings; none where it was told to stop before it was connected.

        Raises:
            NetworkError: the endpoint could not be reached at the first attempt.
            RecordingError: the disk does not take what we write.
        """
        settings = self.settings
        self._loop = asyncio.get_running_loop()
        self._scribe = self._make_scribe()
        carried = lines(settings.endpoint, settings.streams, settings.market)
        try:
            wires = await self._unless_stopped(self._first_connections(carried))
        except BaseException:
            self._scribe.scrap()
            raise
        if wires is None:
            self._scribe.scrap()
            return []
        self._scribe.start()
        self._backfill = self._make_backfill()
        tasks = [self._loop.create_task(self._carry(line, wire)) for line, wire in zip(carried, wires, strict=True)]
        tasks += [self._loop.create_task(self._watch()), self._loop.create_task(self._look_around())]
        filler = self._loop.create_task(self._fill_forever())
        try:
            await self._until_stopped(tasks)
        finally:
            await self._finish(tasks, filler)
        return self._scribe.paths

    @property
    def left_behind(self) -> list[Path]:
        """Journals that `harness recover` has to finish."""
        return self._scribe.left_behind

    # --- Start and end ---

    def _make_scribe(self) -> Scribe:
        settings = self.settings
        header = Header(
            target="",
            identity="",
            endpoint=public_url(settings.endpoint),
            symbols=settings.symbols,
            streams=settings.streams,
            source=settings.source,
            partitioned=settings.partitioned,
            destination=public_url(settings.destination) if settings.destination else "",
        )
        return Scribe(
            settings.folder,
            header,
            settings.name,
            sieve=self._sieve,
            interval_ns=settings.interval_ns,
            rotation=Rotation(settings.rotate_ns, settings.rotate_bytes),
            on_pressure=lambda pressed: self._in_loop(self._press, pressed),
            on_beat=self._beat,
            deliver=self._deliver,
        )

    def _make_backfill(self) -> Backfill | None:
        settings = self.settings
        if not settings.backfill:
            return None
        base = settings.rest or rest_base(settings.endpoint)
        return Backfill(base, settings.market, cafile=settings.cafile, pause_s=settings.retry_ns / clock.NS_PER_S)

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T | None:
        working, stop = self._loop.create_task(work), self._loop.create_task(self._stop.wait())
        try:
            await asyncio.wait([working, stop], return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            working.cancel()
            stop.cancel()
            await asyncio.gather(working, stop, return_exceptions=True)

    async def _first_connections(self, carried: tuple[Line, ...]) -> list[Wire]:
        wires: list[Wire] = []
        try:
            for line in carried:
                wires.append(await self._open(line))  # noqa: PERF401 - those made so far are needed when one fails
        except BaseException:
            for wire in wires:
                wire.abort()
            raise
        return wires

    async def _until_stopped(self, tasks: list[asyncio.Task[None]]) -> None:
        stop = self._loop.create_task(self._stop.wait())
        timeout = self.settings.duration_ns / clock.NS_PER_S if self.settings.duration_ns is not None else None
        done, _ = await asyncio.wait([stop, *tasks], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        self._why = self._why or ("the time is over" if not done else "stopped")
        self._stop.set()
        stop.cancel()
        for task in done:
            if task is not stop:
                task.result()

    async def _finish(self, tasks: list[asyncio.Task[None]], filler: asyncio.Task[None]) -> None:
        self._stop.set()
        self.health.state = "finishing"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(self._hang_up(wire, self._why) for wire in list(self._wires.values())))
        # A last beat may still find a hole; what cannot be fetched in time stays a gap in the recording.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FILL_PATIENCE_S):
                await asyncio.sleep(self.settings.interval_ns / clock.NS_PER_S * 1.5 if self._sieve.gap_count else 0)
                await self._holes.join()
        filler.cancel()
        await asyncio.gather(filler, return_exceptions=True)
        if self._backfill:
            await self._backfill.close()
        stopped = self._loop.run_in_executor(None, self._scribe.stop)
        while not stopped.done():  # a long recording takes seconds to finish
            self._refresh()
            await asyncio.wait([stopped], timeout=0.5)
        await stopped
        self.health.state = "stopped"
        self._refresh()

    # --- Connections ---

    async def _open(self, line: Line) -> Wire:
        self._numbers += 1
        number = self._numbers

        def take(item: Run | Frame, size: int) -> None:
            if type(item) is Run:
                if self._left is not None:
                    self._count(item)
                if item.payloads:
                    self._scribe.take(item, size)
            else:
                if item.kind == "open":
                    self._scribe.take(Opened(number, line))
                self._scribe.take(item, size)

        wire = await connect(number, line, take, cafile=self.settings.cafile)
        self._wires[number] = wire
        wire.set_reading(self._reading)
        self.health.connections += 1
        for place, message in enumerate(line.subscribe):
            if place:
                await asyncio.sleep(SUBSCRIBE_INTERVAL_NS / clock.NS_PER_S)
            wire.send_text(message)
        return wire

    def _count(self, run: Run) -> None:
        assert self._left is not None
        reached = self._left > 0 and len(run.payloads) >= self._left
        run.payloads = run.payloads[: self._left]
        self._left -= len(run.payloads)
        if reached:
            self.stop("all frames are there")

    async def _carry(self, line: Line, wire: Wire) -> None:
        settings = self.settings
        while True:
            opened_ns = clock.steady_ns()
            while True:
                age_s = (opened_ns + settings.life_ns - clock.steady_ns()) / clock.NS_PER_S
                changed = self._loop.create_task(self._replaced.wait())
                either: list[asyncio.Future[Any]] = [wire.ended, changed]
                await asyncio.wait(either, timeout=max(age_s, 0), return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                why = self._replace.pop(wire.number, "")
                if not self._replace:
                    self._replaced.clear()
                if not why and clock.steady_ns() >= opened_ns + settings.life_ns:
                    why = "it is about to be cut for its age"
                if wire.ended.done() or why:
                    break
            if wire.ended.done():
                self._forget(wire)
                log.warning("Connection %d was lost: %s", wire.number, wire.ended.result())
                wire = await self._come_back(line)
            else:
                wire = await self._hand_over(line, wire, why)

    async def _come_back(self, line: Line, *, at_once: bool = False) -> Wire:
        pause_ns = self.settings.backoff_ns
        problem = ""
        while True:
            if not at_once:
                # Jitter, so that many recorders that were cut together do not come back together.
                await asyncio.sleep(pause_ns * (0.5 + self._rng.random()) / clock.NS_PER_S)
                pause_ns = min(pause_ns * 2, BACKOFF_MAX_NS)
            at_once = False
            try:
                wire = await self._open(line)
            except NetworkError as failure:
                if str(failure) != problem:
                    problem = str(failure)
                    log.warning("No connection for %s: %s; trying again", _few(line.streams), problem)
                wait = str(getattr(failure, "retry_after", ""))
                if wait.isdigit():
                    pause_ns = max(pause_ns, int(wait) * clock.NS_PER_S)
            else:
                self.health.reconnects += 1
                log.info("Connection %d carries %s", wire.number, _few(line.streams))
                return wire

    async def _hand_over(self, line: Line, old: Wire, why: str) -> Wire:
        log.info("Connection %d is replaced: %s", old.number, why)
        new = await self._come_back(line, at_once=True)
        deadline_ns = clock.steady_ns() + self.settings.overlap_ns
        heard = len(line.subscribe)  # acknowledgements are no data
        while clock.steady_ns() < deadline_ns and not new.ended.done() and not old.ended.done():
            if new.data_count > heard:
                # The old one may be behind: let it deliver what the new one begins with.
                await asyncio.sleep(min(0.25, self.settings.overlap_ns / clock.NS_PER_S / 4))
                break
            await asyncio.sleep(0.01)
        await self._hang_up(old, "handed over")
        self.health.handovers += 1
        return new

    async def _hang_up(self, wire: Wire, why: str) -> None:
        if not wire.ended.done():
            await wire.close(why)
        self._forget(wire)

    def _forget(self, wire: Wire) -> None:
        if self._wires.pop(wire.number, None):
            self._scribe.take(_now(wire.number))

    # --- What the writing thread says ---

    def _in_loop(self, call: Callable[..., None], *values: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is over: nobody reads sockets any more
            self._loop.call_soon_threadsafe(call, *values)

    def _beat(self) -> None:
        holes, notices = self._sieve.holes(), self._sieve.shutdown_notices
        if notices:
            self._sieve.shutdown_notices = []
        if holes or notices or self._scribe.failure:
            self._in_loop(self._heard, holes, notices)

    def _heard(self, holes: list[Hole], notices: list[int]) -> None:
        for hole in holes:
            log.warning("Gap in %s: %d ids missing, %d to %d", hole.stream, len(hole), hole.first, hole.last)
            if hole.stream.endswith("@aggTrade") and self._backfill:
                self._holes.put_nowait(hole)
        for number in notices:
            self._ask_replacement(number, "the exchange announced its shutdown")
        if self._scribe.failure:
            self.stop("the disk failed")

    def _press(self, pressed: bool) -> None:
        self._reading = not pressed
        now = clock.steady_ns()
        if pressed and not self.health.behind and now - self._behind_told_ns >= BEHIND_EVERY_NS:
            self._behind_told_ns = now
            log.warning("The disk does not keep up: the exchange is not read until it does")
        self.health.behind = pressed
        for wire in self._wires.values():
            wire.set_reading(not pressed)

    def _ask_replacement(self, number: int, why: str) -> None:
        if number in self._wires:
            self._replace[number] = why
            self._replaced.set()

    # --- Watching ---

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._watch_pause_s)
            if self._reading:
                for wire in list(self._wires.values()):
                    self._keep_alive(wire, clock.steady_ns())
            self._refresh()

    async def _look_around(self) -> None:
        # Apart from the watch, as it waits for answers of an exchange that may give none.
        while True:
            await asyncio.sleep(self._watch_pause_s)
            for stream in self.settings.streams:
                if self._reading:
                    await self._look_into(stream, clock.steady_ns())

    @property
    def _watch_pause_s(self) -> float:
        return min(0.5, self.settings.stall_ns / clock.NS_PER_S / 4)

    def _keep_alive(self, wire: Wire, now: int) -> None:
        silent_ns = now - wire.last_bytes_ns
        if silent_ns > 3 * self.settings.keepalive_ns:
            wire.give_up(f"no sign of life for {clock.format_duration(3 * self.settings.keepalive_ns)}")
        elif silent_ns > self.settings.keepalive_ns and now - wire.pinged_ns > self.settings.keepalive_ns:
            wire.pinged_ns = now
            wire.ping()

    async def _look_into(self, stream: str, now: int) -> None:
        track = self._sieve.tracks.get(stream)
        if track is None or not track.alive:
            return
        number = track.alive[-1]
        wire = self._wires.get(number)
        since_ns = max(track.last_at_ns, wire.opened_ns if wire else now)
        times = self._mute.get(stream, 0)
        if now - since_ns <= self.settings.stall_ns:
            if times and track.last_at_ns >= since_ns:
                del self._mute[stream]
                self._say(number, f"{stream}: speaks again", level=logging.WARNING)
            return
        asked_ns = self.health.asked_ns.get(stream, 0)
        if now - max(since_ns, asked_ns) <= self.settings.stall_ns * min(max(times, 1), STALL_WAIT_MAX):
            return
        self.health.asked_ns[stream] = now
        latest = await self._backfill.latest_id(stream) if self._backfill else None
        if latest is None:
            words = "nobody can say whether the market is"
        else:
            after = self._last_known(stream, track, latest, now)
            if latest <= after:
                log.info("%s is quiet: the exchange has no newer trade than %d", stream, latest)
                return
            words = "while the market moves; we are blind"
            self._scribe.take(Missed(stream, (after, latest), _now(number)))
        self._mute[stream] = times + 1
        self._say(number, f"{stream}: mute for {(now - since_ns) / clock.NS_PER_S:.0f} s {words}")
        self._ask_replacement(number, f"{stream} is mute")

    def _last_known(self, stream: str, track: Track, latest: int, now: int) -> int:
        if track.last_id is not None:
            return track.last_id
        if stream not in self._baseline:
            # Never a message yet: whether the market moves shows when it is asked again, soon.
            self._baseline[stream] = latest
            self.health.asked_ns[stream] = now - self.settings.stall_ns * 3 // 4
        return self._baseline[stream]

    def _say(self, connection: int, text: str, *, level: int = logging.WARNING) -> None:
        log.log(level, "%s", text)
        self._scribe.take(row(_now(connection), text))

    def _refresh(self) -> None:
        self.health.update(self._scribe, self._sieve, self._mute, sorted(self._wires))
        self._on_progress(self.health)

    # --- Backfill ---

    async def _fill_forever(self) -> None:
        while True:
            hole = await self._holes.get()
            try:
                await self._fill(hole)
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("Backfill failed in an unforeseen way")
            finally:
                self._holes.task_done()

    async def _fill(self, hole: Hole) -> None:
        for part in hole.parts(FILL_IDS_MAX):
            if not await self._fill_part(part, hole):
                break

    async def _fill_part(self, part: Hole, hole: Hole) -> bool:
        # Returns whether the exchange answers; where it does not, all the rest of the hole stays one.
        assert self._backfill is not None
        track = self._sieve.tracks[part.stream]
        number = track.alive[-1] if track.alive else self._numbers
        wire = self._wires.get(number)
        answers, reason = True, "the exchange does not have them"
        found: dict[int, bytes] = {}
        try:
            found = await self._backfill.fetch(part, wrapped=bool(wire and wire.line.combined))
        except HarnessError as problem:
            answers, reason = False, str(problem)
            part = Hole(stream=part.stream, first=part.first, last=hole.last)
        missing = len(part) - len(found)
        text = f"{part.stream}: {missing} of ids {part.first} to {part.last} not backfilled: {reason}"
        if missing:
            log.warning("%s", text)
        else:
            log.info("%s: ids %d to %d backfilled", part.stream, part.first, part.last)
        note = row(_now(number), text)
        self._scribe.take(Filled(part, found, note), sum(map(len, found.values())))
        return answers


def _now(connection: int) -> Ended:
    return Ended(connection, *clock.both_ns())


def _few(streams: tuple[str, ...]) -> str:
    shown = ", ".join(streams[:3])
    return shown + (f" and {len(streams) - 3} more" if len(streams) > 3 else "")
