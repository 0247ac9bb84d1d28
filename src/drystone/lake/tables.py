"""The Lance tables: the only importer of ``lance``.

Guarantees: rows are only ever appended; every table carries primary-key metadata; ``append`` builds on the version
that it is told, so rows above it (a crashed writer's) vanish instead of joining the next commit; when it returns, the
new version's files are on disk, or acknowledged by the store. Row order is append order, and compaction keeps it.
Whatever the engine, the disk or the store refuses becomes ``StateUnavailable`` without a word of the rows' content or
of a key. The caller holds the writers' lock for everything but reads.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from drystone.errors import StateUnavailable, UsageError
from drystone.lake.storage import Bucket, spoken

if TYPE_CHECKING:
    import pyarrow as pa

KEY = {"lance-schema:unenforced-primary-key": "true"}
VECTORS = "vectors-"
PIECE = 2048  # rows that the engine is given at a time
OPEN = 16  # datasets kept open
LAST = 2**64 - 1  # a manifest's name is this minus its version, so that the newest is listed first
INDEX_CACHE, METADATA_CACHE = 1 << 20, 64 << 20  # bytes; there is no index
PLAIN: Literal["2.0"] = "2.0"  # this layout loads vectors in half the processor time of the newest (bench/lake.py)


def schema(table: str, dimensions: int = 0) -> pa.Schema:
    """The columns of ``documents``, ``chunks``, ``postings`` or ``vectors-<generation>``."""
    import pyarrow as pa

    def column(name: str, kind: pa.DataType, *, key: bool = False, null: bool = False) -> Any:
        return pa.field(name, kind, nullable=null, metadata=KEY if key else None)

    if table == "documents":
        block = pa.struct(
            [
                column("kind", pa.string()),
                column("start", pa.int32()),
                column("end", pa.int32()),
                column("level", pa.int32()),
                column("page", pa.int32(), null=True),
            ]
        )
        return pa.schema(
            [
                column("version", pa.int32(), key=True),
                column("text", pa.large_string()),
                column("title", pa.string()),
                column("blocks", pa.list_(pa.field("item", block, nullable=False))),
                column("places", pa.list_(pa.field("item", pa.string(), nullable=False)), null=True),  # of the blocks
            ]
        )
    if table == "chunks":
        return pa.schema(
            [
                column("chunk", pa.int64(), key=True),
                column("version", pa.int32()),
                column("ordinal", pa.int32()),
                column("id", pa.string()),
                column("digest", pa.binary()),
                column("start", pa.int32()),
                column("end", pa.int32()),
                column("text", pa.string()),
                column("heading", pa.list_(pa.field("item", pa.string(), nullable=False))),
                column("page", pa.int32(), null=True),
                column("tokens", pa.int32()),
                column("language", pa.string()),
                column("place", pa.string(), null=True),
            ]
        )
    if table == "postings":
        return pa.schema(
            [
                column("segment", pa.int64(), key=True),
                column("term", pa.uint64(), key=True),
                column("chunks", pa.list_(pa.field("item", pa.int64(), nullable=False))),
                column("counts", pa.list_(pa.field("item", pa.uint8(), nullable=False))),
            ]
        )
    if table.startswith(VECTORS) and dimensions > 0:
        vector = pa.list_(pa.field("item", pa.float32(), nullable=False), dimensions)
        return pa.schema([column("chunk", pa.int64(), key=True), column("vector", vector)])
    raise UsageError(f"There is no table {table!r}.", todo="Use documents, chunks, postings or vectors-<generation>.")


def shaped(table: str, rows: pa.Table) -> pa.Table:
    """``rows`` with exactly the columns and types of ``table``, or ``UsageError``."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = schema(table, rows.schema.field("vector").type.list_size if table.startswith(VECTORS) else 0)
    for field in wanted:
        if field.nullable and field.name not in rows.schema.names:
            rows = rows.append_column(field.name, pa.nulls(len(rows), field.type))
    try:
        found = rows.select(wanted.names)
        for field in wanted:
            if not field.nullable and found[field.name].null_count:
                raise UsageError(f"Column {field.name} of {table} has nulls.")
        if table == "chunks" and (pc.min(pc.binary_length(found["digest"])).as_py() or 8) < 8:
            raise UsageError("A chunk's digest has fewer than 8 bytes.")
        return pa.table([found[f.name].cast(f.type) for f in wanted], schema=wanted)
    except (KeyError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UsageError(
            f"These rows do not fit the table {table}.",
            looked=f"They have {', '.join(rows.schema.names)}.",
            todo=f"It takes {', '.join(wanted.names)}.",
        ) from error


class Tables:
    """Lance tables in one folder or bucket, opened by version."""

    def __init__(self, where: Path | Bucket) -> None:
        self.where = where
        self._session: Any = None
        self._owned = False
        self._open: dict[tuple[str, int], Any] = {}
        self._last: dict[str, tuple[int, int]] = {}  # by table: a version and its last chunk's number
        self._lock = threading.Lock()

    def named(self, table: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_:-]+", table):
            raise UsageError(f"{table!r} cannot name a table.")
        return table

    def uri(self, table: str) -> str:
        folder = self.where if isinstance(self.where, Path) else f"{self.where.url}/lake"
        return f"{folder}/{self.named(table).replace(':', '-')}.lance"

    def _dataset(self, table: str, version: int | None = None) -> Any:
        import lance

        return lance.dataset(self.uri(table), version=version, **self._reach())

    def _reach(self) -> dict[str, Any]:
        """One session for all tables keeps what it read of files, and its connections."""
        import lance

        with self._lock:
            if self._session is None:
                self._session = lance.Session(INDEX_CACHE, METADATA_CACHE)  # type: ignore[attr-defined]
        options = self.where.lance() if isinstance(self.where, Bucket) else None
        return {"session": self._session, "storage_options": options}

    def own(self, ledger: str) -> None:
        """Make sure, once a process, that the bucket's prefix is ``ledger``'s. ``StateUnavailable`` if it is another's.

        The marker is the first version of an empty table: a version is made by a conditional write, so of several
        that try at once one makes the first, and what the others make or are refused does not count. A folder
        belongs to the ledger beside it.
        """
        if self._owned or not isinstance(self.where, Bucket):
            return
        import lance
        import pyarrow as pa

        uri = f"{self.where.url}/ledger.lance"
        mark = pa.schema([pa.field("empty", pa.bool_())], metadata={"drystone.ledger": ledger}).empty_table()
        with spoken(uri):
            try:
                lance.write_dataset(mark, uri, mode="create", **self._reach())
            except OSError as error:
                if not re.search("already exists|conflict", str(error)):
                    raise
            first = lance.dataset(uri, version=1, **self._reach())
            owner = (first.schema.metadata or {}).get(b"drystone.ledger", b"").decode()
        if owner != ledger:
            raise StateUnavailable(
                f"{self.where.url} belongs to another ledger ({owner}); nothing was written.",
                looked=f"This project's is {ledger}.",
                todo="Give each project a prefix of its own. All writers of one project share one state folder.",
            )
        self._owned = True

    def open(self, table: str, version: int) -> Any:
        """The table as it was at ``version``."""
        with self._lock:
            found = self._open.get((table, version))
        if found is None:
            with self._engine(table):
                found = self._dataset(table, version)
            self._remember(table, version, found)
        return found

    def _remember(self, table: str, version: int, dataset: Any) -> None:
        with self._lock:
            self._open[table, version] = dataset
            while len(self._open) > OPEN:
                del self._open[next(iter(self._open))]

    def read(
        self, table: str, version: int, columns: Sequence[str], *, filter: str | None = None, offset: int = 0
    ) -> pa.Table:
        """Columns in row order, from row ``offset`` or where ``filter`` holds."""
        dataset = self.open(table, version)
        with self._engine(table):
            there = _there(dataset, columns)
            found: pa.Table = dataset.to_table(columns=there, filter=filter, offset=offset or None)
        return _with_nulls(table, found, columns)

    def take(self, table: str, version: int, offsets: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Rows by offset, in the order asked."""
        dataset = self.open(table, version)
        with self._engine(table):
            found: pa.Table = dataset.take(list(offsets), columns=_there(dataset, columns))
        return _with_nulls(table, found, columns)

    def vectors(self, table: str, version: int, offset: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Numbers (n,) and vectors (n, d) in row order, from row ``offset``; one copy, batch by batch."""
        dataset = self.open(table, version)
        with self._engine(table):
            n = max(0, int(dataset.count_rows()) - offset)
            chunk = np.empty(n, np.int64)
            vectors = np.empty((n, dataset.schema.field("vector").type.list_size), np.float32)
            at = 0
            for batch in dataset.to_batches(offset=offset or None, batch_size=8192, scan_in_order=True):
                end = at + len(batch)
                chunk[at:end] = batch.column("chunk").to_numpy()
                vectors[at:end] = batch.column("vector").flatten().to_numpy().reshape(end - at, -1)
                at = end
        return chunk, vectors

    def last(self, table: str, version: int | None) -> int:
        """The chunk number of the last row, which is the highest; -1 if there is none."""
        if version is None:
            return -1
        known = self._last.get(table)
        if known is None or known[0] != version:
            count = int(self.open(table, version).count_rows())
            end = self.take(table, version, [count - 1], ("chunk",))["chunk"][0].as_py() if count else -1
            known = self._last[table] = (version, end)
        return known[1]

    def append(self, table: str, rows: pa.Table, at: int | None) -> int:
        """Append to version ``at`` (``None``: the table is new) and return the new version, durable."""
        with self._writing(table, new=at is None):
            dataset = self._create(table, rows) if at is None else self._add(table, rows, at)
        version = int(dataset.version)
        self._remember(table, version, dataset)
        if "chunk" in rows.schema.names:
            self._last[table] = (version, rows["chunk"][-1].as_py())
        return version

    def _create(self, table: str, rows: pa.Table) -> Any:
        import lance

        layout: Any = PLAIN if table.startswith(VECTORS) else None
        for mode in ("create", "overwrite"):  # what is there already, a writer left that died before its commit
            try:
                return lance.write_dataset(
                    _streamed(rows),
                    self.uri(table),
                    schema=rows.schema,
                    mode=mode,
                    data_storage_version=layout,
                    **self._reach(),
                )
            except OSError as error:
                if mode == "overwrite" or "already exists" not in str(error):
                    raise

    def _add(self, table: str, rows: pa.Table, at: int) -> Any:
        """Nobody is asked beforehand what is above ``at``: that the new version is the next one says it."""
        import lance

        pointed = self.open(table, at)
        new = [field for field in rows.schema if field.name not in pointed.schema.names]
        if not new:
            try:
                dataset = lance.write_dataset(_streamed(rows), pointed, schema=rows.schema, mode="append")
                if dataset.version == at + 1:
                    return dataset
            except OSError:
                if pointed.latest_version == at:
                    raise
        settled = self.settle(table, at)[0]
        if new:  # a column that a later release brought is empty in the rows before
            settled = self._dataset(table)  # not the one that readers of ``at`` share
            settled.add_columns(new)
        return lance.write_dataset(_streamed(rows), settled, schema=rows.schema, mode="append")

    def settle(self, table: str, at: int) -> tuple[Any, int]:
        """The newest dataset, with the rows of version ``at``: what a crashed writer left above is put aside.

        Also how many rows went, usually none.
        """
        with self._engine(table):
            pointed = self.open(table, at)
            if pointed.latest_version == at:
                return pointed, 0
            orphans = self._dataset(table).count_rows() - pointed.count_rows()
            restored = self._dataset(table, at)
            restored.restore()
            return restored, int(orphans)

    def versions(self, table: str) -> list[int]:
        """Every version there is, ascending, by the names of their manifests: Lance itself would read them all."""
        with self._engine(table):
            if isinstance(self.where, Bucket):
                folder = self.uri(table).removeprefix(f"{self.where.url}/")
                names = [Path(info.path) for info in self.where.objects(f"{folder}/_versions")]
            else:
                names = list(Path(self.uri(table), "_versions").iterdir())
            return sorted(LAST - int(name.stem) for name in names if name.suffix == ".manifest")

    def fragments(self, table: str, version: int) -> int:
        return len(self.open(table, version).get_fragments())

    def pieces(self, table: str, version: int) -> tuple[str, ...]:
        """The files of a version's rows, in row order; a file is never written twice."""
        return tuple(f.data_files()[0].path for f in self.open(table, version).get_fragments())

    def compact(self, table: str, at: int) -> int:
        """Merge small fragments; the new version has the same rows in the same order."""
        with self._writing(table):
            self.settle(table, at)
            dataset = self._dataset(table)
            dataset.optimize.compact_files()
        return int(dataset.version)

    def clean(self, table: str, keep: set[int]) -> tuple[int, int]:
        """Remove every version but ``keep`` and the newest, and files no version names: (versions, bytes)."""
        with self._engine(table):
            dataset = self._dataset(table)
            gone = [v for v in self.versions(table) if v not in keep and v != dataset.version]
            which: dict[str, Any] = {"versions": gone} if gone else {"older_than": timedelta(days=36500)}  # no version
            stats = dataset.cleanup_old_versions(**which, delete_unverified=True)
        with self._lock:
            for version in gone:
                self._open.pop((table, version), None)
        return int(stats.old_versions), int(stats.bytes_removed)

    @contextmanager
    def _engine(self, table: str) -> Iterator[None]:
        if isinstance(self.where, Bucket):
            with spoken(f"the table {table} in {self.where.url}"):
                yield
            return
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            full = any(word in str(error) for word in ("No space left", "os error 28", "quota"))
            raise StateUnavailable(
                f"The table {table} could not be used{': the disk is full' if full else ''}.",
                looked=f"The engine said {type(error).__name__}.",
                todo="Free space, or check that this process may write to the state folder; nothing was committed.",
            ) from error

    @contextmanager
    def _writing(self, table: str, *, new: bool = False) -> Iterator[None]:
        """What is written inside outlives a power cut: a store said so, and Lance, which renames only, is helped."""
        with self._engine(table):
            path = None if isinstance(self.where, Bucket) else Path(self.uri(table))
            before = set() if path is None else _files(path)
            yield
            if path is not None:
                _sync((_files(path) - before) | ({path, path.parent} if new else set()))

    def sizes(self) -> dict[str, int]:
        """Bytes by table."""
        if isinstance(self.where, Bucket):
            return self.where.sizes("lake")
        return {path.stem: sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
                for path in sorted(self.where.glob("*.lance"))}  # fmt: skip

    def close(self) -> None:
        with self._lock:
            self._open.clear()
            self._session = None


def _streamed(rows: pa.Table) -> pa.RecordBatchReader:
    """In pieces: given a whole table, the engine holds about as much again while it writes, and is slower."""
    import pyarrow as pa

    return pa.RecordBatchReader.from_batches(rows.schema, iter(rows.to_batches(max_chunksize=PIECE)))


def _there(dataset: Any, columns: Sequence[str]) -> list[str]:
    """Those of ``columns`` that the table has: one that an earlier release wrote may lack some."""
    names = set(dataset.schema.names)
    return [name for name in columns if name in names]


def _with_nulls(table: str, found: pa.Table, columns: Sequence[str]) -> pa.Table:
    import pyarrow as pa

    if found.num_columns == len(columns):
        return found
    kinds = schema(table)
    for name in columns:
        if name not in found.schema.names:
            found = found.append_column(name, pa.nulls(len(found), kinds.field(name).type))
    return found.select(list(columns))


def _files(path: Path) -> set[Path]:
    """Data files and manifests: all that a version needs to be read."""
    parts = [path / "data", path / "_versions"]
    return {Path(e.path) for part in parts if part.is_dir() for e in os.scandir(part) if e.name[-5:] != ".json"}


def _sync(files: set[Path]) -> None:
    """Lance renames but does not fsync: a commit that is acknowledged must outlive a power cut."""
    for name in (*files, *{f.parent for f in files}):
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
