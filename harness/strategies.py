"""Hypothesis strategies: faults, conditions and plans. Needs Hypothesis, which the harness itself does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import msgspec
from hypothesis import strategies as st

from harness.faults import catalogue
from harness.faults.base import Duration, durations_of
from harness.faults.plan import NEVER_TAKES, Condition, Connections, Every, Plan, PlannedFault

if TYPE_CHECKING:
    from collections.abc import Collection

    from hypothesis.strategies import DrawFn, SearchStrategy

    from harness.faults.base import Fault


def durations(low_ns: int = 0, high_ns: int = 3_600_000_000_000) -> SearchStrategy[Duration]:
    """Durations up to an hour, whole milliseconds for the most part."""
    whole = st.integers(low_ns // 1_000_000, high_ns // 1_000_000).map(lambda ms: ms * 1_000_000)
    return st.one_of(whole, st.integers(low_ns, high_ns)).map(Duration.of_ns)


@st.composite
def faults(draw: DrawFn, kinds: Collection[str] | None = None) -> Fault:
    """
    Any fault of the catalogue, its settings drawn.

    Args:
        draw: given by Hypothesis.
        kinds: names to choose from; None for all.
    """
    known = catalogue()
    kind = known[draw(st.sampled_from(sorted(kinds) if kinds is not None else list(known)))]
    given: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if draw(st.booleans()):
            given[field.name] = draw(_setting(kind, field))
    return kind(**given)


def _setting(kind: type[Fault], field: msgspec.structs.FieldInfo) -> SearchStrategy[Any]:
    if field.name in durations_of(kind):
        return durations(1_000_000)
    if get_origin(field.type) is Literal:
        return st.sampled_from(get_args(field.type))
    info = msgspec.inspect.type_info(field.type)
    if isinstance(info, msgspec.inspect.UnionType):
        info = next(one for one in info.types if not isinstance(one, msgspec.inspect.NoneType))
    if isinstance(info, msgspec.inspect.BoolType):
        return st.booleans()
    if isinstance(info, msgspec.inspect.IntType):
        low = info.ge if info.ge is not None else 0
        # Sizes are kept small: a plan that inflates gigabytes tests nothing but patience.
        high = min(info.le if info.le is not None else low + 300, low + 300)
        return st.integers(int(low), int(high))
    if isinstance(info, msgspec.inspect.FloatType):
        return st.floats(1.5, 8.0, allow_nan=False)
    return st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12)


@st.composite
def conditions(draw: DrawFn, fault: Fault, *, frames: int = 1000, seconds: float = 60.0) -> Condition:
    """
    A condition that has a meaning for a fault.

    Args:
        draw: given by Hypothesis.
        fault: whose condition.
        frames: frames of the tape.
        seconds: length of the tape.
    """
    barred: set[str] = set()
    for sort, keys in NEVER_TAKES.items():
        if getattr(fault, sort, False) or (sort == "host" and _name(fault).startswith("host.")):
            barred |= set(keys)
    own = {field.name for field in msgspec.structs.fields(type(fault))}
    makers: dict[str, SearchStrategy[Any]] = {
        "connection": st.sampled_from(["1", "2", "2-", "1-3", "4-"]).map(Connections),
        "probability": st.floats(0.0, 1.0),
        "count": st.integers(1, 5),
        "every": st.one_of(
            st.integers(1, max(1, frames)).map(Every), st.integers(1, 60_000).map(lambda ms: Every(f"{ms}ms"))
        ),
        "duration": durations(0, int(seconds * 1e9)),
    }
    moment = draw(st.sampled_from(["", "frame", "at"]))
    if fault.before_data or fault.rest or (fault.holds and not moment):
        # It strikes connections, so it comes again after so many of them, not after some time.
        makers["every"] = st.integers(1, 5).map(Every)
    given = {
        key: draw(make) for key, make in makers.items() if key not in barred | own and draw(st.integers(0, 3)) == 0
    }
    if moment == "frame" and "frame" not in barred:
        given["frame"] = draw(st.integers(1, max(1, frames)))
    if moment == "at" and "at" not in barred:
        given["at"] = draw(durations(0, int(seconds * 1e9)))
    return Condition(**given)


def _name(fault: Fault) -> str:
    return str(type(fault).__struct_config__.tag)


@st.composite
def planned_faults(
    draw: DrawFn, kinds: Collection[str] | None = None, *, frames: int = 1000, seconds: float = 60.0
) -> PlannedFault:
    """A fault with a condition that fits it."""
    fault = draw(faults(kinds))
    return PlannedFault(fault, draw(conditions(fault, frames=frames, seconds=seconds)))


@st.composite
def plans(
    draw: DrawFn,
    kinds: Collection[str] | None = None,
    *,
    frames: int = 1000,
    seconds: float = 60.0,
    size_max: int = 4,
) -> Plan:
    """
    Plans of up to `size_max` faults, with a seed.

    Args:
        draw: given by Hypothesis.
        kinds: names of faults to choose from; None for all.
        frames: frames of the tape that the plan is meant for.
        seconds: length of that tape.
        size_max: at most so many faults.
    """
    chosen = draw(st.lists(planned_faults(kinds, frames=frames, seconds=seconds), max_size=size_max))
    return Plan(tuple(chosen), draw(st.integers(0, 2**31)))
