"""TLS: certificates, handshakes and ends. Without meaning on a plain `ws://` connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec

from harness.actions import Action, Change, Eof, Wire
from harness.faults.base import Context, Cut, Greeting, Strike
from harness.faults.tcp import mutes

if TYPE_CHECKING:
    from collections.abc import Sequence

# --- Certificates -------------------------------------------------------------------------------


class _Certificate(Greeting, frozen=True):
    certificate: ClassVar[str] = "good"

    def changes(self, context: Context) -> dict[str, Any]:
        return {"tls.certificate": self.certificate}


class Expired(_Certificate, frozen=True, tag="tls.expired"):
    """
    A missed renewal: the certificate ran out yesterday.

    A verifying client refuses the handshake.
    """

    certificate: ClassVar[str] = "expired"


class NotYetValid(_Certificate, frozen=True, tag="tls.not_yet_valid"):
    """
    The client's clock is behind, or a certificate was put in service too early.

    A verifying client refuses the handshake.
    """

    certificate: ClassVar[str] = "not_yet_valid"


class SelfSigned(_Certificate, frozen=True, tag="tls.self_signed"):
    """
    An appliance or a test server answers for the exchange.

    The certificate vouches for itself alone.
    """

    certificate: ClassVar[str] = "self_signed"


class UnknownCa(_Certificate, frozen=True, tag="tls.unknown_ca"):
    """
    A company's proxy intercepts TLS, or the client's CA bundle is missing.

    The certificate is signed by an authority that the client does not trust.
    """

    certificate: ClassVar[str] = "unknown_ca"


class MissingIntermediate(_Certificate, frozen=True, tag="tls.missing_intermediate"):
    """
    A deployment forgot the chain: browsers cope, Python does not.

    The server sends its own certificate without the intermediate that signed it.
    """

    certificate: ClassVar[str] = "missing_intermediate"


class WrongHost(_Certificate, frozen=True, tag="tls.wrong_host"):
    """
    The endpoint moved, or a CDN routed to another customer.

    The certificate is good, for another name.
    """

    certificate: ClassVar[str] = "wrong_host"


class CertChangesOnReconnect(Greeting, frozen=True, tag="tls.cert_changes_on_reconnect"):
    """
    A certificate rotation that reached only some of the servers.

    The first connection is good; every later one meets a bad certificate.
    """

    from_connection: ClassVar[int] = 2

    certificate: Literal["expired", "not_yet_valid", "self_signed", "unknown_ca", "wrong_host"] = "expired"
    """What later connections meet."""

    def changes(self, context: Context) -> dict[str, Any]:
        return {"tls.certificate": self.certificate} if context.connection > 1 else {}


# --- Handshakes -----------------------------------------------------------------------------------


class _Handshake(Greeting, frozen=True):
    handshake: ClassVar[str] = "ok"

    def changes(self, context: Context) -> dict[str, Any]:
        return {"tls.handshake": self.handshake}


class HandshakeStall(_Handshake, frozen=True, tag="tls.handshake_stall"):
    """
    An overloaded TLS terminator.

    The ClientHello is answered by silence.
    """

    handshake: ClassVar[str] = "stall"


class HandshakeAbort(_Handshake, frozen=True, tag="tls.handshake_abort"):
    """
    A terminator that dies, or a filter that dislikes the server name.

    FIN in answer to the ClientHello.
    """

    handshake: ClassVar[str] = "abort"


class HandshakeReset(_Handshake, frozen=True, tag="tls.handshake_reset"):
    """
    Censorship equipment or a stateful firewall kills the handshake.

    RST in answer to the ClientHello.
    """

    handshake: ClassVar[str] = "reset"


class HandshakeAlert(Greeting, frozen=True, tag="tls.handshake_alert"):
    """
    A cipher, version or name policy that the client does not meet.

    A fatal alert in answer to the ClientHello.
    """

    alert: Annotated[int, msgspec.Meta(ge=0, le=255)] = 40
    """RFC 8446, section 6: 40 handshake_failure, 70 protocol_version, 112 unrecognized_name."""

    def changes(self, context: Context) -> dict[str, Any]:
        return {"tls.handshake": "alert", "tls.alert": self.alert}


class UnrecognizedName(Greeting, frozen=True, tag="tls.unrecognized_name"):
    """
    The host name was retired at the terminator before it was in the DNS.

    A fatal alert 112 in answer to the ClientHello.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"tls.handshake": "alert", "tls.alert": 112}


class OldVersion(Greeting, frozen=True, tag="tls.old_version"):
    """
    A forgotten terminator that speaks only an old TLS.

    A client with today's policy refuses.
    """

    version: Literal["1.0", "1.1"] = "1.1"
    """The newest version that the server speaks."""

    def changes(self, context: Context) -> dict[str, Any]:
        return {"tls.version_max": self.version}


class CipherMismatch(Greeting, frozen=True, tag="tls.cipher_mismatch"):
    """
    A cipher policy changed on one side only.

    The server offers TLS 1.2 with one cipher that stock clients leave out.
    """

    ciphers: str = "AES128-SHA"
    """OpenSSL cipher list."""

    def changes(self, context: Context) -> dict[str, Any]:
        return {"tls.version_max": "1.2", "tls.ciphers": self.ciphers}


class Plaintext(_Handshake, frozen=True, tag="tls.plaintext"):
    """
    A captive portal, or a load balancer that sends TLS to the wrong port.

    The ClientHello is answered in plain HTTP.
    """

    handshake: ClassVar[str] = "plaintext"


class AlpnH2(Greeting, frozen=True, tag="tls.alpn_h2"):
    """
    A CDN's default: HTTP/2 for everybody who offers it.

    The server picks `h2` where the client offers it, and WebSocket over HTTP/1.1 fails.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"tls.alpn": ("h2",)}


class ClientCertRequired(Greeting, frozen=True, tag="tls.client_cert_required"):
    """
    A private gateway, or mutual TLS switched on by mistake.

    The server insists on a client certificate.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"tls.client_certificate": True}


class TicketFlood(Greeting, frozen=True, tag="tls.ticket_flood"):
    """
    A TLS 1.3 server that sends far more session tickets than usual.

    Legal, and read by the client before its first byte of data.
    """

    tickets: Annotated[int, msgspec.Meta(ge=1, le=255)] = 200
    """Tickets behind the handshake."""

    def changes(self, context: Context) -> dict[str, Any]:
        return {"tls.tickets": self.tickets}


# --- Ends and damage ------------------------------------------------------------------------------


class RaggedEof(Cut, frozen=True, tag="tls.ragged_eof"):
    """
    How most servers really die: FIN without close_notify.

    `SSL: UNEXPECTED_EOF_WHILE_READING`, behind the frame.
    """

    def after(self, strike: Strike, context: Context) -> Sequence[Action]:
        end = Eof(due_ns=strike.due_ns, fault=context.index, frame=strike.frame, strike=strike.number)
        return [*_ragged(strike, context), end]


def _ragged(strike: Strike, context: Context) -> list[Action]:
    return [
        Change(
            due_ns=strike.due_ns,
            field="tls.farewell",
            value="ragged",
            fault=context.index,
            frame=strike.frame,
            strike=strike.number,
        )
    ]


def _raw(data: bytes, strike: Strike, context: Context) -> Wire:
    return Wire(
        due_ns=strike.due_ns,
        data=data,
        below_tls=True,
        fault=context.index,
        stream=int(context.tape.stream_codes[strike.frame]),
        strike=strike.number,
    )


class BadRecord(Cut, frozen=True, tag="tls.bad_record"):
    """
    Faulty memory in a middlebox: a record whose MAC does not fit.

    An application record of random bytes behind the frame; the client must end the connection.
    """

    size: Annotated[int, msgspec.Meta(ge=17, le=16384)] = 64
    """Bytes in the record."""

    def after(self, strike: Strike, context: Context) -> Sequence[Action]:
        data = b"\x17\x03\x03" + self.size.to_bytes(2, "big") + context.rng.randbytes(self.size)
        return [_raw(data, strike, context)]


class FatalAlert(Cut, frozen=True, tag="tls.fatal_alert"):
    """
    An inspecting middlebox gives up in the middle of the stream.

    A fatal alert record, in plain, behind the frame.
    """

    alert: Annotated[int, msgspec.Meta(ge=0, le=255)] = 80
    """RFC 8446, section 6: 80 internal_error."""

    def after(self, strike: Strike, context: Context) -> Sequence[Action]:
        return [_raw(b"\x15\x03\x03\x00\x02\x02" + bytes([self.alert]), strike, context)]


class TruncatedRecord(Cut, frozen=True, tag="tls.truncated_record"):
    """
    The path dies inside a TLS record: half-open, one layer up.

    Half a record behind the frame, then nothing; the sockets stay open.
    """

    def after(self, strike: Strike, context: Context) -> Sequence[Action]:
        half = _raw(b"\x17\x03\x03\x10\x00" + context.rng.randbytes(100), strike, context)
        return [half, *mutes(strike, context, down=True, up=True)]
