"""The ledger: durable appends beside raw sqlite3, a whole question sealed, lineage at 2 M edges, the catalogue.

    python -m bench.ledger [--quick]

Times are milliseconds. ``raw`` is sqlite3 alone (WAL, ``synchronous=FULL``), inserting a row of the same size with
the SHA-256 of the row before it: what any durable record costs at least on this disk.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from drystone.ledger import Ledger, lineage, log
from drystone.ledger.catalog import Catalog, Change
from drystone.records import (
    Actor,
    Asset,
    Checked,
    Citation,
    Classification,
    Decision,
    Document,
    Draft,
    Evidence,
    Hit,
    Hits,
    Label,
    Parsed,
    Prompt,
    Relabel,
)
from drystone.settings import defaults

BO = Actor("bo", frozenset({"user:bo"}), Classification.internal, "local", None, "asserted by bo")
STAFF = Label.parse({"readers": ["group:staff"], "classification": "internal"})
HR = Label.parse({"readers": ["group:staff"], "classification": "confidential"})


def took(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "p50": round(statistics.median(ordered), 3),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 3),
        "n": len(ordered),
    }


def timed(call: Callable[[], Any], rounds: int) -> dict[str, float]:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1000)
    return took(times)


# -- appends ------------------------------------------------------------------------------------------
def raw(folder: Path, seconds: float, batch: int) -> float:
    connection = sqlite3.connect(folder / f"raw{batch}.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE chain (n INTEGER PRIMARY KEY, body TEXT, before BLOB)")
    before, n, end = b"", 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        connection.execute("BEGIN IMMEDIATE")
        for _ in range(batch):
            body = json.dumps({"n": n, "decision": "x" * 120})
            before = hashlib.sha256(before + body.encode()).digest()
            connection.execute("INSERT INTO chain VALUES (?, ?, ?)", (n, body, before))
            n += 1
        connection.execute("COMMIT")
    connection.close()
    return n / seconds


def ours(ledger: Ledger, seconds: float, clients: int) -> float:
    end = time.perf_counter() + seconds

    def client(number: int) -> int:
        n = 0
        while time.perf_counter() < end:
            body = {"n": n, "client": number, "decision": "x" * 120}
            ledger.database.write(lambda c, body=body: log.append(c, "bench", body, ledger.tick(c), keys=ledger.keys))
            n += 1
        return n

    with ThreadPoolExecutor(clients) as pool:
        return sum(pool.map(client, range(clients))) / seconds


# -- a question -----------------------------------------------------------------------------------------
def ingested(ledger: Ledger, count: int) -> list[Document]:
    documents = []
    for n in range(count):
        name = f"handbook:{n:06}.md"
        asset = Asset(name, "handbook", ledger.digest("b", str(n)), 900, "text/markdown", name, f"print {n}")
        parsed = Parsed("", (), f"Title {n}")
        version = ledger.digest("v", name, str(n))
        documents.append(
            Document(name, "handbook", version, asset, parsed, STAFF, "rule 1", ledger.digest("t", "x"), "r:1")
        )
    return documents


def change(ledger: Ledger, key: str, documents: list[Document], **more: Any) -> Change:
    first = ledger.catalog.reserve(versions=len(documents), chunks=10 * len(documents))
    numbers = tuple(range(first.versions, first.versions + len(documents)))
    chunks = tuple(range(first.chunks, first.chunks + 10 * len(documents), 10))
    return Change(key, tuple(documents), numbers, chunks, (10,) * len(documents), **more)


def question(ledger: Ledger, documents: list[Document], chunks: int) -> str:
    """One quoted answer with ``chunks`` pieces of evidence, as the rooms note it; returns its passport."""
    evidence = []
    for n in range(chunks):
        document = documents[n * len(documents) // chunks]
        hit = Hit(
            ledger.digest("c", str(n)), document.name, document.version, document.parsed.title, "text " * 40, 0.5,
            n * 300, n * 300 + 200, STAFF, n,
        )  # fmt: skip
        evidence.append(Evidence(hit, hit.text[:10], hit.start, hit.start + 10, 0.8))
    found = tuple(evidence)
    citations = tuple(
        Citation(n + 1, e.hit.document, e.hit.version, e.hit.chunk, e.hit.title, e.quote, e.start, e.end, e.score, True)
        for n, e in enumerate(found)
    )
    yes = Decision("ask", True, ("built-in",), "sha256:" + "a" * 43, "allowed")
    checked = Checked("the answer", citations, found, "quoted", label=STAFF)
    with ledger.question("How long do I have?", actor=BO, purpose="general", assistant=None) as run:
        run.note("admit", decision=yes, guards=[], label=STAFF)
        run.note("search", hits=Hits(tuple(e.hit for e in found), found, True, 1, 0.9), generation=None,
                 embedder="sha256:e", policy=yes.policy_set, in_scope=10, readable=10, withheld={})  # fmt: skip
        run.note("compose", prompt=Prompt("quoted", (), found, STAFF, "p:quoted"))
        run.note("generate", draft=Draft("the answer", None), model=None, weights=None, runtime={}, routes=[])
        run.note("check", checked=checked, dropped=0, verdicts=[])
        run.note("release", decision=yes, guards=[], commit=1, sequence=1, withdrawn=0)
        return run.seal(checked).passport


# -- lineage --------------------------------------------------------------------------------------------
def grow(ledger: Ledger, edges: int) -> tuple[list[str], list[str]]:
    """Documents, chunks, adapters trained on 1,000 chunks each, and answers over four chunks; their names."""
    chance = random.Random(1)
    documents, chunks = edges // 200, edges // 10
    answers = (edges - 2 * documents - chunks) // 5
    adapters = max(2, edges // 100_000)
    refs: list[tuple[int, str, str]] = []

    def add(count: int, kind: str) -> range:
        first = len(refs) + 1_000_000
        for n in range(count):
            refs.append((first + n, f"{kind}:{n}", kind))
        return range(first, first + count)

    d, b, v, c = add(documents, "document"), add(documents, "asset"), add(documents, "version"), add(chunks, "chunk")
    t, p, a = add(adapters, "adapter"), add(1, "prompt"), add(answers, "answer")
    rows = [(v[n], d[n], "version") for n in range(documents)] + [(v[n], b[n], "parsed") for n in range(documents)]
    rows += [(c[n], v[n % documents], "chunk") for n in range(chunks)]
    for adapter in t:
        rows += [(adapter, c[n], "trained") for n in chance.sample(range(chunks), 1000)]
    for n in range(answers):
        rows += [(a[n], c[one], "evidence") for one in chance.sample(range(chunks), 4)]
        rows.append((a[n], p[0], "prompt"))
        if n % 100 == 0:
            rows.append((a[n], t[n // 100 % adapters], "model"))
    rows.sort()

    def write(connection: sqlite3.Connection) -> None:
        connection.executemany("INSERT INTO nodes (node, ref, kind) VALUES (?, ?, ?)", refs)
        connection.executemany("INSERT INTO edges (made, of, kind, transform, run) VALUES (?, ?, ?, '', 'r:1')", rows)

    ledger.database.write(write)
    print(f"{len(rows)} edges", flush=True)
    return [f"answer:{n}" for n in range(answers)], [f"document:{n}" for n in range(documents)]


def traced(walk: Callable[[str], list[lineage.Node]], refs: list[str]) -> dict[str, float]:
    times, sizes = [], []
    for ref in refs:
        start = time.perf_counter()
        sizes.append(len(walk(ref)))
        times.append((time.perf_counter() - start) * 1000)
    return {**took(times), "nodes_p50": statistics.median(sizes), "nodes_max": max(sizes)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes")
    quick = parser.parse_args().quick
    seconds, edges, many = (0.5, 200_000, 10_000) if quick else (2.0, 2_000_000, 100_000)
    out: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="drystone-bench-") as name:
        folder = Path(name)
        ledger = Ledger.open(folder / "state", project="bench", settings=defaults(folder))
        out["appends_per_s"] = {
            "raw_1": round(raw(folder, seconds, 1)),
            "raw_batches_of_100": round(raw(folder, seconds, 100)),
            "log_1_client": round(ours(ledger, seconds, 1)),
            "log_16_clients": round(ours(ledger, seconds, 16)),
        }
        documents = ingested(ledger, many)
        with ledger.run("bench", actor=BO) as run:
            start = time.perf_counter()
            for first in range(0, many, 256):
                ledger.catalog.apply(change(ledger, f"k{first}", documents[first : first + 256]), run)
            out["commit_ms_a_document"] = round((time.perf_counter() - start) * 1000 / many, 4)
            out["view_from_nothing_ms"] = timed(lambda: Catalog(ledger).view(), 5)
            ledger.catalog.view()
            relabelled = [Relabel(d.name, HR, "rule 2") for d in documents[:10_000]]
            start = time.perf_counter()
            ledger.catalog.apply(Change("relabel", relabelled=tuple(relabelled)), run)
            ledger.catalog.view()
            out["relabel_100k_chunks_ms"] = round((time.perf_counter() - start) * 1000, 1)
            edited = [replace(documents[0], version=ledger.digest("v", "next"))]
            ledger.catalog.apply(change(ledger, "edit", edited), run)
            out["view_after_one_edit_ms"] = timed(lambda: ledger.catalog.view(), 1)["p50"]
            out["pointer_ms"] = timed(ledger.catalog.pointer, 2000)["p50"]
            out["known_ms_a_document"] = round(timed(lambda: ledger.catalog.known("handbook"), 3)["p50"] / many, 5)
            run.close()
        passports: list[str] = []
        out["question_ms"] = timed(lambda: passports.append(question(ledger, documents[:5], 8)), 200)
        out["passport_bytes_8_chunks_5_documents"] = len(json.dumps(ledger.passport(passports[-1])))
        out["passport_bytes_20_chunks_5_documents"] = len(
            json.dumps(ledger.passport(question(ledger, documents[:5], 20)))
        )
        answers, sources = grow(ledger, edges)
        chance = random.Random(2)
        out["edges"] = edges
        out["back_trace_ms"] = traced(ledger.origin, chance.sample(answers, 500))
        out["back_trace_of_adapted_answers_ms"] = traced(ledger.origin, chance.sample(answers[::100], 50))
        out["reach_ms"] = traced(ledger.reach, chance.sample(sources, 100))
        ledger.close()
    print(json.dumps(out))


if __name__ == "__main__":
    main()
