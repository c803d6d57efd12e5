"""The report's diagnostic steps: where on the way from a name to a trade does it stop?

resolve ─▶ connect ─▶ tls ─▶ upgrade ─▶ subscribe ─▶ receive        the endpoint, each with its own remedy
tasks, loops, trade history after some seconds                       a subject
"""

from __future__ import annotations

import datetime as dt
import json
import os
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from harness.checks.tape import parse_trade
from harness.clock import NS_PER_MS, monotonic_ns, wall_ns
from harness.errors import UsageError
from harness.hosts import await_
from harness.ledger import Accepted, HealthRead, Ledger, Logged, Raised
from harness.runner.ride import SubjectRide
from harness.subjects import HealthPoller, Speech, Tap, TaskWatch, health_names
from harness.subjects.tasks import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEFAULT_ENDPOINT = "wss://stream.binance.com:9443"
SKEW_MS = 2_000
"""More than this between the exchange's clock and ours makes age checks lie."""
EXPIRY_DAYS = 14
STOP_S = 10.0


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One stage, passed or not."""

    name: str
    ok: bool
    took_ms: float
    text: str
    remedy: str = ""


class _Stop(Exception):  # noqa: N818 - it ends the steps, and is no error of ours
    def __init__(self, text: str, remedy: str) -> None:
        super().__init__(text)
        self.text = text
        self.remedy = remedy


def endpoint_steps(url: str, symbol: str, *, timeout_s: float, cafile: str | None = None) -> Iterator[Step]:
    """
    Try an endpoint stage by stage, and stop at the first that fails.

    Args:
        url: `wss://host:port`, without path.
        symbol: whose aggTrade stream to subscribe to.
        timeout_s: for each stage.
        cafile: authority to trust; None for the machine's own.

    Raises:
        UsageError: the URL is none.
    """
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "wss" else 80)
    except ValueError as problem:
        raise UsageError(f"{url!r} is no endpoint: {problem}") from problem
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise UsageError(f"{url!r} is no endpoint; write wss://host:port")
    probe = _Probe(parts.hostname, port, symbol, timeout_s, cafile)
    stages: list[tuple[str, Callable[[], str]]] = [("resolve", probe.resolve), ("connect", probe.connect)]
    stages += [("tls", probe.tls)] if parts.scheme == "wss" else []
    stages += [("upgrade", probe.upgrade), ("subscribe", probe.subscribe), ("receive", probe.receive)]
    try:
        for name, stage in stages:
            began_ns = monotonic_ns()
            try:
                text, ok, remedy = stage(), True, ""
            except _Stop as stop:
                text, ok, remedy = stop.text, False, stop.remedy
            except TimeoutError:
                text, ok, remedy = f"nothing for {timeout_s:g} s", False, _TIMED_OUT[name]
            except OSError as problem:
                text, ok, remedy = str(problem.strerror or problem), False, _FAILED[name]
            yield Step(name=name, ok=ok, took_ms=(monotonic_ns() - began_ns) / NS_PER_MS, text=text, remedy=remedy)
            if not ok:
                return
    finally:
        probe.close()


_PROXY = "a firewall or proxy is likely; a WebSocket client does not use HTTPS_PROXY unless it is told to"
_TIMED_OUT = {
    "resolve": "the resolver does not answer: check /etc/resolv.conf, a VPN, the container's DNS",
    "connect": f"packets are dropped on the way: {_PROXY}; try port 443 instead of 9443",
    "tls": "the other side accepted and says nothing: a middlebox, or an overloaded terminator; try another network",
    "upgrade": "no answer to the HTTP upgrade: a proxy that does not know WebSocket, or an overloaded gateway",
    "subscribe": "no answer to SUBSCRIBE: messages over 4096 bytes are ignored; subscribe in batches",
    "receive": "subscribed and no trade: is the symbol traded, in lower case, and is this the path for its market?",
}
_FAILED = {
    "resolve": "the name is unknown here: check DNS and spelling (stream.binance.com, fstream.binance.com)",
    "connect": f"nobody listens, or somebody refuses: {_PROXY}",
    "tls": "see the message; an intercepting proxy needs its CA in SSL_CERT_FILE",
    "upgrade": "the connection was cut during the upgrade: try again later, from another network",
    "subscribe": "the connection was cut after the upgrade: too many connections, or a ban",
    "receive": "the connection was cut before the first trade: see the close code",
}


class _Probe:
    """A client that does one thing at a time."""

    def __init__(self, host: str, port: int, symbol: str, timeout_s: float, cafile: str | None) -> None:
        self.host, self.port, self.symbol = host, port, symbol.lower()
        self.timeout_s, self.cafile = timeout_s, cafile
        self.address: tuple[str, int] = ("", 0)
        self.sock: socket.socket | None = None
        self.protocol: Any = None

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()

    def resolve(self) -> str:
        # getaddrinfo has no timeout of its own.
        box: list[Any] = []
        thread = threading.Thread(target=lambda: box.append(_look_up(self.host, self.port)), daemon=True)
        thread.start()
        thread.join(self.timeout_s)
        if not box:
            raise TimeoutError
        if isinstance(box[0], OSError):
            raise box[0]
        addresses = list(dict.fromkeys(entry[4][0] for entry in box[0]))
        self.address = box[0][0][4][:2]
        return f"{self.host} is {', '.join(addresses[:3])}"

    def connect(self) -> str:
        self.sock = socket.create_connection(self.address, self.timeout_s)
        return f"{self.address[0]}:{self.address[1]}"

    def tls(self) -> str:
        assert self.sock is not None, "connected before"
        context = ssl.create_default_context(cafile=self.cafile)
        try:
            secure = context.wrap_socket(self.sock, server_hostname=self.host)
        except ssl.SSLCertVerificationError as problem:
            raise _Stop(problem.verify_message or str(problem), _certificate_remedy(problem)) from problem
        self.sock = secure
        certificate = secure.getpeercert() or {}
        until = dt.datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), dt.UTC)
        days = (until - dt.datetime.fromtimestamp(wall_ns() / 1e9, dt.UTC)).days
        issuer = dict(pair[0] for pair in certificate.get("issuer", ()) if pair)  # type: ignore[misc] # as ssl documents it
        soon = f", expires in {days} days" if days < EXPIRY_DAYS else ""
        return f"{secure.version()}, certificate of {issuer.get('organizationName', '?')} until {until:%Y-%m-%d}{soon}"

    def upgrade(self) -> str:
        scheme = "wss" if isinstance(self.sock, ssl.SSLSocket) else "ws"
        self.protocol = ClientProtocol(parse_uri(f"{scheme}://{self.host}:{self.port}/ws"))
        self.protocol.send_request(self.protocol.connect())
        self._pump(lambda events: bool(events) or self.protocol.handshake_exc is not None)
        problem = self.protocol.handshake_exc
        if problem is not None:
            status = getattr(getattr(problem, "response", None), "status_code", None)
            raise _Stop(
                str(problem),
                _STATUS.get(status or 0, "the answer is not that of a WebSocket server: check host, port and path"),
            )
        return "101 Switching Protocols"

    def subscribe(self) -> str:
        request = {"method": "SUBSCRIBE", "params": [f"{self.symbol}@aggTrade"], "id": 1}
        self.protocol.send_text(json.dumps(request).encode())
        answer = self._message(lambda found: found.get("id") == 1)
        if answer.get("error") or answer.get("code"):
            raise _Stop(
                json.dumps(answer), "the exchange refuses the stream: check symbol and stream name, in lower case"
            )
        return f"{self.symbol}@aggTrade acknowledged"

    def receive(self) -> str:
        found = self._message(lambda message: message.get("e") == "aggTrade")
        trade = parse_trade(json.dumps(found).encode())
        if trade is None or trade.event_time is None:
            raise _Stop(json.dumps(found)[:200], "this is no aggTrade of a kind that we know")
        skew_ms = wall_ns() // NS_PER_MS - trade.event_time
        clock = (
            f"; your clock is {skew_ms / 1000:+.1f} s off, so ages computed from it lie"
            if abs(skew_ms) > SKEW_MS
            else ""
        )
        return f"trade {trade.id} at {trade.price}, {skew_ms} ms old{clock}"

    def _message(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        found: list[dict[str, Any]] = []

        def look(events: list[Any]) -> bool:
            for event in events:
                data = getattr(event, "data", b"")
                if data[:1] == b"{":
                    try:
                        message = json.loads(data)
                    except (ValueError, RecursionError) as problem:
                        raise _Stop(f"a message that is no JSON: {data[:80]!r}", _NOT_JSON) from problem
                    if wanted(message):
                        found.append(message)
            return bool(found)

        self._pump(look)
        return found[0]

    def _pump(self, done: Callable[[list[Any]], bool]) -> None:
        # Move bytes until something is there; a deadline for the whole stage, pings answered on the way.
        assert self.sock is not None, "connected before"
        ends_ns = monotonic_ns() + int(self.timeout_s * 1e9)
        while True:
            for data in self.protocol.data_to_send():
                if data:
                    self.sock.sendall(data)
            if done(self.protocol.events_received()):
                return
            left_s = (ends_ns - monotonic_ns()) / 1e9
            if left_s <= 0:
                raise TimeoutError
            self.sock.settimeout(left_s)
            data = self.sock.recv(65536)
            if not data:
                code = self.protocol.close_code
                raise _Stop(
                    f"the other side closed the connection{f' ({code})' if code else ''}",
                    "see the close code; 1008 is a rule broken, 1001 a restart",
                )
            self.protocol.receive_data(data)


_NOT_JSON = "a proxy or another service answers in the exchange's place: check host, port and path"
_STATUS = {
    403: "a firewall of the exchange refuses this address: too many connections, or a blocked network",
    404: "this path does not exist: /ws and /stream do; the USD-M paths moved in 2026",
    418: "this address is banned for a while: wait as long as Retry-After says",
    429: "too many requests: wait as long as Retry-After says",
    451: "the exchange does not serve this location",
    502: "a gateway of the exchange is down: try again with backoff",
    503: "maintenance: try again with backoff",
}


def _certificate_remedy(problem: ssl.SSLCertVerificationError) -> str:
    remedies = {
        10: "the certificate has expired: check this machine's clock, then the endpoint",
        18: "a self-signed certificate: an intercepting proxy? its CA belongs in SSL_CERT_FILE",
        19: "a chain that ends in an unknown CA: an intercepting proxy? its CA belongs in SSL_CERT_FILE",
        20: "no CA bundle, or an intercepting proxy: install ca-certificates, or set SSL_CERT_FILE",
        62: "the certificate is for another name: the endpoint moved, or traffic is intercepted",
    }
    return remedies.get(
        problem.verify_code, "the certificate is not trusted: do not switch verification off, find out why"
    )


def _look_up(host: str, port: int) -> Any:
    try:
        return socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)
    except OSError as problem:
        return problem
    except UnicodeError:
        return OSError(f"{host} cannot be a name")


def proxies() -> list[str]:
    """Proxy variables that are set: some clients follow them, others do not."""
    return [
        name
        for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
        if os.environ.get(name) or os.environ.get(name.lower())
    ]


# --- A subject --------------------------------------------------------------------------------------


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """What a subject looks like after some seconds."""

    tasks: tuple[str, ...]
    loops: tuple[str, ...]
    accepted: dict[str, int]
    tap: str
    health: tuple[str, ...]
    said: tuple[str, ...]
    """Its last log lines."""
    threads: tuple[str, ...]

    @property
    def receives(self) -> bool:
        """Whether any trade arrived."""
        return bool(self.accepted)


def examine(spec: str, path: str, symbols: tuple[str, ...], tap_path: str | None, seconds: float) -> Examination:
    """
    Start a subject, watch it for some seconds, and stop it.

    Args:
        spec: `module:attribute`.
        path: folder to import from.
        symbols: passed to start().
        tap_path: `--tap`.
        seconds: how long to watch.

    Raises:
        HarnessError: it cannot be loaded.
    """
    ledger = Ledger(monotonic_ns())
    ours = ("harness-",)
    with Speech(ledger.write, ignored_threads=ours), TaskWatch(ledger.write, ignored_threads=ours) as watch:
        tap = Tap(ledger.write, tap_path)
        ride = SubjectRide(
            spec, path, symbols=symbols, write=ledger.write, tap=tap, tasks=watch, tap_path=tap_path, settings=None
        )
        host = threading.Thread(target=await_.run, args=(ride,), name="subject", daemon=True)
        host.start()
        health = HealthPoller(ledger.write, watch.running_loop)
        ends_ns = monotonic_ns() + int(seconds * 1e9)
        while monotonic_ns() < ends_ns:
            time.sleep(0.05)
            tap.attach(ride.subject)
            tap.poll()
            health.poll(ride.subject, health_names(ride.subject))
            watch.poll()
        tasks = tuple(text for record in watch.tasks if not record.ours and (text := describe(record)))
        loops = tuple(_loops(watch))
        threads = tuple(thread.name for thread in threading.enumerate() if not thread.name.startswith(ours))
        ride.over.set()
        ride.finished.wait(STOP_S)
        problem = [entry for entry in ledger if isinstance(entry, Raised)]
    accepted: dict[str, int] = {}
    for entry in ledger:
        if isinstance(entry, Accepted):
            accepted[entry.symbol] = accepted.get(entry.symbol, 0) + 1
    said = [f"{e.level_name} {e.text}" for e in ledger if isinstance(e, Logged)]
    said += [f"raised {e.type}: {e.text}" for e in problem]
    reads = {e.name: e.value for e in ledger if isinstance(e, HealthRead)}
    return Examination(
        tasks=tasks,
        loops=loops,
        accepted=accepted,
        tap=tap.found,
        health=tuple(f"{name}: {value}" for name, value in reads.items()),
        said=tuple(said[-6:]),
        threads=threads,
    )


def _loops(watch: TaskWatch) -> Iterator[str]:
    for record in watch.loops.values():
        loop = record.loop()
        if loop is None:
            continue
        state = "running" if loop.is_running() else "closed" if loop.is_closed() else "NOT running"
        yield f"loop of {record.thread}: {state}, {record.tasks} tasks of the subject made on it"
