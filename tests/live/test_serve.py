"""`harness serve` as a process: one JSON line, then service, then exit 0."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.sync.client import connect

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    from harness.recording import RecordingWriter
    from harness.sources import synth

    path = tmp_path_factory.mktemp("serve") / "btcusdt.parquet"
    writer = RecordingWriter(path, source="synthetic")
    writer.write(synth.make("normal", "BTCUSDT", frames=200, seed=1))
    writer.close()
    return path


def command(*words):
    return [sys.executable, "-m", "harness", "serve", *map(str, words)]


@contextmanager
def serving(*words):
    with subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield process, json.loads(line)
        finally:
            process.terminate()
            process.communicate(timeout=20)


def refusal(*words):
    done = subprocess.run(command(*words), capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (sentence,) = done.stderr.strip().splitlines()
    return sentence


def ask(url, body=None):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, data=body), timeout=20) as answer:
        return json.loads(answer.read())


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_is_and_ends_with_0(recording, how):
    with serving(recording, "--tls") as (process, urls):
        assert list(urls) == ["ws", "http", "wss", "https", "cafile"]
        assert Path(urls["cafile"]).exists()
        assert ask(urls["http"] + "/api/v3/ping") == {}
        process.send_signal(how)
        assert process.wait(20) == 0
        assert not Path(urls["cafile"]).exists()


def test_the_end_of_the_tape_is_told_once(recording):
    with serving(recording, "--speed", "max", "--grace", "0s") as (process, urls):
        with connect(f"{urls['ws']}/ws/btcusdt@aggTrade", proxy=None) as ws:
            for _ in range(200):
                ws.recv(timeout=20)
        assert process.stderr.readline().startswith("the tape has ended: connections stay open")


def test_without_tls_the_other_three_are_null(recording):
    with serving(recording) as (_, urls):
        assert [urls["wss"], urls["https"], urls["cafile"]] == [None, None, None]


def test_faults_can_be_injected_and_the_ledger_read(recording):
    with serving(recording, "--fault", "tcp.reset_peer@frame=9") as (_, urls):
        answer = ask(urls["http"] + "/harness/faults", b'{"fault": "tcp.latency:latency=5ms", "ttl": "60s"}')
        assert answer["fault"] == "tcp.latency:latency=5ms"
        faults = ask(urls["http"] + "/harness/faults")
        assert faults["planned"] == ["tcp.reset_peer@frame=9"]
        assert ask(urls["http"] + "/harness/ledger")["entries"][0]["entry"] == "opened"


def test_a_port_in_use_is_one_sentence(recording):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port}: address already in use" in refusal(recording, "--port", port)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs a RECORDING"),
        (["nosuch.parquet"], "nosuch.parquet"),
        (["R", "--fault", "tcp.rest_peer"], "did you mean 'tcp.reset_peer'"),
        (["R", "--speed", "fast"], "is not a speed"),
        (["R", "--from", "9h"], "past the end of the tape"),
        (["R", "--symbol", "ethusdt"], "no data frames for ethusdt"),
        (["R", "--fault", "tcp.reset_peer@frame=999"], "past the end of the recording"),
    ],
)
def test_a_mistake_is_one_sentence(recording, words, said):
    assert said in refusal(*(recording if word == "R" else word for word in words))


def test_explain_says_in_words_what_will_happen(recording):
    words = command(recording, "--explain", "--fault", "tcp.reset_peer@frame=50")
    done = subprocess.run(words, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert "tcp.reset_peer" in done.stdout
