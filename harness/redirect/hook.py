"""The patches that lead the real hosts' names to the exchange; the standard library alone.

This file is also loaded by path in child processes, which may have no harness installed: import
nothing of the project here, and nothing heavy.

    name ──▶ socket.getaddrinfo ──▶ gate(host, port) ──▶ 127.0.0.1:port      asyncio, urllib3, websocket-client, ...
             uvloop.Loop.create_connection ─┤                               does its own look-ups
             aiohttp AsyncResolver.resolve ─┘                               c-ares would ask the real DNS
    trust    SSLContext.wrap_bio, wrap_socket: the session CA is loaded first, whenever the context was made
    guard    socket.connect, connect_ex, sendto: nothing but loopback
    ports    anyio (httpx) keeps the address of a look-up and the port it had asked for; the guard sets it right

It fails closed: a name that the gate does not know raises, and so does a connect to any address that
is not loopback. Host header and SNI stay the real ones, so the certificate must carry those names.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.util
import os
import socket
import ssl
import sys
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    Gate = Callable[[str, int], tuple[str, int]]
    """Where to dial for a host and port; raises `socket.gaierror` for an unknown name."""

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "WS_PROXY", "WSS_PROXY")
"""A proxy would carry the traffic past us: `websockets` sends even loopback through it."""
TRUST_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "WEBSOCKET_CLIENT_CA_BUNDLE")

GATE = "HARNESS_REDIRECT_GATE"
CAFILE = "HARNESS_REDIRECT_CAFILE"
MARKERS = "HARNESS_REDIRECT_MARKERS"
HOOK = "HARNESS_REDIRECT_HOOK"


class Hook:
    """
    The patches of one process.

    Args:
        gate: see `Gate`.
        cafile: PEM of the session CA; None leaves trust alone.
        let_through: whether the calling thread is to reach the real network; None for no thread.
    """

    def __init__(self, gate: Gate, cafile: str | None, *, let_through: Callable[[], bool] | None = None) -> None:
        self.gate = gate
        self.cafile = cafile
        self._let_through = let_through or (lambda: False)
        self._undo: list[Callable[[], None]] = []
        self._trusted: weakref.WeakSet[ssl.SSLContext] = weakref.WeakSet()
        self._targets: dict[tuple[str, int], tuple[str, int]] = {}
        """Where to dial for the address that a look-up gave and the port it was given."""

    def install(self) -> None:
        """Patch the process; `uninstall` takes everything back."""
        self._patch_names()
        self._patch_guard()
        if self.cafile:
            self._patch_trust()
        self._patch_environment()
        self._patch_libraries()

    def uninstall(self) -> None:
        """Undo every patch, last first."""
        while self._undo:
            self._undo.pop()()

    # --- Names ------------------------------------------------------------------------------------

    def _patch_names(self) -> None:
        original = socket.getaddrinfo

        def getaddrinfo(
            host: Any,
            port: Any,
            family: int = 0,
            type: int = 0,  # noqa: A002 - the original's name
            proto: int = 0,
            flags: int = 0,
        ) -> Any:
            name = host.decode("idna") if isinstance(host, (bytes, bytearray)) else host
            if is_local(name) or self._let_through():
                return original(host, port, family, type, proto, flags)
            if is_address(name):
                return original(host, port, family, type, proto, flags | socket.AI_NUMERICHOST)
            target = self.gate(name, port_number(port))
            self._targets[target[0], port_number(port)] = target
            if family == socket.AF_INET6:
                raise socket.gaierror(socket.EAI_NONAME, f"{name} has no IPv6 address here")
            return [(socket.AF_INET, type or socket.SOCK_STREAM, proto or socket.IPPROTO_TCP, "", target)]

        def no_port(name: str, *_: Any) -> Any:
            if is_local(name) or is_address(name):
                return originals[0](name)
            raise socket.gaierror(socket.EAI_NONAME, f"{name} is not redirected: this look-up names no port")

        originals = [socket.gethostbyname]
        self._set(socket, "getaddrinfo", getaddrinfo)
        self._set(socket, "gethostbyname", no_port)
        self._set(socket, "gethostbyname_ex", no_port)

    def _patch_guard(self) -> None:
        def guarded(method: str, where: int) -> Callable[..., Any]:
            original = getattr(socket.socket, method)

            def call(sock: socket.socket, *args: Any) -> Any:
                address = args[where] if len(args) > abs(where) - (where < 0) else None
                if self._let_through():
                    return original(sock, *args)
                refuse_foreign(sock, address)
                if where == 0 and isinstance(address, tuple):
                    args = (self._targets.get(address[:2], address),)
                return original(sock, *args)

            return call

        for method, where in (("connect", 0), ("connect_ex", 0), ("sendto", -1)):
            self._set(socket.socket, method, guarded(method, where))

    # --- Trust ------------------------------------------------------------------------------------

    def _patch_trust(self) -> None:
        def trusting(method: str) -> Callable[..., Any]:
            original = getattr(ssl.SSLContext, method)

            def call(context: ssl.SSLContext, *args: Any, **kwargs: Any) -> Any:
                if not self._let_through():
                    self._trust(context)
                return original(context, *args, **kwargs)

            return call

        for method in ("wrap_bio", "wrap_socket", "load_default_certs", "set_default_verify_paths"):
            self._set(ssl.SSLContext, method, trusting(method))

    def _trust(self, context: ssl.SSLContext) -> None:
        # Contexts made before, by certifi or at a library's import, are reached here as well.
        if context not in self._trusted and context.protocol != ssl.PROTOCOL_TLS_SERVER:
            self._trusted.add(context)
            context.load_verify_locations(self.cafile)

    def _patch_environment(self) -> None:
        for name in PROXY_VARIABLES:
            self._set_variable(name, None)
            self._set_variable(name.lower(), None)
        for name in TRUST_VARIABLES:
            if self.cafile:
                self._set_variable(name, self.cafile)

    # --- Libraries with look-ups of their own -------------------------------------------------------

    def _patch_libraries(self) -> None:
        patches: dict[str, Callable[[ModuleType], None]] = {
            "uvloop": self._patch_uvloop,
            "aiohttp.resolver": self._patch_aiohttp,
        }
        for name, patch in patches.items():
            if name in sys.modules:
                patch(sys.modules[name])
        finder = AfterImport(patches)
        sys.meta_path.insert(0, finder)
        self._undo.append(lambda: sys.meta_path.remove(finder))

    def _patch_uvloop(self, uvloop: ModuleType) -> None:
        original = uvloop.Loop.create_connection

        async def create_connection(loop: Any, factory: Any, host: Any = None, port: Any = None, **kwargs: Any) -> Any:
            if self._let_through():
                return await original(loop, factory, host, port, **kwargs)
            if host and not is_local(host):
                if is_address(host):
                    raise OSError(f"{host} is not loopback, and nothing else is allowed here")
                if kwargs.get("ssl") and not kwargs.get("server_hostname"):
                    kwargs["server_hostname"] = host
                host, port = await loop.run_in_executor(None, self.gate, host, port_number(port))
            elif host:
                host, port = self._targets.get((host, port_number(port)), (host, port))
            return await original(loop, factory, host, port, **kwargs)

        async def getaddrinfo(loop: Any, host: Any, port: Any, **kwargs: int) -> Any:
            # libuv has a resolver of its own; ours is `socket.getaddrinfo`, looked up now.
            return await loop.run_in_executor(None, lambda: socket.getaddrinfo(host, port, **kwargs))

        self._set(uvloop.Loop, "create_connection", create_connection)
        self._set(uvloop.Loop, "getaddrinfo", getaddrinfo)

    def _patch_aiohttp(self, resolver: ModuleType) -> None:
        async def resolve(_: Any, host: str, port: int = 0, family: int = socket.AF_INET) -> list[dict[str, Any]]:
            import asyncio  # noqa: PLC0415 - imported with aiohttp anyway

            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, port, family=family or socket.AF_INET, type=socket.SOCK_STREAM)
            return [
                {"hostname": host, "host": a[0], "port": a[1], "family": f, "proto": p, "flags": socket.AI_NUMERICHOST}
                for f, _, p, _, a in found
            ]

        if hasattr(resolver, "AsyncResolver"):
            self._set(resolver.AsyncResolver, "resolve", resolve)

    # --- Doing and undoing ------------------------------------------------------------------------

    def _set(self, owner: Any, name: str, value: Any) -> None:
        own = name in vars(owner)
        before = vars(owner).get(name)
        setattr(owner, name, value)
        self._undo.append(lambda: setattr(owner, name, before) if own else delattr(owner, name))

    def _set_variable(self, name: str, value: str | None) -> None:
        before = os.environ.get(name)
        _set_variable(name, value)
        self._undo.append(lambda: _set_variable(name, before))


class AfterImport(importlib.abc.MetaPathFinder):
    """Calls a function right after a module was imported for the first time."""

    def __init__(self, patches: dict[str, Callable[[ModuleType], None]]) -> None:
        self.patches = patches

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find the module as everybody else would, and wrap its execution."""
        patch = self.patches.get(name)
        if patch is None:
            return None
        for finder in sys.meta_path:
            if finder is self:
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                _run_after(spec.loader, patch)
                return spec
        return None


def _run_after(loader: Any, patch: Callable[[ModuleType], None]) -> None:
    original = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        original(module)
        patch(module)

    loader.exec_module = exec_module


def is_local(host: object) -> bool:
    """Whether a host is this machine."""
    if host is None or host in ("", "localhost"):
        return True
    return isinstance(host, str) and (host.startswith("127.") or host in ("::1", "0.0.0.0", "::"))


def is_address(host: object) -> bool:
    """Whether a host is a numeric address."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, TypeError, ValueError):
            socket.inet_pton(family, host)  # type: ignore[arg-type] # what is no text is no address either
            return True
    return False


def port_number(port: object) -> int:
    """A port as number: names such as `https` and numbers as text occur."""
    if isinstance(port, (str, bytes)):
        text = port.decode() if isinstance(port, bytes) else port
        return int(text) if text.isdigit() else socket.getservbyname(text)
    return port if isinstance(port, int) else 0


def refuse_foreign(sock: socket.socket, address: Any) -> None:
    """Raise when a socket is about to reach anything but this machine."""
    if sock.family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple) and not is_local(address[0]):
        raise OSError(
            f"{address[0]}:{address[1]} is not loopback, and nothing else is allowed here (redirected by harness)"
        )


def _set_variable(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


# --- In a child process ---------------------------------------------------------------------------


def remote_gate(address: tuple[str, int]) -> Gate:
    """A gate that asks the parent process over loopback: one line there, one line back."""
    original = socket.create_connection

    def gate(host: str, port: int) -> tuple[str, int]:
        with original(address, timeout=None) as asked:
            asked.sendall(f"{host} {port}\n".encode())
            answer = asked.makefile().readline().rstrip("\n")
        word, _, rest = answer.partition(" ")
        if word == "ok":
            target, _, number = rest.rpartition(" ")
            return target, int(number)
        code, _, text = rest.partition(" ")
        raise socket.gaierror(int(code or socket.EAI_NONAME), text or "the exchange is gone")

    return gate


def install_in_child() -> Hook:
    """Install the patches that the environment describes, and leave the mark that proves it."""
    host, _, port = os.environ[GATE].rpartition(":")
    hook = Hook(remote_gate((host, int(port))), os.environ.get(CAFILE))
    hook.install()
    # Without pathlib, which would make every child slower to start.
    place = os.path.join(os.environ[MARKERS], str(os.getpid()))  # noqa: PTH118
    with open(place, "w", encoding="utf-8") as mark:  # noqa: PTH123
        mark.write(sys.executable)
    return hook
