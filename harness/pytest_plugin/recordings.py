"""Which recording a test plays, and how a missing one is made: the record modes of pytest-recording."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pytest

from harness.clock import parse_duration_ns
from harness.errors import RecordingError, UsageError
from harness.pytest_plugin import MARKER, setting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Wanted(NamedTuple):
    """What the marker of a test asks for."""

    path: Path
    faults: tuple[str, ...] = ()
    seed: int = 0
    speed: float | str = 1
    symbols: tuple[str, ...] | None = None
    deadline: str = "60s"
    retime: Literal["none", "auto"] = "auto"
    tap: str | None = None


def wanted(request: pytest.FixtureRequest) -> Wanted:
    """
    Read the marker.

    Raises:
        pytest.UsageError: there is none, or it says something that we do not understand.
    """
    marker = request.node.get_closest_marker("recording")
    if marker is None or not marker.args:
        raise pytest.UsageError(
            f"{request.node.name} uses `exchange`, so it needs @pytest.mark.{MARKER.partition(':')[0]}"
        )
    known = set(Wanted._fields) - {"path"}
    if len(marker.args) > 1:
        raise pytest.UsageError(
            f"@pytest.mark.recording: {marker.args[1]!r} has no name; say faults=... or another of: "
            f"{', '.join(sorted(known))}"
        )
    if unknown := sorted(set(marker.kwargs) - known):
        raise pytest.UsageError(
            f"@pytest.mark.recording: unknown {unknown[0]!r}; there are: {', '.join(sorted(known))}"
        )
    options: dict[str, Any] = {"seed": setting(request.config, "seed", 0), **marker.kwargs}
    for name in ("faults", "symbols"):
        if isinstance(options.get(name), str):
            options[name] = (options[name],)
        elif options.get(name) is not None:
            options[name] = tuple(options[name])
    return Wanted(find(request, marker.args[0]), **options)


def find(request: pytest.FixtureRequest, name: str | Path) -> Path:
    """Where a recording is, or is to be: as named, beside the test, or in the project's `recordings`."""
    path = Path(name)
    if path.is_absolute():
        return path
    chosen = setting(request.config, "recordings", None)
    if chosen is not None:
        return Path(request.config.rootpath, chosen, path)
    beside = Path(request.path).parent
    places = [beside / path, beside / "recordings" / path, request.config.rootpath / "recordings" / path]
    places.append(request.config.rootpath / path)
    return next((place for place in places if place.exists()), places[1])


def episodes(path: Path) -> list[Path]:
    """A recording and its further episodes: `a.parquet`, `a.2.parquet`, `a.3.parquet`."""
    pattern = re.compile(re.escape(path.stem) + r"\.(\d+)\.parquet")
    found = [(int(m[1]), p) for p in path.parent.glob(f"{path.stem}.*.parquet") if (m := pattern.fullmatch(p.name))]
    return ([path] if path.exists() else []) + [place for _, place in sorted(found)]


def must_record(mode: str, path: Path, symbols: tuple[str, ...] | None) -> Path | None:
    """Where this test shall record to; None when it shall replay."""
    there = episodes(path)
    if mode == "rewrite" or (not there and mode in {"once", "new_episodes", "all"}):
        return path
    if mode == "all" or (mode == "new_episodes" and _lacks(there, symbols)):
        last = re.fullmatch(r".*\.(\d+)", there[-1].stem)
        return path.with_name(f"{path.stem}.{int(last[1]) + 1 if last else 2}.parquet")
    if not there:
        raise UsageError(f"{path}: no such recording; record it with --harness-record-mode=once, or `harness record`")
    return None


def _lacks(there: list[Path], symbols: tuple[str, ...] | None) -> bool:
    from harness.recording import open_recording

    held = {symbol for path in there for symbol in open_recording(path).metadata.symbols}
    return any(symbol.upper() not in held for symbol in symbols or ())


@contextmanager
def recorded(
    place: Path, upstream: Callable[[str, int], tuple[str, int]] | None = None, cafile: str | None = None
) -> Iterator[str]:
    """
    Stand between the test and the real exchange, and record what passes.

    The recording takes its place when it is whole; an older one is replaced only then.

    Args:
        place: the Parquet file to be.
        upstream: where to dial for the host and port that the test named; None dials just that.
        cafile: authority of what is dialled; None for the machine's own trust.

    Yields:
        The file of the authority that the test's clients meet.

    Raises:
        RecordingError: the test opened no connection to the exchange, or got nothing over it: nothing is kept.
    """
    from harness.actions import Tls
    from harness.recorder.proxy import RecordingProxy
    from harness.redirect import Redirect
    from harness.redirect.hosts import only_real_hosts
    from harness.transports.authority import Authority

    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = place.with_name(f"{place.stem}.new.parquet")
    fresh.unlink(missing_ok=True)
    with Authority() as authority:
        proxy = RecordingProxy(fresh, context=authority.context(Tls()), cafile=cafile, upstream=upstream)
        # The proxy is in this process, too: where it dials, names mean what they always do.
        with proxy, Redirect(only_real_hosts(proxy.gate), str(authority.cafile), let_through=proxy.dials):
            yield str(authority.cafile)
    if not fresh.exists() or not _has_data(fresh):
        opened = "no message came" if fresh.exists() else "the test opened no connection to the exchange"
        fresh.unlink(missing_ok=True)
        raise RecordingError(place, f"nothing to record, since {proxy.unreached or opened}")
    fresh.replace(place)


def _has_data(path: Path) -> bool:
    from harness.frames import DATA_KINDS
    from harness.recording import open_recording

    return any(frame.kind in DATA_KINDS for frame in open_recording(path).frames())


def length_ns(config: pytest.Config) -> int:
    """How long to record."""
    return parse_duration_ns(setting(config, "duration", "10s"))
