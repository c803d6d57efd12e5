"""Real, pinned public clients through a dozen faults: `python -m benchmarks.scoreboard`."""
