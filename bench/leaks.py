"""Forbidden hits in 1,000,000 actor-question cases over 10,000 rows: must be none; with the filter off, some.

    python -m bench.leaks [--quick] [--out FILE]

1,000 actors with their own rights over 400 labels, 1,000 questions each, in the product's own mask, words and fusion.
What is forbidden is decided a second time, by ``Label.flows_to`` on each hit. One JSON document is the last line.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from drystone.ledger.view import NEVER, OPEN, View
from drystone.records import Actor, Classification, Label, Trust
from drystone.retrieve import fuse
from drystone.retrieve.allow import Decisions, allowed, documents
from drystone.retrieve.scan import Vectors
from drystone.retrieve.words import Postings, Words

ROWS, D = 10_000, 32


def labels(rng: np.random.Generator, count: int) -> list[Label]:
    def clause() -> frozenset[str]:
        return frozenset(f"group:{n}" for n in rng.integers(0, 40, rng.integers(1, 4))) | (
            {"everyone"} if rng.random() < 0.1 else set()
        )

    return [
        Label(
            readers=frozenset(clause() for _ in range(rng.integers(1, 3))),
            classification=Classification(int(rng.integers(0, 4))),
            regions=None if rng.random() < 0.7 else frozenset({"eu"} if rng.random() < 0.5 else {"eu", "us"}),
            purposes=None if rng.random() < 0.8 else frozenset({"care"}),
            trust=Trust(int(rng.integers(0, 2))),
        )
        for _ in range(count)
    ]


def actors(rng: np.random.Generator, count: int) -> list[Actor]:
    return [
        Actor(
            name=f"u{n}",
            principals=frozenset({f"user:u{n}", "everyone", *(f"group:{g}" for g in rng.integers(0, 40, 8))}),
            clearance=Classification(int(rng.integers(0, 4))),
            region=("eu", "us")[n % 2],
            purposes=None,
            proven="asserted by bench",
        )
        for n in range(count)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 actors")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    people, questions = (20 if given.quick else 1000), 1000
    rng = np.random.default_rng(5)
    every = labels(rng, 400)
    x = rng.standard_normal((ROWS, D)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    vectors = Vectors(D, 1).grown(x)
    found = [np.sort(rng.choice(ROWS, 200, replace=False)).astype(np.int32) for _ in range(200)]
    offsets = np.cumsum([0, *map(len, found)]).astype(np.int64)
    words = Words()
    words.append(
        Postings(np.arange(200, dtype=np.uint64), offsets, np.concatenate(found), np.ones(offsets[-1], np.uint8))
    )
    lengths = np.full(ROWS, 4, np.int32)
    number = np.arange(ROWS, dtype=np.int32)
    view = View(
        commit=3, sequence=1, version_document=number, version_from=np.ones(ROWS, np.int32),
        version_to=np.full(ROWS, OPEN, np.int32), document_label=rng.integers(0, 400, ROWS).astype(np.int32),
        document_expires=np.where(rng.random(ROWS) < 0.1, 50, NEVER), document_source=np.zeros(ROWS, np.int32),
        labels=every, sources=["docs"],
    )  # fmt: skip
    decisions, at = Decisions(), 100
    decisions.extend(every)
    queries = rng.standard_normal((questions, D)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    terms = rng.integers(0, 200, (questions, 3)).astype(np.uint64)
    cases = hits = forbidden = unfiltered = wrong_scores = 0
    started = time.perf_counter()
    everything = np.ones(ROWS, bool)
    for person in actors(rng, people):
        sink = person.sink(("care", "general")[cases // questions % 2])
        decided = documents(view, decisions.codes(sink), decisions.expires(), at=at, sources=None)
        mask = allowed(view, decided).rows(number)
        count, total = int(mask.sum()), int(lengths[mask].sum())
        packed = np.packbits(mask, bitorder="little")
        may = np.array([bool(label.flows_to(sink, at)) for label in every])  # decided a second time, label by label
        fine = may[view.document_label] & (view.document_expires > at)
        if count == 0:
            cases += questions
            continue
        shown = np.flatnonzero(mask)  # batched: one product for all questions of a person, then the ten best
        near = queries @ x[shown].T
        for q in range(questions):
            if q % 50 == 0:  # the whole path, and the batch must agree with it on the cosines it shows
                scored = words.score(terms[q], mask, count, lengths, total)
                ranking = fuse.rank(queries[q], vectors, scored, mask=mask, packed=packed, count=count, limit=10)
                rows = ranking.rows
                wrong_scores += int((np.abs(ranking.cosines - x[rows] @ queries[q]) > 1e-5).sum())
            else:
                rows = shown[np.argpartition(near[q], -min(10, count))[-min(10, count) :]]
            cases += 1
            hits += len(rows)
            forbidden += int((~fine[rows]).sum())
        blank = words.score(np.empty(0, np.uint64), everything, ROWS, lengths, ROWS)
        control = fuse.rank(
            queries[0], vectors, blank, mask=everything, packed=np.packbits(everything, bitorder="little"), count=ROWS,
            limit=10,
        )  # fmt: skip
        unfiltered += int((~fine[control.rows]).sum())
    result: dict[str, Any] = {
        "cases": cases,
        "hits": hits,
        "forbidden": forbidden,
        "whole_path_every": 50,
        "forbidden_with_filter_off": unfiltered,
        "wrong_scores": wrong_scores,
        "seconds": round(time.perf_counter() - started, 1),
    }
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))
    if forbidden or not unfiltered or wrong_scores:
        raise SystemExit("forbidden hits were found, or the control found none")


if __name__ == "__main__":
    main()
