"""What docs/orderflow.md shows is so."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import msgspec
import pytest

from orderflow import registry
from orderflow.btc_order_flow_metrics import BTCOrderFlowMetrics
from orderflow.order_flow_service import OrderFlowService
from orderflow.settings import StreamSettings
from tests.orderflow.strategies import make_trade

TEXT = (Path(__file__).parents[2] / "docs" / "orderflow.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_every_example_is_python(block):
    compile(block.replace("...}", "}").replace(", }", "}"), "docs", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_figures_can_be_asked_as_shown():
    (block,) = (block for block in BLOCKS if "get_volume_spike" in block)
    service = registry.order_flow_service = OrderFlowService()
    try:
        service.analyzer.update_trade("BTCUSDT", make_trade(0))
        exec(block, {"service": service, "BTCOrderFlowMetrics": BTCOrderFlowMetrics})
    finally:
        registry.clear()


def test_the_settings_have_the_defaults_that_the_table_tells():
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", TEXT, re.MULTILINE)
    assert len(rows) >= 4
    for name, value in rows:
        assert getattr(StreamSettings(), name) == float(value), name


def test_a_typo_in_a_setting_is_an_error():
    with pytest.raises(TypeError):
        StreamSettings(stall_timeuot_s=1.0)
    assert all(field.name == field.name.lower() for field in msgspec.structs.fields(StreamSettings))
