"""The catalogue: what is visible when, under which label; idempotent, incremental, never backwards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from drystone.errors import LedgerError, NotFound
from drystone.ledger import Ledger
from drystone.ledger.catalog import NEVER, Catalog, View
from drystone.ledger.runs import Run
from drystone.records import Failure, Label, Quarantined, Relabel
from tests.ledger.build import BO, HR, STAFF, change, document, label, open_ledger

A, B, C = "docs:a.md", "docs:b.md", "docs:c.md"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    found = open_ledger(tmp_path)
    yield found
    found.close()


@pytest.fixture
def run(ledger: Ledger) -> Iterator[Run]:
    with ledger.run("test", actor=BO) as found:
        yield found
        found.close()


def visible(view: View) -> set[int]:
    return set(np.flatnonzero(view.visible()).tolist())


def bring(ledger: Ledger, run: Run, key: str, documents: dict[str, str], **more: Any) -> int:
    made = [document(ledger, name, content) for name, content in documents.items()]
    return ledger.catalog.apply(change(ledger, key, made, **more), run).commit


def test_an_empty_catalogue(ledger: Ledger) -> None:
    pointer, view = ledger.catalog.pointer(), ledger.catalog.view()
    assert (pointer.commit, pointer.sequence, dict(pointer.tables), pointer.generation) == (0, 0, {}, None)
    assert len(view.version_document) == 0 and visible(view) == set()
    assert ledger.catalog.known("docs") == {} and ledger.catalog.document(A) is None


def test_versions_have_intervals(ledger: Ledger, run: Run) -> None:
    bring(ledger, run, "1", {A: "one", B: "two"}, tables={"chunks": 4}, generation="g:1", policy="sha256:p")
    bring(ledger, run, "2", {A: "changed"}, removed=(B,))
    catalog = ledger.catalog
    assert visible(catalog.view(0)) == set()
    assert visible(catalog.view(1)) == {0, 1} and visible(catalog.view(2)) == visible(catalog.view()) == {2}
    pointer = catalog.pointer()
    assert (pointer.commit, dict(pointer.tables), pointer.generation) == (2, {"chunks": 4}, "g:1")
    assert pointer.policy == "sha256:p"
    assert catalog.at(1).sequence == 1 and catalog.generations() == ["g:1"]
    now, then = catalog.document(A), catalog.document(A, 1)
    assert now and then and (now.version.number, then.version.number) == (2, 0)
    assert (then.version.from_commit, then.version.to_commit, now.version.to_commit) == (1, 2, None)
    assert catalog.document(B) is None and catalog.document(B, 1) is not None
    found = catalog.versions([1, 2, 77])
    assert set(found) == {1, 2} and found[2].document == A and found[2].chunk_first == 4 and found[2].chunk_count == 2
    assert now.version.title == f"Title of {A}" and now.source == "docs"


def test_the_same_key_again_changes_nothing(ledger: Ledger, run: Run) -> None:
    first = change(ledger, "same", [document(ledger, A, "one")], tables={"chunks": 1})
    pointer = ledger.catalog.apply(first, run)
    bring(ledger, run, "next", {B: "two"}, tables={"chunks": 2})
    assert ledger.catalog.apply(first, run) == pointer
    assert ledger.catalog.pointer().commit == 2


def test_a_change_that_fails_leaves_nothing(ledger: Ledger, run: Run) -> None:
    bring(ledger, run, "1", {A: "one"})
    before = ledger.catalog.pointer()
    made = [document(ledger, B, "two")]
    with pytest.raises(NotFound):
        ledger.catalog.apply(change(ledger, "2", made, relabelled=(Relabel("docs:none", HR, "r"),)), run)
    assert ledger.catalog.pointer() == before and ledger.catalog.document(B) is None
    with pytest.raises(LedgerError):
        ledger.catalog.apply(replace(change(ledger, "3", made), chunk_count=()), run)
    bring(ledger, run, "2", {B: "two"})
    assert ledger.catalog.pointer().commit == 2


def test_tables_never_point_back(ledger: Ledger, run: Run) -> None:
    bring(ledger, run, "1", {A: "one"}, tables={"chunks": 9, "documents": 2})
    bring(ledger, run, "2", {B: "two"}, tables={"chunks": 7})
    assert dict(ledger.catalog.pointer().tables) == {"chunks": 9, "documents": 2}
    moved = ledger.catalog.retable({"chunks": 12})
    assert (moved.commit, moved.sequence, moved.tables["chunks"]) == (2, 3, 12) and ledger.catalog.pointer() == moved
    assert ledger.catalog.retable({"chunks": 11}) == moved
    assert bring(ledger, run, "3", {C: "three"}) == 3 and ledger.catalog.pointer().sequence == 4


def test_reserved_integers_are_never_given_twice(ledger: Ledger) -> None:
    first, second = ledger.catalog.reserve(versions=3, chunks=10), ledger.catalog.reserve(versions=1, chunks=5)
    assert (first.versions, second.versions, first.chunks, second.chunks) == (0, 3, 0, 10)


def test_gaps_are_nothing(ledger: Ledger, run: Run) -> None:
    ledger.catalog.reserve(versions=5)
    bring(ledger, run, "1", {A: "one"})
    view = ledger.catalog.view()
    assert visible(view) == {5} and view.version_document.tolist() == [-1] * 5 + [0]
    assert not view.version_from.flags.writeable


def test_known_and_touch(ledger: Ledger, run: Run) -> None:
    bring(ledger, run, "1", {A: "one", "other:x": "x"})
    known = ledger.catalog.known("docs")
    assert set(known) == {A}
    assert known[A].fingerprint == "print of one" and known[A].digest == ledger.digest("b", "one")
    assert known[A].label == known[A].base == STAFF and not known[A].override and known[A].label_origin == "rule 1"
    ledger.catalog.touch({A: "newer", "docs:unknown": "x"})
    assert ledger.catalog.known("docs")[A].fingerprint == "newer" and ledger.catalog.pointer().commit == 1


def test_first_seen_outlives_removal_and_renaming(ledger: Ledger, run: Run) -> None:
    bring(ledger, run, "1", {A: "one"})
    since = ledger.catalog.known("docs")[A].first_seen
    bring(ledger, run, "2", {}, removed=(A,))
    moved = document(ledger, B, "one", renamed_from=A)
    ledger.catalog.apply(change(ledger, "3", [moved]), run)
    bring(ledger, run, "4", {A: "again"})
    assert {k.first_seen for k in ledger.catalog.known("docs").values()} == {since}
    assert ledger.catalog.first_seen("docs") == {A: since, B: since}
    found = ledger.catalog.document(B)
    assert found and found.version.renamed_from == A


def test_a_relabel_is_one_commit_and_the_past_keeps_its_labels(ledger: Ledger, run: Run) -> None:
    bring(ledger, run, "1", {A: "one", B: "two"})
    expiring = label(("group:hr",), "confidential", expires="2027-01-01T00:00:00Z")
    pointer = ledger.catalog.apply(change(ledger, "2", relabelled=(Relabel(A, expiring, "rule 2"),)), run)
    assert pointer.commit == 2
    now, then = ledger.catalog.view(), ledger.catalog.view(1)
    assert now.label(0) == expiring and now.label(1) == STAFF and then.label(0) == STAFF
    assert now.document_expires.tolist() == [expiring.expires, NEVER]
    assert visible(now) == visible(then) == {0, 1}
    with pytest.raises(NotFound):
        ledger.catalog.view(3)


def labelled(ledger: Ledger, name: str) -> Label:
    found = ledger.catalog.document(name)
    assert found is not None
    return found.label


def override(ledger: Ledger, run: Run, key: str, name: str, new: Label) -> None:
    ledger.catalog.apply(change(ledger, key, relabelled=(Relabel(name, new, "by olga", override=True),)), run)


def test_an_override_survives_edits_renames_copies_and_rules(ledger: Ledger, run: Run) -> None:
    bring(ledger, run, "1", {A: "one"})
    override(ledger, run, "2", A, HR)
    known = ledger.catalog.known("docs")[A]
    assert known.label == HR and known.base == STAFF and known.override and known.label_origin == "by olga"
    bring(ledger, run, "3", {A: "edited"})
    assert labelled(ledger, A) == HR
    bring(ledger, run, "4", {B: "edited", C: "one"}, removed=(A,))  # a rename, and a copy of the older bytes
    assert labelled(ledger, B) == labelled(ledger, C) == HR.join(STAFF)
    asked = [(f"docs:new {content}", ledger.digest("b", content), "", STAFF) for content in ("one", "edited", "other")]
    assert ledger.catalog.in_force(asked) == [HR.join(STAFF), HR.join(STAFF), STAFF], "before it is there"
    inside = [(A, "b:x", "", STAFF), ("docs:in", "b:y", A, STAFF), ("docs:deep", "b:z", "docs:in", STAFF)]
    assert (
        ledger.catalog.in_force(inside)
        == [HR.join(STAFF)] * 3
        == ledger.catalog.in_force(inside[1:]) + [HR.join(STAFF)]
    )
    public = label(("everyone",), "public")
    ledger.catalog.apply(change(ledger, "5", relabelled=(Relabel(B, public, "rule 9"),)), run)
    assert labelled(ledger, B) == HR.join(public)
    bring(ledger, run, "6", {A: "something new"})
    assert labelled(ledger, A) == HR


def test_an_override_holds_for_copies_at_once(ledger: Ledger, run: Run) -> None:
    bring(ledger, run, "1", {A: "same", B: "same", C: "other"})
    override(ledger, run, "2", A, HR)
    assert labelled(ledger, B) == HR.join(STAFF) and labelled(ledger, C) == STAFF
    override(ledger, run, "3", B, STAFF)  # decided for B alone, later
    assert (labelled(ledger, A), labelled(ledger, B)) == (HR, STAFF)
    bring(ledger, run, "4", {C: "same"})
    assert labelled(ledger, C) == HR.join(STAFF)
    override(ledger, run, "5", A, STAFF)
    assert labelled(ledger, A) == labelled(ledger, C) == STAFF
    known = ledger.catalog.known("docs")
    assert known[C].label_origin == "rule 1" and not known[C].override
    override(ledger, run, "6", A, HR)
    bring(ledger, run, "7", {A: "other bytes", C: "other bytes"})
    assert labelled(ledger, C) == HR.join(STAFF)


def test_a_loosening_override_holds_only_for_what_was_seen(ledger: Ledger, run: Run) -> None:
    ledger.catalog.apply(change(ledger, "1", [document(ledger, A, "one", HR)]), run)
    public = label(("everyone",), "public")
    override(ledger, run, "2", A, public)
    assert labelled(ledger, A) == public
    assert ledger.catalog.in_force([("docs:new", ledger.digest("b", "one"), "", HR)]) == [HR]
    ledger.catalog.apply(change(ledger, "3", [document(ledger, A, "two", HR), document(ledger, B, "one", HR)]), run)
    assert labelled(ledger, A) == public and labelled(ledger, B) == HR  # it does not follow the bytes
    stricter = label(("group:hr",), "restricted")
    ledger.catalog.apply(change(ledger, "4", relabelled=(Relabel(A, stricter, "rule 2"),)), run)
    assert labelled(ledger, A) == stricter
    ledger.catalog.apply(change(ledger, "5", relabelled=(Relabel(A, HR, "rule 1"),)), run)
    assert labelled(ledger, A) == public


def test_the_last_override_counts(ledger: Ledger, run: Run) -> None:
    bring(ledger, run, "1", {A: "one"})
    override(ledger, run, "2", A, HR)
    override(ledger, run, "3", A, STAFF)
    assert labelled(ledger, A) == STAFF
    override(ledger, run, "4", A, label(("everyone",), "public"))
    assert labelled(ledger, A) == label(("everyone",), "public")


def test_a_label_that_stays_opens_no_interval(ledger: Ledger, run: Run) -> None:
    bring(ledger, run, "1", {A: "one"})
    bring(ledger, run, "2", {A: "two"})
    ledger.catalog.apply(change(ledger, "3", relabelled=(Relabel(A, STAFF, "rule 1"),)), run)
    count = ledger.database.read().execute("SELECT count(*) FROM label_intervals").fetchone()[0]
    assert count == 1


def test_quarantine_lasts_until_the_document_comes_in(ledger: Ledger, run: Run) -> None:
    bad = [Quarantined(Failure(name, "malformed", "unexpected end"), "p", "t:1") for name in (A, B)]
    ledger.catalog.quarantine("docs", bad)
    found = {name: replace(lies, since=0) for name, lies in ledger.catalog.failures("docs").items()}
    assert found == {A: bad[0], B: bad[1]} and ledger.catalog.failures("other") == {}
    bring(ledger, run, "1", {A: "repaired"})
    ledger.catalog.quarantine("docs", [], cleared=[B])
    assert ledger.catalog.failures("docs") == {}


OTHER = """
import sys
from pathlib import Path
from tests.ledger.build import BO, change, document, open_ledger
ledger = open_ledger(Path(sys.argv[1]))
with ledger.run("test", actor=BO) as run:
    for n in range(10):
        name = f"{sys.argv[2]}{n}"
        ledger.catalog.apply(change(ledger, name, [document(ledger, f"docs:{name}", "x")]), run)
    run.close()
ledger.close()
"""


def test_two_processes_see_each_other(ledger: Ledger, run: Run, tmp_path: Path) -> None:
    bring(ledger, run, "here", {A: "one"})
    assert len(ledger.catalog.view().version_document) == 1
    work = [subprocess.Popen([sys.executable, "-c", OTHER, str(tmp_path), name]) for name in ("x", "y")]
    assert [process.wait(30) for process in work] == [0, 0]
    assert ledger.catalog.pointer().commit == 21 == ledger.catalog.view().commit
    assert len(ledger.catalog.known("docs")) == 21 == len(visible(ledger.catalog.view()))


def same(one: View, two: View) -> None:
    for name in View.__slots__:
        left, right = getattr(one, name), getattr(two, name)
        assert np.array_equal(left, right) if isinstance(left, np.ndarray) else left == right, name


NAMES, CONTENTS = st.sampled_from([A, B, C]), st.sampled_from(["one", "two", "three"])
LABELS = st.sampled_from([STAFF, HR, label(("everyone",), "public"), label(expires="2027-01-01T00:00:00Z")])


class Histories(RuleBasedStateMachine):
    """Any series of changes: the catalogue equals a plain model, and what is built in steps what is built anew."""

    folder: Path

    @initialize()
    def start(self) -> None:
        self.folder = Path(type(self).folder) / str(id(self))
        self.folder.mkdir()
        self.ledger = open_ledger(self.folder)
        self.run = self.ledger.run("test", actor=BO)
        self.truth: dict[str, tuple[str, Label]] = {}
        self.past: list[dict[str, tuple[str, Label]]] = [{}]

    def apply(self, **parts: Any) -> None:
        key = str(len(self.past))
        assert self.ledger.catalog.apply(change(self.ledger, key, **parts), self.run).commit == len(self.past)
        self.past.append(dict(self.truth))

    @rule(brought=st.dictionaries(NAMES, st.tuples(CONTENTS, LABELS)), removed=st.sets(NAMES))
    def commit(self, brought: dict[str, tuple[str, Label]], removed: set[str]) -> None:
        for name in removed:
            self.truth.pop(name, None)
        self.truth |= brought
        made = [document(self.ledger, name, content, given) for name, (content, given) in brought.items()]
        self.apply(documents=made, removed=tuple(sorted(removed)))

    @rule(name=NAMES, given=LABELS)
    def relabel(self, name: str, given: Label) -> None:
        if name in self.truth:
            self.truth[name] = (self.truth[name][0], given)
            self.apply(relabelled=(Relabel(name, given, "rule"),))

    @rule()
    def open_again(self) -> None:
        self.ledger.close()
        self.ledger = open_ledger(self.folder)
        self.run = self.ledger.run("test", actor=BO)

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "ledger"):
            return
        catalog = self.ledger.catalog
        assert {n: (k.digest, k.label) for n, k in catalog.known("docs").items()} == {
            n: (self.ledger.digest("b", content), given) for n, (content, given) in self.truth.items()
        }
        same(catalog.view(), Catalog(self.ledger).view())
        for commit in {len(self.past) - 1, len(self.past) // 2}:
            view = catalog.view(commit)
            shown = catalog.versions([int(v) for v in np.flatnonzero(view.visible())])
            found = {
                state.document: (state.asset, view.label(int(view.version_document[number])))
                for number, state in shown.items()
            }
            assert found == {
                n: (self.ledger.digest("b", content), given) for n, (content, given) in self.past[commit].items()
            }
            seen = {name for past in self.past[: commit + 1] for name in past}  # a removed one keeps its last label
            assert int((view.document_label >= 0).sum()) == len(seen)

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()


def test_any_history(tmp_path: Path) -> None:
    Histories.folder = tmp_path
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=8, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
