"""Contents: texts that the log must not hold (questions, prompts, answers, annexes).

Guarantees: each record is encrypted under a random key of its own, durable before the record is; forgetting a
record destroys its key first, so that no copy of the ciphertext, in a backup either, can be read again.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drystone.errors import NotFound

if TYPE_CHECKING:
    import sqlite3

    from drystone.ledger.keys import KeyRing
    from drystone.ledger.store import Database


@dataclass(frozen=True, slots=True)
class Record:
    """A sealed text that is ready to be written. ``id`` is random and says nothing of the text."""

    id: str
    kind: str
    sealed: bytes


class Contents:
    def __init__(self, database: Database, keys: KeyRing) -> None:
        self._database, self._keys = database, keys

    def prepare(self, texts: Sequence[tuple[str, str]]) -> tuple[Record, ...]:
        """Seal ``(kind, text)`` pairs with one durable write of keys; outside any transaction of the ledger."""
        named = [(new_id("x"), kind, text) for kind, text in texts]
        # The kind is part of the id under which the key binds, so a record cannot pose as one of another kind.
        sealed = self._keys.seal_many(
            [(id, f"{kind}\0{text}".encode("utf-8", "surrogatepass")) for id, kind, text in named]
        )
        return tuple(Record(id, kind, blob) for (id, kind, _), blob in zip(named, sealed, strict=True))

    def write(self, connection: sqlite3.Connection, records: Iterable[Record]) -> None:
        """Inside a write transaction of the ledger."""
        connection.executemany(
            "INSERT INTO contents (id, kind, sealed) VALUES (?, ?, ?)", [(r.id, r.kind, r.sealed) for r in records]
        )

    def put(self, connection: sqlite3.Connection, kind: str, text: str) -> str:
        """Seal and write one text; returns its id. ``prepare`` and ``write`` are the same in two steps."""
        records = self.prepare([(kind, text)])
        self.write(connection, records)
        return records[0].id

    def get(self, id: str) -> str:
        """The text, or ``NotFound`` if there never was one or it was forgotten."""
        rows = self._database.read().execute("SELECT kind, sealed FROM contents WHERE id = ?", (id,)).fetchall()
        if not rows or rows[0][1] is None:
            raise NotFound(f"There is no content {id}.", todo="It was never kept, or it was erased.")
        kind, _, text = self._keys.open(id, bytes(rows[0][1])).decode("utf-8", "surrogatepass").partition("\0")
        if kind != rows[0][0]:
            raise NotFound(f"There is no content {id} of this kind.")
        return text

    def forget(self, *ids: str) -> int:
        """Destroy the keys, then drop the ciphertexts. Returns how many could be read until now."""
        gone = self._keys.destroy(*ids)

        def drop(connection: sqlite3.Connection) -> None:
            connection.executemany("UPDATE contents SET sealed = NULL WHERE id = ?", [(id,) for id in ids])

        self._database.write(drop)
        return gone


def new_id(kind: str) -> str:
    """``kind:`` and 16 random bytes, base64url."""
    return f"{kind}:{base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b'=').decode()}"
