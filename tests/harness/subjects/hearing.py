"""What the tests of speech share."""

from harness.ledger import Logged


def logs(entries):
    """The records among what was heard: level and text."""
    return [(e.level_name, e.text) for e in entries if isinstance(e, Logged)]
