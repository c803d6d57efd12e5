"""A plan in words: what each connection will do, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from harness.actions import NO_FAULT, Abort, Change, Close, Eof, Manners, Send, Span, Wire, Withhold
from harness.clock import format_duration
from harness.faults.base import frames_held
from harness.script.compile import compile_manners, compile_market, compile_script, merged

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.actions import Action
    from harness.faults.plan import Plan, PlannedFault
    from harness.timeline import Timeline

LINES_MAX = 24
"""Steps that are told of one connection; the rest is counted."""
CONNECTIONS_MAX = 8
TEXT_MAX = 60


def explain(plan: Plan, timeline: Timeline) -> str:
    """
    Say in words what each connection will do.

    Strikes that happen once are told of connection 1, as if it came first and stayed; a later connection is told as it
    will be if it subscribes at the start, and with the strikes that are left for it.
    """
    timeline = compile_market(timeline, plan)
    told: list[tuple[int, int | None, list[str]]] = []
    for number in range(1, CONNECTIONS_MAX + 1):
        lines = _connection(plan, timeline, number)
        if told and told[-1][2] == lines:
            told[-1] = (told[-1][0], None if number == CONNECTIONS_MAX else number, lines)
        else:
            told.append((number, number, lines))
    # What two or more at the end have in common, all that follow do, unless a plan counts further than this looks.
    first, last, lines = told.pop()
    goes_on = first == CONNECTIONS_MAX
    told.append((first, first if goes_on else None, lines))
    out = [f"plan: {plan}, seed {plan.seed}"]
    out += [f"market: pauses ({fault.name}); not a fault" for fault in plan.faults if fault.fault.control]
    out += [f"host: {fault}" for fault in plan.faults if fault.layer == "host"]
    for first, last, lines in told:
        who = (
            f"connection {first}"
            if last == first
            else f"connections {first} to {last}"
            if last
            else f"connection {first} and later"
        )
        out.append(f"{who}:")
        out.extend(f"  {line}" for line in lines)
    if goes_on:
        out.append("later connections: in the same way")
    for fault in plan.faults:
        if fault.fault.rest:
            only = fault.condition
            which = f"requests {only.connection}" if only.connection else "every request"
            count = f", {only.count} times" if only.count else ""
            changes = ", ".join(_difference(Manners(), compile_manners(_alone(plan, fault), connection=-_first(fault))))
            out.append(f"REST, {which}{count}: {changes} ({fault.name})")
    return "\n".join(out) + "\n"


def _alone(plan: Plan, planned: PlannedFault) -> Plan:
    return msgspec.structs.replace(plan, faults=(planned,))


def _first(planned: PlannedFault) -> int:
    return planned.condition.connection.first if planned.condition.connection else 1


def _connection(plan: Plan, timeline: Timeline, number: int) -> list[str]:
    manners = compile_manners(plan, connection=number)
    lines = _manners(manners, plan, number)
    if manners.dial.resolve != "ok" or manners.dial.accept != "ok" or manners.upgrade.reply is not None:
        return lines  # it never gets as far as the tape
    actions: list[Action] = list(compile_script(timeline, plan, connection=number, manners=manners).actions)
    if number > 1:
        actions = _without_tickets(actions, plan)
    steps = _steps(actions, plan)
    if len(steps) > LINES_MAX:
        steps = [*steps[:LINES_MAX], f"and {len(steps) - LINES_MAX} more steps"]
    return [*lines, *steps] or ["nothing"]


def _manners(manners: Manners, plan: Plan, number: int) -> list[str]:
    lines = []
    usual = Manners()
    for planned in plan.faults:
        alone = compile_manners(_alone(plan, planned), connection=number)
        if alone != usual:
            parts = ", ".join(_difference(usual, alone))
            lines.append(f"from its start: {parts} ({planned.name})")
    # A fault with a probability has its own luck inside the plan; what really holds is said once more if it differs.
    return lines if lines or manners == usual else [f"from its start: {', '.join(_difference(usual, manners))}"]


def _difference(usual: Manners, other: Manners) -> list[str]:
    found = []
    for part in msgspec.structs.fields(Manners):
        for field in msgspec.structs.fields(type(getattr(usual, part.name))):
            value = getattr(getattr(other, part.name), field.name)
            if value != getattr(getattr(usual, part.name), field.name):
                found.append(f"{part.name}.{field.name} = {_value(field.name, value)}")
    return found


def _value(name: str, value: object) -> str:
    if name.endswith("_ns") and isinstance(value, int) and not isinstance(value, bool):
        return format_duration(value)
    text = repr(value) if not isinstance(value, msgspec.Struct) else f"HTTP {getattr(value, 'status', '')}"
    return text if len(text) <= TEXT_MAX else f"{text[: TEXT_MAX - 3]}..."


def _without_tickets(actions: Iterable[Action], plan: Plan) -> list[Action]:
    """The script of a connection for which no ticket is left: recorded frames go out in their place."""
    made: list[Action] = []
    for action in actions:
        once = action.fault != NO_FAULT and plan.faults[action.fault].once
        everywhere = isinstance(action, Withhold) and action.everywhere
        held = frames_held(action)
        if not once or everywhere:
            made.append(action)
        elif held is not None:
            made.append(Span(first=held[0], last=held[1]))
    return merged(made)


def _steps(actions: list[Action], plan: Plan) -> list[str]:
    steps: list[str] = []
    runs: list[tuple[str, int, int, str, str]] = []  # verb, first, last, why, detail

    def flush() -> None:
        for verb, first, last, why, detail in runs:
            frames = f"frame {first + 1}" if last == first + 1 else f"frames {first + 1} to {last}"
            steps.append(f"{frames} {verb}{detail if last == first + 1 else ''}{why}")
        runs.clear()

    for action in merged(actions):
        why = f" ({plan.faults[action.fault].name})" if action.fault != NO_FAULT else ""
        held = frames_held(action)
        if held is None:
            flush()
            steps.append(_event(action) + why)
            if isinstance(action, (Abort, Eof)) or (isinstance(action, Close) and action.then != "data"):
                return steps
            continue
        verb, detail = _verb(action)
        if runs and runs[-1][0] == verb and runs[-1][2] == held[0] and runs[-1][3] == why:
            runs[-1] = (verb, runs[-1][1], held[1], why, "")
        else:
            runs.append((verb, *held, why, detail))
    flush()
    return steps


def _verb(action: Action) -> tuple[str, str]:
    """What happens to frames, and more about a single one."""
    if isinstance(action, Span):
        words = []
        if action.shift_ns:
            words.append(f"{format_duration(action.shift_ns)} late")
        if action.stretch != 1.0:
            words.append(f"at {1 / action.stretch:g} times their pace")
        if action.not_before_ns:
            words.append(f"held until {_at(action.not_before_ns)}")
        return ", ".join(words) or "on time", ""
    if isinstance(action, Withhold):
        if action.later:
            return "held back", ""
        where = ", from REST too" if action.everywhere else ""
        only = f" of {', '.join(action.streams)}" if action.streams else ""
        return f"withheld{only}{where}", ""
    if isinstance(action, Wire):
        return "replaced by bytes", f": {_shown(action.data)}"
    assert isinstance(action, Send)
    if action.change == "none":
        return "on time", ""
    return "changed", f": {_shown(action.payload)}"


def _event(action: Action) -> str:
    when = f"at {_at(action.due_ns)}" if not isinstance(action, Span) else ""
    if isinstance(action, Send):
        if action.change == "late":
            return f"{when} frame {action.frame + 1}, late"
        return f"{when} added: {_shown(action.payload)}"
    if isinstance(action, Wire):
        return f"{when} {len(action.data)} bytes: {_shown(action.data)}"
    if isinstance(action, Close):
        reason = f" {action.reason.decode('utf-8', 'backslashreplace')!r}" if action.reason else ""
        code = "without a code" if action.code is None else str(action.code)
        return f"then close {code}{reason} {when}"
    if isinstance(action, Abort):
        return f"then RST {when}"
    if isinstance(action, Eof):
        return f"then FIN {when}"
    assert isinstance(action, Change), action
    return f"{when} {action.field} = {_value(action.field, action.value)}"


def _at(tape_ns: int) -> str:
    return f"{tape_ns / 1e9:.3f} s"


def _shown(data: bytes) -> str:
    text = data[: TEXT_MAX + 1].decode("utf-8", "backslashreplace")
    text = "".join(sign if sign.isprintable() else "·" for sign in text)
    return text if len(data) <= TEXT_MAX else f"{text[:TEXT_MAX]}..."
