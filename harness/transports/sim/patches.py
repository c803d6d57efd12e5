"""Attributes that are replaced for a while, and put back."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MISSING = object()
_KEPT = ("harness.clock", "harness.transports.sim.")
"""Modules that go on seeing the real thing."""


class Patches:
    """Replaces, remembers, and undoes in the opposite order."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], object]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Replace one attribute."""
        before = vars(owner).get(name, _MISSING)
        setattr(owner, name, value)
        self._undo.append(lambda: delattr(owner, name) if before is _MISSING else setattr(owner, name, before))

    def replace_everywhere(self, replacements: Mapping[Any, Any]) -> None:
        """Replace functions in every module that has imported them by name."""
        by_id = {id(old): new for old, new in replacements.items()}
        for name, module in list(sys.modules.items()):
            if name.startswith(_KEPT):
                continue
            try:
                found = [(key, by_id[id(value)]) for key, value in vars(module).items() if id(value) in by_id]
            except TypeError:
                continue  # something odd that somebody put there: None, or an object without a dictionary
            for key, value in found:
                self.set(module, key, value)

    def then(self, undo: Callable[[], object]) -> None:
        """Also do this on undoing."""
        self._undo.append(undo)

    def undo(self) -> None:
        """Put everything back."""
        while self._undo:
            self._undo.pop()()
