"""The laws of labels, as properties, and what a label refuses to be."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drystone.errors import LabelError
from drystone.records import (
    EVERYONE,
    Actor,
    Classification,
    Label,
    Sink,
    Trust,
    format_time,
    join_all,
    parse_time,
    principal,
)

PEOPLE = [EVERYONE, "user:ann", "user:bo", "group:hr", "group:staff"]
clause = st.frozensets(st.sampled_from(PEOPLE), min_size=1, max_size=4)
maybe_set = st.none() | st.frozensets(st.sampled_from(["eu", "us", "in"]), max_size=3)
labels = st.builds(
    Label,
    readers=st.frozensets(clause, min_size=1, max_size=3),
    classification=st.sampled_from(Classification),
    regions=maybe_set,
    purposes=maybe_set,
    expires=st.none() | st.integers(0, 20),
    trust=st.sampled_from(Trust),
)
sinks = st.builds(
    Sink,
    name=st.just("sink"),
    principals=st.frozensets(st.sampled_from(PEOPLE), max_size=4),
    clearance=st.sampled_from(Classification),
    regions=st.frozensets(st.sampled_from(["eu", "us", "in"]), max_size=2),
    purpose=st.none() | st.sampled_from(["eu", "us", "in"]),
    processor=st.booleans(),
    needs_trust=st.sampled_from(Trust),
    purposes=maybe_set,
)
times = st.integers(0, 20)
OPEN = Label(frozenset({frozenset({EVERYONE})}), Classification.public, trust=Trust.trusted)


@given(labels, labels, labels)
def test_join_is_a_join(a: Label, b: Label, c: Label) -> None:
    assert a.join(a) == a
    assert a.join(b) == b.join(a)
    assert a.join(b).join(c) == a.join(b.join(c)) == join_all([a, b, c])
    assert a.join(OPEN) == a, "the loosest label is neutral"
    assert a.join(b).at_least(a) and a.join(b).at_least(b)
    assert not (a.at_least(b) and b.at_least(a)) or a == b


@given(labels, labels, sinks, times)
def test_the_join_flows_where_both_flow(a: Label, b: Label, sink: Sink, at: int) -> None:
    assert bool(a.join(b).flows_to(sink, at)) == (bool(a.flows_to(sink, at)) and bool(b.flows_to(sink, at)))


@given(labels, labels, sinks, times)
def test_a_stricter_label_never_opens(a: Label, b: Label, sink: Sink, at: int) -> None:
    if a.at_least(b) and a.flows_to(sink, at):
        assert b.flows_to(sink, at)


def naive(label: Label, sink: Sink, at: int) -> bool:
    """The table of docs/labels.md, written again without looking at the code."""
    purposes = sink.purposes is None or sink.purpose in sink.purposes
    return (
        (sink.processor or all(EVERYONE in c or c & sink.principals for c in label.readers))
        and label.classification <= sink.clearance
        and (label.regions is None or bool(sink.regions) and sink.regions <= label.regions)
        and purposes
        and (label.purposes is None or sink.purpose in label.purposes)
        and (label.expires is None or at < label.expires)
        and label.trust >= sink.needs_trust
    )


@given(labels, sinks, times)
def test_flows_to_is_its_table_and_says_why_not(label: Label, sink: Sink, at: int) -> None:
    verdict = label.flows_to(sink, at)
    assert verdict.allowed == naive(label, sink, at)
    assert verdict.reason and bool(verdict.part) != verdict.allowed


@given(labels, labels)
def test_equal_labels_have_one_canonical_text(a: Label, b: Label) -> None:
    assert Label.from_interned(a.interned(), a.expires) == a
    assert (a == b) == ((a.interned(), a.expires) == (b.interned(), b.expires))
    assert not any(x < y for x in a.readers for y in a.readers), "no clause that another implies"
    assert a.readers == {frozenset({EVERYONE})} or not any(EVERYONE in c for c in a.readers)


@given(labels.filter(lambda a: a.regions != frozenset() and a.purposes != frozenset()))
def test_what_is_written_is_read_back(a: Label) -> None:
    assert Label.parse(a.to_dict()) == a


def test_everyone_is_said_and_only_then_meant() -> None:
    said = Label.parse({"readers": ["everyone"], "classification": "public"})
    assert said.readers == {frozenset({EVERYONE})}
    assert Label.parse({"readers": ["everyone", "group:hr"], "classification": "public"}) == said
    both = Label.parse({"readers": [["everyone"], ["group:hr"]], "classification": "public"})
    assert both.readers == {frozenset({"group:hr"})}
    typo = Label.parse({"readers": ["Everyone"], "classification": "public"})
    assert typo.readers == {frozenset({"user:Everyone"})}


def test_implied_clauses_go() -> None:
    made = Label.parse({"readers": [["group:hr", "ann"], ["group:hr"], ["bo"]], "classification": "public"})
    assert made.readers == {frozenset({"group:hr"}), frozenset({"user:bo"})}


READERS: list[Any] = [
    None, [], [[]], [["ann"], []], "everyone", b"everyone", {"everyone": 1}, ["ann", ["bo"]], [None], [""], [" "],
    [1], ["group:"], [":x"], ["group: "], [[["ann"]]], [{"ann": 1}], 7,
]  # fmt: skip


@pytest.mark.parametrize("readers", READERS, ids=repr)
def test_no_readers_is_refused_and_never_public(readers: Any) -> None:
    with pytest.raises(LabelError):
        Label.parse({"readers": readers, "classification": "public"})


@pytest.mark.parametrize(
    "parts",
    [
        {"classification": "secret"}, {"classification": None}, {"classification": True}, {"classification": 0},
        {"regions": []}, {"regions": "eu"}, {"regions": [1]}, {"regions": {"eu": 1}}, {"regions": [" "]},
        {"purposes": []}, {"purposes": "support"}, {"trust": None}, {"trust": "very"},
        {"expires": "soon"}, {"expires": True}, {"expires": time(1, 2)}, {"expires": 10**18}, {"expires": 1.5},
        {"region": ["eu"]}, {"purpose": ["support"]}, {"retention": "3y"},
    ],
    ids=repr,
)  # fmt: skip
def test_a_part_that_we_cannot_read_is_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(LabelError):
        Label.parse({"readers": ["everyone"], "classification": "public", **parts})


def test_a_label_without_readers_cannot_be_built() -> None:
    with pytest.raises(LabelError):
        Label(frozenset(), Classification.public)
    with pytest.raises(LabelError):
        Label(frozenset({frozenset()}), Classification.public)
    with pytest.raises(LabelError):
        join_all([])


def test_an_empty_intersection_flows_nowhere() -> None:
    eu, us = ({"readers": ["everyone"], "classification": "public", "regions": [r]} for r in ("eu", "us"))
    nowhere = Label.parse(eu).join(Label.parse(us))
    for region in ("eu", "us"):
        person = Actor("bo", frozenset({"user:bo"}), Classification.restricted, region, None, "test")
        assert nowhere.flows_to(person.sink("any"), 0).part == "regions"


def test_an_endpoint_serves_only_its_purposes() -> None:
    sink = Sink("m", frozenset(), Classification.public, frozenset({"eu"}), "ads", True, purposes=frozenset({"care"}))
    assert OPEN.flows_to(sink, 0).part == "purposes"


def test_an_endpoint_needs_all_its_regions_inside() -> None:
    label = Label.parse({"readers": ["everyone"], "classification": "public", "regions": ["eu"]})
    spread = Sink("m", frozenset(), Classification.public, frozenset({"eu", "us"}), "x", processor=True)
    assert label.flows_to(spread, 0).part == "regions"


@given(st.sampled_from(["ann", "group:hr", "everyone", "customer:42"]), st.sampled_from(["", " "]))
def test_principals_have_one_form(name: str, space: str) -> None:
    assert principal(space + name + space) == principal(name) == principal(principal(name))


@given(st.integers(0, 253_402_300_799_999))
def test_times_are_exact(ms: int) -> None:
    assert parse_time(format_time(ms)) == ms


def test_forms_of_a_time() -> None:
    midnight = parse_time("2027-01-31T00:00:00Z")
    assert parse_time(date(2027, 1, 31)) == parse_time("2027-01-31") == parse_time(datetime(2027, 1, 31)) == midnight
    assert parse_time(datetime(2027, 1, 31, tzinfo=UTC)) == parse_time("2027-01-31T01:00:00+01:00") == midnight
    assert parse_time("2027-01-31T00:00:00.0009Z") == midnight, "finer is cut off, never rounded up"
