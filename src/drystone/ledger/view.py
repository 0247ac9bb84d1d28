"""The catalogue as arrays, at one commit: what search masks its rows with.

Guarantees: a view is read only; one that was built from the view before it equals one that was built anew.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from drystone.errors import NotFound
from drystone.ledger.change import POINTER, pointer_of
from drystone.ledger.store import sql
from drystone.records import Label

if TYPE_CHECKING:
    import sqlite3

    from drystone.ledger.store import Database

OPEN = 2**31 - 1  # ``version_to`` of a version that is still visible
NEVER = 2**63 - 1  # ``document_expires`` of a document that does not expire
PAST = 4  # views of earlier commits kept in memory

VIEW_VERSIONS = sql(
    "SELECT version, document, from_commit, coalesce(to_commit, 2147483647) FROM versions "
    "WHERE from_commit > ? UNION ALL SELECT version, document, from_commit, to_commit FROM versions "
    "WHERE to_commit > ? AND from_commit <= ?"
)
VIEW_LABELS = sql(  # written so that the few that are new are found by from_commit, not all that are open
    "SELECT document, label, coalesce(expires, 9223372036854775807) FROM label_intervals "
    "WHERE from_commit > ? AND coalesce(to_commit, -1) = -1"
)
VIEW_UNLABELLED = sql("SELECT document FROM label_intervals WHERE to_commit > ? AND from_commit <= ?")
VIEW_LABELS_AT = sql(
    "SELECT document, label, coalesce(expires, 9223372036854775807) FROM label_intervals "
    "WHERE from_commit <= ? AND (to_commit IS NULL OR to_commit > ?)"
)
ALL_LABELS = sql("SELECT label, canonical FROM labels WHERE label >= ? ORDER BY label")
ALL_SOURCES = sql("SELECT source, name FROM sources WHERE source >= ? ORDER BY source")
VIEW_DOCUMENTS = sql("SELECT document, source FROM documents WHERE document >= ?")


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


class Views:
    """Builds and keeps views. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.RLock()
        self._newest: View | None = None
        self._past: OrderedDict[int, View] = OrderedDict()
        self._labels: list[Label] = []
        self._sources: list[str] = []

    def newest(self, sequence: int) -> View:
        """The view at ``sequence`` or later."""
        with self._lock:
            if self._newest is None or self._newest.sequence != sequence:
                with self._database.snapshot() as connection:
                    self._newest = self._build(connection, self._newest)
            return self._newest

    def at(self, commit: int, sequence: int) -> View:
        """The view at an earlier commit: the labels of then over the versions' intervals."""
        with self._lock:
            newest = self.newest(sequence)
            if commit == newest.commit:
                return newest
            if not 0 <= commit < newest.commit:
                raise NotFound(f"There is no commit {commit}.", todo="`drystone status` shows the newest one.")
            found = self._past.get(commit)
            if found is None or found.sequence != newest.sequence:
                rows = _columns(self._database.read().execute(VIEW_LABELS_AT, (commit, commit)), 3)
                rows = rows[:, rows[0] < len(newest.document_label)]
                label = np.full_like(newest.document_label, -1)
                expires = np.full_like(newest.document_expires, NEVER)
                label[rows[0]], expires[rows[0]] = rows[1], rows[2]
                found = replace(newest, commit=commit, document_label=_fixed(label), document_expires=_fixed(expires))
                self._past[commit] = found
            self._past.move_to_end(commit)
            while len(self._past) > PAST:
                self._past.popitem(last=False)
            return found

    def labels(self, connection: sqlite3.Connection) -> list[Label]:
        """Every label by its number. Labels are never changed or removed, so only new ones are read."""
        with self._lock:
            rows = connection.execute(ALL_LABELS, (len(self._labels),)).fetchall()
            if rows:
                grown = list(self._labels)
                for number, canonical in rows:
                    label = Label.from_interned(canonical)
                    grown += [label] * (number + 1 - len(grown))  # a number that is not used is never referred to
                self._labels = grown
            return self._labels

    def sources(self, connection: sqlite3.Connection) -> list[str]:
        """Every source's name by its number."""
        with self._lock:
            rows = connection.execute(ALL_SOURCES, (len(self._sources),)).fetchall()
            if rows:
                grown = list(self._sources)
                for number, name in rows:
                    grown += [""] * (number - len(grown)) + [name]
                self._sources = grown
            return self._sources

    def _build(self, connection: sqlite3.Connection, old: View | None) -> View:
        """The newest view; from the one before it if there is one, by what later commits changed."""
        pointer = pointer_of(connection.execute(POINTER).fetchone())
        since = -1 if old is None else old.commit
        known = 0 if old is None else len(old.document_label)
        changed = _columns(connection.execute(VIEW_VERSIONS, (since, since, since)), 4)
        closed = _columns(connection.execute(VIEW_UNLABELLED, (since, since)), 1)
        labelled = _columns(connection.execute(VIEW_LABELS, (since,)), 3)
        documents = _columns(connection.execute(VIEW_DOCUMENTS, (known,)), 2)
        versions = 0 if old is None else len(old.version_document)
        versions = max(versions, int(changed[0].max(initial=-1)) + 1)
        known = max(known, int(documents[0].max(initial=-1)) + 1)

        version_document = _grown(old, "version_document", versions, -1, np.int32)
        version_from = _grown(old, "version_from", versions, OPEN, np.int32)
        version_to = _grown(old, "version_to", versions, 0, np.int32)
        document_label = _grown(old, "document_label", known, -1, np.int32)
        document_expires = _grown(old, "document_expires", known, NEVER, np.int64)
        document_source = _grown(old, "document_source", known, -1, np.int32)
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
            labels=self.labels(connection),
            sources=self.sources(connection),
        )


def _columns(rows: Iterable[Sequence[int]], width: int) -> NDArray[np.int64]:
    """Rows of integers as an array of shape (width, rows)."""
    flat = np.fromiter(chain.from_iterable(rows), np.int64)
    return flat.reshape(-1, width).T


def _grown(old: View | None, name: str, size: int, fill: int, kind: type) -> NDArray[Any]:
    """A copy of the old view's array, with room for ``size`` elements."""
    out: NDArray[Any] = np.full(size, fill, kind)
    if old is not None:
        before = getattr(old, name)
        out[: len(before)] = before
    return out


def _fixed(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array
