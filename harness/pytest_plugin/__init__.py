"""The harness in a test suite; loading this module imports nothing heavy.

@pytest.mark.recording("btcusdt.parquet", faults=["tcp.reset_peer@frame=100"])
async def test_survives_a_reset(exchange):
    service = OrderFlowService()
    await service.start(["btcusdt"])
    verdict = await exchange.judge(service)
    assert verdict.intact, verdict

def test_no_silent_failures(harness_run):
    assert not harness_run("app.flow:OrderFlowService", faults="all").silent
"""

from __future__ import annotations

import argparse
import inspect
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.pytest_plugin.batch import BatchResult
    from harness.pytest_plugin.exchange import PlayedExchange

MODES = ("none", "once", "new_episodes", "all", "rewrite")
SAME = "the same as --harness-block-network"
MARKER = (
    "recording(path, *, faults=(), seed=0, speed=1, symbols=None, deadline='60s', retime='auto', tap=None): the "
    "recording that the `exchange` fixture serves, and how"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("harness", "record, replay and break an exchange")
    group.addoption(
        "--harness-record-mode",
        choices=MODES,
        default=None,
        help="none: a missing recording is an error (default); once: record it from the real exchange; new_episodes: "
        "record what no episode holds yet; all: record one more episode; rewrite: record anew",
    )
    group.addoption("--harness-recordings", metavar="DIR", default=None, help="where recordings are [recordings]")
    group.addoption(
        "--harness-jobs", type=_from_one, default=None, metavar="N", help="runs at a time of harness_run [8]"
    )
    group.addoption("--harness-seed", type=int, default=None, metavar="N", help="seed of runs that name none [0]")
    group.addoption("--harness-duration", default=None, metavar="D", help="how long to record [10s]")
    group.addoption(
        "--harness-block-network",
        action="store_true",
        default=None,
        help="tests reach this machine only; other names raise",
    )
    try:
        # The name that users of pytest-recording know; theirs wins where both are installed.
        group.addoption("--block-network", action="store_true", dest="harness_block_network", help=SAME)
    except ValueError:
        pass
    parser.addini("harness_record_mode", "default of --harness-record-mode", default=None)
    parser.addini("harness_recordings", "default of --harness-recordings", default=None)
    parser.addini("harness_block_network", "default of --harness-block-network", type="bool", default=False)


def _from_one(text: str) -> int:
    # `harness.cli` has the same for its options, and imports more than a plugin may.
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, so that `--strict-markers` accepts it."""
    config.addinivalue_line("markers", MARKER)
    mode = setting(config, "record_mode", "none")
    if mode not in MODES:
        raise pytest.UsageError(f"harness_record_mode = {mode}: expected one of {', '.join(MODES)}")


def setting(config: pytest.Config, name: str, default: Any) -> Any:
    """An option of the command line, else of the configuration file, else the default."""
    given = config.getoption(f"harness_{name}", None)
    if given is None and name in {"record_mode", "recordings", "block_network"}:
        given = config.getini(f"harness_{name}") or None
    return default if given is None else given


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """
    Run a coroutine with `exchange` that nobody else has taken, so that such a test needs no other plugin.

    pytest-asyncio (by mode or by mark), anyio and a hook of the suite's own come before.
    """
    if "exchange" not in pyfuncitem.fixturenames or not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    import asyncio

    wanted = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: value for name, value in pyfuncitem.funcargs.items() if name in wanted}))
    return True


@pytest.fixture(autouse=True)
def _harness_network(request: pytest.FixtureRequest) -> Iterator[None]:
    if not setting(request.config, "block_network", default=False) or "exchange" in request.fixturenames:
        yield  # the exchange fixture lets nothing through anyway
        return
    from harness.pytest_plugin.network import blocked

    with blocked():
        yield


@pytest.fixture
def exchange(request: pytest.FixtureRequest) -> Iterator[PlayedExchange]:
    """The live exchange playing the recording of the test's marker, with the real hosts redirected to it."""
    from harness.pytest_plugin.exchange import played

    with played(request) as one:
        yield one


@pytest.fixture
def harness_run(request: pytest.FixtureRequest) -> Callable[..., BatchResult]:
    """Runs a subject through faults, each in a worker process; see `batch.run_batch`."""
    from harness.pytest_plugin.batch import runner_of

    return runner_of(request)
