"""What model checks measured: one small JSON file by the model's digest under ``checks/`` in the state folder.

Guarantees: a result is found only for the same weights, or the same declaration of an endpoint; a file is written
whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORMAT = 1


def _path(state: Path, digest: str) -> Path:
    return state / "checks" / (hashlib.sha256(digest.encode()).hexdigest()[:32] + ".json")


def keep(state: Path, digest: str, result: Mapping[str, Any]) -> Path:
    """Store a result; readable by its owner alone."""
    path = _path(state, digest)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_suffix(f".{os.getpid()}.part")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump({"format": FORMAT, "digest": digest, **result}, file, indent=1, sort_keys=True)
    part.replace(path)
    return path


def find(state: Path, digest: str) -> dict[str, Any] | None:
    """The result of this digest, or ``None`` where it was never checked (or by another release's format)."""
    try:
        found = json.loads(_path(state, digest).read_text("utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT else None
