"""The protocol core: bytes in, bytes out, time passed in.

settings    pace, dialect, limits          wire        frames: ours written, the client's read
core        Exchange: clock, tickets       http        requests read, answers rendered
connection  one TCP connection             binance     URLs and control messages
cursor      where it is in its script      rest        REST from the recording
tape        shared framed blocks           link        what the network does to bytes
marks       recorded disconnects           commands    FIN, RST, timers
injection   /harness/: faults by hand

"""

from __future__ import annotations

from harness.exchange.commands import Fin, Reset
from harness.exchange.connection import ExchangeConnection
from harness.exchange.core import Exchange
from harness.exchange.settings import MAX, ExchangeSettings, parse_speed

__all__ = ["MAX", "Exchange", "ExchangeConnection", "ExchangeSettings", "Fin", "Reset", "parse_speed"]
