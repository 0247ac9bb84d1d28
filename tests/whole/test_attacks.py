"""Attacks on a whole project, each by somebody who wants to know what their label forbids, or to change what was said.

What is planted is a canary; what is attacked is the public surface (and the files) and nothing is mocked but time and
the room that an attack pretends to have taken over.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import drystone
from drystone.cli import main
from drystone.errors import DrystoneError, NotFound, Refused, SettingsError
from tests.conftest import RULES

Make = Callable[..., Any]
PAY = "# Pay\n\nThe salary band zqpaycanary of engineers is 90 thousand euros a year.\n"
LEAVE = "# Leave\n\nEveryone has 27 days of paid holiday a year.\n"
FILES = {"hr/pay.md": PAY, "handbook/leave.md": LEAVE, "public/hello.md": "# Hello\n\nOur shop opens at noon.\n"}
ASK_PAY = "What is the salary band of engineers a year?"
ASK_LEAVE = "Everyone has how many days of paid holiday a year?"


def texts(found: Any) -> str:
    return json.dumps(found, default=repr) + repr(found)


def people(kb: Any, old: str, new: str) -> None:
    """An owner edits users.toml while the project is open."""
    path = kb.folder / "users.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


# -- looking back is no way round a revocation --------------------------------------------------------
def see_past(kb: Any, actor: str, commit: int, **options: Any) -> str:
    said = texts([h.to_dict() for h in kb.search("salary band of engineers", actor=actor, as_of=commit, **options)])
    snapshot = kb.snapshot(f"shop@{commit}", actor=actor, **options)
    return said + texts(snapshot.arrow("chunks").to_pylist()) + texts(snapshot.arrow("documents").to_pylist())


def test_the_past_after_the_readers_of_a_row_were_emptied(make: Make) -> None:
    extra = (
        '[[sources]]\nname = "rows"\ntype = "rows"\npath = "rows.jsonl"\nclassification = "internal"\n'
        'fields = { id = "id", text = "text", readers = "readers" }\n'
    )
    kb = make({}, ingest=False, extra=extra)
    row = {"id": "pay", "text": "The salary band zqpaycanary of engineers is 90.", "readers": ["bo"]}
    other = {"id": "other", "text": "Nothing to see.", "readers": ["bo"]}
    path = kb.folder / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(other) + "\n")
    kb.ingest("rows", actor="olga")
    assert "zqpaycanary" in see_past(kb, "bo", 1)
    path.write_text(json.dumps({**row, "readers": []}) + "\n" + json.dumps(other) + "\n")
    kb.ingest("rows", actor="olga")
    assert not [h for h in kb.search("salary band", actor="bo") if "pay" in h.document]
    assert "zqpaycanary" not in see_past(kb, "bo", 1), "nobody may read the row any more, in the past neither"


def test_the_past_after_its_rule_was_taken_away(make: Make) -> None:
    kb = make(FILES)
    assert "zqpaycanary" in see_past(kb, "ann", 1)
    kb.close()
    toml = kb.folder / "drystone.toml"
    toml.write_text(toml.read_text().replace("'hr/**'", "'elsewhere/**'"))
    kb = make(FILES, ingest=False, name="p", rules=tuple(r for r in RULES if r[0] != "hr/**"))
    report = kb.ingest(actor="olga")
    assert report.refused == 1
    assert "zqpaycanary" not in see_past(kb, "ann", 1)


def test_what_was_only_deleted_still_reads_the_same_in_the_past(make: Make) -> None:
    kb = make(FILES)
    (kb.folder / "documents/hr/pay.md").unlink()
    kb.ingest(actor="olga")
    assert "zqpaycanary" in see_past(kb, "ann", 1) and "zqpaycanary" not in see_past(kb, "bo", 1)


@pytest.fixture
def permitted(make: Make, tmp_path: Path) -> Any:
    """A live source: the files' own modes say who may read."""
    kb = make({"pay.md": PAY, "leave.md": LEAVE}, ingest=False, rules=(("**", 'classification = "public"'),))
    kb.close()
    toml = kb.folder / "drystone.toml"
    toml.write_text(toml.read_text().replace('path = "documents"', 'path = "documents"\npermissions = "source"'))
    from drystone.testing import HashEmbedder

    opened = drystone.open(kb.folder, embedder=HashEmbedder())
    (kb.folder / "documents").chmod(0o755)
    for name in ("pay.md", "leave.md"):
        (kb.folder / "documents" / name).chmod(0o644)
    opened.ingest(actor="olga")
    yield opened
    opened.close()


def test_chmod_counts_at_once_everywhere(permitted: Any) -> None:
    kb, path = permitted, permitted.folder / "documents/pay.md"
    assert "zqpaycanary" in see_past(kb, "bo", 1) and kb.why("bo", "docs:pay.md", actor="bo")["allowed"]
    held = kb.snapshot("shop@1", actor="bo")
    answer = kb.ask(ASK_PAY, actor="bo")
    assert not answer.refused
    path.chmod(0o600)
    assert "zqpaycanary" not in texts(held.arrow("chunks").to_pylist())
    assert "zqpaycanary" not in see_past(kb, "bo", 1)
    assert "90 thousand" not in texts(kb.ask(ASK_PAY, actor="bo").to_dict())
    assert kb.replay(answer.passport, actor="bo").text is None
    with pytest.raises(NotFound):
        kb.why("bo", "docs:pay.md", actor="bo")
    path.chmod(0o000)  # nobody is left: ingestion refuses it and removes it
    kb.ingest(actor="olga")
    assert "zqpaycanary" not in see_past(kb, "bo", 1)
    assert kb.replay(answer.passport, actor="bo").text is None


def test_a_snapshot_that_is_held_follows_the_rights_of_now(make: Make) -> None:
    kb = make(FILES)
    held = kb.snapshot("shop@1", actor="ann")
    assert "zqpaycanary" in texts(held.arrow("chunks").to_pylist())
    kb.relabel("docs:hr/pay.md", {"readers": ["group:owners"]}, actor="olga", reason="moved")
    assert "zqpaycanary" not in texts(held.arrow("chunks").to_pylist())
    held = kb.snapshot("shop@1", actor="bo")
    assert "27 days" in texts(held.arrow("documents").to_pylist())
    people(kb, 'groups = ["staff"]\nclearance', "clearance")  # bo leaves the staff
    assert "27 days" not in texts(held.arrow("documents").to_pylist())
    people(kb, 'name = "bo"', 'name = "bob"')
    with pytest.raises(Refused):
        held.arrow("documents")


@pytest.mark.parametrize("change", ["group", "clearance", "user", "purpose", "expires", "relabel"])
def test_revocation_counts_at_once(make: Make, change: str) -> None:
    kb = make(FILES)
    answer = kb.ask(ASK_LEAVE, actor="bo", purpose="support")
    assert "27" in answer.text
    if change == "group":
        people(kb, 'groups = ["staff"]\nclearance', "clearance")
    elif change == "clearance":
        people(kb, 'clearance = "internal"\npurposes', "purposes")
    elif change == "user":
        people(kb, 'name = "bo"', 'name = "bob"')
    elif change == "purpose":
        people(kb, ', "support"', "")
    elif change == "expires":
        kb.relabel("docs:handbook/leave.md", {"expires": int(time.time() * 1000) + 300}, actor="olga")
        time.sleep(0.31)
    else:
        kb.relabel("docs:handbook/leave.md", {"readers": ["ann"]}, actor="olga", reason="moved")
    for probe in (
        lambda: kb.ask(ASK_LEAVE, actor="bo", purpose="support").to_dict(),
        lambda: [h.to_dict() for h in kb.search("paid holiday", actor="bo", purpose="support")],
        lambda: [h.to_dict() for h in kb.search("paid holiday", actor="bo", purpose="support", as_of=1)],
        lambda: kb.snapshot("shop@1", actor="bo", purpose="support").arrow("chunks").to_pylist(),
        lambda: kb.replay(answer.passport, actor="bo").to_dict(),
    ):
        try:
            said = texts(probe())
        except DrystoneError as error:
            said = texts(error.to_dict())
        assert "27 days" not in said and "holiday" not in said


def test_a_replay_that_finds_nothing_today_shows_nothing_of_then(make: Make, tmp_path: Path) -> None:
    """Other settings make today's computation a refusal, which rests on nothing: then's text rests on what it did."""
    kb = make(FILES)
    answer = kb.ask(ASK_PAY, actor="ann")
    assert "90" in answer.text
    kb.relabel("docs:hr/pay.md", {"readers": ["group:owners"]}, actor="olga", reason="moved")
    kb.close()
    kb = make(FILES, ingest=False, extra="[answer]\nrefusal_threshold = 0.9999\n")
    found = kb.replay(answer.passport, actor="ann")
    assert found.text is None and "zqpaycanary" not in texts(found.to_dict())


def test_a_name_that_means_another_document_now_opens_nothing_of_then(make: Make) -> None:
    """An auditor may read every passport; what it rests on needs the label of then and that of now."""
    kb = make(FILES)
    answer = kb.ask(ASK_PAY, actor="ann")
    path = kb.folder / "documents/hr/pay.md"
    path.write_text("# Pay\n\nPay day is the last Friday of a month.\n")
    kb.ingest(actor="olga")
    kb.relabel("docs:hr/pay.md", {"readers": ["everyone"], "classification": "public"}, actor="olga", reason="harmless")
    assert "zqpaycanary" not in texts(kb.replay(answer.passport, actor="olga").to_dict())
    assert "zqpaycanary" not in see_past(kb, "olga", 1) and "zqpaycanary" in see_past(kb, "ann", 1)
    with contextlib.suppress(DrystoneError):  # a row or a rule may loosen too
        assert "zqpaycanary" not in texts(kb.replay(answer.passport, actor="eve").to_dict())


def test_commands_end_in_our_words_whatever_is_typed(make: Make) -> None:
    kb = make(FILES)
    for command in (["ask", "x", "--no\udc80"], ["why", "\udc80"], ["search", "x", "--purpose", "\udc80"],
                    ["passport", "show", "passport:\udc80"], ["reach", "\udc80"]):  # fmt: skip
        out = io.TextIOWrapper(io.BytesIO(), "utf-8")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            assert main([*command, "--json", "--project", str(kb.folder)]) in (1, 2, 3)
        out.flush()
        assert "error" in json.loads(out.buffer.getvalue().splitlines()[-1])


# -- passports of others --------------------------------------------------------------------------------
def test_a_passport_of_another_looks_like_none(make: Make) -> None:
    kb = make(FILES)
    hers = kb.ask(ASK_PAY, actor="ann").passport
    none = "passport:" + "A" * 22
    for call in (
        lambda ref: kb.passport(ref, actor="bo"),
        lambda ref: kb.replay(ref, actor="bo"),
        lambda ref: kb.passport(ref, actor="bo", annex=True),
        lambda ref: kb.reach(ref, actor="bo"),
    ):
        said = []
        for ref in (hers, none):
            with pytest.raises(DrystoneError) as caught:
                call(ref)
            said.append((type(caught.value), texts(caught.value.to_dict()).replace(ref, "X")))
        assert said[0] == said[1]
    with pytest.raises(Refused):
        kb.passport(hers, actor="ann", annex=True)
    assert kb.passport(hers, actor="ann").verify()


def test_policies_rule_over_ones_own_passport_too(make: Make) -> None:
    kb = make(FILES)
    ref = kb.ask(ASK_LEAVE, actor="bo").passport
    (kb.folder / "policies").mkdir()
    (kb.folder / "policies/p.cedar").write_text(
        '@id("no-bo") forbid (principal, action == Action::"read_passport", resource) when { principal.name == "bo" };'
    )
    with pytest.raises(DrystoneError):
        kb.passport(ref, actor="bo")
    (kb.folder / "policies/p.cedar").unlink()
    assert kb.passport(ref, actor="bo")
    people(kb, 'name = "bo"', 'name = "bob"')  # gone: nobody whom users.toml does not name may do anything
    with pytest.raises(DrystoneError):
        kb.passport(ref, actor="bo")


# -- people and policies ---------------------------------------------------------------------------------
NAMES = ["everyone", "group:hr", "user:group:hr", "user:user:ann", "", " ", "ann ", " ann", "an\u0578", "\u0430nn",
         "ann\n", "ann\x00", "Ann", "ANN", "\uff41\uff4e\uff4e", "group:owners", "owners", "olga\u200b", "a\udc80",
         "User::\"olga\"", "olga\", \"x", "*", "../ann", "ann,olga", "hr"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_no_name_gains_what_it_was_not_given(recorded: Any, name: str) -> None:
    kb, _ = recorded
    for call in (
        lambda: kb.search("salary band of engineers holiday shop", actor=name, limit=50),
        lambda: kb.ask(ASK_PAY, actor=name).to_dict(),
        lambda: kb.snapshot("shop@1", actor=name).arrow("chunks").to_pylist(),
        lambda: kb.why(name, "docs:hr/pay.md", actor=name),
        lambda: kb.reach("docs:hr/pay.md", actor=name),
        lambda: kb.relabel("docs:hr/pay.md", {"readers": ["everyone"]}, actor=name, reason="x"),
    ):
        try:
            said = texts(call())
        except DrystoneError as error:
            said = texts(error.to_dict())
        assert "zqpaycanary" not in said and "27 days" not in said and "noon" not in said
        assert "classification" not in said


def test_a_policy_cannot_widen_labels_nor_name_the_unknown(make: Make) -> None:
    kb = make(FILES)
    (kb.folder / "policies").mkdir()
    (kb.folder / "policies/all.cedar").write_text('@id("all") permit (principal, action, resource);')
    assert "zqpaycanary" not in texts(kb.search("salary band", actor="bo"))
    assert kb.ask(ASK_LEAVE, actor="stranger").reason == "policy"
    with pytest.raises(Refused):
        kb.search("salary band", actor="bo", purpose="marketing")
    (kb.folder / "policies/all.cedar").write_text('@id("builtin:unknown") permit (principal, action, resource);')
    with pytest.raises(DrystoneError):
        kb.search("holiday", actor="bo")


def test_a_broken_file_of_people_opens_nothing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    kb = make(FILES)
    assert kb.search("holiday", actor="bo")
    path = kb.folder / "users.toml"
    whole = path.read_text()
    for broken in ("[[users", whole + '\n[[users]]\nname = "bo"\n', whole.replace("purposes", "purpose"), "\xff"):
        path.write_bytes(broken.encode("latin-1"))
        for call in (lambda: kb.search("holiday", actor="bo"), lambda: kb.ask(ASK_LEAVE, actor="bo"),
                     lambda: kb.snapshot("shop@1", actor="bo"), lambda: kb.passport("passport:x", actor="bo")):  # fmt: skip
            with pytest.raises(SettingsError):
                call()
    path.write_text("")
    assert kb.ask(ASK_LEAVE, actor="bo").reason == "policy"
    path.write_text(whole)
    generate = kb.house.models.generate

    def broken_meanwhile(*arguments: Any, **options: Any) -> Any:
        path.write_text("[[users")
        return generate(*arguments, **options)

    monkeypatch.setattr(type(kb.house.models), "generate", lambda self, *a, **k: broken_meanwhile(*a, **k))
    with pytest.raises(SettingsError):
        kb.ask(ASK_LEAVE, actor="bo")


# -- what a caller may write ------------------------------------------------------------------------------
ODD = ["\udc80", "a\x00b", "", "x" * 100_000, "docs:../../etc/passwd", "docs:", ":", "'; DROP TABLE log; --", "%"]


@pytest.mark.parametrize("odd", ODD, ids=lambda o: ascii(o)[:20])
def test_whatever_is_written_the_error_is_ours(make: Make, odd: str) -> None:
    kb = make(FILES)
    for call in (
        lambda: kb.why("olga", odd, actor="olga"), lambda: kb.why("bo", odd, actor="bo"),
        lambda: kb.reach(odd, actor="olga"), lambda: kb.reach(odd, actor="bo"),
        lambda: kb.relabel(odd, {"trust": "untrusted"}, actor="olga"),
        lambda: kb.passport(odd, actor="bo"), lambda: kb.replay(odd, actor="bo"),
        lambda: kb.snapshot(odd, actor="bo"), lambda: kb.snapshot("shop@\u00b2", actor="bo"),
        lambda: kb.snapshot("shop@" + "9" * 30, actor="bo"),
    ):  # fmt: skip
        with pytest.raises(DrystoneError):
            call()
    for soft in (
        lambda: kb.search(odd, actor="bo"), lambda: kb.ask(odd, actor="bo"),
        lambda: kb.search("holiday", actor="bo", purpose=odd), lambda: kb.ask("holiday", actor="bo", purpose=odd),
        lambda: kb.search("holiday", actor="bo", as_of=-1), lambda: kb.search("holiday", actor="bo", as_of=10**30),
        lambda: kb.search("holiday", actor="bo", limit=0), lambda: kb.ask("holiday", actor="bo", mode=odd),
        lambda: kb.ask("holiday", actor="bo", assistant=odd or "x"),
        lambda: kb.relabel("docs:hr/pay.md", {"readers": [odd]}, actor="olga", reason="x"),
        lambda: kb.relabel("docs:hr/pay.md", {"expires": odd}, actor="olga", reason="x"),
        lambda: kb.relabel("docs:hr/pay.md", {"trust": "untrusted"}, actor="olga", reason=odd),
    ):  # fmt: skip
        with contextlib.suppress(DrystoneError):
            soft()
    assert kb.house.ledger.verify().valid


# -- what lies in the files -------------------------------------------------------------------------------
def test_no_text_lies_in_the_clear_beside_the_lake(make: Make) -> None:
    """Of what is not documented as clear, nothing: not the question, the answer, a body's words or a refused name."""
    kb = make({**FILES, "hr/broken-zqbrokencanary.pdf": b"%PDF-1.7 zqbodycanary not really"})
    kb.ask(f"{ASK_PAY} zqquestioncanary?", actor="ann")
    kb.ask(ASK_PAY, actor="ann")
    kb.search("zqsearchcanary salary", actor="ann")
    with contextlib.suppress(DrystoneError):
        kb.search("zqerrorcanary \x00", actor="ann")
    kb.replay(kb.ask(ASK_PAY, actor="ann").passport, actor="ann")
    state = kb.settings.state
    found = []
    for path in state.rglob("*"):
        if path.is_file() and "lake" not in path.relative_to(state).parts:
            data = path.read_bytes() + path.name.encode()
            words = (b"zqpaycanary", b"zqquestioncanary", b"zqsearchcanary", b"zqerrorcanary", b"zqbodycanary",
                     b"salary band", b"90 thousand")  # fmt: skip
            found += [(path.name, word) for word in words if word in data]
            assert not path.stat().st_mode & 0o077 or path.suffix == ".pub" or not os.access(path.parent, 0), path
    assert found == []
    assert state.stat().st_mode & 0o077 == 0


# -- what one may not see changes nothing that one sees ----------------------------------------------------
def test_forbidden_documents_change_no_score_no_note_no_answer(make: Make) -> None:
    secret = {
        f"hr/s{n}.md": f"# Secret {n}\n\nPaid holiday of directors is {n} days a year, and the shop opens never.\n\n"
        + f"holiday shop noon {n} " * 60 for n in range(60)
    }  # fmt: skip
    secret["hr/hindi.md"] = "# गुप्त\n\nयह वेतन का गुप्त दस्तावेज है जिसे कोई नहीं पढ़ सकता।\n"  # has no vector
    plain, crowded = make(FILES, name="plain"), make({**FILES, **secret}, name="crowded")
    for words in ("paid holiday a year", "When does the shop open at noon?", "salary", "secret directors", "वेतन"):
        for options in ({}, {"limit": 3}):
            a, b = (kb.hits(words, actor="bo", **options) for kb in (plain, crowded))
            assert [(h.document, h.score, h.start) for h in a.hits] == [(h.document, h.score, h.start) for h in b.hits]
            assert (a.notes, a.exact, a.confidence) == (b.notes, b.exact, b.confidence)
        x, y = (kb.ask(words, actor="bo").to_dict() for kb in (plain, crowded))
        for one in (x, y):
            for citation in one["citations"]:
                del citation["chunk"], citation["version"]
            del one["passport"], one["timings"]
        assert x == y


# -- documents, names and folders that want to be more than data ---------------------------------------------
def test_a_document_is_no_label(make: Make) -> None:
    kb = make({
        "hr/matter.md": '---\nreaders: ["everyone"]\nclassification: public\n---\n# Pay\n\nzqpaycanary salary band.\n',
        "hr/toml.md": 'readers = ["everyone"]\nclassification = "public"\n\nThe salary band zqpaycanary.\n',
        "hr/side.md": PAY, "hr/side.md.label.toml": 'readers = ["everyone"]\nclassification = "public"\n',
        "public/x.md.label.toml": 'readers = ["everyone"]\n',
        "hr/..x.md": PAY, "hr/a:b.md": PAY, "hr/public:c.md": PAY, "hr/%2e%2e.md": PAY, "hr/new\nline.md": PAY,
    })  # fmt: skip
    for actor in ("bo", "eve"):
        assert "zqpaycanary" not in texts(kb.search("salary band", actor=actor, limit=100))
    found = {h.document for h in kb.search("salary band", actor="ann", limit=100)}
    assert {"docs:hr/a:b.md", "docs:hr/side.md", "docs:hr/matter.md"} <= found
    assert not any("\n" in name or "label.toml" in name for name in found)


def test_a_sidecar_makes_nothing_trusted(make: Make) -> None:
    """Who may write the folder may write the sidecar: it can take trust away and not give it."""
    kb = make({"handbook/a.md": LEAVE, "handbook/a.md.label.toml": 'trust = "trusted"\n'})
    assert kb.house.ledger.catalog.document("docs:handbook/a.md").label.trust.name == "untrusted"


def test_rows_of_one_source_are_not_documents_of_another(make: Make) -> None:
    extra = (
        '[[sources]]\nname = "rows"\ntype = "rows"\npath = "rows.jsonl"\nreaders = ["everyone"]\n'
        'classification = "public"\nowner = "group:staff"\n'
    )
    kb = make(FILES, ingest=False, extra=extra)
    ids = ["docs:hr/pay.md", "hr/pay.md", "../docs:hr/pay.md", "\x1b[31mred", "line\nbreak"]
    lines = [
        json.dumps({"id": i, "text": f"Row {n} about the weather.", "title": "\x1b]0;x\x07"}) for n, i in enumerate(ids)
    ]
    (kb.folder / "rows.jsonl").write_text("\n".join(lines))
    kb.ingest(actor="olga")
    assert "zqpaycanary" not in texts(kb.search("salary weather", actor="eve", limit=100))
    assert kb.house.ledger.catalog.document("docs:hr/pay.md").label.classification.name == "confidential"
    with pytest.raises(NotFound):
        kb.relabel("docs:hr/pay.md", {"trust": "untrusted"}, actor="bo")  # bo owns rows, not docs
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        main(["search", "weather", "--as", "eve", "--project", str(kb.folder)])
    assert "\x1b" not in out.getvalue() and "\x07" not in out.getvalue()


def test_a_refusal_at_the_door_names_no_other_file(make: Make) -> None:
    kb = make({"nowhere/a.md": LEAVE, "nowhere/zqother.md": LEAVE, **FILES}, ingest=False)
    report = kb.ingest(actor="olga")
    assert {f.document for f in report.refusals} == {"docs:nowhere/a.md", "docs:nowhere/zqother.md"}
    for failure in report.refusals:
        assert failure.document.removeprefix("docs:") in failure.reason
        assert failure.document == "docs:nowhere/zqother.md" or "zqother" not in failure.reason


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser may give files away")
def test_a_link_to_a_hidden_file_of_another_is_not_followed(make: Make) -> None:
    kb = make({".private/pay.md": PAY, "public/x.md": "# X\n\nHello there.\n"}, ingest=False)
    (kb.folder / "documents/public/mine.md").symlink_to("../.private/pay.md")
    os.lchown(kb.folder / "documents/public/mine.md", 12345, 12345)
    kb.ingest(actor="olga")
    assert "zqpaycanary" not in texts(kb.search("salary band", actor="eve"))


# -- the record -------------------------------------------------------------------------------------------
TAMPER = {
    "log entry": "UPDATE log SET entry = CAST(replace(CAST(entry AS TEXT), 'seq', 'sec') AS BLOB) WHERE seq = 1",
    "log dropped": "DELETE FROM log WHERE seq = 1",
    "log mac": "UPDATE log SET mac = 'x' WHERE seq = 1",
    "tree": "UPDATE log_nodes SET hash = zeroblob(32) WHERE position = 0",
    "statement": "UPDATE passports SET payload = CAST(replace(CAST(payload AS TEXT), 'bo', 'xx') AS BLOB)",
    "signature": "UPDATE passports SET signature = zeroblob(64)",
    "statements moved": "UPDATE passports SET seq = seq + 1000",
    "statement dropped": "DELETE FROM passports",
    "checkpoint": "UPDATE log_checkpoints SET note = replace(note, 'shop', 'shap')",
}  # fmt: skip


def tampered(kb: Any, script: str) -> None:
    connection = sqlite3.connect(kb.settings.state / "ledger.db")
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.executescript(script)
    connection.close()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from drystone.testing import HashEmbedder
    from tests.conftest import write_project

    with drystone.open(write_project(tmp_path_factory.mktemp("rec"), FILES), embedder=HashEmbedder()) as kb:
        kb.ingest(actor="olga")
        refs = [kb.ask(ASK_LEAVE, actor="bo").passport, kb.ask(ASK_PAY, actor="ann").passport]
        for ref, actor in zip(refs, ("bo", "ann"), strict=True):
            kb.passport(ref, actor=actor).verify()
        assert kb.house.ledger.verify().valid
        yield kb, refs


@pytest.mark.parametrize("what", TAMPER)
def test_tampering_with_the_record_is_noticed(recorded: Any, what: str) -> None:
    kb, _ = recorded
    with contextlib.closing(sqlite3.connect(":memory:")) as kept:
        with contextlib.closing(sqlite3.connect(kb.settings.state / "ledger.db")) as source:
            source.backup(kept)
        try:
            tampered(kb, TAMPER[what])
            assert not kb.house.ledger.verify().valid
        finally:
            with contextlib.closing(sqlite3.connect(kb.settings.state / "ledger.db")) as target:
                kept.backup(target)
    assert kb.house.ledger.verify().valid


def test_texts_of_another_passport_do_not_pass_for_ones_own(recorded: Any) -> None:
    kb, (his, hers) = recorded
    with contextlib.closing(sqlite3.connect(":memory:")) as kept:
        with contextlib.closing(sqlite3.connect(kb.settings.state / "ledger.db")) as source:
            source.backup(kept)
        try:
            tampered(kb, f"UPDATE passports SET contents = (SELECT contents FROM passports WHERE ref = '{hers}')")
            with pytest.raises(DrystoneError) as caught:
                kb.replay(his, actor="bo")
            assert "salary" not in texts(caught.value.to_dict())
            with pytest.raises(DrystoneError):
                kb.passport(his, actor="olga", annex=True)
        finally:
            with contextlib.closing(sqlite3.connect(kb.settings.state / "ledger.db")) as target:
                kept.backup(target)


# -- rooms that were taken over ------------------------------------------------------------------------------
def forge_quote(checked: Any) -> Any:
    first = replace(checked.citations[0], quote="Everyone has 99 days of paid holiday a year.")
    return replace(checked, text=first.quote + " [1]", citations=(first, *checked.citations[1:]))


FORGED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "release, text": ("release", lambda c: replace(c, text="Everyone has 99 days.")),
    "release, quote": ("release", forge_quote),
    "release, title": ("release", lambda c: replace(c, citations=(replace(c.citations[0], title="Forged"),))),
    "release, support": ("release", lambda c: replace(c, citations=(replace(c.citations[0], supported=False),))),
    "release, label": ("release", lambda c: replace(c, label=replace(c.label, readers=frozenset({frozenset({"everyone"})})))),
    "release, mode": ("release", lambda c: replace(c, mode="generated")),
    "release, no citation": ("release", lambda c: replace(c, citations=(), evidence=())),
    "check, quote": ("check", forge_quote),
    "check, title": ("check", lambda c: replace(c, citations=(replace(c.citations[0], title="Forged"),))),
    "check, label": ("check", lambda c: replace(c, label=replace(c.label, readers=frozenset({frozenset({"everyone"})})))),
}  # fmt: skip


@pytest.mark.parametrize("what", FORGED)
def test_a_room_that_lies_releases_nothing(make: Make, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Each changes what leaves; where the room also forges its own note, the other rooms' notes contradict it."""
    from drystone.ledger.runs import Run

    kb = make(FILES)
    step, forge = FORGED[what]
    note = Run.note
    if step == "release":
        room = type(kb.house.guard)
        release = room.release
        monkeypatch.setattr(room, "release", lambda self, *a, **k: forge(release(self, *a, **k)))
    else:
        room = type(kb.house.answer)
        check = room.check
        monkeypatch.setattr(room, "check", lambda self, *a, **k: forge(check(self, *a, **k)))
        monkeypatch.setattr(Run, "note", lambda self, name, **facts: note(self, name, **(
            {**facts, "checked": forge(facts["checked"])} if name == "check" else facts)))  # fmt: skip
    with pytest.raises(DrystoneError) as caught:
        kb.ask(ASK_LEAVE, actor="bo")
    assert caught.value.code == "passport_incomplete" and "99 days" not in texts(caught.value.to_dict())


def test_a_withdrawn_answer_cannot_be_released(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    kb = make(FILES)
    room = type(kb.house.guard)
    release = room.release

    def stubborn(self: Any, checked: Any, actor: Any, run: Any, **options: Any) -> Any:
        kb.relabel("docs:handbook/leave.md", {"readers": ["ann"]}, actor="olga", reason="moved")
        release(self, checked, actor, run, **options)
        return checked

    monkeypatch.setattr(room, "release", stubborn)
    with pytest.raises(DrystoneError):
        kb.ask(ASK_LEAVE, actor="bo")


# -- races ----------------------------------------------------------------------------------------------------
def test_a_relabel_rests_on_the_label_that_was_seen(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two people at once: what one tightened, the other's change, which read the label before, cannot loosen."""
    kb = make(FILES)
    run = type(kb.house.ledger).run
    once = threading.Lock()

    def overtaken(self: Any, kind: str, **facts: Any) -> Any:
        if kind == "relabel" and once.acquire(blocking=False):
            kb.relabel("docs:handbook/leave.md", {"readers": ["group:hr"]}, actor="olga", reason="closed")
        return run(self, kind, **facts)

    monkeypatch.setattr(type(kb.house.ledger), "run", overtaken)
    with pytest.raises(DrystoneError):
        kb.relabel("docs:handbook/leave.md", {"trust": "untrusted", "classification": "internal", "expires": "2099-01-01"},
                   actor="olga")  # fmt: skip
    assert "27 days" not in texts(kb.search("holiday", actor="bo"))


def test_a_search_that_is_overtaken_by_an_ingestion(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that come in while a search ranks are not its business, wherever in it they come."""
    from drystone.retrieve.search import Retriever

    kb = make({**FILES, **{f"public/p{n}.md": f"# P{n}\n\nThe shop opens at {n} o'clock.\n" for n in range(20)}})
    before = [(h.document, h.score) for h in kb.search("shop opens", actor="eve", limit=50)]
    rank = Retriever._rank
    more = iter(range(100, 200))

    def overtaken(self: Any, *arguments: Any) -> Any:
        for n in (next(more), next(more)):
            (kb.folder / f"documents/public/q{n}.md").write_text(f"# Q\n\nThe shop opens {'at noon ' * n}.\n")
        kb.ingest(actor="olga")
        self.refresh()
        return rank(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Retriever, "_rank", overtaken)
        found = [(h.document, h.score) for h in kb.search("shop opens", actor="eve", limit=50)]
    assert found == before


def test_everything_at_once(make: Make) -> None:
    """Threads ask, search, relabel, ingest, look back and close: right answers or our own errors, and an end."""
    kb = make(FILES)
    wrong: list[str] = []
    stop = time.monotonic() + 2.5
    turns = [0]  # odd while bo may not read leave.md, by a relabel that is durable

    def loop(work: Callable[[int], None]) -> None:
        n = 0
        while time.monotonic() < stop:
            try:
                work(n)
            except DrystoneError as error:
                if "27 days" in texts(error.to_dict()) or "zqpaycanary" in texts(error.to_dict()):
                    wrong.append("leak in an error")
            except BaseException as error:
                wrong.append(f"{type(error).__name__}: {error}")
                return
            n += 1

    def ask(n: int) -> None:
        began = turns[0]
        said = texts(kb.ask(ASK_LEAVE, actor="bo").to_dict()) + texts(kb.search("holiday pay", actor="bo"))
        if "zqpaycanary" in said or (began % 2 and turns[0] == began and "27 days" in said):
            wrong.append("leak")

    def relabel(n: int) -> None:
        kb.relabel("docs:handbook/leave.md", {"readers": ["ann"]}, actor="olga", reason="x")
        turns[0] += 1
        time.sleep(0.2)
        turns[0] += 1
        kb.relabel("docs:handbook/leave.md", {"readers": ["group:staff"]}, actor="olga", reason="x")

    def bring(n: int) -> None:
        (kb.folder / f"documents/public/n{n}.md").write_text(f"# N{n}\n\nNumber {n} is a number, holiday or not.\n")
        kb.ingest(actor="olga")

    def back(n: int) -> None:
        if "zqpaycanary" in texts(kb.snapshot("shop@1", actor="bo").arrow("chunks").to_pylist()):
            wrong.append("leak")
        kb.search("holiday", actor="bo", as_of=1)
        kb.house.ledger.verify()

    def close(n: int) -> None:
        time.sleep(0.6)
        kb.close()

    threads = [threading.Thread(target=loop, args=(w,)) for w in (ask, ask, relabel, bring, back, close)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "a deadlock"
    assert wrong == []
    assert kb.house.ledger.verify().valid


PROCESS = """
import sys, time, drystone
from drystone.errors import DrystoneError
from drystone.testing import HashEmbedder
folder, what, until = sys.argv[1], sys.argv[2], time.monotonic() + 4
n = 0
while time.monotonic() < until or n == 0:
    n += 1
    try:
        with drystone.open(folder, embedder=HashEmbedder()) as kb:
            for _ in range(3):
                if what == "ask":
                    said = repr(kb.ask("What is the salary band of engineers a year?", actor="bo"))
                    said += repr(kb.search("salary band holiday", actor="bo", limit=50))
                    assert "zqpaycanary" not in said
                elif what == "bring":
                    (kb.folder / f"documents/public/p{n}.md").write_text(f"# P{n}\\n\\nThe shop has {n} doors.\\n")
                    kb.ingest(actor="olga")
                else:
                    tight = {"readers": ["group:owners"]} if n % 2 else {"readers": ["group:hr"]}
                    kb.relabel("docs:hr/pay.md", tight, actor="olga", reason="turn")
    except DrystoneError as error:
        assert "zqpaycanary" not in str(error)
        print(error.code)
print("done")
"""


@pytest.mark.whole
def test_everything_at_once_in_many_processes(make: Make) -> None:
    kb = make(FILES)
    children = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(kb.folder), what], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
        for what in ("ask", "ask", "bring", "relabel", "relabel")
    ]  # fmt: skip
    for child in children:
        out, err = child.communicate(timeout=120)
        assert child.returncode == 0 and out.endswith("done\n"), err
        assert set(out.split()) <= {"done", "busy"}, out
    assert kb.house.ledger.verify().valid
    assert "zqpaycanary" not in texts(kb.search("salary band", actor="bo"))
