"""The `exchange` fixture: the live exchange on a thread of its own, the real hosts redirected to it, and its judge."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from harness.clock import NS_PER_S, monotonic_ns, parse_duration_ns
from harness.errors import SubjectError, UsageError
from harness.exchange.settings import MAX, ExchangeSettings, parse_speed
from harness.faults.plan import Plan, parse_fault
from harness.ledger import Ledger, Opened
from harness.pytest_plugin import recordings, setting
from harness.recording import load_timeline
from harness.redirect import Redirect
from harness.redirect.hosts import only_real_hosts
from harness.script import check
from harness.subjects import HealthPoller, Speech, Tap, TaskWatch, health_names
from harness.subjects.loading import no_tap, usual_tap
from harness.transports.live import LiveExchange
from harness.verdict import Question, Tape, Verdict, judge, settled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.ledger import AnyEntry
    from harness.timeline import Timeline

STREAMS = "wss://stream.binance.com:9443"
REST = "https://api.binance.com"
RECORDED = "recorded; run again to judge"
OURS = ("harness-",)
POLL_S = 0.05
LOOK_S = 0.2
NOT_SUBJECTS = frozenset(
    {"harness", "asyncio", "threading", "multiprocessing", "concurrent", "_pytest", "pytest", "unittest"}
)
"""Top-level packages whose objects have a `start` and are nobody's subject."""


class PlayedExchange:
    """
    An exchange that plays one recording to one test.

    Attributes:
        timeline: the tape.
        ledger: everything that happened, in order.
        tell: takes each verdict in words.
        urls: `ws`, `http`, `wss`, `https` and `cafile`, for clients that take an address; the real hosts' names lead
            here too, so code that hard-codes them needs none of these.
    """

    def __init__(self, live: LiveExchange, timeline: Timeline, ledger: Ledger, asked: recordings.Wanted) -> None:
        self.live = live
        self.asked = asked
        self.taps: dict[int, tuple[Any, Tap, list[AnyEntry]]] = {}
        self.tasks: TaskWatch | None = None
        self.timeline = timeline
        self.ledger = ledger
        self.urls = live.urls
        self.started_ns = monotonic_ns()
        self.tell: Callable[[str], None] = lambda _: None

    @property
    def url(self) -> str:
        """`ws://127.0.0.1:PORT`."""
        return str(self.urls["ws"])

    def watch(self, subject: Any) -> None:
        """
        Watch where a subject takes trades.

        `judge` does so by itself; call this before `start()` where the subject keeps its objects out of reach.

        Raises:
            SubjectError: no tap was found.
        """
        if id(subject) in self.taps:
            return
        entries: list[AnyEntry] = []
        tap = Tap(entries.append, self.asked.tap)
        if not tap.attach(subject):
            raise SubjectError(no_tap(type(subject).__name__, self.asked.tap, "in the marker, tap='path.to.method'"))
        self.taps[id(subject)] = (subject, tap, entries)

    async def judge(self, subject: Any) -> Verdict:
        """
        Wait until the tape has ended and every incident is resolved, announced or past the deadline; then judge.

        Args:
            subject: what was started; it keeps running meanwhile, and is the caller's to stop.

        Returns:
            The verdict; its `str` is the findings in words, which makes it a good assertion message.
        """
        watch = _Watch(self, subject)
        while not watch.done():  # noqa: ASYNC110 - what we wait for happens on other threads
            await asyncio.sleep(POLL_S)
        return watch.verdict()

    def judge_blocking(self, subject: Any) -> Verdict:
        """The same for a test that is no coroutine: the subject must run on a thread or loop of its own."""
        watch = _Watch(self, subject)
        while not watch.done():
            time.sleep(POLL_S)
        return watch.verdict()

    def first_client(self) -> None:
        """Look for subjects, before the first of them gets its first frame."""
        # A test hands its subject over to judge() after start(), when trades may flow already. So at the first
        # connection, before the first frame, we look for whatever has a tap and watch it.
        for candidate in gc.get_objects():
            kind = type(candidate)
            if not callable(getattr(kind, "start", None)) or _package(kind) in NOT_SUBJECTS | set(
                sys.stdlib_module_names
            ):
                continue
            try:
                if usual_tap(candidate) and id(candidate) not in self.taps:
                    self.watch(candidate)
            except Exception:  # noqa: S112 - somebody's object that does not like to be looked at is no subject
                continue


def _package(kind: type) -> str:
    return str(kind.__module__).partition(".")[0]


class _Watch:
    """Waits for the end of a run, and judges it."""

    def __init__(self, played: PlayedExchange, subject: Any) -> None:
        played.watch(subject)
        self._played = played
        self._subject, self._tap, self._entries = played.taps[id(subject)]
        self._health = HealthPoller(self._entries.append, played.tasks.running_loop if played.tasks else None)
        self._next_look = 0.0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._poll_health, name="harness-health", daemon=True)
        self._thread.start()

    def _poll_health(self) -> None:
        while not self._closing.wait(POLL_S):
            self._health.poll(self._subject, health_names(self._subject))

    def done(self) -> bool:
        """Whether nothing more can change the verdict."""
        self._tap.poll()
        if monotonic_ns() < self._ends_ns() or time.perf_counter() < self._next_look:
            return False
        began = time.perf_counter()
        over = settled(self._tape(), self._all(), self._question(), None)
        self._next_look = time.perf_counter() + max(LOOK_S, 4 * (time.perf_counter() - began))
        return over

    def verdict(self) -> Verdict:
        """The judgement."""
        self._closing.set()
        self._thread.join(1.0)
        if self._played.tasks is not None:
            self._played.tasks.note(self._played.started_ns)
        found = judge(self._tape(), self._all(), self._question(), None)
        self._played.tell(str(found))
        return found

    def _ends_ns(self) -> int:
        exchange = self._played.live.exchange
        begun = exchange.started_ns if exchange.started_ns is not None else self._played.started_ns
        speed = self._speed()
        return begun + (int(exchange.timeline.length_ns / speed) if speed else 0)

    def _speed(self) -> float:
        speed = parse_speed(str(self._played.asked.speed))
        return 0.0 if speed == MAX else speed

    def _tape(self) -> Tape:
        return Tape(self._played.live.exchange.timeline)

    def _all(self) -> list[AnyEntry]:
        return sorted([*self._played.ledger, *self._entries], key=lambda entry: entry.at_ns)

    def _question(self) -> Question:
        asked = self._played.asked
        streams = self._played.timeline.streams
        symbols = asked.symbols or tuple(name.partition("@")[0] for name in streams if name.endswith("@aggTrade"))
        return Question(
            symbols=tuple(symbol.upper() for symbol in symbols),
            deadline_ns=parse_duration_ns(asked.deadline),
            started_ns=self._played.started_ns,
            closed_ns=monotonic_ns(),
            clock_ns=self._played.live.exchange.started_ns,
            speed=self._speed(),
            host="host.await",
            faults=tuple(parse_fault(text).name for text in asked.faults),
            negative_control=False,
        )


class RecordedExchange:
    """
    Stands in for `PlayedExchange` while a recording is made: the real exchange, and no faults.

    Args:
        length_ns: how long `judge` waits, in nanoseconds of real time.
        cafile: authority of the proxy in between; clients that take none trust it anyway.

    Attributes:
        urls: the keys of `PlayedExchange.urls`, all with the real spot exchange's addresses, which speak TLS only.
    """

    def __init__(self, length_ns: int, cafile: str) -> None:
        self._length_ns = length_ns
        self.urls = {"ws": STREAMS, "wss": STREAMS, "http": REST, "https": REST, "cafile": cafile}

    @property
    def url(self) -> str:
        """Where the real exchange's streams are."""
        return STREAMS

    @property
    def timeline(self) -> Timeline:
        """There is none yet: the test is skipped from here on."""
        pytest.skip(RECORDED)

    @property
    def ledger(self) -> Ledger:
        """There is none: the test is skipped from here on."""
        pytest.skip(RECORDED)

    async def judge(self, _: Any) -> Verdict:
        """Wait while the recording grows. There is nothing to judge by yet, so this passes."""
        await asyncio.sleep(self._length_ns / NS_PER_S)
        return Verdict(outcome="intact", reason=RECORDED)

    def judge_blocking(self, _: Any) -> Verdict:
        """The same for a test that is no coroutine."""
        time.sleep(self._length_ns / NS_PER_S)
        return Verdict(outcome="intact", reason=RECORDED)

    def watch(self, _: Any) -> None:
        """Nothing to watch for."""


@contextmanager
def played(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Play, or record, what the marker of a test names."""
    asked = recordings.wanted(request)
    place = recordings.must_record(setting(request.config, "record_mode", "none"), asked.path, asked.symbols)
    if place is not None:
        with recordings.recorded(place) as cafile:
            yield RecordedExchange(recordings.length_ns(request.config), cafile)
        return
    plan = Plan(tuple(parse_fault(text, "@pytest.mark.recording") for text in asked.faults), asked.seed)
    if any(fault.layer == "host" for fault in plan.faults):
        raise UsageError("@pytest.mark.recording: a test is its own host; host.* faults are for harness_run")
    timeline = load_timeline(recordings.episodes(asked.path), asked.symbols)
    check(plan, timeline)  # a fault that never strikes would pass for one that was survived
    parse_duration_ns(asked.deadline)  # a mistake in it is one before the test, not after the tape
    ledger = Ledger(monotonic_ns())
    settings = ExchangeSettings(
        speed=parse_speed(str(asked.speed)),
        retime=asked.retime,
        seed=asked.seed,
    )
    box: list[PlayedExchange] = []

    def write(entry: AnyEntry) -> None:
        if isinstance(entry, Opened) and entry.connection == 1 and box:
            box[0].first_client()
        ledger.write(entry)

    with (
        LiveExchange(timeline, plan, settings=settings, write=write, tls=True) as live,
        Redirect(only_real_hosts(live.gate), str(live.cafile)),
        Speech(ledger.write, ignored_threads=OURS, echo=True),
        TaskWatch(ledger.write, ignored_threads=OURS) as tasks,
    ):
        box.append(PlayedExchange(live, timeline, ledger, asked))
        box[0].tasks = tasks
        # Under a test that fails stands the whole verdict, whatever the assertion shows of it.
        box[0].tell = partial(request.node.add_report_section, "call", "harness")
        yield box[0]
