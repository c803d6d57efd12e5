"""The real hosts' names lead to the exchange; fail closed; undone on exit.

In process, `Redirect` patches name resolution and trust (`hook`); `child` does the same for child
processes through their environment. Code that hard-codes `wss://stream.binance.com:9443` runs
unmodified: it sends the real Host header and SNI, and gets a certificate that carries them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from harness.errors import UsageError
from harness.redirect.child import ChildRedirect, clean
from harness.redirect.hook import Hook

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from harness.redirect.hook import Gate

__all__ = ["ChildRedirect", "Redirect", "clean"]

_active: list[Redirect] = []


class Redirect:
    """
    Lead this process, and the processes it starts, to the exchange while the context lasts.

    Args:
        gate: where to dial for a host and port; raises `socket.gaierror` for a name it does not know.
        cafile: PEM of the session CA, trusted in addition by every TLS context; None leaves trust alone.
        children: also redirect child processes, by environment.
        ports: for node children, see `ChildRedirect`.
        let_through: whether the calling thread is to reach the real network, as that of a proxy must; None for none.

    Raises:
        UsageError: another redirect is active: two would undo each other's patches.
    """

    def __init__(
        self,
        gate: Gate,
        cafile: str | None,
        *,
        children: bool = False,
        ports: Mapping[int, int] | None = None,
        let_through: Callable[[], bool] | None = None,
    ) -> None:
        self._hook = Hook(gate, cafile, let_through=let_through)
        self._child = ChildRedirect(gate, cafile, ports) if children else None
        self._before: dict[str, str | None] = {}

    def __enter__(self) -> Self:
        """Patch the process."""
        if _active:
            raise UsageError("the real hosts are redirected already; one redirect at a time")
        _active.append(self)
        self._hook.install()
        if self._child is not None:
            self._child.__enter__()
            for name, value in self._child.environment().items():
                self._before[name] = os.environ.get(name)
                os.environ[name] = value
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take everything back, whatever happened inside."""
        for name, before in self._before.items():
            if before is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = before
        if self._child is not None:
            self._child.__exit__(kind, value, traceback)
        self._hook.uninstall()
        _active.remove(self)

    @property
    def children(self) -> dict[int, str]:
        """Child processes in which the redirect took."""
        return self._child.taken_by() if self._child is not None else {}
