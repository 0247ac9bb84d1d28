"""Maintenance moves rows and removes versions; no reader and no commit notices."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drystone.errors import Busy
from drystone.lake import Lake, leases
from drystone.settings import defaults
from tests.lake.making import digest, rows, vector

ROOT = Path(__file__).resolve().parents[2]
BOTH_KINDS, FOLDER = (
    True,
    {"test_what_a_crash_left_is_swept", "test_a_pointer_that_moves_while_the_lease_is_taken_is_read_again"},
)


def content(lake: Lake) -> list[dict[str, Any]]:
    return list(lake.logical())


def test_a_compacted_lake_holds_the_same(opened: Callable[..., Lake], run: Any, lake: Lake) -> None:
    lake = opened(lake__compact_fragments=100, lake__keep_versions=0)
    for i in range(6):
        lake.commit(rows(lake, f"k{i}", {f"d{i}": [f"word{i} fox", f"other{i} hen"]}), run)
    before, pointer = content(lake), lake.ledger.catalog.pointer()
    lake = opened(lake__compact_fragments=4, lake__keep_versions=0)
    report = lake.maintain()
    assert set(report.compacted) == set(pointer.tables) and set(report.compacted.values()) == {5}
    assert report.versions > 0 and report.bytes > 0 and report.orphans == 0
    assert report.pointer.commit == pointer.commit and report.pointer.sequence == pointer.sequence + 1
    assert report.pointer == lake.ledger.catalog.pointer()
    assert content(lake) == before
    for table, version in report.pointer.tables.items():
        assert lake.tables.versions(table) == [version]
        assert lake.tables.fragments(table, version) == 1
        if lake.settings.bucket is None:
            assert len(list((Path(lake.tables.uri(table)) / "data").iterdir())) == 1
    with lake.reader() as reader:
        numbers = reader.chunk_rows().chunk
        assert [c.text for c in reader.chunks(numbers[[7, 0]].tolist())] == ["other3 hen", "word0 fox"]
        assert len(reader.postings()) == 6 and len(reader.postings(int(numbers[5]))) == 3
        assert len(reader.vectors("g:one", int(numbers[5]))[0]) == 6
        assert np.array_equal(
            reader.vectors_of([digest("word2 fox")], "g:one")[digest("word2 fox")], vector("word2 fox")
        )
    again = lake.maintain()
    assert again.compacted == {} and again.pointer == report.pointer
    lake.commit(rows(lake, "next", {"n": ["new"]}), run)
    assert len(content(lake)) == 7


def test_commits_compact_by_themselves(opened: Callable[..., Lake], run: Any) -> None:
    lake = opened(lake__compact_fragments=3)
    for i in range(7):
        lake.commit(rows(lake, f"k{i}", {f"d{i}": [f"word{i}"]}), run)
    pointer = lake.ledger.catalog.pointer()
    assert all(lake.tables.fragments(t, v) < 3 for t, v in pointer.tables.items())
    assert pointer.commit == 7 and [c["document"] for c in content(lake)] == [f"docs:d{i}" for i in range(7)]


def test_a_key_applied_before_clean_up_is_still_one_commit(opened: Callable[..., Lake], run: Any) -> None:
    lake = opened(lake__compact_fragments=2, lake__keep_versions=0)
    early = rows(lake, "k0", {"d0": ["word0"]})
    first = lake.commit(early, run)
    for i in range(1, 4):
        lake.commit(rows(lake, f"k{i}", {f"d{i}": [f"word{i}"]}), run)
    lake.maintain()
    assert first.tables["chunks"] not in lake.tables.versions("chunks")
    assert lake.commit(early, run) == first and len(content(lake)) == 4


def test_what_a_crash_left_is_swept(opened: Callable[..., Lake], run: Any, monkeypatch: Any) -> None:
    lake = opened(lake__keep_versions=0)
    lake.commit(rows(lake, "k1", {"a": ["one"]}), run)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(lake.ledger.catalog, "apply", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        lake.commit(rows(lake, "k2", {"b": ["two", "three"]}), run)
    stray = Path(lake.tables.uri("chunks")) / "data" / "never-named.lance"
    stray.write_bytes(b"half a fragment")
    assert lake.maintain().orphans == 2 + 2 + 1 + 2  # chunks, vectors, document, postings
    assert not stray.exists() and [c["document"] for c in content(lake)] == ["docs:a"]
    assert all(
        len(list((Path(lake.tables.uri(t)) / "data").iterdir())) == 1 for t in lake.ledger.catalog.pointer().tables
    )


CHILD = """
import sys, time
from pathlib import Path
from drystone.lake import Lake
from drystone.ledger import Ledger
from tests.lake.making import settings
settings = settings(Path(sys.argv[1]))
ledger = Ledger.open(Path(sys.argv[1]) / "state", project="shop", settings=settings)
lake = Lake(Path(sys.argv[1]) / "state", ledger=ledger, settings=settings)
reader = lake.reader()
print("leased", flush=True)
sys.stdin.readline()
numbers = reader.chunk_rows().chunk.tolist()
print(",".join(c.text for c in reader.chunks(numbers)), len(reader.vectors("g:one")[0]), flush=True)
sys.stdin.readline()
"""


def test_a_reader_in_another_process_outlives_clean_up(opened: Callable[..., Lake], run: Any, tmp_path: Path) -> None:
    lake = opened(lake__compact_fragments=2, lake__keep_versions=0)
    lake.commit(rows(lake, "k0", {"d0": ["zero"]}), run)
    old = dict(lake.ledger.catalog.pointer().tables)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    with child:
        assert child.stdin is not None and child.stdout is not None
        assert child.stdout.readline() == "leased\n"
        for i in range(1, 5):
            lake.commit(rows(lake, f"k{i}", {f"d{i}": [f"word{i}"]}), run)
        lake.maintain()
        assert all(old[t] in lake.tables.versions(t) for t in old)
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "zero 1\n"
        child.kill()  # its lease falls with it
    report = lake.maintain()
    assert report.files == 1 and not any(old[t] in lake.tables.versions(t) for t in old)


def test_a_lease_is_seen_from_the_moment_it_has_its_name(tmp_path: Path) -> None:
    one, two = leases.Lease(tmp_path, {"chunks": 3}), leases.Lease(tmp_path, {"chunks": 5, "documents": 1})
    assert leases.leased(tmp_path) == ({"chunks": {3, 5}, "documents": {1}}, 0)
    two.close()
    two.close()
    assert leases.leased(tmp_path) == ({"chunks": {3}}, 0)
    one.close()
    (tmp_path / "1-dead.lease").write_text('{"chunks": 9}')
    assert leases.leased(tmp_path) == ({}, 1) and list(tmp_path.iterdir()) == []


def test_a_pointer_that_moves_while_the_lease_is_taken_is_read_again(lake: Lake, run: Any, monkeypatch: Any) -> None:
    lake.commit(rows(lake, "k1", {"a": ["one"]}), run)
    stale = lake.ledger.catalog.pointer()
    lake.commit(rows(lake, "k2", {"b": ["two"]}), run)
    fresh = lake.ledger.catalog.pointer()
    seen = iter([stale, fresh, fresh, fresh])
    monkeypatch.setattr(lake.ledger.catalog, "pointer", lambda: next(seen))
    with lake.reader() as reader:
        assert reader.pointer == fresh and len(list(lake.leases.iterdir())) == 1


def test_a_writer_waits_for_another_and_then_says_so(tmp_path: Path) -> None:
    assert defaults(tmp_path)["ingest.lock_wait_s"] > 1
    start = time.monotonic()
    with leases.locked(tmp_path / "lock", 1), pytest.raises(Busy), leases.locked(tmp_path / "lock", 0.05):
        pass
    assert time.monotonic() - start >= 0.05
    with leases.locked(tmp_path / "lock", 0):
        pass


def test_columns_read_only_what_is_new(opened: Callable[..., Lake], run: Any, monkeypatch: Any) -> None:
    lake = opened(lake__compact_fragments=100, lake__keep_versions=0)
    read, seen = lake.tables.read, list[int]()

    def counted(*args: Any, **options: Any) -> Any:
        found = read(*args, **options)
        seen.append(len(found))
        return found

    monkeypatch.setattr(lake.tables, "read", counted)

    def numbers() -> list[int]:
        at = lake.ledger.catalog.pointer().tables["chunks"]
        found, fresh = lake.columns.numbers("chunks", at), opened().columns
        digests, versions = lake.columns.digests(at), lake.columns.versions("chunks", at)
        assert np.array_equal(found, fresh.numbers("chunks", at)) and np.array_equal(digests, fresh.digests(at))
        assert np.array_equal(versions, fresh.versions("chunks", at))
        return found.tolist()

    for i in range(4):
        lake.commit(rows(lake, f"k{i}", {f"d{i}": [f"word{i}", f"other{i}"]}), run)
        assert len(numbers()) == 2 * i + 2
    assert seen == [2] * 12
    opened(lake__compact_fragments=2, lake__keep_versions=0).maintain()
    assert len(numbers()) == 8 and seen[12:] == [8] * 3
    lake.commit(rows(lake, "k9", {"d9": ["word9"]}), run)
    assert len(numbers()) == 9 and seen[15:] == [1] * 3


def test_versions_are_those_that_the_engine_knows(opened: Callable[..., Lake], run: Any) -> None:
    lake = opened(lake__compact_fragments=100, lake__keep_versions=2)
    for i in range(12):
        lake.commit(rows(lake, f"k{i}", {f"d{i}": [f"word{i}"]}), run)
    opened(lake__compact_fragments=5, lake__keep_versions=2).maintain()
    for table in lake.ledger.catalog.pointer().tables:
        assert lake.tables.versions(table) == sorted(v["version"] for v in lake.tables._dataset(table).versions())
