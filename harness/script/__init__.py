"""What one connection will do, exactly: a plan with its seed, compiled against the tape, and told in words."""

from __future__ import annotations

from harness.script.compile import (
    COMPILE_ORDER,
    Script,
    check,
    compile_manners,
    compile_market,
    compile_script,
)
from harness.script.words import explain

__all__ = ["COMPILE_ORDER", "Script", "check", "compile_manners", "compile_market", "compile_script", "explain"]
