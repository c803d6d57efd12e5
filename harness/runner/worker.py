"""One run in a process of its own: `python -m harness.runner.worker JOB`.

    main thread      the subject, under its host
    harness-exchange the exchange, on its own loop
    harness-poller   tap containers, blocked loops, sizes
    harness-health   health (which may hang)
    harness-judge    decides when the run is over, writes the ledger and the verdict, ends the process

The judge ends the process by `os._exit`, whatever the subject's threads and loops are doing: a
subject that cannot be stopped must not keep its judge from speaking.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from harness import hosts
from harness.checks import Case, Tape
from harness.checks.case import LOOK_UP
from harness.clock import NS_PER_S, monotonic_ns
from harness.errors import HarnessBug, HarnessError, SubjectError
from harness.exchange.settings import MAX, ExchangeSettings
from harness.faults.plan import Plan, parse_fault
from harness.hosts.base import awaited
from harness.ledger import Accepted, Beat, Changed, Closed, Exited, Ledger, MetricsRead, Noted, Opened, Sent
from harness.recording import load_timeline
from harness.redirect import Redirect
from harness.redirect.hosts import only_real_hosts
from harness.runner.results import Job, Moved, NoiseFile, RunResult, Setting
from harness.runner.ride import LEAVING_S, SubjectRide
from harness.runner.unmet import unmet
from harness.script import check
from harness.subjects import HealthPoller, Speech, Tap, TaskWatch, health_names
from harness.subjects import sizes as container_sizes
from harness.subjects.figures import Figures
from harness.subjects.loading import no_tap
from harness.subjects.swallowed import Swallowed
from harness.transports.live import LiveExchange
from harness.transports.sim import Simulation
from harness.verdict import Noise, Question, judge, noise_of, settled, unjudged

if TYPE_CHECKING:
    from harness.ledger import AnyEntry
    from harness.redirect.hook import Gate
    from harness.scenario import Scenario
    from harness.timeline import Timeline
    from harness.transports.sim import SimExchange

OURS = ("harness-",)
TURN_S = 0.1
POLL_S = 0.02
HEALTH_S = 0.1
SIZES_S = 1.0
LOOK_S = 0.2
"""Pause between two looks at whether the run is over."""
QUIET_LOOK_S = 1.0
"""The same while nothing happens. Looking is most of what a run costs that waits for a deadline."""
FIGURES_S = 0.25
UNSEEN_END = frozenset({"tcp.timeout", "tcp.blackhole_up", "tcp.server_not_reading"})
"""Faults under which the exchange cannot see that the subject has closed its side."""
STOP_LIMIT_S = 15.0
"""A longer stop() hangs: the clients we know give up a closing handshake after 10 s, and end the connection then."""
BEGIN_LIMIT_S = 30.0
MARKS = 200


def main() -> None:
    """Run one job."""
    job = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Job)
    threading.current_thread().name = "MainThread"
    worker = Worker(job)
    try:
        worker.run()
    except HarnessError as problem:
        worker.give_up(str(problem), fatal=not isinstance(problem, HarnessBug))
    except BaseException as problem:
        worker.give_up("".join(traceback.format_exception(problem))[-2000:], fatal=True)


class Worker:
    """
    One run.

    Args:
        job: what to run and where to write.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.scenario: Scenario = job.scenario
        self.ledger = Ledger(monotonic_ns())
        self.setting = Setting()
        self._written = 0
        self._file = Path(job.ledger).open("ab", buffering=0)  # noqa: SIM115 - it lives as long as the process
        self._moved = False
        self._cached: Tape | None = None
        self._began_s = os.times().elapsed  # the one clock that no simulation moves
        self.simulation: Simulation | None = None
        self._ended = threading.Lock()

    # --- The stages, in order -------------------------------------------------------------------------

    def run(self) -> None:
        """Set the stage and run the subject on this thread; the judge's thread ends the process."""
        scenario = self.scenario
        timeline = load_timeline(list(scenario.recordings)).clipped(scenario.duration_ns)
        held = symbols_of(timeline)
        if not held:
            raise SubjectError(f"{', '.join(scenario.recordings)}: no aggTrade in it, so there is nothing to judge")
        symbols = scenario.symbols or held
        if not {symbol.upper() for symbol in symbols} & {symbol.upper() for symbol in held}:
            raise SubjectError(
                f"{', '.join(scenario.recordings)}: no trade of {', '.join(symbols)} in it; it holds {', '.join(held)}"
            )
        plan = self.plan = Plan(tuple(parse_fault(text) for text in scenario.faults), scenario.seed)
        check(plan, timeline)  # a fault that never strikes would pass for one that was survived
        host = hosts.find(scenario.host_kind)
        settings = ExchangeSettings(speed=scenario.speed or MAX, retime=scenario.retime, seed=scenario.seed)
        live = self._exchange(timeline, plan, settings)
        self.live = live
        with live:
            ports = {
                port: port_of(live, "ws") if port in (80, 8080) else port_of(live, "wss")
                for port in (80, 443, 8080, 9443)
            }
            gate = only_real_hosts(self._noting(live.gate))
            with Redirect(gate, str(live.cafile), children=self.simulation is None, ports=ports):
                self._run_subject(host, symbols, timeline)

    def _noting(self, gate: Gate) -> Gate:
        # A look-up that takes for ever is an attempt that the exchange never gets to see.
        def noting(name: str, port: int) -> tuple[str, int]:
            self.ledger.write(Noted(at_ns=monotonic_ns(), what=LOOK_UP, text=f"{name}:{port}"))
            return gate(name, port)

        return noting

    def _exchange(self, timeline: Timeline, plan: Plan, settings: ExchangeSettings) -> LiveExchange | SimExchange:
        if self.scenario.mode == "live":
            return LiveExchange(timeline, plan, settings=settings, write=self.ledger.write, tls=True)
        self.simulation = Simulation(seed=self.scenario.seed)
        live = self.simulation.begin(timeline, plan, settings=settings, write=self.ledger.write)
        self.ledger.origin_ns = monotonic_ns()
        return live

    def _run_subject(self, host: Any, symbols: tuple[str, ...], timeline: Timeline) -> None:
        scenario = self.scenario
        with (
            Speech(self.ledger.write, ignored_threads=OURS, echo=self.job.verbose),
            TaskWatch(self.ledger.write, ignored_threads=OURS) as self.tasks,
            Swallowed(self.ledger.write, ignored_threads=OURS) as self.swallowed,
        ):
            self.tap = Tap(self.ledger.write, scenario.tap)
            self.health = HealthPoller(self.ledger.write, self.tasks.running_loop)
            self.ride = SubjectRide(
                scenario.subject,
                scenario.path,
                symbols=tuple(symbol.lower() for symbol in symbols),
                write=self.ledger.write,
                tap=self.tap,
                tasks=self.tasks,
                tap_path=scenario.tap,
                settings=parse_fault(scenario.host).fault,
            )
            anatomy = self.ride.anatomy
            self.setting = Setting(
                tap=self.tap.found or anatomy.tap,
                health=anatomy.health,
                start=anatomy.start,
                stop=anatomy.stop,
                symbols=tuple(symbol.upper() for symbol in symbols),
                frames=len(timeline),
                trades=int((timeline.trade_ids >= 0).sum()),
                length_ns=timeline.length_ns,
            )
            self._guard_exit()
            for name, target in (("judge", self._judge), ("poller", self._poll), ("health", self._poll_health)):
                threading.Thread(target=target, name=f"harness-{name}", daemon=True).start()
            self._host(host)
            threading.Event().wait()  # the judge ends the process

    def _host(self, host: Any) -> None:
        try:
            host.run(self.ride)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
            self.ledger.write(Exited(at_ns=monotonic_ns(), code=code))
        except BaseException as problem:
            self.ride.failed("host", problem)
            self.ledger.write(Exited(at_ns=monotonic_ns(), code=1))
        if not self.ride.over.is_set():
            self.ride.say("the program around the subject ended")

    def _guard_exit(self) -> None:
        self._exit, ours = os._exit, os.getpid()

        def note_exit(code: int) -> None:
            if os.getpid() != ours:
                self._exit(code)  # a child that was forked off, as multiprocessing does, ends as it should
            # The subject ends the process: the judge must outlive that to say so.
            self.ledger.write(Exited(at_ns=monotonic_ns(), code=code))
            threading.Event().wait()

        os._exit = note_exit  # type: ignore[assignment] # put back by nobody: the process ends through us

    # --- Watching -----------------------------------------------------------------------------------

    def _poll(self) -> None:
        next_sizes = next_attach = next_figures = 0.0
        figures = Figures(self.ledger.write, self.setting.symbols)
        while True:
            time.sleep(POLL_S)
            now = time.perf_counter()
            try:
                self.tap.poll()
                subject = self.ride.subject
                if subject is None or self.ride.over.is_set():
                    continue
                if now >= next_attach:
                    next_attach = now + 0.05
                    self.tap.attach(subject)
                    self.tasks.poll()
                if now >= next_figures and self.ride.begun.is_set():
                    began = time.perf_counter()
                    figures.poll(subject)
                    # A subject that scans its history for each answer must not lose its time to us.
                    next_figures = now + max(FIGURES_S, 20 * (time.perf_counter() - began))
                if now >= next_sizes:
                    next_sizes = now + SIZES_S
                    container_sizes.poll(subject, self.ledger.write)
                del subject
            except Exception as problem:
                # The subject's own objects may raise when looked at in the wrong moment.
                self.ledger.write(Noted(at_ns=monotonic_ns(), what="poller", text=repr(problem)[:200]))
                time.sleep(1)

    def _poll_health(self) -> None:
        while not self.ride.over.is_set():
            subject = self.ride.subject
            if subject is not None and self.ride.begun.is_set():
                self.health.poll(subject, health_names(subject))
            del subject
            time.sleep(HEALTH_S)

    # --- Judging --------------------------------------------------------------------------------------

    def _judge(self) -> None:
        try:
            if not self.ride.begun.wait(BEGIN_LIMIT_S):
                self.give_up("the host never called start()", fatal=True)
            self._wait_until_settled()
            self._close()
        except BaseException as problem:
            self.give_up("".join(traceback.format_exception(problem))[-2000:], fatal=False)

    def _wait_until_settled(self) -> None:
        next_look = 0.0
        pause_s = LOOK_S
        known, waiting = 0, True
        while True:
            time.sleep(TURN_S)
            self._flush()
            now_ns = monotonic_ns()
            if now_ns < self._tape_ends_ns() or time.perf_counter() < next_look:
                continue
            waited = waiting
            noise, waiting = self._noise()
            fresh = self.ledger.since(known)
            known += len(fresh)
            began = time.perf_counter()
            if settled(self._tape(), list(self.ledger), self._question(now_ns), None if waiting else noise):
                return
            if self.simulation is None:
                # When nothing happens, time alone decides, and that is a matter of seconds.
                quiet = waited == waiting and all(isinstance(entry, (Beat, MetricsRead)) for entry in fresh)
                pause_s = QUIET_LOOK_S if quiet else LOOK_S
                next_look = time.perf_counter() + max(pause_s, 4 * (time.perf_counter() - began))
                continue
            # Looking takes no virtual time, but real one: ever less often, up to a twelfth of the deadline.
            pause_s = min(1.3 * pause_s, max(0.5, self.scenario.deadline_ns / NS_PER_S / 12))
            next_look = time.perf_counter() + pause_s

    def _tape_ends_ns(self) -> int:
        exchange = self.live.exchange
        length_ns = exchange.timeline.length_ns
        begun_ns = exchange.started_ns if exchange.started_ns is not None else self.ride.started_ns
        return begun_ns + (int(length_ns / self.scenario.speed) if self.scenario.speed else 0)

    def _tape(self) -> Tape:
        timeline = self.live.exchange.timeline
        if self._cached is None or self._cached.timeline is not timeline:
            self._cached = Tape(timeline)
        return self._cached

    def _question(self, closed_ns: int) -> Question:
        return Question(
            symbols=self.setting.symbols,
            deadline_ns=self.scenario.deadline_ns,
            started_ns=self.ride.started_ns,
            closed_ns=closed_ns,
            clock_ns=self.live.exchange.started_ns,
            speed=self.scenario.speed,
            host=self.scenario.host_kind,
            faults=tuple(parse_fault(text).name for text in self.scenario.faults),
            negative_control=self.job.negative_control,
        )

    def _noise(self) -> tuple[Noise | None, bool]:
        # What the run without faults said, and whether that run is still going on.
        if self.job.noise is None:
            return None, False
        path = Path(self.job.noise)
        if not path.exists():
            return None, True
        return msgspec.json.decode(path.read_bytes(), type=NoiseFile) or Noise(), False

    def _close(self) -> None:
        self.tap.poll()
        self.tasks.note(self.ride.started_ns)
        self.swallowed.note()
        subject = self.ride.subject
        if subject is not None:
            container_sizes.poll(subject, self.ledger.write)
        del subject
        closed_ns = monotonic_ns()
        self._stop_subject()
        if self.simulation is None:
            # What the interpreter says of tasks that nobody kept or awaited: evidence, after the observation.
            gc.collect()
        self._flush()
        if not self.tap.found and self.ride.anatomy.start:
            self.give_up(
                no_tap(self.scenario.subject, self.scenario.tap, "with --tap PATH"),
                fatal=True,
            )
        self.live.raise_bugs()
        if self.simulation is not None and self.simulation.world.fences:
            self.give_up(self.simulation.world.fences[0], fatal=True)
        noise, _ = self._noise()
        entries = list(self.ledger)
        question = self._question(closed_ns)
        verdict = judge(self._tape(), entries, question, noise)
        if verdict.outcome == "unjudged":
            self.give_up(verdict.reason, fatal=True)
        own = None
        if self.scenario.is_plain and verdict.intact:
            own = noise_of(Case(self._tape(), entries, question))
        self._end(
            RunResult(
                scenario=self.scenario,
                verdict=verdict,
                setting=msgspec.structs.replace(
                    self.setting,
                    tap=self.tap.found,
                    health=tuple(dict.fromkeys((*self.setting.health, *self.health.names))),
                    started_ns=self.ride.started_ns,
                ),
                unmet=unmet(self.plan, entries),
                digest=self.ledger.digest(with_time=self.simulation is not None),
                wall_s=round(os.times().elapsed - self._began_s, 3),
                noise=own,
                marks=marks(entries, question),
            )
        )

    def _stop_subject(self) -> None:
        self.ride.over.set()
        if self.scenario.host_kind not in hosts.SOUND or any(isinstance(e, Exited) for e in self.ledger):
            return  # how to stop under a host that is broken is not the subject's problem
        if not self.ride.start_returned:
            # start() still holds its thread, as `run_forever()` does: stop() comes from another one.
            threading.Thread(target=self._stop_from_outside, name="stop", daemon=True).start()
        limit_ns = monotonic_ns() + int(STOP_LIMIT_S * NS_PER_S)
        if not self.ride.finished.wait(STOP_LIMIT_S):
            place = self.tasks.main_place()
            text = f"stop() did not return within {STOP_LIMIT_S:.0f} s{f': {place}' if place else ''}"
            if self.setting.stop:
                self.ledger.write(Noted(at_ns=limit_ns, what="stop hung", text=text))
        elif self.setting.stop and not any(text.startswith(("tcp.", "tls.", "ws.")) for text in self.scenario.faults):
            # Under those faults the exchange may be unable to see that a connection was closed.
            self._note_open_connections()

    def _stop_from_outside(self) -> None:
        self.ride.stopping()
        try:
            result, loop = self.ride.stop(), self.tasks.running_loop()
            if result is not None and loop is not None:
                # An asynchronous stop() runs where the subject does.
                asyncio.run_coroutine_threadsafe(awaited(result), loop).result(STOP_LIMIT_S)
            elif result is not None:
                asyncio.run(awaited(result))
        except (Exception, asyncio.CancelledError) as problem:
            self.ride.failed("stop", problem)
        time.sleep(1.0)
        self.ride.stopped()

    def _note_open_connections(self) -> None:
        if {parse_fault(text).name for text in self.scenario.faults} & UNSEEN_END:
            return
        until = time.perf_counter() + LEAVING_S
        while (left := self._open_connections()) and time.perf_counter() < until:
            time.sleep(TURN_S)  # a farewell may still be on its way
        for number in left:
            text = f"connection {number} was still open"
            self.ledger.write(Noted(at_ns=monotonic_ns(), what="left behind", text=text))

    def _open_connections(self) -> list[int]:
        closed = {entry.connection for entry in self.ledger if isinstance(entry, Closed)}
        opened = [entry.connection for entry in self.ledger if isinstance(entry, Opened) and entry.connection > 0]
        return [number for number in opened if number not in closed]

    # --- Files ----------------------------------------------------------------------------------------

    def _flush(self) -> None:
        exchange = self.live.exchange
        if exchange.started_ns is not None and not self._moved:
            self._moved = True
            offset_ms = exchange.timeline.start_ms - exchange.recorded.start_ms
            self._line(b"#", Moved(clock_ns=exchange.started_ns, offset_ms=offset_ms))
        if not self._written:
            self._line(b"#", msgspec.structs.replace(self.setting, started_ns=self.ride.started_ns))
        fresh: list[AnyEntry] = self.ledger.since(self._written)
        self._written += len(fresh)
        if fresh:
            self._file.write(b"".join(msgspec.json.encode(entry) + b"\n" for entry in fresh))

    def _line(self, sign: bytes, value: msgspec.Struct) -> None:
        self._file.write(sign + msgspec.json.encode(value) + b"\n")

    def give_up(self, reason: str, *, fatal: bool) -> None:
        """End without a judgement."""
        self._end(RunResult(scenario=self.scenario, verdict=unjudged(reason), setting=self.setting, fatal=fatal))

    def _end(self, result: RunResult) -> None:
        with self._ended:
            part = Path(self.job.result + ".part")
            part.write_bytes(msgspec.json.encode(result))
            part.replace(self.job.result)
            getattr(self, "_exit", os._exit)(0)


def port_of(live: LiveExchange | SimExchange, name: str) -> int:
    """The port of one of the exchange's URLs."""
    return int((live.urls[name] or ":0").rpartition(":")[2])


def symbols_of(timeline: Timeline) -> tuple[str, ...]:
    """The symbols whose trades a timeline has, in order of their streams."""
    return tuple(symbol for symbol in dict.fromkeys(Tape(timeline).symbols) if symbol)


def marks(entries: list[AnyEntry], question: Question) -> tuple[tuple[float, int, int], ...]:
    """Trades sent and accepted over time, at so many moments, for drawing."""
    span_ns = max(question.closed_ns - question.started_ns, 1)
    sent, accepted, found, slot = 0, 0, [], 0
    for entry in sorted(entries, key=lambda e: e.at_ns):
        if entry.at_ns > question.closed_ns:
            break
        while (at := question.started_ns + slot * span_ns // MARKS) < entry.at_ns and slot <= MARKS:
            found.append((round((at - question.started_ns) / NS_PER_S, 3), sent, accepted))
            slot += 1
        if isinstance(entry, Sent):
            sent += entry.last - entry.first
        sent += isinstance(entry, Changed)
        accepted += isinstance(entry, Accepted)
    found.append((round(span_ns / NS_PER_S, 3), sent, accepted))
    return tuple(found)


if __name__ == "__main__":
    main()
