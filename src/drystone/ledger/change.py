"""One change on its way into the catalogue: versions, labels, overrides and the pointer, in one transaction.

Guarantees: the same key again changes nothing; a document gets exactly one label, from the door and from what
people decided; what somebody tightened holds for every document with the same bytes and for what lies inside, at
once and later; what lay in a document once is open to nobody to whom that document is closed now.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from drystone.errors import Busy, NotFound
from drystone.ledger import lineage, log
from drystone.ledger.store import sql
from drystone.records import Document, Label, Relabel

if TYPE_CHECKING:
    import sqlite3

    from drystone.ledger import Ledger

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
ADD_DOCUMENT = sql("INSERT INTO documents (document, name, source, first_seen, parent) VALUES (?,?,?,?,?)")
SET_PARENT = sql("UPDATE documents SET parent = ? WHERE document = ? AND parent IS DISTINCT FROM ?")
ASSETS_INSIDE = sql(
    "SELECT DISTINCT v.asset FROM documents d JOIN versions v ON v.document = d.document AND v.to_commit IS NULL "
    "WHERE d.parent = ? ORDER BY v.asset"
)
_GONE = (
    "SELECT d.document, d.name, l.label, l.expires, l.base, l.base_expires, l.base_origin, l.override, l.from_commit "
    "FROM documents d JOIN label_intervals l ON l.document = d.document AND l.to_commit IS NULL WHERE NOT EXISTS "
    "(SELECT 1 FROM versions v WHERE v.document = d.document AND v.to_commit IS NULL) AND "
)
GONE = sql(_GONE + "d.name = ?")
GONE_INSIDE = sql(_GONE + "d.parent = ?")  # what lay in a document and does not any more
SEEN_EARLIER = sql("UPDATE documents SET first_seen = ? WHERE document = ? AND first_seen > ?")
CLOSE_VERSION = sql("UPDATE versions SET to_commit = ? WHERE document = ? AND to_commit IS NULL")
ADD_VERSION = sql(
    "INSERT INTO versions (version, ref, document, asset, size, media_type, title, transform, from_commit, "
    "to_commit, chunk_first, chunk_count, renamed_from, run, notes) VALUES (?,?,?,?,?,?,?,?,?,NULL,?,?,?,?,?)"
)
SET_FINGERPRINT = sql(
    "INSERT INTO fingerprints (document, fingerprint) VALUES (?,?) "
    "ON CONFLICT (document) DO UPDATE SET fingerprint = excluded.fingerprint"
)
DROP_FINGERPRINT = sql("DELETE FROM fingerprints WHERE document = ?")
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
OVERRIDES_OF_ASSET = sql(
    "SELECT document, label, expires, against, against_expires, tightens, origin, n, run FROM overrides "
    "WHERE asset = ? ORDER BY document"
)
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
STATE_NOW = sql(
    "SELECT d.document, v.asset, l.label, l.expires, l.base, l.base_expires, l.base_origin, l.origin, l.override, "
    "l.from_commit FROM documents d JOIN versions v ON v.document = d.document AND v.to_commit IS NULL "
    "JOIN label_intervals l ON l.document = d.document AND l.to_commit IS NULL WHERE d.name = ?"
)
PARENT = sql("SELECT p.name FROM documents d JOIN documents p ON p.document = d.parent WHERE d.name = ?")
ASSET_NOW = sql(
    "SELECT v.asset FROM documents d JOIN versions v ON v.document = d.document AND v.to_commit IS NULL "
    "WHERE d.name = ?"
)
ANY_PART = sql("SELECT 1 FROM documents WHERE parent IS NOT NULL LIMIT 1")
ANY_OVERRIDE = sql("SELECT 1 FROM overrides LIMIT 1")
CLEAR = sql("DELETE FROM quarantine WHERE document = ?")


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


class Application:
    """One change on its way into the database; lives as long as its transaction."""

    def __init__(self, ledger: Ledger, connection: sqlite3.Connection, change: Change, run: str) -> None:
        self.ledger, self.connection, self.change, self.run = ledger, connection, change, run
        self.n = 0
        self.at = 0
        self.sources: dict[str, int] = {}
        self.numbers: dict[Label, int] = {}  # of labels, with ``expires`` or without
        self.canonical: dict[int, str] = {}
        self.overridden = connection.execute(ANY_OVERRIDE).fetchone() is not None
        self.edges: list[tuple[str, str, str, str]] = []
        self.assets: set[str] = set()  # whose overrides changed
        self.labelled: dict[int, Label] = {}  # documents that got another label
        self.facts: list[Any] = []  # what the log entry's digest covers
        self.counts = {"added": 0, "changed": 0, "relabelled": 0, "removed": 0}

    def carry_out(self) -> Pointer:
        change, connection = self.change, self.connection
        done = connection.execute(COMMIT_BY_KEY, (change.key,)).fetchone()
        if done is not None:
            return pointer_of(done)
        old = pointer_of(connection.execute(POINTER).fetchone())
        self.n, self.at = old.commit + 1, self.ledger.tick(connection)
        new = Pointer(
            commit=self.n,
            tables=later(old.tables, change.tables),
            generation=old.generation if change.generation is None else change.generation,
            policy=old.policy if change.policy is None else change.policy,
            sequence=old.sequence + 1,
        )
        state = (as_json(new.tables), new.generation, new.policy, new.sequence)
        connection.execute(COMMIT, (self.n, self.at, self.run, change.key, *state, "{}"))
        for relabel in change.relabelled:  # before the removals: what nobody may read any more is both
            self.relabel(relabel)
        for name in change.removed:
            self.remove(name)
        for document, version, first, count in zip(
            change.documents, change.version_numbers, change.chunk_first, change.chunk_count, strict=True
        ):
            self.bring(document, version, first, count)
        self.copies()
        self.past()
        lineage.connect(connection, self.edges, self.run)
        connection.execute(sql("UPDATE commits SET counts = ? WHERE n = ?"), (as_json(self.counts), self.n))
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
                "change": self.ledger.digest("d", as_json(self.facts)),
            },
            self.at,
            keys=self.ledger.keys,
        )
        return new

    def remove(self, name: str) -> None:
        row = self.connection.execute(DOCUMENT, (name,)).fetchone()
        if row is not None and self.connection.execute(CLOSE_VERSION, (self.n, row[0])).rowcount:
            # Its label stays in force: what a past commit shows is released under the last one it had.
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
             document.renamed_from, document.made_by, "\n".join(document.parsed.notes)),
        )  # fmt: skip
        connection.execute(SET_FINGERPRINT, (number, asset.fingerprint))
        connection.execute(CLEAR, (document.name,))
        self.facts.append(["version", document.name, document.version, version, first, count])
        self.inherit(document)
        now = connection.execute(LABEL_NOW, (number,)).fetchone()
        self.label(number, document.name, asset.digest, document.label, document.label_origin, now)
        self.edges.append((document.version, document.name, "version", ""))
        self.edges.append((document.version, asset.digest, "parsed", document.transform))
        if document.parent_version:
            self.edges.append((document.version, document.parent_version, "part", ""))

    def number(self, document: Document) -> int:
        """The document's integer; allotted at its first sight. A rename keeps the time it was first seen."""
        connection = self.connection
        row = connection.execute(DOCUMENT, (document.name,)).fetchone()
        before = document.renamed_from and connection.execute(DOCUMENT, (document.renamed_from,)).fetchone()
        since = before[1] if before else self.at
        above = connection.execute(DOCUMENT, (document.parent,)).fetchone() if document.parent else None
        parent = None if above is None else above[0]
        if row is not None:
            connection.execute(SEEN_EARLIER, (since, row[0], since))
            connection.execute(SET_PARENT, (parent, row[0], parent))
            return int(row[0])
        number = take(connection, "document", 1)
        connection.execute(ADD_DOCUMENT, (number, document.name, self.source(document.source), since, parent))
        return number

    def inherit(self, document: Document) -> None:
        """What people tightened about a document, or its bytes, holds for what lies in it, as it holds for copies."""
        if self.overridden and document.parent:
            above = self.connection.execute(ASSET_NOW, (document.parent,)).fetchone()
            if above is not None:
                self.spread(above[0], document.asset.digest)

    def spread(self, above: str, asset: str) -> None:
        for who, *decided in self.connection.execute(OVERRIDES_OF_ASSET, (above,)).fetchall():
            if self.connection.execute(SET_OVERRIDE_ONCE, (who, asset, *decided)).rowcount:
                self.assets.add(asset)

    def source(self, name: str) -> int:
        if name not in self.sources:
            self.connection.execute(ADD_SOURCE, (name,))
            self.sources[name] = int(self.connection.execute(SOURCE, (name,)).fetchone()[0])
        return self.sources[name]

    def relabel(self, relabel: Relabel) -> None:
        """A new label from the door, or a person's override of it."""
        connection, name = self.connection, relabel.document
        state = connection.execute(STATE_NOW, (name,)).fetchone()
        gone = connection.execute(GONE, (name,)).fetchone() if state is None and not relabel.override else None
        if gone is not None:
            self.tighten(gone, relabel.label, relabel.origin)
            return
        if state is None:
            raise NotFound("There is no such document to relabel.", todo="`drystone search` shows what there is.")
        number, asset, now = state[0], state[1], state[2:]
        if relabel.seen is not None and relabel.seen != self.stored(now[0], now[1]):
            raise Busy(f"Somebody else relabelled {name} meanwhile.", todo="Look at its label and decide again.")
        base, origin = relabel.label, relabel.origin
        if relabel.override:
            base, origin = self.stored(now[2], now[3]), now[4]
            tightens = not base.at_least(relabel.label)  # it asks for something that the door did not ask for
            decided = (self.intern(relabel.label), relabel.label.expires, self.intern(base), base.expires,
                       tightens, relabel.origin, self.n, self.run)  # fmt: skip
            assets = {found[0] for found in connection.execute(OVERRIDDEN_ASSETS, (name,))} | {asset}
            connection.execute(SET_OVERRIDE, (name, "", *decided))
            for one in assets:
                if tightens:
                    connection.execute(SET_OVERRIDE, (name, one, *decided))
                else:
                    connection.execute(DROP_OVERRIDE, (name, one))
            self.assets |= assets
            self.overridden = True
            self.facts.append(["override", name, relabel.label.interned(), relabel.label.expires])
        self.label(number, name, asset, base, origin, now)

    def label(self, number: int, name: str, asset: str, base: Label, base_origin: str, now: Any) -> None:
        """Open a label interval unless the open one (``now``, a row of ``LABEL_NOW``) says the same."""
        connection, label, origin, override = self.connection, base, base_origin, False
        mine = connection.execute(OVERRIDE, (name,)).fetchone() if self.overridden else None
        if mine is not None:
            # What a person decided holds as long as the door asks for no more than they had seen;
            # once it asks for more, both hold.
            decided, against = self.stored(mine[0], mine[1]), self.stored(mine[2], mine[3])
            label = decided if against.at_least(base) else decided.join(base)
            origin, override = mine[5], True
            if mine[4] and connection.execute(SET_OVERRIDE_ONCE, (name, asset, *mine)).rowcount:
                self.assets.add(asset)  # what tightens the document tightens its new bytes too
        since = mine[6] if mine else -1
        copies = connection.execute(OVERRIDES_OF_COPIES, (asset, name, since)).fetchall() if self.overridden else []
        for theirs in copies:
            label, origin, override = label.join(self.stored(theirs[0], theirs[1])), theirs[5], True
        wanted = (self.intern(label), label.expires, self.intern(base), base.expires, base_origin, origin, override)
        if now is not None and (*now[:6], bool(now[6])) == wanted:
            return
        if now is not None and now[7] == self.n:  # twice in one commit: the last word counts
            connection.execute(DROP_LABEL, (number, self.n))
        else:
            connection.execute(CLOSE_LABEL, (self.n, number))
            if now is not None and now[:2] != wanted[:2]:
                self.counts["relabelled"] += 1
        if now is not None:
            self.labelled[number] = label
        connection.execute(OPEN_LABEL, (number, self.n, *wanted, self.run))
        self.facts.append(["label", name, self.canonical[wanted[0]], label.expires, override])

    def copies(self) -> None:
        """What a person decided about some bytes holds at once for every document that has them now, or lies in one."""
        done: set[str] = set()
        while waiting := sorted(self.assets - done):
            done.update(waiting)
            for asset in waiting:
                for number, name, base, expires, origin in self.connection.execute(COPIES, (asset,)).fetchall():
                    for (inside,) in self.connection.execute(ASSETS_INSIDE, (number,)).fetchall():
                        self.spread(asset, inside)
                    now = self.connection.execute(LABEL_NOW, (number,)).fetchone()
                    self.label(number, name, asset, self.stored(base, expires), origin, now)

    def past(self) -> None:
        """What lay in a document before takes what that asks for now: a past commit still shows it."""
        if not self.labelled or self.connection.execute(ANY_PART).fetchone() is None:
            return
        waiting = list(self.labelled.items())
        while waiting:
            above, least = waiting.pop()
            for gone in self.connection.execute(GONE_INSIDE, (above,)).fetchall():
                waiting.append((gone[0], self.tighten(gone, least, f"{gone[6]}, and what it lay in")))

    def tighten(self, gone: Any, least: Label, origin: str) -> Label:
        """Close a document that is not there any more (a row of ``GONE``) to whom ``least`` closes it."""
        number, name, *now = gone
        before = self.stored(now[0], now[1])
        label = before.join(least)
        if label == before:
            return label
        if now[6] == self.n:
            self.connection.execute(DROP_LABEL, (number, self.n))
        else:
            self.connection.execute(CLOSE_LABEL, (self.n, number))
        state = (self.intern(label), label.expires, *now[2:5], origin, now[5], self.run)
        self.connection.execute(OPEN_LABEL, (number, self.n, *state))
        self.labelled[number] = label
        self.facts.append(["label", name, label.interned(), label.expires, bool(now[5])])
        return label

    def intern(self, label: Label) -> int:
        found = self.numbers.get(label)
        if found is None:
            canonical = label.interned()
            row = self.connection.execute(LABEL, (canonical,)).fetchone()
            if row is None:
                self.connection.execute(ADD_LABEL, (canonical,))
                row = self.connection.execute(LABEL, (canonical,)).fetchone()
            found = self.numbers[label] = int(row[0])
            self.canonical[found] = canonical
        return found

    def stored(self, number: int, expires: int | None) -> Label:
        row = self.connection.execute(sql("SELECT canonical FROM labels WHERE label = ?"), (number,)).fetchone()
        return Label.from_interned(row[0], expires)


def pointer_of(row: Sequence[Any]) -> Pointer:
    return Pointer(row[0], json.loads(row[1]), row[2], row[3], row[4])


def take(connection: sqlite3.Connection, name: str, count: int) -> int:
    return int(connection.execute(RESERVE, (count, name)).fetchone()[0]) - count


def later(old: Mapping[str, int], new: Mapping[str, int]) -> dict[str, int]:
    return {**old, **{name: max(version, old.get(name, version)) for name, version in new.items()}}


def as_json(value: object) -> str:
    """JSON that can be written: half a character, which only a caller can have typed, stays an escape."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode()
