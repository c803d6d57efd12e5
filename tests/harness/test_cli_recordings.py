"""import, export, inspect, verify and synth, as a user types them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.cli.inspect_ import plot
from harness.frames import Frame
from harness.recording import RecordingWriter, open_recording

SHIPPED = Path(__file__).parents[2] / "recordings"


@pytest.fixture
def market(tmp_path):
    path = tmp_path / "market.parquet"
    assert main(["synth", "--frames", "300", "--seed", "4", "--out", str(path), "--side-file"]) == 0
    return path


def test_a_side_file_tells_what_a_recording_is(market):
    about = json.loads(market.with_suffix(".json").read_text())
    assert about["frame_count"] == 300
    assert about["source"] == "synthetic: harness synth --profile normal --symbol btcusdt --seed 4 --frames 300"
    assert about["sha256"] == hashlib.sha256(market.read_bytes()).hexdigest()
    assert about["size_bytes"] == market.stat().st_size


def test_the_command_in_a_side_file_makes_the_recording_that_ships(tmp_path):
    sides = [(path, json.loads(path.read_text())) for path in sorted(SHIPPED.glob("*.json"))]
    made = [(path, about) for path, about in sides if about["source"].startswith("synthetic: harness synth ")]
    assert len(made) == 3
    for path, about in made:
        again = tmp_path / f"{path.stem}.parquet"
        assert main([*about["source"].split()[2:], "--out", str(again)]) == 0
        assert list(open_recording(again).frames()) == list(open_recording(path.with_suffix(".parquet")).frames())
    for path, about in sides:
        content = path.with_suffix(".parquet").read_bytes()
        assert about["sha256"] == hashlib.sha256(content).hexdigest()
        assert about["size_bytes"] == len(content)


def test_exporting_and_importing_gives_back_every_frame(market, tmp_path, capsys):
    assert main(["export", str(market), "--to", "jsonl", "--out", str(tmp_path / "a.jsonl")]) == 0
    assert main(["import", str(tmp_path / "a.jsonl"), "--out", str(tmp_path / "b.parquet")]) == 0
    assert list(open_recording(tmp_path / "b.parquet").frames()) == list(open_recording(market).frames())
    assert "JSON lines, 300 frames" in capsys.readouterr().out


def test_importing_into_a_folder_that_is_not_there_makes_it(market, tmp_path):
    made = tmp_path / "new" / "b.parquet"
    assert main(["export", str(market), "--to", "jsonl", "--out", str(tmp_path / "a.jsonl")]) == 0
    assert main(["import", str(tmp_path / "a.jsonl"), "--out", str(made)]) == 0
    assert len(open_recording(made)) == 300


def test_archive_csv_holds_every_trade(market, capsysbinary):
    capsysbinary.readouterr()
    assert main(["export", str(market), "--to", "csv"]) == 0
    lines = capsysbinary.readouterr().out.splitlines()
    assert len(lines) == 300
    assert lines[0].startswith(b"3120000001,913")


def test_inspect_shows_what_is_inside(market, capsys):
    assert main(["inspect", str(market)]) == 0
    shown = capsys.readouterr().out
    for part in ("300 data frames", "BTCUSDT 300", "frames per second", "synthetic", "3120000300"):
        assert part in shown
    assert main(["inspect", str(market), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["by_symbol"] == {"BTCUSDT": 300}


def test_inspect_says_which_connection_was_closed_by_whom_and_how(tmp_path, capsys):
    with RecordingWriter(tmp_path / "closed.parquet") as writer:
        writer.write(
            [
                Frame(connection=2, kind="close", data=b"\x03\xf0bye", close_code=1008, detail="bye", received_at_ns=1),
                Frame(
                    connection=2, kind="close", direction="sent", data=b"\x03\xf0", close_code=1008, received_at_ns=2
                ),
                Frame(connection=3, kind="lost", received_at_ns=3),
                Frame(connection=3, kind="gap", detail="ids 4 to 5 are missing", received_at_ns=4),
            ]
        )
    assert main(["inspect", str(tmp_path / "closed.parquet")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("Z  ")[2] for line in lines if line.startswith(("  close ", "  blind "))] == [
        "close  connection 2, received with 1008: bye",
        "close  connection 2, sent with 1008",
        "lost  connection 3, received",
        "gap  ids 4 to 5 are missing",
    ]


def test_verify_exits_with_one_when_the_content_is_not_what_was_written(market, capsys):
    assert main(["verify", str(market)]) == 0
    assert "300 rows, whole" in capsys.readouterr().out
    damaged = bytearray(market.read_bytes())
    damaged[len(damaged) // 4] ^= 1
    market.write_bytes(bytes(damaged))
    assert main(["verify", str(market)]) in {1, 2}


@pytest.mark.parametrize(
    "line",
    [
        ["verify", "none.parquet"], ["inspect", "none.parquet"], ["export", "none.parquet", "--to", "csv"],
        ["import", "none.csv", "--out", "x"], ["synth", "--out", "x.parquet"],
        ["synth", "--frames", "1", "--profile", "norml", "--out", "x.parquet"],
        ["synth", "--duration", "soon", "--out", "x.parquet"],
        ["synth", "--frames", "1", "--out", "x.csv"], ["synth", "--frames", "1", "--out", "file/x.parquet"],
        ["record", "btcusdt", "--endpoint", "ws://127.0.0.1:9", "--status-file", "no/where/x.json"],
        ["record", "btcusdt", "--endpoint", "ws://127.0.0.1:9", "--cafile", "none.pem"],
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_and_exit_two(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert main(line) == 2
    said = capsys.readouterr().err
    assert said.startswith("harness: ")
    if line[0] == "record":
        assert f"{line[-2]} {line[-1]}: no such " in said
    assert len(said.splitlines()) == 1


def test_synth_makes_the_folder_that_it_writes_to_as_record_does(tmp_path, capsys):
    path = tmp_path / "no" / "where" / "x.parquet"
    assert main(["synth", "--frames", "3", "--out", str(path)]) == 0
    assert len(open_recording(path)) == 3


def test_one_bad_file_among_many_loses_nothing_of_the_others(market, tmp_path, capsys):
    main(["export", str(market), "--to", "jsonl", "--out", str(tmp_path / "a.jsonl")])
    (tmp_path / "bad.bin").write_text("nonsense")
    assert main(["import", str(tmp_path / "bad.bin"), str(tmp_path / "a.jsonl"), "--out", str(tmp_path / "out")]) == 2
    assert len(open_recording(tmp_path / "out")) == 300


def test_a_plot_shows_a_burst_of_one_second_however_long_the_tape():
    counts = [1] * 5000
    counts[2500] = 900
    assert any("900" in line for line in plot(counts, width=60))
    assert plot([], width=60) == []


def test_a_wall_clock_that_steps_back_is_told_and_is_no_damage(market, tmp_path, capsys):
    main(["export", str(market), "--to", "jsonl", "--out", str(tmp_path / "a.jsonl")])
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    wall = [row["received_at"] for row in rows]
    joined = [{**row, "received_at": at} for row, at in zip(rows, wall[150:] + wall[:150], strict=True)]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in joined))
    out = tmp_path / "b.parquet"
    seconds = (rows[-1]["monotonic_ns"] - rows[0]["monotonic_ns"]) / 1e9
    words = f"row 151: the wall clock steps back by {seconds:,.6f} s"
    capsys.readouterr()
    assert main(["import", str(tmp_path / "b.jsonl"), "--out", str(out)]) == 0
    assert f"note: {words}" in capsys.readouterr().out
    assert main(["verify", str(out)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("note ")
    assert words in shown
    assert "300 rows, whole" in shown
    assert main(["inspect", str(out)]) == 0
    shown = capsys.readouterr().out
    assert words in shown
    assert f"{wall[0]} to {wall[-1]}, {seconds:,.1f} s\n" in shown
