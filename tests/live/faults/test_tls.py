"""TLS faults on the wire: what a verifying client meets, and what the records look like."""

from __future__ import annotations

import socket
import ssl

import pytest

from tests.harness.faults.tapes import trade
from tests.live.faults.wire import QUIET_S, Client, entries, get, serving, shows, works

pytestmark = [pytest.mark.live, pytest.mark.timeout(30)]

N = 5


def context(live, **fields):
    made = ssl.create_default_context(cafile=str(live.cafile))
    for key, value in fields.items():
        setattr(made, key, value)
    return made


def hello(live):
    """A real ClientHello, and the raw socket that it was sent on."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context(live).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    client = Client.below_tls(live)
    client.sock.sendall(outgoing.read())
    return client


CERTIFICATES = {
    "tls.expired": "certificate has expired",
    "tls.not_yet_valid": "certificate is not yet valid",
    "tls.self_signed": "self-signed certificate",
    "tls.unknown_ca": "unable to get local issuer certificate",
    "tls.missing_intermediate": "unable to get local issuer certificate",
    "tls.wrong_host": "Hostname mismatch",
}


@shows(*CERTIFICATES)
@pytest.mark.parametrize("spec", CERTIFICATES)
def test_a_verifying_client_refuses_the_certificate(spec):
    with serving(f"{spec}#connection=1", tls=True) as live:
        with pytest.raises(ssl.SSLCertVerificationError) as refused:
            Client(live, secure=True)
        assert CERTIFICATES[spec].replace("-", " ") in refused.value.verify_message.replace("-", " ") or CERTIFICATES[
            spec
        ] in str(refused.value)
        assert works(live, secure=True)
        assert [e.stage for e in entries(live, "Refused")] == ["tls"]


@pytest.mark.parametrize("spec", CERTIFICATES)
def test_a_client_that_does_not_verify_gets_its_data_all_the_same(spec):
    with serving(spec, tls=True) as live:
        careless = context(live, check_hostname=False, verify_mode=ssl.CERT_NONE)
        with Client(live, secure=True, context=careless) as client:
            assert client.messages(30) == [trade(i) for i in range(30)]


@shows("tls.cert_changes_on_reconnect")
def test_the_certificate_is_good_first_and_bad_later():
    with serving("tls.cert_changes_on_reconnect", tls=True) as live:
        assert works(live, secure=True)
        for _ in range(2):
            with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
                Client(live, secure=True)


@shows("tls.handshake_stall")
def test_the_client_hello_is_answered_by_silence():
    with serving("tls.handshake_stall#connection=1", tls=True) as live:
        with hello(live) as client:
            assert client.rest(timeout=QUIET_S) == (b"", "quiet")
        assert works(live, secure=True)


@shows("tls.handshake_abort", "tls.handshake_reset")
@pytest.mark.parametrize(("spec", "how"), [("tls.handshake_abort", "fin"), ("tls.handshake_reset", "reset")])
def test_the_client_hello_is_answered_by_an_end(spec, how):
    with serving(f"{spec}#connection=1", tls=True) as live:
        with hello(live) as client:
            assert client.rest() == (b"", how)
        assert works(live, secure=True)


@shows("tls.handshake_alert", "tls.unrecognized_name")
@pytest.mark.parametrize(
    ("spec", "number", "reason"),
    [
        ("tls.handshake_alert", 40, "HANDSHAKE_FAILURE"),
        ("tls.handshake_alert:alert=70", 70, "PROTOCOL_VERSION"),
        ("tls.unrecognized_name", 112, "UNRECOGNIZED_NAME"),
    ],
)
def test_the_client_hello_is_answered_by_a_fatal_alert(spec, number, reason):
    with serving(spec, tls=True) as live:
        with hello(live) as client:
            assert client.rest() == (bytes([21, 3, 3, 0, 2, 2, number]), "fin")
        with pytest.raises(ssl.SSLError) as failed:
            Client(live, secure=True)
        assert reason in failed.value.reason


@shows("tls.old_version")
def test_the_server_speaks_only_an_old_version():
    with serving("tls.old_version#connection=1-2", tls=True) as live:
        with pytest.raises(ssl.SSLError):
            Client(live, secure=True)
        old = context(live, check_hostname=False, verify_mode=ssl.CERT_NONE)
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        with Client(live, secure=True, context=old) as client:
            assert client.sock.version() == "TLSv1.1"
        assert works(live, secure=True)


@shows("tls.cipher_mismatch")
def test_the_server_offers_a_cipher_that_clients_leave_out():
    with serving("tls.cipher_mismatch", tls=True) as live:
        modern = context(live)
        modern.set_ciphers("ECDHE+AESGCM")
        with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
            Client(live, secure=True, context=modern)
        with pytest.raises(ssl.SSLError, match=r"PROTOCOL_VERSION|HANDSHAKE_FAILURE"):
            Client(live, secure=True, context=context(live, minimum_version=ssl.TLSVersion.TLSv1_3))


@shows("tls.plaintext")
def test_the_client_hello_is_answered_in_plain_http():
    with serving("tls.plaintext", tls=True) as live:
        with hello(live) as client:
            data, how = client.rest()
            assert data.startswith(b"HTTP/1.1 400 ")
            assert how == "fin"
        with pytest.raises(ssl.SSLError, match=r"WRONG_VERSION_NUMBER|RECORD"):
            Client(live, secure=True)


@shows("tls.alpn_h2")
def test_the_server_picks_h2_where_it_is_offered():
    with serving("tls.alpn_h2", tls=True) as live:
        offering = context(live)
        offering.set_alpn_protocols(["h2", "http/1.1"])
        with Client(live, secure=True, context=offering, upgrade=False) as client:
            assert client.sock.selected_alpn_protocol() == "h2"


@shows("tls.client_cert_required")
def test_the_server_insists_on_a_client_certificate():
    with serving("tls.client_cert_required#connection=1", tls=True) as live:
        # In TLS 1.3 the refusal comes behind the client's own handshake.
        with pytest.raises((ssl.SSLError, ConnectionError, Exception)) as refused:
            Client(live, secure=True)
        assert "CERTIFICATE_REQUIRED" in repr(refused.value) or "ended" in repr(refused.value).lower()
        assert works(live, secure=True)


@shows("tls.ticket_flood")
def test_many_tickets_come_behind_the_handshake():
    sizes = {}
    for tickets in (1, 100):
        with serving(f"tls.ticket_flood:tickets={tickets}", tls=True) as live:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context(live).wrap_bio(incoming, outgoing, server_hostname="localhost")
            with socket.create_connection(("127.0.0.1", int(live.urls["wss"].rpartition(":")[2]))) as sock:
                sock.settimeout(5)
                total = 0
                while True:
                    try:
                        tls.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        sock.sendall(outgoing.read())
                        incoming.write(sock.recv(65536))
                sock.sendall(outgoing.read())
                sock.settimeout(QUIET_S)
                try:
                    while data := sock.recv(65536):
                        total += len(data)
                except TimeoutError:
                    pass
            sizes[tickets] = total
    assert sizes[100] > 10 * sizes[1] > 0


# --- Ends and damage ------------------------------------------------------------------------------------


@shows("tls.ragged_eof")
def test_fin_comes_without_close_notify():
    with serving(f"tls.ragged_eof@frame={N}", tls=True) as live:
        with Client(live, secure=True) as client:
            assert client.all_messages() == ([trade(i) for i in range(N)], "ragged")
        assert works(live, secure=True)


def test_without_tls_a_ragged_end_is_a_plain_fin():
    with serving(f"tls.ragged_eof@frame={N}") as live, Client(live) as client:
        assert client.all_messages() == ([trade(i) for i in range(N)], "fin")


@shows("tls.bad_record", "tls.fatal_alert")
@pytest.mark.parametrize("spec", ["tls.bad_record", "tls.fatal_alert"])
def test_a_record_ends_the_connection(spec):
    with serving(f"{spec}@frame={N}", tls=True) as live:
        with Client(live, secure=True) as client:
            got, how = client.all_messages()
        assert got == [trade(i) for i in range(N)]
        assert how.startswith("tls: "), how
        assert works(live, secure=True)


@shows("tls.truncated_record")
def test_half_a_record_and_then_nothing():
    with serving(f"tls.truncated_record@frame={N}", tls=True) as live:
        with Client(live, secure=True) as client:
            assert client.all_messages() == ([trade(i) for i in range(N)], "quiet")
        assert works(live, secure=True)


def test_rest_over_the_plain_port_is_not_harmed_by_tls_faults():
    with serving("tls.expired", tls=True) as live:
        assert get(live, "/api/v3/ping")[0] == 200
