"""The plan: which faults strike, and when. Declarative and seeded; read from TOML or a short form.

    layer.kind[:key=value,...][@frame=N|id=N|at=DURATION][#connection=N|N-M|N-]

    tcp.reset_peer@frame=250                      RST behind frame 250, once
    http.status:code=451#connection=2-            every connection but the first is refused
    timing.silence:duration=5s,every=20s@at=10s   five seconds of silence, from 10 s on, every 20 s

A value that holds a comma, a quote or a number sign is written as a JSON string. In a TOML file each
`[[fault]]` has the same keys, and `kind`. Durations of conditions are recorded time.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar, get_args, get_origin

import msgspec

from harness.clock import parse_duration_ns
from harness.errors import HarnessError, PlanError, UsageError, nearest
from harness.faults import catalogue, name_of
from harness.faults.base import Duration, Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Connections(str):
    """Which connections: `2`, `2-5` or `2-`, counted from 1."""

    __slots__ = ()

    def __new__(cls, written: str | int) -> Self:
        text = str(written).strip()
        found = re.fullmatch(r"(\d+)(-(\d+)?)?", text)
        if not found or int(found[1]) < 1 or (found[3] and int(found[3]) < int(found[1])):
            raise UsageError(f"{text!r} names no connections; write 2, 2-5 or 2-, counted from 1")
        return super().__new__(cls, text)

    @property
    def first(self) -> int:
        """The lowest number."""
        return int(self.partition("-")[0])

    @property
    def last(self) -> int | None:
        """The highest number; None for no end."""
        low, dash, high = self.partition("-")
        return int(high) if high else None if dash else int(low)

    def covers(self, connection: int) -> bool:
        """Whether a connection is one of them."""
        return self.first <= connection and (self.last is None or connection <= self.last)


class Every(str):
    """How often to strike again: after so many frames (`10`), or so much recorded time (`2s`)."""

    __slots__ = ()

    def __new__(cls, written: str | int) -> Self:
        text = str(written).strip()
        if not (text.isdigit() and int(text) > 0) and not (not text.isdigit() and parse_duration_ns(text) > 0):
            raise UsageError(f"{text!r} is no interval; write a number of frames (10) or a duration with its unit (2s)")
        return super().__new__(cls, text)

    @property
    def frames(self) -> int | None:
        """Interval in frames; None when it is a duration."""
        return int(self) if self.isdigit() else None

    @property
    def duration_ns(self) -> int:
        """Interval in nanoseconds of recorded time; 0 when it is in frames."""
        return 0 if self.isdigit() else parse_duration_ns(self)


class Condition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a fault strikes. Without any, once at frame 1, or every connection where data has not begun."""

    frame: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Data frame of the recording, counted from 1."""
    id: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """The frame that carries this agg trade id."""
    at: Duration | None = None
    """The first frame due at this recorded time."""
    connection: Connections | None = None
    """Only these connections, and each of them anew."""
    stream: str = ""
    """Only frames of this stream, or of this symbol's streams."""
    probability: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] = 1.0
    """Chance for each frame from there on; for what strikes before data, for each connection."""
    count: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Strike so many times; frames in a row unless `every` says otherwise."""
    every: Every | None = None
    """Strike again after so many frames or so much recorded time."""
    duration: Duration | None = None
    """Strike every frame for so long, in recorded time."""

    @property
    def has_moment(self) -> bool:
        """Whether it names a place on the tape."""
        return self.frame is not None or self.id is not None or self.at is not None

    @property
    def widens(self) -> bool:
        """Whether it asks for more than one strike."""
        return self.probability < 1.0 or self.count is not None or self.every is not None or self.duration is not None


_Struct = TypeVar("_Struct", bound=msgspec.Struct)

NEVER_TAKES = {
    "before_data": ("frame", "id", "at", "stream", "duration"),
    "rest": ("frame", "id", "at", "stream", "duration"),
    "control": ("connection",),
    "host": ("frame", "id", "at", "connection", "stream", "probability", "count", "every", "duration"),
}
"""Conditions without meaning for a sort of fault."""


class PlannedFault(msgspec.Struct, frozen=True):
    """A fault and when it strikes."""

    fault: Fault
    condition: Condition = Condition()

    def __str__(self) -> str:
        return format_fault(self)

    @property
    def name(self) -> str:
        """The fault's `layer.kind`."""
        return name_of(type(self.fault))

    @property
    def layer(self) -> str:
        """The layer it belongs to."""
        return self.name.partition(".")[0]

    @property
    def from_start(self) -> bool:
        """Whether it is in force from the start of a connection, as manners."""
        if self.fault.every_connection:
            return False
        return self.fault.before_data or self.fault.rest or (self.fault.holds and not self.condition.has_moment)

    @property
    def once(self) -> bool:
        """Whether each strike happens once across all connections, so that one must take its ticket."""
        return self.condition.connection is None and not self.from_start and not self.fault.every_connection


class Plan(msgspec.Struct, frozen=True):
    """Faults with a seed. The empty plan is the identity."""

    faults: tuple[PlannedFault, ...] = ()
    seed: int = 0
    title: str = ""

    def __str__(self) -> str:
        return ", ".join(format_fault(planned) for planned in self.faults) or "no faults"


# --- The short form ---------------------------------------------------------------------------

_TAIL = re.compile(r"(?:@(?P<moment>[a-z_]+)=(?P<when>[^@#,\"]*))?(?:#(?P<connection>[^#,\"]*))?$")
_SETTING = re.compile(r'([^=,\s]+)=("(?:[^"\\]|\\.)*"|[^,"]*)(?:,|$)')
_MOMENTS = ("frame", "id", "at")
_FORM = "layer.kind[:key=value,...][@frame=N|id=N|at=DURATION][#connection=N|N-M|N-]"


def parse_fault(text: str, place: str = "--fault") -> PlannedFault:
    """
    Read the short form.

    Args:
        text: for example `sequence.gap:count=5@frame=250#connection=1`.
        place: what to call the text in a mistake.

    Raises:
        PlanError: it cannot be read; names the place and the nearest right word.
    """
    text = text.strip()
    tail = _TAIL.search(text)
    assert tail is not None, "the tail may be empty"
    kind, colon, settings = text[: tail.start()].partition(":")
    given: dict[str, Any] = {}
    at = 0
    while at < len(settings):
        found = _SETTING.match(settings, at)
        if found is None or re.search(r"@(frame|id|at)=", found[2].split('"')[0]):
            raise PlanError(place, f"cannot read {settings[at:]!r} in {text!r}; write {_FORM}")
        _give(given, found[1], _unquoted(found[2], f"{place}.{found[1]}"), place)
        at = found.end()
    if (colon and not settings) or "@" in kind:
        raise PlanError(place, f"cannot read {text!r}; write {_FORM}")
    if tail["moment"]:
        if tail["moment"] not in _MOMENTS:
            raise PlanError(place, nearest(tail["moment"], _MOMENTS, noun="moment"))
        _give(given, tail["moment"], tail["when"], place)
    if tail["connection"] is not None:
        key, equals, value = tail["connection"].partition("=")
        if key != "connection" or not equals:
            raise PlanError(place, f"cannot read {'#' + tail['connection']!r}; write #connection=2, 2-5 or 2-")
        _give(given, key, value, place)
    return plan_fault(kind, given, place)


def _give(given: dict[str, Any], key: str, value: Any, place: str) -> None:
    if key in given:
        raise PlanError(f"{place}.{key}", "given twice")
    given[key] = value


def _unquoted(value: str, place: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        raise PlanError(place, f"{value} is not a JSON string") from None


def format_fault(planned: PlannedFault) -> str:
    """Write the short form; `parse_fault` reads it back."""
    pairs = [f"{key}={_quoted(value)}" for key, value in _given(planned.fault)]
    condition = dict(_given(planned.condition))
    moment = "".join(f"@{key}={condition.pop(key)}" for key in ("frame", "id", "at") if key in condition)
    connection = f"#connection={condition.pop('connection')}" if "connection" in condition else ""
    pairs += [f"{key}={_quoted(value)}" for key, value in condition.items()]
    return planned.name + (":" + ",".join(pairs) if pairs else "") + moment + connection


def _given(struct: msgspec.Struct) -> Iterable[tuple[str, str]]:
    for field in msgspec.structs.fields(type(struct)):
        value = getattr(struct, field.name)
        if value != field.default:
            yield field.name, str(value).lower() if isinstance(value, bool) else str(value)


def _quoted(value: str) -> str:
    plain = value and not re.search(r'[,"#\s]|@[a-z_]+=', value)
    return value if plain else json.dumps(value, ensure_ascii=False)


# --- From keys and values, as both forms give them --------------------------------------------


def plan_fault(kind: str, given: Mapping[str, Any], place: str) -> PlannedFault:
    """
    Make a fault from its name and its keys and values.

    A key that is a setting of the kind is that setting; any other is a condition.

    Raises:
        PlanError: an unknown kind or key, or a value that does not fit.
    """
    kinds = catalogue()
    if kind not in kinds:
        raise PlanError(place if place.startswith(("--", "@")) else f"{place}.kind", nearest(kind, kinds, noun="fault"))
    cls = kinds[kind]
    own = [field.name for field in msgspec.structs.fields(cls)]
    conditions = [field.name for field in msgspec.structs.fields(Condition) if field.name not in own]
    for key in given:
        if key not in own and key not in conditions:
            raise PlanError(f"{place}.{key}", nearest(key, [*own, *conditions], noun=f"setting of {kind}"))
    fault = _converted(cls, {key: value for key, value in given.items() if key in own}, place)
    condition = _converted(Condition, {key: value for key, value in given.items() if key in conditions}, place)
    planned = PlannedFault(fault, condition)
    check_conditions(planned, place)
    return planned


def _converted(cls: type[_Struct], given: Mapping[str, Any], place: str) -> _Struct:
    # One by one, so that a mistake names its own key.
    for key, value in given.items():
        try:
            msgspec.convert({key: value, **_tag(cls)}, cls, strict=False, dec_hook=_made)
        except (msgspec.ValidationError, UsageError) as mistake:
            choices = _choices(cls, key)
            if choices and "enum" in str(mistake):
                shown = f"{value!r} is none of {', '.join(map(str, choices))}"
                raise PlanError(f"{place}.{key}", shown) from mistake
            problem = str(mistake).partition(" - at ")[0].replace("`", "")
            shown = (
                problem
                if problem.startswith(repr(value))
                else f"{value!r} does not fit: {problem[0].lower()}{problem[1:]}"
            )
            raise PlanError(f"{place}.{key}", shown) from mistake
    try:
        return msgspec.convert({**given, **_tag(cls)}, cls, strict=False, dec_hook=_made)
    except msgspec.ValidationError as mistake:
        raise PlanError(place, str(mistake).partition(" - at ")[0].replace("`", "")) from mistake


def _choices(cls: type[msgspec.Struct], key: str) -> tuple[Any, ...]:
    """The values of a setting that has only some; empty for any other."""
    types = {field.name: field.type for field in msgspec.structs.fields(cls)}
    return get_args(types[key]) if get_origin(types[key]) is Literal else ()


def _tag(cls: type[msgspec.Struct]) -> dict[str, str]:
    return {"kind": name_of(cls)} if issubclass(cls, Fault) else {}


def _made(wanted: type, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise UsageError(f"{value!r} is neither text nor a number")
    return wanted(value)


def check_conditions(planned: PlannedFault, place: str) -> None:
    """
    Refuse conditions that would never matter: a plan that says something should mean it.

    Raises:
        PlanError: the condition has no meaning for this fault.
    """
    condition, fault = planned.condition, planned.fault
    moments = [key for key in ("frame", "id", "at") if getattr(condition, key) is not None]
    if len(moments) > 1:
        raise PlanError(place, f"{moments[0]} and {moments[1]} both say when; give one")
    if planned.from_start and condition.every is not None and condition.every.frames is None:
        raise PlanError(
            f"{place}.every", f"{planned.name} strikes connections, so write how many, not {condition.every}"
        )
    sorts = [sort for sort in ("before_data", "rest", "control") if getattr(fault, sort)]
    sorts += ["host"] if planned.layer == "host" else []
    given = dict(_given(condition))
    for sort in sorts:
        for key in NEVER_TAKES[sort]:
            if key in given:
                why = {
                    "before_data": "strikes before the first data frame",
                    "rest": "strikes REST requests",
                    "control": "changes the market, for every connection",
                    "host": "is how the program around the subject runs it",
                }[sort]
                raise PlanError(f"{place}.{key}", f"{planned.name} {why}, so {key!r} has no meaning for it")


# --- TOML -------------------------------------------------------------------------------------


def load_plan(path: str | Path, seed: int | None = None) -> Plan:
    """
    Read a plan file.

    Args:
        path: TOML with `[[fault]]` tables, and if you like `title` and `seed`.
        seed: in place of the file's own; None keeps that, or 0.

    Raises:
        PlanError: the file cannot be read, or something in it; names the place.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "not UTF-8"
        raise PlanError(str(path), f"cannot read the plan: {reason}") from problem
    return parse_plan(text, place=str(path), seed=seed)


def seed_of(given: int | None, path: str | Path | None) -> int:
    """The seed of a run: the one that was given, else the plan file's own, else 0."""
    if given is not None:
        return given
    return load_plan(path).seed if path else 0


def parse_plan(text: str, *, place: str = "plan", seed: int | None = None) -> Plan:
    """
    Read the text of a plan file.

    Raises:
        PlanError: something in it cannot be read; names the place.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise PlanError(place, f"not TOML: {problem}") from problem
    for key in document:
        if key not in ("title", "seed", "fault"):
            raise PlanError(f"{place}: {key}", nearest(key, ("title", "seed", "fault"), noun="key"))
    own_seed, title, tables = document.get("seed", 0), document.get("title", ""), document.get("fault", [])
    if isinstance(own_seed, bool) or not isinstance(own_seed, int):
        raise PlanError(f"{place}: seed", f"{own_seed!r} is not a whole number")
    if not isinstance(title, str):
        raise PlanError(f"{place}: title", f"{title!r} is not text")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise PlanError(f"{place}: fault", "faults are tables; write [[fault]] above each")
    faults = []
    for number, table in enumerate(tables):
        here = f"{place}: faults[{number}]"
        if not isinstance(table.get("kind"), str):
            raise PlanError(f"{here}.kind", "missing; write for example kind = 'tcp.reset_peer'")
        faults.append(plan_fault(table["kind"], {key: value for key, value in table.items() if key != "kind"}, here))
    return Plan(tuple(faults), own_seed if seed is None else seed, title)


def format_plan(plan: Plan) -> str:
    """Write a plan as TOML; `parse_plan` reads it back."""
    lines = [f"title = {json.dumps(plan.title, ensure_ascii=False)}"] if plan.title else []
    lines += [f"seed = {plan.seed}"]
    for planned in plan.faults:
        lines += ["", "[[fault]]", f'kind = "{planned.name}"']
        for struct in (planned.fault, planned.condition):
            for field in msgspec.structs.fields(type(struct)):
                value = getattr(struct, field.name)
                if value != field.default:
                    lines.append(f"{field.name} = {_toml_value(value)}")
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (Duration, str)):
        # TOML strings escape as JSON strings do, except that DEL must be escaped too.
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)


def plan_of(faults: Iterable[str | PlannedFault], seed: int = 0) -> Plan:
    """
    Make a plan from faults in the short form, or ready ones.

    Raises:
        HarnessError: one of them cannot be read.
    """
    return Plan(tuple(parse_fault(fault) if isinstance(fault, str) else fault for fault in faults), seed)


assert issubclass(PlanError, HarnessError)
