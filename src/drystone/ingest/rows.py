"""A table as a source: each row is a document. JSON Lines, CSV and Parquet, each also with ``.gz``.

Guarantees: a row without an id, a text or (where a column names them) readers is refused and listed; so is a second
row with an id that was there before. A row that cannot be decoded or parsed fails alone; a file that breaks off in
the middle is ``SourceUnavailable``, because what follows is unknown. Rows stream: memory holds one row and the ids.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any, BinaryIO

from drystone.errors import SettingsError, SourceUnavailable
from drystone.ingest.media import ROW
from drystone.records import Failure, Item
from drystone.settings import Settings, SourceConfig

Row = tuple[int, Mapping[str, Any] | Failure]  # its number in the file, counted from 1
_FIELDS = ("id", "title", "text", "readers", "classification", "regions", "purposes", "expires", "retention", "trust")
_LISTS = {"readers", "regions", "purposes"}
_OPTIONS = {"path", "fields", "format", "delimiter", "text_type"}
_FORMATS = {"jsonl": "jsonl", "ndjson": "jsonl", "csv": "csv", "tsv": "csv", "parquet": "parquet"}
_TYPES = {"text/plain", "text/markdown", "text/html"}
_ODD = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_BROKEN = (OSError, EOFError, zlib.error)


class RowsSource:
    """Options: ``path``; ``fields`` (ours to the table's column; a column of our name needs none); ``format``
    (``jsonl``, ``csv``, ``parquet``; by default from the name); ``delimiter``; ``text_type`` (the media type of the
    texts, ``text/plain`` by default)."""

    def __init__(self, config: SourceConfig, settings: Settings) -> None:
        options = config.options
        unknown = set(options) - _OPTIONS
        if unknown or not isinstance(options.get("path"), str):
            self._bad(
                config, f"has {', '.join(sorted(unknown))}, which we do not know" if unknown else "has no path",
                f"A source of type rows has: {', '.join(sorted(_OPTIONS))}.",
            )  # fmt: skip
        fields = options.get("fields", {})
        if not isinstance(fields, Mapping) or set(fields) - set(_FIELDS):
            self._bad(config, "has fields that we do not know", f"There are: {', '.join(_FIELDS)}.")
        self.name = config.name
        self.path = os.path.realpath(settings.folder / options["path"])
        bare = self.path.lower().removesuffix(".gz")
        form = options.get("format") or _FORMATS.get(bare.rpartition(".")[2], "")
        if form not in _FORMATS.values():
            self._bad(config, "is no table that we can read", "We read .jsonl, .csv, .tsv and .parquet, also .gz.")
        text_type = options.get("text_type", "text/plain")
        if text_type not in _TYPES:
            self._bad(config, f"has text_type = {text_type!r}", f"Use one of {', '.join(sorted(_TYPES))}.")
        self._table = _Table(
            name=config.name,
            path=self.path,
            form=form,
            delimiter=options.get("delimiter") or ("\t" if bare.endswith(".tsv") else ""),
            text_type=text_type,
            columns={name: str(fields.get(name, name)) for name in _FIELDS},
            named=frozenset(fields),
            most=int(settings["ingest.max_file_mb"]) << 20,
        )
        self._cursor: Iterator[tuple[Item, bytes]] = iter(())
        self._lock = threading.Lock()

    @staticmethod
    def _bad(config: SourceConfig, what: str, looked: str) -> None:
        raise SettingsError(f"The source {config.name!r} {what}.", looked=looked)

    def watched(self) -> Sequence[str]:
        return (self.path,)

    def list(self) -> Iterator[Item | Failure]:
        """In the file's order. Raises ``SourceUnavailable``."""
        seen: set[str] = set()
        for found in self._table.documents():
            if isinstance(found, Failure):
                yield found
                continue
            item = found[0]
            if item.id in seen:
                yield Failure(f"{self.name}:{item.id}", "duplicate_id", "An earlier row has the same id.")
                continue
            seen.add(item.id)
            yield item

    def read(self, item: Item) -> bytes:
        """The row as JSON. Quick in the order of the listing. Raises ``OSError`` if the row is not there any more."""
        with self._lock:
            for _ in range(2):
                for found, data in self._cursor:
                    if found.id == item.id and found.fingerprint == item.fingerprint:
                        return data
                self._cursor = (found for found in self._table.documents() if not isinstance(found, Failure))
            for found, data in self._cursor:
                if found.id == item.id and found.fingerprint == item.fingerprint:
                    return data
        raise OSError("the row changed since it was listed")


@dataclass(frozen=True, slots=True)
class _Table:
    """Reads the file. Knows nothing of the source, so that an open reading ends with whoever reads."""

    name: str
    path: str
    form: str
    delimiter: str
    text_type: str
    columns: Mapping[str, str]  # ours to the table's
    named: frozenset[str]  # those that the source's table names
    most: int  # bytes of one row

    def documents(self) -> Iterator[tuple[Item, bytes] | Failure]:
        for number, row in self._rows():
            yield row if isinstance(row, Failure) else self._document(number, row)

    def _document(self, number: int, row: Mapping[str, Any]) -> tuple[Item, bytes] | Failure:
        values = {name: row.get(column) for name, column in self.columns.items()}
        given = values["id"]
        identity = given.strip() if isinstance(given, str) else str(given) if _whole(given) else ""
        if not identity:
            return Failure(f"{self.name}:row {number}", "no_id", f"Row {number} has no id.")
        if _ODD.search(identity):
            return Failure(f"{self.name}:row {number}", "no_id", f"Row {number} has an id with control characters.")
        document = f"{self.name}:{identity}"
        text = values["text"]
        if not isinstance(text, str) or not text.strip():
            return Failure(document, "no_text", f"Row {number} has no text.")
        parts: dict[str, Any] = {}
        for name in _FIELDS[3:]:
            value = _list(values[name]) if name in _LISTS else values[name]
            if name == "readers" and not value and (name in self.named or self.columns[name] in row):
                return Failure(document, "no_readers", f"Row {number} has no readers; it is refused, not public.")
            if value is not None and value != "":
                parts[name] = value.isoformat() if isinstance(value, datetime) else value
        title = "" if values["title"] is None else str(values["title"])
        if _lone(identity) or _lone(text) or _lone(title):
            return Failure(f"{self.name}:row {number}", "encoding", f"Row {number} is not valid UTF-8.")
        data = json.dumps({"title": title, "text": text, "type": self.text_type}, ensure_ascii=False).encode()
        fingerprint = blake2b(data, digest_size=16).hexdigest()
        return Item(identity, fingerprint, len(data), ROW, title, parts or None), data

    def _failure(self, number: int, kind: str, reason: str) -> Row:
        return number, Failure(f"{self.name}:row {number}", kind, f"Row {number} {reason}.")

    # -- from bytes to rows ----------------------------------------------------------------------------
    def _rows(self) -> Iterator[Row]:
        reader = {"jsonl": self._jsonl, "csv": self._csv, "parquet": self._parquet}[self.form]
        try:
            with open(self.path, "rb") as raw:
                packed = raw.read(2) == b"\x1f\x8b"
                raw.seek(0)
                if packed:
                    with gzip.open(raw) as unpacked:
                        yield from reader(unpacked)  # type: ignore[arg-type]
                else:
                    yield from reader(raw)
        except _BROKEN as error:
            raise SourceUnavailable(
                f"The table of the source {self.name!r} could not be read to its end ({type(error).__name__}).",
                looked=f"We read {self.path}.",
                todo="Nothing was removed. Put the whole file there and ingest again.",
            ) from None

    def _jsonl(self, file: BinaryIO) -> Iterator[Row]:
        number = 0
        while line := file.readline(self.most + 1):
            number += 1
            if len(line) > self.most:
                while line and not line.endswith(b"\n"):
                    line = file.readline(1 << 20)
                yield self._failure(number, "too_large", "is larger than ingest.max_file_mb")
                continue
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode())
            except UnicodeDecodeError:
                yield self._failure(number, "encoding", "is not valid UTF-8")
            except (ValueError, RecursionError):
                yield self._failure(number, "malformed", "is not JSON")
            else:
                good = isinstance(row, dict)
                yield (number, row) if good else self._failure(number, "malformed", "is no JSON object")

    def _csv(self, file: BinaryIO) -> Iterator[Row]:
        text = io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="")
        try:
            yield from self._lines(text)
        finally:
            if not text.closed:
                text.detach()  # who opened the file closes it

    def _lines(self, text: io.TextIOWrapper) -> Iterator[Row]:
        csv.field_size_limit(max(csv.field_size_limit(), self.most))
        first = text.readline(1 << 20)
        delimiter = self.delimiter or max(",;\t|", key=first.count)
        reader = csv.reader(_chain(first, text), delimiter=delimiter)
        header: list[str] | None = None
        number = 0
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error:
                number += 1
                yield self._failure(number, "malformed", "is not CSV")
                continue
            if header is None:
                header = [name.strip() for name in cells]
                continue
            number += 1
            if not cells:
                continue
            if len(cells) != len(header):
                yield self._failure(number, "malformed", f"has {len(cells)} cells under {len(header)} columns")
                continue
            yield number, dict(zip(header, cells, strict=True))

    def _parquet(self, file: BinaryIO) -> Iterator[Row]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.ParquetFile(file if isinstance(file, io.BufferedReader) else io.BytesIO(file.read()))
            wanted = [c for c in self.columns.values() if c in table.schema_arrow.names]
            number = 0
            for batch in table.iter_batches(batch_size=256, columns=wanted):
                for at in range(batch.num_rows):
                    number += 1
                    try:
                        yield number, batch.slice(at, 1).to_pylist()[0]
                    except UnicodeDecodeError:
                        yield self._failure(number, "encoding", "is not valid UTF-8")
        except pa.ArrowException as error:
            raise EOFError(str(error)) from None


def _chain(first: str, rest: io.TextIOWrapper) -> Iterator[str]:
    if first:
        yield first
    yield from rest


def _list(value: object) -> object:
    """A list of names from a cell: a list, JSON, or names parted by commas, semicolons or bars."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("["):
        try:
            return json.loads(text)
        except ValueError:
            return text  # the label refuses it, and says so
    for mark in ";|":
        text = text.replace(mark, ",")
    return [name.strip() for name in text.split(",") if name.strip()] or None


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _lone(text: str) -> bool:
    """True for what no UTF-8 can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
