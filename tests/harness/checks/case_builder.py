"""Ledgers by hand: a market of one trade every 100 ms, and a subject that takes what it is told to."""

from __future__ import annotations

import json

import numpy as np

from harness.checks import Question, Tape
from harness.clock import NS_PER_MS, NS_PER_S
from harness.ledger import (
    Accepted,
    Added,
    Answered,
    Attempted,
    Changed,
    Closed,
    HealthRead,
    Logged,
    MetricsRead,
    Noted,
    Opened,
    Secured,
    Sent,
    Struck,
    Subscribed,
    Upgraded,
    Withheld,
)
from harness.timeline import Timeline
from harness.verdict import judge

START = 5 * NS_PER_S
FIRST_ID = 3_120_000_000
STEP_MS = 100


def payload(frame, symbol="BTCUSDT", first_id=FIRST_ID, **changes):
    at_ms = 1_790_000_000_000 + frame * STEP_MS
    fields = {
        "e": "aggTrade",
        "E": at_ms + 3,
        "s": symbol,
        "a": first_id + frame,
        "p": f"{91_350 + frame}.10000000",
        "q": "0.50000000",
        "f": 1,
        "l": 1,
        "T": at_ms,
        "m": frame % 2 == 0,
        "M": True,
    }
    return json.dumps(fields | changes).encode()


class Store:
    def __init__(self, payloads):
        self.payloads = payloads

    def fetch(self, first, last):
        return self.payloads[first:last]


def timeline(count=50, symbols=("BTCUSDT",)):
    """Symbols take turns: frame i is of symbol i modulo their number."""
    codes = [i % len(symbols) for i in range(count)]
    payloads = [payload(i, symbols[code]) for i, code in enumerate(codes)]
    return Timeline(
        due_ns=np.arange(count, dtype=np.int64) * STEP_MS * NS_PER_MS,
        stream_codes=np.array(codes, dtype=np.int32),
        trade_ids=FIRST_ID + np.arange(count, dtype=np.int64),
        event_ms=np.array([json.loads(p)["E"] for p in payloads], dtype=np.int64),
        streams=tuple(f"{symbol.lower()}@aggTrade" for symbol in symbols),
        store=Store(payloads),
        start_ms=1_790_000_000_000,
    )


class Story:
    """A run told line by line; times in seconds since start()."""

    def __init__(self, count=50, symbols=("BTCUSDT",), deadline_s=10.0, end_s=30.0, faults=(), control=False):
        self.tape = Tape(timeline(count, symbols))
        self.count, self.symbols = count, symbols
        self.deadline_s, self.end_s = deadline_s, end_s
        self.faults, self.control = tuple(faults), control
        self.entries = []

    def at(self, seconds):
        return START + round(seconds * NS_PER_S)

    def due(self, frame):
        return frame * STEP_MS / 1000

    def add(self, seconds, kind, **fields):
        self.entries.append(kind(at_ns=self.at(seconds), **fields))
        return self

    def connect(self, seconds=0.0, number=1, subscribe=True):
        self.add(seconds, Attempted, host="stream.binance.com", port=9443, outcome="ok")
        self.add(seconds, Opened, connection=number, secure=True)
        self.add(seconds, Secured, connection=number)
        self.add(seconds, Upgraded, connection=number, target="/ws/btcusdt@aggTrade")
        if subscribe:
            streams = tuple(f"{symbol.lower()}@aggTrade" for symbol in self.symbols)
            tape_ns = max(0, round(seconds * NS_PER_S))
            self.add(seconds, Subscribed, connection=number, streams=streams, via="url", tape_ns=tape_ns)
        return self

    def send(self, first, last, number=1, at=None):
        for frame in range(first, last):
            self.add(self.due(frame) if at is None else at, Sent, connection=number, first=frame, last=frame + 1)
        return self

    def take(self, first, last, late=0.001, at=None):
        for frame in range(first, last):
            self.accept(frame, seconds=self.due(frame) + late if at is None else at)
        return self

    def accept(self, frame, seconds=None, **changes):
        trade = json.loads(self.tape.timeline.payload(frame))
        fields = {
            "symbol": trade["s"],
            "trade_id": trade["a"],
            "price": trade["p"],
            "quantity": trade["q"],
            "trade_time": trade["T"],
            "is_buyer_maker": trade["m"],
        }
        return self.add(self.due(frame) + 0.001 if seconds is None else seconds, Accepted, **(fields | changes))

    def deliver(self, first, last):
        return self.send(first, last).take(first, last)

    def change(self, frame, data, fault=0):
        return self.add(self.due(frame), Changed, connection=1, frame=frame, data=data, fault=fault)

    def extra(self, seconds, data, fault=0):
        return self.add(seconds, Added, connection=1, data=data, fault=fault)

    def withhold(self, first, last, everywhere=False):
        return self.add(self.due(first), Withheld, connection=0 if everywhere else 1, first=first, last=last, fault=0)

    def cut(self, seconds, number=1, by="network", how="reset", code=None):
        return self.add(seconds, Closed, connection=number, by=by, how=how, code=code)

    def strike(self, seconds, text="struck"):
        return self.add(seconds, Struck, connection=1, fault=0, text=text)

    def answer(self, seconds, first, last, target="/api/v3/aggTrades?symbol=BTCUSDT&fromId=1"):
        return self.add(
            seconds, Answered, target=target, status=200, first_id=FIRST_ID + first, last_id=FIRST_ID + last
        )

    def warn(self, seconds, text="lost the connection", logger="bot", level=30, template=None):
        names = {20: "INFO", 30: "WARNING", 40: "ERROR"}
        return self.add(
            seconds, Logged, logger=logger, level=level, level_name=names[level], template=template or text, text=text
        )

    def health(self, seconds, healthy, name="health()"):
        return self.add(seconds, HealthRead, name=name, value=str(healthy), healthy=healthy)

    def metric(self, seconds, name, value):
        return self.add(seconds, MetricsRead, name=name, value=value, before_ns=self.at(seconds))

    def note(self, seconds, what, text):
        return self.add(seconds, Noted, what=what, text=text)

    def question(self, end_s=None):
        return Question(
            symbols=self.symbols,
            deadline_ns=round(self.deadline_s * NS_PER_S),
            started_ns=START,
            closed_ns=self.at(self.end_s if end_s is None else end_s),
            clock_ns=START,
            faults=self.faults,
            negative_control=self.control,
        )

    def judge(self, noise=None):
        return judge(self.tape, self.entries, self.question(), noise)
