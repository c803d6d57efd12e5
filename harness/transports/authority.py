"""The session's certificate authority, and a certificate for every way of being wrong.

Keys exist in memory and, while OpenSSL loads them, in files of a private temporary folder that goes
with the run. The CA signs nothing that any other program trusts.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import shutil
import ssl
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

if TYPE_CHECKING:
    from types import TracebackType

    from harness.actions import Tls

NAMES = (
    "stream.binance.com", "*.binance.com", "*.binance.vision", "*.testnet.binance.vision", "*.binance.us",
    "*.binancefuture.com", "localhost", "127.0.0.1", "::1",
)  # fmt: skip
"""Every host that a client of the exchange talks to, and loopback."""

_VERSIONS = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}


class Authority:
    """
    A CA for one session; a context manager. `cafile` is what clients must trust.

    Args:
        rsa: make RSA keys, whose signatures all have one length, so that equal conversations have equal sizes.
    """

    def __init__(self, *, rsa: bool = False) -> None:
        self._key_type = trustme.KeyType.RSA if rsa else trustme.KeyType.ECDSA
        # OpenSSL checks certificates by the real clock, whatever clock the subject lives by later.
        self._now = dt.datetime.now(tz=dt.UTC)
        self._folder = Path(tempfile.mkdtemp(prefix="harness-ca-"))  # mkdtemp makes it 0700
        self._ca = trustme.CA(organization_name="aggtrade-harness session", key_type=self._key_type)
        self.cafile = self._folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.cafile)
        self._contexts: dict[Tls, ssl.SSLContext] = {}
        self._leaves: dict[str, trustme.LeafCert] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder. May be called twice."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def context(self, manners: Tls) -> ssl.SSLContext:
        """Return a server context that behaves as the manners say."""
        key = msgspec.structs.replace(manners, handshake="ok", alert=0, farewell="notify")
        if key not in self._contexts:
            self._contexts[key] = self._make_context(manners)
        return self._contexts[key]

    def _make_context(self, manners: Tls) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf = self._leaf(manners.certificate)
        with tempfile.NamedTemporaryFile(dir=self._folder, suffix=".pem", delete=False) as file:
            chain = leaf.cert_chain_pems
            if manners.certificate == "missing_intermediate":
                chain = chain[:1]
            file.write(leaf.private_key_pem.bytes() + b"".join(blob.bytes() for blob in chain))
        try:
            context.load_cert_chain(file.name)
        finally:
            Path(file.name).unlink()
        if manners.version_max:
            if manners.version_max in {"1.0", "1.1"}:
                # OpenSSL 3 lets go of old versions only at security level 0.
                context.set_ciphers("ALL:@SECLEVEL=0")
                context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            with warnings.catch_warnings():
                # That it is deprecated is the point.
                warnings.simplefilter("ignore", DeprecationWarning)
                context.maximum_version = _VERSIONS[manners.version_max]
        if manners.ciphers:
            # A cipher list means TLS 1.2 and below; TLS 1.3 would pass it by.
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(manners.ciphers)
        if manners.tickets >= 0:
            context.num_tickets = manners.tickets
        if manners.alpn:
            context.set_alpn_protocols(list(manners.alpn))
        if manners.client_certificate:
            context.verify_mode = ssl.CERT_REQUIRED
            self._ca.configure_trust(context)
        return context

    def _leaf(self, kind: str) -> trustme.LeafCert:
        if kind not in self._leaves:
            self._leaves[kind] = self._issue(kind)
        return self._leaves[kind]

    def _issue(self, kind: str) -> trustme.LeafCert:
        now, key_type = self._now, self._key_type
        day = dt.timedelta(days=1)
        if kind == "expired":
            return self._ca.issue_cert(*NAMES, not_before=now - 30 * day, not_after=now - day, key_type=key_type)
        if kind == "not_yet_valid":
            return self._ca.issue_cert(*NAMES, not_before=now + 30 * day, not_after=now + 60 * day, key_type=key_type)
        if kind == "unknown_ca":
            return trustme.CA(organization_name="Unknown authority", key_type=key_type).issue_cert(
                *NAMES, key_type=key_type
            )
        if kind == "self_signed":
            return _self_signed(now, now + day, rsa_key=key_type is trustme.KeyType.RSA)
        if kind == "wrong_host":
            return self._ca.issue_cert("example.invalid", key_type=key_type)
        if kind == "missing_intermediate":
            return self._ca.create_child_ca(key_type=key_type).issue_cert(*NAMES, key_type=key_type)
        return self._ca.issue_cert(*NAMES, not_before=now - day, key_type=key_type)


def _self_signed(not_before: dt.datetime, not_after: dt.datetime, *, rsa_key: bool) -> trustme.LeafCert:
    key = rsa.generate_private_key(65537, 2048) if rsa_key else ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAMES[0])])
    alternatives: list[x509.GeneralName] = []
    for text in NAMES:
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(text)))
        except ValueError:
            alternatives.append(x509.DNSName(text))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return trustme.LeafCert(private, pem, [])
