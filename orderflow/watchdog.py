"""A thread that speaks up when the event loop cannot.

All that runs on an event loop is silent when the loop is: not run again after `run_until_complete`, closed, or
blocked by a function that does not return. That was the incident: the stream's task existed, its
loop did not run, and nobody was left to say so. So the one who says so lives outside.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orderflow.binance_aggtrades_stream import BinanceAggTradesStream

logger = logging.getLogger(__name__)


class Watchdog(threading.Thread):
    """
    Watches one stream from outside its event loop.

    Args:
        stream: only a weak reference is kept, and the end of it is told too.
        interval_s: between two looks.
    """

    def __init__(self, stream: BinanceAggTradesStream, interval_s: float) -> None:
        super().__init__(name="order flow watchdog", daemon=True)
        self._stream = weakref.ref(stream)
        self._interval_s = interval_s
        self._ended = threading.Event()
        self._symbols = ", ".join(stream.symbols)
        self._trouble = ""
        self._troubled_since_s = 0.0
        self._next_remark_s = 0.0
        self._pause_s = 0.0

    def stop(self) -> None:
        """End the thread; it ends by itself within one interval."""
        self._ended.set()

    def run(self) -> None:
        """Look, until stopped or until there is nothing left to watch."""
        expected_s = time.monotonic() + self._interval_s
        while not self._ended.wait(self._interval_s):
            now_s = time.monotonic()
            # Were we late ourselves, the whole process was paused, and nothing can be said about the loop.
            paused = now_s - expected_s > max(1.0, 2 * self._interval_s)
            expected_s = now_s + self._interval_s
            stream = self._stream()
            if stream is None:
                logger.error(
                    "❌ the order flow stream of %s was garbage-collected while it ran: nothing is received any more; "
                    "keep a reference to the service",
                    self._symbols,
                )
                return
            if not paused:
                try:
                    self.look(stream, now_s)
                except Exception:
                    # The one who speaks up when all others are silent must not fall silent itself.
                    logger.exception("❌ the watchdog of %s stumbled; it goes on", self._symbols)
            del stream

    def look(self, stream: BinanceAggTradesStream, now_s: float) -> None:
        """Say what is wrong with the stream's event loop; first at once, then at growing intervals."""
        trouble = stream.loop_trouble(now_s)
        if not trouble:
            if self._trouble:
                logger.warning(
                    "order flow of %s: the event loop runs again, after %.1f s",
                    self._symbols,
                    now_s - self._troubled_since_s,
                )
                self._trouble = ""
            return
        if not self._trouble:
            self._troubled_since_s, self._next_remark_s, self._pause_s = now_s, now_s, 5.0
        self._trouble = trouble
        if now_s >= self._next_remark_s:
            self._next_remark_s = now_s + self._pause_s
            self._pause_s = min(self._pause_s * 2, 60.0)
            logger.error("❌ order flow of %s: %s", self._symbols, trouble)


def where(thread_id: int | None) -> str:
    """Say where a thread is at this moment, as `file:line in function`; empty when it cannot be known."""
    frame = sys._current_frames().get(thread_id) if thread_id is not None else None  # noqa: SLF001 - documented, for debuggers
    if frame is None:
        return ""
    code = frame.f_code
    return f"{code.co_filename}:{frame.f_lineno} in {code.co_name}"
