"""What the guides show exists: links lead somewhere, Python compiles, options and faults are those of the programs."""

from __future__ import annotations

import configparser
import re
import shlex
import tomllib

import pytest

from harness.cli import VERBS, main
from harness.faults.plan import parse_fault
from tests.conftest import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FAULT = re.compile(r"(?:--fault |faults=\[\")([a-z]+\.[a-z][^\s\"'`\]]*)")


def anchors(text):
    heads = re.findall(r"^#+ (.+)$", BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def blocks(text, *kinds):
    return [body for kind, body in BLOCK.findall(text) if kind in kinds]


def commands(text):
    """Every `harness VERB ...` line of the blocks, as words; a line that ends in a backslash goes on."""
    for body in blocks(text, "", "sh", "bash", "shell", "console"):
        for line in body.replace("\\\n", " ").splitlines():
            written = line.strip().removeprefix("$ ")
            if written.startswith("harness ") and "..." not in written:
                yield shlex.split(written, comments=True)[1:]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_inside_the_project_leads_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in LINK.findall(BLOCK.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_python_and_toml_that_is_shown_can_be_read(page):
    text = page.read_text(encoding="utf-8")
    for body in blocks(text, "python"):
        compile(body, str(page), "exec", flags=0x2000)  # PyCF_ALLOW_TOP_LEVEL_AWAIT
    for body in blocks(text, "toml"):
        tomllib.loads(body)


@pytest.fixture(scope="module")
def options():
    """The options of each verb, from its own help."""
    found = {}
    for verb in VERBS:
        with pytest.MonkeyPatch.context() as patch:
            written = []
            patch.setattr("argparse.ArgumentParser._print_message", lambda _, text, *__: written.append(text))  # noqa: B023
            main([verb, "--help"])
        found[verb] = set(re.findall(r"--[a-z][a-z-]*", "".join(written)))
    return found


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_name_verbs_and_options_that_exist(page, options):
    for words in commands(page.read_text(encoding="utf-8")):
        if words[0] == "--version":
            continue
        assert words[0] in options, words
        ours = words[1 : words.index("--")] if "--" in words else words[1:]
        for word in ours:
            if word.startswith("--"):
                assert word.partition("=")[0] in options[words[0]], words


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_faults_that_are_shown_exist(page):
    for text in FAULT.findall(page.read_text(encoding="utf-8")):
        if not text.startswith("layer.kind"):  # the form itself
            parse_fault(text, page.name)


def test_the_lowest_versions_are_those_of_the_distribution():
    menu = configparser.ConfigParser(interpolation=None)
    menu.read(ROOT / "tox.ini")
    pinned = dict(line.split("==") for line in menu["testenv:lowest"]["deps"].split())
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    bounds = dict(requirement.split(">=") for requirement in wanted)
    assert set(pinned) == set(bounds)
    for name, bound in bounds.items():
        assert pinned[name].startswith(bound), name


def test_every_environment_of_the_menu_says_what_it_is():
    menu = configparser.ConfigParser(interpolation=None)
    menu.read(ROOT / "tox.ini")
    for name in menu.sections():
        if name.startswith("testenv"):
            assert menu[name].get("description"), name
