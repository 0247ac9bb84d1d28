"""Nothing changed: what one more ingestion of a folder costs, beside listing it with ``os.scandir`` and ``stat``.

python bench/noop.py [FILES]        prints JSON; medians of five rounds, in milliseconds
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import drystone
from drystone.testing import HashEmbedder

PROJECT = """
[[sources]]
name = "docs"
type = "files"
path = "documents"
owner = "group:owners"
permissions = "{permissions}"
classification = "internal"
  [[sources.labels]]
  match = "f1/**"
  readers = ["group:hr"]
  classification = "confidential"
  [[sources.labels]]
  match = "**"
  readers = ["everyone"]
"""
USERS = '[[users]]\nname = "olga"\ngroups = ["owners"]\n'


def timed(call: Callable[[], object], rounds: int = 5) -> tuple[float, float]:
    """Wall and CPU time; on a busy machine the second says more."""
    wall, cpu = [], []
    for _ in range(rounds):
        start, used = time.perf_counter(), time.process_time()
        call()
        wall.append((time.perf_counter() - start) * 1000)
        cpu.append((time.process_time() - used) * 1000)
    return statistics.median(wall), statistics.median(cpu)


def raw(folder: str) -> int:
    """The least that looking for a change can cost."""
    count = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                count += raw(entry.path)
            else:
                entry.stat()
                count += 1
    return count


def measure(files: int, permissions: str) -> dict[str, float | str | int]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "drystone.toml").write_text(PROJECT.format(permissions=permissions))
        (folder / "users.toml").write_text(USERS)
        for number in range(files):
            path = folder / "documents" / f"f{number % 50}" / f"{number}.md"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"# Note {number}\n\nThis is note {number} of many small ones.\n")
        embedder = HashEmbedder(16)
        with drystone.open(folder, embedder=embedder) as kb:
            start = time.perf_counter()
            report = kb.ingest(actor="olga")
            first = time.perf_counter() - start
            assert report.added == files, report
            embedded = embedder.embedded
            noop, cpu = timed(lambda: kb.ingest(actor="olga"))
            for path in (folder / "documents" / "f0").iterdir():
                path.touch()
            start = time.perf_counter()
            touched = kb.ingest(actor="olga")
            touch = (time.perf_counter() - start) * 1000
            assert touched.changed == touched.added == 0 and embedder.embedded == embedded
        listing, listing_cpu = timed(lambda: raw(str(folder / "documents")))
    return {
        "permissions": permissions, "files": files, "first_s": round(first, 2), "noop_ms": round(noop, 1),
        "noop_ms_per_file": round(noop / files, 4), "noop_cpu_ms_per_file": round(cpu / files, 4),
        "scandir_stat_ms": round(listing, 1), "scandir_stat_cpu_ms": round(listing_cpu, 1),
        "ratio": round(noop / listing, 1), "touch_of_2_percent_ms": round(touch, 1),
    }  # fmt: skip


if __name__ == "__main__":
    counts = [int(a) for a in sys.argv[1:] if a.isdigit()] or [1_000 if "--quick" in sys.argv else 10_000]
    print(json.dumps({permissions: measure(counts[0], permissions) for permissions in ("rules", "source")}))
