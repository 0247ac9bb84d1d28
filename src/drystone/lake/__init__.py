"""The lake: bytes, tables and their versions.

Guarantees: a commit is visible whole or not at all, once for each key, and lost by nothing once it was returned;
readers see one pointer under a lease; several processes may write and read at once. See
``docs/decisions/0007-lake-commit-protocol.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drystone.errors import Busy, StateUnavailable
from drystone.lake.blobs import Blobs
from drystone.lake.columns import Columns
from drystone.lake.leases import Lease, locked
from drystone.lake.reader import Reader
from drystone.lake.rows import ChunkRows, ChunkText, DocumentText, MaintenanceReport, Rows, Segment
from drystone.lake.shelf import Files, Objects
from drystone.lake.storage import Bucket
from drystone.lake.tables import Tables
from drystone.ledger.store import private_folder
from drystone.records import Asset

if TYPE_CHECKING:
    from drystone.ledger import Ledger
    from drystone.ledger.catalog import Pointer
    from drystone.ledger.runs import Run
    from drystone.settings import Settings

__all__ = ["ChunkRows", "ChunkText", "DocumentText", "Lake", "MaintenanceReport", "Reader", "Rows", "Segment"]


class Lake:
    """Blobs and tables, in the state folder or in the bucket that ``project.state`` names. Thread-safe."""

    def __init__(self, state: Path, *, ledger: Ledger, settings: Settings) -> None:
        self.ledger, self.settings = ledger, settings
        self.folder, self.leases = Path(state) / "lake", Path(state) / "leases"
        bucket = Bucket(settings) if settings.bucket else None
        blobs = Path(state) / "blobs"
        for folder in (self.folder, self.leases, *([] if bucket else [blobs])):
            try:
                private_folder(folder)
            except OSError as error:
                raise StateUnavailable(
                    "The state folder cannot be used.",
                    looked=f"We tried {folder}: {error.strerror}.",
                    todo="Check project.state, free space and permissions.",
                ) from error
        self.blobs = Blobs(Objects(bucket) if bucket else Files(blobs), ledger)
        self.tables = Tables(bucket or self.folder)
        self.columns = Columns(self.tables)

    # -- bytes --------------------------------------------------------------------------------------
    def keep(self, data: bytes, *, document: str, source: str, media_type: str, title: str, fingerprint: str) -> Asset:
        """Keep an asset's bytes, encrypted; equal bytes are kept once."""
        (digest,) = self.keep_many([data])
        return Asset(document, source, digest, len(data), media_type, title, fingerprint)

    def keep_many(self, datas: Sequence[bytes]) -> list[str]:
        """The same for several at once: their digests, in order."""
        self.tables.own(self.ledger.keys.origin)
        return self.blobs.keep_many(datas)

    def bytes(self, digest: str) -> bytes:
        """An asset's bytes. ``DigestMismatch`` if they were changed, ``NotFound`` if there are none."""
        return self.blobs.read(digest)

    # -- rows ---------------------------------------------------------------------------------------
    def commit(self, rows: Rows, run: Run) -> Pointer:
        """Make rows, labels and removals visible at once: Lance first, then one transaction of the catalogue."""
        from drystone.lake import commit

        with self.writing():
            pointer = commit.carry_out(self, rows, run)
            now = self.ledger.catalog.pointer().tables  # that of a key applied long ago may be cleaned up
            pieces = max((self.tables.fragments(table, at) for table, at in now.items()), default=0)
        if pieces >= self._fragments:
            try:
                self.maintain()
            except (StateUnavailable, Busy) as error:  # the commit stands; the next one tries again
                run.note("maintain", failed=error.code)
        return pointer

    def reader(self, pointer: Pointer | None = None) -> Reader:
        """Read what ``pointer`` names, by default the newest; close it, for clean-up waits for it."""
        while True:
            wanted = pointer or self.ledger.catalog.pointer()
            lease = Lease(self.leases, wanted.tables)
            if pointer is not None or self.ledger.catalog.pointer().tables == wanted.tables:
                return Reader(self, wanted, lease)  # clean-up lists leases after it moved the pointer: it saw ours
            lease.close()

    def maintain(self) -> MaintenanceReport:
        """Compact what is in many pieces, then remove versions and files that nobody points to or leases."""
        from drystone.lake import maintain

        with self.writing():
            return maintain.carry_out(self, self._fragments, int(self.settings["lake.keep_versions"]))

    def logical(self, commit: int | None = None) -> Iterator[dict[str, Any]]:
        """What a commit holds, without any number or key of this store: equal content gives equal rows."""
        from drystone.lake import logical

        return logical.rows(self, commit)

    def sizes(self) -> dict[str, int]:
        """Bytes stored, by table and of the blobs. In a bucket everything is listed for it."""
        return {**self.tables.sizes(), "blobs": self.blobs.size()}

    @contextmanager
    def writing(self) -> Iterator[None]:
        """The writers' lock, for one process and thread at a time; ``Busy`` after ``ingest.lock_wait_s``.

        It is the kernel's and lies beside the ledger, also where the tables lie in a bucket: whoever has this ledger
        has this lock, and another ledger is refused the bucket.
        """
        self.tables.own(self.ledger.keys.origin)
        with locked(self.folder / "write.lock", float(self.settings["ingest.lock_wait_s"])):
            yield

    def close(self) -> None:
        self.tables.close()
        self.columns.close()

    @property
    def _fragments(self) -> int:
        return max(2, int(self.settings["lake.compact_fragments"]))
