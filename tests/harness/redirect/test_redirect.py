"""The redirect: names lead to the exchange, nothing else is reachable, and everything is taken back."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import threading

import pytest

from harness.errors import UsageError
from harness.redirect import Redirect
from harness.redirect.hook import is_address, is_local, port_number
from harness.redirect.hosts import only_real_hosts
from harness.transports.authority import Authority


@pytest.fixture
def listener():
    """A socket that answers `hello`."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.sendall(b"hello")

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()


def gate_to(address):
    return only_real_hosts(lambda _host, _port: address)


def test_a_real_host_leads_to_the_exchange_with_its_port_changed(listener):
    with Redirect(gate_to(listener), None), socket.create_connection(("stream.binance.com", 9443), 5) as sock:
        assert sock.recv(5) == b"hello"


async def test_asyncio_follows_too(listener):
    with Redirect(gate_to(listener), None):
        reader, writer = await asyncio.open_connection("stream.binance.com", 9443)
        assert await reader.read(5) == b"hello"
        writer.close()


def test_a_thread_that_is_let_through_asks_the_real_resolver_and_is_not_refused(listener, monkeypatch):
    """A proxy that dials the exchange for a redirected program may live in the same process."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: f"the real {host}")
    through = threading.Event()
    with Redirect(gate_to(listener), None, let_through=through.is_set):
        assert socket.getaddrinfo("stream.binance.com", 9443)[0][4] == listener
        # A datagram socket sends nothing when it is connected.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            with pytest.raises(OSError, match="not loopback"):
                sock.connect(("192.0.2.1", 9))
            through.set()
            assert socket.getaddrinfo("stream.binance.com", 9443) == "the real stream.binance.com"
            try:
                sock.connect(("192.0.2.1", 9))
            except OSError as problem:  # a machine without a network has its own reason
                assert "not loopback" not in str(problem)


@pytest.mark.parametrize("host", ["github.com", "binance.com.evil.example", "notbinance.com"])
def test_any_other_name_raises(listener, host):
    with Redirect(gate_to(listener), None), pytest.raises(socket.gaierror):
        socket.getaddrinfo(host, 443)


def test_a_look_up_without_a_port_raises_rather_than_reach_the_real_host(listener):
    with Redirect(gate_to(listener), None), pytest.raises(socket.gaierror):
        socket.gethostbyname("stream.binance.com")


@pytest.mark.parametrize("connect", ["connect", "connect_ex"])
def test_a_numeric_address_elsewhere_is_refused(listener, connect):
    with Redirect(gate_to(listener), None), socket.socket() as sock, pytest.raises(OSError, match="not loopback"):
        getattr(sock, connect)(("192.0.2.1", 443))


def test_a_datagram_elsewhere_is_refused(listener):
    with (
        Redirect(gate_to(listener), None),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        pytest.raises(OSError, match="not loopback"),
    ):
        sock.sendto(b"?", ("192.0.2.1", 53))


def test_loopback_stays_reachable(listener):
    with Redirect(gate_to(listener), None), socket.create_connection(listener, 5) as sock:
        assert sock.recv(5) == b"hello"


def state():
    names = [socket.getaddrinfo, socket.gethostbyname, socket.socket.connect, socket.socket.sendto]
    trust = [vars(ssl.SSLContext).get(n) for n in ("wrap_bio", "wrap_socket", "load_default_certs")]
    return [*names, *trust, dict(os.environ), list(sys.meta_path)]


@pytest.mark.parametrize("children", [False, True])
def test_everything_is_taken_back(listener, tmp_path, children):
    cafile = tmp_path / "ca.pem"
    cafile.write_text("")
    before = state()
    with Redirect(gate_to(listener), str(cafile), children=children):
        assert state() != before
    assert state() == before


def test_everything_is_taken_back_when_the_body_raises(listener):
    before = state()
    with pytest.raises(ZeroDivisionError), Redirect(gate_to(listener), None):
        raise ZeroDivisionError
    assert state() == before


def test_a_second_redirect_is_refused_and_leaves_the_first_in_force(listener):
    with Redirect(gate_to(listener), None):
        with pytest.raises(UsageError, match="already"), Redirect(gate_to(listener), None):
            pass
        with socket.create_connection(("stream.binance.com", 9443), 5) as sock:
            assert sock.recv(5) == b"hello"


def test_proxies_are_out_of_the_way_while_it_lasts(listener, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://192.0.2.1:3128")
    with Redirect(gate_to(listener), None):
        assert "HTTPS_PROXY" not in os.environ
    assert os.environ["HTTPS_PROXY"] == "http://192.0.2.1:3128"


def test_a_tls_context_made_before_trusts_the_session_ca():
    early = ssl.create_default_context()
    authority = Authority()
    try:
        with Redirect(gate_to(("127.0.0.1", 1)), str(authority.cafile)):
            before = early.cert_store_stats()["x509_ca"]
            early.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="stream.binance.com")
            assert early.cert_store_stats()["x509_ca"] == before + 1
    finally:
        authority.close()


CHILD = "import socket; print(socket.create_connection(('stream.binance.com', 9443), 5).recv(5))"


@pytest.mark.slow
def test_a_child_process_is_redirected_and_proves_it(listener):
    with Redirect(gate_to(listener), None, children=True) as redirect:
        done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=20, check=False)
        assert done.stdout == "b'hello'\n", done.stderr
        assert len(redirect.children) == 1


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["-I", "-S", "-E"])
def test_a_child_that_ignores_its_environment_leaves_no_mark(listener, flag):
    with Redirect(gate_to(listener), None, children=True) as redirect:
        subprocess.run([sys.executable, flag, "-c", "pass"], timeout=20, check=True)
        assert not redirect.children


@pytest.mark.slow
def test_a_child_gets_the_failures_of_the_gate(listener):
    code = (
        "import socket\ntry: socket.getaddrinfo('example.com', 443)\nexcept socket.gaierror as e: print('refused', e)"
    )
    with Redirect(gate_to(listener), None, children=True):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.startswith("refused")


def test_the_hook_needs_nothing_but_the_standard_library():
    from harness.redirect import hook

    code = (
        "import importlib.util, sys; s = importlib.util.spec_from_file_location('h', sys.argv[1]);"
        "m = importlib.util.module_from_spec(s); s.loader.exec_module(m);"
        "assert not any(n.startswith('harness') for n in sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-S", "-I", "-c", code, hook.__file__], check=True, timeout=20)


@pytest.mark.parametrize(
    ("host", "local"), [("localhost", True), ("127.0.0.1", True), ("::1", True), (None, True), ("10.0.0.1", False)]
)
def test_what_is_local(host, local):
    assert is_local(host) is local


def test_what_is_an_address_and_a_port():
    assert is_address("192.0.2.1")
    assert is_address("2001:db8::1")
    assert not is_address("stream.binance.com")
    assert [port_number(p) for p in ("https", "9443", 443, None)] == [443, 9443, 443, 0]
