"""The doctor: an endpoint stage by stage, and a clear sentence for whatever answers there."""

from __future__ import annotations

import threading

import pytest
from websockets.sync.server import serve

from harness.errors import UsageError
from harness.runner.doctor import endpoint_steps


@pytest.mark.parametrize("url", ["wss://exchange:99999", "wss://exchange:port", "https://exchange", "exchange:9443"])
def test_what_is_no_endpoint_is_refused(url):
    with pytest.raises(UsageError, match="is no endpoint"):
        list(endpoint_steps(url, "btcusdt", timeout_s=1))


def test_a_name_that_cannot_be_one_fails_to_resolve():
    (step,) = endpoint_steps("ws://exchange..example", "btcusdt", timeout_s=5)
    assert (step.name, step.ok) == ("resolve", False)
    assert "exchange..example cannot be a name" in step.text


@pytest.mark.live
@pytest.mark.timeout(30)
@pytest.mark.parametrize("answer", ['{"half', "{" + '"a":[' * 50_000])
def test_an_answer_that_is_no_json_is_said_to_be_none(answer):
    with serve(lambda connection: [connection.send(answer) for _ in connection], "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.socket.getsockname()[1]
        steps = list(endpoint_steps(f"ws://127.0.0.1:{port}", "btcusdt", timeout_s=5))
        server.shutdown()
    assert (steps[-1].name, steps[-1].ok) == ("subscribe", False)
    assert "no JSON" in steps[-1].text
