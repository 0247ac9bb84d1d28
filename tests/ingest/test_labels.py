"""Labels at the door: who says what, and that each can only tighten."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drystone.errors import SettingsError, Unlabelled
from drystone.ingest.labels import Door, Parts
from drystone.records import Item, Label
from tests.ingest.build import config

YEAR = 31_557_600_000


def item(name: str, permissions: Any = None, beside: Any = None) -> Item:
    return Item(name, "f", 1, "text/plain", "", permissions, beside)


def label(door: Door, *given_item: Any, first_seen: int = 0) -> tuple[dict[str, Any], str]:
    found, origin, _ = door.label(item(*given_item), first_seen)
    return found.to_dict(), origin


def test_the_first_rule_that_matches_counts() -> None:
    door = Door(config())
    assert label(door, "hr/pay.md") == (
        {"readers": [["group:hr"]], "classification": "confidential", "trust": "untrusted"},
        'rule 1 "hr/**" of source docs',
    )
    assert label(door, "x.md")[1] == 'rule 2 "**" of source docs'


def test_what_has_no_label_is_refused_with_where_we_looked() -> None:
    door = Door(config(rules=({"match": "a/**", "readers": ["everyone"]},)))
    with pytest.raises(Unlabelled, match='readers and a classification.*sidecar "b.md.label.toml".*1 rules'):
        door.label(item("b.md"), 0)
    with pytest.raises(Unlabelled, match="Nothing gives it a classification"):
        door.label(item("a/b.md"), 0)


def test_a_sidecar_labels_and_tightens_but_never_loosens() -> None:
    door = Door(config(rules=({"match": "hr/**", "readers": ["group:hr"], "classification": "confidential"},)))
    full = {"readers": ["everyone"], "classification": "public", "trust": "trusted"}
    assert label(door, "a.md", None, full) == (  # whoever can write the folder does not make their words trusted
        {"readers": [["everyone"]], "classification": "public", "trust": "untrusted"}, 'sidecar "a.md.label.toml"')  # fmt: skip
    found, origin = label(door, "hr/a.md", None, full)
    assert found["readers"] == [["group:hr"]] and found["classification"] == "confidential"
    assert origin == 'sidecar "hr/a.md.label.toml" and rule 1 "hr/**" of source docs'
    assert label(door, "hr/b.md", None, {"regions": ["eu"]})[0]["regions"] == ["eu"]
    for broken in ({"": "no TOML"}, {"readers": []}, {"classification": "secret"}, {"reader": ["x"]}, {"expires": "x"}):
        with pytest.raises(Unlabelled, match="Its label cannot be used"):
            door.label(item("hr/a.md", None, broken), 0)


def test_with_the_sources_permissions_rules_may_only_tighten() -> None:
    rules = ({"match": "**", "readers": ["group:staff"], "classification": "internal"},)
    door = Door(config(permissions="source", rules=rules))
    found, origin = label(door, "a.md", {"readers": [["user:bo", "everyone"]]})
    assert found["readers"] == [["group:staff"]] and origin.startswith("permissions of source docs and rule 1")
    assert label(door, "a.md", {"readers": [["user:bo"]]})[0]["readers"] == [["group:staff"], ["user:bo"]]
    for nothing in (None, {}, {"readers": [[]]}, {"readers": []}, {"classification": "public"}):
        with pytest.raises(Unlabelled):
            door.label(item("a.md", nothing), 0)


def test_the_sources_table_fills_what_is_lacking() -> None:
    fill = {"classification": "restricted", "regions": ["eu"]}
    door = Door(config("rows", rules=(), fill=fill))
    found, origin = label(door, "1", {"readers": ["group:hr"]})
    assert found["classification"] == "restricted" and found["regions"] == ["eu"]
    assert origin == "columns of source docs and source docs"
    assert label(door, "2", {"readers": ["a"], "classification": "public"})[0]["classification"] == "public"


def test_retention_counts_from_the_first_sight_and_the_earlier_end_counts() -> None:
    rule = {"match": "**", "readers": ["everyone"], "classification": "public", "retention": "3y"}
    door = Door(config(rules=(rule,)))
    assert door.label(item("a"), 1000)[0].expires == 1000 + 3 * YEAR
    early = door.label(item("a", None, {"expires": "1970-01-02T00:00:00Z"}), 1000)
    assert early[0].expires == 86_400_000
    assert door.label(item("a", None, {"retention": "1y"}), 0)[0].expires == YEAR


def test_a_wrong_rule_is_said_before_anything_is_read() -> None:
    for wrong in ({"readers": []}, {"classification": "secret"}, {"retention": "soon"}, {"expires": "never"}):
        with pytest.raises(SettingsError, match="rule 1"):
            Door(config(rules=({"match": "**", **wrong},)))


parts = st.fixed_dictionaries(
    {},
    optional={
        "readers": st.lists(st.sampled_from(["a", "group:b", "everyone"]), min_size=1, max_size=2),
        "classification": st.sampled_from(["public", "internal", "restricted"]),
        "regions": st.lists(st.sampled_from(["eu", "us"]), min_size=1, max_size=2),
        "expires": st.integers(0, 1000),
        "trust": st.sampled_from(["trusted", "untrusted"]),
    },
)


@given(parts, parts)
def test_a_rule_never_loosens(said: dict[str, Any], rule: dict[str, Any]) -> None:
    """The label is at least as strict as what each of them would give alone, and silent parts change nothing."""
    both = Parts.parse(said).join(Parts.parse(rule))
    assert both.label.at_least(Parts.parse(said).label) and both.label.at_least(Parts.parse(rule).label)
    assert Parts.parse(said).join(Parts.parse({})) == Parts.parse(said)
    assert both.named == set(said) | set(rule)
    if {"readers", "classification", "trust"} <= set(said):
        assert Parts.parse(said).label == Label.parse(said)
