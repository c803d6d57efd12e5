"""A whole program in virtual time, with an in-memory exchange: the same seed, the same run, byte for byte.

world    time, and who may run in it        loop     asyncio, waiting for the world
threads  locks and threads that take turns  transport, wire   one TCP connection: client's end, far end
clocks   time.*, datetime                   net      the exchange, and addresses that lead to it
seal     chance, hash order, garbage        launch   the environment of a worker process
"""

from __future__ import annotations

from harness.transports.sim.net import SimExchange
from harness.transports.sim.simulation import Simulation

__all__ = ["SimExchange", "Simulation"]
