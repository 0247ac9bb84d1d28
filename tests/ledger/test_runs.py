"""Runs and questions: what is kept of them, and that nothing is released without every step's note."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drystone import ledger as room
from drystone.errors import LedgerError, NotFound, PassportIncomplete, Refused
from drystone.ledger import Ledger
from drystone.ledger.runs import REQUIRED, Question, plain
from drystone.records import (
    Answer,
    Checked,
    Citation,
    Decision,
    Draft,
    Evidence,
    Hit,
    Hits,
    Prompt,
    Report,
)
from tests.ledger.build import BO, HR, STAFF, change, document, open_ledger

SECRET = "Items may be returned within 45 days of delivery."
NAME = "docs:returns.md"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    found = open_ledger(tmp_path)
    with found.run("ingest", actor=BO) as run:
        found.catalog.apply(change(found, "1", [document(found, NAME, SECRET)]), run)
        run.close()
    yield found
    found.close()


def notes(ledger: Ledger, chunk: str = "one") -> tuple[dict[str, dict[str, Any]], Checked]:
    """Every step's note of one quoted answer, as the rooms write them, and what is released."""
    hit = Hit(
        chunk=ledger.digest("c", chunk), document=NAME, version=ledger.digest("v", NAME, SECRET), title="Returns",
        text=SECRET, score=0.7, start=0, end=len(SECRET), label=STAFF, row=0,
    )  # fmt: skip
    evidence = Evidence(hit, SECRET, 0, len(SECRET), 0.8)
    hits = Hits((hit,), (evidence,), exact=True, commit=1, confidence=0.9)
    prompt = Prompt("quoted", (), (evidence,), STAFF, ledger.digest("p", "quoted"))
    draft = Draft(SECRET, None)
    citation = Citation(1, NAME, hit.version, hit.chunk, "Returns", SECRET, 0, len(SECRET), 0.8, True)
    checked = Checked(f"{SECRET} [1]", (citation,), (evidence,), "quoted", label=STAFF)
    yes = Decision("ask", True, ("built-in",), "sha256:set", "allowed")
    steps: dict[str, dict[str, Any]] = {
        "admit": {"decision": yes, "guards": [], "label": STAFF},
        "search": {"hits": hits, "generation": None, "embedder": "sha256:e", "policy": "sha256:set",
                   "in_scope": 1, "readable": 1, "withheld": {}},
        "compose": {"prompt": prompt},
        "generate": {"draft": draft, "model": None, "weights": None, "runtime": {}, "routes": []},
        "check": {"checked": checked, "dropped": 0, "verdicts": []},
        "release": {"decision": yes, "guards": [], "commit": 1, "sequence": 1, "withdrawn": 0},
    }  # fmt: skip
    return steps, checked


def ask(
    ledger: Ledger, change_notes: Callable[[dict[str, dict[str, Any]]], None] = lambda steps: None, **released: Any
) -> Answer:
    steps, checked = notes(ledger)
    change_notes(steps)
    with ledger.question("How long?", actor=BO, purpose="general", assistant=None) as run:
        for step, facts in steps.items():
            with run.time(step):
                run.note(step, **facts)
        return run.seal(replace(checked, **released))


def state(ledger: Ledger) -> tuple[str, dict[str, Any]]:
    row = ledger.database.read().execute("SELECT state, record FROM runs ORDER BY started DESC, run LIMIT 1").fetchone()
    return row[0], json.loads(row[1])


def states(ledger: Ledger) -> list[str]:
    rows = ledger.database.read().execute("SELECT state FROM runs WHERE kind = 'question'")
    return sorted(row[0] for row in rows)


def test_an_answer_has_a_passport_and_edges(ledger: Ledger) -> None:
    answer = ask(ledger)
    assert not answer.refused and answer.text.startswith(SECRET) and answer.mode == "quoted"
    assert set(answer.timings) == {f"{step}_ms" for step in REQUIRED} | {"total_ms"}
    assert ledger.passport(answer.passport)["passport"] == answer.passport
    assert answer.passport in {node.ref for node in ledger.reach(NAME)}
    kinds = {node.kind for node in ledger.origin(answer.passport)}
    assert kinds == {"chunk", "version", "document", "asset", "prompt", "run"}
    assert states(ledger) == ["sealed"] and ledger.verify().valid


@pytest.mark.parametrize("step", REQUIRED)
def test_without_a_note_nothing_is_released(ledger: Ledger, step: str) -> None:
    with pytest.raises(PassportIncomplete) as caught:
        ask(ledger, lambda steps: steps.pop(step) and None)
    assert step in str(caught.value) and "45 days" not in str(caught.value)
    assert states(ledger) == ["withheld"]
    assert [entry["body"]["state"] for entry in ledger.export() if entry["kind"] == "run"][-1] == "withheld"


@pytest.mark.parametrize(("step", "fact"), [(step, fact) for step, facts in REQUIRED.items() for fact in facts])
def test_without_a_fact_or_with_a_wrong_one_nothing_is_released(ledger: Ledger, step: str, fact: str) -> None:
    with pytest.raises(PassportIncomplete, match=fact):
        ask(ledger, lambda steps: steps[step].pop(fact) and None)
    with pytest.raises(PassportIncomplete, match=fact):
        ask(ledger, lambda steps: steps[step].update({fact: 1.5}))
    assert states(ledger) == ["withheld", "withheld"]


def swap(step: str, fact: str, **changes: Any) -> Callable[[dict[str, dict[str, Any]]], None]:
    def change_it(steps: dict[str, dict[str, Any]]) -> None:
        steps[step][fact] = replace(steps[step][fact], **changes)

    return change_it


NO = {"allowed": False}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (swap("search", "hits", hits=(), evidence=()), "did not find"),
        (swap("search", "hits", hits=()), "cites what the search did not find"),
        (swap("search", "hits", commit=2), "older commit"),
        (swap("compose", "prompt", evidence=()), "not in the prompt"),
        (swap("generate", "draft", model="other"), "another model"),
        (swap("check", "checked", citations=()), "not checked"),
        (swap("check", "checked", refused="not_supported"), "check refused"),
        (swap("admit", "decision", **NO), "admit was no"),
        (swap("release", "decision", **NO), "release was no"),
    ],
)
def test_notes_must_fit_each_other(ledger: Ledger, changes: Any, says: str) -> None:
    with pytest.raises(PassportIncomplete, match=says):
        ask(ledger, changes)
    assert states(ledger) == ["withheld"]


def test_what_is_released_must_be_what_was_checked(ledger: Ledger) -> None:
    _, checked = notes(ledger)
    forged = replace(checked.citations[0], quote="Items may be returned for ever.")
    with pytest.raises(PassportIncomplete, match="not checked"):
        ask(ledger, citations=(forged,))
    with pytest.raises(PassportIncomplete, match="no citation"):
        ask(ledger, citations=(), evidence=())
    with pytest.raises(PassportIncomplete, match="another text"):
        ask(ledger, text="Something else. [1]")
    _, other = notes(ledger, "another chunk")
    with pytest.raises(PassportIncomplete, match="not in the prompt"):
        ask(ledger, evidence=other.evidence)


def test_a_refusal_has_a_passport_too(ledger: Ledger) -> None:
    answer = ask(ledger, refused="no_evidence", text="", citations=(), evidence=(), mode="refused", notes=("x",))
    assert answer.refused and answer.reason == "no_evidence" and answer.notes == () and answer.citations == ()
    with ledger.question("q", actor=BO, purpose="general", assistant=None) as run:
        early = run.refuse(Refused("The policy said no.", reason="policy"))
    assert early.refused and early.reason == "policy" and early.text == "The policy said no."
    for one in (answer, early):
        assert ledger.passport(one.passport)["passport"] == one.passport
    assert states(ledger) == ["refused", "refused"]


def test_a_question_ends_once(ledger: Ledger) -> None:
    with ledger.question("q", actor=BO, purpose="general", assistant=None) as run:
        run.refuse(Refused("The policy said no."))
        again: tuple[Callable[[], object], ...] = (
            lambda: run.refuse(Refused("no")), lambda: run.note("x"), run.close, lambda: run.edge("a", "b", of=[]),
        )  # fmt: skip
        for once_more in again:
            with pytest.raises(LedgerError, match="has ended"):
                once_more()


def test_what_was_not_closed_failed(ledger: Ledger) -> None:
    with ledger.run("ingest", actor=BO, source="docs") as run:
        run.note("step", count=3)
    with pytest.raises(NotFound), ledger.question("q", actor=BO, purpose="general", assistant=None):
        raise NotFound("There is no such thing.")
    rows = dict(ledger.database.read().execute("SELECT state, record FROM runs WHERE state <> 'closed'").fetchall())
    assert set(rows) == {"failed"} and json.loads(rows["failed"])["failure"] in ("not_closed", "not_found")


def test_what_is_kept_of_a_run_holds_no_text(ledger: Ledger) -> None:
    steps, _ = notes(ledger)
    with ledger.run("search", actor=BO, purpose="general") as run:
        for step, facts in steps.items():
            run.note(step, **facts)
        run.close(report=Report(seen=1))
    ask(ledger)
    rows = ledger.database.read().execute("SELECT record FROM runs").fetchall()
    assert len(rows) == 3 and not any("45 days" in record or "How long" in record for (record,) in rows)
    assert plain({"a": {1}, "b": (None, 2.5), "l": HR}) == {"a": [1], "b": [None, 2.5], "l": HR.to_dict()}
    with pytest.raises(LedgerError):
        plain(object())


def test_time_never_goes_back(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ledger.now()
    other = open_ledger(tmp_path)
    with monkeypatch.context() as clock:
        clock.setattr(room.time, "time_ns", lambda: (before + 3_600_000) * 1_000_000)
        ahead = other.now()
        with other.run("test", actor=BO) as run:
            run.close()
    other.close()
    assert ahead == before + 3_600_000 and ledger.now() >= ahead  # ours is an hour behind and learns of it
    with ledger.run("test", actor=BO) as run:
        run.close()
    rows = ledger.database.read().execute("SELECT started, ended FROM runs").fetchall()
    assert all(started <= ended for started, ended in rows) and run.started >= ahead
    entries = [entry["at"] for entry in ledger.export()]
    assert entries == sorted(entries)


def test_many_questions_at_once(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(ledger), range(24)))
    assert len({answer.passport for answer in answers}) == 24 and states(ledger) == ["sealed"] * 24
    assert ledger.verify().valid


CRASH = """
import os, sys
from pathlib import Path
from drystone.ledger import passports
from tests.ledger.build import BO, open_ledger
from tests.ledger.test_runs import ask
ledger = open_ledger(Path(sys.argv[1]))
passports.Sealed.write = lambda self, connection: os._exit(9)
ask(ledger)
"""


def test_a_crash_while_sealing_leaves_no_half_passport(ledger: Ledger, tmp_path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", CRASH, str(tmp_path)]).returncode == 9
    assert ledger.database.read().execute("SELECT count(*) FROM passports").fetchone()[0] == 0
    assert states(ledger) == ["open"] and ledger.verify().valid
    assert not ask(ledger).refused


def test_a_question_is_a_run(ledger: Ledger) -> None:
    with ledger.question("q", actor=BO, purpose="support", assistant="helpdesk") as run:
        assert isinstance(run, Question) and (run.text, run.purpose, run.assistant) == ("q", "support", "helpdesk")
        run.refuse(Refused("no"))


def test_the_last_good_run_of_a_source(ledger: Ledger) -> None:
    for source in ("a_b", "a%"):
        assert ledger.last_run("ingest", source) is None
    with ledger.run("ingest", actor=BO, source="axb") as run:
        run.close()
    assert ledger.last_run("ingest", "a_b") is None and ledger.last_run("ingest", "a%") is None
    with ledger.run("ingest", actor=BO, source="a_b") as run:
        run.close()
    assert ledger.last_run("ingest", "a_b") is not None
