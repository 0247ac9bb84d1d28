"""Tables that an earlier release wrote, without the columns of places: read, appended to, settled and compacted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drystone.lake import Lake, commit, tables
from drystone.lake.rows import Rows
from tests.lake.making import rows

BOTH_KINDS, FOLDER = True, set[str]()
ROOT = Path(__file__).resolve().parents[2]


def older(monkeypatch: Any) -> None:
    """As release 0.1.0 had them."""

    def then(table: str, data: Any) -> Any:
        found = tables.shaped(table, data)
        return found.drop_columns([name for name in ("place", "places") if name in found.schema.names])

    monkeypatch.setattr(commit, "shaped", then)


def placed(lake: Lake, key: str, content: dict[str, list[str]]) -> Rows:
    """Rows whose chunks and blocks say where they lie."""
    import pyarrow as pa

    found = rows(lake, key, content)
    where = ['{"slide":1}'] * len(found.chunks)
    documents = tuple(
        replace(d, parsed=replace(d.parsed, blocks=tuple(replace(b, place='{"slide":1}') for b in d.parsed.blocks)))
        for d in found.documents
    )
    return replace(found, documents=documents, chunks=found.chunks.append_column("place", pa.array(where, pa.string())))


def seen(lake: Lake) -> dict[str, tuple[list[Any], list[str]]]:
    """By document: the places of its chunks and of its blocks."""
    return {r["document"][5:]: ([c[6] for c in r["chunks"]], [b.place for b in r["blocks"]]) for r in lake.logical()}


OLD, NEW = ([None, None], ["", ""]), (['{"slide":1}'], ['{"slide":1}'])


def begin(opened: Callable[..., Lake], run: Any, count: int = 2, **settings: Any) -> Lake:
    with pytest.MonkeyPatch.context() as patch:
        older(patch)
        lake = opened(**settings)
        for i in range(count):
            lake.commit(rows(lake, f"k{i}", {f"old{i}": ["one", "two"]}), run)
    for table, version in lake.ledger.catalog.pointer().tables.items():
        assert not {"place", "places"} & set(lake.tables.open(table, version).schema.names)
    return opened(**settings)


def test_older_tables_are_read_appended_to_and_compacted(opened: Callable[..., Lake], run: Any) -> None:
    lake = begin(opened, run, lake__compact_fragments=3, lake__keep_versions=0)
    assert seen(lake) == {"old0": OLD, "old1": OLD}
    lake.commit(placed(lake, "n0", {"new0": ["red"]}), run)  # the third piece: it compacts as well
    assert seen(lake) == {"old0": OLD, "old1": OLD, "new0": NEW}
    pointer = lake.ledger.catalog.pointer()
    assert all(lake.tables.fragments(t, v) == 1 for t, v in pointer.tables.items())
    for i in range(1, 4):
        lake.commit(placed(lake, f"n{i}", {f"new{i}": ["red"]}), run)
    assert seen(lake) == {"old0": OLD, "old1": OLD, **{f"new{i}": NEW for i in range(4)}}
    with lake.reader() as reader:
        assert reader.arrow("chunks", [0, 1])["place"].to_pylist() == [None] * 4
        assert len(reader.chunk_rows().chunk) == 8


def test_older_tables_that_were_only_compacted_still_lack_the_columns(opened: Callable[..., Lake], run: Any) -> None:
    lake = begin(opened, run, count=3, lake__compact_fragments=100)
    lake = opened(lake__compact_fragments=2)
    lake.maintain()
    assert seen(lake) == {f"old{i}": OLD for i in range(3)}
    lake.commit(placed(lake, "n0", {"new": ["red"]}), run)
    assert seen(lake)["new"] == NEW and seen(lake)["old0"] == OLD


@pytest.mark.parametrize("dies", ["before the catalogue", "after the columns"])
def test_a_writer_that_dies_while_it_widens_leaves_nothing(
    opened: Callable[..., Lake], run: Any, monkeypatch: Any, dies: str
) -> None:
    import lance

    lake = begin(opened, run)
    brought = placed(lake, "n0", {"new": ["red"]})

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(*((lake.ledger.catalog, "apply") if dies.startswith("before") else (lance, "write_dataset")), die)
        lake.commit(brought, run)
    assert seen(lake) == {"old0": OLD, "old1": OLD}
    other = opened()  # the next writer, in another process as it were
    other.commit(placed(other, "n1", {"next": ["red"]}), run)
    assert seen(other) == seen(lake) == {"old0": OLD, "old1": OLD, "next": NEW}
    lake.commit(brought, run)
    assert seen(other) == {"old0": OLD, "old1": OLD, "next": NEW, "new": NEW}
    assert other.maintain().orphans == 0


READER = """
import sys
from pathlib import Path
from drystone.lake import Lake
from drystone.ledger import Ledger
from tests.lake.making import settings
folder = Path(sys.argv[1])
ledger = Ledger.open(folder / "state", project="shop", settings=settings(folder))
lake = Lake(folder / "state", ledger=ledger, settings=settings(folder))
with lake.reader() as reader:
    print("leased", flush=True)
    sys.stdin.readline()
    for reader in (reader, lake.reader()):
        found = reader.chunks(reader.chunk_rows().chunk.tolist())
        print(len(found), sum(c.place is not None for c in found), len(reader.vectors("g:one")[0]), flush=True)
"""


def test_a_reader_that_began_before_the_columns_goes_on(opened: Callable[..., Lake], run: Any, tmp_path: Path) -> None:
    lake = begin(opened, run, lake__compact_fragments=2, lake__keep_versions=0)
    child = subprocess.Popen([sys.executable, "-c", READER, str(tmp_path)], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True, cwd=ROOT)  # fmt: skip
    with child:
        assert child.stdin is not None and child.stdout is not None
        assert child.stdout.readline() == "leased\n"
        for i in range(3):
            lake.commit(placed(lake, f"n{i}", {f"new{i}": ["red"]}), run)
        lake.maintain()
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "4 0 4\n" and child.stdout.readline() == "7 3 7\n"
