"""What commands print: plain lines, a progress bar on a terminal, JSON as the last line when asked."""

from __future__ import annotations

import argparse
import json
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

from drystone import settings
from drystone.project import Project
from drystone.project import open as open_project


def project(options: argparse.Namespace, *, progress: bool = False) -> Project:
    """The project that the options name, or the nearest one upward."""
    folder = Path(options.project) if options.project else settings.find(Path.cwd())
    return open_project(folder, env=options.env, progress=Bar() if progress else None)


def emit(options: argparse.Namespace, document: dict[str, Any], *lines: str) -> None:
    for line in lines:
        print(harmless(line))
    if options.json:
        print(json.dumps(document, ensure_ascii=False))
    sys.stdout.flush()


def harmless(line: str) -> str:
    """Without control characters: a document's name or words must not steer the terminal that shows them."""
    return re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\ufffd", line)


STILL_S = 3  # seconds after which it is said that something stands still


class Bar:
    """A bar on a terminal, a plain line every few seconds elsewhere. Writes to stderr only. Thread-safe.

    What stands still, as it does while one long document is read, is shown with the seconds since it moved.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._moved: dict[str, tuple[int, float]] = {}  # step: where it is, and since when
        self._terminal = sys.stderr.isatty()
        self._last = time.monotonic()
        self._open = False

    def __call__(self, step: str, done: int, total: int | None) -> None:
        with self._lock:
            self._show(step, done, total)

    def _show(self, step: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if self._moved.get(step, (-1, now))[0] != done:
            self._moved[step] = (done, now)
        still = int(now - self._moved[step][1])
        since = f", {still} s at the next" if still >= STILL_S and total is not None and done < total else ""
        finished = total is not None and done >= total
        if now - self._last < (0.1 if self._terminal else 5.0) and not (finished and self._open):
            return
        self._last = now
        if self._terminal:
            width = 24
            filled = int(width * done / total) if total else 0
            share = f"[{'#' * filled}{'.' * (width - filled)}] {done}/{total}" if total else str(done)
            sys.stderr.write(f"\r{step:<12} {share}{since}\x1b[K" + ("\n" if finished else ""))
            sys.stderr.flush()
            self._open = not finished
        else:
            print(f"{step}: {done}" + (f" of {total}" if total else "") + since, file=sys.stderr)
