"""AggTrades that their source has in columns: nobody need render each of them to write it down."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from harness.frames import Frame
from harness.frames.columns import chosen, render

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from harness.frames.columns import TradeColumns


class Trades:
    """
    Consecutive text frames of one connection; each is what the spot layout makes of its columns.

    Args:
        connection: from 1.
        received_at_ns: wall times, nanoseconds since 1970.
        monotonic_ns: as many steady times.
        columns: as many rows, every one `renderable`.
    """

    def __init__(
        self,
        connection: int,
        received_at_ns: NDArray[np.int64],
        monotonic_ns: NDArray[np.int64],
        columns: TradeColumns,
    ) -> None:
        self.connection = connection
        self.received_at_ns = received_at_ns
        self.monotonic_ns = monotonic_ns
        self.columns = columns

    def __len__(self) -> int:
        return len(self.received_at_ns)

    def __getitem__(self, part: slice) -> Trades:
        columns = chosen(self.columns, part)
        return Trades(self.connection, self.received_at_ns[part], self.monotonic_ns[part], columns)

    def frames(self) -> Iterator[Frame]:
        """The same as frames."""
        blob, offsets = render(self.columns)
        times = zip(self.received_at_ns.tolist(), self.monotonic_ns.tolist(), pairwise(offsets.tolist()), strict=True)
        for received_at_ns, monotonic_ns, (first, last) in times:
            yield Frame(
                connection=self.connection,
                received_at_ns=received_at_ns,
                monotonic_ns=monotonic_ns,
                data=blob[first:last],
            )
