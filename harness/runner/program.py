"""Running any program with the real hosts redirected: to the exchange, or through the recording proxy.

The redirect goes by environment and leaves a mark in each process that it took in. A program that
leaves none within a while may be talking to the real exchange: it is ended, and that is said.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import msgspec

from harness.errors import UsageError
from harness.ledger import Answered, Attempted, Closed, Ledger, Opened, Sent, Struck, Upgraded
from harness.redirect import ChildRedirect, clean
from harness.redirect.hosts import only_real_hosts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.redirect.hook import Gate

POLL_S = 0.02


class ProgramResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a program fared."""

    code: int
    """Its exit code; that of a shell (128 + signal) when a signal ended it."""
    took: dict[int, str]
    """Processes in which the redirect took."""
    ended_by_us: bool = False
    """It left no mark, and was ended."""


def run_program(
    command: Sequence[str],
    gate: Gate,
    cafile: str | None,
    *,
    ports: Mapping[int, int],
    patience_s: float,
    clock: Callable[[], float] = time.perf_counter,
) -> ProgramResult:
    """
    Run a program to its end, redirected.

    Args:
        command: program and arguments.
        gate: where to dial for a host and port.
        cafile: the CA that it must trust.
        ports: for node, see `ChildRedirect`.
        patience_s: how long it may go without a mark.
        clock: seconds that never step back.

    Raises:
        UsageError: it cannot be started.
    """
    with ChildRedirect(only_real_hosts(gate), cafile, ports) as redirect:
        environment = {**clean(os.environ), **redirect.environment()}
        try:
            process = subprocess.Popen(list(command), env=environment)
        except OSError as problem:
            raise UsageError(f"cannot run {command[0]}: {problem.strerror or problem}") from problem
        handlers = _forward_signals(process)
        try:
            unmarked_until = clock() + patience_s
            while process.poll() is None:
                if not redirect.taken_by() and clock() > unmarked_until:
                    _end(process)
                    return ProgramResult(code=_code(process), took={}, ended_by_us=True)
                time.sleep(POLL_S)
            return ProgramResult(code=_code(process), took=redirect.taken_by())
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            if process.poll() is None:
                _end(process)


def describe(ledger: Ledger) -> list[str]:
    """What the exchange saw of a program, a line each."""
    entries = list(ledger)
    opened = [e for e in entries if isinstance(e, Opened) and e.connection > 0]
    upgraded = [e for e in entries if isinstance(e, Upgraded)]
    sent = sum(e.last - e.first for e in entries if isinstance(e, Sent))
    rest = sum(isinstance(e, Answered) for e in entries)
    struck = [e.text for e in entries if isinstance(e, Struck)]
    lines = [f"{len(opened)} connections, {len(upgraded)} upgraded, {sent} frames sent, {rest} REST requests answered"]
    failed = [e for e in entries if isinstance(e, Attempted) and e.outcome != "ok"]
    lines += [f"{len(failed)} dials failed ({failed[0].outcome})"] if failed else []
    lines += [f"fault struck: {text}" for text in dict.fromkeys(struck)]
    lines += [
        f"connection {e.connection} ended by the {e.by} ({e.how}{f' {e.code}' if e.code is not None else ''})"
        for e in entries
        if isinstance(e, Closed) and e.connection > 0
    ][:10]
    return lines


def _forward_signals(process: subprocess.Popen[bytes]) -> dict[int, Any]:
    # Ctrl-C reaches the whole group anyway; a polite kill of ours alone must reach the program too.
    def forward(number: int, _: object) -> None:
        if process.poll() is None:
            process.send_signal(number)

    return {
        signal.SIGTERM: signal.signal(signal.SIGTERM, forward),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _code(process: subprocess.Popen[bytes]) -> int:
    code = process.returncode
    return 128 - code if code < 0 else code
