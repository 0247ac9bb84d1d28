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
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import drystone
from drystone.cli import main
from drystone.errors import DrystoneError, NotFound, Refused, SettingsError, UsageError
from tests.conftest import PEOPLE, RULES

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
def test_no_name_gains_what_it_was_not_given(make: Make, name: str) -> None:
    kb = make(FILES)
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
    for broken in ("[[users", whole + "\n[[users]]\nname = \"bo\"\n", whole.replace("purposes", "purpose"), "\xff"):
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
