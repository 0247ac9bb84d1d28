"""The ledger: the record of what happened and its proofs, the catalogue of what is visible, and the keys.

One database (``ledger.db``) in the state folder is the only authority. It holds ids, labels and salted digests;
texts lie beside it, each under its own key. Several processes may have it open at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drystone.ledger.store import sql

if TYPE_CHECKING:
    import sqlite3

    from drystone.ledger.lineage import Node
    from drystone.ledger.log import VerifyReport
    from drystone.ledger.runs import Question, Run
    from drystone.ports import KeyStore
    from drystone.records import Actor
    from drystone.settings import Settings

FILE = "ledger.db"
CLOCK = sql("SELECT at FROM clock WHERE id = 1")
TICK = sql("UPDATE clock SET at = ? WHERE id = 1 AND at < ?")


class Ledger:
    """Open it with :meth:`open`. Thread-safe; one a process."""

    def __init__(self, state: Path, *, project: str, settings: Settings, keystore: KeyStore) -> None:
        from drystone.ledger.catalog import Catalog
        from drystone.ledger.contents import Contents
        from drystone.ledger.keys import KeyRing
        from drystone.ledger.store import Database

        self.state, self.project, self.settings = state, project, settings
        self._last = 0
        self._clock_seen: int | None = None
        self._clock_lock = threading.Lock()
        self.database = Database(state / FILE)
        try:
            self.keys = KeyRing(state / "keys", keystore, name=project)
        except BaseException:
            self.database.close()
            raise
        self.contents = Contents(self.database, self.keys)
        self.catalog = Catalog(self)

    @classmethod
    def open(cls, state: Path, *, project: str, settings: Settings, keystore: KeyStore | None = None) -> Ledger:
        """Open the ledger in a state folder, making it if there is none; older formats are migrated."""
        from drystone.ledger.keys import FileKeyStore
        from drystone.ledger.store import guarded

        with guarded(state):
            return cls(state, project=project, settings=settings, keystore=keystore or FileKeyStore(state / "keys"))

    # -- time and ids -------------------------------------------------------------------------------
    def now(self) -> int:
        """Milliseconds: the later of the wall clock and the ledger's last time, of any process."""
        with self._clock_lock:
            version = self.database.data_version()
            if version != self._clock_seen:
                self._last = max(self._last, int(self.database.read().execute(CLOCK).fetchone()[0]))
                self._clock_seen = version
            self._last = max(self._last, time.time_ns() // 1_000_000)
            return self._last

    def tick(self, connection: sqlite3.Connection) -> int:
        """The time of what is being written, inside its transaction; later transactions get no earlier one."""
        stored = int(connection.execute(CLOCK).fetchone()[0])
        with self._clock_lock:
            at = self._last = max(self._last, stored, time.time_ns() // 1_000_000)
        connection.execute(TICK, (at, at))
        return at

    def digest(self, kind: str, *parts: str | bytes) -> str:
        """An opaque, keyed id: ``digest("v", name, data)`` is ``v:...``."""
        return self.keys.digest(kind, *parts)

    # -- runs ---------------------------------------------------------------------------------------
    def run(self, kind: str, *, actor: Actor, **facts: Any) -> Run:
        """Something that is done, as a context manager; ``facts`` are JSON values or records, never texts."""
        from drystone.ledger.runs import Run

        return Run(self, kind, actor, facts)

    def question(self, text: str, *, actor: Actor, purpose: str, assistant: str | None) -> Question:
        """One question, as a context manager; it ends in an answer or a refusal, each with a passport."""
        from drystone.ledger.runs import Question

        return Question(self, text, actor, purpose, assistant)

    # -- lineage and proofs -------------------------------------------------------------------------
    def reach(self, ref: str) -> list[Node]:
        """Everything made from a document (by name), asset, version, chunk, model or generation."""
        from drystone.ledger import lineage

        with self.database.snapshot() as connection:
            return lineage.reach(connection, ref, self.project)

    def origin(self, ref: str) -> list[Node]:
        """Everything that an answer (by its passport), chunk or version was made from."""
        from drystone.ledger import lineage

        with self.database.snapshot() as connection:
            return lineage.origin(connection, ref)

    def passport(self, ref: str, *, annex: bool = False) -> dict[str, Any]:
        """The bundle of a passport as stored, with the log part computed now."""
        from drystone.ledger import passports

        return passports.bundle(self, ref, annex=annex)

    def replayable(self, ref: str) -> dict[str, Any] | None:
        """What the question behind a passport needs to be asked again; ``None`` where its texts are not kept."""
        from drystone.ledger import passports

        return passports.replayable(self, ref)

    def last_run(self, kind: str, source: str) -> str | None:
        """When a run of this kind over this source last ended well (RFC 3339), or ``None``."""
        from drystone.ledger import runs

        return runs.last(self.database.read(), kind, source)

    def texts(self, ref: str) -> dict[str, str]:
        """What is still kept of a passport's question, answer and prompt. For who may have them: ask the policy."""
        from drystone.ledger import passports

        return passports.texts(self, ref)

    def checkpoint(self) -> str:
        """Sign the log as it is now: a C2SP signed note, also written to ``ledger.checkpoint_path``."""
        from drystone.ledger import log

        return log.checkpoint(self)

    def verify(self, against: Sequence[Path] = ()) -> VerifyReport:
        """Check the whole log, and that it still holds what checkpoints and passports kept elsewhere say."""
        from drystone.ledger import log

        return log.verify(self, against)

    def export(self, after: int = 0) -> Iterator[dict[str, Any]]:
        """The log's entries after a number, in order."""
        from drystone.ledger import log

        return log.export(self, after)

    def close(self) -> None:
        """A checkpoint of what was written goes to ``ledger.checkpoint_path``, if there is one."""
        from drystone.ledger import log

        try:
            if log.outside(self) is not None and (size := log.size(self.database.read())):
                log.covering(self, size - 1)
        finally:
            self.database.close()
            self.keys.close()
