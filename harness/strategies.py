"""Hypothesis strategies: frames, recordings, faults and plans. Needs Hypothesis, which the harness itself does not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import msgspec
from hypothesis import strategies as st

from harness.faults import catalogue
from harness.faults.base import Duration, durations_of
from harness.faults.plan import NEVER_TAKES, Condition, Connections, Every, Plan, PlannedFault
from harness.frames import Frame, Kind, wrap

if TYPE_CHECKING:
    from collections.abc import Collection

    from hypothesis.strategies import DrawFn, SearchStrategy

    from harness.faults.base import Fault


_IDS = st.one_of(st.integers(0, 10**4), st.integers(3 * 10**9, 4 * 10**9), st.integers(0, 2**62))
_TIMES = st.integers(1_500_000_000_000, 1_900_000_000_000)
# Symbols outside ASCII exist, and so do streams that no symbol names.
_SYMBOLS = st.sampled_from(["BTCUSDT", "ETHUSDT", "BTCUSD_PERP", "币安人生USDT", "A"])
_STREAMS = st.sampled_from(["btcusdt@aggTrade", "ethusdt@aggTrade", "币安人生usdt@aggTrade", "!miniTicker@arr"])
_DECIMALS = st.integers(0, 10**18 - 1).map(lambda n: f"{n // 10**8}.{n % 10**8:08d}")
_ODD_NUMBERS = st.one_of(
    _DECIMALS, st.sampled_from(["0", "-1.5", "1e5", "NaN", "", "64339.20", "99999999999.1", "0.123456789"])
)


@st.composite
def agg_trades(draw: DrawFn) -> bytes:
    """An aggTrade message in the layout of the spot market, wrapped or not."""
    payload = (
        f'{{"e":"aggTrade","E":{draw(_TIMES)},"s":"{draw(_SYMBOLS)}","a":{draw(_IDS)},"p":"{draw(_DECIMALS)}",'
        f'"q":"{draw(_DECIMALS)}","f":{draw(_IDS)},"l":{draw(_IDS)},"T":{draw(_TIMES)},'
        f'"m":{draw(st.sampled_from(["true", "false"]))},"M":true}}'
    ).encode()
    return wrap(draw(_STREAMS), payload) if draw(st.booleans()) else payload


@st.composite
def nearly_agg_trades(draw: DrawFn) -> bytes:
    """Nearly an aggTrade: keys in another order, added or missing, white space, other types, other markets."""
    fields: dict[str, Any] = {
        "e": draw(st.sampled_from(["aggTrade", "trade", "aggTrade "])),
        "E": draw(st.one_of(_TIMES, st.integers(-5, 10**19), _TIMES.map(lambda t: t * 1000))),
        "s": draw(st.one_of(_SYMBOLS, st.text(max_size=5))),
        "a": draw(st.one_of(_IDS, st.just(-1), st.integers(2**62, 2**65), st.just("7"))),
        "p": draw(_ODD_NUMBERS),
        "q": draw(_ODD_NUMBERS),
        "f": draw(st.one_of(_IDS, st.just(-1))),
        "l": draw(_IDS),
        "T": draw(_TIMES),
        "m": draw(st.sampled_from([True, False, None])),
        "M": True,
    }
    for key in draw(st.lists(st.sampled_from(sorted(fields)), max_size=2)):
        fields.pop(key, None)
    if draw(st.booleans()):
        fields["nq"] = "0.1"
    keys = draw(st.permutations(sorted(fields))) if draw(st.booleans()) else list(fields)
    comma, colon = draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    ordered = {key: fields[key] for key in keys}
    text = json.dumps(ordered, separators=(comma, colon), ensure_ascii=draw(st.booleans()))
    payload = text.encode("utf-8", "surrogatepass")
    how = draw(st.sampled_from(["raw", "wrapped", "spaced"]))
    if how == "spaced":
        return b'{"stream"%s"%s"%s"data"%s%s}' % (
            colon.encode(), draw(_STREAMS).encode(), comma.encode(), colon.encode(), payload,
        )  # fmt: skip
    return wrap(draw(_STREAMS), payload) if how == "wrapped" else payload


def messages() -> SearchStrategy[bytes]:
    """Any payload of a text or binary frame."""
    return st.one_of(agg_trades(), nearly_agg_trades(), st.binary(max_size=40), st.just(b'{"result":null,"id":1}'))


@st.composite
def frames(draw: DrawFn) -> Frame:
    """Any row that a recording can hold."""
    kind: Kind = draw(st.sampled_from(["text", "text", "text", *get_args(Kind)]))
    return Frame(
        connection=draw(st.integers(1, 3)),
        direction=draw(st.sampled_from(["received", "sent"])),
        kind=kind,
        received_at_ns=draw(st.integers(0, 2 * 10**18)),
        monotonic_ns=draw(st.integers(0, 10**18)),
        data=draw(messages()) if kind in {"text", "binary"} else draw(st.binary(max_size=10)),
        close_code=draw(st.one_of(st.none(), st.integers(0, 65535))) if kind == "close" else None,
        detail=draw(st.text(max_size=10)),
    )


@st.composite
def recordings(draw: DrawFn, *, size_max: int = 50, symbol: str = "BTCUSDT", disconnects: bool = True) -> list[Frame]:
    """
    The rows of a sound recording of one symbol: ids without holes, clocks that never step back.

    Args:
        draw: given by Hypothesis.
        size_max: at most so many trades.
        symbol: of every trade.
        disconnects: now and then the connection is lost and opened again.
    """
    number = draw(st.integers(1, 4 * 10**9))
    wall_ns = draw(st.integers(15 * 10**17, 19 * 10**17))
    steady_ns, price, connection = draw(st.integers(0, 10**15)), draw(st.integers(1, 10**7)), 1
    rows = [Frame(connection=1, kind="open", received_at_ns=wall_ns, monotonic_ns=steady_ns)]
    for _ in range(draw(st.integers(1, size_max))):
        step_ns = draw(st.one_of(st.just(0), st.integers(0, 5 * 10**9)))
        wall_ns, steady_ns = wall_ns + step_ns, steady_ns + step_ns
        if disconnects and draw(st.integers(0, 30)) == 0:
            marks: tuple[Kind, ...] = ("lost", "open")
            for kind in marks:
                connection += kind == "open"
                rows.append(Frame(connection=connection, kind=kind, received_at_ns=wall_ns, monotonic_ns=steady_ns))
        price = max(1, price + draw(st.integers(-3, 3)))
        lots, maker, event_ms = draw(st.integers(1, 10**7)), draw(st.booleans()), wall_ns // 10**6
        rows.append(
            Frame(
                connection=connection,
                received_at_ns=wall_ns,
                monotonic_ns=steady_ns,
                data=(
                    f'{{"e":"aggTrade","E":{event_ms},"s":"{symbol}","a":{number}'
                    f',"p":"{price // 100}.{price % 100:02d}000000"'
                    f',"q":"{lots // 10**5}.{lots % 10**5:05d}000","f":{number},"l":{number},"T":{event_ms},'
                    f'"m":{"true" if maker else "false"},"M":true}}'
                ).encode(),
            )
        )
        number += 1
    return rows


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
