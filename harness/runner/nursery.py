"""A process that has imported everything and forks a worker for each run.

Most of a simulated run's cost would be starting Python, importing, and making an RSA key; of a live run that
mostly waits it would be a quarter. One run still has a process of its own, and every fork begins as the same
copy: same hashes, same addresses. For live runs nothing that a subject uses is imported beforehand: what a
library takes hold of when it is imported must be what the redirect has put there.

    parent ── path of a job ──▶ nursery ── fork ──▶ worker (harness.runner.worker)
    parent ◀── pid, then exit status ── nursery

It has no threads of its own, so forking is safe.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from harness.actions import Tls
from harness.transports.authority import Authority
from harness.transports.sim import Simulation, launch

if TYPE_CHECKING:
    from collections.abc import Mapping

PRELOADED = ("websockets", "httpx", "aiohttp")
"""What subjects most often import, where it is installed."""
_SUBMODULES = ("websockets.asyncio.client", "websockets.http11", "httpcore", "anyio", "anyio._backends._asyncio")
PR_SET_PDEATHSIG = 1


def suits(path: str) -> bool:
    """Whether a subject's folder leaves alone what is imported beforehand, and the system can fork."""
    folder = Path(path)
    own = any((folder / name).exists() or (folder / f"{name}.py").exists() for name in PRELOADED)
    return hasattr(os, "fork") and not own


class Nursery:
    """
    The parent's side; one run at a time.

    Args:
        environment: of the workers.
        simulated: which kind of runs it serves.
        verbose: let the subjects' output through.
    """

    def __init__(self, environment: Mapping[str, str], *, simulated: bool, verbose: bool) -> None:
        words = ("-m", "harness.runner.nursery", "sim" if simulated else "live", "verbose" if verbose else "quiet")
        self.process = subprocess.Popen(
            launch.command(*words) if simulated else [sys.executable, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if verbose else subprocess.DEVNULL,
            env=dict(environment),
        )

    def run(self, job: Path, limit_s: float) -> int | None:
        """
        Run a job.

        Returns:
            The exit status of its worker; a negative one names the signal that it died of. None: it took longer, and
            was ended.

        Raises:
            OSError: the nursery itself is gone.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(f"{job}\n".encode())
        self.process.stdin.flush()
        pid = int(self._line(None))
        try:
            return int(self._line(limit_s))
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self._line(None)
            return None

    def _line(self, limit_s: float | None) -> bytes:
        assert self.process.stdout is not None
        if limit_s is not None and not select.select([self.process.stdout], [], [], limit_s)[0]:
            raise TimeoutError
        # Unbuffered reads, or `select` would not see what a buffer holds already.
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self.process.stdout.fileno(), 1)
            if not byte:
                raise OSError("the nursery has ended")
            line += byte
        return line

    def close(self) -> None:
        """End it."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # it is gone, and what it was last told is still in the pipe
                    pipe.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def main() -> None:
    """Serve until the parent has no more."""
    simulated, verbose = sys.argv[1] == "sim", sys.argv[2] == "verbose"
    from harness.runner import worker  # noqa: PLC0415 - heavy, and only needed on this side

    with contextlib.ExitStack() as stack:
        if simulated:
            for name in (*PRELOADED, *_SUBMODULES):
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)
            Simulation.prepared = stack.enter_context(Authority(rsa=True))
            Simulation.prepared.context(Tls())
        for line in sys.stdin:
            path = line.strip()
            pid = os.fork()
            if not pid:
                _become(path, verbose=verbose)
                worker.main()
                os._exit(3)  # the worker's judge ends the process
            _tell(pid)
            _tell(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _become(path: str, *, verbose: bool) -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2 if verbose else nothing, 1)
    sys.argv = ["harness.runner.worker", path]
    os.environ["TMPDIR"] = str(Path(path).parent)
    tempfile.tempdir = None


def _tell(number: int) -> None:
    os.write(1, f"{number}\n".encode())


if __name__ == "__main__":
    main()
