"""Passports: they say what an answer rests on, in few bytes, and tell nobody more than they should."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from drystone.errors import NotFound, PassportIncomplete, ProofFailed, UsageError
from drystone.ledger import Ledger, log, passports
from drystone.ledger.passports import salted
from drystone.records import Answer, Classification
from tests.ledger.asking import ANSWERED, GUARDS, RICH, ask, evidence
from tests.ledger.build import open_ledger


def payload(ledger: Ledger, answer: Answer) -> bytes:
    return base64.b64decode(ledger.passport(answer.passport)["statement"]["payload"])


def predicate(ledger: Ledger, answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(payload(ledger, answer))["predicate"]
    return found


def annex(ledger: Ledger, answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ledger.passport(answer.passport, annex=True)["annex"]["opened"])
    return found


def test_a_passport_says_what_the_answer_rests_on(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    found = evidence(ledger, 4, 2)
    answer = ask(ledger, found, mode="generated", guards=GUARDS)
    said = predicate(ledger, answer)
    assert said["passport"] == answer.passport and said["format"] == 1
    assert said["actor"] == {"name": "bo", "proven": "asserted by bo"} and said["purpose"] == "support"
    assert said["search"]["commit"] == 1 and said["search"]["generation"].startswith("g:")
    assert said["model"]["name"] == "local" and said["model"]["weights"].startswith("w:")
    assert [guard["outcome"] for guard in said["guards"]] == ["pass"] * 4
    assert [d["result"] for d in said["decisions"]] == ["allow", "allow"]
    assert len(said["evidence"]) == 4 and len(said["citations"]) == 3, "a generated answer rests on all the model saw"
    salt = base64.urlsafe_b64decode(said["salt"] + "==")
    for n, (row, one) in enumerate(zip(said["evidence"], found, strict=True)):
        document = said["documents"][row["document"]]
        assert (row["chunk"], document["document"]) == (one.hit.chunk, one.hit.document)
        assert document["version"] == one.hit.version
        assert row["text"] == salted(salt, f"evidence {n}", one.quote)
        assert document["asset"].startswith("b:") and said["transforms"][document["transform"]].startswith("t:")
        assert said["labels"][document["label"]]["classification"] == Classification.internal.name
    assert len(said["documents"]) == 2 and len(said["labels"]) == 1
    assert said["question"] == salted(salt, "question", "How long do I have?")
    assert said["cost"]["prompt_tokens"] == 812 and "search_ms" in said["timings"]
    subject = json.loads(payload(ledger, answer))["subject"][0]["digest"]["sha256-salted"]
    assert subject == hashlib.sha256(salt + b"answer\0" + ANSWERED.encode()).hexdigest()
    ledger.close()


def test_reach_finds_every_answer_whose_model_saw_a_document(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    found = evidence(ledger, 4, 4)
    answer = ask(ledger, found, mode="generated", cited=1)
    for one in found:
        assert answer.passport in {node.ref for node in ledger.reach(one.hit.document)}
    ledger.close()


def test_a_quoted_answer_rests_on_what_it_cites(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    said = predicate(ledger, ask(ledger, evidence(ledger, 8, 5), cited=2))
    assert len(said["evidence"]) == 2 and said["model"] is None and said["mode"] == "quoted"
    assert [(guard["where"], guard["outcome"]) for guard in said["guards"]] == [
        ("question", "not_run"), ("answer", "not_run"),
    ]  # fmt: skip
    ledger.close()


@pytest.mark.parametrize("step", ["admit", "search", "compose", "generate", "check", "release"])
def test_composing_refuses_an_answer_with_a_missing_note(tmp_path: Path, step: str) -> None:
    ledger = open_ledger(tmp_path)
    with pytest.raises(PassportIncomplete):
        ask(ledger, evidence(ledger, 3, 1), mode="generated", leave_out=step)
    assert ledger.database.read().execute("SELECT count(*) FROM passports").fetchone() == (0,)
    ledger.close()


def test_evidence_without_an_origin_is_not_released(tmp_path: Path) -> None:
    ledger, other = open_ledger(tmp_path), open_ledger(tmp_path / "other")
    with pytest.raises(PassportIncomplete, match="no origin"):
        ask(ledger, evidence(other, 3, 1))
    ledger.close()
    other.close()


# -- what the asker may not learn ---------------------------------------------------------------------
VARYING = ("passport", "asked_at", "sealed_at", "salt", "question", "annex")


def shape(ledger: Ledger, answer: Answer) -> bytes:
    """A statement's bytes with all that is random or a time replaced by as many dots."""
    data = payload(ledger, answer)
    said = json.loads(data)
    for name in VARYING:
        value = said["predicate"][name]
        data = data.replace(value.encode(), b"." * len(value))
    digest = said["subject"][0]["digest"]["sha256-salted"]
    return data.replace(digest.encode(), b"." * 64)


def test_not_permitted_and_no_evidence_look_the_same(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    some = evidence(ledger, 6, 3)
    nothing = ask(ledger, [], refused="no_evidence")
    forbidden = ask(ledger, [], refused="no_evidence", withheld={"readers": 15}, readable=0, guards=())
    weak = ask(ledger, some, refused="no_evidence")
    withdrawn = ask(ledger, some, refused="no_evidence", mode="generated", withdrawn=2)
    shapes = {shape(ledger, one) for one in (nothing, forbidden, weak, withdrawn)}
    assert len(shapes) == 1
    text = shapes.pop().decode()
    for word in ("readers", "15", "withheld", "in_scope", "readable", "confidence", "timings", "model", "returns"):
        assert word not in text
    reasons = [annex(ledger, one)["reason"] for one in (nothing, forbidden, weak, withdrawn)]
    assert reasons == ["no_evidence", "not_permitted", "no_evidence", "withdrawn"]
    assert annex(ledger, forbidden)["withheld"] == {"readers": 15} and annex(ledger, forbidden)["in_scope"] == 50
    lengths = {len(json.dumps(ledger.passport(one.passport))) // 256 for one in (nothing, forbidden)}
    assert len(lengths) == 1
    ledger.close()


def test_a_short_text_cannot_be_guessed_from_what_the_log_holds(tmp_path: Path) -> None:
    """The attacker has the whole database but not the statement, and knows that the answer is one of a few."""
    ledger = open_ledger(tmp_path)
    some = evidence(ledger, 3, 1)
    first, second = (ask(ledger, some, question="yes") for _ in range(2))
    one, two = (predicate(ledger, answer) for answer in (first, second))
    assert one["question"] != two["question"] and one["evidence"][0]["text"] != two["evidence"][0]["text"]
    entries = b"".join(row[0] for row in ledger.database.read().execute("SELECT entry FROM log"))
    stored = b"".join(row[0] for row in ledger.database.read().execute("SELECT sealed FROM contents"))
    for guess in ("yes", "no", ANSWERED, some[0].quote, "bo", "handbook:policies/returns-and-refunds-0.md"):
        for data in (guess.encode(), ("answer\0" + guess).encode(), ("question\0" + guess).encode()):
            for digest in (hashlib.sha256(data).digest(), hashlib.blake2b(data, digest_size=16).digest()):
                forms = (digest, digest.hex().encode(), base64.urlsafe_b64encode(digest).rstrip(b"="))
                assert not any(form in entries or form in stored or form in payload(ledger, first) for form in forms)
        assert f'"{guess}"'.encode() not in entries
    ledger.close()


def test_the_annex_has_a_salt_that_the_asker_does_not_have(tmp_path: Path) -> None:
    """Counts are small numbers: with the annex's text but for its salt at hand, the commitment still tells nothing."""
    ledger = open_ledger(tmp_path)
    answer = ask(ledger, [], refused="no_evidence", withheld={"readers": 15}, readable=0)
    opened = ledger.passport(answer.passport, annex=True)["annex"]["opened"]
    commitment = predicate(ledger, answer)["annex"]
    assert commitment == log.digest(opened.encode())
    salt = json.loads(opened)["salt"]
    assert len(base64.urlsafe_b64decode(salt + "==")) == 16 and salt != predicate(ledger, answer)["salt"]
    assert salt not in json.dumps(ledger.passport(answer.passport))
    assert "opened" not in ledger.passport(answer.passport)["annex"]
    ledger.close()


# -- keeping and forgetting -----------------------------------------------------------------------------
def test_texts_are_kept_sealed_or_not_at_all(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    answer = ask(ledger, evidence(ledger, 3, 1), question="About Zebrawood?", mode="generated")
    kinds = ledger.database.read().execute("SELECT kind, id FROM contents ORDER BY kind").fetchall()
    assert [kind for kind, _ in kinds] == ["annex", "answer", "prompt", "question", "replay"]
    texts = passports.texts(ledger, answer.passport)
    prompt = [{"role": "user", "content": "About Zebrawood?"}]
    assert json.loads(texts.pop("prompt")) == prompt
    assert json.loads(texts.pop("replay")) == ledger.replayable(answer.passport)
    assert texts == {"question": "About Zebrawood?", "answer": ANSWERED}
    ledger.contents.forget(dict(kinds)["question"])
    assert set(passports.texts(ledger, answer.passport)) == {"answer", "prompt", "replay"}
    ledger.close()
    state = b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())
    assert b"Zebrawood" not in state and ANSWERED.encode() not in state


def test_forgetting_texts_leaves_the_proofs(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    answer = ask(ledger, evidence(ledger, 3, 1))
    before = ledger.passport(answer.passport)
    ledger.contents.forget(*[row[0] for row in ledger.database.read().execute("SELECT id FROM contents")])
    assert ledger.verify().valid and ledger.passport(answer.passport) == before
    with pytest.raises(NotFound):
        ledger.passport(answer.passport, annex=True)
    ledger.close()


def test_a_changed_or_dropped_statement_is_found_by_the_ledger(tmp_path: Path) -> None:
    for change in (
        "UPDATE passports SET payload = CAST(replace(payload, 'support', 'general') AS BLOB)",
        "DELETE FROM passports",
        "UPDATE passports SET seq = 0",
        "UPDATE passports SET signature = zeroblob(64)",
    ):
        ledger = open_ledger(tmp_path / str(len(change)))
        ask(ledger, evidence(ledger, 3, 1))
        assert ledger.verify().valid and ledger.verify().statements == 1
        ledger.database.write(lambda connection, change=change: connection.execute(change))  # type: ignore[misc]
        assert "statement" in {problem.kind for problem in ledger.verify().problems}
        ledger.close()


def test_another_annex_is_not_shown(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    some = evidence(ledger, 3, 1)
    first, second = ask(ledger, some), ask(ledger, some)
    swap = "UPDATE passports SET contents = (SELECT contents FROM passports WHERE ref = ?) WHERE ref = ?"
    ledger.database.write(lambda connection: connection.execute(swap, (second.passport, first.passport)))
    with pytest.raises(ProofFailed, match="annex"):
        ledger.passport(first.passport, annex=True)
    ledger.close()


def test_a_score_that_is_no_number_withholds_the_answer(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    with pytest.raises(PassportIncomplete, match="no number"):
        ask(ledger, evidence(ledger, 3, 1), guards=[{**GUARDS[0], "scores": {"injection": float("nan")}}])
    ledger.close()


def test_an_unknown_passport_is_not_found(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    with pytest.raises(NotFound):
        ledger.passport("passport:AAAAAAAAAAAAAAAAAAAAAA")
    ledger.close()


def test_an_exported_passport_finds_a_log_that_was_cut_off(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    answer = ask(ledger, evidence(ledger, 3, 1))
    (tmp_path / "bundle.json").write_text(json.dumps(ledger.passport(answer.passport)))
    assert ledger.verify([tmp_path / "bundle.json"]).valid

    def forget_all(connection: Any) -> None:
        for table in ("passports", "log", "log_nodes", "log_checkpoints"):
            connection.execute(f"DELETE FROM {table}")

    ledger.database.write(forget_all)
    assert ledger.verify().valid
    assert [p.kind for p in ledger.verify([tmp_path / "bundle.json"]).problems] == ["truncated"]
    with pytest.raises(ProofFailed):
        log.read_checkpoint("a\n1\nb\n\n\u2014 a b\n", ledger.keys)
    ledger.close()


def test_goals_of_size(tmp_path: Path) -> None:
    """Numbers to beat: <= 8 KB with 8 chunks of 5 documents, <= 12 KB with 20; the whole bundle, log part included."""
    ledger = open_ledger(tmp_path)
    sizes = {}
    for chunks, documents in ((3, 3), (8, 5), (20, 12)):
        found = evidence(ledger, chunks, documents, RICH)
        answer = ask(ledger, found, mode="generated", guards=GUARDS, cited=chunks)
        sizes[chunks] = len(json.dumps(ledger.passport(answer.passport), separators=(",", ":")))
    print("bytes of a bundle by chunks:", sizes)
    assert sizes[8] <= 8 * 1024 and sizes[20] <= 12 * 1024
    ledger.close()


def test_a_bundle_proves_consistency_with_older_sizes(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    some = evidence(ledger, 3, 1)
    answer = ask(ledger, some)
    ask(ledger, some)
    ledger.checkpoint()
    bundle = passports.bundle(ledger, answer.passport, since=(2, 4))
    assert [one["size"] for one in bundle["log"]["consistency"]] == [2, 4]
    with pytest.raises(UsageError):
        passports.bundle(ledger, answer.passport, since=(5,))
    ledger.close()
