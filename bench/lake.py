"""The lake beside raw Lance: commits, loading of vectors, taking ten rows.

`python bench/lake.py [--quick] [--rows N]` prints one JSON document. Medians; milliseconds unless it says otherwise.
Raw Lance is the floor: the same rows in a table of its own, without keys, catalogue, leases or fsync. ``storage``
compares a folder with a bucket on the loopback (moto's server, whose own time in Python is part of it: there requests
and bytes are the measure, for each costs 10 to 50 ms on a real network).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from drystone.lake import Lake, Rows
from drystone.ledger import Ledger
from drystone.records import Actor, Classification, Document, Label, Parsed
from drystone.settings import Settings, defaults
from tests.lake.store import KEYS, Store, serving

WIDE = 384
ACTOR = Actor("bench", frozenset({"user:bench", "everyone"}), Classification.internal, "local", None, "asserted")
LABEL = Label.parse({"readers": ["everyone"], "classification": "public"})
TERMS = 2000  # different words of one commit


def rows(lake: Lake, key: str, count: int, rng: np.random.Generator) -> Rows:
    """One document of ``count`` chunks, each of about 60 characters and eight words."""
    asset = lake.keep(key.encode(), document=f"b:{key}", source="b", media_type="text/plain", title=key, fingerprint="")
    version = lake.ledger.digest("v", key)
    document = Document(f"b:{key}", "b", version, asset, Parsed(f"text of {key}", ()), LABEL, "rule", "t:b", "r:b")
    reserved = lake.ledger.catalog.reserve(versions=1, chunks=count)
    chunk = np.arange(reserved.chunks, reserved.chunks + count, dtype=np.int64)
    random = pa.py_buffer(rng.bytes(16 * count))
    digests = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), count, [None, random]).cast(pa.binary())
    small, zeros = np.zeros(count, np.int32), pa.array(np.zeros(count, np.int32))
    chunks = pa.table(
        {
            "chunk": chunk, "version": np.full(count, reserved.versions, np.int32),
            "ordinal": np.arange(count, dtype=np.int32), "id": pa.array([f"c:{n:022d}" for n in chunk.tolist()]),
            "digest": digests, "start": small, "end": small,
            "text": pa.array([f"passage {n} of the benchmark, as long as a short sentence is" for n in chunk.tolist()]),
            "heading": pa.array([["Heading"]] * count, pa.list_(pa.string())),
            "page": zeros, "tokens": np.full(count, 9, np.int32), "language": pa.array(["en"] * count),
        }
    )  # fmt: skip
    terms = min(TERMS, count)
    each = count * 8 // terms
    offsets = pa.array(np.arange(0, (terms + 1) * each, each, dtype=np.int32))
    postings = pa.table(
        {
            "segment": np.full(terms, reserved.chunks, np.int64), "term": np.arange(terms, dtype=np.uint64),
            "chunks": pa.ListArray.from_arrays(offsets, np.sort(rng.choice(chunk, (terms, each))).ravel()),
            "counts": pa.ListArray.from_arrays(offsets, np.ones(terms * each, np.uint8)),
        }
    )  # fmt: skip
    flat_vectors = pa.array(rng.standard_normal(count * WIDE, np.float32))
    vectors = pa.table({"chunk": chunk, "vector": pa.FixedSizeListArray.from_arrays(flat_vectors, WIDE)})
    return Rows(key, (document,), (reserved.versions,), (reserved.chunks,), (count,), chunks, vectors, "g:b", postings)


def timed(what: Callable[[], Any], times: int = 5) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        what()
        taken.append((time.perf_counter() - start) * 1e3)
    return round(statistics.median(taken), 2)


def measure(folder: Path, total: int, parts: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    settings = defaults(folder)
    ledger = Ledger.open(folder / "state", project="bench", settings=settings)
    lake = Lake(folder / "state", ledger=ledger, settings=settings)
    out: dict[str, Any] = {"rows": total, "dimensions": WIDE}
    with ledger.run("bench", actor=ACTOR) as run:
        took = 0.0
        for part in range(parts):
            brought = rows(lake, f"bulk{part}", total // parts, rng)
            start = time.perf_counter()
            lake.commit(brought, run)
            took += time.perf_counter() - start
        out["bulk_commit_rows_per_s"] = round(total / took)
        small = iter([rows(lake, f"small{i}", 10, rng) for i in range(12)])
        out["commit_10_chunks"] = timed(lambda: lake.commit(next(small), run), 12)
        raw = folder / "raw.lance"
        with lake.reader() as reader:
            numbers, vectors = reader.vectors("g:b")
        table = pa.table(
            {"chunk": numbers, "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), WIDE)}
        )
        lance.write_dataset(table, str(raw))
        ten = table.slice(0, 10)
        del table, vectors
        out["raw_lance_append_10_rows_one_table"] = timed(
            lambda: lance.write_dataset(ten, str(folder / "small.lance"), mode="append"), 12
        )
        times = 3 if total > 200_000 else 5
        with lake.reader() as reader:
            out["load_vectors"] = timed(lambda: reader.vectors("g:b"), times)
            out["raw_lance_to_table"] = timed(lambda: lance.dataset(str(raw)).to_table(), times)
            files = [f for f in raw.rglob("*.lance") if f.is_file()]
            out["read_the_same_bytes"] = timed(lambda: [f.read_bytes() for f in files], times)
            out["load_chunk_rows"] = timed(lambda: reader.chunk_rows(), times)
            out["load_postings"] = timed(lambda: reader.postings(), times)
            asked = rng.choice(numbers, 10, replace=False).tolist()
            lake.columns.close()
            out["ten_chunks_first"] = timed(lambda: reader.chunks(asked), 1)
            out["ten_chunks"] = timed(lambda: reader.chunks(rng.choice(numbers, 10).tolist()), 30)
            known = reader.arrow("chunks", [1]).slice(0, 10)["digest"].to_pylist()
            out["vectors_of_first"] = timed(lambda: reader.vectors_of(known, "g:b"), 1)
            out["vectors_of_ten"] = timed(lambda: reader.vectors_of(known, "g:b"), 10)
            out["vectors_of_unknown"] = timed(lambda: reader.vectors_of([os.urandom(16)], "g:b"), 10)
        out["raw_lance_take_10"] = timed(
            lambda: lance.dataset(str(raw)).take(rng.choice(len(numbers), 10).tolist(), columns=["chunk"]), 30
        )
        out["open_and_close_reader"] = timed(lambda: lake.reader().close(), 50)
        after = int(numbers[-11])
        with lake.reader() as reader:
            out["newest_ten_of_all"] = timed(lambda: (reader.chunk_rows(after), reader.vectors("g:b", after)), 5)
        out["maintain_nothing"] = timed(lambda: lake.maintain(), 3)
        run.close()
    lake.close()
    ledger.close()
    return out


def compare(folder: Path, commits: int) -> dict[str, Any]:
    """The same commits of 100 chunks in a folder and in a bucket."""
    with serving() as store:
        os.environ.update(KEYS)
        bucket = replace(defaults(folder, project__state=f"s3://{store.bucket()}/p"), storage=store.settings())
        return {"chunks_of_a_commit": 100, "commits": commits,
                "folder": stored(folder / "folder", defaults(folder), store, commits),
                "bucket": stored(folder / "bucket", bucket, store, commits)}  # fmt: skip


def stored(state: Path, settings: Settings, store: Store, commits: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    ledger = Ledger.open(state, project="bench", settings=settings)
    lake = Lake(state, ledger=ledger, settings=settings)
    out: dict[str, Any] = {}

    def asked(name: str, of: int = 1) -> None:
        log = store.log()
        if settings.bucket:
            out[name + "_requests"] = round(len(log) / of, 1)
            out[name + "_kb"] = round(sum(sent + got for _, _, sent, got in log) / of / 1e3, 1)

    with ledger.run("bench", actor=ACTOR) as run:
        lake.commit(rows(lake, "first", 100, rng), run)
        brought = [rows(lake, f"small{i}", 100, rng) for i in range(commits)]
        store.log()
        waiting = iter(brought)
        out["commit"] = timed(lambda: lake.commit(next(waiting), run), commits)
        asked("commit", commits)
        datas = [rng.bytes(4000) for _ in range(100)]
        out["keep_100_blobs"] = timed(lambda: lake.keep_many(datas), 1)
        asked("keep_100_blobs")

        def cold() -> None:
            fresh = Lake(state, ledger=ledger, settings=settings)
            with fresh.reader() as reader:
                numbers = reader.chunk_rows().chunk
                reader.vectors("g:b")
                reader.postings()
                reader.chunks(numbers[:: len(numbers) // 10][:10].tolist())
            fresh.close()

        out["cold_open_and_first_read"] = timed(cold, 3)
        asked("cold_open_and_first_read", 3)
        reader = lake.reader()
        numbers = reader.chunk_rows().chunk
        out["ten_passages"] = timed(lambda: reader.chunks(rng.choice(numbers, 10).tolist()), 10)
        reader.chunk_rows(int(numbers[-1])), reader.vectors("g:b", int(numbers[-1]))  # as one that follows has done
        reader.close()
        lake.commit(rows(lake, "last", 100, rng), run)
        store.log()
        with lake.reader() as reader:
            after = int(numbers[-1])
            out["newest_hundred"] = timed(lambda: (reader.chunk_rows(after), reader.vectors("g:b", after)), 1)
        asked("newest_hundred")
        compacting = Lake(
            state, ledger=ledger, settings=replace(settings, values={**settings.values, "lake.compact_fragments": 2})
        )
        out["compact_and_clean"] = timed(lambda: compacting.maintain(), 1)
        asked("compact_and_clean")
        run.close()
    lake.close()
    ledger.close()
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20,000 rows")
    parser.add_argument("--rows", type=int, default=0)
    given = parser.parse_args()
    sizes = [given.rows] if given.rows else [20_000] if given.quick else [100_000, 1_000_000]
    results = []
    for total in sizes:
        with tempfile.TemporaryDirectory() as folder:
            results.append(measure(Path(folder), total, max(2, total // 50_000)))
    with tempfile.TemporaryDirectory() as folder:
        storage = compare(Path(folder), 12 if given.quick else 50)
    print(json.dumps({"bench": "lake", "unit": "ms", "cores": os.cpu_count(), "results": results, "storage": storage}))


if __name__ == "__main__":
    main()
