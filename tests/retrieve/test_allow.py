"""The mask equals asking ``flows_to`` about every label, and denies what it does not know."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from drystone.records import Classification, Label, Trust
from drystone.retrieve.allow import NEVER, PARTS, Decisions, allowed, documents
from tests.retrieve.house import ANN, BO, EVE, EVERYONE, HR, STAFF, actor

PEOPLE = st.sampled_from(["user:ann", "user:bo", "group:hr", "group:staff", "group:eu", "everyone"])
CLAUSES = st.frozensets(st.frozensets(PEOPLE, min_size=1, max_size=3), min_size=1, max_size=3)
SOME = st.none() | st.frozensets(st.sampled_from(["eu", "local", "us"]), max_size=2)
LABELS = st.builds(
    Label, CLAUSES, st.sampled_from(Classification), SOME, st.none() | st.frozensets(st.sampled_from(["care", "ads"])),
    st.none() | st.integers(0, 20), st.sampled_from(Trust),
)  # fmt: skip
ACTORS = st.sampled_from([ANN, BO, EVE, actor("x", "eu", "hr", region="eu"), actor("y", clearance="restricted")])


@dataclass
class Catalogue:
    labels: list[Label]
    document_label: np.ndarray
    document_source: np.ndarray
    version_document: np.ndarray
    version_from: np.ndarray
    version_to: np.ndarray
    commit: int = 1
    sequence: int = 1
    document_expires: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    sources: list[str] = field(default_factory=lambda: ["docs", "other"])


def catalogue(labels: list[Label], numbers: list[int], source: int = 0) -> Catalogue:
    n = len(numbers)
    ones = np.ones(n, np.int32)
    made = Catalogue(
        labels, np.array(numbers, np.int32), ones * source, np.arange(n, dtype=np.int32), ones * 1, ones * 9
    )
    made.document_expires = np.full(n, NEVER, np.int64)
    return made


@given(st.lists(LABELS, min_size=1, max_size=12), ACTORS, st.sampled_from(["care", "ads", None]), st.integers(0, 25),
       st.integers(0, 12))  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_it_decides_as_flows_to_does(labels: list[Label], who, purpose, at: int, first: int) -> None:  # type: ignore[no-untyped-def]
    sink, decisions = who.sink(purpose), Decisions()
    decisions.extend(labels[:first])
    decisions.codes(sink)  # what is known is kept; only new labels are looked at
    decisions.extend(labels)
    view = catalogue(labels, list(range(len(labels))))
    found = documents(view, decisions.codes(sink), decisions.expires(), at=at, sources=None)  # type: ignore[arg-type]
    assert [PARTS[code] for code in found.code] == [label.flows_to(sink, at).part for label in labels]


def test_what_is_not_known_is_denied() -> None:
    decisions = Decisions()
    decisions.extend([EVERYONE])
    codes, expires = decisions.codes(ANN.sink(None)), decisions.expires()
    view = catalogue([EVERYONE], [0, -1, 7, 0, 0])  # no label; a label that was never evaluated
    view.version_document[3] = -1  # reserved and never used
    view.version_to[4] = 1  # no longer visible
    out = allowed(view, documents(view, codes, expires, at=0, sources=None))  # type: ignore[arg-type]
    assert out.versions.tolist() == [True, False, False, False, False]
    assert out.rows(np.array([0, 1, -1, 99], np.int32)).tolist() == [True, False, False, False]
    for scope, late in ((("other",), ()), ((), ()), (None, ("docs",))):
        shut = documents(view, codes, expires, at=0, sources=scope, stale=late)  # type: ignore[arg-type]
        assert not allowed(view, shut).versions.any()  # type: ignore[arg-type]
    view.document_source[:] = -1
    shut = documents(view, codes, expires, at=0, sources=None)  # type: ignore[arg-type]
    assert not allowed(view, shut).versions.any()  # type: ignore[arg-type]


def test_another_catalogue_starts_anew() -> None:
    decisions = Decisions()
    decisions.extend([EVERYONE, HR])
    assert decisions.codes(BO.sink(None)).tolist()[0] == 0
    decisions.extend([HR, STAFF])
    assert [PARTS[c] for c in decisions.codes(BO.sink(None))] == ["classification", ""]


def test_time_says_how_long_a_mask_holds() -> None:
    decisions = Decisions()
    decisions.extend([EVERYONE])
    view = catalogue([EVERYONE], [0, 0])
    view.document_expires[1] = 50
    codes, expires = decisions.codes(BO.sink(None)), decisions.expires()
    assert allowed(view, documents(view, codes, expires, at=10, sources=None)).until == 50  # type: ignore[arg-type]
    assert allowed(view, documents(view, codes, expires, at=50, sources=None)).readable == 1  # type: ignore[arg-type]
