"""Tables as sources: formats, refusals, broken rows."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from drystone.errors import SettingsError, SourceUnavailable
from drystone.ingest.rows import RowsSource
from drystone.records import Failure, Item
from drystone.testing import check_source
from tests.ingest.build import config, settings

ROWS = [
    {"key": "1", "body": "First text", "who": ["group:hr"], "level": "internal"},
    {"key": 2, "body": "Second, text", "who": ["group:hr", "user:bo"], "level": "public"},
]
FIELDS = {"id": "key", "text": "body", "readers": "who", "classification": "level"}


def source(tmp_path: Path, name: str, data: bytes, **more: Any) -> RowsSource:
    (tmp_path / name).write_bytes(data)
    return RowsSource(config("rows", name, **more), settings(tmp_path))


def lines(*rows: Any) -> bytes:
    return b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows)


def parquet(rows: list[dict[str, Any]]) -> bytes:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([{**r, "key": str(r["key"])} for r in rows]), out)
    return out.getvalue()


CSV = b'key,body,who,level\n1,First text,group:hr,internal\n2,"Second, text","group:hr; user:bo",public\n'


TSV = b"key\tbody\twho\tlevel\n1\tFirst text\tgroup:hr\tinternal\n2\tSecond, text\tgroup:hr|user:bo\tpublic\n"


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.jsonl", lines(*ROWS)), ("a.jsonl.gz", gzip.compress(lines(*ROWS))), ("a.csv", CSV),
     ("a.csv.gz", gzip.compress(CSV)), ("a.tsv", TSV),
     ("a.parquet", parquet(ROWS)), ("a.parquet.gz", gzip.compress(parquet(ROWS)))],
    ids=lambda v: v if isinstance(v, str) else "",
)  # fmt: skip
def test_every_format_gives_the_same_documents(tmp_path: Path, name: str, data: bytes) -> None:
    made = source(tmp_path, name, data, fields=FIELDS)
    check_source(made)
    items = [i for i in made.list() if isinstance(i, Item)]
    assert [i.id for i in items] == ["1", "2"]
    assert [json.loads(made.read(i))["text"] for i in items] == ["First text", "Second, text"]
    assert items[1].permissions == {"readers": ["group:hr", "user:bo"], "classification": "public"}


def kinds(made: RowsSource) -> list[str]:
    return [f.kind if isinstance(f, Failure) else f.id for f in made.list()]


def test_what_lacks_something_is_refused_and_listed(tmp_path: Path) -> None:
    rows = lines(
        {"key": "", "body": "x", "who": ["a"]}, {"body": "x", "who": ["a"]}, {"key": "3", "body": " ", "who": ["a"]},
        {"key": "4", "body": "x", "who": []}, {"key": "5", "body": "x", "who": None}, {"key": "6", "body": "x"},
        {"key": "7", "body": "x", "who": ["a"]}, {"key": "7", "body": "x", "who": ["a"]}, {"key": True, "body": "x"},
    )  # fmt: skip
    assert kinds(source(tmp_path, "a.jsonl", rows, fields=FIELDS)) == [
        "no_id", "no_id", "no_text", "no_readers", "no_readers", "no_readers", "7", "duplicate_id", "no_id"]  # fmt: skip


def test_a_readers_column_counts_even_unnamed(tmp_path: Path) -> None:
    rows = lines({"id": "1", "text": "x", "readers": []}, {"id": "2", "text": "x"})
    assert kinds(source(tmp_path, "a.jsonl", rows)) == ["no_readers", "2"]


def test_a_broken_row_fails_alone(tmp_path: Path) -> None:
    rows = lines({"id": "1", "text": "x"}, b'{"id": "2", "text": "\xff"}\n', b"not json\n", b"[1]\n", b"\n",
                 b'{"id": "3", "text": "\\ud800"}\n', b'{"a":' * 100_000 + b"\n", {"id": "4", "text": "y"})  # fmt: skip
    assert kinds(source(tmp_path, "a.jsonl", rows)) == [
        "1", "encoding", "malformed", "malformed", "encoding", "malformed", "4"]  # fmt: skip
    table = b"id,text\n1,x\n2,\xff\n3,y,z\n4,v\n"
    assert kinds(source(tmp_path, "a.csv", table)) == ["1", "encoding", "malformed", "4"]


def test_a_huge_row_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines({"id": "1", "text": "x" * 3_000_000}, {"id": "2", "text": "y"}))
    made = RowsSource(config("rows", "a.jsonl"), settings(tmp_path, ingest__max_file_mb=1))
    assert kinds(made) == ["too_large", "2"]


@pytest.mark.parametrize("data", [gzip.compress(lines(*ROWS) * 50)[:-20], b"\x1f\x8bjunk"])
def test_a_file_that_breaks_off_is_an_outage(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(SourceUnavailable):
        list(source(tmp_path, "a.jsonl.gz", data, fields=FIELDS).list())
    with pytest.raises(SourceUnavailable):
        list(source(tmp_path, "a.parquet", parquet(ROWS)[:-30], fields=FIELDS).list())
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(SourceUnavailable):
        list(RowsSource(config("rows", "a.parquet"), settings(tmp_path)).list())


def test_a_row_that_changes_between_listing_and_reading(tmp_path: Path) -> None:
    made = source(tmp_path, "a.jsonl", lines({"id": "1", "text": "x"}))
    item = next(i for i in made.list() if isinstance(i, Item))
    (tmp_path / "a.jsonl").write_bytes(lines({"id": "1", "text": "z"}))
    with pytest.raises(OSError):
        made.read(item)


def test_a_title_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    prints = set()
    for title in ("A", "B"):
        made = source(tmp_path, "a.jsonl", lines({"id": "1", "text": "x", "title": title}))
        prints |= {i.fingerprint for i in made.list() if isinstance(i, Item)}
    assert len(prints) == 2


def test_options_are_checked(tmp_path: Path) -> None:
    for more in ({"fields": {"colour": "c"}}, {"text_type": "image/png"}, {"nonsense": 1}):
        with pytest.raises(SettingsError):
            RowsSource(config("rows", "a.jsonl", **more), settings(tmp_path))
    with pytest.raises(SettingsError):
        RowsSource(config("rows", "a.xlsx"), settings(tmp_path))
