"""Warnings that neither flood the log nor get lost.

The first remark of a kind is written at once. More of the same kind within the interval are counted,
and written as a number when the interval ends, so that a burst is always at least one record, and every one of
its members is accounted for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging


class Remarks:
    """
    A rate limit for log records of one kind.

    Args:
        logger: where they are written.
        interval_s: the shortest time between two records of one kind, in seconds.
    """

    def __init__(self, logger: logging.Logger, interval_s: float) -> None:
        self._logger = logger
        self._interval_s = interval_s
        self._said: dict[str, float] = {}
        self._kept_back: dict[str, tuple[int, int, str, tuple[Any, ...]]] = {}

    def say(self, now_s: float, level: int, kind: str, message: str, *args: object) -> None:
        """
        Write a record, or count it when one of its kind was written just now.

        Args:
            now_s: monotonic seconds.
            level: a level of `logging`.
            kind: what makes two remarks the same; include the symbol.
            message: a %-template.
            args: its values.
        """
        said = self._said.get(kind)
        if said is None or now_s - said >= self._interval_s:
            self._flush_one(kind)
            self._said[kind] = now_s
            self._logger.log(level, message, *args)
            return
        count, highest, _, _ = self._kept_back.get(kind, (0, 0, "", ()))
        self._kept_back[kind] = (count + 1, max(level, highest), message, args)

    def flush(self, now_s: float, *, everything: bool = False) -> None:
        """Write what was kept back longer than the interval; `everything` at the end."""
        for kind in list(self._kept_back):
            if everything or now_s - self._said[kind] >= self._interval_s:
                self._flush_one(kind)
                self._said[kind] = now_s

    def _flush_one(self, kind: str) -> None:
        kept = self._kept_back.pop(kind, None)
        if kept is not None:
            count, level, message, args = kept
            self._logger.log(level, f"{message} (and %d more like it)", *args, count - 1)
