"""Finished recordings to an object store, against a real S3 server on loopback that fails when told to."""

from __future__ import annotations

import logging
import threading
import uuid
from random import Random
from typing import TYPE_CHECKING

import pytest

from harness.cli import main
from harness.errors import RecordingError, UsageError
from harness.recorder.endpoints import public_url
from harness.recorder.scribe import Scribe
from harness.recorder.upload import Uploader
from harness.recording import open_recording
from harness.recording.journal import SUFFIX, Header, Journal, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(60)]


class Store:
    """moto's server behind a door that answers some requests with what a failing store answers."""

    def __init__(self) -> None:
        moto = pytest.importorskip("moto.server")
        werkzeug = pytest.importorskip("werkzeug.serving")
        self.refuse: Callable[[str, str], bool] = lambda _method, _path: False
        self.refused: list[str] = []
        self.bucket = f"tapes-{uuid.uuid4().hex[:8]}"  # moto's buckets outlive its server
        self._app = moto.DomainDispatcherApplication(moto.create_backend_app)
        self._server = werkzeug.make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.endpoint = f"127.0.0.1:{self._server.server_port}"

    def _answer(self, environ, start_response):
        method, path = environ["REQUEST_METHOD"], f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}"
        if self.refuse(method, path):
            self.refused.append(f"{method} {path}")
            # A 503, or a connection cut short, the client library would try again for a minute
            # before we hear of it.
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("403 Forbidden", [("Content-Type", "text/xml"), ("Connection", "close")])
            return [b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"]
        return self._app(environ, start_response)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    found = Store()
    files = _files(found)
    files.create_dir(found.bucket)
    yield found
    found.close()


def _files(store: Store):
    fs = pytest.importorskip("pyarrow.fs")
    return fs.S3FileSystem(
        endpoint_override=store.endpoint,
        scheme="http",
        region="us-east-1",
        allow_bucket_creation=True,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
    )


def uri(store: Store) -> str:
    return f"s3://{store.bucket}/live?scheme=http&endpoint_override={store.endpoint}&region=us-east-1"


def make_recording(
    folder: Path,
    count: int = 50,
    deliver: Callable[[Path], None] | None = None,
    payloads: list[bytes] | None = None,
) -> list[Path]:
    header = Header(target="", identity="", endpoint="", symbols=("BTCUSDT",), partitioned=True)
    scribe = Scribe(folder, header, lambda _: "a.parquet", deliver=deliver)
    scribe.start()
    payloads = payloads or [b'{"n":%d}' % n for n in range(count)]
    scribe.take(Run(1, "text", 1_700_000_000 * 10**9, 1, payloads))
    scribe.stop()
    return scribe.paths


def test_a_finished_recording_is_uploaded_verified_and_removed_here(tmp_path: Path, store: Store) -> None:
    uploader = Uploader(uri(store), root=tmp_path)
    (path,) = make_recording(tmp_path, deliver=uploader.deliver)
    where = f"{store.bucket}/live/symbol=BTCUSDT/date=2023-11-14/a.parquet"
    assert uploader.uploaded == [where]
    assert not path.exists()
    copy = tmp_path / "copy.parquet"
    copy.write_bytes(_files(store).open_input_file(where).read())
    assert [f.data for f in open_recording(copy).frames()] == [b'{"n":%d}' % n for n in range(50)]


def test_a_fault_in_the_middle_of_an_upload_is_tried_again(tmp_path: Path, store: Store) -> None:
    """The recording is large enough to go in parts; the second part is refused the first time."""
    failures = [True]
    store.refuse = lambda method, path: method == "PUT" and "partNumber=2" in path and bool(failures and failures.pop())
    uploader = Uploader(uri(store), root=tmp_path, pause_s=0.01)
    noise = Random(7)
    (path,) = make_recording(tmp_path, payloads=[noise.randbytes(100_000) for _ in range(130)])
    content = path.read_bytes()
    where = uploader.upload(path)
    assert len(store.refused) == 1
    assert not path.exists()
    assert _files(store).open_input_file(where).read() == content


def test_a_store_that_stays_away_costs_nothing_and_gets_it_later(
    tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.refuse = lambda method, path: method in {"PUT", "POST"} and "a.parquet" in path
    uploader = Uploader(uri(store), root=tmp_path, pause_s=0.01)
    (path,) = make_recording(tmp_path, deliver=uploader.deliver)
    assert path.exists()
    assert uploader.waiting == [path]
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert "it stays here" in warning
    store.refuse = lambda _method, _path: False
    (second,) = make_recording(tmp_path / "more")
    uploader._root = tmp_path
    uploader.deliver(second)
    assert uploader.waiting == []
    assert not path.exists()
    assert len(uploader.uploaded) == 2


def test_what_the_store_changed_is_not_believed(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    uploader = Uploader(uri(store), root=tmp_path, pause_s=0.01)
    (path,) = make_recording(tmp_path)
    real = uploader._put

    def put(source: Path, where: str) -> None:
        real(source, where)
        with _files(store).open_output_stream(where) as sink:
            sink.write(b"something else")

    monkeypatch.setattr(uploader, "_put", put)
    with pytest.raises(RecordingError, match="holds 14 bytes that are not"):
        uploader.upload(path, attempts=2)
    assert path.exists()


def test_nothing_in_the_store_is_overwritten(tmp_path: Path, store: Store) -> None:
    first = Uploader(uri(store), root=tmp_path)
    (path,) = make_recording(tmp_path, 10)
    first.upload(path)
    (path,) = make_recording(tmp_path, 20)
    assert first.upload(path).endswith("/a-2.parquet")


def crashed(folder: Path, destination: str, name: str = "a.parquet") -> None:
    header = Header(target=name, identity=name, endpoint="", symbols=("BTCUSDT",), destination=destination)
    journal = Journal(folder / (name + SUFFIX), header)
    journal.append([Run(1, "text", 1_700_000_000 * 10**9, 1, [b'{"n":%d}' % n for n in range(50)])])
    journal.close()


def test_recover_uploads_to_where_the_recorder_meant_to(tmp_path: Path, store: Store, capsys) -> None:
    crashed(tmp_path, public_url(uri(store)))
    assert main(["recover", str(tmp_path)]) == 0
    where = f"{store.bucket}/live/a.parquet"
    assert f"uploaded to {where}" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    copy = tmp_path / "copy.parquet"
    copy.write_bytes(_files(store).open_input_file(where).read())
    assert [f.data for f in open_recording(copy).frames()] == [b'{"n":%d}' % n for n in range(50)]


def test_what_recover_could_not_upload_stays_and_goes_with_out(
    tmp_path: Path, store: Store, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Uploader.__init__.__kwdefaults__, "pause_s", 0.01)
    store.refuse = lambda method, path: method in {"PUT", "POST"} and "a.parquet" in path
    crashed(tmp_path, public_url(uri(store)))
    assert main(["recover", str(tmp_path)]) == 2
    assert "it stays here" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]
    store.refuse = lambda _method, _path: False
    assert main(["recover", str(tmp_path), "--out", uri(store)]) == 0
    assert list(tmp_path.iterdir()) == []


def test_an_address_with_a_secret_is_asked_for_again(tmp_path: Path, capsys) -> None:
    crashed(tmp_path, public_url("s3://tapes/live?access_key=abc"))
    assert main(["recover", str(tmp_path)]) == 2
    assert "give it as --out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_an_unknown_kind_of_place_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gopher://old/hole cannot be opened: "):
        Uploader("gopher://old/hole", root=tmp_path)


def test_any_place_that_fsspec_opens_will_do(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    uploader = Uploader("memory://tapes", root=tmp_path)
    (path,) = make_recording(tmp_path)
    where = uploader.upload(path)
    assert not path.exists()
    assert uploader._files.get_file_info(where).size > 0
