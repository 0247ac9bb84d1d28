"""Several processes at once: a reader learns of another process's commit, relabel or changed rights at its
next question; two writers lose nothing; a second project in one process is independent."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ASKER = """
import json, sys
import drystone
from drystone.testing import HashEmbedder
kb = drystone.open(sys.argv[1], embedder=HashEmbedder())
for line in sys.stdin:
    order = json.loads(line)
    try:
        found = getattr(kb, order.pop("do"))(**order)
        if hasattr(found, "to_dict"):
            found = found.to_dict()
        elif isinstance(found, list):
            found = [h.to_dict() for h in found]
        print(json.dumps(found, default=repr), flush=True)
    except Exception as error:
        print(json.dumps({"error": type(error).__name__, "said": str(error)}), flush=True)
"""


class Other:
    """Another process that keeps the project open and does what it is told."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", ASKER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def begin(self, do: str, **order: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"do": do, **order}) + "\n")
        self.process.stdin.flush()

    def end(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def __call__(self, do: str, **order: Any) -> Any:
        self.begin(do, **order)
        return self.end()

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(timeout=20)
        self.process.stdout.close()


@pytest.fixture
def other() -> Iterator[Callable[[Path], Other]]:
    started: list[Other] = []

    def start(folder: Path) -> Other:
        started.append(Other(folder))
        return started[-1]

    yield start
    for process in started:
        process.close()


QUESTION = "Everyone has how many days of paid holiday a year?"


@pytest.mark.whole
def test_another_process_learns_at_its_next_question(make: Callable[..., Any], other: Callable[[Path], Other]) -> None:
    kb = make({"handbook/leave.md": "# Leave\n\nEveryone has 27 days of paid holiday a year.\n"})
    far = other(kb.folder)
    assert "27 days" in far("ask", question=QUESTION, actor="bo")["text"]

    leave = kb.folder / "documents/handbook/leave.md"
    leave.write_text("# Leave\n\nEveryone has 30 days of paid holiday a year.\n")
    kb.ingest(actor="olga")
    assert "30 days" in far("ask", question=QUESTION, actor="bo")["text"]

    kb.relabel("docs:handbook/leave.md", {"readers": ["group:hr"]}, reason="hr keeps it", actor="olga")
    assert far("ask", question=QUESTION, actor="bo")["refused"]
    assert not far("ask", question=QUESTION, actor="ann")["refused"]

    people = kb.folder / "users.toml"
    people.write_text(people.read_text().replace('groups = ["hr", "staff"]', 'groups = ["staff"]'))
    assert far("ask", question=QUESTION, actor="ann")["refused"], "a right that was taken away is gone at once"

    leave.unlink()
    (kb.folder / "documents/handbook/other.md").write_text("# Other\n\nSomething else entirely.\n")
    kb.ingest(actor="olga")
    assert far("search", query="paid holiday", actor="olga") == [] or all(
        "holiday" not in hit["text"] for hit in far("search", query="paid holiday", actor="olga")
    )


@pytest.mark.whole
def test_two_writers_at_once_lose_nothing(make: Callable[..., Any], other: Callable[[Path], Other]) -> None:
    kb = make({}, ingest=False, extra='[[sources]]\nname = "rows"\ntype = "rows"\npath = "rows.jsonl"\n'
              'classification = "public"\nfields = { id = "id", text = "text", readers = "readers" }\n')  # fmt: skip
    for n in range(60):
        (kb.folder / f"documents/public-{n}.md").parent.mkdir(exist_ok=True)
        path = kb.folder / f"documents/public/{n}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"# File {n}\n\nThe file number {n} tells about apples.\n")
    rows = [{"id": f"r{n}", "text": f"Row {n} tells about pears.", "readers": ["everyone"]} for n in range(60)]
    (kb.folder / "rows.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    far = other(kb.folder)
    far.begin("ingest", actor="olga")
    kb.ingest(actor="olga")
    second = far.end()
    assert "error" not in second, second
    assert len(kb.search("apples pears", actor="olga", limit=500)) == 120
    assert kb.house.ledger.verify().valid


@pytest.mark.whole
def test_many_writers_and_readers_at_once(make: Callable[..., Any], other: Callable[[Path], Other]) -> None:
    """Two ingest the same edits, one relabels, one asks, one is killed, again and again: nothing is lost or doubled."""
    import drystone
    from drystone.testing import HashEmbedder
    from tests.whole.test_rebuild import difference, held

    kb = make({f"handbook/{n}.md": f"# File {n}\n\nThe number of file {n} is {n}.\n" for n in range(30)})
    root, rng = kb.folder / "documents/handbook", random.Random(7)
    writers, asker, labeller = [other(kb.folder), other(kb.folder)], other(kb.folder), other(kb.folder)
    for turn in range(5):
        for n in rng.sample(range(30), 10):
            (root / f"{n}.md").write_text(f"# File {n}\n\nThe number of file {n} is {turn}{n}.\n")
        (root / f"new {turn}.md").write_text(f"# New {turn}\n\nThis came in turn {turn}.\n")
        victim = other(kb.folder)
        for process in (*writers, victim):
            process.begin("ingest", actor="olga")
        labeller.begin("relabel", document="docs:handbook/3.md", changes={"trust": ["trusted", "untrusted"][turn % 2]},
                       reason="tested", actor="olga")  # fmt: skip
        asker.begin("ask", question="What is the number of file 29?", actor="bo")
        time.sleep(rng.random() * 0.3)
        victim.process.kill()
        for process in (*writers, labeller, asker):
            told = process.end()
            assert "error" not in told, told
        assert not told["refused"], "a reader is never without its documents"
        kb.house.lake.maintain()
    assert kb.ingest(actor="olga").embedded == 0
    fresh_folder = kb.folder.with_name("fresh")
    shutil.copytree(kb.folder, fresh_folder, ignore=shutil.ignore_patterns(".drystone"))
    with drystone.open(fresh_folder, embedder=HashEmbedder()) as fresh:
        fresh.ingest(actor="olga")
        found = difference(held(kb), held(fresh))
        assert not found, found
    assert kb.house.ledger.verify().valid
    catalog = kb.house.ledger.catalog
    assert len(catalog.known("docs")) == 35
    commits = [event["body"]["commit"] for event in kb.house.ledger.export() if event["kind"] == "commit"]
    assert commits == list(range(1, catalog.pointer().commit + 1)), "one number a commit, none twice, none lost"


@pytest.mark.whole
def test_who_waits_too_long_is_told(make: Callable[..., Any], other: Callable[[Path], Other]) -> None:
    from drystone.ingest import lock

    kb = make({"handbook/a.md": "# A\n\nThe code is amber.\n"})
    (kb.folder / "drystone.toml").write_text(
        (kb.folder / "drystone.toml").read_text() + "\n[ingest]\nlock_wait_s = 0.2\n"
    )
    far = other(kb.folder)
    release = lock.hold(kb.settings.state, "docs", 1)
    told = far("ingest", actor="olga")
    assert told["error"] == "Busy" and "Another process is ingesting" in told["said"] and "Try again" in told["said"]
    assert "amber" in far("ask", question="What is the code?", actor="bo")["text"], "readers do not wait for writers"
    release()
    assert "error" not in far("ingest", actor="olga")


def test_a_second_project_in_the_process_is_independent(make: Callable[..., Any]) -> None:
    one = make({"handbook/a.md": "# A\n\nThe code of the first house is amber.\n"}, name="one")
    two = make({"handbook/a.md": "# A\n\nThe code of the second house is blue.\n"}, name="two")
    assert "amber" in one.ask("What is the code of the house?", actor="bo").text
    assert "blue" in two.ask("What is the code of the house?", actor="bo").text
    first = one.ask("What is the code of the house?", actor="bo").passport
    from drystone.errors import DrystoneError

    with pytest.raises(DrystoneError):
        two.passport(first, actor="bo")
    one.close()
    assert "blue" in two.ask("What is the code of the house?", actor="bo").text
