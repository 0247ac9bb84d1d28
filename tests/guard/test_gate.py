"""The two doors, over a real ledger and real policies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drystone.errors import Refused, SettingsError, UsageError
from drystone.guard import Gate
from drystone.ledger import Ledger
from drystone.policy import Policy
from drystone.ports import Guard
from drystone.records import Checked, Citation, Classification, Evidence, Hit, Hits, Prompt, Relabel
from drystone.records.answer import REFUSAL
from drystone.settings import AssistantConfig, Settings, defaults
from tests.ledger.build import HR, STAFF, change, document, open_ledger

PEOPLE = """
[[users]]
name = "bo"
groups = ["staff"]
clearance = "internal"
purposes = ["general", "support"]
[[users]]
name = "olga"
groups = ["owners", "staff"]
clearance = "internal"
"""
DESK = AssistantConfig("desk", ("shop",), ("local",), "quoted", Classification.confidential, None)


class Scorer:
    name, version = "injection", "1.0"

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails

    def check(self, text: str, *, where: str) -> Mapping[str, float]:
        if self.fails:
            raise RuntimeError(text)
        return {"injection": 0.25}


class Place:
    """A project with two documents of the staff, and a gate."""

    def __init__(self, folder: Path, guards: tuple[Guard, ...] = (), assistants: tuple[AssistantConfig, ...] = ()):
        self.folder = folder
        (folder / "users.toml").write_text(PEOPLE)
        settings: Settings = replace(defaults(folder), assistants=assistants)
        self.ledger: Ledger = open_ledger(folder)
        self.policy = Policy.open(folder, settings=settings)
        self.gate = Gate(ledger=self.ledger, policy=self.policy, settings=settings, guards=guards)
        self.names = ["shop:a.md", "shop:b.md"]
        made = [document(self.ledger, name, f"Text of {name}.") for name in self.names]
        self.apply("first", made)
        self.hits = tuple(
            Hit(self.ledger.digest("c", d.version), d.name, d.version, "T", d.parsed.text, 0.9, 0, 18, STAFF, n)
            for n, d in enumerate(made)
        )
        self.evidence = tuple(Evidence(h, h.text, h.start, h.end, 0.9) for h in self.hits)

    def apply(self, key: str, documents: Any = (), **more: Any) -> int:
        with self.ledger.run("ingest", actor=self.policy.actor("olga")) as run:
            pointer = self.ledger.catalog.apply(change(self.ledger, key, documents, **more), run)
            run.close()
        return pointer.commit

    def people(self, old: str, new: str) -> None:
        (self.folder / "users.toml").write_text(PEOPLE.replace(old, new))

    def answered(self, between: Callable[[], Any], *, mode: Any = "quoted", cited: int = 2) -> tuple[Checked, Any]:
        """Admit, answer from both documents citing the first ``cited``, do ``between``, release."""
        actor = self.policy.actor("bo")
        with self.ledger.run("question", actor=actor) as run:
            self.gate.admit("How?", actor, run, purpose="general")
            run.note("compose", prompt=Prompt(mode, (), self.evidence, STAFF, "p:x"))
            cites = tuple(
                Citation(n, e.hit.document, e.hit.version, e.hit.chunk, "T", e.quote, e.start, e.end, 0.9, True)
                for n, e in enumerate(self.evidence[:cited], 1)
            )
            checked = Checked("So [1]", cites, self.evidence[:cited], mode, None, (), label=STAFF)
            between()
            released = self.gate.release(checked, actor, run, purpose="general")
            notes = run.notes["release"]
            run.close()
        return released, notes


@pytest.fixture
def place(tmp_path: Path) -> Any:
    made = Place(tmp_path)
    yield made
    made.ledger.close()


def admit(place: Place, question: Any, name: str = "bo", **more: Any) -> tuple[Any, Any]:
    actor = place.policy.actor(name)
    with place.ledger.run("question", actor=actor) as run:
        try:
            request = place.gate.admit(question, actor, run, **{"purpose": "general", **more})
        except Refused as refusal:
            request = refusal
        note = run.notes["admit"]
        run.close()
    return request, note


def test_what_was_typed_has_a_label(place: Place) -> None:
    request, note = admit(place, "How long?\n\tनमस्ते \u200d👩‍👩‍👧")
    assert request.label.readers == {frozenset({"user:bo"})} and request.label.regions == {"local"}
    assert request.label.classification == Classification.internal and request.mode == "auto"
    assert (request.sources, request.models, request.assistant, request.limit) == (None, (), None, 10)
    assert note["label"] == request.label and note["decision"].allowed
    assert note["guards"] == [{"guard": None, "version": None, "outcome": "not_run", "scores": {}}]


QUESTIONS = ["", " \n", "\u200b", "a\x00b", "a\x1bb", "a\x7fb", "a\x85b", "half \ud800", "x" * 8001, None, b"bytes", 7]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: ascii(q)[:12])
def test_what_is_no_question_is_not_admitted(place: Place, question: Any) -> None:
    with pytest.raises(UsageError):
        admit(place, question)


@pytest.mark.parametrize(
    "more", [{"purpose": ""}, {"purpose": "a\nb"}, {"purpose": None}, {"mode": "guess"}, {"limit": 0}, {"limit": 10**6}]
)
def test_what_is_no_call_is_not_admitted(place: Place, more: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        admit(place, "How?", **more)


@pytest.mark.parametrize(("name", "purpose"), [("bo", "research"), ("mallory", "general")])
def test_whom_the_policy_denies_is_refused_with_a_note(place: Place, name: str, purpose: str) -> None:
    refusal, note = admit(place, "How?", name, purpose=purpose)
    assert isinstance(refusal, Refused) and refusal.reason == "policy" and not note["decision"].allowed


def test_assistants(tmp_path: Path) -> None:
    place = Place(tmp_path, assistants=(DESK,))
    request, _ = admit(place, "How?")
    assert (request.assistant, request.sources, request.models, request.mode) == (
        "desk",
        ("shop",),
        ("local",),
        "quoted",
    )
    assert request.label.classification == Classification.confidential
    assert admit(place, "How?", mode="generated")[0].mode == "generated"
    assert admit(place, "How?", action="search")[0].sources is None, "a search is over everything"
    assert admit(place, "How?", action="search", assistant="desk")[0].sources == ("shop",)
    with pytest.raises(SettingsError):
        admit(place, "How?", assistant="nobody")
    place.ledger.close()


def test_guards_are_written_down_and_a_failing_one_stops_all(tmp_path: Path) -> None:
    scorer = Scorer()
    place = Place(tmp_path, guards=(scorer,))
    assert admit(place, "How?")[1]["guards"] == [
        {"guard": "injection", "version": "1.0", "outcome": "ran", "scores": {"injection": 0.25}}
    ]
    released, note = place.answered(lambda: None)
    assert released.refused is None and note["guards"][0]["outcome"] == "ran"
    scorer.fails = True
    refusal, note = admit(place, "a secret")
    assert refusal.reason == "unavailable" and note["guards"][0]["outcome"] == "failed" and "secret" not in str(note)
    place.ledger.close()


def test_an_answer_that_still_holds_goes_out_untouched(place: Place) -> None:
    released, note = place.answered(lambda: None)
    assert released.text == "So [1]" and note["withdrawn"] == 0
    assert (note["commit"], note["sequence"]) == (1, place.ledger.catalog.pointer().sequence)


def tighten(place: Place, name: str) -> None:
    place.apply(f"tighten {name}", relabelled=(Relabel(name, HR, "test"),))


CHANGES: dict[str, Callable[[Place], Any]] = {
    "relabelled": lambda p: tighten(p, "shop:b.md"),
    "removed": lambda p: p.apply("remove", removed=("shop:b.md",)),
    "expired": lambda p: p.apply("expire", relabelled=(Relabel("shop:b.md", replace(STAFF, expires=1), "test"),)),
    "left the group": lambda p: p.people('["staff"]\nclearance', '["other"]\nclearance'),
    "lost the clearance": lambda p: p.people('clearance = "internal"\npurposes', 'clearance = "public"\npurposes'),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_may_no_longer_be_seen_withdraws_the_whole_answer(place: Place, change: Callable[[Place], Any]) -> None:
    released, note = place.answered(lambda: change(place))
    assert released.text == REFUSAL and released.refused == "no_evidence" and note["withdrawn"] >= 1
    assert not released.citations and not released.evidence
    assert released.label is not None and released.label.readers == {frozenset({"user:bo"})}, "nothing of the evidence"


def test_a_generated_answer_rests_on_all_that_the_model_saw(place: Place) -> None:
    assert place.answered(lambda: tighten(place, "shop:b.md"), cited=1)[0].refused is None, "quoted: only what it cites"
    assert place.answered(lambda: None, mode="generated", cited=1)[0].refused == "no_evidence"


def test_an_edited_document_is_no_reason_to_withdraw(place: Place) -> None:
    edited = document(place.ledger, "shop:b.md", "Another text.")
    assert place.answered(lambda: place.apply("edit", [edited]))[0].refused is None


def test_who_may_no_longer_ask_gets_nothing(place: Place) -> None:
    def forbid() -> None:
        (place.folder / "policies").mkdir()
        (place.folder / "policies" / "a.cedar").write_text('forbid (principal, action == Action::"ask", resource);')

    with pytest.raises(Refused) as caught:
        place.answered(forbid)
    assert caught.value.reason == "policy"


def test_a_broken_edit_in_between_releases_nothing(place: Place) -> None:
    with pytest.raises(SettingsError):
        place.answered(lambda: (place.folder / "users.toml").write_text("[[users"))


def test_a_refusal_stays_what_it_is(place: Place) -> None:
    actor = place.policy.actor("bo")
    with place.ledger.run("question", actor=actor) as run:
        refused = Checked(REFUSAL, (), (), "refused", "not_supported")
        assert place.gate.release(refused, actor, run, purpose="general") is refused
        assert run.notes["release"]["withdrawn"] == 0
        run.close()


def search(place: Place, name: str = "bo") -> tuple[list[str], int]:
    actor = place.policy.actor(name)
    hits = Hits(place.hits, place.evidence, True, 1)
    with place.ledger.run("search", actor=actor) as run:
        released = place.gate.release_hits(hits, actor, run, purpose="general")
        withdrawn = run.notes["release"]["withdrawn"]
        run.close()
    assert [e.hit for e in released.evidence] == list(released.hits)
    return [hit.document for hit in released.hits], withdrawn


def test_hits_are_dropped_one_by_one(place: Place) -> None:
    assert search(place) == (place.names, 0)
    tighten(place, "shop:a.md")
    assert search(place) == (["shop:b.md"], 1)
    place.apply("remove", removed=("shop:b.md",))
    assert search(place) == ([], 2)
    with pytest.raises(Refused):
        search(place, name="mallory")
