"""Why a connection could not be made or ended, in words a tired person understands."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import socket
import ssl

import msgspec
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI, WebSocketException


class Explanation(msgspec.Struct, frozen=True):
    """What happened, how bad it is, and how long the exchange wants to be left alone."""

    text: str
    level: int = logging.WARNING
    retry_after_s: float | None = None
    ours: bool = False
    """True: nothing of the network; a bug, to be logged with its traceback."""


def is_loopback(host: str | None) -> bool:
    """Tell whether the host is this machine; proxies named in the environment are not meant for it."""
    if host is None:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def retry_after_s(header: str | None) -> float | None:
    """Read a Retry-After header in seconds; None when there is none that can be read."""
    try:
        seconds = float(header) if header is not None else None
    except ValueError:
        return None
    return seconds if seconds is not None and 0 <= seconds < 10 * 86_400 else None


def explain(error: BaseException) -> Explanation:
    """Say why connecting or receiving failed."""
    if isinstance(error, ConnectionClosed):
        return Explanation(_closed(error))
    if isinstance(error, InvalidStatus):
        return _refused(error)
    if isinstance(error, InvalidURI):
        return Explanation(f"the address cannot be used: {error}", logging.ERROR)
    if isinstance(error, InvalidHandshake):
        return Explanation(f"the server does not speak WebSocket: {error}")
    if isinstance(error, socket.gaierror):
        return Explanation(f"the name cannot be resolved: {error.strerror or error}")
    if isinstance(error, ssl.SSLCertVerificationError):
        return Explanation(
            f"the certificate cannot be trusted: {getattr(error, 'verify_message', None) or error}", logging.ERROR
        )
    if isinstance(error, ssl.SSLError):
        return Explanation(f"TLS failed: {getattr(error, 'reason', None) or error}")
    if isinstance(error, ConnectionRefusedError):
        return Explanation("the connection was refused")
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return Explanation(f"no answer in time: {str(error) or 'timed out'}")
    if isinstance(error, OSError):
        return Explanation(f"the network failed: {type(error).__name__}: {error}")
    if isinstance(error, EOFError | WebSocketException):
        return Explanation(f"{type(error).__name__}: {str(error) or 'the server closed while connecting'}")
    return Explanation(f"unexpected {type(error).__name__}: {error}", logging.ERROR, ours=True)


def _closed(error: ConnectionClosed) -> str:
    if error.rcvd is not None:
        reason = f" ({error.rcvd.reason})" if error.rcvd.reason else ""
        return f"the exchange closed it with code {error.rcvd.code}{reason}"
    cause = error.__cause__
    if error.sent is not None:
        reason = f" ({error.sent.reason})" if error.sent.reason else ""
        return f"we closed it with code {error.sent.code}{reason}"
    if cause is not None:
        return f"it was cut without a close frame: {type(cause).__name__}: {cause}"
    return "it was cut without a close frame"


# Binance, "HTTP Return Codes" and reports of users: what each refusal of the upgrade means.
_REFUSALS = {
    400: "the request is malformed",
    403: "the firewall of the exchange blocks this address",
    404: "there is no such path",
    418: "this address is banned for too many requests",
    429: "too many requests",
    451: "the exchange does not serve this location",
    500: "the exchange has an internal error",
    502: "a gateway of the exchange is in trouble",
    503: "the exchange is unavailable, perhaps for maintenance",
    504: "a gateway of the exchange timed out",
}
_FINAL_FOR_NOW = frozenset({400, 401, 403, 404, 410, 418, 451})


def _refused(error: InvalidStatus) -> Explanation:
    response = error.response
    status = response.status_code
    wait_s = retry_after_s(response.headers.get("Retry-After"))
    if wait_s is None and status in {418, 429}:
        wait_s = 120.0 if status == 418 else 30.0  # bans last two minutes at least
    text = f"the exchange refused with HTTP {status}"
    if status in _REFUSALS:
        text += f": {_REFUSALS[status]}"
    said = _message(response.body)
    if said:
        text += f" ({said})"
    return Explanation(text, logging.ERROR if status in _FINAL_FOR_NOW else logging.WARNING, wait_s)


def _message(body: bytes | bytearray | None) -> str:
    # JSON from the exchange carries `msg`; pages of its gateways are HTML and tell nothing.
    try:
        value = json.loads(body or b"")
    except ValueError:
        return ""
    return str(value.get("msg", ""))[:200] if isinstance(value, dict) else ""
