"""Lineage: forward and back over what was written and what follows from the catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drystone.ledger import Ledger, lineage
from drystone.ledger.lineage import Node, kind_of
from tests.ledger.build import BO, change, document, open_ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    found = open_ledger(tmp_path)
    yield found
    found.close()


def refs(nodes: list[Node]) -> set[str]:
    return {node.ref for node in nodes}


def test_forward_and_back(ledger: Ledger) -> None:
    made = document(ledger, "docs:a.md", "one")
    chunk, answer, adapter = ledger.digest("c", "1"), ledger.digest("passport", "1"), ledger.digest("a", "1")
    with ledger.run("test", actor=BO) as run:
        ledger.catalog.apply(change(ledger, "1", [made]), run)
        ledger.catalog.apply(change(ledger, "2", [document(ledger, "docs:a.md", "two")]), run)
        run.edge(chunk, "chunk", of=[made.version])
        run.edge(answer, "evidence", of=[chunk])
        run.edge(adapter, "trained", of=[chunk, answer], transform="t:train")
        assert ledger.reach(chunk) == []  # not before it is durable
        run.close()
    assert {node.kind for node in ledger.reach("docs:a.md")} == {
        "version", "chunks", "snapshots", "chunk", "answer", "adapter",
    }  # fmt: skip
    assert Node(made.version, "chunks", 2) in ledger.reach("docs:a.md")
    assert Node("shop@1..1", "snapshots", 1) in ledger.reach(made.version)
    assert refs(ledger.reach(made.asset.digest)) >= {made.version, chunk, answer, adapter}
    assert refs(ledger.origin(adapter)) == {chunk, answer, made.version, "docs:a.md", made.asset.digest, run.id}
    assert ledger.reach(adapter) == [] and ledger.reach("docs:unknown") == [] and ledger.origin("docs:a.md") == []
    assert ledger.reach(chunk)[0].to_dict() == {"ref": answer, "kind": "answer", "count": 1}


def test_a_run_that_fails_still_says_what_it_made(ledger: Ledger) -> None:
    with pytest.raises(ZeroDivisionError), ledger.run("test", actor=BO) as run:
        run.edge(ledger.digest("c", "1"), "chunk", of=[ledger.digest("v", "1")])
        _ = 1 / 0
    assert refs(ledger.reach(ledger.digest("v", "1"))) == {ledger.digest("c", "1")}


def test_a_name_that_looks_like_an_id_is_a_document() -> None:
    assert kind_of("c:notes.md") == kind_of("v:1") == kind_of("docs:AAAAAAAAAAAAAAAAAAAAAA") == "document"
    assert kind_of("c:AAAAAAAAAAAAAAAAAAAAAA") == "chunk" and kind_of("passport:AAAAAAAAAAAAAAAAAAAAAA") == "answer"


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25))
def test_both_directions_equal_a_plain_search(ledger: Ledger, pairs: list[tuple[int, int]]) -> None:
    edges = {(f"n:{made}", f"n:{of}") for made, of in pairs}  # circles too
    ledger.database.write(lambda c: c.execute("DELETE FROM edges"))
    ledger.database.write(lambda c: lineage.connect(c, [(m, o, "made", "") for m, o in sorted(edges)], "r:1"))

    def search(start: str, forward: bool) -> set[str]:
        found, todo = {start}, [start]
        while todo:
            at = todo.pop()
            todo += (new := {(m if forward else o) for m, o in edges if (o if forward else m) == at} - found)
            found |= new
        return found - {start}

    for n in range(10):
        assert refs(ledger.reach(f"n:{n}")) == search(f"n:{n}", True)
        runs = {"r:1"} & refs(ledger.origin(f"n:{n}"))
        assert refs(ledger.origin(f"n:{n}")) - runs == search(f"n:{n}", False)
