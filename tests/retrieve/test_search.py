"""The retriever over real rooms: who sees what, when, and what it says about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from drystone.errors import NotFound, Refused, UsageError
from drystone.records import Actor, Label, Request
from drystone.settings import SourceConfig, defaults
from tests.retrieve.house import ANN, BO, EVE, EVERYONE, HR, STAFF, House, actor

TEXTS = {
    "returns": ("Items may be returned within 45 days of delivery. Keep the receipt.", EVERYONE),
    "salaries": ("Salaries are paid on the 25th. Bonus letters go out in March.", HR),
    "canteen": ("The canteen opens at noon. Soup costs three euros on delivery days.", STAFF),
}


def names(hits: object) -> set[str]:
    return {hit.document for hit in hits.hits}  # type: ignore[attr-defined]


def test_each_sees_what_its_rights_allow(house: House) -> None:
    house.put(TEXTS)
    assert names(house.search("salaries delivery canteen returned", ANN)) == {f"docs:{n}" for n in TEXTS}
    assert names(house.search("salaries delivery canteen returned", BO)) == {"docs:returns", "docs:canteen"}
    hits = house.search("salaries delivery canteen returned", EVE)
    assert names(hits) == {"docs:returns"} and hits.exact
    assert house.noted["in_scope"] == 3 and house.noted["readable"] == 1
    assert house.noted["withheld"] == {"classification": 1, "readers": 1}
    assert hits.hits[0].text == TEXTS["returns"][0] and hits.hits[0].label == EVERYONE


def test_without_an_actor_there_are_no_results(house: House) -> None:
    house.put(TEXTS)
    request = Request("returns", EVERYONE, "general", "auto", None, ())
    with house.ledger.run("search", actor=BO) as run:
        for nobody in (None, "bo"):
            with pytest.raises(Refused):
                house.retriever.search(request, nobody, run)  # type: ignore[arg-type]
        run.close()


@pytest.mark.parametrize("commit", ["1", True, 1.0, -1, 99])
def test_a_commit_that_is_none(house: House, commit: object) -> None:
    house.put(TEXTS)
    with pytest.raises((UsageError, NotFound)):
        house.search("returned", BO, as_of=commit)


def test_an_empty_store_gives_nothing(house: House) -> None:
    hits = house.search("anything", ANN, kind="question_like")
    assert hits.hits == () and hits.evidence == () and hits.confidence == 0.0


def test_a_relabel_an_edit_and_a_removal_are_seen_by_the_next_question(house: House) -> None:
    first = house.put(TEXTS)
    other = house.another()
    assert names(house.search("returned delivery", EVE)) == {"docs:returns"}
    house.put({}, relabelled={"returns": HR})
    assert names(house.search("returned delivery", EVE)) == set()
    assert names(house.found(other, "returned delivery", EVE)[0]) == set()
    assert names(house.found(other, "returned delivery", EVE, as_of=first)[0]) == set()  # released under labels of now
    assert names(house.found(other, "returned delivery", ANN, as_of=first)[0]) >= {"docs:returns"}
    house.put({"canteen": ("The canteen is closed for the winter.", STAFF)})
    assert [h.text for h in house.search("canteen", BO).hits] == ["The canteen is closed for the winter."]
    assert "Soup" in house.search("canteen", BO, as_of=first).hits[0].text
    house.put({}, removed=["canteen"])
    assert names(house.search("canteen", BO)) == set()


def test_labels_of_then_hold_too(house: House) -> None:
    first = house.put({"memo": ("The merger is planned for May.", HR)})
    house.put({}, relabelled={"memo": EVERYONE})
    assert names(house.search("merger", EVE)) == {"docs:memo"}
    assert names(house.search("merger", EVE, as_of=first)) == set()


def test_what_expired_or_is_for_another_purpose_or_region_has_no_hits(house: House) -> None:
    soon = house.ledger.now() + 600_000
    base = {"readers": ["everyone"], "classification": "public"}
    house.put(
        {
            "old": ("Stove manual one.", Label.parse({**base, "expires": house.ledger.now() - 1})),
            "now": ("Stove manual two.", Label.parse({**base, "expires": soon})),
            "care": ("Stove manual three.", Label.parse({**base, "purposes": ["care"]})),
            "far": ("Stove manual four.", Label.parse({**base, "regions": ["eu"]})),
        }
    )
    assert names(house.search("stove manual", BO)) == {"docs:now"}
    assert names(house.search("stove manual", BO, purpose="care")) == {"docs:now", "docs:care"}
    assert names(house.search("stove manual", actor("cy", "staff", region="eu"))) == {"docs:now", "docs:far"}
    later = soon + 1
    house.ledger.now = lambda: later  # type: ignore[method-assign]
    assert names(house.search("stove manual", BO)) == set()


def test_scope_of_an_assistant(house: House) -> None:
    house.put({"a": ("A lamp is red.", EVERYONE)})
    house.put({"b": ("A lamp is blue.", EVERYONE)}, source="other")
    assert names(house.search("lamp", BO, sources=("other",))) == {"other:b"}
    assert house.noted["in_scope"] == 1
    assert names(house.search("lamp", BO, sources=())) == set()


def test_permissions_of_a_source_that_are_too_old_are_not_believed(tmp_path: Path) -> None:
    settings = defaults(tmp_path / "h")
    source = SourceConfig("docs", "files", "ann", "source", 60.0, False, False, (), {}, {})
    house = House(
        tmp_path / "h", settings=type(settings)(settings.folder, settings.values, settings.origins, (source,))
    )
    house.put(TEXTS)
    assert names(house.search("returned delivery", EVE)) == {"docs:returns"}
    later = house.ledger.now() + 61_000
    house.ledger.now = lambda: later  # type: ignore[method-assign]
    assert names(house.search("returned delivery", EVE)) == set()
    assert house.noted["withheld"]["stale"] == 1
    house.put({})  # an ingestion that finds nothing new has still read the permissions
    assert names(house.search("returned delivery", EVE)) == {"docs:returns"}
    house.close()


def test_a_language_that_was_not_measured_is_searched_by_words_and_it_says_so(house: House) -> None:
    house.put({"hi": ("ग्राहक पैंतालीस दिन में सामान लौटा सकते हैं।", EVERYONE), **TEXTS})
    hits = house.search("सामान लौटा", BO)
    assert names(hits) == {"docs:hi"}
    assert any(note.startswith("language:hi") for note in hits.notes)


def test_evidence_is_a_sentence_of_its_document(house: House) -> None:
    house.put(TEXTS)
    hits = house.search("Within how many days may items be returned?", BO, kind="question_like")
    best = hits.evidence[0]
    assert best.quote == "Items may be returned within 45 days of delivery."
    assert TEXTS["returns"][0][best.start : best.end] == best.quote and best.around == TEXTS["returns"][0]
    assert 0 < hits.confidence < 1 and all(0 <= e.score <= 1 for e in hits.evidence)
    nothing = house.search("Which zebra piloted the submarine?", BO, kind="question_like")
    assert nothing.confidence < hits.confidence
    assert house.search("returned", BO).evidence == ()  # a plain search embeds no sentences


def test_what_is_revoked_while_it_is_searched_is_dropped(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.put(TEXTS)
    plain = type(house.retriever)._hits

    def revoked(self: object, *args: object) -> object:
        found = plain(self, *args)  # type: ignore[arg-type]
        house.put({}, relabelled={"returns": HR})
        return found

    monkeypatch.setattr(type(house.retriever), "_hits", revoked)
    assert names(house.search("returned delivery canteen", BO, kind="question_like")) == {"docs:canteen"}


def test_an_actor_is_a_record_and_not_a_look_alike(house: House) -> None:
    house.put(TEXTS)
    assert isinstance(BO, Actor)
    assert names(house.search("returned", actor("returns"))) == {"docs:returns"}


def test_a_source_that_is_not_configured_any_more_has_no_hits(house: House) -> None:
    first = house.put({"a": ("A lamp is red.", EVERYONE)})
    house.put({"z": ("A lamp is green.", EVERYONE)}, source="gone")
    assert names(house.search("lamp", BO)) == {"docs:a"}
    assert names(house.search("lamp", BO, sources=("gone",))) == set()
    assert names(house.search("lamp", BO, as_of=first + 1)) == {"docs:a"}
