"""One declarative run: everything that decides how it goes, as plain values."""

from __future__ import annotations

import shlex
from typing import Literal

import msgspec

from harness.clock import NS_PER_S, format_duration

DEFAULT_HOST = "host.await"
DEFAULT_DEADLINE_NS = 60 * NS_PER_S
"""A sound watchdog waits 30 to 60 s, and a stock client needs 50 s to give up a black hole."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One subject, one recording, one plan, one host."""

    subject: str
    """`module:attribute`."""
    recordings: tuple[str, ...]
    path: str = "."
    """Folder that the subject is imported from."""
    symbols: tuple[str, ...] = ()
    """As passed to start(); empty for those of the recording."""
    faults: tuple[str, ...] = ()
    """Short forms, hosts not among them."""
    plan: str | None = None
    """Where the faults were read from, for the line that reproduces the run."""
    host: str = DEFAULT_HOST
    """Short form of a `host.*` fault."""
    mode: Literal["live", "sim"] = "live"
    tap: str | None = None
    seed: int = 0
    deadline_ns: int = DEFAULT_DEADLINE_NS
    speed: float = 1.0
    """Tape seconds per second; 0 for as fast as the client reads."""
    retime: Literal["auto", "none"] = "auto"
    duration_ns: int | None = None
    """Play only so much of the tape; None for all."""

    @property
    def host_kind(self) -> str:
        """`host.kind` without its settings."""
        return self.host.partition(":")[0]

    @property
    def is_plain(self) -> bool:
        """No fault, and a sound host: what noise is measured against."""
        return not self.faults and self.host == DEFAULT_HOST

    @property
    def named_faults(self) -> tuple[str, ...]:
        """The faults, and the host where it is not the usual one: what distinguishes a run in a table."""
        return self.faults if self.host == DEFAULT_HOST else (*self.faults, self.host)

    def plain(self) -> Scenario:
        """The same without faults."""
        return msgspec.structs.replace(self, faults=(), host=DEFAULT_HOST, plan=None)

    def reproduce(self) -> str:
        """The command line that does this run again."""
        words = ["harness", "run", self.subject]
        for recording in self.recordings:
            words += ["--recording", recording]
        for fault in self.faults:
            words += ["--fault", fault]
        words += ["--host", self.host] if self.host != DEFAULT_HOST else []
        words += ["--path", self.path] if self.path != "." else []
        for symbol in self.symbols:
            words += ["--symbol", symbol]
        words += ["--tap", self.tap] if self.tap else []
        words += ["--deadline", format_duration(self.deadline_ns)] if self.deadline_ns != DEFAULT_DEADLINE_NS else []
        words += ["--speed", f"{self.speed:g}" if self.speed else "max"] if self.speed != 1.0 else []
        words += ["--retime", self.retime] if self.retime != "auto" else []
        words += ["--duration", format_duration(self.duration_ns)] if self.duration_ns else []
        words += ["--mode", self.mode] if self.mode != "live" else []
        return shlex.join([*words, "--seed", str(self.seed)])
