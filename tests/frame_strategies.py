"""The frame strategies under the names that our own tests use."""

from harness.strategies import agg_trades, frames
from harness.strategies import messages as data

__all__ = ["agg_trades", "data", "frames"]
