"""Assets' bytes, each encrypted under a random key of its own and addressed by a keyed digest (``b:...``).

Guarantees: equal bytes are kept once; a blob is there whole or not at all (temporary file, fsync, rename); files are
for their owner alone; what is read back is what was kept, or ``DigestMismatch``. Big blobs are sealed in frames, each
bound to its place and to whether it is the last, so frames cannot be dropped, doubled or reordered.
"""

from __future__ import annotations

import os
import secrets
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from drystone.errors import DigestMismatch, DrystoneError, FormatError, NotFound, ProofFailed, StateUnavailable

if TYPE_CHECKING:
    from drystone.ledger import Ledger

MAGIC = b"DSB1"
FRAME = 8 << 20  # bytes of one sealed frame
WRITERS = 16  # threads that write side by side
HEAD = struct.Struct(">BI")  # last?, length of what follows


class Blobs:
    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.folder, self._ledger = folder, ledger

    def keep(self, data: bytes) -> str:
        """Keep ``data`` and return its digest. Durable on return."""
        return self.keep_many([data])[0]

    def keep_many(self, datas: Sequence[bytes]) -> list[str]:
        """Keep several and return their digests. Durable on return: the keys in one write, the files side by side."""
        digests = [self._ledger.digest("b", data) for data in datas]
        fresh = {digest: data for digest, data in zip(digests, datas, strict=True) if not self._there(digest)}
        if not fresh:
            return digests
        only = _aad(0, True)
        small = [(digest, data) for digest, data in fresh.items() if len(data) <= FRAME]
        sealed = dict(zip((d for d, _ in small), self._ledger.keys.seal_many(small, aad=only), strict=True))

        def store(digest: str) -> None:
            if digest in sealed:
                self._store(digest, [HEAD.pack(True, len(sealed[digest])), sealed[digest]])
            else:
                self._store(digest, self._frames(digest, fresh[digest]))

        folders = {self._path(digest).parent for digest in fresh}
        try:
            for folder in folders:
                folder.mkdir(mode=0o700, exist_ok=True)
            with ThreadPoolExecutor(min(WRITERS, len(fresh))) as writers:  # they wait for the disk
                for _ in writers.map(store, fresh):
                    pass
                for _ in writers.map(_sync, (*folders, self.folder)):
                    pass
        except OSError as error:
            raise StateUnavailable(
                "An asset's bytes could not be kept.",
                looked=f"We wrote to {self.folder}: {error.strerror}.",
                todo="Free space, or give this process the right to write there; nothing was committed.",
            ) from error
        return digests

    def _there(self, digest: str) -> bool:
        return self._path(digest).exists() and self._ledger.keys.has(digest)

    def _frames(self, digest: str, data: bytes) -> Iterator[bytes]:
        view, places = memoryview(data), -(-len(data) // FRAME)
        for place in range(places):
            last = place == places - 1
            part = bytes(view[place * FRAME : (place + 1) * FRAME])
            sealed = self._ledger.keys.seal(digest, part, aad=_aad(place, last))
            yield HEAD.pack(last, len(sealed)) + sealed

    def _store(self, digest: str, pieces: Iterable[bytes]) -> None:
        """Whole or not at all: written beside, made durable, then renamed."""
        path = self._path(digest)
        hidden = path.parent / f"{secrets.token_hex(8)}.new"
        try:
            fd = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(MAGIC)
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            os.rename(hidden, path)
        except BaseException:
            hidden.unlink(missing_ok=True)
            raise

    def read(self, digest: str) -> bytes:
        """What was kept, checked against its digest."""
        data = b"".join(self.pieces(digest))
        if self._ledger.digest("b", data) != digest:
            raise _mismatch(digest)
        return data

    def pieces(self, digest: str) -> Iterator[bytes]:
        """The same in frames of at most ``FRAME`` bytes, each authenticated, for what is too big to hold."""
        try:
            file = self._path(digest).open("rb")
        except FileNotFoundError:
            raise NotFound(f"There are no bytes under {digest}.") from None
        except OSError as error:
            raise StateUnavailable(f"The bytes of {digest} cannot be read: {error.strerror}.") from error
        with file:
            if file.read(len(MAGIC)) != MAGIC:
                raise _mismatch(digest)
            place, last = 0, False
            while not last:
                head = file.read(HEAD.size)
                if len(head) != HEAD.size or head[0] > 1:
                    raise _mismatch(digest)
                last, length = bool(head[0]), HEAD.unpack(head)[1]
                sealed = file.read(length)
                if len(sealed) != length:
                    raise _mismatch(digest)
                try:
                    yield self._ledger.keys.open(digest, sealed, aad=_aad(place, last))
                except (ProofFailed, FormatError) as error:
                    raise _mismatch(digest) from error
                place += 1
            if file.read(1):
                raise _mismatch(digest)

    def size(self) -> int:
        """Bytes on disk."""
        return sum(e.stat().st_size for e in self._files())

    def sweep(self, older_s: float = 3600) -> int:
        """Remove what killed writers left unfinished: the number of files."""
        old = [e for e in self._files() if e.suffix == ".new" and time.time() - e.stat().st_mtime > older_s]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def _files(self) -> Iterator[Path]:
        return (path for path in self.folder.glob("*/*") if path.is_file())

    def _path(self, digest: str) -> Path:
        name = digest.removeprefix("b:")
        if name == digest or not name.replace("-", "").replace("_", "").isalnum():
            raise NotFound(f"There are no bytes under {digest!r}.")
        return self.folder / name[:2] / name[2:]


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _aad(place: int, last: bool) -> bytes:
    return b"blob" + struct.pack(">Q?", place, last)


def _mismatch(digest: str) -> DrystoneError:
    return DigestMismatch(
        f"The bytes of {digest} are not what was kept; they were not used.",
        looked="They failed their digest or their seal.",
        todo="Restore the state folder from a backup, or ingest the source again.",
    )
