"""Incremental equals full rebuild: after random edits, touches, renames, copies, label files, permissions, relabels,
rule changes, another parser, another embedding model and kill -9 at any point, the next run leaves exactly what a
fresh project over the same folder would hold; and what people decided about labels holds as it should."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import drystone
from drystone.ingest import media
from drystone.records import Label
from drystone.testing import HashEmbedder
from tests.conftest import RULES, write_project

WORDS = [
    "amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "island", "juniper", "kestrel", "lagoon",
]  # fmt: skip
FOLDERS = ("public", "hr", "handbook", "eu")
SOURCES = """
[[sources]]
name = "rows"
type = "rows"
path = "rows.jsonl"
classification = "public"
fields = { id = "id", text = "text", readers = "readers" }

[[sources]]
name = "team"
type = "files"
path = "team"
permissions = "source"
classification = "internal"
"""


def prose(rng: random.Random, name: str) -> str:
    parts = [f"# {rng.choice(WORDS)} {name}\n"]
    for section in range(rng.randint(1, 4)):
        parts.append(f"\n## {rng.choice(WORDS)} {section}\n")
        for _ in range(rng.randint(1, 4)):
            parts.append("\n" + " ".join(rng.choice(WORDS) for _ in range(rng.randint(8, 90))).capitalize() + ".\n")
    return "".join(parts)


class Editor:
    """Does to a folder what people do to folders, to a project what its owners do."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng, self.count = folder, random.Random(seed), 0
        self.rules = list(RULES)
        self.salt, self.version = "", "1"  # of the embedding model, of the parser of Markdown
        self.rows: dict[str, dict[str, Any]] = {}
        (folder / "team").mkdir(exist_ok=True)
        self.write_rows()
        self.write_rules()

    def files(self) -> list[Path]:
        found = [*(self.folder / "documents").rglob("*"), *(self.folder / "team").rglob("*")]
        return sorted(p for p in found if p.is_file() and not p.name.endswith(".label.toml"))

    def place(self, stem: str, suffix: str) -> Path:
        self.count += 1
        where = self.folder / self.rng.choice([*(f"documents/{f}" for f in FOLDERS), "team"])
        where.mkdir(parents=True, exist_ok=True)
        return where / f"{stem} {self.count}{suffix}"

    def step(self) -> str:
        files, rng = self.files(), self.rng
        steps = [name.removeprefix("do_") for name in dir(self) if name.startswith("do_")]
        kind = "new" if len(files) < 6 else rng.choice([*steps, "edit", "edit", "append", "rename", "copy"])
        getattr(self, f"do_{kind}")(rng.choice(files) if files else None)
        return kind

    def do_new(self, _: Path | None) -> None:
        path = self.place("f", self.rng.choice([".md", ".txt", ".html"]))
        path.write_text(prose(self.rng, path.stem))

    def do_edit(self, path: Path) -> None:
        path.write_bytes(path.read_bytes().replace(self.rng.choice(WORDS).encode(), b"changed", 1))

    def do_append(self, path: Path) -> None:
        path.write_bytes(path.read_bytes() + b"\n" + prose(self.rng, "more").encode())

    def do_touch(self, path: Path) -> None:
        os.utime(path)

    def do_rename(self, path: Path) -> None:
        path.rename(self.place("renamed", path.suffix))

    def do_copy(self, path: Path) -> None:
        self.place("copy", path.suffix).write_bytes(path.read_bytes())

    def do_delete(self, path: Path) -> None:
        path.unlink()

    def do_replace(self, path: Path) -> None:
        """One document takes the name of another."""
        path.replace(self.rng.choice(self.files()))

    def do_spoil(self, path: Path) -> None:
        path.write_bytes(self.rng.choice([b"", b"\x00\x01\x02\xff" * 9, b"%PDF-1.7 is none", b" \n"]))

    def do_sidecar(self, path: Path) -> None:
        beside = path.with_name(path.name + ".label.toml")
        if beside.exists() and self.rng.random() < 0.5:
            beside.unlink()
        else:
            beside.write_text(self.rng.choice([
                'readers = ["group:hr"]', 'classification = "confidential"', 'readers = []', "no toml at all ["]))  # fmt: skip

    def do_mode(self, path: Path) -> None:
        path.chmod(self.rng.choice([0o644, 0o640, 0o600, 0o604]))

    def do_rules(self, _: Path) -> None:
        where = self.rng.randrange(len(self.rules))
        level = self.rng.choice(["internal", "confidential"])
        label = f'readers = ["group:staff", "group:hr"]\nclassification = "{level}"'
        self.rules[where] = (
            self.rules[where][0],
            self.rng.choice([label, label, label + '\nregions = ["mars"]', RULES[where][1]]),
        )
        if self.rng.random() < 0.2:
            self.rules.insert(0, self.rules.pop())
        self.write_rules()

    def do_rows(self, _: Path) -> None:
        for _i in range(self.rng.randint(1, 4)):
            self.count += 1
            name = self.rng.choice([*self.rows, f"row {self.count}"])
            if name in self.rows and self.rng.random() < 0.3:
                del self.rows[name]
                continue
            readers = self.rng.choice([["everyone"], ["group:hr"], ["group:staff", "group:hr"], []])
            keep = name in self.rows and self.rng.random() < 0.5
            text = self.rows[name]["text"] if keep else prose(self.rng, name)
            self.rows[name] = {"id": name, "text": text, "readers": readers}
        self.write_rows()

    def do_embedding(self, _: Path) -> None:
        self.salt = self.rng.choice(["", "b", "c"])

    def do_parser(self, _: Path) -> None:
        self.version = self.rng.choice(["1", "2"])

    def write_rows(self) -> None:
        rows = [json.dumps(self.rows[name]) for name in self.rows] or [json.dumps({"id": "none", "text": ""})]
        (self.folder / "rows.jsonl").write_text("\n".join(rows))

    def write_rules(self) -> None:
        write_project(self.folder, {}, rules=tuple(self.rules), extra=SOURCES)

    def open(self, folder: Path | None = None) -> Any:
        """The project as it is configured now."""
        speak(self.version)
        return drystone.open(folder or self.folder, embedder=HashEmbedder(salt=self.salt))


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """No other test meets the parser's pretended version."""
    from drystone.ingest.parsers.markdown import MarkdownParser

    before = MarkdownParser.version
    yield
    speak(before)


def speak(version: str) -> None:
    """Another release's parser of Markdown: what the old one read must be read again."""
    from drystone.ingest.parsers.markdown import MarkdownParser

    MarkdownParser.version = version
    media.readers.cache_clear()


@dataclass
class People:
    """What people decided about labels, and what must follow from it."""

    decided: dict[str, tuple[int, Label, Label, str]] = field(
        default_factory=dict
    )  # when, label, the door's then, bytes
    bytes: dict[str, set[str]] = field(default_factory=dict)  # that a decided document ever had

    def decide(self, kb: Any, rng: random.Random) -> None:
        """Right after an ingestion, so that disk and store agree."""
        known = {k.document: k for s in ("docs", "team") for k in kb.house.ledger.catalog.known(s).values()}
        name = rng.choice(sorted(known))
        before = known[name].base
        changes = rng.choice([
            {"classification": "restricted"}, {"readers": [["group:hr"], ["group:staff"]]}, {"readers": ["user:ann"]},
            {"classification": "public", "readers": ["everyone"]}, {"purposes": ["support"]}, {"trust": "untrusted"},
        ])  # fmt: skip
        label = kb.relabel(name, changes, reason="the board wants it", actor="olga")
        self.decided[name] = (
            len(self.bytes) + kb.house.ledger.catalog.pointer().commit,
            label,
            before,
            known[name].digest,
        )
        self.look(kb)

    def look(self, kb: Any) -> None:
        for name in self.decided:
            path = kb.folder / name.replace("docs:", "documents/").replace("team:", "team/")
            if path.is_file():
                self.bytes.setdefault(name, set()).add(kb.house.ledger.digest("b", path.read_bytes()))
            self.bytes.setdefault(name, set()).add(self.decided[name][3])

    def check(self, kb: Any) -> None:
        for source in ("docs", "team", "rows"):
            for name, known in kb.house.ledger.catalog.known(source).items():
                when, wanted = -1, known.base
                if name in self.decided:
                    when, label, door, _ = self.decided[name]
                    wanted = label if door.at_least(known.base) else label.join(known.base)
                others = [n for n in self.decided if n != name and known.digest in self.bytes[n]]
                assert known.label.at_least(wanted), (name, known.label, wanted)
                assert others or known.label == wanted, (name, known.label, wanted)
                for other in others:
                    later, label, door, bytes = self.decided[other]
                    if later > when and bytes == known.digest and not door.at_least(label):
                        assert known.label.at_least(label), (name, other, known.label, label)


def held(kb: Any) -> dict[str, Any]:
    """What the store holds at its newest commit, without any of its own ids; labels as the door gave them."""
    catalog, rows = kb.house.ledger.catalog, {row["document"]: row for row in kb.house.lake.logical()}
    for source in kb.settings.sources:
        for name, known in catalog.known(source.name).items():
            rows[name] |= {"label": known.base.to_dict(), "origin": known.label_origin if not known.override else None,
                           "transform": known.transform}  # fmt: skip
        lies = catalog.failures(source.name)
        rows |= {f"failed {name}": found.failure for name, found in lies.items()}
    return rows


def difference(one: dict[str, Any], two: dict[str, Any]) -> list[Any]:
    found: list[Any] = [f"only in one: {sorted(one.keys() ^ two.keys())}"] if one.keys() != two.keys() else []
    for name in one.keys() & two.keys():
        if one[name] != two[name]:
            mine, theirs = one[name], two[name]
            if isinstance(mine, dict):
                parts = [
                    p for p in mine if mine[p] != theirs.get(p) and not (p == "origin" and None in (mine[p], theirs[p]))
                ]
                found += [(name, part, str(mine[part])[:300], str(theirs.get(part))[:300]) for part in parts]
            else:
                found.append((name, mine, theirs))
    return found


def same(kb: Any, fresh: Any, *, labels: bool = True) -> None:
    """The same rows; and, where nobody overrode a label, the same answers with the same scores."""
    found = difference(held(kb), held(fresh))
    assert not found, found
    for actor in ("olga", "ann", "bo") if labels else ():
        for query in ("amber birch", "changed lagoon", "heron meadow island"):
            a = [(h.document, h.start, round(h.score, 5)) for h in kb.search(query, actor=actor, limit=1000)]
            b = [(h.document, h.start, round(h.score, 5)) for h in fresh.search(query, actor=actor, limit=1000)]
            assert sorted(a) == sorted(b), (actor, query)


CHILD = """
import os, sys, threading
import lance, pyarrow, drystone, drystone.index.rows, drystone.ingest.pool, drystone.lake.commit, drystone.retrieve
from drystone.testing import HashEmbedder
from tests.whole.test_rebuild import speak
folder, salt, version, where, left = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5])
calls = 0
def count(frame, event, argument):
    global calls
    calls += 1
    if calls == left:
        os.kill(os.getpid(), 9)
def watch():
    threading.setprofile(count)
    sys.setprofile(count)
speak(version)
kb = drystone.open(folder, embedder=HashEmbedder(salt=salt))
print("open", flush=True)
if where == "anywhere":
    watch()
if where == "commit":
    inner = drystone.lake.commit.carry_out
    def carry_out(*arguments):
        watch()
        return inner(*arguments)
    drystone.lake.commit.carry_out = carry_out
kb.ingest(actor="olga", allow_mass_removal=True)
kb.close()
sys.setprofile(None)
threading.setprofile(None)
print(calls, flush=True)
"""


def killed(editor: Editor, rng: random.Random, most: dict[str, int]) -> bool:
    """An ingestion in another process that dies at a random call, in a random moment, or lives. Did it die?"""
    where = rng.choice(["anywhere", "commit", "commit", "moment"])
    at = rng.randrange(1, most.get(where, 20000))
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(editor.folder), editor.salt, editor.version, where, str(at)],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert child.stdout
    with child.stdout:
        assert child.stdout.readline() == "open\n"
        if where == "moment":
            time.sleep(rng.random() * 0.4)
            child.send_signal(signal.SIGKILL)
        said = child.stdout.read().strip()
    if child.wait() == 0 and said:
        most[where] = max(2, int(said))
    return child.returncode == -signal.SIGKILL


def live(folder: Path, seed: int, rounds: int, kills: float) -> int:
    """A project's life, and a fresh project beside it at the end. Returns how many ingestions were killed."""
    write_project(folder, {"public/first.md": "# First\n\nThe first file of all.\n"})
    editor, rng, people, died = Editor(folder, seed), random.Random(seed), People(), 0
    most: dict[str, int] = {}
    for _round in range(rounds):
        for _ in range(rng.randint(1, 6)):
            editor.step()
        with editor.open() as kb:
            people.look(kb)
        if rng.random() < kills:
            died += killed(editor, rng, most)
            continue
        with editor.open() as kb:
            kb.ingest(actor="olga", allow_mass_removal=True)
            if rng.random() < 0.4:
                people.decide(kb, rng)
    fresh_folder = folder.with_name(folder.name + "-fresh")
    with editor.open() as kb:
        kb.ingest(actor="olga", allow_mass_removal=True)
        again = kb.ingest(actor="olga")
        assert not any((again.added, again.changed, again.relabelled, again.removed, again.renamed, again.embedded)), (
            again
        )
        subprocess.run(["cp", "-a", folder, fresh_folder], check=True)
        shutil.rmtree(fresh_folder / ".drystone")
        with editor.open(fresh_folder) as fresh:
            fresh.ingest(actor="olga")
            same(kb, fresh, labels=not people.decided)
            people.check(kb)
            kb.house.lake.maintain()
            same(kb, fresh, labels=not people.decided)
        assert kb.house.ledger.verify().valid
    return died


@pytest.mark.whole
@pytest.mark.parametrize("seed", [1, 2])
def test_incremental_equals_rebuild_with_kills(seed: int, tmp_path: Path) -> None:
    try:
        assert live(tmp_path / "p", seed, rounds=8, kills=0.5)
    finally:
        speak("1")


@pytest.mark.whole
@pytest.mark.parametrize("seed", [3, 4, 5])
def test_incremental_equals_rebuild(seed: int, tmp_path: Path) -> None:
    try:
        live(tmp_path / "p", seed, rounds=10, kills=0)
    finally:
        speak("1")


@pytest.mark.whole
def test_touch_is_no_work_and_an_edit_embeds_one_chunk(make: Callable[..., Any]) -> None:
    files = {f"handbook/{n}.md": prose(random.Random(n), str(n)) for n in range(40)}
    kb = make(files)
    before = held(kb)
    for path in (kb.folder / "documents").rglob("*.md"):
        os.utime(path)
    report = kb.ingest(actor="olga")
    assert (report.added, report.changed, report.removed, report.embedded) == (0, 0, 0, 0)
    assert held(kb) == before
    path = kb.folder / "documents/handbook/7.md"
    text = path.read_text()
    first = text.index("\n## ")
    path.write_text(text[:first] + text[first:].replace(".", " indeed.", 1))
    report = kb.ingest(actor="olga")
    assert (report.changed, report.embedded) == (1, 1)


@pytest.mark.whole
def test_a_relabel_survives_ingestion_and_embeds_nothing(make: Callable[..., Any]) -> None:
    kb = make({"handbook/a.md": "# A\n\nThe gate code is seven.\n", "handbook/b.md": "# B\n\nNothing here.\n"})
    kb.relabel(
        "docs:handbook/a.md",
        {"readers": [["group:hr"], ["group:staff"]], "classification": "confidential"},
        actor="olga",
    )
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


class Listening(HashEmbedder):
    """Remembers what it was given."""

    def embed(self, texts: Any) -> Any:
        self.heard = [*getattr(self, "heard", []), *texts]
        return super().embed(texts)


def test_what_may_not_flow_to_the_embedder_does_not(make: Callable[..., Any]) -> None:
    """Labels of the door and of people decide, before a text is embedded; when that changes, so do the vectors."""
    ear = Listening()
    kb = make({"handbook/a.md": "# A\n\nThe gate code is seven.\n", "handbook/b.md": "# B\n\nThe door code is nine.\n"},
              embedder=ear, extra='[embedding]\ntype = "builtin"\nclearance = "internal"\n')  # fmt: skip
    assert len(ear.heard) == 2
    kb.relabel("docs:handbook/a.md", {"classification": "confidential"}, actor="olga")
    path = kb.folder / "documents/handbook/a.md"
    path.write_text("# A\n\nThe gate code is eight.\n")
    assert kb.ingest(actor="olga").embedded == 0
    (kb.folder / "documents/public").mkdir()
    (kb.folder / "documents/public/copy.md").write_text("# A\n\nThe gate code is eight.\n")
    assert kb.ingest(actor="olga").embedded == 0, "a copy is what it is a copy of"
    assert not any("eight" in text for text in ear.heard)
    assert any("eight" in hit.text for hit in kb.search("gate code eight", actor="ann")), "found by words"

    beside = kb.folder / "documents/handbook/b.md.label.toml"
    beside.write_text('classification = "confidential"')
    kb.ingest(actor="olga")
    rows = {row["document"]: row["vectors"] for row in kb.house.lake.logical()}
    assert rows["docs:handbook/b.md"] == [None]
    beside.unlink()
    kb.ingest(actor="olga")
    rows = {row["document"]: row["vectors"] for row in kb.house.lake.logical()}
    assert rows["docs:handbook/b.md"] != [None], "searched by meaning again"
    assert sum("nine" in text for text in ear.heard if "search" not in text) == 1, "its vector was kept meanwhile"
