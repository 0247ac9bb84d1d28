"""Documents inside documents: named after what they lie in, under its label, coming and going with it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import drystone
from drystone.errors import NotFound, SettingsError
from drystone.ingest.pool import Broken, Pool
from drystone.records import Report
from tests.ingest.build import ENCRYPTED
from tests.ingest.build_mail import locked_zip
from tests.ingest.test_ingest import Bench

PAY = "The salary band of engineers is ninety thousand euros a year."
TEA = "The tea kitchen closes at seven in the evening."
POOL = "The pool behind the house is heated on Fridays."


def packed(members: Mapping[str, str | bytes], password: bytes = b"") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), content)
    return out.getvalue()


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    made = Bench(
        tmp_path / "p", {"hr/all.zip": packed({"pay.txt": PAY, "rooms/tea.txt": TEA}), "handbook/a.md": "# A\n\nShort."}
    )
    made.ingest()
    yield made
    made.kb.close()


def found(bench: Bench, query: str, actor: str) -> set[str]:
    return {hit.document for hit in bench.kb.search(query, actor=actor)}


def numbers(report: Report) -> dict[str, int]:
    return {
        k: v
        for k, v in report.to_dict().items()
        if k in ("added", "changed", "relabelled", "removed", "embedded") and v
    }


def logical(bench: Bench) -> str:
    return json.dumps(list(bench.kb.house.lake.logical()), default=repr, sort_keys=True)


def rebuilt(bench: Bench, folder: Path) -> str:
    """The same files and configuration, ingested into nothing."""
    import shutil

    shutil.copytree(bench.folder, folder, ignore=shutil.ignore_patterns(".drystone"))
    other = Bench.__new__(Bench)
    other.folder, other.documents, other.embedder = folder, folder / "documents", bench.embedder
    other.kb = drystone.open(folder, embedder=bench.embedder)
    other.ingest()
    out = logical(other)
    other.kb.close()
    return out


def test_members_are_documents_under_the_archives_label(bench: Bench) -> None:
    assert bench.names() == {"hr/all.zip", "hr/all.zip!/pay.txt", "hr/all.zip!/rooms/tea.txt", "handbook/a.md"}
    assert found(bench, "salary band of engineers", "ann") >= {"docs:hr/all.zip!/pay.txt"}
    assert not any("all.zip" in name for name in found(bench, "salary band of engineers", "bo"))
    inner, outer = bench.label("hr/all.zip!/pay.txt"), bench.label("hr/all.zip")
    assert {**inner, "origin": ""} == {**outer, "origin": ""} and inner["origin"].endswith("(of docs:hr/all.zip)")
    made = {node.ref for node in bench.kb.reach("docs:hr/all.zip", actor="olga")}
    state = bench.kb.house.ledger.catalog.document("docs:hr/all.zip!/pay.txt")
    assert state.version.ref in made


def test_nothing_changed_is_no_work_and_a_touch_is_none(bench: Bench) -> None:
    assert numbers(bench.ingest()) == {}
    (bench.documents / "hr/all.zip").touch()
    assert numbers(bench.ingest()) == {}


def test_one_member_changes_one_goes_one_comes(bench: Bench, tmp_path: Path) -> None:
    bench.write("hr/all.zip", packed({"pay.txt": PAY + " It rises.", "rooms/pool.txt": POOL}))
    report = numbers(bench.ingest())
    assert bench.names() == {"hr/all.zip", "hr/all.zip!/pay.txt", "hr/all.zip!/rooms/pool.txt", "handbook/a.md"}
    assert report["added"] == 1 and report["removed"] == 1 and report["changed"] == 2
    assert not found(bench, "tea kitchen closes", "ann") & {"docs:hr/all.zip!/rooms/tea.txt"}
    assert logical(bench) == rebuilt(bench, tmp_path / "again")


def test_an_unchanged_member_is_not_brought_again(bench: Bench) -> None:
    before = bench.kb.house.ledger.catalog.document("docs:hr/all.zip!/pay.txt")
    bench.write("hr/all.zip", packed({"pay.txt": PAY, "rooms/tea.txt": TEA + " Then it is cleaned."}))
    assert numbers(bench.ingest())["changed"] == 2
    assert bench.kb.house.ledger.catalog.document("docs:hr/all.zip!/pay.txt") == before


def test_members_go_with_their_archive(bench: Bench) -> None:
    (bench.documents / "hr/all.zip").unlink()
    assert numbers(bench.ingest()) == {"removed": 3}
    assert bench.names() == {"handbook/a.md"}


def test_a_renamed_archive_embeds_nothing(bench: Bench, tmp_path: Path) -> None:
    (bench.documents / "hr/all.zip").rename(bench.documents / "hr/old.zip")
    report = bench.ingest()
    assert bench.names() == {"hr/old.zip", "hr/old.zip!/pay.txt", "hr/old.zip!/rooms/tea.txt", "handbook/a.md"}
    assert report.embedded == 0 and report.renamed >= 1
    assert logical(bench) == rebuilt(bench, tmp_path / "again")


def test_an_archive_that_breaks_takes_its_members_along(bench: Bench) -> None:
    bench.write("hr/all.zip", b"PK\x03\x04 and no more")
    report = bench.ingest()
    assert report.failed == 1 and bench.names() == {"handbook/a.md"}


def test_a_new_rule_relabels_members(bench: Bench, tmp_path: Path) -> None:
    text = (bench.folder / "drystone.toml").read_text()
    bench.again(text.replace('readers = ["group:hr"]', 'readers = ["group:staff"]').replace("confidential", "internal"))
    assert numbers(bench.ingest()) == {"relabelled": 3}
    assert "docs:hr/all.zip!/pay.txt" in found(bench, "salary band of engineers", "bo")
    assert logical(bench) == rebuilt(bench, tmp_path / "again")


def test_what_a_person_tightens_holds_for_members_of_now_and_later(bench: Bench) -> None:
    kb = bench.kb
    kb.relabel("docs:hr/all.zip", {"readers": [["group:hr"], ["user:olga"]]}, actor="olga")
    assert not any("all.zip" in name for name in found(bench, "salary band of engineers", "ann"))
    bench.write("hr/all.zip", packed({"pay.txt": PAY, "pool.txt": POOL}))
    bench.ingest()
    assert not any("all.zip" in name for name in found(bench, "pool heated Fridays", "ann"))
    kb.relabel("docs:hr/all.zip", {"readers": ["group:hr"]}, actor="olga", reason="open again")
    assert "docs:hr/all.zip!/pool.txt" in found(bench, "pool heated Fridays", "ann")


def test_a_bad_member_costs_itself_and_is_not_read_again(bench: Bench) -> None:
    bench.write(
        "hr/all.zip",
        packed({"pay.txt": PAY, "bad.json": "{", "deep.zip": packed({"x/pool.txt": POOL, "none.txt": ""})}),
    )
    report = bench.ingest()
    kinds = {f.document: f.kind for f in report.failures}
    assert kinds == {"docs:hr/all.zip!/bad.json": "malformed", "docs:hr/all.zip!/deep.zip!/none.txt": "empty"}
    assert "hr/all.zip!/deep.zip!/x/pool.txt" in bench.names()
    again = bench.ingest()
    assert numbers(again) == {} and {f.document for f in again.skips} == set(kinds)
    bench.write("hr/all.zip", packed({"pay.txt": PAY}))
    assert bench.ingest().skipped == 0 and not bench.kb.quarantine(actor="olga")


def test_depth_and_number_are_bounded(tmp_path: Path) -> None:
    data = packed({"end.txt": TEA})
    for n in range(8):
        data = packed({f"{n}.zip": data, f"{n}.txt": f"Level {n} says hello."})
    bench = Bench(tmp_path / "p", {"public/deep.zip": data}, extra="[ingest]\nmax_depth = 3\nmax_parts = 50\n")
    report = bench.ingest()
    assert {f.kind for f in report.failures} == {"expansion"} and max(n.count("!/") for n in bench.names()) == 3
    bench.write("public/deep.zip", packed({f"{n}.txt": f"Note {n} of many." for n in range(60)}))
    assert [f.kind for f in bench.ingest().failures] == ["expansion"]
    bench.kb.close()


def test_a_password_of_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path / "p", {"public/secret.zip": locked_zip({"tea.txt": TEA.encode()}, "zq-open", 0)})
    assert [f.kind for f in bench.ingest().failures] == ["encrypted"]
    text = (
        (bench.folder / "drystone.toml")
        .read_text()
        .replace('path = "documents"', 'path = "documents"\npasswords = ["env:SHOP_ZIP"]')
    )
    bench.again(text)
    with pytest.raises(SettingsError):
        bench.ingest()
    monkeypatch.setenv("SHOP_ZIP", "wrong")
    assert [f.kind for f in bench.ingest().failures] == ["wrong_password"]
    monkeypatch.setenv("SHOP_ZIP", "zq-open")
    assert bench.ingest().added == 2 and "docs:public/secret.zip!/tea.txt" in found(bench, "tea kitchen closes", "eve")
    bench.kb.close()
    assert not any(
        b"zq-open" in path.read_bytes() for path in (bench.folder / ".drystone").rglob("*") if path.is_file()
    )


def test_a_password_of_one_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path / "p", {"public/secret.zip": locked_zip({"tea.txt": TEA.encode()}, "zq-open", 0)})
    bench.ingest()
    (tmp_path / "word").write_text("zq-open\n")
    report = bench.kb.retry("docs:public/secret.zip", password=f"file:{tmp_path}/word", actor="olga")
    assert report.added == 2 and numbers(bench.ingest()) == {} and not bench.kb.quarantine(actor="olga")
    bench.kb.close()


@pytest.mark.parametrize("given_by", ["source", "", "!/tea.txt"])
def test_a_locked_member_waits_for_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given_by: str) -> None:
    data = locked_zip({"tea.txt": TEA.encode()}, "zq-open", 2, plain={"pool.txt": POOL.encode()})
    bench = Bench(tmp_path / "p", {"public/part.zip": data})
    report = bench.ingest()
    assert report.added == 2 and {f.document: f.kind for f in report.failures} == {
        "docs:public/part.zip!/tea.txt": "encrypted"
    }
    monkeypatch.setenv("SHOP_ZIP", "zq-open")
    text = (bench.folder / "drystone.toml").read_text()
    if given_by == "source":
        bench.again(text.replace('path = "documents"', 'path = "documents"\npasswords = ["env:SHOP_ZIP"]'))
        report = bench.ingest()
    else:
        report = bench.kb.retry(f"docs:public/part.zip{given_by}", password="env:SHOP_ZIP", actor="olga")
    assert report.added == 1 and numbers(bench.ingest()) == {}
    assert "docs:public/part.zip!/tea.txt" in found(bench, "tea kitchen closes", "eve")
    bench.kb.close()


def test_ignoring_is_a_decision_until_the_bytes_change(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "p", {"public/secret.pdf": ENCRYPTED, "public/a.md": "# A\n\nShort."})
    report = bench.ingest()
    assert [f.kind for f in report.failures] == ["encrypted"] and any("in quarantine" in n for n in report.notes)
    kb = bench.kb
    (lies,) = kb.quarantine(actor="olga")
    assert lies["document"] == "docs:public/secret.pdf" and kb.quarantine(actor="bo") == []
    with pytest.raises(NotFound):
        kb.ignore("docs:public/secret.pdf", "no", actor="bo")
    kb.ignore("docs:public/secret.pdf", "the owner has left", actor="olga")
    status = kb.status(actor="olga")["sources"][0]
    assert (status["quarantined"], status["ignored"], status["alarm"]) == (0, 1, "")
    assert kb.ingest(actor="olga").notes == ()
    bench.write("public/secret.pdf", ENCRYPTED + b"\0")
    assert kb.ingest(actor="olga").failed == 1 and kb.status(actor="olga")["sources"][0]["quarantined"] == 1
    kb.close()


def test_a_person_names_the_parser(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "p", {"public/a.json": "{ not json, but readable }", "public/b.txt": "Fine."})
    assert bench.ingest().failed == 1
    report = bench.kb.retry("docs:public/a.json", parser="text", actor="olga")
    assert report.added == 1 and not bench.kb.quarantine(actor="olga")
    assert numbers(bench.ingest()) == {}
    bench.write("public/a.json", "{ still not json }")
    assert numbers(bench.ingest())["changed"] == 1, "the choice lasts"
    report = bench.kb.retry("docs:public/b.txt", parser="markdown", actor="olga")
    assert report.changed == 1, "one that came in may be read otherwise, too"
    bench.kb.close()


def test_members_are_read_by_who_may_read_the_archive_now(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path / "p",
        {"a.zip": packed({"tea.txt": TEA}), "b.md": "# B\n\nAbout pots."},
        rules=(("**", 'classification = "public"'),),
    )
    text = (
        (bench.folder / "drystone.toml")
        .read_text()
        .replace('path = "documents"', 'path = "documents"\npermissions = "source"')
    )
    (bench.documents / "a.zip").chmod(0o644)
    bench.again(text)
    bench.ingest()
    assert "docs:a.zip!/tea.txt" in found(bench, "tea kitchen closes", "eve")
    (bench.documents / "a.zip").chmod(0o600)
    assert "docs:a.zip!/tea.txt" not in found(bench, "tea kitchen closes", "eve"), "without an ingestion"
    bench.kb.close()


def test_a_folder_cannot_be_named_as_if_it_were_an_archive(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "p", {"public/a.zip": packed({"tea.txt": TEA}), "public/a.zip!/tea.txt": POOL})
    bench.ingest()
    assert bench.names() == {"public/a.zip", "public/a.zip!/tea.txt", "public/a.zip%21/tea.txt"}
    assert "docs:public/a.zip%21/tea.txt" in found(bench, "pool heated Fridays", "eve")
    assert numbers(bench.ingest()) == {}
    bench.kb.close()


def test_what_nobody_has_time_for_is_a_timeout(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pool, "parse", lambda self, jobs, *_: [Broken("slow", "It is long.") for _ in jobs])
    (bench.documents / "handbook" / "b.md").write_text(POOL)
    assert [(f.document, f.kind) for f in bench.ingest().failures] == [("docs:handbook/b.md", "timeout")]
