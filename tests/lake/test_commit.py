"""A commit: whole or not at all, once for each key, in ascending numbers; readers see one pointer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from drystone.errors import Busy, NotFound, StateUnavailable, UsageError
from drystone.lake import Lake, Rows
from tests.lake.making import digest, rows, vector

BOTH_KINDS, FOLDER = (
    True,
    {
        "test_a_disk_that_refuses_leaves_the_pointer",
        "test_a_write_that_the_system_cuts_short_leaves_the_pointer",
        "test_every_table_names_its_key_and_is_private",
    },
)


def texts(lake: Lake) -> dict[str, list[str]]:
    """Every visible document's passages at the newest commit."""
    return {row["document"].removeprefix("docs:"): [c[3] for c in row["chunks"]] for row in lake.logical()}


def test_what_is_committed_is_read_back_whole(lake: Lake, run: Any) -> None:
    content = {"a": ["red fox", "blue fox fox"], "b": ["green hen"], "empty": []}
    pointer = lake.commit(rows(lake, "k1", content), run)
    with lake.reader() as reader:
        assert reader.pointer == pointer and reader.commit == 1 and pointer.generation == "g:one"
        found = reader.chunk_rows()
        assert found.tokens.tolist() == [2, 3, 2] and (np.diff(found.chunk) == 1).all()
        numbers, vectors = reader.vectors("g:one")
        assert numbers.tolist() == found.chunk.tolist()
        assert np.array_equal(vectors, np.stack([vector(t) for t in ("red fox", "blue fox fox", "green hen")]))
        first = int(numbers[0])
        back = reader.chunks([first + 2, first, first + 2])
        assert [c.text for c in back] == ["green hen", "red fox", "green hen"]
        assert (back[1].heading, back[1].page, back[1].ordinal) == (("Top",), None, 0)
        whole = reader.document(int(found.version[0]))
        assert whole.text == "red fox\nblue fox fox" and whole.title == "a"
        assert [whole.text[b.start : b.end] for b in whole.blocks] == content["a"]
        assert all(whole.text[c.start : c.end] == c.text for c in reader.chunks([first, first + 1]))
        assert reader.document(int(found.version[0]) + 2).text == ""
        (segment,) = reader.postings()
        place = int(np.searchsorted(segment.terms, int.from_bytes(digest("fox")[:8], "little")))
        where = slice(*segment.offsets[place : place + 2].tolist())
        assert segment.chunks[where].tolist() == [first, first + 1] and segment.counts[where].tolist() == [1, 2]
        assert reader.arrow("chunks", [int(found.version[0])])["text"].to_pylist() == content["a"]
        assert reader.arrow("documents", [])["text"].to_pylist() == []
    assert texts(lake) == content


def test_an_empty_lake_reads_as_empty(lake: Lake) -> None:
    with lake.reader() as reader:
        assert reader.chunk_rows().chunk.shape == (0,) and reader.vectors("g:one")[0].shape == (0,)
        assert reader.postings() == [] == reader.chunks([]) and reader.vectors_of([b"x" * 16], "g:one") == {}
        assert reader.arrow("chunks", [1]).num_rows == 0
        with pytest.raises(NotFound):
            reader.chunks([1])
        with pytest.raises(NotFound):
            reader.document(1)


def test_after_gives_only_what_is_newer(lake: Lake, run: Any) -> None:
    lake.commit(rows(lake, "k1", {"a": ["one", "two"]}), run)
    with lake.reader() as reader:
        last, segment = int(reader.chunk_rows().chunk[-1]), reader.postings()[-1].number
    lake.commit(rows(lake, "k2", {"b": ["three"]}), run)
    with lake.reader() as reader:
        assert [c.text for c in reader.chunks(reader.chunk_rows(last).chunk.tolist())] == ["three"]
        assert np.array_equal(reader.vectors("g:one", last)[1], vector("three")[None])
        assert [s.number for s in reader.postings(segment)] == [last + 1]
        assert len(reader.postings(last + 1)) == 0 == len(reader.chunk_rows(last + 1).chunk)


def test_the_same_key_is_one_commit(lake: Lake, run: Any) -> None:
    brought = rows(lake, "k1", {"a": ["one"]})
    first = lake.commit(brought, run)
    lake.commit(rows(lake, "k2", {"b": ["two"]}), run)
    assert lake.commit(brought, run) == first
    with lake.reader() as reader:
        assert len(reader.chunk_rows().chunk) == 2


def test_who_reserved_first_and_commits_last_is_renumbered(lake: Lake, run: Any) -> None:
    """Else a reader that asks for what is above the last number it saw would never meet these rows."""
    early = rows(lake, "early", {"a": ["one fox", "two fox"]})
    lake.commit(rows(lake, "late", {"b": ["three fox"]}), run)
    with lake.reader() as reader:
        last = int(reader.chunk_rows().chunk[-1])
    lake.commit(early, run)
    with lake.reader() as reader:
        fresh = reader.chunk_rows(last).chunk
        assert [c.text for c in reader.chunks(fresh.tolist())] == ["one fox", "two fox"]
        assert np.array_equal(reader.vectors("g:one", last)[1], np.stack([vector("one fox"), vector("two fox")]))
        (segment,) = reader.postings(last)
        assert set(segment.chunks.tolist()) == set(fresh.tolist()) and segment.number == fresh[0]
    assert texts(lake) == {"a": ["one fox", "two fox"], "b": ["three fox"]}


def test_a_writer_that_dies_before_the_catalogue_leaves_nothing(lake: Lake, run: Any, monkeypatch: Any) -> None:
    lake.commit(rows(lake, "k1", {"a": ["one"]}), run)
    before = lake.ledger.catalog.pointer()
    brought = rows(lake, "k2", {"b": ["two"]})

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(lake.ledger.catalog, "apply", die)
        lake.commit(brought, run)
    assert lake.ledger.catalog.pointer() == before and texts(lake) == {"a": ["one"]}
    lake.commit(rows(lake, "k3", {"c": ["three"]}), run)  # puts the orphans aside
    with lake.reader() as reader:
        assert [c.text for c in reader.chunks(reader.chunk_rows().chunk.tolist())] == ["one", "three"]
    lake.commit(brought, run)  # the very same rows again
    assert texts(lake) == {"a": ["one"], "b": ["two"], "c": ["three"]}
    with lake.reader() as reader:
        numbers = reader.chunk_rows().chunk
        assert len(numbers) == len(set(numbers.tolist())) == 3


def test_a_table_whose_first_writer_died_starts_again(lake: Lake, run: Any, monkeypatch: Any) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(lake.ledger.catalog, "apply", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        lake.commit(rows(lake, "k1", {"a": ["one"]}), run)
    lake.commit(rows(lake, "k2", {"b": ["two"]}), run)
    assert texts(lake) == {"b": ["two"]}


def test_versions_and_removals(lake: Lake, run: Any) -> None:
    lake.commit(rows(lake, "k1", {"a": ["one"], "b": ["two"]}), run)
    lake.commit(rows(lake, "k2", {"a": ["uno"]}, removed=("b",)), run)
    assert texts(lake) == {"a": ["uno"]}
    assert [r["document"] for r in lake.logical(1)] == ["docs:a", "docs:b"]


def test_vectors_are_found_by_the_chunks_digest(lake: Lake, run: Any) -> None:
    lake.commit(rows(lake, "k1", {"a": ["one", "two"]}), run)
    lake.commit(rows(lake, "k2", {"b": ["three"]}, generation=None), run)  # no vector for this one
    with lake.reader() as reader:
        found = reader.vectors_of([digest("two"), digest("three"), digest("four"), digest("one")], "g:one")
        assert set(found) == {digest("one"), digest("two")}
        assert np.array_equal(found[digest("two")], vector("two"))
        assert reader.vectors_of([digest("two")], "g:other") == {}


def test_a_generation_is_switched_in_one_commit_and_never_mixed(lake: Lake, run: Any) -> None:
    lake.commit(rows(lake, "k1", {"a": ["one"]}), run)
    beside = rows(lake, "x", {"z": ["one"]}, generation="g:two", wide=4)
    with lake.reader() as reader:
        number = reader.chunk_rows().chunk
    table = beside.vectors.set_column(0, "chunk", [number])
    pointer = lake.commit(Rows(key="build", vectors=table, generation="g:two"), run)
    assert pointer.generation == "g:one"
    with pytest.raises(Busy):
        lake.commit(rows(lake, "wrong", {"c": ["two"]}, generation="g:two", wide=4), run)
    with pytest.raises(Busy):
        lake.commit(Rows(key="late", generation="g:two", switch=True, expects=1), run)
    pointer = lake.commit(Rows(key="switch", generation="g:two", switch=True, expects=2), run)
    assert pointer.generation == "g:two"
    with lake.reader() as reader:
        assert reader.vectors("g:two")[1].shape == (1, 4) and reader.vectors("g:one")[1].shape == (1, 8)


def test_vectors_that_are_there_already_are_refused(lake: Lake, run: Any) -> None:
    lake.commit(rows(lake, "k1", {"a": ["one"]}), run)
    again = rows(lake, "x", {"z": ["one"]}).vectors
    with lake.reader() as reader:
        again = again.set_column(0, "chunk", [reader.chunk_rows().chunk])
    with pytest.raises(UsageError):
        lake.commit(Rows(key="again", vectors=again, generation="g:one"), run)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: replace(r, chunks=r.chunks.drop_columns(["text"])),
        lambda r: replace(r, chunks=r.chunks.set_column(1, "version", [["x"] * len(r.chunks)])),
        lambda r: replace(r, chunks=r.chunks.set_column(1, "version", [[None] * len(r.chunks)])),
        lambda r: replace(r, chunks=r.chunks.set_column(4, "digest", [[b"short"] * len(r.chunks)])),
        lambda r: replace(r, chunks=r.chunks[:1]),
        lambda r: replace(r, generation=None),
        lambda r: replace(r, generation="../../etc"),
    ],
)
def test_rows_that_do_not_fit_change_nothing(lake: Lake, run: Any, spoil: Callable[[Rows], Rows]) -> None:
    with pytest.raises(UsageError):
        lake.commit(spoil(rows(lake, "k", {"a": ["one", "two"]})), run)
    assert lake.ledger.catalog.pointer().commit == 0 and not list(lake.folder.glob("*.lance"))


def test_a_disk_that_refuses_leaves_the_pointer(lake: Lake, run: Any, monkeypatch: Any) -> None:
    import lance

    lake.commit(rows(lake, "k1", {"a": ["one"]}), run)
    brought, before, write = rows(lake, "k2", {"b": ["two"]}), lake.ledger.catalog.pointer(), lance.write_dataset

    def full(data: Any, uri: Any, **options: Any) -> Any:
        if "postings" in str(getattr(uri, "uri", uri)):
            raise OSError("LanceError(IO): No space left on device (os error 28)")
        return write(data, uri, **options)

    with monkeypatch.context() as patch:
        patch.setattr(lance, "write_dataset", full)
        with pytest.raises(StateUnavailable, match="disk is full"):
            lake.commit(brought, run)
    assert lake.ledger.catalog.pointer() == before and texts(lake) == {"a": ["one"]}
    assert lake.commit(brought, run).commit == 2 and texts(lake) == {"a": ["one"], "b": ["two"]}


def test_a_write_that_the_system_cuts_short_leaves_the_pointer(lake: Lake, run: Any) -> None:
    """The engine itself meets the error here, as with a full disk."""
    import resource

    lake.commit(rows(lake, "k1", {"a": ["one"]}), run)
    brought = rows(lake, "k2", {"b": [f"word{i}" for i in range(500)]})
    before, limit = lake.ledger.catalog.pointer(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))
    try:
        with pytest.raises(StateUnavailable):
            lake.commit(brought, run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert lake.ledger.catalog.pointer() == before and texts(lake) == {"a": ["one"]}
    lake.commit(brought, run)
    assert len(texts(lake)["b"]) == 500 and lake.maintain().orphans == 0


def test_every_table_names_its_key_and_is_private(lake: Lake, run: Any) -> None:
    pointer = lake.commit(rows(lake, "k1", {"a": ["one"]}), run)
    for table, version in pointer.tables.items():
        field = lake.tables.open(table, version).schema.field(0)
        assert field.metadata[b"lance-schema:unenforced-primary-key"] == b"true", table
    for folder in (lake.folder, lake.leases, lake.blobs.shelf.folder):
        assert folder.stat().st_mode & 0o777 == 0o700
