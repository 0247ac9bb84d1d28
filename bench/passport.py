"""Passports and the log: what sealing costs, how large a bundle is, how fast the log appends and verifies.

python -m bench.passport [--quick]

Goals (numbers to beat): sealing <= 2 ms; a bundle <= 8 KB with 8 chunks of 5 documents, <= 12 KB with 20.
``seal_cpu_ms`` is everything that a passport adds: composing, signing, encrypting the texts, the durable write of their
keys, its log entry and rows; median. ``question_wall_ms`` is a whole question in which no room does anything: the
cost of its record, three durable writes included. ``raw`` beside the appends is the same number of plain SQLite
inserts with the same durability, so that the ratio says what the proofs cost.
"""

from __future__ import annotations

import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from drystone import verify
from drystone.ledger import Ledger, log, passports
from tests.ledger.asking import GUARDS, RICH, ask, evidence
from tests.ledger.build import open_ledger


def sealing(folder: Path, rounds: int) -> dict[str, Any]:
    """By chunks and documents; measured around what the ledger does for the passport, in real questions."""
    out: dict[str, Any] = {}
    build = passports.build
    for chunks, documents in ((3, 3), (8, 5), (20, 12)):
        ledger = open_ledger(folder / f"seal{chunks}")
        found = evidence(ledger, chunks, documents, RICH)
        cpu: list[float] = []
        wall: list[float] = []

        def timed(*given: Any, cpu: list[float] = cpu, wall: list[float] = wall) -> passports.Sealed:
            began, clock = time.thread_time(), time.perf_counter()
            sealed = build(*given)
            cpu.append((time.thread_time() - began) * 1000)
            wall.append((time.perf_counter() - clock) * 1000)
            return sealed

        passports.build = timed  # type: ignore[assignment]
        try:
            whole = []
            for _ in range(rounds):
                clock = time.perf_counter()
                answer = ask(ledger, found, mode="generated", guards=GUARDS, cited=chunks)
                whole.append((time.perf_counter() - clock) * 1000)
        finally:
            passports.build = build
        sealed = build_one(ledger, found)
        writes = [in_transaction(ledger, sealed(n)) for n in range(rounds)]
        bundle = ledger.passport(answer.passport)
        clock = time.perf_counter()
        for _ in range(20):
            verify.verify(json.dumps(bundle).encode(), (ledger.keys.folder / "shop.pub").read_bytes())
        out[str(chunks)] = {
            "documents": documents,
            "build_cpu_ms": round(statistics.median(cpu), 3),
            "build_wall_ms": round(statistics.median(wall), 3),
            "write_cpu_ms": round(statistics.median(writes), 3),
            "seal_cpu_ms": round(statistics.median(cpu) + statistics.median(writes), 3),
            "question_wall_ms": round(statistics.median(whole), 3),
            "statement_bytes": len(bundle["statement"]["payload"]) * 3 // 4,
            "bundle_bytes": len(json.dumps(bundle, separators=(",", ":"))),
            "verify_ms": round((time.perf_counter() - clock) / 20 * 1000, 3),
        }
        ledger.close()
    return out


def build_one(ledger: Ledger, found: Any) -> Callable[[int], passports.Sealed]:
    """Passports that wait to be written, made from one real question's notes."""
    kept: list[Any] = []
    build = passports.build

    def keep(*given: Any) -> passports.Sealed:
        kept.extend(given)
        return build(*given)

    passports.build = keep  # type: ignore[assignment]
    try:
        ask(ledger, found, mode="generated", guards=GUARDS, cited=len(found))
    finally:
        passports.build = build
    return lambda n: build(*kept)


def in_transaction(ledger: Ledger, sealed: passports.Sealed) -> float:
    """CPU milliseconds of the passport's part in the transaction that ends its question."""

    def write(connection: sqlite3.Connection) -> float:
        began = time.thread_time()
        sealed.write(connection)
        return (time.thread_time() - began) * 1000

    return ledger.database.write(write)


def appending(folder: Path, seconds: float) -> dict[str, Any]:
    """Durable appends a second: one caller, sixteen callers, batches of 100; and plain inserts, as an anchor."""
    ledger = open_ledger(folder / "append")
    body = {"run": "r:AAAAAAAAAAAAAAAAAAAAAA", "kind": "question", "record": "d:AAAAAAAAAAAAAAAAAAAAAA"}

    def one(connection: sqlite3.Connection) -> None:
        log.append(connection, "bench", body, 1_700_000_000_000, keys=ledger.keys)

    def hundred(connection: sqlite3.Connection) -> None:
        for _ in range(100):
            one(connection)

    out = {
        "one_caller": rate(lambda: ledger.database.write(one), seconds),
        "sixteen_callers": rate(lambda: ledger.database.write(one), seconds, callers=16),
        "batches_of_100": 100 * rate(lambda: ledger.database.write(hundred), seconds),
    }
    ledger.close()
    raw = sqlite3.connect(folder / "raw.db", isolation_level=None, check_same_thread=False)
    for statement in (
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        "CREATE TABLE t (n INTEGER PRIMARY KEY, e)",
    ):
        raw.execute(statement)
    entry = log.encode("bench", 0, 1_700_000_000_000, body)

    def insert(count: int) -> None:
        raw.execute("BEGIN IMMEDIATE")
        for _ in range(count):
            raw.execute("INSERT INTO t (e) VALUES (?)", (entry,))
        raw.execute("COMMIT")

    out["raw_one_caller"] = rate(lambda: insert(1), seconds)
    out["raw_batches_of_100"] = 100 * rate(lambda: insert(100), seconds)
    raw.close()
    return out


def rate(work: Callable[[], Any], seconds: float, callers: int = 1) -> int:
    counts = [0] * callers
    until = time.perf_counter() + seconds

    def call(n: int) -> None:
        while time.perf_counter() < until:
            work()
            counts[n] += 1

    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(call, range(callers)))  # raises what a caller raised
    return round(sum(counts) / seconds)


def verifying(folder: Path, entries: int) -> dict[str, Any]:
    ledger = open_ledger(folder / "verify")

    def some(connection: sqlite3.Connection) -> None:
        for n in range(10_000):
            body = {"run": "r:AAAAAAAAAAAAAAAAAAAAAA", "kind": "question", "n": n}
            log.append(connection, "bench", body, 1_700_000_000_000, keys=ledger.keys)

    for _ in range(entries // 10_000):
        ledger.database.write(some)
        ledger.checkpoint()
    clock = time.perf_counter()
    report = ledger.verify()
    took = time.perf_counter() - clock
    if not report.valid or report.size != entries:
        raise SystemExit(f"the log does not verify: {report.to_dict()}")
    reading = ledger.database.read()
    clock = time.perf_counter()
    for n in range(1000):
        log.inclusion(reading, n * 7919 % entries, entries)
    proof = (time.perf_counter() - clock) / 1000 * 1000
    bytes_each = ledger.database.path.stat().st_size / entries
    ledger.close()
    return {
        "entries": entries, "verify_s": round(took, 2), "entries_per_s": round(entries / took),
        "inclusion_proof_ms": round(proof, 3), "bytes_per_entry": round(bytes_each),
    }  # fmt: skip


def main() -> None:
    quick = "--quick" in sys.argv
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result = {
            "seal": sealing(folder, 30 if quick else 200),
            "appends_per_s": appending(folder, 0.3 if quick else 2.0),
            "verify": verifying(folder, 20_000 if quick else 100_000),
            "goals": {"seal_cpu_ms": 2.0, "bundle_bytes_8": 8192, "bundle_bytes_20": 12288},
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
