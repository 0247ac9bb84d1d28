"""Attacks by way of what lies inside documents, of quarantine, and of the processes that parse.

What is planted is a canary; what is attacked is the public surface, and nothing is mocked but a parser that its document
took over and a disk that fails.
"""

from __future__ import annotations

import contextlib
import imaplib
import json
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import drystone
from drystone.cli import main
from drystone.errors import DrystoneError, NotFound, Refused
from drystone.ingest.files import FilesSource
from drystone.ingest.mailbox import ImapSource
from drystone.ingest.pool import Job, Pool
from drystone.ingest.web import _public
from drystone.ingest.wire import pack, unpack
from drystone.records import Block, Label, Parsed, Part, Reading
from drystone.testing import HashEmbedder
from tests.ingest.build import ENCRYPTED
from tests.ingest.build import settings as worker_settings
from tests.ingest.build_mail import attached, locked_zip, mail
from tests.ingest.test_ingest import Bench
from tests.ingest.test_parts import numbers, packed, rebuilt
from tests.ingest.test_workers import hostile, kind, reachable

__all__ = ["reachable"]  # a fixture: the workers of this file can load the hostile parsers
PAY = "The salary band zqpaycanary of engineers is ninety thousand euros a year."
TEA = "The tea kitchen zqteacanary closes at seven in the evening."
TIGHT = {"readers": ["user:olga"]}
QUESTIONS = ("salary band of engineers", "tea kitchen closes evening")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def build(files: dict[str, str | bytes], name: str = "p", **options: Any) -> Bench:
        made.append(Bench(tmp_path / name, files, **options))
        made[-1].ingest()
        return made[-1]

    yield build
    for each in made:
        each.kb.close()


def seen(b: Bench, actor: str, **options: Any) -> str:
    """All that an actor gets by searching and asking."""
    hits = [h.to_dict() for q in QUESTIONS for h in b.kb.search(q, actor=actor, limit=50, **options)]
    if not options:
        hits += [b.kb.ask(f"What is the {q}?", actor=actor).to_dict() for q in QUESTIONS]
    return json.dumps(hits, default=repr)


def past(b: Bench, actor: str, commit: int) -> str:
    held = b.kb.snapshot(f"shop@{commit}", actor=actor)
    return seen(b, actor, as_of=commit) + repr([held.arrow(t).to_pylist() for t in ("chunks", "documents")])


def commit(b: Bench) -> int:
    return int(b.kb.house.ledger.catalog.pointer().commit)


def rule(b: Bench, old: str, new: str) -> None:
    text = (b.folder / "drystone.toml").read_text()
    assert old in text
    b.again(text.replace(old, new))


def fails_to_read(monkeypatch: pytest.MonkeyPatch, b: Bench, name: str) -> None:
    real = FilesSource.read

    def read(self: FilesSource, item: Any) -> bytes:
        if item.id == name:
            raise OSError(5, "Input/output error")
        return real(self, item)

    monkeypatch.setattr(FilesSource, "read", read)


# -- a part's label is never weaker than that of what it lies in -----------------------------------------
def test_three_deep_and_tightened_before_and_after(bench: Callable[..., Bench]) -> None:
    deep = packed({"in.zip": packed({"mail.eml": mail("A note.", attached("pay.txt", PAY.encode()))})})
    b = bench({"handbook/a.zip": deep})
    inner = "handbook/a.zip!/in.zip!/mail.eml!/pay.txt"
    assert inner in b.names() and "zqpaycanary" in seen(b, "bo")
    before = commit(b)
    b.kb.relabel("docs:handbook/a.zip", TIGHT, actor="olga", reason="closed")
    assert "zqpaycanary" not in seen(b, "bo") + past(b, "bo", before)
    b.write("handbook/a.zip", packed({"in.zip": packed({"more.zip": packed({"tea.txt": TEA, "pay.txt": PAY})})}))
    b.ingest()
    assert "handbook/a.zip!/in.zip!/more.zip!/tea.txt" in b.names()
    assert "canary" not in seen(b, "bo") + past(b, "bo", before) and "zqteacanary" in seen(b, "olga")


@pytest.mark.parametrize("first", ["tightened", "opened"])
def test_a_copy_of_an_archive_that_opens_further_than_the_one_that_was_tightened(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """The same bytes twice, and the password only of one: what only that one shows is tightened with both."""
    data = locked_zip({"pay.txt": PAY.encode()}, "zq-open", 2, plain={"tea.txt": b"Nothing much."})
    b = bench({"handbook/a.zip": data, "handbook/b.zip": data})
    monkeypatch.setenv("SHOP_ZIP", "zq-open")
    steps = [
        lambda: b.kb.relabel("docs:handbook/a.zip", TIGHT, actor="olga", reason="closed"),
        lambda: b.kb.retry("docs:handbook/b.zip", password="env:SHOP_ZIP", actor="olga"),
    ]
    for step in steps if first == "tightened" else reversed(steps):
        step()
    assert "handbook/b.zip!/pay.txt" in b.names() and "handbook/a.zip!/pay.txt" not in b.names()
    assert b.label("handbook/b.zip")["readers"] == b.label("handbook/b.zip!/pay.txt")["readers"] == [
        ["group:staff"],
        ["user:olga"],
    ] or ("zqpaycanary" not in seen(b, "bo"))
    assert "zqpaycanary" not in seen(b, "bo") and "zqpaycanary" in seen(b, "olga")


def test_a_member_that_is_gone_is_closed_with_its_archive(bench: Callable[..., Bench]) -> None:
    b = bench({"handbook/a.zip": packed({"in.zip": packed({"pay.txt": PAY})}), "handbook/b.md": "# B\n\nShort."})
    before = commit(b)
    b.write("handbook/a.zip", packed({"tea.txt": "Nothing much."}))
    b.ingest()
    assert "zqpaycanary" in past(b, "bo", before), "what was only deleted reads the same in the past"
    b.kb.relabel("docs:handbook/a.zip", TIGHT, actor="olga", reason="closed")
    assert "zqpaycanary" not in past(b, "bo", before) and "zqpaycanary" in past(b, "olga", before)


def test_a_member_that_is_gone_is_closed_by_a_rule_and_by_a_refusal(bench: Callable[..., Bench]) -> None:
    b = bench({"handbook/a.zip": packed({"pay.txt": PAY, "x.txt": "x"}), "public/b.md": "# B\n\nShort."})
    before = commit(b)
    b.write("handbook/a.zip", packed({"x.txt": "x"}))
    b.ingest()
    rule(b, "'handbook/**'\n    readers = [\"group:staff\"]", "'handbook/**'\n    readers = [\"group:hr\"]")
    b.ingest()
    assert "zqpaycanary" not in past(b, "bo", before) and "zqpaycanary" in past(b, "ann", before)
    rule(b, "'handbook/**'", "'nowhere/**'")
    assert b.ingest().refused == 1
    assert "zqpaycanary" not in past(b, "ann", before)


def test_a_loosened_member_and_an_archive_that_is_tightened_later(bench: Callable[..., Bench]) -> None:
    b = bench({"hr/a.zip": packed({"tea.txt": TEA, "pay.txt": PAY})})
    open_ = {"readers": ["everyone"], "classification": "public"}
    b.kb.relabel("docs:hr/a.zip!/tea.txt", open_, actor="olga", reason="harmless")
    assert "zqteacanary" in seen(b, "eve") and "zqpaycanary" not in seen(b, "bo")
    b.write("hr/a.zip", packed({"tea.txt": TEA + " Always.", "pay.txt": PAY}))
    b.ingest()
    assert "zqteacanary" in seen(b, "eve"), "what a person decided survives"
    b.kb.relabel("docs:hr/a.zip", TIGHT, actor="olga", reason="closed")
    assert "canary" not in seen(b, "eve") + seen(b, "ann")
    b.write("hr/a.zip", packed({"tea.txt": TEA + " Never.", "pay.txt": PAY}))
    b.ingest()
    assert "canary" not in seen(b, "eve") + seen(b, "ann")
    b.kb.relabel("docs:hr/a.zip", {"readers": ["group:hr"]}, actor="olga", reason="as before")
    assert "zqteacanary" in seen(b, "ann")


def test_copies_elsewhere_keep_the_stricter_of_both(bench: Callable[..., Bench]) -> None:
    b = bench({"hr/a.zip": packed({"pay.txt": PAY}), "handbook/a.zip": packed({"pay.txt": PAY})})
    assert "docs:hr/a.zip!/pay.txt" not in seen(b, "bo") and "docs:handbook/a.zip!/pay.txt" in seen(b, "bo")
    b.kb.relabel("docs:handbook/a.zip!/pay.txt", TIGHT, actor="olga", reason="closed")
    assert "zqpaycanary" not in seen(b, "bo") + seen(b, "ann"), "the other copy is tightened too"
    (b.documents / "handbook/a.zip").rename(b.documents / "handbook/z.zip")
    b.ingest()
    assert "zqpaycanary" not in seen(b, "bo") + seen(b, "ann")


def test_a_rule_that_tightens_holds_though_the_document_cannot_be_read(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    files: dict[str, str | bytes] = {
        "handbook/a.zip": packed({"pay.txt": PAY}),
        "handbook/b.json": json.dumps({"pay": PAY}),
    }
    b = bench(files)
    before = commit(b)
    rule(b, "'handbook/**'\n    readers = [\"group:staff\"]", "'handbook/**'\n    readers = [\"group:hr\"]")
    b.write("handbook/b.json", "{ broken")
    b.write("handbook/a.zip", packed({"pay.txt": PAY, "tea.txt": TEA}))
    fails_to_read(monkeypatch, b, "handbook/a.zip")
    assert b.ingest().failed == 2
    assert "zqpaycanary" not in seen(b, "bo") + past(b, "bo", before) and "zqpaycanary" in past(b, "ann", before)


def test_a_rule_that_tightens_holds_for_the_past_of_what_lies_in_quarantine(bench: Callable[..., Bench]) -> None:
    b = bench({"handbook/a.zip": packed({"pay.txt": PAY}), "public/b.md": "# B\n\nShort."})
    before = commit(b)
    b.write("handbook/a.zip", b"PK\x03\x04 no more")
    assert b.ingest().failed == 1 and "zqpaycanary" in past(b, "bo", before)
    rule(b, "'handbook/**'\n    readers = [\"group:staff\"]", "'handbook/**'\n    readers = [\"group:hr\"]")
    assert numbers(b.ingest()) == {"relabelled": 1} and numbers(b.ingest()) == {}
    assert "zqpaycanary" not in past(b, "bo", before)


def test_what_waits_for_a_password_takes_its_new_label_though_the_disk_fails(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = locked_zip({"tea.txt": TEA.encode()}, "zq-open", 2, plain={"pay.txt": PAY.encode()})
    b = bench({"handbook/a.zip": data})
    rule(b, "'handbook/**'\n    readers = [\"group:staff\"]", "'handbook/**'\n    readers = [\"group:hr\"]")
    rule(b, 'path = "documents"', 'path = "documents"\npasswords = ["env:SHOP_ZIP"]')
    monkeypatch.setenv("SHOP_ZIP", "zq-open")
    fails_to_read(monkeypatch, b, "handbook/a.zip")
    assert b.ingest().failed == 1
    assert "zqpaycanary" not in seen(b, "bo") and "zqpaycanary" in seen(b, "ann")


def test_a_document_that_grows_too_large_takes_its_new_label_into_the_past(bench: Callable[..., Bench]) -> None:
    b = bench({"handbook/a.txt": PAY, "handbook/b.txt": "Short."}, extra="[ingest]\nmax_file_mb = 1\n")
    before = commit(b)
    rule(b, "'handbook/**'\n    readers = [\"group:staff\"]", "'handbook/**'\n    readers = [\"group:hr\"]")
    b.write("handbook/a.txt", PAY + " " * (2 << 20))
    b.ingest()
    assert "zqpaycanary" not in past(b, "bo", before) and "zqpaycanary" in past(b, "ann", before)


# -- the embedder is a sink ------------------------------------------------------------------------------
class Far(HashEmbedder):
    """An embedder that is elsewhere and writes down what it is given."""

    def __init__(self) -> None:
        super().__init__(16)
        self.heard = ""

    def embed(self, texts: Sequence[str]) -> Any:
        self.heard += "\n".join(texts)
        return super().embed(texts)


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Callable[..., tuple[Bench, Far]]]:
    made: list[Bench] = []

    def build(files: dict[str, str | bytes]) -> tuple[Bench, Far]:
        b = Bench(tmp_path / "far", files, extra='[embedding]\nclearance = "public"\nregions = ["us"]\n')
        b.kb.close()
        b.embedder = Far()
        b.kb = drystone.open(b.folder, embedder=b.embedder)
        made.append(b)
        b.ingest()
        return b, b.embedder

    yield build
    for each in made:
        each.kb.close()


INTERNAL = {"classification": "internal"}


def test_members_of_a_tightened_archive_are_not_embedded_elsewhere(far: Callable[..., tuple[Bench, Far]]) -> None:
    b, embedder = far({"public/a.zip": packed({"x.txt": "Shops open at nine."}), "public/b.md": "Short."})
    assert "Shops open" in embedder.heard
    b.kb.relabel("docs:public/a.zip", INTERNAL, actor="olga")
    b.write("public/a.zip", packed({"x.txt": "Shops open at nine.", "in.zip": packed({"pay.txt": PAY})}))
    b.ingest()
    assert "public/a.zip!/in.zip!/pay.txt" in b.names() and "zqpaycanary" not in embedder.heard
    (b.documents / "public/a.zip").unlink()
    b.ingest(allow_mass_removal=True)
    b.write("public/a.zip", packed({"tea.txt": TEA}))
    b.ingest()
    assert b.label("public/a.zip!/tea.txt")["classification"] == "internal"
    assert "zqteacanary" not in embedder.heard, "it was away, and what a person said of it still holds"


def test_a_member_of_a_copy_of_a_tightened_archive_is_not_embedded_elsewhere(
    far: Callable[..., tuple[Bench, Far]], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = locked_zip({"pay.txt": PAY.encode()}, "zq-open", 2, plain={"x.txt": b"Nothing much."})
    b, embedder = far({"public/a.zip": data})
    b.kb.relabel("docs:public/a.zip", INTERNAL, actor="olga")
    monkeypatch.setenv("SHOP_ZIP", "zq-open")
    b.write("public/b.zip", data)
    b.ingest()
    b.kb.retry("docs:public/b.zip", password="env:SHOP_ZIP", actor="olga")
    assert b.label("public/b.zip!/pay.txt")["classification"] == "internal" and "zqpaycanary" not in embedder.heard


# -- live permissions ------------------------------------------------------------------------------------
@pytest.fixture
def permitted(tmp_path: Path) -> Iterator[Bench]:
    deep = packed({"in.zip": packed({"pay.txt": PAY}), "tea.txt": TEA})
    b = Bench(tmp_path / "live", {"a.zip": deep}, rules=(("**", 'classification = "public"'),))
    b.again(
        (b.folder / "drystone.toml")
        .read_text()
        .replace('path = "documents"', 'path = "documents"\npermissions = "source"')
    )
    b.documents.chmod(0o755)
    (b.documents / "a.zip").chmod(0o644)
    b.ingest()
    yield b
    b.kb.close()


def test_chmod_of_an_archive_between_search_and_release(permitted: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    b = permitted
    assert "zqpaycanary" in seen(b, "eve")
    real = type(b.kb.house.answer).check

    def check(self: Any, *given: Any) -> Any:
        (b.documents / "a.zip").chmod(0o600)
        return real(self, *given)

    monkeypatch.setattr(type(b.kb.house.answer), "check", check)
    assert "zqpaycanary" not in json.dumps(b.kb.ask("What is the salary band of engineers?", actor="eve").to_dict())
    monkeypatch.undo()
    assert "canary" not in seen(b, "eve") + past(b, "eve", 1)
    with pytest.raises(NotFound):
        b.kb.why("eve", "docs:a.zip!/in.zip!/pay.txt", actor="eve")


def test_what_lay_in_an_archive_asks_the_archive_that_is_there(permitted: Bench) -> None:
    b = permitted
    (b.documents / "a.zip").write_bytes(packed({"tea.txt": TEA}))
    b.ingest()
    assert "zqpaycanary" in past(b, "eve", 1)
    (b.documents / "a.zip").chmod(0o600)
    assert "canary" not in past(b, "eve", 1), "removed from it, and still asked of it"


def test_a_folder_that_imitates_an_archive_lends_no_permission(permitted: Bench) -> None:
    """``a.zip!/tea.txt`` is a part; a real file where its name seems to lead is another document."""
    b = permitted
    b.write("a.zip!/tea.txt", "Anybody may read this.")
    b.write("a.zip!/tea.txt.label.toml", 'readers = ["everyone"]\nclassification = "public"')
    for path in ("a.zip!", "a.zip!/tea.txt"):
        (b.documents / path).chmod(0o755)
    b.ingest()
    assert {"a.zip!/tea.txt", "a.zip%21/tea.txt"} <= b.names()
    (b.documents / "a.zip").chmod(0o600)
    assert "canary" not in seen(b, "eve") + past(b, "eve", 1) and "Anybody" in seen(b, "eve")
    (b.documents / "a.zip!/tea.txt").chmod(0o600)
    b.again((b.folder / "drystone.toml").read_text())  # a process that never listed the folder
    assert "Anybody" not in seen(b, "eve")
    (b.documents / "a.zip!/tea.txt").chmod(0o644)
    assert "Anybody" in seen(b, "eve")
    b.write("a.zip%21/tea.txt", "Two files could be meant now.")
    assert "Anybody" not in seen(b, "eve")


# -- names -----------------------------------------------------------------------------------------------
def test_names_inside_never_name_anything_else(bench: Callable[..., Bench], tmp_path: Path) -> None:
    nfc, nfd = unicodedata.normalize("NFC", "caf\u00e9.txt"), unicodedata.normalize("NFD", "caf\u00e9.txt")
    members = {
        "b.zip": packed({"x.txt": TEA}), "b.zip!/x.txt": PAY, "b.zip%21/x.txt": "Third.", "../up.txt": "Up.",
        "/etc/passwd": "Root.", "docs:public/b.md": "Not that one.", "a/../../b": "Out.", nfc: "One.", nfd: "Two.",
    }  # fmt: skip
    b = bench({"hr/a.zip": packed(members), "public/b.md": "# B\n\nThe real one."})
    inside = {name.removeprefix("hr/a.zip!/") for name in b.names() if name.startswith("hr/a.zip!/")}
    assert {"b.zip", "b.zip!/x.txt", "b.zip%21/x.txt", nfc, nfd, "docs:public/b.md"} <= inside
    assert not any(".." in name.split("/") or name.startswith("/") for name in inside)
    readers = {tuple(map(tuple, b.label(name)["readers"])) for name in b.names() if name.startswith("hr/")}
    assert readers == {(("group:hr",),)} and b.label("public/b.md")["readers"] == [["everyone"]]
    assert numbers(b.ingest()) == {}
    b.write("hr/a.zip", packed({**members, "more.txt": "More."}))
    report = b.ingest()
    assert numbers(report) == {"added": 1, "changed": 1, "embedded": 2}, "none took another's place"
    logical = json.dumps(list(b.kb.house.lake.logical()), default=repr, sort_keys=True)
    assert logical == rebuilt(b, tmp_path / "again")


def test_label_files_and_configurations_inside_an_archive_are_only_text(bench: Callable[..., Bench]) -> None:
    loose = 'readers = ["everyone"]\nclassification = "public"\n'
    members: dict[str, str | bytes] = {
        "pay.txt": PAY, "pay.txt.label.toml": loose, ".label.toml": loose, "users.toml": '[[users]]\nname = "eve"\ngroups = ["owners"]\n',
        "drystone.toml": '[[sources]]\nname = "all"\ntype = "files"\npath = "/"\n', "policies/all.cedar": "permit(principal, action, resource);",
    }  # fmt: skip
    b = bench({"hr/a.zip": packed(members), "hr/a.zip.label.toml": 'readers = ["user:ann"]'})
    assert {"hr/a.zip!/pay.txt.label.toml", "hr/a.zip!/drystone.toml"} <= b.names()
    assert all("user:ann" in str(b.label(name)["readers"]) for name in b.names()), "its own label file holds inside"
    assert "zqpaycanary" not in seen(b, "eve") + seen(b, "bo") and "zqpaycanary" in seen(b, "ann")


# -- quarantine ------------------------------------------------------------------------------------------
SECOND = """
[[sources]]
name = "sales"
type = "files"
path = "sales"
owner = "user:bo"
  [[sources.labels]]
  match = "**"
  readers = ["group:staff"]
  classification = "internal"
"""


@pytest.fixture
def lying(bench: Callable[..., Bench]) -> Bench:
    """Two sources, of which bo owns one; in each something lies in quarantine."""
    b = bench({"hr/zqnamecanary.pdf": ENCRYPTED, "hr/a.zip": packed({"zqinnercanary.json": "{", "pay.txt": PAY})})
    (b.folder / "sales").mkdir()
    (b.folder / "sales/locked.zip").write_bytes(locked_zip({"pay.txt": PAY.encode()}, "zqguess", 2))
    b.again((b.folder / "drystone.toml").read_text() + SECOND)
    b.kb.ingest("sales", actor="bo")
    return b


def test_quarantine_tells_nothing_to_whom_it_does_not_concern(lying: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    kb = lying.kb
    for actor in ("bo", "eve", "ann", "stranger"):
        said = json.dumps([kb.quarantine(actor=actor), kb.status(actor=actor)], default=repr)
        said += seen(lying, actor) if actor in ("bo", "eve") else ""  # ann may read the archive
        assert "zqnamecanary" not in said and "zqinnercanary" not in said
        with pytest.raises(Refused):
            kb.quarantine("docs", actor=actor)
        with pytest.raises(Refused):
            kb.ingest("docs", actor=actor)
        for act in (lambda d, a: kb.retry(d, actor=a), lambda d, a: kb.retry(d, parser="none", password="env:X", actor=a),
                    lambda d, a: kb.ignore(d, "no", actor=a)):  # fmt: skip
            errors = set()
            for name in ("zqnamecanary.pdf", "a.zip!/zqinnercanary.json", "a.zip", "not-there.pdf"):
                with pytest.raises(NotFound) as error:
                    act(f"docs:hr/{name}", actor)
                errors.add(json.dumps(error.value.to_dict()).replace(name, "NAME"))
            assert len(errors) == 1, "there or not: the same answer"
    for arguments in (["list"], ["retry", "docs:hr/zqnamecanary.pdf"], ["ignore", "docs:hr/a.zip", "--reason", "x"]):
        capsys.readouterr()
        main(["--project", str(lying.folder), "quarantine", *arguments, "--as", "eve"])
        out = capsys.readouterr()
        assert "zqinnercanary" not in out.out + out.err
    assert [q["document"] for q in kb.quarantine(actor="bo")] == ["sales:locked.zip"]
    events = json.dumps(list(kb.house.ledger.export()), default=repr)
    assert "zqnamecanary" not in events


def test_a_sources_owner_cannot_test_guesses_about_files_and_environment(
    lying: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    kb, path = lying.kb, lying.folder / "secret.txt"
    path.write_text("zqguess")
    monkeypatch.setenv("ZQ_SECRET", "zqguess")
    errors = set()
    for place in (f"file:{path}", "file:/etc/shadow", "file:/not/there", "env:ZQ_SECRET", "env:NOT_THERE", "zqinline"):
        with pytest.raises(Refused) as error:
            kb.retry("sales:locked.zip", password=place, actor="bo")
        errors.add(json.dumps(error.value.to_dict()))
    assert len(errors) == 1 and kb.house.ledger.catalog.chosen() == {}
    assert kb.retry("sales:locked.zip", password="env:ZQ_SECRET", actor="olga").added == 2
    assert {c.password for c in kb.house.ledger.catalog.chosen().values()} == {"env:ZQ_SECRET"}
    kb.close()
    files = (p for p in lying.folder.rglob("*") if p.is_file() and p != path)
    assert not any(b"zqguess" in p.read_bytes() for p in files), "the place is on record, the password nowhere"


def test_passwords_are_in_no_command_line_and_no_environment(lying: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZQ_SECRET", "zqguess")
    lying.kb.retry("sales:locked.zip", password="env:ZQ_SECRET", actor="olga")
    workers = [w._process.pid for pool in lying.kb.house.ingest._made.values() for w in pool._idle]
    shown = b""
    for pid in workers:
        shown += Path(f"/proc/{pid}/cmdline").read_bytes()
        with contextlib.suppress(PermissionError):  # it lets nobody look
            shown += Path(f"/proc/{pid}/environ").read_bytes()
    assert b"zqguess" not in shown and b"drystone.ingest.worker" in shown


def test_a_chosen_parser_keeps_the_limits(bench: Callable[..., Bench]) -> None:
    b = bench({"public/a.csv": "a,b\n" * 400_000, "public/b.md": "Short."}, extra="[ingest]\nmax_text_mb = 1\n")
    for parser in ("", "text", "markdown", "html"):
        report = b.kb.retry("docs:public/a.csv", parser=parser, actor="olga")
        assert [f.kind for f in report.failures] == ["expansion"] and "public/a.csv" not in b.names()
    with pytest.raises(DrystoneError):
        b.kb.retry("docs:public/a.csv", parser="os:system", actor="olga")


# -- a worker that was taken over ------------------------------------------------------------------------
STAFF = Label.parse({"readers": ["group:staff"], "classification": "internal"})
HR = Label.parse({"readers": ["group:hr"], "classification": "confidential"})


def test_a_worker_that_saw_a_restricted_document_answers_for_no_other_label(tmp_path: Path) -> None:
    pool = Pool(worker_settings(tmp_path))

    def job(text: str, label: Label | None) -> Job:
        return replace(hostile(f"hoard {text}"), label=label)

    try:
        months = [replace(STAFF, expires=at) for at in (10**12, 10**12 + 1, 2 * 10**12)]
        jobs = [job(f"{word}-{n}", label) for n in range(4) for word, label in
                (("staff", STAFF), ("zqhr", HR), ("none", None), ("near", months[0]), ("near", months[1]), ("late", months[2]))]  # fmt: skip
        for _ in range(3):
            for asked, answer in zip(jobs, pool.parse(jobs), strict=True):
                words = {word.split("-")[0] for word in kind(answer).replace("hoard ", "").split()}
                assert len(words) == 1 and words <= {asked.data.decode().split()[1].split("-")[0]}
        assert len(pool._idle) <= pool._kept
    finally:
        pool.close()


def test_the_label_in_force_separates_not_the_doors(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    b = bench({"handbook/a.zip": packed({"pay.txt": PAY}), "handbook/b.md": "Short."})
    b.kb.relabel("docs:handbook/a.zip", TIGHT, actor="olga", reason="closed")
    given: dict[str, Label | None] = {}
    real = Pool.parse

    def parse(self: Pool, jobs: Sequence[Job], *more: Any) -> Any:
        given.update((j.name, j.label) for j in jobs)
        return real(self, jobs, *more)

    monkeypatch.setattr(Pool, "parse", parse)
    b.write("handbook/a.zip", packed({"in.zip": packed({"pay.txt": PAY + " More."})}))
    b.write("handbook/b.md", "Longer.")
    b.ingest()
    tight = [name for name, label in given.items() if label and "user:olga" in str(label.readers)]
    assert sorted(tight) == ["handbook/a.zip", "handbook/a.zip!/in.zip", "handbook/a.zip!/in.zip!/pay.txt"]
    assert given["handbook/b.md"] is not None and "user:olga" not in str(given["handbook/b.md"].readers)


def test_no_answer_is_larger_than_what_was_allowed() -> None:
    most = Reading(text=10, parts=2, unpacked=100)

    def sent(text: str, *parts: Part) -> Parsed:
        header, payload = pack(Parsed(text, (Block("paragraph", 0, len(text)),), parts=parts))
        return unpack(header, b"".join(payload), most)

    assert len(sent("short", Part("a", b"1"), Part("b", b"2")).parts) == 2
    for text, parts in (
        ("x" * 11, ()),
        ("x", tuple(Part(str(n), b"") for n in range(3))),
        ("x", (Part("a", b"1" * 60), Part("b", b"1" * 60))),
        ("x", (Part("a", b"1" * 101),)),
    ):
        with pytest.raises(ValueError):
            sent(text, *parts)


# -- sources ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("address", [
    "127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "::1", "::", "fe80::1", "fc00::1", "fec0::1",
    "::ffff:10.0.0.1", "::10.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::a00:1", "2002:a00:1::1", "2001:0:4136:e378::f5ff:fffe",
])  # fmt: skip
def test_no_way_of_writing_a_private_address_is_public(address: str) -> None:
    assert not _public(address)
    assert (
        _public("93.184.215.14") and _public("2606:2800:21f:cb07:6820:80da:af6b:8b2c") and _public("64:ff9b::5db8:d70e")
    )


def test_a_mail_folders_name_begins_no_command() -> None:
    said: list[str] = []
    source = ImapSource.__new__(ImapSource)
    source.__dict__ |= {"_at": ("", "", 0), "_names": {"x": "x\r\nA1 DELETE INBOX"}}
    source._server = lambda: SimpleNamespace(select=lambda *given, **_: said.append(given))  # type: ignore[assignment, method-assign]
    with pytest.raises(imaplib.IMAP4.abort):
        source._examine("x")
    assert not said


# -- any history -----------------------------------------------------------------------------------------
FOLDERS = ("handbook", "hr")
step = st.tuples(st.sampled_from(
    ["change", "change", "rename", "remove", "copy", "tighten", "tighten", "loosen", "rule", "break", "touch"]),
    st.integers(0, 1 << 16))  # fmt: skip


def archive(n: int) -> bytes:
    members: dict[str, str | bytes] = {"pay.txt": f"{PAY} {n % 3}", "bad.json": "{" if n % 2 else '{"a": "fine"}'}
    if n % 3:
        inner: dict[str, str | bytes] = {"tea.txt": f"{TEA} {n % 2}", "worse.json": "{ [" if n % 7 < 5 else "[]"}
        members["in.zip"] = packed(inner | ({"deep.zip": packed({"x.txt": PAY})} if n % 5 else {}))
    return packed(members)


class History:
    """What people do to archives and to labels; ``loosened``: documents of which a person loosened the label."""

    def __init__(self, b: Bench) -> None:
        self.b, self.loosened, self.count = b, set[str](), 0

    def files(self) -> list[Path]:
        return sorted(self.b.documents.rglob("*.zip"))

    def take(self, what: str, n: int) -> None:
        b, files, catalog = self.b, self.files(), self.b.kb.house.ledger.catalog
        self.count += 1
        if what in ("tighten", "loosen"):
            names = sorted(catalog.known("docs"))
            if not names:
                return
            name = names[n % len(names)]
            label = catalog.document(name).label
            if what == "tighten":
                b.kb.relabel(name, {"readers": [*map(sorted, label.readers), [f"user:{'abc'[n % 3]}"]]}, actor="olga")
            else:
                b.kb.relabel(
                    name, {"readers": ["group:staff"], "classification": "internal"}, actor="olga", reason="open"
                )
                self.loosened.add(name)
        elif what == "rule":
            text = (b.folder / "drystone.toml").read_text()
            at = text.index("'handbook/**'")
            level = ("internal", "confidential", "restricted")[n % 3]
            b.again(text[:at] + re.sub('classification = "[a-z]+"', f'classification = "{level}"', text[at:], count=1))
        elif not files or what == "change":
            path = files[n % len(files)] if files and n % 2 else b.documents / FOLDERS[n % 2] / f"{self.count}.zip"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive(n))
        else:
            path = files[n % len(files)]
            to = b.documents / FOLDERS[n // 2 % 2] / f"{self.count}.zip"
            to.parent.mkdir(parents=True, exist_ok=True)
            {
                "rename": lambda: path.rename(to), "remove": path.unlink, "touch": path.touch,
                "copy": lambda: to.write_bytes(path.read_bytes()), "break": lambda: path.write_bytes(b"PK\x03\x04 no more"),
            }[what]()  # fmt: skip

    def check(self) -> None:
        catalog = self.b.kb.house.ledger.catalog
        ever = {name: catalog.last_label(name) for name in catalog.first_seen("docs")}
        for name, label in ever.items():
            above = name.rpartition("!/")[0]
            if not above or name in self.loosened or catalog.document(above) is None:
                continue
            if catalog.document(name) is None and above in self.loosened:
                continue
            assert label is not None and label.at_least(ever[above]), f"{name} is weaker than what it lies in"


def quarantined(kb: Any) -> list[tuple[str, str, str]]:
    return sorted((q["document"], q["kind"], q["inside"]) for q in kb.quarantine(actor="olga"))


@pytest.mark.whole
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(step, min_size=4, max_size=14))
def test_no_history_leaves_a_part_weaker_than_what_it_lies_in(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    b = Bench(tmp_path_factory.mktemp("h") / "p", {"handbook/0.zip": archive(1), "hr/1.zip": archive(2)})
    try:
        b.ingest()
        history = History(b)
        for what, n in steps:
            history.take(what, n)
            history.check()
            if n % 3:
                b.ingest(allow_mass_removal=True)
                history.check()
    finally:
        b.kb.close()


@pytest.mark.whole
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(step.filter(lambda s: s[0] not in ("tighten", "loosen")), min_size=4, max_size=14))
def test_any_history_of_archives_ends_as_a_rebuild(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("r")
    b = Bench(folder / "p", {"handbook/0.zip": archive(1), "hr/1.zip": archive(2)})
    other = None
    try:
        b.ingest()
        history = History(b)
        for what, n in steps:
            history.take(what, n)
            if n % 3:
                b.ingest(allow_mass_removal=True)
        b.ingest(allow_mass_removal=True)
        shutil.copytree(b.folder, folder / "again", ignore=shutil.ignore_patterns(".drystone"))
        other = drystone.open(folder / "again", embedder=HashEmbedder(16))
        other.ingest(actor="olga")
        for kb in (b.kb, other):
            assert kb.ingest(actor="olga", allow_mass_removal=True).commit is None, "nothing is left to do"
        one, two = (json.dumps(list(kb.house.lake.logical()), default=repr, sort_keys=True) for kb in (b.kb, other))
        assert one == two and quarantined(b.kb) == quarantined(other)
    finally:
        b.kb.close()
        if other is not None:
            other.close()
