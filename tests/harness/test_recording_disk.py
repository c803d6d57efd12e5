"""A disk that refuses costs one sentence, and leaves no stump."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from harness.cli import main
from harness.errors import RecordingError
from harness.recording import RecordingWriter
from harness.recording import writer as writer_module
from harness.sources.synth import make

if TYPE_CHECKING:
    from pathlib import Path

FULL = OSError(errno.ENOSPC, "Error writing bytes to file")


def refuse(*_: object, **__: object) -> None:
    """A disk without room."""
    raise FULL


@pytest.mark.parametrize("moment", ["while writing", "at the end", "when made durable"])
def test_a_full_disk_is_told_in_one_sentence_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
):
    monkeypatch.setattr(writer_module, "ROW_GROUP", 10)
    writer = RecordingWriter(tmp_path / "a.parquet")
    if moment == "while writing":
        monkeypatch.setattr(writer._writer, "write_table", refuse, raising=False)
    elif moment == "at the end":
        monkeypatch.setattr(writer._writer, "close", refuse, raising=False)
    else:
        monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(RecordingError, match=f"cannot be written: {os.strerror(errno.ENOSPC)}"):
        writer.write(make(frames=25))
        writer.close()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_is_told_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").touch()
    assert main(["synth", "--frames", "5", "--out", str(tmp_path / "file" / "no" / "a.parquet")]) == 2
    said = capsys.readouterr().err
    words = f"--out {tmp_path}/file/no: is no folder and cannot become one: {os.strerror(errno.ENOTDIR)}"
    assert said == f"harness: {words}\n"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_disk_that_is_really_full(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    import subprocess

    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], check=False, capture_output=True
    ).returncode:
        pytest.skip("this machine does not let us mount")
    try:
        assert main(["synth", "--frames", "200000", "--out", str(tmp_path / "a.parquet")]) == 2
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert capsys.readouterr().err.endswith(f"cannot be written: {os.strerror(errno.ENOSPC)}\n")
