"""loguru and structlog: what they write is heard as what `logging` writes is, and once."""

from __future__ import annotations

import importlib
import io
import logging
import subprocess
import sys

import pytest
import structlog
from loguru import logger as loguru_logger

from harness.ledger import Logged
from harness.subjects import Speech
from tests.harness.subjects.hearing import logs


@pytest.fixture
def loguru():
    loguru_logger.remove()
    yield loguru_logger
    loguru_logger.remove()


@pytest.fixture
def structlog_to():
    """Structlog as it is without configuration, writing to a stream of ours."""
    structlog.reset_defaults()
    out = io.StringIO()
    yield structlog.wrap_logger(structlog.PrintLogger(out)), out
    structlog.reset_defaults()


def test_what_reaches_a_sink_of_loguru_is_heard_once_however_many_sinks_there_are(heard, loguru):
    loguru.add(lambda _: None, level="INFO")
    loguru.add(lambda _: None, level="WARNING")
    loguru.debug("noise")
    loguru.info("started")
    loguru.warning("lost btcusdt")
    loguru.warning("lost btcusdt")
    assert logs(heard) == [("INFO", "started"), ("WARNING", "lost btcusdt"), ("WARNING", "lost btcusdt")]


def test_a_sink_with_a_thread_of_its_own_and_a_handler_of_logging_are_sinks_like_others(heard, loguru):
    loguru.add(lambda _: None, enqueue=True)
    loguru.add(logging.NullHandler())
    try:
        raise OSError("reset")
    except OSError:
        loguru.exception("gone")
    loguru.complete()
    assert logs(heard) == [("ERROR", "gone [OSError: reset]")]


def test_loguru_without_a_sink_or_with_one_that_does_not_take_it_tells_nobody(heard, loguru):
    loguru.error("gone")
    loguru.add(lambda _: None, level="CRITICAL")
    loguru.add(lambda _: None, filter=lambda record: "secret" not in record["message"])
    loguru.error("secret")
    assert logs(heard) == []


def test_what_they_write_to_a_standard_stream_is_not_heard_twice(loguru):
    heard = []
    with Speech(heard.append, ignored_threads=()):
        loguru.add(lambda text: print(text, end=""), level="INFO")
        loguru.warning("lost")
        structlog.wrap_logger(structlog.PrintLogger(sys.stderr)).warning("lost")
    assert [type(entry) for entry in heard] == [Logged, Logged]


def test_a_record_that_is_led_from_one_library_to_the_other_is_one_record(heard, loguru):
    class ToLoguru(logging.Handler):
        def emit(self, record):
            loguru.opt(depth=6).log(record.levelname, record.getMessage())

    intercepted = logging.getLogger("bot.intercepted")
    intercepted.propagate = False
    intercepted.addHandler(ToLoguru())
    loguru.add(lambda _: None)
    intercepted.warning("there")
    loguru.remove()
    plain = logging.getLogger("bot.plain")
    loguru.add(lambda message: plain.warning(message.record["message"]))
    loguru.warning("and back")
    assert logs(heard) == [("WARNING", "there"), ("WARNING", "and back")]


def test_structlog_that_writes_by_itself_is_heard_by_its_event(heard, structlog_to):
    logger, out = structlog_to
    logger.debug("noise")
    logger.info("started")
    logger.warning("lost trades", symbol="btcusdt")
    logger.error("gone")
    assert logs(heard) == [("INFO", "started"), ("WARNING", "lost trades"), ("ERROR", "gone")]
    assert "btcusdt" in out.getvalue()


def test_what_structlog_filters_or_drops_is_not_heard(heard):
    def drop(*_):
        raise structlog.DropEvent

    quiet = structlog.make_filtering_bound_logger(logging.ERROR)
    structlog.wrap_logger(structlog.PrintLogger(io.StringIO()), wrapper_class=quiet).warning("lost")
    structlog.wrap_logger(structlog.PrintLogger(io.StringIO()), processors=[drop]).error("lost")
    assert logs(heard) == []


def test_structlog_over_logging_is_heard_once(heard):
    logger = structlog.wrap_logger(
        logging.getLogger("bot.struct"),
        processors=[structlog.stdlib.render_to_log_kwargs],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    logger.warning("lost")
    assert logs(heard) == [("WARNING", "lost")]


def test_they_are_heard_when_the_subject_imports_them_later_and_imported_by_nobody_else():
    code = """
import sys
from harness.subjects import Speech
heard = []
with Speech(heard.append, ignored_threads=()):
    early = [name for name in ("loguru", "structlog") if name in sys.modules]
    import loguru, structlog, inspect
    assert inspect.getsource(sys.modules["loguru._handler"])
    loguru.logger.warning("lost by loguru")
    structlog.get_logger().warning("lost by structlog")
print(early, [getattr(entry, "text", None) for entry in heard])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] ['lost by loguru', 'lost by structlog']\n"


def test_everything_is_taken_back():
    outputs, base = (importlib.import_module(f"structlog.{name}") for name in ("_output", "_base"))
    sinks, files = (importlib.import_module(f"loguru.{name}") for name in ("_simple_sinks", "_file_sink"))

    def hooked():
        return [
            sinks.StreamSink.write, files.FileSink.write, base.BoundLoggerBase._proxy_to_logger,
            outputs.PrintLogger.warning, outputs.BytesLogger.error, list(sys.meta_path),
        ]  # fmt: skip

    before = hooked()
    with Speech([].append, ignored_threads=()):
        assert all(one != other for one, other in zip(before, hooked(), strict=True))
    assert hooked() == before
