"""The catalogue: every way in which the exchange and what lies around it can misbehave.

One file per layer, in the order in which data passes them; one small class per kind, whose first
docstring line is the cause in the real world. `plan` says when they strike.
"""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING

from harness.faults.base import Context, Duration, Fault, Strike

if TYPE_CHECKING:
    from harness.faults.plan import Condition, Plan, PlannedFault, format_fault, load_plan, parse_fault

__all__ = [
    "LAYERS", "Condition", "Context", "Duration", "Fault", "Plan", "PlannedFault", "Strike",
    "catalogue", "format_fault", "load_plan", "parse_fault", "settings", "summary",
]  # fmt: skip

LAYERS = ("dns", "tcp", "tls", "http", "ws", "payload", "sequence", "timing", "exchange", "host")
"""In the order in which data passes them."""

_CATALOGUE: dict[str, type[Fault]] = {}


def catalogue() -> dict[str, type[Fault]]:
    """Every kind by its name `layer.kind`, in layer order and, within a layer, as its file lists them."""
    if not _CATALOGUE:
        # Filled at once: runs are prepared in several threads, and none may see half of it.
        kinds: dict[str, type[Fault]] = {}
        for layer in LAYERS:
            module = importlib.import_module(f"harness.faults.{layer}")
            for value in vars(module).values():
                if inspect.isclass(value) and issubclass(value, Fault) and name_of(value).startswith(f"{layer}."):
                    kinds[name_of(value)] = value
        _CATALOGUE.update(kinds)
    return dict(_CATALOGUE)


def name_of(kind: type[Fault]) -> str:
    """The name `layer.kind` of a class; the family classes have none."""
    tag = kind.__struct_config__.tag
    return tag if isinstance(tag, str) else ""


def summary(kind: type[Fault]) -> str:
    """One line on what happens in the real world."""
    return (kind.__doc__ or "").strip().splitlines()[0].rstrip(".")


def settings(kind: type[Fault]) -> dict[str, str]:
    """The settings of a kind, each with its default and the docstring below the field, in their order."""
    from harness.faults.describe import settings_of  # noqa: PLC0415 - it reads source code, which few need

    return settings_of(kind)


def __getattr__(name: str) -> object:
    # `plan` needs the catalogue and the catalogue needs this module, so the names are handed on late.
    if name in __all__:
        return getattr(importlib.import_module("harness.faults.plan"), name)
    raise AttributeError(f"module 'harness.faults' has no attribute {name!r}")
