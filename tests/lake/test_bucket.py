"""What is particular to a bucket: whose it is, what a commit asks of it, and what happens when it fails."""

from __future__ import annotations

import io
import json
import logging
import os
import socket
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drystone.errors import DigestMismatch, NotFound, StateUnavailable
from drystone.lake import Lake, blobs, storage
from drystone.ledger import Ledger
from tests.lake.making import ACTOR, place, rows, settings
from tests.lake.store import KEY, SECRET, Store

pytestmark = pytest.mark.engines
META: dict[str, Any] = {"document": "d:x", "source": "d", "media_type": "text/plain", "title": "x", "fingerprint": "f"}
BODY = f"<Error><Code>InvalidAccessKeyId</Code><Message>{KEY} {SECRET}</Message><AWSAccessKeyId>{KEY}</AWSAccessKeyId></Error>"


@pytest.fixture
def bucket(store: Store, tmp_path: Path) -> str:
    name = store.bucket()
    place(tmp_path, f"s3://{name}/p", store.settings())
    return name


@pytest.fixture
def lake(bucket: str, opened: Callable[..., Lake]) -> Lake:
    return opened()


def objects(lake: Lake, folder: str) -> list[str]:
    return [info.path.split(f"/{folder}/")[1] for info in lake.tables.where.objects(folder)]


def canary_free(caught: pytest.ExceptionInfo[BaseException], capfd: Any = None) -> str:
    said = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    said += json.dumps(caught.value.to_dict()) if hasattr(caught.value, "to_dict") else ""
    assert KEY not in said and SECRET not in said
    return str(caught.value)


# -- whose it is --------------------------------------------------------------------------------------
def test_another_ledger_is_refused_the_prefix(lake: Lake, run: Any, tmp_path: Path) -> None:
    lake.commit(rows(lake, "k1", {"a": ["one"]}), run)
    before = sorted(info.path for info in lake.tables.where.objects("lake"))
    other = Ledger.open(tmp_path / "elsewhere", project="shop", settings=settings(tmp_path))
    strange = Lake(tmp_path / "elsewhere", ledger=other, settings=settings(tmp_path))
    for act in (lambda: strange.keep(b"x", **META), strange.maintain, lambda: strange.commit(None, None)):  # type: ignore[arg-type]
        with pytest.raises(StateUnavailable, match="belongs to another ledger"):
            act()
    assert sorted(info.path for info in lake.tables.where.objects("lake")) == before
    strange.close()
    other.close()
    lake.commit(rows(lake, "k2", {"b": ["two"]}), run)  # and its owner goes on


def test_of_two_ledgers_at_once_one_wins(bucket: str, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    made = []
    for name in ("one", "two", "three", "four"):
        ledger = Ledger.open(tmp_path / name, project="shop", settings=settings(tmp_path))
        made.append(Lake(tmp_path / name, ledger=ledger, settings=settings(tmp_path)))

    def act(lake: Lake) -> bool:
        try:
            lake.keep(b"x", **META)
        except StateUnavailable as error:
            assert "belongs to another ledger" in str(error)
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(act, made)) == [False, False, False, True]
    for lake in made:
        lake.close()
        lake.ledger.close()


# -- what is asked of it ------------------------------------------------------------------------------
def test_a_commit_asks_for_little_and_lists_no_rows(lake: Lake, store: Store, run: Any) -> None:
    for i in range(3):
        lake.commit(rows(lake, f"k{i}", {f"d{i}": [f"word{i}"]}), run)
    brought = rows(lake, "k9", {"d9": ["word9"]})
    store.log()
    lake.commit(brought, run)
    asked = store.log()
    assert len(asked) == 16, asked  # of each table: rows, versions, transaction, manifest
    assert {method for method, *_ in asked} == {"PUT", "GET"}
    assert all("_versions" in path for method, path, *_ in asked if method == "GET")


def test_new_bytes_are_one_request_and_equal_ones_one_question(lake: Lake, store: Store) -> None:
    lake.keep_many([b"first"])
    store.log()
    lake.keep_many([b"one", b"two", b"three"])
    assert [method for method, *_ in store.log()] == ["PUT"] * 3
    lake.keep_many([b"one", b"two"])
    assert [method for method, *_ in store.log()] == ["HEAD"] * 2
    assert len(objects(lake, "blobs")) == 4


# -- bytes --------------------------------------------------------------------------------------------
def test_big_bytes_are_whole_or_not_at_all(lake: Lake, store: Store, monkeypatch: Any) -> None:
    monkeypatch.setattr(blobs, "FRAME", 64)
    data = os.urandom(300)
    digest = lake.keep(data, **META).digest
    assert lake.bytes(digest) == data and len(list(lake.blobs.pieces(digest))) == 5
    assert len(objects(lake, "blobs")) == 1 and len(objects(lake, "pieces")) == 4
    other, name = os.urandom(300), lake.ledger.digest("b", b"?")
    store.fault(method="PUT", path="/pieces/.*/3", status=403)
    with pytest.raises(StateUnavailable):
        lake.keep(other, **META)
    store.heal()
    assert len(objects(lake, "blobs")) == 1 and len(objects(lake, "pieces")) == 6
    with pytest.raises(NotFound):
        lake.bytes(lake.ledger.digest("b", other))
    with pytest.raises(NotFound):
        lake.bytes(name)
    assert lake.blobs.sweep() == 0 and lake.blobs.sweep(older_s=-1) == 2  # not what may still be on its way
    assert len(objects(lake, "pieces")) == 4 and lake.bytes(digest) == data
    assert lake.bytes(lake.keep(other, **META).digest) == other


def test_bytes_that_were_changed_in_the_bucket_are_noticed(lake: Lake, monkeypatch: Any) -> None:
    monkeypatch.setattr(blobs, "FRAME", 64)
    digest, other = lake.keep(os.urandom(150), **META).digest, lake.keep(os.urandom(150), **META).digest
    files, prefix = lake.tables.where.files(), lake.tables.where.prefix

    def spoil(path: str, data: bytes | None) -> None:
        if data is None:
            files.delete_file(path)
        else:
            with files.open_output_stream(path) as file:
                file.write(data)

    first, second = f"{prefix}/blobs/{digest[2:]}", f"{prefix}/pieces/{digest[2:]}/1"
    foreign = f"{prefix}/pieces/{other[2:]}/1"
    kept = {path: files.open_input_stream(path).read() for path in (first, second, foreign)}
    for path, data in ((first, kept[first][:-1]), (first, b""), (first, kept[first] + b"x"), (second, None),
                       (second, kept[foreign]), (second, kept[second][:9]), (second, b"")):  # fmt: skip
        spoil(path, data)
        with pytest.raises(DigestMismatch):
            lake.bytes(digest)
        spoil(path, kept[path])
    assert len(lake.bytes(digest)) == 150


# -- when it fails ------------------------------------------------------------------------------------
FAULTS = [
    pytest.param({"status": 403, "body": BODY}, "refused our key", id="403"),
    pytest.param({"status": 503, "body": "<Error><Code>SlowDown</Code></Error>"}, "slow down", id="503"),
    pytest.param({"status": 500, "body": "<Error><Code>InternalError</Code></Error>"}, "the store failed", id="500"),
    pytest.param({"status": 200, "body": f"<html>{SECRET}"}, "not understood|not answer", id="nonsense"),
]
STEPS = ["PUT .*chunks.*/data/", "PUT .*postings.*_transactions", "PUT .*documents.*_versions", "PUT /.*/blobs/",
         "GET .*_versions"]  # fmt: skip


@pytest.mark.parametrize(("fault", "said"), FAULTS)
def test_a_store_that_fails_at_any_step_leaves_the_pointer(
    lake: Lake, store: Store, run: Any, fault: dict[str, Any], said: str, capfd: Any, caplog: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    lake.commit(rows(lake, "k0", {"z": ["zero"]}), run)
    before = lake.ledger.catalog.pointer()
    for i, step in enumerate(STEPS):
        if fault["status"] == 200 and "PUT" in step:
            continue  # to a store that says yes, and did nothing, there is no answer but reading back
        method, path = step.split(" ")
        brought = None if "blobs" in path else rows(lake, f"s{i}", {f"d{i}": [f"word{i}"]})
        store.fault(method=method, path=path, **fault)
        with pytest.raises(StateUnavailable, match=said) as caught:
            if brought is None:
                lake.keep(b"new %d" % i, **META)
            else:
                lake.commit(brought, run)
        canary_free(caught)
        store.heal()
        assert lake.ledger.catalog.pointer() == before
        if brought is not None:
            lake.commit(brought, run)  # the very same rows, now that it answers
            before = lake.ledger.catalog.pointer()
    seen = {row["document"]: [c[3] for c in row["chunks"]] for row in lake.logical()}
    assert all(seen[name] == [name.replace("docs:d", "word")] for name in seen if name != "docs:z")
    with lake.reader() as reader:
        assert len(reader.chunk_rows().chunk) == len(seen) == before.commit  # none twice
    out, err = capfd.readouterr()
    assert KEY not in out + err + caplog.text and SECRET not in out + err + caplog.text


def test_a_store_that_slows_us_down_for_a_moment_is_asked_again(lake: Lake, store: Store, run: Any) -> None:
    lake.commit(rows(lake, "k0", {"z": ["zero"]}), run)
    for i, path in enumerate(("/data/", "_versions", "/blobs/", "_transactions")):
        store.fault(path=path, status=503, times=2)
        lake.commit(rows(lake, f"k{i + 1}", {f"d{i}": [f"word{i}"]}), run)
    store.heal()
    with lake.reader() as reader:
        assert len(reader.chunk_rows().chunk) == 5


def test_a_write_whose_answer_is_lost_is_not_doubled(lake: Lake, store: Store, run: Any) -> None:
    """The store has it, and the connection breaks: the engine writes again and meets its own manifest."""
    lake.commit(rows(lake, "k0", {"z": ["zero"]}), run)
    store.fault(method="PUT", path="_versions/", status=-1, times=1)
    try:
        lake.commit(rows(lake, "k1", {"a": ["one"]}), run)
    except StateUnavailable:
        store.heal()
        lake.commit(rows(lake, "k1", {"a": ["one"]}), run)
    with lake.reader() as reader:
        assert [c.text for c in reader.chunks(reader.chunk_rows().chunk.tolist())] == ["zero", "one"]
        assert len(reader.vectors("g:one")[0]) == 2 and len(reader.postings()) == 2


def test_readers_say_what_is_wrong(lake: Lake, store: Store, run: Any, opened: Callable[..., Lake]) -> None:
    digest = lake.keep(b"kept", **META).digest
    lake.commit(rows(lake, "k0", {"z": ["zero"]}), run)
    store.fault(status=403, body=BODY)
    fresh = opened()
    for read in (lambda: fresh.reader().chunk_rows(), lambda: fresh.bytes(digest), fresh.sizes):
        with pytest.raises(StateUnavailable, match="refused our key") as caught:
            read()
        canary_free(caught)
    assert SECRET not in repr(fresh.tables.where) + repr(vars(fresh)) + repr(vars(fresh.tables))


def test_a_table_that_someone_removed_is_missed(lake: Lake, run: Any, opened: Callable[..., Lake]) -> None:
    lake.commit(rows(lake, "k0", {"z": ["zero"]}), run)
    for info in lake.tables.where.objects("lake/chunks.lance"):
        lake.tables.where.files().delete_file(info.path)
    with pytest.raises(StateUnavailable, match="is not there"), opened().reader() as reader:
        reader.chunk_rows()


def test_no_bucket_and_no_store(tmp_path: Path, store: Store, opened: Callable[..., Lake], monkeypatch: Any) -> None:
    place(tmp_path, "s3://nowhere/p", store.settings())
    with pytest.raises(StateUnavailable, match="no such bucket") as caught:
        opened().keep(b"x", **META)
    canary_free(caught)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}"
    place(tmp_path, "s3://nowhere/p", {**store.settings(), "endpoint": dead})
    start = time.monotonic()
    with pytest.raises(StateUnavailable, match="does not answer") as caught:
        opened().keep(b"x", **META)
    canary_free(caught)
    assert time.monotonic() - start < 30
    monkeypatch.setattr(storage, "SILENT_S", 1)
    with socket.socket() as silent:  # takes connections and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        place(
            tmp_path, "s3://nowhere/p", {**store.settings(), "endpoint": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        )
        with pytest.raises(StateUnavailable, match="does not answer"):
            opened().keep(b"x", **META)


def test_nothing_of_a_key_is_in_the_state_folder(lake: Lake, run: Any, tmp_path: Path) -> None:
    lake.commit(rows(lake, "k0", {"z": ["zero"]}), run)
    lake.maintain()
    for path in (p for p in (tmp_path / "state").rglob("*") if p.is_file()):
        data = path.read_bytes()
        assert KEY.encode() not in data and SECRET.encode() not in data
    assert not list((tmp_path / "state" / "lake").glob("*.lance")) and not (tmp_path / "state" / "blobs").exists()
    held = b"".join(lake.tables.where.files().open_input_stream(i.path).read() for i in lake.tables.where.objects(""))
    assert SECRET.encode() not in held and len(io.BytesIO(held).read()) > 1000


def test_sizes_are_those_of_the_bucket(lake: Lake, run: Any) -> None:
    assert lake.sizes() == {"blobs": 0}
    pointer = lake.commit(rows(lake, "k0", {"z": ["zero"]}), run)
    sizes = lake.sizes()
    assert len(sizes) == len(pointer.tables) + 1 and all(size > 0 for size in sizes.values())
    assert ACTOR.name not in sizes
