"""The recorder against machines that fail: disks, clocks, signals, strangers at the other end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http.server
import json
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
import pytest
import trustme
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from harness import clock
from harness.cli import main
from harness.errors import HarnessError, NetworkError, RecordingError, UsageError
from harness.recorder import backfill as backfill_module
from harness.recorder import scribe as scribe_module
from harness.recorder import wire as wire_module
from harness.recorder.recorder import Recorder
from harness.recorder.scribe import Rotation, Scribe
from harness.recorder.settings import Settings, make_settings, read_rotation
from harness.recording import journal as journal_module
from harness.recording import open_recording
from harness.recording.journal import Header, Run
from harness.recording.recovery import recover

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from harness.frames import Frame

pytestmark = pytest.mark.timeout(60)

MS = 1_000_000


def trade(number: int) -> bytes:
    at = 1_700_000_000_000 + number
    return (
        f'{{"e":"aggTrade","E":{at},"s":"BTCUSDT","a":{number},"p":"91350.00000000","q":"0.50000000",'
        f'"f":{number},"l":{number},"T":{at},"m":true,"M":true}}'
    ).encode()


class Market:
    """A feed that sends trade after trade to everybody, ids from 1, as long as it is open."""

    def __init__(self) -> None:
        self.count = 0
        self.port = 0
        self.paths: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    async def serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.paths.append(connection.request.path)
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.count += 1
                await connection.send(trade(self.count).decode())
                await asyncio.sleep(0.001)


@asynccontextmanager
async def market() -> AsyncIterator[Market]:
    feed = Market()
    async with serve(feed.serve, "127.0.0.1", 0, compression=None) as server:
        feed.port = server.sockets[0].getsockname()[1]
        yield feed


def settings(endpoint: str, folder: Path, **changes: object) -> Settings:
    defaults = Settings(
        streams=("btcusdt@aggTrade",),
        endpoint=endpoint,
        folder=folder,
        interval_ns=20 * MS,
        backfill=False,
        backoff_ns=10 * MS,
    )
    return msgspec.structs.replace(defaults, **changes)


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - a condition of somebody else's
        await asyncio.sleep(0.005)


def frames_of(folder: Path) -> list[Frame]:
    return [f for path in sorted(folder.rglob("*.parquet")) for f in open_recording(path).frames()]


def ids(frames: list[Frame]) -> list[int]:
    return [json.loads(f.data)["a"] for f in frames if f.kind == "text"]


# --- Strangers at the other end ------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@asynccontextmanager
async def talker(answer: bytes, *, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Answers the first bytes of everybody with the same, and hangs up."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "with HTTP 200"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "with HTTP 404 (no such path; is it the right endpoint?)"),
        (b"HTTP/1.1 451 Unavailable\r\n\r\n", "with HTTP 451 (not offered in this location)"),
        (b"HTTP/1.1 429 Too Many\r\nRetry-After: 17\r\n\r\n", "retry after 17 s"),
        (b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: nonsense\r\n\r\n", "it is no WebSocket server"),
        (b"", "ended the connection before answering"),
        (b"HTTP/1.1 101", "ended the connection before answering"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "does not speak HTTP"),
    ],
)
async def test_an_endpoint_that_speaks_something_else_is_one_sentence(
    tmp_path: Path, answer: bytes, words: str
) -> None:
    async with talker(answer) as port:
        with pytest.raises(NetworkError) as caught:
            await Recorder(settings(f"ws://127.0.0.1:{port}", tmp_path)).run()
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"127.0.0.1:{port} ")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


async def test_nothing_listening_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="refuses connections: nothing listens there"):
        await Recorder(settings(f"ws://127.0.0.1:{free_port()}", tmp_path)).run()


async def test_a_plain_endpoint_asked_for_tls_is_one_sentence(tmp_path: Path) -> None:
    async with talker(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        with pytest.raises(NetworkError, match="does not speak TLS"):
            await Recorder(settings(f"wss://127.0.0.1:{port}", tmp_path)).run()


async def test_a_certificate_of_an_unknown_authority_is_one_sentence(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with talker(b"", context=context) as port:
        with pytest.raises(NetworkError, match=r"cannot be trusted: .*--cafile names another authority"):
            await Recorder(settings(f"wss://127.0.0.1:{port}", tmp_path)).run()


async def test_who_is_told_to_stop_while_it_connects_stops_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        recorder = Recorder(settings(f"ws://127.0.0.1:{sock.getsockname()[1]}", tmp_path / "new"))
        running = asyncio.create_task(recorder.run())
        await until((tmp_path / "new").exists)
        recorder.stop()
        # Far below the 10 seconds that a connection may take, far above what a busy machine needs.
        assert await asyncio.wait_for(running, 5) == []
    assert list(tmp_path.iterdir()) == []


async def test_a_mute_stream_is_told_though_rest_keeps_everybody_waiting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill_module, "LATEST_TIMEOUT_S", 0.2)

    async def mute(connection: ServerConnection) -> None:
        await connection.wait_closed()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with serve(mute, "127.0.0.1", 0, compression=None) as server:
            changes = {"rest": f"http://127.0.0.1:{silent.getsockname()[1]}", "backfill": True, "stall_ns": 100 * MS}
            recorder = Recorder(settings(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", tmp_path, **changes))
            running = asyncio.create_task(recorder.run())
            await until(lambda: "mute for" in caplog.text)
            recorder.stop()
            await running
    assert "nobody can say whether the market is" in caplog.text


async def test_a_server_that_never_answers_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_module, "OPEN_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(NetworkError, match=r"accepts connections but does not answer: nothing within 0\.1 s"):
            await Recorder(settings(f"ws://127.0.0.1:{port}", tmp_path)).run()


def test_no_network_is_one_sentence_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    assert main(["record", "btcusdt", "--out", str(tmp_path / "new")]) == 2
    said = capsys.readouterr().err
    assert said == (
        "harness: stream.binance.com:9443 cannot be reached: the name cannot be resolved "
        "(Name or service not known); is there a network?\n"
    )
    assert not (tmp_path / "new").exists()


async def test_a_loopback_endpoint_never_goes_through_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    async with market() as feed:
        await Recorder(settings(feed.endpoint, tmp_path, frame_count_max=10)).run()
    assert len(ids(frames_of(tmp_path))) == 10


async def test_another_endpoint_goes_through_the_machine_s_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(tunnel, "127.0.0.1", 0)
    proxy = f"http://me:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}"
    monkeypatch.setenv("https_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with server:
        with pytest.raises(
            NetworkError, match=r"does not let us through to exchange\.invalid:443: HTTP/1\.1 407"
        ) as caught:
            await Recorder(settings("wss://exchange.invalid", tmp_path)).run()
    assert asked[0].startswith(b"CONNECT exchange.invalid:443 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic bWU6c2VjcmV0\r\n" in asked[0]
    assert "secret" not in str(caught.value)


# --- The command line ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["btc usdt"], "write a symbol such as btcusdt"),
        (["btcusdt", "--endpoint", "stream.binance.com"], "is not an endpoint"),
        (["btcusdt", "--rotate", "soon"], "neither a duration (1h) nor a size (256MB)"),
        (["btcusdt", "--rotate", "1h", "--out", "one.parquet"], "so --out must be a folder"),
        (["btcusdt", "--flush", "2s"], "at least every 1s"),
        (["btcusdt", "--duration", "soon"], "is not a duration"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["record", *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_an_existing_recording_is_not_recorded_over(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"mine")
    with pytest.raises(UsageError, match="nothing recorded is ever overwritten"):
        make_settings(["btcusdt"], channels=["aggTrade"], out=str(tmp_path / "a.parquet"))


def test_names_tell_source_symbols_channel_and_start() -> None:
    at = 1_795_353_628 * clock.NS_PER_S
    one = make_settings(["BTCUSDT"], channels=["aggTrade"])
    assert one.name(at) == "binance_btcusdt_aggTrade_20261122T132028Z.parquet"
    many = make_settings(["a", "b", "c", "d", "e"], channels=["depth@100ms"], market="um")
    assert many.name(at) == "binance-um_a-b-3more_depth-100ms_20261122T132028Z.parquet"
    assert make_settings(["btcusdt"], channels=["aggTrade"], out="x/one.parquet").name(at) == "one.parquet"
    ours = make_settings(["btcusdt"], channels=["aggTrade"], endpoint="ws://127.0.0.1:9000")
    assert ours.name(at) == "local_btcusdt_aggTrade_20261122T132028Z.parquet"


def test_rotation_is_a_duration_or_a_size() -> None:
    assert read_rotation("1h") == (3600 * clock.NS_PER_S, 0)
    assert read_rotation("256MB") == (0, 256_000_000)
    assert read_rotation("1GiB") == (0, 1 << 30)


class Process:
    """`harness record` as its users run it."""

    def __init__(self, feed: Market, folder: Path, *more: str) -> None:
        command = [
            sys.executable,
            "-m",
            "harness",
            "record",
            "btcusdt",
            "--endpoint",
            feed.endpoint,
            "--out",
            str(folder),
        ]
        self.process = subprocess.Popen(
            [*command, "--no-backfill", "--flush", "50ms", *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    async def end(self, *signals: int, after_s: float = 0.0) -> tuple[int, str, str]:
        await asyncio.sleep(after_s)
        for number in signals:
            self.process.send_signal(number)
        out, err = await asyncio.to_thread(self.process.communicate, timeout=30)
        return self.process.returncode, out, err


@pytest.mark.slow
@pytest.mark.live
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_finishes_the_file_and_the_exit_code_is_0(tmp_path: Path, number: int) -> None:
    async with market() as feed:
        recorder = Process(feed, tmp_path / "one.parquet")
        await until(lambda: feed.count > 300)
        code, out, err = await recorder.end(number)
    assert (code, out) == (0, f"{tmp_path / 'one.parquet'}\n"), err
    assert [p.name for p in tmp_path.iterdir()] == ["one.parquet"]
    found = ids(frames_of(tmp_path))
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= 250


@pytest.mark.slow
@pytest.mark.live
async def test_two_signals_leave_nothing_lost(tmp_path: Path) -> None:
    async with market() as feed:
        recorder = Process(feed, tmp_path)
        await until(lambda: feed.count > 300)
        recorder.process.send_signal(signal.SIGINT)
        code, _, err = await recorder.end(signal.SIGINT)
    assert code == 0, err
    await asyncio.to_thread(recover, tmp_path)
    found = ids(frames_of(tmp_path))
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= 250
    assert [p.suffix for p in tmp_path.iterdir()] == [".parquet"]


@pytest.mark.slow
@pytest.mark.live
async def test_after_kill_9_everything_but_the_last_moment_is_back_and_the_next_recorder_does_it_by_itself(
    tmp_path: Path,
) -> None:
    async with market() as feed:
        recorder = Process(feed, tmp_path)
        await until(lambda: feed.count > 400)
        sent = feed.count
        await recorder.end(signal.SIGKILL)
        (left,) = tmp_path.iterdir()
        assert left.suffix == ".journal"
        _, out, err = await Process(feed, tmp_path, "--frames", "5").end()
    assert f"recovered from {left.name}" in err
    assert len(out.splitlines()) == 1
    first = ids(list(open_recording(tmp_path / left.stem).frames()))
    assert first == list(range(1, len(first) + 1))
    # 50 ms between syncs, about one frame per millisecond; a second is what is promised.
    assert sent - len(first) < 1000


@pytest.mark.slow
@pytest.mark.live
async def test_two_recorders_in_one_folder_do_not_touch_each_other_s_files(tmp_path: Path) -> None:
    async with market() as feed:
        recorders = [Process(feed, tmp_path, "--frames", "200") for _ in range(3)]
        results = [await recorder.end() for recorder in recorders]
    assert [code for code, _, _ in results] == [0, 0, 0], results
    made = sorted(out.strip() for _, out, _ in results)
    assert made == sorted(str(p) for p in tmp_path.iterdir()), results
    assert all(len(ids(list(open_recording(path).frames()))) == 200 for path in made)


def test_a_folder_that_cannot_be_written_is_one_sentence_before_anything_is_connected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write anywhere, so the refusal is the system call's."""

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(journal_module.os, "open", refuse)
    assert main(["record", "btcusdt", "--out", str(tmp_path), "--endpoint", f"ws://127.0.0.1:{free_port()}"]) == 2
    assert capsys.readouterr().err == f"harness: {tmp_path}: cannot write here: Permission denied\n"


@pytest.mark.slow
@pytest.mark.live
async def test_finished_recordings_go_to_a_store_and_those_of_earlier_runs_along_with_them(tmp_path: Path) -> None:
    store, folder = tmp_path / "store", tmp_path / "journal"
    store.mkdir()
    folder.mkdir()
    (folder / "left.parquet").write_bytes(b"of an earlier run")
    async with market() as feed:
        command = [sys.executable, "-m", "harness", "record", "btcusdt", "--endpoint", feed.endpoint, "--no-backfill"]
        command += ["--frames", "50", "--out", store.as_uri(), "--journal", str(folder)]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert list(folder.iterdir()) == []
    (store / "left.parquet").unlink()
    assert len(ids(frames_of(store))) == 50


# --- Disks -------------------------------------------------------------------------------------------


class Disk:
    """The calls that reach the disk; they fail while told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.write_error = self.sync_error = 0
        self.sync_pause_s = 0.0
        self._write, self._sync = journal_module._write, journal_module._fdatasync
        monkeypatch.setattr(journal_module, "_write", self.write)
        monkeypatch.setattr(journal_module, "_fdatasync", self.sync)

    def write(self, descriptor: int, data: memoryview) -> int:
        if self.write_error:
            os.write(descriptor, data[: len(data) // 2])
            raise OSError(self.write_error, os.strerror(self.write_error))
        return self._write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        time.sleep(self.sync_pause_s)
        if self.sync_error:
            raise OSError(self.sync_error, os.strerror(self.sync_error))
        self._sync(descriptor)


@pytest.mark.slow
@pytest.mark.live
@pytest.mark.parametrize("kind", ["write", "sync"])
async def test_a_disk_that_refuses_for_a_while_costs_nothing_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    monkeypatch.setattr(scribe_module, "RETRY_S", 0.05)
    disk = Disk(monkeypatch)
    async with market() as feed:
        recorder = Recorder(settings(feed.endpoint, tmp_path))
        running = asyncio.create_task(recorder.run())
        await until(lambda: recorder.health.frames > 50)
        setattr(disk, f"{kind}_error", errno.ENOSPC if kind == "write" else errno.EIO)
        await until(lambda: recorder.health.disk_problem)
        assert not recorder.health.healthy
        setattr(disk, f"{kind}_error", 0)
        at = recorder.health.frames
        await until(lambda: recorder.health.frames > at + 50)
        recorder.stop()
        await running
    found = ids(frames_of(tmp_path))
    assert sorted(found) == list(range(1, len(found) + 1))
    warned = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert any("The disk refuses (" in text for text in warned)
    assert any("The disk takes frames again" in text for text in warned)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root on Linux may mount a small file system; the refused system call is tested everywhere")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.live
async def test_a_disk_that_is_really_full_costs_nothing_once_there_is_room(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scribe_module, "RETRY_S", 0.05)
    ballast = small_disk / "ballast"
    async with market() as feed:
        recorder = Recorder(settings(feed.endpoint, small_disk))
        running = asyncio.create_task(recorder.run())
        await until(lambda: recorder.health.frames > 20)
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        await until(lambda: recorder.health.disk_problem == "No space left on device")
        ballast.unlink()
        at = recorder.health.frames
        await until(lambda: recorder.health.frames > at + 50)
        recorder.stop()
        await running
    found = ids(frames_of(small_disk))
    assert found == list(range(1, len(found) + 1))


@pytest.mark.slow
@pytest.mark.live
async def test_a_disk_that_refuses_to_the_end_leaves_what_was_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scribe_module, "RETRY_S", 0.05)
    monkeypatch.setattr(scribe_module, "STOP_PATIENCE_S", 0.2)
    disk = Disk(monkeypatch)
    async with market() as feed:
        recorder = Recorder(settings(feed.endpoint, tmp_path))
        running = asyncio.create_task(recorder.run())
        await until(lambda: recorder.health.frames > 100)
        disk.write_error = errno.ENOSPC
        await until(lambda: recorder.health.disk_problem)
        recorder.stop()
        with pytest.raises(
            RecordingError, match=r"the disk refuses \(No space left on device\): the last \d+ frames are lost"
        ):
            await running
    disk.write_error = 0
    recover(tmp_path)
    found = ids(frames_of(tmp_path))
    assert found == list(range(1, len(found) + 1))
    assert len(found) > 100


@pytest.mark.slow
@pytest.mark.live
async def test_a_writer_that_dies_ends_the_recorder_and_leaves_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of ours in the writing thread must not leave a recorder that looks alive."""
    async with market() as feed:
        recorder = Recorder(settings(feed.endpoint, tmp_path))
        running = asyncio.create_task(recorder.run())
        await until(lambda: recorder.health.frames > 50)

        def die(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(recorder._sieve, "take", die)
        with pytest.raises(ZeroDivisionError):
            await running
    found = ids(frames_of(tmp_path))
    assert found == list(range(1, len(found) + 1))
    assert len(found) > 50


@pytest.mark.slow
@pytest.mark.live
async def test_a_slow_disk_is_felt_by_the_exchange_and_nothing_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(scribe_module, "PENDING_BYTES_MAX", 20_000)
    disk = Disk(monkeypatch)
    disk.sync_pause_s = 0.2
    total = 5000

    async def flood(connection: ServerConnection) -> None:
        for number in range(1, total + 1):
            await connection.send(trade(number).decode())
        await connection.wait_closed()

    pressed: list[bool] = []
    async with serve(flood, "127.0.0.1", 0, compression=None) as server:
        endpoint = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        recorder = Recorder(settings(endpoint, tmp_path, frame_count_max=total))
        press = recorder._press
        monkeypatch.setattr(recorder, "_press", lambda on: (pressed.append(on), press(on)))
        await recorder.run()
    assert True in pressed
    assert ids(frames_of(tmp_path)) == list(range(1, total + 1))
    assert any("The disk does not keep up" in r.message for r in caplog.records)


# --- Clocks ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.live
async def test_a_clock_that_steps_back_disturbs_neither_order_nor_rotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step_ns = [0]
    monkeypatch.setattr(clock, "_time_ns", lambda: time.time_ns() + step_ns[0])
    async with market() as feed:
        recorder = Recorder(settings(feed.endpoint, tmp_path, rotate_ns=200 * MS))
        running = asyncio.create_task(recorder.run())
        await until(lambda: feed.count > 300)
        step_ns[0] = -3600 * clock.NS_PER_S
        await until(lambda: feed.count > 900)
        recorder.stop()
        paths = await running
    frames = [f for path in paths for f in open_recording(path).frames()]
    found = ids(frames)
    assert found == list(range(1, len(found) + 1))
    monotonic = [f.monotonic_ns for f in frames]
    assert monotonic == sorted(monotonic)
    assert len(paths) >= 3
    assert len(set(paths)) == len(paths)


def test_rotation_ends_at_a_multiple_of_its_length() -> None:
    hourly = Rotation(every_ns=3600 * clock.NS_PER_S)
    hourly.start(wall_ns=(10 * 3600 + 3590) * clock.NS_PER_S, now_ns=77)
    assert not hourly.is_due(77 + 10 * clock.NS_PER_S - 1, 0)
    assert hourly.is_due(77 + 10 * clock.NS_PER_S, 0)
    by_size = Rotation(size_bytes=1000)
    by_size.start(0, 0)
    assert not by_size.is_due(10**18, 999)
    assert by_size.is_due(0, 1000)


def test_recordings_by_size_are_whole_and_follow_each_other(tmp_path: Path) -> None:
    header = Header(target="", identity="", endpoint="", symbols=("BTCUSDT",), partitioned=True)
    scribe = Scribe(tmp_path, header, lambda _: "a.parquet", interval_ns=MS, rotation=Rotation(size_bytes=5000))
    scribe.start()
    at = clock.wall_ns()
    for number in range(300):
        scribe.take(Run(1, "text", at, number, [trade(number)]), 100)
        time.sleep(0.0005)
    scribe.stop()
    assert len(scribe.paths) > 2
    assert [i for path in scribe.paths for i in ids(list(open_recording(path).frames()))] == list(range(300))


# --- What it says about itself -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.live
async def test_health_is_told_in_a_file_and_to_prometheus(tmp_path: Path) -> None:
    status, port = tmp_path / "status.json", free_port()
    async with market() as feed:
        recorder = Process(feed, tmp_path / "r", "--status-file", str(status), "--metrics-port", str(port))
        await until(status.exists)
        await until(lambda: json.loads(status.read_bytes())["frames"] > 100)

        def get(path: str) -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return str(answer.read().decode())

        metrics = await asyncio.to_thread(get, "/metrics")
        health = json.loads(await asyncio.to_thread(get, "/health"))
        with pytest.raises(urllib.error.HTTPError):
            await asyncio.to_thread(get, "/nothing")
        code, _, err = await recorder.end(signal.SIGTERM)
    assert code == 0, err
    assert "# TYPE harness_recorder_frames_total counter\nharness_recorder_frames_total " in metrics
    assert "harness_recorder_healthy 1\n" in metrics
    assert health["healthy"] is True
    assert (health["last_price"], health["open"], health["format"]) == ("91350.00000000", [1], 1)
    assert json.loads(status.read_bytes())["state"] == "stopped"


@pytest.mark.slow
@pytest.mark.live
async def test_a_key_in_the_url_reaches_neither_recording_nor_name_nor_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = "pqia91ma19a5s61cv6a81va65sdf19v8a65a1a5s61cv6a81va65sdf19v8a65a1"
    caplog.set_level(logging.DEBUG)
    async with market() as feed:
        endpoint = f"ws://user:{key}@127.0.0.1:{feed.port}/{key}?token={key[:20]}"
        await Recorder(settings(endpoint, tmp_path, frame_count_max=10)).run()
        asked = feed.paths[0]
    assert key in asked, "the exchange must get it"
    (path,) = tmp_path.iterdir()
    recording = open_recording(path)
    told = str(recording.metadata) + str(list(recording.frames())) + path.name
    told += "".join(r.getMessage() for r in caplog.records if r.name.startswith("harness"))
    assert key[:20] not in told
    assert "127.0.0.1" in str(recording.metadata)


async def test_a_metrics_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    from harness.recorder.health import Health, serve_metrics

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HarnessError, match=f"--metrics-port {port}: "):
            await serve_metrics(Health(streams=(), endpoint=""), port)


# --- REST ------------------------------------------------------------------------------------------------


class Rest(http.server.BaseHTTPRequestHandler):
    """Answers aggTrades by id, after the refusals it was told to give."""

    refusals: list[tuple[int, dict[str, str]]]
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.refusals:
            status, headers = self.refusals.pop(0)
            body = b'{"code":-1003,"msg":"Too many requests"}'
        else:
            status, headers = 200, {}
            query = dict(pair.split("=") for pair in self.path.partition("?")[2].split("&"))
            first, limit = int(query["fromId"]), int(query["limit"])
            items = [
                {"a": n, "p": "1.0", "q": "2.0", "f": n, "l": n, "T": n, "m": True, "M": True}
                for n in range(first, 2501)
            ]
            body = json.dumps(items[: min(limit, 1000)]).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def rest():
    handler = type("Handler", (Rest,), {"refusals": [], "asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    handler.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


async def test_a_hole_is_fetched_a_thousand_at_a_time_and_refusals_are_respected(
    rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.recorder import backfill as backfill_module
    from harness.recorder.sieve import Hole

    naps: list[float] = []
    real_sleep = asyncio.sleep

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        await real_sleep(0)

    monkeypatch.setattr(backfill_module.asyncio, "sleep", nap)
    rest.refusals += [(429, {"Retry-After": "7"}), (418, {"Retry-After": "120"}), (503, {})]
    client = backfill_module.Backfill(rest.url)
    found = await client.fetch(Hole(stream="btcusdt@aggTrade", first=101, last=2400), wrapped=True)
    await client.close()
    assert sorted(found) == list(range(101, 2401))
    assert [n for n in naps if n] == [7.0, 120.0, 2.0]
    pages = [path.partition("?")[2] for path in rest.asked[3:]]
    assert pages == [
        f"symbol=BTCUSDT&fromId={first}&limit={n}" for first, n in ((101, 1000), (1101, 1000), (2101, 300))
    ]
    assert found[101] == (
        b'{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":101,"s":"BTCUSDT","a":101,"p":"1.0","q":"2.0",'
        b'"f":101,"l":101,"T":101,"m":true,"M":true}}'
    )


async def test_a_refusal_that_will_not_change_is_not_repeated(rest) -> None:
    from harness.recorder.backfill import Backfill
    from harness.recorder.sieve import Hole

    rest.refusals += [(400, {})]
    client = Backfill(rest.url)
    with pytest.raises(NetworkError, match="answers HTTP 400"):
        await client.fetch(Hole(stream="btcusdt@aggTrade", first=1, last=2), wrapped=False)
    await client.close()
    assert len(rest.asked) == 1
