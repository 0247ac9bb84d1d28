"""Ingestion from listing to commit: what costs work, what costs none, and what stops it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import drystone
from drystone.errors import Busy, MassRemoval, SourceUnavailable
from drystone.ingest import lock
from drystone.ingest.files import FilesSource
from drystone.records import Report
from drystone.testing import HashEmbedder
from tests.conftest import PEOPLE, write_project
from tests.ingest.build import ENCRYPTED, docx

NOTHING = {"added": 0, "changed": 0, "relabelled": 0, "removed": 0, "renamed": 0, "embedded": 0, "commit": None}


class Bench:
    """A project with one source, its folder, and how many texts were embedded."""

    def __init__(self, folder: Path, files: dict[str, str | bytes], **options: Any) -> None:
        self.folder = write_project(folder, files, **options)
        self.documents = folder / "documents"
        self.embedder = HashEmbedder(16)
        self.kb = drystone.open(folder, embedder=self.embedder)

    def ingest(self, **options: Any) -> Report:
        return self.kb.ingest(actor="olga", **options)

    def write(self, name: str, text: str | bytes) -> None:
        path = self.documents / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def label(self, name: str) -> dict[str, Any]:
        state = self.kb.house.ledger.catalog.document(f"docs:{name}")
        assert state is not None
        return {**state.label.to_dict(), "origin": state.origin}

    def names(self) -> set[str]:
        return {name.removeprefix("docs:") for name in self.kb.house.ledger.catalog.known("docs")}

    def again(self, text: str) -> None:
        """Change the configuration, as an administrator would, and open the project again."""
        self.kb.close()
        (self.folder / "drystone.toml").write_text(text)
        self.kb = drystone.open(self.folder, embedder=self.embedder)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def build(files: dict[str, str | bytes], **options: Any) -> Bench:
        made.append(Bench(tmp_path / "p", files, **options))
        return made[-1]

    yield build
    for each in made:
        each.kb.close()


def numbers(report: Report) -> dict[str, Any]:
    return {name: getattr(report, name) for name in NOTHING}


FILES: dict[str, str | bytes] = {
    "hr/pay.md": "# Pay\n\nPay rises in May.",
    "public/a.txt": "Shops open at nine.",
    "public/b.html": "<p>Returns within 45 days.</p>",
}


def test_nothing_a_touch_an_edit_and_a_rename(bench: Callable[..., Bench]) -> None:
    b = bench(FILES)
    assert numbers(b.ingest()) == {**NOTHING, "added": 3, "embedded": 3, "commit": 1}
    assert numbers(b.ingest()) == NOTHING
    (b.documents / "hr/pay.md").touch()
    (b.documents / "hr/pay.md").chmod(0o600)
    assert numbers(b.ingest()) == NOTHING
    assert numbers(b.ingest()) == NOTHING
    b.write("public/a.txt", "Shops open at ten.")
    assert numbers(b.ingest()) == {**NOTHING, "changed": 1, "embedded": 1, "commit": 2}
    (b.documents / "public/a.txt").rename(b.documents / "public/c.txt")
    assert numbers(b.ingest()) == {**NOTHING, "added": 1, "removed": 1, "renamed": 1, "commit": 3}
    version = b.kb.house.ledger.catalog.document("docs:public/c.txt").version
    assert version.renamed_from == "docs:public/a.txt"
    (b.documents / "public/c.txt").unlink()
    assert numbers(b.ingest()) == {**NOTHING, "removed": 1, "commit": 4}
    assert b.names() == {"hr/pay.md", "public/b.html"}


def test_a_changed_rule_relabels_and_embeds_nothing(bench: Callable[..., Bench]) -> None:
    b = bench(FILES)
    b.ingest()
    text = (b.folder / "drystone.toml").read_text()
    b.again(text.replace('readers = ["group:hr"]', 'readers = ["group:owners"]'))
    assert numbers(b.ingest()) == {**NOTHING, "relabelled": 1, "commit": 2}
    assert b.label("hr/pay.md")["readers"] == [["group:owners"]]
    assert numbers(b.ingest()) == NOTHING


def test_a_new_rule_before_the_others_changes_only_what_is_said_about_them(bench: Callable[..., Bench]) -> None:
    b = bench(FILES)
    b.ingest()
    first = '[[sources.labels]]\nmatch = "none/**"\nreaders = ["everyone"]\n[[sources.labels]]\n'
    b.again((b.folder / "drystone.toml").read_text().replace("[[sources.labels]]\n", first, 1))
    assert b.ingest().relabelled == 0
    assert b.label("hr/pay.md")["origin"] == 'rule 3 "hr/**" of source docs'
    assert numbers(b.ingest()) == NOTHING


def test_a_rule_that_is_gone_takes_its_documents_along(bench: Callable[..., Bench]) -> None:
    b = bench({f"hr/{n}.md": f"text {n}" for n in range(15)} | {"public/a.md": "x"})
    b.ingest()
    b.again((b.folder / "drystone.toml").read_text().replace("'hr/**'", "'nowhere/**'"))
    report = b.ingest()
    assert report.refused == report.removed == 15 and b.names() == {"public/a.md"}, "a missing label is no outage"


def test_a_persons_override_survives(bench: Callable[..., Bench]) -> None:
    b = bench(FILES)
    b.ingest()
    b.kb.relabel("docs:public/a.txt", {"classification": "confidential"}, actor="olga")
    assert numbers(b.ingest()) == NOTHING
    b.write("public/a.txt", "Changed.")
    b.ingest()
    assert b.label("public/a.txt")["classification"] == "confidential"
    (b.documents / "public/a.txt").rename(b.documents / "public/z.txt")
    b.ingest()
    assert b.label("public/z.txt")["classification"] == "confidential", "tightening follows the bytes"
    assert numbers(b.ingest()) == NOTHING


def test_retention_does_not_relabel_at_every_look(bench: Callable[..., Bench]) -> None:
    rule = 'readers = ["everyone"]\nclassification = "public"\nretention = "3y"'
    b = bench({"a.md": "text"}, rules=(("**", rule),))
    b.ingest()
    expires = b.label("a.md")["expires"]
    assert numbers(b.ingest()) == NOTHING
    (b.documents / "a.md").rename(b.documents / "b.md")
    b.ingest()
    assert abs(int(b.label("b.md")["expires"][:4]) - int(expires[:4])) == 0
    assert numbers(b.ingest()) == NOTHING


def test_too_many_vanished_stops_before_anything_changes(bench: Callable[..., Bench]) -> None:
    b = bench({f"public/{n}.md": f"text {n}" for n in range(60)})
    b.ingest()
    for n in range(11):
        (b.documents / f"public/{n}.md").unlink()
    with pytest.raises(MassRemoval, match="11 of 60.*--allow-mass-removal"):
        b.ingest()
    assert len(b.names()) == 60
    assert b.ingest(allow_mass_removal=True).removed == 11
    (b.documents / "public").rename(b.documents / "handbook")
    assert b.ingest().renamed == 49, "a renamed folder is no outage"


def test_an_empty_listing_is_an_outage(bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    b = bench({"public/a.md": "text"})
    b.ingest()
    (b.documents / "public/a.md").unlink()
    with pytest.raises(SourceUnavailable, match="nothing was removed"):
        b.ingest()
    (b.documents / "public").rmdir()
    b.documents.rmdir()
    with pytest.raises(SourceUnavailable, match="could not be listed"):
        b.ingest(allow_mass_removal=True)
    assert b.names() == {"public/a.md"}
    b.documents.mkdir()
    assert b.ingest(allow_mass_removal=True).removed == 1


def test_an_empty_folder_is_fine_while_nothing_is_known(bench: Callable[..., Bench]) -> None:
    b = bench({})
    assert b.ingest().seen == 0


def test_what_fails_is_quarantined_and_not_read_again(bench: Callable[..., Bench], monkeypatch: Any) -> None:
    bad = {"public/e.md": b"", "public/w.txt": b" \n", "public/j.bin": bytes(range(256)), "public/p.pdf": ENCRYPTED,
           "public/t.pdf": b"%PDF-1.4\n1 0 obj", "public/z.docx": docx("<w:p/>" * 3_000_000),
           "public/d.docx": b"PK\x03\x04 no"}  # fmt: skip
    b = bench({**FILES, **bad})
    report = b.ingest()
    assert {f.document.removeprefix("docs:public/"): f.kind for f in report.failures} == {
        "e.md": "empty", "w.txt": "empty", "j.bin": "unsupported", "p.pdf": "encrypted", "t.pdf": "malformed",
        "z.docx": "expansion", "d.docx": "malformed"}  # fmt: skip
    reads: list[str] = []
    read = FilesSource.read
    monkeypatch.setattr(FilesSource, "read", lambda self, item: reads.append(item.id) or read(self, item))
    report = b.ingest()
    assert report.skipped == 7 and report.failed == 0 and not reads and report.commit is None
    b.write("public/e.md", "now there is text")
    report = b.ingest()
    assert (report.added, report.skipped, reads) == (1, 6, ["public/e.md"] * len(reads))
    (b.documents / "public/z.docx").unlink()
    b.ingest()
    assert "docs:public/z.docx" not in b.kb.house.ledger.catalog.failures("docs")


def test_a_change_that_cannot_be_parsed_leaves_nothing_stale(bench: Callable[..., Bench]) -> None:
    b = bench(FILES)
    b.ingest()
    b.write("public/a.txt", bytes(range(256)))
    report = b.ingest()
    assert report.failed == 1 and report.removed == 1 and b.names() == {"hr/pay.md", "public/b.html"}
    b.write("public/a.txt", "Back again.")
    assert b.ingest().added == 1


def test_a_file_that_cannot_be_read_stays_as_it_was(bench: Callable[..., Bench], monkeypatch: Any) -> None:
    b = bench(FILES)
    b.ingest()
    b.write("public/a.txt", "Changed.")
    read = FilesSource.read

    def broken(self: FilesSource, item: Any) -> bytes:
        if item.id == "public/a.txt":
            raise OSError(5, "Input/output error")
        return read(self, item)

    monkeypatch.setattr(FilesSource, "read", broken)
    report = b.ingest()
    assert [f.kind for f in report.failures] == ["unreadable"] and report.removed == 0 and len(b.names()) == 3
    monkeypatch.undo()
    assert b.ingest().changed == 1


def test_a_new_parser_version_parses_again(bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    from drystone.ingest import media

    b = bench({**FILES, "public/e.md": b""})
    b.ingest()
    newer = {n: replace(r, version="next") if n == "text" else r for n, r in media.readers().items()}
    monkeypatch.setattr(media, "readers", lambda: newer)
    report = b.ingest()
    assert (report.changed, report.failed, report.skipped) == (1, 1, 0), "the text file, and what lay in quarantine"
    assert numbers(b.ingest()) == NOTHING


def test_a_parser_can_be_named(bench: Callable[..., Bench]) -> None:
    b = bench({"public/a.md": "# Not *markdown*"})
    b.ingest()
    b.again((b.folder / "drystone.toml").read_text().replace(
        'path = "documents"', 'path = "documents"\nparsers = { "public/**" = "text" }'))  # fmt: skip
    (b.documents / "public/a.md").touch()
    assert b.ingest().changed == 1


def test_rights_at_the_source_take_effect_without_embedding(bench: Callable[..., Bench]) -> None:
    b = bench(FILES)
    b.again(
        textwrap.dedent("""
        [[sources]]
        name = "docs"
        type = "files"
        path = "documents"
        permissions = "source"
        classification = "public"
    """)
    )
    for path in (b.documents, *b.documents.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    b.ingest()
    assert b.label("public/a.txt")["readers"] == [["everyone"]]
    before = b.embedder.embedded
    (b.documents / "public/a.txt").chmod(0o600)
    (b.documents / "hr").chmod(0o700)
    report = b.ingest()
    assert (report.relabelled, report.embedded, b.embedder.embedded) == (2, 0, before)
    assert "everyone" not in json.dumps(b.label("public/a.txt")) + json.dumps(b.label("hr/pay.md"))
    (b.documents / "public/b.html").chmod(0o000)
    report = b.ingest()
    assert report.refused == 1 and "public/b.html" not in b.names()


def test_rows_come_in_by_their_columns(tmp_path: Path) -> None:
    (tmp_path / "users.toml").write_text(PEOPLE)
    (tmp_path / "drystone.toml").write_text(
        textwrap.dedent("""
        [[sources]]
        name = "tickets"
        type = "rows"
        path = "t.jsonl"
        classification = "internal"
        fields = { id = "n", text = "body", readers = "who" }
    """)
    )
    rows = [{"n": n, "body": f"ticket {n}", "title": f"T{n}", "who": ["group:staff"]} for n in range(5)]

    def save() -> None:
        (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    save()
    embedder = HashEmbedder(16)
    with drystone.open(tmp_path, embedder=embedder) as kb:
        assert kb.ingest(actor="olga").added == 5
        rows[1]["body"], rows[2]["who"], rows[3]["title"] = "edited", ["group:hr"], "Other"
        rows[4]["who"] = []
        save()
        report = kb.ingest(actor="olga")
        assert (report.changed, report.relabelled, report.refused, report.removed) == (2, 1, 1, 1)
        assert kb.ingest(actor="olga").commit is None
        assert [h.document for h in kb.search("edited", actor="bo", limit=1)] == ["tickets:1"]


# -- one at a time --------------------------------------------------------------------------------------
def test_a_second_process_waits_then_says_busy(tmp_path: Path) -> None:
    code = textwrap.dedent("""
        import sys, time; from pathlib import Path; from drystone.ingest import lock
        free = lock.hold(Path(sys.argv[1]), "docs", 0); print("held", flush=True); sys.stdin.readline()
    """)
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdin is not None and other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(Busy, match="docs"):
        lock.hold(tmp_path, "docs", 0.05)
    lock.hold(tmp_path, "another", 0)()
    threading.Timer(0.2, other.kill).start()
    free = lock.hold(tmp_path, "docs", 20)  # the dead give up what they held
    free()
    other.communicate()


def test_an_ingestion_that_failed_does_not_block_the_next(bench: Callable[..., Bench], monkeypatch: Any) -> None:
    b = bench(FILES)
    parse = type(b.kb.house.ingest).parse

    def fails(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(b.kb.house.ingest), "parse", fails)
    with pytest.raises(KeyboardInterrupt):
        b.ingest()
    monkeypatch.setattr(type(b.kb.house.ingest), "parse", parse)
    assert b.ingest().added == 3


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    write_project(tmp_path, {f"public/{n}.md": "text" + "x" * n for n in range(5)})
    with drystone.open(tmp_path, embedder=HashEmbedder(16), progress=lambda *step: told.append(step)) as kb:
        kb.ingest(actor="olga")
    assert ("parse", 5, 5) in told and ("embed", 5, 5) in told and ("ingest", 5, 5) in told


def test_progress_counts_what_lies_inside(tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for n in range(3):
            archive.writestr(f"{n}.md", f"Text {n}.")
    write_project(tmp_path, {"public/a.zip": out.getvalue(), "public/b.md": "text"})
    with drystone.open(tmp_path, embedder=HashEmbedder(16), progress=lambda *step: told.append(step)) as kb:
        kb.ingest(actor="olga")
    assert [step[1:] for step in told if step[0] == "parse" and step[1]] == [(2, 2), (5, 5)]


def test_progress_is_told_again_while_one_document_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from drystone.ingest.unfold import Unfolding

    told: list[tuple[str, int, int | None]] = []
    carry_out = Unfolding.carry_out

    def slowly(self: Unfolding, batch: Any) -> Any:
        while told.count(("parse", 0, 1)) < 3:
            time.sleep(0.01)
        return carry_out(self, batch)

    monkeypatch.setattr(Unfolding, "carry_out", slowly)
    monkeypatch.setattr("drystone.ingest.AGAIN_S", 0.01)
    write_project(tmp_path, {"public/a.md": "text"})
    with drystone.open(tmp_path, embedder=HashEmbedder(16), progress=lambda *step: told.append(step)) as kb:
        assert kb.ingest(actor="olga").added == 1


def test_names_with_everything_in_them(bench: Callable[..., Bench]) -> None:
    b = bench({'public/it\'s "a" b.md': "one", "public/नमस्ते 世界.md": "two"})
    Path(os.fsdecode(os.fsencode(b.documents) + b"/public/\xff\n.md")).write_text("three")
    assert b.ingest().added == 3
    assert b.names() == {'public/it\'s "a" b.md', "public/नमस्ते 世界.md", "public/%FF%0A.md"}
    assert numbers(b.ingest()) == NOTHING
