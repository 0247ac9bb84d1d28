"""The catalogue: which versions of which documents are visible at which commit, and under which label.

Guarantees: this is the only authority on what is visible; :meth:`Catalog.apply` is one transaction and
idempotent by its key; at every commit a document has at most one version and exactly one label; a person's
override survives ingestion, and one that tightens also follows the bytes into copies and renames; the numbers
of commits and sequences only grow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from drystone.errors import LedgerError, NotFound
from drystone.ledger.change import (
    CLEAR,
    COMMIT_BY_KEY,
    MOVE,
    PARENT,
    POINTER,
    Application,
    Change,
    Pointer,
    as_json,
    later,
    pointer_of,
    take,
)
from drystone.ledger.store import sql
from drystone.ledger.view import NEVER, OPEN, View, Views
from drystone.records import Choosing, Failure, Known, Label, Quarantined

if TYPE_CHECKING:
    import sqlite3

    from drystone.ledger import Ledger
    from drystone.ledger.runs import Run

__all__ = ["NEVER", "OPEN", "Catalog", "Change", "DocumentState", "Pointer", "Reserved", "VersionState", "View"]

TOUCH = sql("UPDATE fingerprints SET fingerprint = ? WHERE document = (SELECT document FROM documents WHERE name = ?)")
DECIDED = sql("SELECT document, asset, label, expires FROM overrides WHERE tightens OR asset = ''")
KNOWN = sql(
    "SELECT d.name, f.fingerprint, v.asset, v.transform, l.label, l.expires, l.origin, l.override, d.first_seen, "
    "l.base, l.base_expires, p.name FROM sources s JOIN documents d ON d.source = s.source "
    "LEFT JOIN documents p ON p.document = d.parent "
    "JOIN versions v ON v.document = d.document AND v.to_commit IS NULL "
    "JOIN label_intervals l ON l.document = d.document AND l.to_commit IS NULL "
    "JOIN fingerprints f ON f.document = d.document WHERE s.name = ? ORDER BY d.name"
)
SYNCHRONISED = sql(
    "SELECT started, facts FROM runs WHERE kind = 'ingest' AND state = 'closed' ORDER BY started DESC LIMIT 200"
)
FIRST_SEEN = sql("SELECT d.name, d.first_seen FROM documents d JOIN sources s ON s.source = d.source WHERE s.name = ?")
_VERSION = (
    "SELECT v.version, v.ref, d.name, s.name, v.asset, v.size, v.media_type, v.title, v.transform, v.from_commit, "
    "v.to_commit, v.chunk_first, v.chunk_count, v.renamed_from, v.run, v.notes FROM versions v "
    "JOIN documents d ON d.document = v.document JOIN sources s ON s.source = d.source "
)
VERSION = sql(_VERSION + "WHERE v.version = ?")
VERSION_AT = sql(_VERSION + "WHERE d.name = ? AND v.from_commit <= ? AND (v.to_commit IS NULL OR v.to_commit > ?)")
LABEL_AT = sql(
    "SELECT l.label, l.expires, l.base, l.base_expires, l.origin, l.override, l.from_commit, d.document, d.first_seen "
    "FROM label_intervals l JOIN documents d ON d.document = l.document "
    "WHERE d.name = ? AND l.from_commit <= ? AND (l.to_commit IS NULL OR l.to_commit > ?)"
)
QUARANTINE = sql(
    "INSERT INTO quarantine (document, source, kind, reason, fingerprint, transform, parent, at) "
    "VALUES (?,?,?,?,?,?,?,?) "
    "ON CONFLICT (document) DO UPDATE SET source = excluded.source, kind = excluded.kind, reason = excluded.reason, "
    "fingerprint = excluded.fingerprint, transform = excluded.transform, parent = excluded.parent, at = excluded.at, "
    "ignored = CASE WHEN fingerprint = excluded.fingerprint THEN ignored ELSE '' END"
)
FAILURES = sql(
    "SELECT document, kind, reason, fingerprint, transform, parent, ignored, ignored_by, at FROM quarantine "
    "WHERE source = ? ORDER BY document"
)
IGNORE = sql("UPDATE quarantine SET ignored = ?, ignored_by = ? WHERE document = ?")
UNREAD = sql(
    "UPDATE fingerprints SET fingerprint = '' WHERE document = (SELECT document FROM documents WHERE name = ?)"
)
CHOOSE = sql(
    "INSERT INTO readings (document, parser, password, actor, at) VALUES (?,?,?,?,?) ON CONFLICT (document) DO UPDATE "
    "SET parser = excluded.parser, password = excluded.password, actor = excluded.actor, at = excluded.at"
)
CHOSEN = sql("SELECT document, parser, password FROM readings")
QUARANTINED_IN = sql("SELECT parent FROM quarantine WHERE document = ?")
COUNTS = sql(
    "SELECT count(*), count(nullif(v.notes, '')) FROM sources s JOIN documents d ON d.source = s.source "
    "JOIN versions v ON v.document = d.document AND v.to_commit IS NULL WHERE s.name = ?"
)
COMMIT_AT = sql("SELECT n, tables, generation, policy, sequence FROM commits WHERE n = ?")
GENERATIONS = sql(
    "SELECT generation FROM commits WHERE generation IS NOT NULL GROUP BY generation ORDER BY max(n) DESC"
)


@dataclass(frozen=True, slots=True)
class Reserved:
    """The first integer of each range that was reserved."""

    documents: int
    versions: int
    chunks: int


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
    notes: tuple[str, ...] = ()  # what was lost or guessed in reading it


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


def _version(row: Any) -> VersionState:
    return replace(VersionState(*row[:15]), notes=tuple(row[15].splitlines()))


class Catalog:
    """Built by ``Ledger``. Thread-safe; every process sees the others' commits."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._database = ledger.database
        self._seen: tuple[int, Pointer] | None = None
        self._views = Views(ledger.database)

    # -- the pointer --------------------------------------------------------------------------------
    def pointer(self) -> Pointer:
        """The newest commit. Costs microseconds when nothing changed."""
        version = self._database.data_version()
        seen = self._seen
        if seen is None or seen[0] != version:
            seen = self._seen = (version, pointer_of(self._database.read().execute(POINTER).fetchone()))
        return seen[1]

    def at(self, commit: int) -> Pointer:
        """The pointer as that commit left it."""
        row = self._database.read().execute(COMMIT_AT, (commit,)).fetchone()
        if row is None:
            raise NotFound(f"There is no commit {commit}.", todo="`drystone status` shows the newest one.")
        return pointer_of(row)

    def generations(self) -> list[str]:
        """Every generation that was ever in force, the newest use first."""
        return [row[0] for row in self._database.read().execute(GENERATIONS)]

    # -- changes ------------------------------------------------------------------------------------
    def reserve(self, *, documents: int = 0, versions: int = 0, chunks: int = 0) -> Reserved:
        """Ranges of integers that nobody else will get; one that is never used stays a gap."""

        def ranges(connection: sqlite3.Connection) -> Reserved:
            return Reserved(
                documents=take(connection, "document", documents),
                versions=take(connection, "version", versions),
                chunks=take(connection, "chunk", chunks),
            )

        return self._database.write(ranges)

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
        return self._database.write(lambda c: Application(self._ledger, c, change, run.id).carry_out())

    def applied(self, key: str) -> Pointer | None:
        """What the commit with this key gave, or ``None`` if there was none yet."""
        row = self._database.read().execute(COMMIT_BY_KEY, (key,)).fetchone()
        return None if row is None else pointer_of(row)

    def retable(self, tables: Mapping[str, int]) -> Pointer:
        """Point to newer Lance versions that hold the same rows (after compaction): same commit, next sequence."""

        def move(connection: sqlite3.Connection) -> Pointer:
            old = pointer_of(connection.execute(POINTER).fetchone())
            new = replace(old, tables=later(old.tables, tables), sequence=old.sequence + 1)
            if new.tables == old.tables:
                return old
            connection.execute(MOVE, (new.commit, as_json(new.tables), new.generation, new.policy, new.sequence))
            return new

        return self._database.write(move)

    # -- what there is ------------------------------------------------------------------------------
    def known(self, source: str) -> dict[str, Known]:
        """Every document of a source that is there now, by name."""
        with self._database.snapshot() as connection:
            labels = self._views.labels(connection)
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
                label(row[9], row[10]), row[11] or "",
            )
            for row in rows
        }  # fmt: skip

    def synchronised(self, source: str) -> int:
        """When the last ingestion began that read a source and its permissions to the end (ms); -1: never."""
        for started, facts in self._database.read().execute(SYNCHRONISED):
            if json.loads(facts).get("source") == source:
                return int(started)
        return -1

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
            labels = self._views.labels(connection)
        state = _version(version)
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

    def last_label(self, name: str) -> Label | None:
        """The label in force of a document that is there or was removed; ``None`` if there never was one."""
        with self._database.snapshot() as connection:
            found = connection.execute(LABEL_AT, (name, OPEN, OPEN)).fetchone()
            return None if found is None else replace(self._views.labels(connection)[found[0]], expires=found[1])

    def versions(self, numbers: Sequence[int]) -> dict[int, VersionState]:
        """The named versions; a number that no commit used is left out."""
        connection = self._database.read()
        found = (connection.execute(VERSION, (int(number),)).fetchone() for number in numbers)
        return {row[0]: _version(row) for row in found if row is not None}

    def in_force(self, documents: Sequence[tuple[str, str, str, Label]]) -> list[Label]:
        """What the documents' labels will be once they are committed, or stricter ones: before a text goes anywhere.

        Each is a name, the digest of its bytes, the name of what it lies in ("" if in nothing) and the door's label;
        what one lies in comes before it, or is there already.
        """
        by: dict[str, Label] = {}
        with self._database.snapshot() as connection:
            rows = connection.execute(DECIDED).fetchall()
            labels = self._views.labels(connection) if rows else []
        for name, asset, number, expires in rows:
            label, about = replace(labels[number], expires=expires), asset or name
            by[about] = label.join(by[about]) if about in by else label
        found: dict[str, Label] = {}
        for name, digest, parent, label in documents:
            if parent and parent not in found and by:
                found[parent] = self.last_label(parent) or label
            for more in (by.get(name), by.get(digest), found.get(parent)):
                label = label if more is None else label.join(more)
            found[name] = label
        return [found[name] for name, *_ in documents]

    def quarantine(self, source: str, failures: Sequence[Quarantined], cleared: Sequence[str] = ()) -> None:
        """Keep why documents did not come in, until they do or are ``cleared`` (because they are gone)."""
        at = self._ledger.now()
        rows = [
            (q.failure.document, source, q.failure.kind, q.failure.reason, q.fingerprint, q.transform, q.parent, at)
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
        return {row[0]: Quarantined(Failure(*row[:3]), *row[3:]) for row in rows}

    def ignore(self, document: str, reason: str, actor: str) -> None:
        """Leave a document in quarantine, counted no more until its bytes change. An empty reason takes that back."""
        self._database.write(lambda c: c.execute(IGNORE, (reason, actor if reason else "", document)))

    def choose(self, document: str, choosing: Choosing, actor: str) -> None:
        """How one document is to be read from now on, and that it (and what it lies in) is to be read again."""
        at = self._ledger.now()
        above = self.above(document)
        if not above and (lies := self._database.read().execute(QUARANTINED_IN, (document,)).fetchone()) and lies[0]:
            above = [lies[0], *self.above(lies[0])]

        def keep(connection: sqlite3.Connection) -> None:
            connection.execute(CHOOSE, (document, choosing.parser, choosing.password, actor, at))
            for name in (document, *above):
                connection.execute(CLEAR, (name,))
                connection.execute(UNREAD, (name,))

        self._database.write(keep)

    def counts(self, source: str) -> tuple[int, int]:
        """How many documents of a source are there now, and how many of them with something lost or guessed."""
        there, noted = self._database.read().execute(COUNTS, (source,)).fetchone()
        return int(there), int(noted)

    def chosen(self) -> dict[str, Choosing]:
        """How people said that documents are to be read, by document name."""
        return {row[0]: Choosing(*row[1:]) for row in self._database.read().execute(CHOSEN)}

    def above(self, document: str) -> list[str]:
        """What a document lies in, the nearest first; empty for one that its source lists, or that never came in."""
        found: list[str] = []
        row = self._database.read().execute(PARENT, (document,)).fetchone()
        while row and row[0] not in found:
            found.append(row[0])
            row = self._database.read().execute(PARENT, (row[0],)).fetchone()
        return found

    # -- arrays -------------------------------------------------------------------------------------
    def view(self, commit: int | None = None) -> View:
        """The catalogue as arrays at a commit, the newest by default. Labels are those of that commit."""
        sequence = self.pointer().sequence
        return self._views.newest(sequence) if commit is None else self._views.at(commit, sequence)
