"""Hypothesis: frames as an exchange, a proxy or a bug may send them."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from harness.frames import Frame, wrap

ids = st.one_of(st.integers(0, 10**4), st.integers(3 * 10**9, 4 * 10**9), st.integers(0, 2**62))
times = st.integers(1_500_000_000_000, 1_900_000_000_000)
symbols = st.sampled_from(["BTCUSDT", "ETHUSDT", "BTCUSD_PERP", "币安人生USDT", "A"])
streams = st.sampled_from(["btcusdt@aggTrade", "ethusdt@aggTrade", "币安人生usdt@aggTrade", "!miniTicker@arr"])
decimals = st.integers(0, 10**18 - 1).map(lambda n: f"{n // 10**8}.{n % 10**8:08d}")
odd_numbers = st.one_of(
    decimals, st.sampled_from(["0", "-1.5", "1e5", "NaN", "", "64339.20", "99999999999.1", "0.123456789"])
)


@st.composite
def agg_trades(draw) -> bytes:
    """Canonical ones, wrapped or not."""
    payload = (
        f'{{"e":"aggTrade","E":{draw(times)},"s":"{draw(symbols)}","a":{draw(ids)},"p":"{draw(decimals)}",'
        f'"q":"{draw(decimals)}","f":{draw(ids)},"l":{draw(ids)},"T":{draw(times)},'
        f'"m":{draw(st.sampled_from(["true", "false"]))},"M":true}}'
    ).encode()
    return wrap(draw(streams), payload) if draw(st.booleans()) else payload


@st.composite
def like_agg_trades(draw) -> bytes:
    """Nearly: keys permuted, added or missing, white space, other types, other markets."""
    fields = {
        "e": draw(st.sampled_from(["aggTrade", "trade", "aggTrade "])),
        "E": draw(st.one_of(times, st.integers(-5, 10**19), times.map(lambda t: t * 1000))),
        "s": draw(st.one_of(symbols, st.text(max_size=5))),
        "a": draw(st.one_of(ids, st.just(-1), st.integers(2**62, 2**65), st.just("7"))),
        "p": draw(odd_numbers),
        "q": draw(odd_numbers),
        "f": draw(st.one_of(ids, st.just(-1))),
        "l": draw(ids),
        "T": draw(times),
        "m": draw(st.sampled_from([True, False, None])),
        "M": True,
    }
    for key in draw(st.lists(st.sampled_from(sorted(fields)), max_size=2)):
        fields.pop(key, None)
    if draw(st.booleans()):
        fields["nq"] = "0.1"
    keys = draw(st.permutations(sorted(fields))) if draw(st.booleans()) else list(fields)
    separators = draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    payload = json.dumps({key: fields[key] for key in keys}, separators=separators, ensure_ascii=draw(st.booleans()))
    encoded = payload.encode("utf-8", "surrogatepass")
    return wrap(draw(streams), encoded) if draw(st.booleans()) else encoded


def data() -> st.SearchStrategy[bytes]:
    """Any payload of a data frame."""
    return st.one_of(agg_trades(), like_agg_trades(), st.binary(max_size=40), st.just(b'{"result":null,"id":1}'))


@st.composite
def frames(draw) -> Frame:
    """Any row of a recording."""
    kind = draw(st.sampled_from(["text", "text", "text", "binary", "ping", "pong", "close", "open", "lost", "gap"]))
    return Frame(
        connection=draw(st.integers(1, 3)),
        direction=draw(st.sampled_from(["received", "sent"])),
        kind=kind,
        received_at_ns=draw(st.integers(0, 2 * 10**18)),
        monotonic_ns=draw(st.integers(0, 10**18)),
        data=draw(data()) if kind in {"text", "binary"} else draw(st.binary(max_size=10)),
        close_code=draw(st.one_of(st.none(), st.integers(0, 65535))) if kind == "close" else None,
        detail=draw(st.text(max_size=10)),
    )
