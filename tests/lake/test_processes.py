"""Several processes at once, and processes that are killed: no commit lost, none half visible, none twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drystone.lake import Lake
from tests.lake.making import rows

ROOT = Path(__file__).resolve().parents[2]
BOTH_KINDS, FOLDER = True, set[str]()

# Commits documents NAME-0, NAME-1, ... of three chunks each and writes the name of each acknowledged one to ACK.
WRITER = """
import sys
from pathlib import Path
from drystone.lake import Lake
from drystone.ledger import Ledger
from tests.lake.making import ACTOR, rows, settings
folder, name, start, count, ack = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), open(sys.argv[5], "a")
settings = settings(folder, lake__compact_fragments=5, lake__keep_versions=0)
ledger = Ledger.open(folder / "state", project="shop", settings=settings)
lake = Lake(folder / "state", ledger=ledger, settings=settings)
print("open", flush=True)
with ledger.run("ingest", actor=ACTOR) as run:
    for i in range(start, start + count):
        key = f"{name}-{i}"
        lake.commit(rows(lake, key, {key: [f"{key} red", f"{key} green", f"{key} blue"]}), run)
        ack.write(key + "\\n")
        ack.flush()
    run.close()
"""


def writer(folder: Path, name: str, start: int, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), name, str(start), str(count), str(folder / "ack")],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def whole(lake: Lake) -> set[str]:
    """Names of what is visible, each checked to be there once, with all that belongs to it."""
    found = {row["document"].removeprefix("docs:"): row for row in lake.logical()}
    for name, row in found.items():
        assert [c[3] for c in row["chunks"]] == [f"{name} {colour}" for colour in ("red", "green", "blue")]
        assert None not in row["vectors"] and all(row["posted"]) and row["text"].count("\n") == 2
    with lake.reader() as reader:
        numbers = reader.chunk_rows().chunk
        assert (np.diff(numbers) > 0).all() and len(numbers) == 3 * len(found)  # nothing of a crashed writer
        assert np.array_equal(reader.vectors("g:one")[0], numbers)
        assert [s.number for s in reader.postings()] == numbers[::3].tolist()
    return set(found)


def acknowledged(folder: Path) -> set[str]:
    path = folder / "ack"
    return set(path.read_text().split("\n")) - {""} if path.exists() else set()


def test_two_processes_write_at_once(opened: Callable[..., Lake], tmp_path: Path) -> None:
    lake = opened()
    children = [writer(tmp_path, name, 0, 5) for name in ("one", "two")]
    last = -1
    seen: list[int] = []
    while any(child.poll() is None for child in children):  # a reader that follows by "after" misses nothing
        with lake.reader() as reader:
            fresh = reader.chunk_rows(last).chunk.tolist()
        seen += fresh
        last = max([last, *fresh])
        time.sleep(0.01)
    assert [child.wait() for child in children] == [0, 0]
    for child in children:
        assert child.stdout is not None
        child.stdout.close()
    assert whole(lake) == acknowledged(tmp_path) == {f"{name}-{i}" for name in ("one", "two") for i in range(5)}
    with lake.reader() as reader:
        assert seen + reader.chunk_rows(last).chunk.tolist() == reader.chunk_rows().chunk.tolist()


@pytest.mark.whole
def test_writers_that_are_killed_lose_nothing(opened: Callable[..., Lake], tmp_path: Path, run: Any) -> None:
    lake, rng = opened(), random.Random(7)
    for turn in range(20):
        child = writer(tmp_path, f"w{turn}", 0, 1000)
        with child:
            assert child.stdout is not None and child.stdout.readline() == "open\n"
            first = f"w{turn}-0"  # every fourth is killed on its way to the first commit, the others later
            while turn % 4 and first not in acknowledged(tmp_path):
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.3))
            child.send_signal(signal.SIGKILL)
        visible, acked = whole(lake), acknowledged(tmp_path)
        assert acked <= visible, "an acknowledged commit was lost"
        assert len(visible - acked) <= turn + 1  # committed, and killed before it could say so
    for name in sorted(whole(lake) - acknowledged(tmp_path)):  # the retry of what was not acknowledged
        before = lake.ledger.catalog.pointer()
        lake.commit(rows(lake, name, {name: ["another", "thing"]}), run)
        assert lake.ledger.catalog.pointer() == before
    lake.commit(rows(lake, "last", {"last": ["last red", "last green", "last blue"]}), run)
    lake.maintain()
    assert "last" in whole(lake) and len(whole(lake)) > 15
