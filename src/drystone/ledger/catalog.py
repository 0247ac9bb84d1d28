"""The catalogue: which versions of which documents are visible at which commit, and under which label.

Guarantees: this is the only authority on what is visible; :meth:`Catalog.apply` is one transaction and
idempotent by its key; at every commit a document has at most one version and exactly one label; a person's
override survives ingestion, and one that tightens also follows the bytes into copies and renames; the numbers
of commits and sequences only grow.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from drystone.errors import LedgerError, NotFound
from drystone.ledger import lineage, log
from drystone.ledger.store import sql
from drystone.records import Document, Failure, Known, Label, Quarantined, Relabel

if TYPE_CHECKING:
    import sqlite3

    from drystone.ledger import Ledger
    from drystone.ledger.runs import Run

OPEN = 2**31 - 1  # ``version_to`` of a version that is still visible
NEVER = 2**63 - 1  # ``document_expires`` of a document that does not expire
PAST_VIEWS = 4  # views of earlier commits kept in memory

POINTER = sql("SELECT n, tables, generation, policy, sequence FROM pointer WHERE id = 1")
MOVE = sql("UPDATE pointer SET n = ?, tables = ?, generation = ?, policy = ?, sequence = ? WHERE id = 1")
COMMIT_BY_KEY = sql("SELECT n, tables, generation, policy, sequence FROM commits WHERE key = ?")
COMMIT = sql(
    "INSERT INTO commits (n, at, run, key, tables, generation, policy, sequence, counts) VALUES (?,?,?,?,?,?,?,?,?)"
)
RESERVE = sql("UPDATE counters SET next = next + ? WHERE name = ? RETURNING next")
ADD_SOURCE = sql("INSERT INTO sources (name) VALUES (?) ON CONFLICT DO NOTHING")
SOURCE = sql("SELECT source FROM sources WHERE name = ?")
DOCUMENT = sql("SELECT document, first_seen FROM documents WHERE name = ?")
ADD_DOCUMENT = sql("INSERT INTO documents (document, name, source, first_seen) VALUES (?,?,?,?)")
SEEN_EARLIER = sql("UPDATE documents SET first_seen = ? WHERE document = ? AND first_seen > ?")
CLOSE_VERSION = sql("UPDATE versions SET to_commit = ? WHERE document = ? AND to_commit IS NULL")
ADD_VERSION = sql(
    "INSERT INTO versions (version, ref, document, asset, size, media_type, title, transform, from_commit, "
    "to_commit, chunk_first, chunk_count, renamed_from, run) VALUES (?,?,?,?,?,?,?,?,?,NULL,?,?,?,?)"
)
SET_FINGERPRINT = sql(
    "INSERT INTO fingerprints (document, fingerprint) VALUES (?,?) "
    "ON CONFLICT (document) DO UPDATE SET fingerprint = excluded.fingerprint"
)
DROP_FINGERPRINT = sql("DELETE FROM fingerprints WHERE document = ?")
TOUCH = sql("UPDATE fingerprints SET fingerprint = ? WHERE document = (SELECT document FROM documents WHERE name = ?)")
ADD_LABEL = sql("INSERT INTO labels (canonical) VALUES (?) ON CONFLICT DO NOTHING")
LABEL = sql("SELECT label FROM labels WHERE canonical = ?")
LABEL_NOW = sql(
    "SELECT label, expires, base, base_expires, base_origin, origin, override, from_commit FROM label_intervals "
    "WHERE document = ? AND to_commit IS NULL"
)
CLOSE_LABEL = sql("UPDATE label_intervals SET to_commit = ? WHERE document = ? AND to_commit IS NULL")
OPEN_LABEL = sql(
    "INSERT INTO label_intervals (document, from_commit, to_commit, label, expires, base, base_expires, base_origin, "
    "origin, override, run) VALUES (?,?,NULL,?,?,?,?,?,?,?,?)"
)
DROP_LABEL = sql("DELETE FROM label_intervals WHERE document = ? AND from_commit = ?")
_OVERRIDE = "SELECT label, expires, against, against_expires, tightens, origin, n, run FROM overrides "
OVERRIDE = sql(_OVERRIDE + "WHERE document = ? AND asset = ''")
OVERRIDES_OF_COPIES = sql(_OVERRIDE + "WHERE asset = ? AND document <> ? AND n > ? ORDER BY document")
SET_OVERRIDE = sql(
    "INSERT INTO overrides (document, asset, label, expires, against, against_expires, tightens, origin, n, run) "
    "VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT (document, asset) DO UPDATE SET label = excluded.label, "
    "expires = excluded.expires, against = excluded.against, against_expires = excluded.against_expires, "
    "tightens = excluded.tightens, origin = excluded.origin, n = excluded.n, run = excluded.run"
)
SET_OVERRIDE_ONCE = sql(
    "INSERT INTO overrides (document, asset, label, expires, against, against_expires, tightens, origin, n, run) "
    "VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING"
)
OVERRIDDEN_ASSETS = sql("SELECT asset FROM overrides WHERE document = ? AND asset <> ''")
DROP_OVERRIDE = sql("DELETE FROM overrides WHERE document = ? AND asset = ?")
COPIES = sql(
    "SELECT v.document, d.name, l.base, l.base_expires, l.base_origin FROM versions v "
    "JOIN documents d ON d.document = v.document "
    "JOIN label_intervals l ON l.document = v.document AND l.to_commit IS NULL "
    "WHERE v.asset = ? AND v.to_commit IS NULL ORDER BY v.document"
)
TIGHTENED = sql(
    "SELECT DISTINCT o.asset, o.label, o.expires FROM sources s JOIN documents d ON d.source = s.source "
    "JOIN versions v ON v.document = d.document JOIN overrides o ON o.asset = v.asset WHERE s.name = ?"
)
ASSET_NOW = sql("SELECT asset FROM versions WHERE document = ? AND to_commit IS NULL")
KNOWN = sql(
    "SELECT d.name, f.fingerprint, v.asset, v.transform, l.label, l.expires, l.origin, l.override, d.first_seen, "
    "l.base, l.base_expires FROM sources s JOIN documents d ON d.source = s.source "
    "JOIN versions v ON v.document = d.document AND v.to_commit IS NULL "
    "JOIN label_intervals l ON l.document = d.document AND l.to_commit IS NULL "
    "JOIN fingerprints f ON f.document = d.document WHERE s.name = ? ORDER BY d.name"
)
FIRST_SEEN = sql(
    "SELECT d.name, d.first_seen FROM documents d JOIN sources s ON s.source = d.source WHERE s.name = ?"
)
_VERSION = (
    "SELECT v.version, v.ref, d.name, s.name, v.asset, v.size, v.media_type, v.title, v.transform, v.from_commit, "
    "v.to_commit, v.chunk_first, v.chunk_count, v.renamed_from, v.run FROM versions v "
    "JOIN documents d ON d.document = v.document JOIN sources s ON s.source = d.source "
)
VERSION = sql(_VERSION + "WHERE v.version = ?")
VERSION_AT = sql(
    _VERSION + "WHERE d.name = ? AND v.from_commit <= ? AND (v.to_commit IS NULL OR v.to_commit > ?)"
)
LABEL_AT = sql(
    "SELECT l.label, l.expires, l.base, l.base_expires, l.origin, l.override, l.from_commit, d.document, d.first_seen "
    "FROM label_intervals l JOIN documents d ON d.document = l.document "
    "WHERE d.name = ? AND l.from_commit <= ? AND (l.to_commit IS NULL OR l.to_commit > ?)"
)
QUARANTINE = sql(
    "INSERT INTO quarantine (document, source, kind, reason, fingerprint, transform, at) VALUES (?,?,?,?,?,?,?) "
    "ON CONFLICT (document) DO UPDATE SET source = excluded.source, kind = excluded.kind, reason = excluded.reason, "
    "fingerprint = excluded.fingerprint, transform = excluded.transform, at = excluded.at"
)
CLEAR = sql("DELETE FROM quarantine WHERE document = ?")
FAILURES = sql("SELECT document, kind, reason, fingerprint, transform FROM quarantine WHERE source = ? ORDER BY document")
VIEW_VERSIONS = sql(
    "SELECT version, document, from_commit, coalesce(to_commit, 2147483647) FROM versions "
    "WHERE from_commit > ? UNION ALL SELECT version, document, from_commit, to_commit FROM versions "
    "WHERE to_commit > ? AND from_commit <= ?"
)
VIEW_LABELS = sql(
    "SELECT document, label, coalesce(expires, 9223372036854775807) FROM label_intervals "
    "WHERE from_commit > ? AND to_commit IS NULL"
)
VIEW_UNLABELLED = sql("SELECT document FROM label_intervals WHERE to_commit > ? AND from_commit <= ?")
VIEW_LABELS_AT = sql(
    "SELECT document, label, coalesce(expires, 9223372036854775807) FROM label_intervals "
    "WHERE from_commit <= ? AND (to_commit IS NULL OR to_commit > ?)"
)
VIEW_DOCUMENTS = sql("SELECT document, source FROM documents WHERE document >= ?")


@dataclass(frozen=True, slots=True)
class Pointer:
    """What a reader opens. ``tables``: Lance version by table. ``sequence`` grows with every change that a
    reader must see."""

    commit: int
    tables: Mapping[str, int]
    generation: str | None
    policy: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """The first integer of each range that was reserved."""

    documents: int
    versions: int
    chunks: int


@dataclass(frozen=True, slots=True)
class Change:
    """What one commit changes. ``key`` makes it idempotent; the four parallel tuples are new versions.

    ``tables``: the Lance versions that hold the rows; a table that is not named stays where it is, and one
    that already points further is not moved back. ``generation`` and ``policy``: ``None`` leaves them.
    """

    key: str
    documents: tuple[Document, ...] = ()
    version_numbers: tuple[int, ...] = ()
    chunk_first: tuple[int, ...] = ()
    chunk_count: tuple[int, ...] = ()
    relabelled: tuple[Relabel, ...] = ()
    removed: tuple[str, ...] = ()
    tables: Mapping[str, int] = field(default_factory=dict)
    generation: str | None = None
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class VersionState:
    """One version of a document. ``to_commit`` is ``None`` while it is visible."""

    number: int
    ref: str
    document: str
    source: str
    asset: str
    size: int
    media_type: str
    title: str
    transform: str
    from_commit: int
    to_commit: int | None
    chunk_first: int
    chunk_count: int
    renamed_from: str | None
    run: str


@dataclass(frozen=True, slots=True)
class DocumentState:
    """A document at one commit. ``base`` is the label that the door gave, ``label`` the one in force."""

    name: str
    number: int
    source: str
    first_seen: int
    version: VersionState
    label: Label
    base: Label
    origin: str  # which rule, sidecar, column, permission or person gave the label
    override: bool
    labelled_at: int  # the commit that gave it this label


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The catalogue as arrays, at one commit. Version ``v`` is visible if ``from <= commit < to``.

    ``version_*`` have one element a version number, ``document_*`` one a document number; a number that was
    reserved and never used has document -1, an empty interval, label -1. Read only.
    """

    commit: int
    sequence: int
    version_document: NDArray[np.int32]
    version_from: NDArray[np.int32]
    version_to: NDArray[np.int32]
    document_label: NDArray[np.int32]
    document_expires: NDArray[np.int64]
    document_source: NDArray[np.int32]
    labels: list[Label]  # without ``expires``: that is each document's own
    sources: list[str]

    def visible(self) -> NDArray[np.bool_]:
        """Which versions exist at this commit; shape (versions,)."""
        return (self.version_from <= self.commit) & (self.commit < self.version_to)

    def label(self, document: int) -> Label:
        """The whole label of a document, ``expires`` included."""
        number, expires = int(self.document_label[document]), int(self.document_expires[document])
        if number < 0:
            raise NotFound("There is no such document at this commit.")
        return self.labels[number] if expires == NEVER else replace(self.labels[number], expires=expires)


class Catalog:
    """Built by ``Ledger``. Thread-safe; every process sees the others' commits."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._database = ledger.database
        self._lock = threading.RLock()
        self._seen: tuple[int, Pointer] | None = None
        self._current: View | None = None
        self._past: OrderedDict[int, View] = OrderedDict()
        self._labels: list[Label] = []
        self._sources: list[str] = []

    # -- the pointer --------------------------------------------------------------------------------
    def pointer(self) -> Pointer:
        """The newest commit. Costs microseconds when nothing changed."""
        version = self._database.data_version()
        seen = self._seen
        if seen is None or seen[0] != version:
            seen = self._seen = (version, _pointer(self._database.read().execute(POINTER).fetchone()))
        return seen[1]

    def at(self, commit: int) -> Pointer:
        """The pointer as that commit left it."""
        row = self._database.read().execute(
            sql("SELECT n, tables, generation, policy, sequence FROM commits WHERE n = ?"), (commit,)
        ).fetchone()
        if row is None:
            raise NotFound(f"There is no commit {commit}.", todo="`drystone status` shows the newest one.")
        return _pointer(row)

    def generations(self) -> list[str]:
        """Every generation that was ever in force, the newest use first."""
        rows = self._database.read().execute(
            sql("SELECT generation FROM commits WHERE generation IS NOT NULL GROUP BY generation ORDER BY max(n) DESC")
        )
        return [row[0] for row in rows]

    # -- changes ------------------------------------------------------------------------------------
    def reserve(self, *, documents: int = 0, versions: int = 0, chunks: int = 0) -> Reserved:
        """Ranges of integers that nobody else will get; one that is never used stays a gap."""

        def take(connection: sqlite3.Connection) -> Reserved:
            return Reserved(
                documents=_take(connection, "document", documents),
                versions=_take(connection, "version", versions),
                chunks=_take(connection, "chunk", chunks),
            )

        return self._database.write(take)

    def touch(self, fingerprints: Mapping[str, str]) -> None:
        """Same bytes under a new fingerprint: no commit, no work for any reader."""
        rows = [(fingerprint, name) for name, fingerprint in fingerprints.items()]
        if rows:
            self._database.write(lambda connection: connection.executemany(TOUCH, rows))

    def apply(self, change: Change, run: Run) -> Pointer:
        """Make one change visible, all of it or nothing. The same key again returns what it gave then."""
        lengths = {len(part) for part in (change.version_numbers, change.chunk_first, change.chunk_count)}
        if lengths != {len(change.documents)}:
            raise LedgerError("A change names more or fewer numbers than it has documents.")
        return self._database.write(lambda connection: _Apply(self._ledger, connection, change, run.id).carry_out())

    def retable(self, tables: Mapping[str, int]) -> Pointer:
        """Point to newer Lance versions that hold the same rows (after compaction): same commit, next sequence."""

        def move(connection: sqlite3.Connection) -> Pointer:
            old = _pointer(connection.execute(POINTER).fetchone())
            new = replace(old, tables=_later(old.tables, tables), sequence=old.sequence + 1)
            if new.tables == old.tables:
                return old
            connection.execute(MOVE, (new.commit, _json(new.tables), new.generation, new.policy, new.sequence))
            return new

        return self._database.write(move)

    # -- what there is ------------------------------------------------------------------------------
    def known(self, source: str) -> dict[str, Known]:
        """Every document of a source that is there now, by name."""
        with self._database.snapshot() as connection:
            labels = self._all_labels(connection)
            rows = connection.execute(KNOWN, (source,)).fetchall()
        cache: dict[tuple[int, int | None], Label] = {}

        def label(number: int, expires: int | None) -> Label:
            found = cache.get((number, expires))
            if found is None:
                found = labels[number] if expires is None else replace(labels[number], expires=expires)
                cache[number, expires] = found
            return found

        return {
            row[0]: Known(
                row[0], row[1], row[2], row[3], label(row[4], row[5]), row[6], bool(row[7]), row[8],
                label(row[9], row[10]),
            )
            for row in rows
        }  # fmt: skip

    def first_seen(self, source: str) -> dict[str, int]:
        """When each document of a source was first seen, those that are gone included; milliseconds."""
        return dict(self._database.read().execute(FIRST_SEEN, (source,)).fetchall())

    def document(self, name: str, commit: int | None = None) -> DocumentState | None:
        """One document at a commit (the newest by default), or ``None`` if it is not there then."""
        with self._database.snapshot() as connection:
            at = int(connection.execute(POINTER).fetchone()[0]) if commit is None else commit
            version = connection.execute(VERSION_AT, (name, at, at)).fetchone()
            label = connection.execute(LABEL_AT, (name, at, at)).fetchone()
            if version is None or label is None:
                return None
            labels = self._all_labels(connection)
        state = VersionState(*version)
        return DocumentState(
            name=name,
            number=label[7],
            source=state.source,
            first_seen=label[8],
            version=state,
            label=replace(labels[label[0]], expires=label[1]),
            base=replace(labels[label[2]], expires=label[3]),
            origin=label[4],
            override=bool(label[5]),
            labelled_at=label[6],
        )

    def versions(self, numbers: Sequence[int]) -> dict[int, VersionState]:
        """The named versions; a number that no commit used is left out."""
        connection = self._database.read()
        found = (connection.execute(VERSION, (int(number),)).fetchone() for number in numbers)
        return {row[0]: VersionState(*row) for row in found if row is not None}

    def overrides(self, source: str) -> dict[str, Label]:
        """What people tightened, by the digest of the bytes, for every document a source ever had."""
        with self._database.snapshot() as connection:
            labels = self._all_labels(connection)
            rows = connection.execute(TIGHTENED, (source,)).fetchall()
        out: dict[str, Label] = {}
        for asset, number, expires in rows:
            label = replace(labels[number], expires=expires)
            out[asset] = label.join(out[asset]) if asset in out else label
        return out

    def quarantine(self, source: str, failures: Sequence[Quarantined], cleared: Sequence[str] = ()) -> None:
        """Keep why documents did not come in, until they do or are ``cleared`` (because they are gone)."""
        at = self._ledger.now()
        rows = [
            (q.failure.document, source, q.failure.kind, q.failure.reason, q.fingerprint, q.transform, at)
            for q in failures
        ]
        names = [(name,) for name in cleared]

        def keep(connection: sqlite3.Connection) -> None:
            connection.executemany(CLEAR, names)
            connection.executemany(QUARANTINE, rows)

        if rows or names:
            self._database.write(keep)

    def failures(self, source: str) -> dict[str, Quarantined]:
        """What lies in quarantine, by document name."""
        rows = self._database.read().execute(FAILURES, (source,))
        return {row[0]: Quarantined(Failure(*row[:3]), row[3], row[4]) for row in rows}

    # -- arrays -------------------------------------------------------------------------------------
    def view(self, commit: int | None = None) -> View:
        """The catalogue as arrays at a commit, the newest by default. Labels are those of that commit."""
        with self._lock:
            pointer = self.pointer()
            if self._current is None or self._current.sequence != pointer.sequence:
                with self._database.snapshot() as connection:
                    self._current = self._build(connection, self._current)
            current = self._current
            if commit is None or commit == current.commit:
                return current
            if not 0 <= commit < current.commit:
                raise NotFound(f"There is no commit {commit}.", todo="`drystone status` shows the newest one.")
            found = self._past.get(commit)
            if found is None or found.sequence != current.sequence:
                with self._database.snapshot() as connection:
                    rows = _columns(connection.execute(VIEW_LABELS_AT, (commit, commit)), 3)
                label = np.full(len(current.document_label), -1, np.int32)
                expires = np.full(len(current.document_label), NEVER, np.int64)
                rows = rows[:, rows[0] < len(label)]
                label[rows[0]], expires[rows[0]] = rows[1], rows[2]
                found = replace(current, commit=commit, document_label=_fixed(label), document_expires=_fixed(expires))
                self._past[commit] = found
            self._past.move_to_end(commit)
            while len(self._past) > PAST_VIEWS:
                self._past.popitem(last=False)
            return found

    def _build(self, connection: sqlite3.Connection, old: View | None) -> View:
        """The newest view; from the one before it if there is one, by what later commits changed."""
        pointer = _pointer(connection.execute(POINTER).fetchone())
        since = -1 if old is None else old.commit
        changed = _columns(connection.execute(VIEW_VERSIONS, (since, since, since)), 4)
        closed = _columns(connection.execute(VIEW_UNLABELLED, (since, since)), 1)
        labelled = _columns(connection.execute(VIEW_LABELS, (since,)), 3)
        documents = _columns(
            connection.execute(VIEW_DOCUMENTS, (0 if old is None else len(old.document_label),)), 2
        )
        labels = self._all_labels(connection)
        sources = self._all_sources(connection)
        versions = _size(changed[0], 0 if old is None else len(old.version_document))
        known = _size(documents[0], 0 if old is None else len(old.document_label))

        version_document = _grown(None if old is None else old.version_document, versions, -1, np.int32)
        version_from = _grown(None if old is None else old.version_from, versions, OPEN, np.int32)
        version_to = _grown(None if old is None else old.version_to, versions, 0, np.int32)
        document_label = _grown(None if old is None else old.document_label, known, -1, np.int32)
        document_expires = _grown(None if old is None else old.document_expires, known, NEVER, np.int64)
        document_source = _grown(None if old is None else old.document_source, known, -1, np.int32)
        version_document[changed[0]] = changed[1]
        version_from[changed[0]] = changed[2]
        version_to[changed[0]] = changed[3]
        document_label[closed[0]], document_expires[closed[0]] = -1, NEVER
        document_label[labelled[0]] = labelled[1]  # after what was closed, so that its successor stands
        document_expires[labelled[0]] = labelled[2]
        document_source[documents[0]] = documents[1]
        return View(
            commit=pointer.commit,
            sequence=pointer.sequence,
            version_document=_fixed(version_document),
            version_from=_fixed(version_from),
            version_to=_fixed(version_to),
            document_label=_fixed(document_label),
            document_expires=_fixed(document_expires),
            document_source=_fixed(document_source),
            labels=labels,
            sources=sources,
        )

    def _all_labels(self, connection: sqlite3.Connection) -> list[Label]:
        """Every label by its number. Labels are never changed or removed, so only new ones are read."""
        with self._lock:
            rows = connection.execute(
                sql("SELECT label, canonical FROM labels WHERE label >= ? ORDER BY label"), (len(self._labels),)
            ).fetchall()
            if rows:
                grown = list(self._labels)
                for number, canonical in rows:
                    label = Label.from_interned(canonical)
                    grown += [label] * (number + 1 - len(grown))  # number 0, if unused, is never referred to
                self._labels = grown
            return self._labels

    def _all_sources(self, connection: sqlite3.Connection) -> list[str]:
        with self._lock:
            rows = connection.execute(
                sql("SELECT source, name FROM sources WHERE source >= ? ORDER BY source"), (len(self._sources),)
            ).fetchall()
            if rows:
                grown = list(self._sources)
                for number, name in rows:
                    grown += [""] * (number - len(grown)) + [name]
                self._sources = grown
            return self._sources


class _Apply:
    """One change on its way into the database; lives as long as its transaction."""

    def __init__(self, ledger: Ledger, connection: sqlite3.Connection, change: Change, run: str) -> None:
        self.ledger, self.connection, self.change, self.run = ledger, connection, change, run
        self.n = 0
        self.at = 0
        self.sources: dict[str, int] = {}
        self.numbers: dict[Label, int] = {}
        self.edges: list[tuple[str, str, str, str]] = []
        self.assets: set[str] = set()  # whose overrides changed
        self.facts: list[Any] = []  # what the log entry's digest covers
        self.counts = {"added": 0, "changed": 0, "relabelled": 0, "removed": 0}

    def carry_out(self) -> Pointer:
        change, connection = self.change, self.connection
        done = connection.execute(COMMIT_BY_KEY, (change.key,)).fetchone()
        if done is not None:
            return _pointer(done)
        old = _pointer(connection.execute(POINTER).fetchone())
        self.n, self.at = old.commit + 1, self.ledger.tick(connection)
        new = Pointer(
            commit=self.n,
            tables=_later(old.tables, change.tables),
            generation=old.generation if change.generation is None else change.generation,
            policy=old.policy if change.policy is None else change.policy,
            sequence=old.sequence + 1,
        )
        state = (_json(new.tables), new.generation, new.policy, new.sequence)
        connection.execute(COMMIT, (self.n, self.at, self.run, change.key, *state, "{}"))
        for name in change.removed:
            self.remove(name)
        for document, version, first, count in zip(
            change.documents, change.version_numbers, change.chunk_first, change.chunk_count, strict=True
        ):
            self.bring(document, version, first, count)
        for relabel in change.relabelled:
            self.relabel(relabel)
        self.copies()
        lineage.connect(connection, self.edges, self.run)
        connection.execute(sql("UPDATE commits SET counts = ? WHERE n = ?"), (_json(self.counts), self.n))
        connection.execute(MOVE, (self.n, *state))
        log.append(
            connection,
            "commit",
            {
                "commit": self.n,
                "run": self.run,
                "tables": dict(new.tables),
                "generation": new.generation,
                "policy": new.policy,
                "sequence": new.sequence,
                "counts": dict(self.counts),
                "change": self.ledger.digest("d", _json(self.facts)),
            },
            self.at,
            keys=self.ledger.keys,
        )
        return new

    def remove(self, name: str) -> None:
        row = self.connection.execute(DOCUMENT, (name,)).fetchone()
        if row is not None and self.connection.execute(CLOSE_VERSION, (self.n, row[0])).rowcount:
            self.connection.execute(CLOSE_LABEL, (self.n, row[0]))
            self.connection.execute(DROP_FINGERPRINT, (row[0],))
            self.counts["removed"] += 1
            self.facts.append(["removed", name])

    def bring(self, document: Document, version: int, first: int, count: int) -> None:
        connection, asset = self.connection, document.asset
        number = self.number(document)
        changed = connection.execute(CLOSE_VERSION, (self.n, number)).rowcount
        self.counts["changed" if changed else "added"] += 1
        connection.execute(
            ADD_VERSION,
            (version, document.version, number, asset.digest, asset.size, asset.media_type,
             document.parsed.title or asset.title, document.transform, self.n, first, count,
             document.renamed_from, document.made_by),
        )  # fmt: skip
        connection.execute(SET_FINGERPRINT, (number, asset.fingerprint))
        connection.execute(CLEAR, (document.name,))
        self.facts.append(["version", document.name, document.version, version, first, count])
        self.label(number, document.name, asset.digest, document.label, document.label_origin)
        self.edges.append((document.version, document.name, "version", ""))
        self.edges.append((document.version, asset.digest, "parsed", document.transform))

    def number(self, document: Document) -> int:
        """The document's integer; allotted at its first sight. A rename keeps the time it was first seen."""
        connection = self.connection
        row = connection.execute(DOCUMENT, (document.name,)).fetchone()
        before = document.renamed_from and connection.execute(DOCUMENT, (document.renamed_from,)).fetchone()
        since = before[1] if before else self.at
        if row is not None:
            connection.execute(SEEN_EARLIER, (since, row[0], since))
            return int(row[0])
        number = _take(connection, "document", 1)
        connection.execute(ADD_DOCUMENT, (number, document.name, self.source(document.source), since))
        return number

    def source(self, name: str) -> int:
        if name not in self.sources:
            self.connection.execute(ADD_SOURCE, (name,))
            self.sources[name] = int(self.connection.execute(SOURCE, (name,)).fetchone()[0])
        return self.sources[name]

    def relabel(self, relabel: Relabel) -> None:
        """A new label from the door, or a person's override of it."""
        connection, name = self.connection, relabel.document
        row = connection.execute(DOCUMENT, (name,)).fetchone()
        asset = row and connection.execute(ASSET_NOW, (row[0],)).fetchone()
        now = row and connection.execute(LABEL_NOW, (row[0],)).fetchone()
        if not asset or not now:
            raise NotFound("There is no such document to relabel.", todo="`drystone search` shows what there is.")
        base, origin = relabel.label, relabel.origin
        if relabel.override:
            base, origin = self.stored(now[2], now[3]), now[4]
            tightens = not base.at_least(relabel.label)  # it asks for something that the door did not ask for
            decided = (self.intern(relabel.label), relabel.label.expires, self.intern(base), base.expires,
                       tightens, relabel.origin, self.n, self.run)  # fmt: skip
            assets = {found[0] for found in connection.execute(OVERRIDDEN_ASSETS, (name,))} | {asset[0]}
            connection.execute(SET_OVERRIDE, (name, "", *decided))
            for one in assets:
                if tightens:
                    connection.execute(SET_OVERRIDE, (name, one, *decided))
                else:
                    connection.execute(DROP_OVERRIDE, (name, one))
            self.assets |= assets
            self.facts.append(["override", name, relabel.label.interned(), relabel.label.expires])
        self.label(row[0], name, asset[0], base, origin)

    def label(self, number: int, name: str, asset: str, base: Label, base_origin: str) -> None:
        """Open a label interval unless the open one says the same."""
        connection, label, origin, override = self.connection, base, base_origin, False
        mine = connection.execute(OVERRIDE, (name,)).fetchone()
        if mine is not None:
            # What a person decided holds as long as the door asks for no more than they had seen;
            # once it asks for more, both hold.
            decided, against = self.stored(mine[0], mine[1]), self.stored(mine[2], mine[3])
            label = decided if against.at_least(base) else decided.join(base)
            origin, override = mine[5], True
            if mine[4] and connection.execute(SET_OVERRIDE_ONCE, (name, asset, *mine)).rowcount:
                self.assets.add(asset)  # what tightens the document tightens its new bytes too
        for theirs in connection.execute(OVERRIDES_OF_COPIES, (asset, name, mine[6] if mine else -1)).fetchall():
            label, origin, override = label.join(self.stored(theirs[0], theirs[1])), theirs[5], True
        now = connection.execute(LABEL_NOW, (number,)).fetchone()
        wanted = (self.intern(label), label.expires, self.intern(base), base.expires, base_origin, origin, override)
        if now is not None and (*now[:6], bool(now[6])) == wanted:
            return
        if now is not None and now[7] == self.n:  # twice in one commit: the last word counts
            connection.execute(DROP_LABEL, (number, self.n))
        else:
            connection.execute(CLOSE_LABEL, (self.n, number))
            if now is not None and now[:2] != wanted[:2]:
                self.counts["relabelled"] += 1
        connection.execute(OPEN_LABEL, (number, self.n, *wanted, self.run))
        self.facts.append(["label", name, label.interned(), label.expires, override])

    def copies(self) -> None:
        """What a person decided about some bytes holds at once for every document that has them now."""
        for asset in sorted(self.assets):
            for number, name, base, expires, origin in self.connection.execute(COPIES, (asset,)).fetchall():
                self.label(number, name, asset, self.stored(base, expires), origin)

    def intern(self, label: Label) -> int:
        key = replace(label, expires=None) if label.expires is not None else label
        found = self.numbers.get(key)
        if found is None:
            canonical = key.interned()
            row = self.connection.execute(LABEL, (canonical,)).fetchone()
            if row is None:
                self.connection.execute(ADD_LABEL, (canonical,))
                row = self.connection.execute(LABEL, (canonical,)).fetchone()
            found = self.numbers[key] = int(row[0])
        return found

    def stored(self, number: int, expires: int | None) -> Label:
        row = self.connection.execute(sql("SELECT canonical FROM labels WHERE label = ?"), (number,)).fetchone()
        return Label.from_interned(row[0], expires)


def _pointer(row: Sequence[Any]) -> Pointer:
    return Pointer(row[0], json.loads(row[1]), row[2], row[3], row[4])


def _take(connection: sqlite3.Connection, name: str, count: int) -> int:
    return int(connection.execute(RESERVE, (count, name)).fetchone()[0]) - count


def _later(old: Mapping[str, int], new: Mapping[str, int]) -> dict[str, int]:
    return {**old, **{name: max(version, old.get(name, version)) for name, version in new.items()}}


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _columns(rows: Iterable[Sequence[int]], width: int) -> NDArray[np.int64]:
    """Rows of integers as an array of shape (width, rows)."""
    flat = np.fromiter((value for row in rows for value in row), np.int64)
    return flat.reshape(-1, width).T


def _size(numbers: NDArray[np.int64], least: int) -> int:
    return max(least, int(numbers.max()) + 1) if len(numbers) else least


def _grown(old: NDArray[Any] | None, size: int, fill: int, kind: type) -> NDArray[Any]:
    out = np.full(size, fill, kind)
    if old is not None:
        out[: len(old)] = old
    return out


def _fixed(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array
