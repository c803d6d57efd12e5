"""Unverified: the subject took data over TLS from whoever showed whatever certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checks.incident import Incident

if TYPE_CHECKING:
    from harness.checks.case import Case


def find(case: Case) -> list[Incident]:
    """At most one incident: verification is on or off."""
    for connection in case.connections.values():
        if connection.certificate == "good" or connection.upgraded_ns is None:
            continue
        return [
            Incident(
                check="unverified",
                stage="tls",
                start_ns=connection.secured_ns or connection.opened_ns,
                latest_ns=connection.upgraded_ns + case.question.deadline_ns,
                cause=f"the exchange showed a bad certificate ({connection.certificate.replace('_', ' ')}) and the "
                f"subject went on with connection {connection.number} all the same: anybody could be the exchange",
                suggestion="leave verification on (no CERT_NONE, no ssl=False), and install the CA that is missing",
            )
        ]
    return []
