"""Unverified: data over TLS from whoever showed whatever certificate."""

from __future__ import annotations

import msgspec

from harness.ledger import Secured
from tests.harness.checks.case_builder import Story
from tests.harness.checks.test_never_connected import only


def with_certificate(certificate):
    story = Story(faults=["tls.expired"]).connect().deliver(0, 50)
    story.entries[:] = [
        msgspec.structs.replace(entry, certificate=certificate) if isinstance(entry, Secured) else entry
        for entry in story.entries
    ]
    return story


def test_data_taken_under_a_bad_certificate_is_found():
    finding = only(with_certificate("expired").judge())
    assert (finding.check, finding.stage, finding.signalled) == ("unverified", "tls", False)
    assert "expired" in finding.cause


def test_a_good_certificate_is_nothing_to_find():
    assert with_certificate("good").judge().intact
