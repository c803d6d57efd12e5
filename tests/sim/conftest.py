"""A world for the parts, and a whole simulation."""

from __future__ import annotations

import pytest

from harness.exchange import ExchangeSettings
from harness.redirect import Redirect
from harness.transports.authority import Authority
from harness.transports.sim import Simulation, threads
from harness.transports.sim.patches import Patches
from harness.transports.sim.world import World
from tests.harness.exchange.talk import START_MS, make_tape


@pytest.fixture
def world():
    """Virtual time and threads that take turns; clocks and chance stay real."""
    patches, world = Patches(), World()
    threads.install(world, patches)
    yield world
    world.end()
    patches.undo()


@pytest.fixture(scope="session")
def authority():
    with Authority(rsa=True) as made:
        yield made


@pytest.fixture
def simulation():
    with Simulation(seed=7, wall_ns=START_MS * 1_000_000) as made:
        yield made


@pytest.fixture
def stage(simulation, authority):
    """Set an exchange into the simulation: `stage(tape, plan)` returns it, with the real hosts' names leading to it."""
    redirects = []

    def build(tape=None, plan=None, **settings):
        exchange = simulation.exchange(
            make_tape() if tape is None else tape, plan, settings=ExchangeSettings(**settings), authority=authority
        )
        redirect = Redirect(exchange.gate, str(exchange.cafile))
        redirect.__enter__()
        redirects.append(redirect)
        return exchange

    yield build
    for redirect in redirects:
        redirect.__exit__(None, None, None)
