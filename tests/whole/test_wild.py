"""Documents in the wild: ten thousand mixed files, killed again and again while they come in, end as if nothing had
happened; a document that kills its parser costs itself alone."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import drystone
from drystone.testing import HashEmbedder
from tests.conftest import write_project
from tests.ingest import hostile_files
from tests.whole.test_rebuild import difference, held

CHILD = """
import sys, drystone
from drystone.testing import HashEmbedder
kb = drystone.open(sys.argv[1], embedder=HashEmbedder(8))
print("open", flush=True)
kb.ingest(actor="olga")
kb.close()
print("done", flush=True)
"""
LIMITS = "[ingest]\nbatch_documents = 500\n"


def write(folder: Path, count: int, seed: int) -> None:
    """Small files of every format that needs no engine for pictures or sound, some of them empty, cut off or under another's name; each with words of its own."""
    rng, good = random.Random(seed), hostile_files.good()
    rare = sorted(n for n in good if not n.endswith((".txt", ".md", ".html", ".csv", ".json", *hostile_files.ENGINES)))
    write_project(folder, {}, extra=LIMITS)
    for n in range(count):
        place = folder / "documents/handbook" / str(n % 100)
        place.mkdir(parents=True, exist_ok=True)
        kind, word = rng.random(), f"word{n} item{rng.randrange(500)}"
        if kind < 0.9:
            suffix = rng.choice(("txt", "md", "html", "csv", "json"))
            text = {"txt": f"The {word} lies here.\n", "md": f"# File {n}\n\nThe {word} lies here.\n",
                    "html": f"<h1>File {n}</h1><p>The {word} lies here.", "csv": f"name,place\n{word},here\n",
                    "json": f'{{"title": "File {n}", "found": "{word}"}}'}[suffix]  # fmt: skip
            (place / f"{n}.{suffix}").write_text(text)
        elif kind < 0.98:
            name = rng.choice(rare)
            (place / f"{n}.{name.partition('.')[2]}").write_bytes(good[name])
        elif kind < 0.99:
            data = good[rng.choice(rare)]
            (place / f"{n}.{rng.choice(rare).partition('.')[2]}").write_bytes(data[: rng.randrange(len(data))])
        else:
            (place / f"{n}.bin").write_bytes(rng.choice((b"", b" \n", b"\0\1\2\xff" * 9)))


@pytest.mark.whole
@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [2000, pytest.param(10_000, marks=pytest.mark.long)])
def test_many_files_and_kill_9(tmp_path: Path, count: int) -> None:
    folder, clean, rng = tmp_path / "p", tmp_path / "clean", random.Random(11)
    write(folder, count, 5)
    subprocess.run(["cp", "-a", folder, clean], check=True)
    start = time.monotonic()
    with drystone.open(clean, embedder=HashEmbedder(8)) as fresh:
        whole = fresh.ingest(actor="olga")
        wanted = held(fresh)
    took = time.monotonic() - start
    assert whole.seen == count and whole.added > 0.9 * count and whole.failed
    kills, done, kept = 0, False, [0]
    while not done:
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        with child.stdout:
            assert child.stdout.readline() == "open\n"
            if kills < 6:
                time.sleep(took * rng.uniform(0.05, 0.2))
                child.send_signal(signal.SIGKILL)
                kills += 1
            done = child.stdout.read() == "done\n"
        child.wait()
        with drystone.open(folder, embedder=HashEmbedder(8)) as kb:
            kept.append(len(kb.house.ledger.catalog.known("docs")))
    assert kept == sorted(kept) and kept[1] < kept[-1], f"what was committed stays: {kept}"
    with drystone.open(folder, embedder=HashEmbedder(8)) as kb:
        again = kb.ingest(actor="olga")
        assert (again.added, again.changed, again.removed, again.embedded) == (0, 0, 0, 0)
        found = difference(held(kb), wanted)
        assert not found, found[:5]
        assert kb.house.ledger.verify().valid
    assert not workers(), "no parser process outlives the one that started it"
    shutil.rmtree(folder)
    print(
        f"{count} files, {whole.added} came in, {whole.failed} failed, {took:.1f} s clean, kept after each kill: {kept}"
    )


def workers() -> list[str]:
    """Parser processes that nobody waits for any more: their parent is gone."""
    deadline, left = time.monotonic() + 10, ["?"]
    while left and time.monotonic() < deadline:
        left = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                command, state = (entry / "cmdline").read_bytes(), (entry / "stat").read_text()
            except OSError:
                continue
            parent = int(state.rpartition(")")[2].split()[1])
            if b"drystone.ingest.worker" in command and parent == 1:
                left.append(f"{entry.name} {command!r}")
        if left:
            time.sleep(0.2)
    return left


@pytest.mark.whole
def test_a_dying_worker_costs_one_file(make: Callable[..., Any]) -> None:
    """Workers are killed from outside while documents come in: what is lost is what they were at, and it is said."""
    kb = make(
        {f"handbook/{n}.md": f"# File {n}\n\nThe number of file {n} is {n}.\n" for n in range(3000)}, ingest=False
    )
    import threading

    killed, stop = [0], threading.Event()

    def hunt() -> None:
        while not stop.wait(0.15):
            for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
                if b"drystone.ingest.worker" in Path(f"/proc/{child}/cmdline").read_bytes() and killed[0] < 5:
                    os.kill(int(child), signal.SIGKILL)
                    killed[0] += 1
                    break

    hunter = threading.Thread(target=hunt)
    hunter.start()
    try:
        report = kb.ingest(actor="olga")
    finally:
        stop.set()
        hunter.join()
    assert killed[0]
    assert report.failed <= killed[0] and report.added >= 3000 - killed[0], report
    assert all(f.kind == "crashed" for f in report.failures)
