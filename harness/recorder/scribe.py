"""The thread that writes: what the sockets gave, through the sieve, into the journal, durable, at a steady beat.

    loop thread                     writing thread                       compacting thread
    take(item) ─▶ pending ─ swap ─▶ sieve ─▶ journal ─▶ fdatasync ─┐
        ◀── stop reading / go on ── too much pending               └ closed journals ─▶ recordings ─▶ upload

The receive loop only appends to a list, so a slow disk never delays a time stamp. When the disk cannot keep up,
the list grows to a limit and the sockets are not read any more: the exchange feels it, and nothing is dropped here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness import clock
from harness.errors import RecordingError
from harness.recorder.sieve import Item, Sieve
from harness.recording.journal import SUFFIX, Header, Journal, JournalTaken, Run
from harness.recording.recovery import compact

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from harness.frames import Frame

log = logging.getLogger(__name__)

PENDING_BYTES_MAX = 64 << 20
"""Beyond this the sockets are not read until half of it is written."""
BEAT_BYTES = 1 << 20
"""So much is written at once, ahead of the beat, while it is still in the processor's cache."""
UNSYNCED_BYTES_MAX = 16 << 20
"""So much is made durable ahead of the beat; until then it is also held in memory."""
RETRY_S = 1.0
"""Pause between attempts to write to a disk that refuses."""
STOP_PATIENCE_S = 5.0
"""How long a stopping recorder waits for a disk that refuses."""


class Rotation:
    """
    When a journal is closed and the next begins.

    Args:
        every_ns: at multiples of this since 1970, so that hourly files begin at the hour; 0 for never.
        size_bytes: when the journal is that large; 0 for never.
    """

    def __init__(self, every_ns: int = 0, size_bytes: int = 0) -> None:
        self.every_ns = every_ns
        self.size_bytes = size_bytes
        self._due_ns = 0

    def start(self, wall_ns: int, now_ns: int) -> None:
        """A journal begins. The end is fixed on the clock that never steps."""
        self._due_ns = now_ns + self.every_ns - wall_ns % self.every_ns if self.every_ns else 0

    def is_due(self, now_ns: int, size_bytes: int) -> bool:
        """Whether the journal is full."""
        return bool(self._due_ns and now_ns >= self._due_ns) or bool(self.size_bytes and size_bytes >= self.size_bytes)


class Scribe:
    """
    Writes everything that is given to `take`, until `stop`.

    Args:
        folder: where journals and recordings go.
        header: the words of the recordings' metadata; target and identity are made here.
        name: makes the target's name from the wall time of its start.
        sieve: continuity.
        interval_ns: how often frames are made durable.
        rotation: when a recording is finished and the next begun.
        on_pressure: called with True when sockets must not be read, with False when they may; from the writing thread.
        on_beat: called after each beat, from the writing thread.
        deliver: called with each finished recording, from the compacting thread; for uploads.
    """

    def __init__(
        self,
        folder: Path,
        header: Header,
        name: Callable[[int], str],
        *,
        sieve: Sieve | None = None,
        interval_ns: int = 250 * clock.NS_PER_MS,
        rotation: Rotation | None = None,
        on_pressure: Callable[[bool], None] = lambda _: None,
        on_beat: Callable[[], None] = lambda: None,
        deliver: Callable[[Path], None] | None = None,
    ) -> None:
        self.folder = folder
        self.sieve = sieve or Sieve()
        self.frame_count = 0
        self.payload_bytes = 0
        self.bytes_per_frame = 0.0
        self.disk_problem = ""
        self.paths: list[Path] = []
        """Finished recordings."""
        self.left_behind: list[Path] = []
        """Journals that could not be turned into recordings yet."""
        self._header = header
        self._name = name
        self._interval_s = interval_ns / clock.NS_PER_S
        self._rotation = rotation or Rotation()
        self._on_pressure = on_pressure
        self._on_beat = on_beat
        self._deliver = deliver
        self._pending: list[Item] = []
        self._pending_bytes = 0
        self._pressed = False
        self._trusted = True
        self._unsynced: list[Run | Frame] = []
        self._unsynced_bytes = 0
        self._sync_due_ns = 0
        self._synced_bytes = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._abandoned = threading.Event()
        self._closed: queue.SimpleQueue[Journal | None] = queue.SimpleQueue()
        self.failure: BaseException | None = None
        """Why nothing is written any more."""
        self._used: set[str] = set()
        self._made_folder = not folder.exists()
        self._journal = self._begin()
        self._writer = threading.Thread(target=self._write_forever, name="harness-journal", daemon=True)
        self._compactor = threading.Thread(target=self._compact_forever, name="harness-compact", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._writer.start()
        self._compactor.start()

    def take(self, item: Item, size_bytes: int = 0) -> None:
        """Accept an item; never waits. One thread calls this."""
        with self._lock:
            self._pending.append(item)
            self._pending_bytes += size_bytes
        if self._pending_bytes > BEAT_BYTES:
            self._wake.set()
        if self._pending_bytes > PENDING_BYTES_MAX and not self._pressed:
            self._pressed = True
            self._wake.set()
            self._on_pressure(True)

    @property
    def is_behind(self) -> bool:
        """The disk does not keep up; sockets are not read."""
        return self._pressed

    @property
    def pending_bytes(self) -> int:
        """What waits in memory."""
        return self._pending_bytes

    def stop(self) -> None:
        """
        Write what is left, finish the recordings, and wait for it.

        Raises:
            RecordingError: the disk refused to the end; says how much is not on it.
        """
        self._stopping = True
        self._wake.set()
        if self._writer.ident is not None:
            self._writer.join()
            self._compactor.join()
        if self.failure is not None:
            raise self.failure

    def scrap(self) -> None:
        """Throw away what was not even started."""
        assert self._writer.ident is None
        self._journal.path.unlink()
        self._journal.close()
        if self._made_folder:
            with contextlib.suppress(OSError):
                self.folder.rmdir()

    def abandon(self) -> None:
        """Do not finish recordings any more; the journals stay, and `harness recover` finishes them later."""
        self._abandoned.set()

    # --- The writing thread ---

    def _write_forever(self) -> None:
        try:
            while not self._stopping:
                pause_s = (
                    (self._sync_due_ns - clock.steady_ns()) / clock.NS_PER_S if self._unsynced else self._interval_s
                )
                self._wake.wait(max(pause_s, 0))
                self._wake.clear()
                self._beat()
            self._last_beat()
        except BaseException as problem:
            self.failure = problem
            log.exception("The journal cannot be written any more")
            self._on_pressure(True)
            self._on_beat()
        finally:
            self._closed.put(self._journal)
            self._closed.put(None)

    def _beat(self) -> None:
        with self._lock:
            items, self._pending = self._pending, []
            size, self._pending_bytes = self._pending_bytes, 0
        now = clock.steady_ns()
        frames = self.sieve.take(items, now)
        if frames or self._unsynced:
            self._store(frames, size)
        if self._rotation.is_due(now, self._journal.size_bytes) and self._journal.frame_count and not self._stopping:
            self._rotate()
        if self._pressed and not self.disk_problem:
            self._pressed = False
            self._on_pressure(False)
        self._on_beat()

    def _store(self, frames: list[Run | Frame], size: int) -> None:
        waiting, deadline_ns = frames, 0
        while True:
            try:
                if not self._trusted:
                    self._restart()
                    waiting, self._unsynced, self._trusted = [*self._unsynced, *waiting], [], True
                if waiting:
                    self._journal.append(waiting)
                    self._unsynced += waiting
                    waiting = []
                if self._must_sync(size):
                    self._sync()
            except (OSError, RecordingError) as problem:
                self._refused(problem)
                now = clock.steady_ns()
                deadline_ns = deadline_ns or now + int(STOP_PATIENCE_S * clock.NS_PER_S)
                if self._stopping and now > deadline_ns:
                    lost = _count(waiting) + (0 if self._trusted else _count(self._unsynced))
                    words = f"the disk refuses ({self.disk_problem}): the last {lost} frames are lost"
                    raise RecordingError(self._journal.path, f"{words}, all before are in the journal") from problem
                self._nap()
                continue
            self._accepted(frames, size)
            return

    def _must_sync(self, size: int) -> bool:
        self._unsynced_bytes += size
        due = clock.steady_ns() >= self._sync_due_ns or self._unsynced_bytes >= UNSYNCED_BYTES_MAX
        return bool(self._unsynced) and (due or self._stopping)

    def _sync(self) -> None:
        # After a failed sync the kernel may have dropped the pages, and a second sync of the same file
        # would say that all is well. So what is not durable is kept, and then goes to a new file.
        self._trusted = False
        self._journal.sync()
        self._trusted = True
        self._synced_bytes = self._journal.size_bytes
        self._unsynced = []
        self._unsynced_bytes = 0
        self._sync_due_ns = clock.steady_ns() + int(self._interval_s * clock.NS_PER_S)

    def _restart(self) -> None:
        durable = self._synced_bytes
        fresh = self._begin()
        with contextlib.suppress(OSError):
            os.ftruncate(self._journal.descriptor, durable)
        self._closed.put(self._journal)
        self._journal = fresh

    def _refused(self, problem: OSError | RecordingError) -> None:
        words = getattr(problem, "strerror", None) or str(problem)
        if self.disk_problem != words:
            self.disk_problem = words
            log.warning("The disk refuses (%s): frames wait in memory, then the exchange is not read any more", words)
        if not self._pressed:
            self._pressed = True
            self._on_pressure(True)

    def _accepted(self, frames: list[Run | Frame], size: int) -> None:
        if self.disk_problem:
            log.warning("The disk takes frames again after: %s", self.disk_problem)
            self.disk_problem = ""
        self.frame_count += _count(frames)
        self.payload_bytes += size
        self.bytes_per_frame = self._journal.size_bytes / max(self._journal.frame_count, 1)

    def _nap(self) -> None:
        self._on_beat()
        self._wake.wait(RETRY_S if not self._stopping else RETRY_S / 5)
        if not self._stopping:
            self._wake.clear()

    def _rotate(self) -> None:
        try:
            self._sync()
            fresh = self._begin()
        except (OSError, RecordingError) as problem:
            log.warning("No new journal can be begun, the old one goes on: %s", problem)
            return
        self._closed.put(self._journal)
        self._journal = fresh

    def _last_beat(self) -> None:
        while self._pending or self._unsynced:
            self._beat()
        self._on_beat()

    def _begin(self) -> Journal:
        wall, now = clock.wall_ns(), clock.steady_ns()
        while True:
            target = free_name(self.folder, self._name(wall), self._used)
            self._used.add(target)
            path = self.folder / (target + SUFFIX)
            words = {"target": target, "identity": uuid.uuid4().hex, "started_at_ns": wall}
            try:
                journal = Journal(path, msgspec.structs.replace(self._header, **words))
            except JournalTaken:
                continue  # another recorder took the name between our look and our attempt
            self._rotation.start(wall, now)
            self._synced_bytes = journal.size_bytes
            return journal

    # --- The compacting thread ---

    def _compact_forever(self) -> None:
        while (journal := self._closed.get()) is not None:
            try:
                if self._abandoned.is_set():
                    self.left_behind.append(journal.path)
                    continue
                done = compact(journal.path, is_abandoned=self._abandoned.is_set)
                self.paths += done
                for path in done:
                    if self._deliver:
                        self._deliver(path)
            except (RecordingError, OSError) as problem:
                log.warning(
                    "%s stays for later, `harness recover %s` finishes it: %s", journal.path.name, self.folder, problem
                )
                self.left_behind.append(journal.path)
            except Exception:
                # The frames are safe in the journal; the recorder goes on.
                log.exception("%s could not be turned into a recording", journal.path.name)
                self.left_behind.append(journal.path)
            finally:
                with contextlib.suppress(OSError):
                    journal.close()


def free_name(folder: Path, name: str, used: Collection[str] = ()) -> str:
    """A file name that neither a recording nor a journal in the folder has, and that was not used before."""
    path = Path(name)
    number = 1
    while name in used or (folder / name).exists() or (folder / (name + SUFFIX)).exists():
        number += 1
        name = f"{path.stem}-{number}{path.suffix}"
    return name


def _count(items: list[Run | Frame]) -> int:
    return sum(len(item) if type(item) is Run else 1 for item in items)
