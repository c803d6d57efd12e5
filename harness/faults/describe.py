"""The catalogue in words: settings with their docstrings, and the table of the user guide."""

from __future__ import annotations

import ast
import inspect
import sys
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from harness.faults import LAYERS, catalogue, summary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.faults.base import Fault

_LAYER_TITLES = {
    "dns": "Name resolution",
    "tcp": "TCP",
    "tls": "TLS",
    "http": "HTTP upgrade",
    "ws": "WebSocket framing",
    "payload": "Payload",
    "sequence": "Sequence",
    "timing": "Timing",
    "exchange": "Exchange semantics",
    "host": "Host: the program around the subject",
}


def settings_of(kind: type[Fault]) -> dict[str, str]:
    """The settings of a kind in their order, each with its docstring and its default."""
    told: dict[str, str] = {}
    docs = _field_docs(kind)
    for field in msgspec.structs.fields(kind):
        default = (
            "none"
            if field.default is None
            else str(field.default).lower()
            if isinstance(field.default, bool)
            else field.default
        )
        told[field.name] = f"{docs.get(field.name, '').rstrip('.')} [{default if default != '' else 'empty'}]"
    return told


def _field_docs(kind: type[Fault]) -> dict[str, str]:
    """The text below each field, read from the source: Python keeps no docstrings of attributes."""
    docs: dict[str, str] = {}
    for cls in reversed(kind.__mro__):
        if cls.__module__.startswith("harness.faults"):
            docs.update(_module_docs(cls.__module__).get(cls.__name__, {}))
    return docs


@lru_cache
def _module_docs(module: str) -> dict[str, dict[str, str]]:
    """For each class of a module, the texts below its fields."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {cls.name: dict(_texts(cls.body)) for cls in tree.body if isinstance(cls, ast.ClassDef)}


def _texts(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for above, below in pairwise(body):
        if (
            isinstance(above, ast.AnnAssign)
            and isinstance(above.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            yield above.target.id, inspect.cleandoc(str(below.value.value)).replace("\n", " ")


def when(kind: type[Fault]) -> str:
    """When a kind strikes if the plan says nothing."""
    if kind.control:
        return "negative control, behind frame 1"
    if kind.rest:
        return "every REST request"
    if kind.before_data:
        return "every connection"
    if kind.every_connection or kind.holds:
        return "every connection, from its start"
    return "once, at frame 1" if kind.default_at else "once, from the start"


def manual() -> str:
    """The table of the catalogue as Markdown, as it stands in `docs/faults.md`."""
    kinds = catalogue()
    lines = [
        "# Faults",
        "",
        "<!-- Written by `python -m harness.faults.describe > docs/faults.md`; a test holds it to the classes. -->",
        "",
        f"{len(kinds)} kinds, in the order in which data passes the layers. Write one as",
        "",
        "    layer.kind[:key=value,...][@frame=N|id=N|at=DURATION][#connection=N|N-M|N-]",
        "",
        "or as a `[[fault]]` table of a TOML plan with the same keys. Conditions that every kind takes, where they",
        "have a meaning for it: `frame`, `id`, `at`, `connection`, `stream`, `probability`, `count`, `every`,",
        "`duration`. A setting of the same name comes first. Frames count from 1. Payload and sequence faults touch",
        "the frame itself; faults of the connection and of time strike behind it. Durations of conditions are",
        "recorded time. `stream` says whose frames are struck, lost or changed; what comes late comes late for all",
        "streams of a connection, which delivers in order.",
        "",
        "Faults of one plan are compiled from the tape outwards: payload, sequence, exchange, timing, ws, http, tls,",
        "tcp, dns; within a layer in the order of the plan. Each keeps its own luck, whatever else the plan holds.",
    ]
    for layer in LAYERS:
        ours = {name: kind for name, kind in kinds.items() if name.startswith(f"{layer}.")}
        lines += [
            "",
            f"## {_LAYER_TITLES[layer]} ({len(ours)})",
            "",
            "| kind | cause in the real world | strikes | settings |",
            "|---|---|---|---|",
        ]
        for name, kind in ours.items():
            settings = "<br>".join(f"`{key}` {text}" for key, text in settings_of(kind).items())
            cells = (f"`{name}`", summary(kind), when(kind), settings)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(manual(), end="")  # noqa: T201 - the command of the user guide
