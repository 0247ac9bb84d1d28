"""Incremental equals full rebuild: after random edits, touches, renames, relabels, rule changes and kill -9 the
next run leaves exactly what a fresh project over the same folder would hold."""

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

from tests.conftest import RULES, write_project

WORDS = [
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "heron",
    "island",
    "juniper",
    "kestrel",
    "lagoon",
    "meadow",
    "north",
    "otter",
]
FOLDERS = ("public", "hr", "handbook", "eu")


def prose(rng: random.Random, name: str) -> str:
    parts = [f"# {rng.choice(WORDS)} {name}\n"]
    for section in range(rng.randint(1, 4)):
        parts.append(f"\n## {rng.choice(WORDS)} {section}\n")
        for _ in range(rng.randint(1, 4)):
            parts.append("\n" + " ".join(rng.choice(WORDS) for _ in range(rng.randint(8, 90))).capitalize() + ".\n")
    return "".join(parts)


class Editor:
    """Does to a folder what people do to folders."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.root = folder / "documents"
        self.overrides: list[tuple[str, dict[str, Any]]] = []
        self.count = 0

    def files(self) -> list[Path]:
        return sorted(p for p in self.root.rglob("*") if p.is_file())

    def new(self) -> None:
        self.count += 1
        path = self.root / self.rng.choice(FOLDERS) / f"f {self.count}.{self.rng.choice(['md', 'txt'])}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(prose(self.rng, path.stem))

    def step(self) -> str:
        files = self.files()
        if len(files) < 6:
            self.new()
            return "new"
        path, kind = self.rng.choice(files), self.rng.choice(
            ["new", "edit", "edit", "append", "touch", "rename", "copy", "delete", "rules", "relabel"]
        )  # fmt: skip
        if kind == "new":
            self.new()
        elif kind == "edit":
            path.write_text(path.read_text().replace(self.rng.choice(WORDS), "changed", 1))
        elif kind == "append":
            path.write_text(path.read_text() + "\n" + prose(self.rng, "more"))
        elif kind == "touch":
            os.utime(path)
        elif kind == "rename":
            target = self.root / self.rng.choice(FOLDERS) / f"renamed {self.count}{path.suffix}"
            self.count += 1
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
        elif kind == "copy":
            target = self.root / self.rng.choice(FOLDERS) / f"copy {self.count}{path.suffix}"
            self.count += 1
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
        elif kind == "delete":
            path.unlink()
        elif kind == "rules":
            shown = list(RULES)
            where = self.rng.randrange(2, len(shown))
            level = self.rng.choice(["internal", "confidential"])
            shown[where] = (shown[where][0], f'readers = ["group:staff", "group:hr"]\nclassification = "{level}"')
            self.write_rules(tuple(shown))
        return kind

    def write_rules(self, rules: tuple[tuple[str, str], ...]) -> None:
        write_project(self.folder, {}, rules=rules)


def canonical(kb: Any) -> dict[str, Any]:
    """What the store holds at its newest commit, without any of its own ids."""
    house = kb.house
    view = house.ledger.catalog.view()
    numbers = np.flatnonzero(view.visible()).tolist()
    states = house.ledger.catalog.versions(numbers)
    out: dict[str, Any] = {}
    with house.lake.reader() as reader:
        rows, found = reader.vectors(house.index.generation)
        vectors = dict(zip(rows.tolist(), list(found), strict=True))
        held = {int(c) for segment in reader.postings() for c in segment.chunks}
        for number in numbers:
            state = states[number]
            chunks = reader.chunks(list(range(state.chunk_first, state.chunk_first + state.chunk_count)))
            out[state.document] = {
                "text": reader.document(number).text,
                "title": state.title,
                "label": view.label(int(view.version_document[number])).to_dict(),
                "transform": state.transform,
                "chunks": [
                    (c.ordinal, c.start, c.end, c.text, c.heading, c.page, c.tokens, c.language) for c in chunks
                ],
                "vectors": [np.round(vectors[c.chunk], 4).tolist() for c in chunks],
                "posted": [c.chunk in held for c in chunks],
            }
    return out


def same(kb: Any, fresh: Any) -> None:
    one, two = canonical(kb), canonical(fresh)
    assert one.keys() == two.keys()
    for name in one:
        mine, theirs = dict(one[name]), dict(two[name])
        assert mine == theirs, name
    for actor in ("olga", "ann", "bo"):
        for query in ("amber birch", "changed lagoon", "heron meadow island"):
            a = [(h.document, h.start, round(h.score, 5)) for h in kb.search(query, actor=actor, limit=1000)]
            b = [(h.document, h.start, round(h.score, 5)) for h in fresh.search(query, actor=actor, limit=1000)]
            assert sorted(a) == sorted(b), (actor, query)


CHILD = """
import sys
import drystone
from drystone.testing import HashEmbedder
with drystone.open(sys.argv[1], embedder=HashEmbedder()) as kb:
    print("open", flush=True)
    kb.ingest(actor="olga", allow_mass_removal=True)
    print("done", flush=True)
"""


@pytest.mark.whole
@pytest.mark.parametrize("seed", [1, 2])
def test_incremental_equals_rebuild_with_kills(seed: int, make: Callable[..., Any]) -> None:
    kb = make({"public/first.md": "# First\n\nThe first file of all.\n"}, name=f"live{seed}", ingest=False)
    folder: Path = kb.folder
    editor, rng = Editor(folder, seed), random.Random(seed)
    killed = 0
    for _round in range(10):
        for _ in range(rng.randint(1, 6)):
            editor.step()
        if rng.random() < 0.6:
            child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, text=True)
            assert child.stdout and child.stdout.readline() == "open\n"
            time.sleep(rng.random() * 0.35)
            child.send_signal(signal.SIGKILL)
            child.wait()
            child.stdout.close()
            killed += 1
        else:
            with_current_settings(kb).ingest(actor="olga", allow_mass_removal=True)
    assert killed
    kb = with_current_settings(kb)
    kb.ingest(actor="olga", allow_mass_removal=True)
    assert kb.ingest(actor="olga").to_dict()["embedded"] == 0
    fresh_folder = folder.parent / f"fresh{seed}"
    subprocess.run(["cp", "-a", folder, fresh_folder], check=True)
    subprocess.run(["rm", "-rf", fresh_folder / ".drystone"], check=True)
    import drystone
    from drystone.testing import HashEmbedder

    with drystone.open(fresh_folder, embedder=HashEmbedder()) as fresh:
        fresh.ingest(actor="olga")
        same(kb, fresh)
    assert kb.house.ledger.verify().valid
    kb.close()


def with_current_settings(kb: Any) -> Any:
    """The project opened again, as after a change of drystone.toml."""
    import drystone
    from drystone.testing import HashEmbedder

    kb.close()
    return drystone.open(kb.folder, embedder=HashEmbedder())


@pytest.mark.whole
def test_touch_is_no_work_and_an_edit_embeds_one_chunk(make: Callable[..., Any]) -> None:
    files = {f"handbook/{n}.md": prose(random.Random(n), str(n)) for n in range(40)}
    kb = make(files)
    before = canonical(kb)
    for path in (kb.folder / "documents").rglob("*.md"):
        os.utime(path)
    report = kb.ingest(actor="olga")
    assert (report.added, report.changed, report.removed, report.embedded) == (0, 0, 0, 0)
    assert canonical(kb) == before
    path = kb.folder / "documents/handbook/7.md"
    text = path.read_text()
    first = text.index("\n## ")
    path.write_text(text[:first] + text[first:].replace(".", " indeed.", 1))
    report = kb.ingest(actor="olga")
    assert (report.changed, report.embedded) == (1, 1)


@pytest.mark.whole
def test_a_relabel_survives_ingestion_and_embeds_nothing(make: Callable[..., Any]) -> None:
    kb = make({"handbook/a.md": "# A\n\nThe gate code is seven.\n", "handbook/b.md": "# B\n\nNothing here.\n"})
    kb.relabel("docs:handbook/a.md", {"readers": [["group:hr"], ["group:staff"]], "classification": "confidential"}, actor="olga")
    os.utime(kb.folder / "documents/handbook/a.md")
    assert kb.ingest(actor="olga").embedded == 0
    assert not kb.search("gate code", actor="bo") or all(
        "seven" not in h.text for h in kb.search("gate code", actor="bo")
    )
    (kb.folder / "documents/handbook/a.md").rename(kb.folder / "documents/public-a.md")
    (kb.folder / "documents/public").mkdir()
    (kb.folder / "documents/public-a.md").rename(kb.folder / "documents/public/a.md")
    report = kb.ingest(actor="olga")
    assert report.embedded == 0, "a rename reuses vectors"
    for actor in ("bo", "eve"):
        assert all("seven" not in h.text for h in kb.search("gate code", actor=actor)), (
            "the tightening follows the bytes"
        )
    assert any("seven" in h.text for h in kb.search("gate code", actor="ann"))


@pytest.mark.whole
def test_mass_removal_stops_and_an_outage_removes_nothing(make: Callable[..., Any]) -> None:
    from drystone.errors import MassRemoval, SourceUnavailable

    kb = make({f"public/{n}.md": f"# N\n\nNumber {n} is here.\n" for n in range(40)})
    files = sorted((kb.folder / "documents/public").iterdir())
    for path in files[:20]:
        path.unlink()
    with pytest.raises(MassRemoval) as caught:
        kb.ingest(actor="olga")
    assert "--allow-mass-removal" in str(caught.value)
    assert len(kb.search("number", actor="eve", limit=100)) == 40
    assert kb.ingest(actor="olga", allow_mass_removal=True).removed == 20
    for path in files[20:]:
        path.unlink()
    with pytest.raises(SourceUnavailable):
        kb.ingest(actor="olga", allow_mass_removal=False)
    (kb.folder / "documents").rename(kb.folder / "away")
    with pytest.raises(SourceUnavailable):
        kb.ingest(actor="olga", allow_mass_removal=True)
    assert len(kb.search("number", actor="eve", limit=100)) == 20
