"""Speech: what reaches a handler, and nothing that does not."""

from __future__ import annotations

import logging
import sys
import threading

import pytest

from harness.ledger import Logged, Noted
from harness.subjects import Speech
from tests.harness.subjects.hearing import logs


@pytest.fixture
def logger():
    made = logging.getLogger("bot.speech")
    yield made
    made.handlers.clear()
    made.filters.clear()
    made.propagate, made.disabled, made.level = True, False, logging.NOTSET


def test_a_warning_is_heard_with_its_template_and_its_text(heard, logger):
    logger.warning("lost %s", "btcusdt")
    (entry,) = [e for e in heard if isinstance(e, Logged)]
    assert (entry.logger, entry.level, entry.template, entry.text) == ("bot.speech", 30, "lost %s", "lost btcusdt")


def test_a_logger_that_does_not_propagate_is_heard_through_its_own_handler(heard, logger):
    logger.propagate = False
    logger.addHandler(logging.StreamHandler())
    logger.error("gone")
    assert logs(heard) == [("ERROR", "gone")]


def test_a_logger_with_nobody_behind_it_tells_nobody(heard, logger):
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    logger.error("gone")
    assert logs(heard) == []


def test_a_disabled_logger_tells_nobody(heard, logger):
    logger.disabled = True
    logger.error("gone")
    assert logs(heard) == []


def test_a_handler_that_takes_only_more_serious_things_does_not_count(heard, logger):
    logger.propagate = False
    handler = logging.StreamHandler()
    handler.setLevel(logging.CRITICAL)
    logger.addHandler(handler)
    logger.error("gone")
    assert logs(heard) == []


def test_what_a_filter_drops_is_not_heard(heard, logger):
    logger.propagate = False
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: "secret" not in record.msg)
    logger.addHandler(handler)
    logger.error("secret")
    logger.error("open")
    assert logs(heard) == [("ERROR", "open")]


def test_a_filter_that_counts_is_asked_once(heard, logger):
    # As limiters do that let the first of several equal records pass.
    seen, written = set(), []
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: record.msg not in seen and not seen.add(record.msg))
    handler.emit = lambda record: written.append(record.msg)
    logger.propagate = False
    logger.addHandler(handler)
    logger.error("gone")
    logger.error("gone")
    assert (written, logs(heard)) == (["gone"], [("ERROR", "gone")])


def test_a_handler_with_a_way_of_its_own_counts(heard, logger):
    class Pager(logging.Handler):
        def handle(self, record):
            pass

    logger.propagate = False
    logger.addHandler(Pager(logging.ERROR))
    logger.error("gone")
    logger.warning("shaky")
    assert logs(heard) == [("ERROR", "gone")]


def test_a_handler_that_counts_what_it_handles_drops_what_its_filter_drops(heard, logger):
    class Counted(logging.StreamHandler):
        def handle(self, record):
            super().handle(record)

    handler = Counted()
    handler.addFilter(lambda record: "secret" not in record.msg)
    logger.propagate = False
    logger.addHandler(handler)
    logger.error("secret")
    logger.error("open")
    assert logs(heard) == [("ERROR", "open")]


def test_a_handler_that_logs_itself_hides_nothing(heard, logger):
    class Noisy(logging.Handler):
        def emit(self, record):
            if record.levelno == logging.ERROR:
                logger.info("alarm sent")

    logger.propagate = False
    logger.addHandler(Noisy())
    logger.error("gone")
    assert logs(heard) == [("INFO", "alarm sent"), ("ERROR", "gone")]


def test_debug_is_left_out(heard, logger):
    logger.setLevel(logging.DEBUG)
    logger.debug("noise")
    assert logs(heard) == []


def test_prints_are_evidence():
    heard = []
    with Speech(heard.append, ignored_threads=()):
        print("hello")
        print("oops", file=sys.stderr)
    assert [(e.what, e.text) for e in heard if isinstance(e, Noted)] == [("print", "hello"), ("stderr", "oops")]


def test_a_record_that_a_handler_writes_to_stderr_is_not_heard_twice(heard, logger):
    logger.propagate = False
    logger.addHandler(logging.StreamHandler())
    logger.error("gone")
    assert [type(e) for e in heard] == [Logged]


def test_an_exception_that_kills_a_thread_is_evidence(heard):
    def die():
        raise LookupError("no such stream")

    thread = threading.Thread(target=die, name="feed")
    thread.start()
    thread.join()
    (note,) = [e for e in heard if isinstance(e, Noted)]
    assert note.what == "thread"
    assert "feed died of LookupError: no such stream" in note.text


def test_our_own_threads_are_not_heard(heard, logger):
    thread = threading.Thread(target=lambda: logger.error("ours"), name="harness-x")
    thread.start()
    thread.join()
    assert logs(heard) == []


def test_everything_is_taken_back():
    before = (
        logging.Logger.callHandlers,
        logging.Handler.handle,
        sys.stdout,
        sys.stderr,
        threading.excepthook,
        logging.getLogger().level,
    )
    with Speech([].append, ignored_threads=()):
        pass
    assert before == (
        logging.Logger.callHandlers, logging.Handler.handle, sys.stdout, sys.stderr, threading.excepthook,
        logging.getLogger().level,
    )  # fmt: skip
