"""The shape of the project: the mirror, the map, the layers, the light plugin."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import harness

ROOT = Path(__file__).resolve().parent.parent


def test_the_map_names_every_module_and_no_other():
    named = set()
    for line in (harness.__doc__ or "").splitlines():
        if found := re.match(r"    ([a-z_]+(?:, [a-z_]+)*)  +\S", line + " "):
            named.update(found[1].split(", "))
        elif found := re.match(r"    (pytest_plugin) ", line):
            named.add(found[1])
    there = {module.name for module in pkgutil.iter_modules(harness.__path__)} - {"__main__"}
    assert named == there


def test_every_folder_of_python_is_a_package():
    """A folder without `__init__.py` is left out of the wheel without a word."""
    for package in ("harness", "orderflow"):
        for folder in {path.parent for path in (ROOT / package).rglob("*.py")}:
            assert (folder / "__init__.py").is_file(), folder


def test_the_plugin_imports_nothing_heavy():
    heavy = ["numpy", "pyarrow", "websockets", "httpx", "rich", "trustme"]
    code = f"import sys, harness.pytest_plugin; sys.stdout.write(','.join(m for m in {heavy!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_every_module_says_what_it_is():
    for path in [*(ROOT / "harness").rglob("*.py"), *(ROOT / "orderflow").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        assert not text.strip() or text.lstrip("#! \n").startswith(('"""', 'r"""')), path


def test_no_module_has_outgrown_its_idea():
    """Past 400 lines a module is asked what second idea it holds; past 600 the answer is not believed."""
    for path in [*(ROOT / "harness").rglob("*.py"), *(ROOT / "orderflow").rglob("*.py")]:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 600, path
