"""The `.json` beside a recording: what a person wants to know before opening it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from harness.recording import Metadata


def write(path: Path, about: Metadata, *, source: str, licence: str) -> Path:
    """Write the side file of a finished recording and return its path."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    content = {
        "sha256": sha.hexdigest(),
        "size_bytes": path.stat().st_size,
        "source": source,
        "licence": licence,
        "recorded_at": about.start,
        "frame_count": about.frame_count,
        "symbols": list(about.symbols),
        "remarks": list(about.remarks),
    }
    side = path.with_suffix(".json")
    side.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return side
