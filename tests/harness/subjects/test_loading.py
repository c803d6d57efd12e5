"""From `module:attribute` to a subject, and one clear sentence when that does not work."""

from __future__ import annotations

import sys

import pytest

from harness.errors import SubjectError
from harness.subjects import Tap, anatomy, load


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module and return what imports from its folder."""

    def write(text, name="bot_under_test"):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
        monkeypatch.delitem(sys.modules, name, raising=False)
        return str(tmp_path)

    return write


def test_a_class_and_a_factory_are_called(module):
    path = module("class Bot:\n    def start(self, symbols): pass\ndef make(): return Bot()\n")
    assert type(load("bot_under_test:Bot", path)).__name__ == "Bot"
    assert type(load("bot_under_test:make", path)).__name__ == "Bot"


@pytest.mark.parametrize(
    ("spec", "text", "sentence"),
    [
        ("nosuch_module:Thing", "", "no module named 'nosuch_module'"),
        ("bot_under_test", "", "module:attribute"),
        ("bot_under_test:Bto", "class Bot: pass", "did you mean 'Bot'"),
        ("bot_under_test:Bot", "import nosuch_library", "cannot be imported: No module named 'nosuch_library'"),
        ("bot_under_test:Bot", "1/0", "ZeroDivisionError"),
        ("bot_under_test:Bot", "class Bot:\n    def __init__(self): raise OSError('disk')", "raised OSError: disk"),
    ],
)
def test_a_mistake_gets_one_clear_sentence(module, spec, text, sentence):
    path = module(text)
    with pytest.raises(SubjectError, match=sentence) as caught:
        load(spec, path)
    assert "\n" not in str(caught.value)


def test_what_a_subject_offers_is_found():
    class Bot:
        running = True

        async def start(self, symbols):
            pass

        async def aclose(self):
            pass

        def health(self):
            return True

        def status(self, verbose):
            """Wants an argument, so it is no health."""

        def accepted(self, trade):
            pass

    found = anatomy(Bot())
    assert (found.start, found.stop, found.tap, found.health) == ("start", "aclose", "accepted", ("health", "running"))


def test_properties_that_raise_before_start_hide_nothing_of_the_rest():
    class Bot:
        @property
        def analyzer(self):
            raise RuntimeError("call start() first")

        @property
        def connect(self):
            raise RuntimeError("call start() first")

        def run(self):
            pass

        def on_trade(self, trade):
            pass

    found = anatomy(Bot())
    assert (found.start, found.tap) == ("run", "on_trade")
    assert Tap([].append).attach(Bot())


def test_a_subject_that_cannot_be_started_is_refused():
    with pytest.raises(SubjectError, match="start"):
        anatomy(object())


def test_a_subject_that_ends_the_program_while_it_is_loaded_is_a_mistake_and_not_the_end(module):
    with pytest.raises(SubjectError, match=r"cannot be imported: SystemExit: 5 .*bot_under_test.py:1"):
        load("bot_under_test:Bot", module("raise SystemExit(5)"))
    with pytest.raises(SubjectError, match=r"Bot\(\) raised SystemExit: no key"):
        load("bot_under_test:Bot", module("class Bot:\n    def __init__(self): raise SystemExit('no key')\n"))


def test_a_mistake_is_placed_in_the_subject_and_never_in_ours(module):
    with pytest.raises(SubjectError, match=r"SyntaxError: [^()]* \([^()]*bot_under_test.py:2\)$"):
        load("bot_under_test:Bot", module("x = 1\ndef f(:\n"))
    with pytest.raises(SubjectError, match="'url'; it is called with no arguments: name a factory") as caught:
        load("bot_under_test:Bot", module("class Bot:\n    def __init__(self, url): pass\n"))
    assert "loading.py" not in str(caught.value)


def test_what_was_said_in_several_lines_is_said_in_one(module):
    path = module("class Bot:\n    def __init__(self): raise ValueError('2 settings miss:\\n  KEY\\n  SECRET')\n")
    with pytest.raises(SubjectError, match="ValueError: 2 settings miss: KEY SECRET "):
        load("bot_under_test:Bot", path)


def test_a_file_name_in_place_of_a_module_gets_the_module(module):
    with pytest.raises(SubjectError, match=r"write bot\.flow:Bot$"):
        load("./bot/flow.py:Bot", module(""))


def test_a_package_below_src_is_found_for_who_forgot_it(tmp_path, monkeypatch):
    package = tmp_path / "src" / "sound_bot"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("class Bot: pass")
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SubjectError, match=r"add --path .*src$"):
        load("sound_bot:Bot", str(tmp_path))
