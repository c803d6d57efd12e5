"""One script, two ways to move bytes: the ledgers agree, apart from time."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import pytest
import websockets

from harness.exchange import ExchangeSettings
from harness.faults.plan import Plan, parse_fault
from harness.ledger import Accepted, Beat, Closed, Sent, Subscribed
from harness.redirect import Redirect
from harness.transports.live import LiveExchange
from harness.transports.sim import Simulation
from tests.harness.exchange.talk import MS, START_MS, make_tape

FRAMES = 8
# What strikes, strikes at the third frame; then there is time for a client on a busy machine to come back.
DUE_NS = [0, 100 * MS, 200 * MS, *(3_000 * MS + step * 100 * MS for step in range(FRAMES - 3))]
URL = "wss://stream.binance.com:9443/ws/btcusdt@aggTrade"


def body(exchange):
    """A client that reconnects until the tape has ended, or three times; what it received goes into the ledger."""

    async def client():
        last_id, failures = 0, 0
        while last_id < 1000 + FRAMES - 1 and failures < 3:
            with contextlib.suppress(websockets.WebSocketException, OSError):
                async with websockets.connect(URL, open_timeout=1) as connection:
                    while last_id < 1000 + FRAMES - 1:
                        message = await asyncio.wait_for(connection.recv(), 5)
                        trade = msgspec.json.decode(message)
                        last_id = trade.get("a", last_id)
                        exchange.exchange.write(
                            Accepted(
                                at_ns=0, symbol="BTCUSDT", trade_id=trade.get("a"), price=str(trade.get("p")),
                                quantity="", trade_time=None, is_buyer_maker=None,
                            )
                        )  # fmt: skip
            failures += 1
            # The farewell of one connection shall not fall together with the next.
            await asyncio.sleep(0.2)

    with contextlib.suppress(TimeoutError, msgspec.DecodeError):
        asyncio.run(client())


def live(plan):
    tape = make_tape(due_ns=DUE_NS)
    with LiveExchange(tape, plan, tls=True) as exchange, Redirect(exchange.gate, str(exchange.cafile)):
        body(exchange)
    return exchange.ledger


def simulated(plan, authority):
    with Simulation(wall_ns=START_MS * MS) as simulation:
        tape = make_tape(due_ns=DUE_NS)
        exchange = simulation.exchange(tape, plan, settings=ExchangeSettings(), authority=authority)
        with Redirect(exchange.gate, str(exchange.cafile)):
            body(exchange)
        exchange.raise_bugs()
    return exchange.ledger


def told(ledger):
    """What happened, without times, without the beat of keepalive, and without which moments fell together."""
    for entry in ledger:
        if isinstance(entry, Beat):
            continue
        plain = {
            key: value
            for key, value in msgspec.to_builtins(entry, builtin_types=(bytes,)).items()
            if not key.endswith("_ns")
        }
        if isinstance(entry, Sent):
            yield from ({**plain, "first": frame, "last": frame + 1} for frame in range(entry.first, entry.last))
        elif isinstance(entry, Closed) and entry.by == "client":
            yield {**plain, "how": ""}  # whether FIN or RST comes first is a race inside the kernel
        else:
            yield plain


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [
        (),
        ("tcp.reset_peer@frame=3",),
        ("tcp.fin_no_close@frame=3",),
        ("ws.close@frame=3",),
        ("payload.price_zero@frame=3",),
        ("payload.truncated@frame=3",),
        ("sequence.gap@frame=3",),
        ("sequence.duplicate@frame=3",),
        ("exchange.ack_then_silence",),
        ("tls.unknown_ca",),
        ("tls.handshake_stall#connection=1",),
        ("http.status:code=503#connection=1",),
        ("dns.fail#connection=1",),
        ("tcp.refuse#connection=1",),
        ("tcp.connect_blackhole#connection=1",),
    ],
    ids=lambda faults: " ".join(faults) or "none",
)
def test_sim_and_live_agree_apart_from_time(faults, authority):
    plan = Plan(tuple(map(parse_fault, faults)), 0)
    ledgers = [list(told(simulated(plan, authority))), list(told(live(plan)))]
    # On a busy machine the client takes a trade when the next has gone out: each writer has an order of its own.
    for is_taken in (False, True):
        one, other = ([entry for entry in ledger if (entry["entry"] == "accepted") is is_taken] for ledger in ledgers)
        assert one == other
    for ledger in ledgers:
        gone = 0
        for entry in ledger:
            gone += entry["entry"] in {"sent", "changed", "added"}
            gone -= entry["entry"] == "accepted"
            assert gone >= 0, "taken before it was sent"


def test_what_is_compared_is_no_empty_ledger(authority):
    ledger = simulated(Plan((), 0), authority)
    kinds = [type(entry) for entry in ledger]
    assert kinds.count(Accepted) == FRAMES
    assert Subscribed in kinds
