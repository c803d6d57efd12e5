"""The only source of chance: one seed, named streams.

Each fault keeps its own luck: adding a fault to a plan leaves the draws of the others as
they were, since every stream is derived from the seed and its own name alone.
"""

from __future__ import annotations

import hashlib
from random import Random


def derive(seed: int, *names: str | int) -> Random:
    """
    Make the stream of chance that belongs to a name.

    Args:
        seed: the seed of the run.
        names: for example `"fault", 2, "connection", 1`.

    Returns:
        A generator; the same seed and names give the same draws on every machine.
    """
    return Random(derive_int(seed, *names))


def derive_int(seed: int, *names: str | int) -> int:
    """Make a 64-bit seed for generators of other libraries (`numpy.random.default_rng`)."""
    # The names are joined with a sign that no name contains, so ("a", "b") differs from ("ab",).
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
