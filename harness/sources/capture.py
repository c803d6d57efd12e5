"""What an importer gives: frames, and an account of what it took and left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.frames import Frame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.frames.trades import Trades


class Tally:
    """Counts what was taken, and what was skipped and why. Complete when the frames have been read to the end."""

    def __init__(self) -> None:
        self.taken = 0
        self.skipped: dict[str, int] = {}
        self.first_place: dict[str, int] = {}
        """Line or item of the first one skipped for each reason."""
        self.remarks: list[str] = []
        """What is not as received, for example columns that the source does not have."""

    def skip(self, reason: str, place: int) -> None:
        """Count one line or item that becomes no frame."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
        self.first_place.setdefault(reason, place)

    def remark(self, text: str) -> None:
        """Note, once, something that a user of the recording should know."""
        if text not in self.remarks:
            self.remarks.append(text)


class Capture:
    """
    A file of somebody else's, read as frames.

    Args:
        path: the file.
        kind: what it is, in words.
        raw: the frames are the bytes that the exchange sent; False where they were rendered from columns.
        endpoint: where they came from, as far as the file says.
        pieces: the frames, in the order of the file, some of them in columns; read once.
        tally: filled while the frames are read.
    """

    def __init__(
        self, path: Path, *, kind: str, raw: bool, endpoint: str, pieces: Iterator[Frame | Trades], tally: Tally
    ) -> None:
        self.path = path
        self.kind = kind
        self.raw = raw
        self.endpoint = endpoint
        self.pieces = pieces
        self.tally = tally

    @property
    def frames(self) -> Iterator[Frame]:
        """The frames, each by itself; read once."""
        for piece in self.pieces:
            if isinstance(piece, Frame):
                yield piece
            else:
                yield from piece.frames()
