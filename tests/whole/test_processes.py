"""Several processes at once: a reader learns of another process's commit, relabel or changed rights at its
next question; two writers lose nothing; a second project in one process is independent."""

from __future__ import annotations

import json
import subprocess
import sys
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

    def __call__(self, do: str, **order: Any) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps({"do": do, **order}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

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
    assert far.process.stdin
    far.process.stdin.write(json.dumps({"do": "ingest", "actor": "olga"}) + "\n")
    far.process.stdin.flush()
    kb.ingest(actor="olga")
    assert far.process.stdout
    second = json.loads(far.process.stdout.readline())
    assert "error" not in second, second
    assert len(kb.search("apples pears", actor="olga", limit=500)) == 120
    assert kb.house.ledger.verify().valid


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
