"""The queries of docs/recordings.md, done by other people's readers: decimals exact, times right."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from harness.frames import parse_agg_trade
from harness.recording import open_recording
from tests.conftest import ROOT

if TYPE_CHECKING:
    from harness.frames import AggTrade

PAGE = (ROOT / "docs" / "recordings.md").read_text(encoding="utf-8")
SQL = re.findall(r"```sql\n(.*?)\n```", PAGE, re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)\n```", PAGE, re.DOTALL)
SHIPPED = ROOT / "recordings" / "btcusdt.parquet"


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def trades() -> list[AggTrade]:
    """The shipped recording, read by ourselves."""
    return [trade for frame in open_recording(SHIPPED).frames() if (trade := parse_agg_trade(frame.data))]


def test_there_are_queries_on_the_page():
    assert len(SQL) >= 3
    assert len(PYTHON) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("query", SQL)
def test_duckdb_answers_every_query_of_the_page(query: str):
    duckdb = pytest.importorskip("duckdb")
    duckdb.sql(query).fetchall()


@pytest.mark.slow
def test_duckdb_reads_decimals_exactly_and_times_right(trades: list[AggTrade]):
    duckdb = pytest.importorskip("duckdb")
    rows = duckdb.sql(
        "SELECT agg_trade_id, price, quantity, epoch_ms(event_time), epoch_ms(trade_time), is_buyer_maker "
        f"FROM '{SHIPPED}'"
    ).fetchall()
    assert rows == [(t.agg_trade_id, t.price, t.quantity, t.event_ms, t.trade_ms, t.is_buyer_maker) for t in trades]
    (dollars,) = duckdb.sql(next(query for query in SQL if "dollars" in query)).fetchall()[0]
    assert dollars == sum((t.price * t.quantity for t in trades), Decimal(0))


@pytest.mark.slow
@pytest.mark.parametrize("code", PYTHON)
def test_the_python_of_the_page_runs(code: str):
    if "polars" in code:
        pytest.importorskip("polars")
    names: dict[str, object] = {}
    exec(code, names)  # our own page


@pytest.mark.slow
def test_polars_reads_decimals_exactly_and_times_right(trades: list[AggTrade]):
    polars = pytest.importorskip("polars")
    table = polars.read_parquet(SHIPPED)
    assert table["price"].to_list() == [trade.price for trade in trades]
    assert table["quantity"].to_list() == [trade.quantity for trade in trades]
    assert table["trade_time"][0] == datetime.fromtimestamp(trades[0].trade_ms / 1000, UTC)
    assert str(table.schema["received_at"]) == "Datetime(time_unit='ns', time_zone='UTC')"
