"""Assets' bytes, each encrypted under a random key of its own and addressed by a keyed digest (``b:...``).

Guarantees: equal bytes are kept once; a blob is there whole or not at all (``shelf.py``); what is read back is what
was kept, or ``DigestMismatch``. Big blobs are sealed in frames, each bound to its place and to whether it is the
last, so frames cannot be dropped, doubled or reordered.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from drystone.errors import DigestMismatch, DrystoneError, FormatError, NotFound, ProofFailed, StateUnavailable
from drystone.lake.shelf import Files, Objects

if TYPE_CHECKING:
    from drystone.ledger import Ledger

MAGIC = b"DSB1"
FRAME = 8 << 20  # bytes of one sealed frame
HEAD = struct.Struct(">BI")  # last?, length of what follows


class Blobs:
    def __init__(self, shelf: Files | Objects, ledger: Ledger) -> None:
        self.shelf, self._ledger = shelf, ledger

    def keep(self, data: bytes) -> str:
        """Keep ``data`` and return its digest. Durable on return."""
        return self.keep_many([data])[0]

    def keep_many(self, datas: Sequence[bytes]) -> list[str]:
        """Keep several and return their digests. Durable on return: the keys in one write, the files side by side."""
        digests = [self._ledger.digest("b", data) for data in datas]
        there = self._there(digests)
        fresh = {digest: data for digest, data in zip(digests, datas, strict=True) if digest not in there}
        if not fresh:
            return digests
        small = [(digest, data) for digest, data in fresh.items() if len(data) <= FRAME]
        sealed = dict(zip((d for d, _ in small), self._ledger.keys.seal_many(small, aad=_aad(0, True)), strict=True))

        def pieces(digest: str) -> Iterator[bytes]:
            if digest in sealed:
                return iter([MAGIC + HEAD.pack(True, len(sealed[digest])) + sealed[digest]])
            return self._frames(digest, fresh[digest])

        try:
            self.shelf.put({_name(digest): partial(pieces, digest) for digest in fresh})
        except OSError as error:
            raise StateUnavailable(
                "An asset's bytes could not be kept.",
                looked=f"We wrote to {self.shelf}: {error.strerror}.",
                todo="Free space, or give this process the right to write there; nothing was committed.",
            ) from error
        return digests

    def _there(self, digests: Sequence[str]) -> set[str]:
        keyed = {_name(d): d for d in digests if self._ledger.keys.has(d)}  # what is new has no key: nothing is asked
        return {keyed[name] for name in self.shelf.there(list(keyed))}

    def _frames(self, digest: str, data: bytes) -> Iterator[bytes]:
        view, places = memoryview(data), -(-len(data) // FRAME)
        for place in range(places):
            last = place == places - 1
            part = bytes(view[place * FRAME : (place + 1) * FRAME])
            sealed = self._ledger.keys.seal(digest, part, aad=_aad(place, last))
            yield (b"" if place else MAGIC) + HEAD.pack(last, len(sealed)) + sealed

    def read(self, digest: str) -> bytes:
        """What was kept, checked against its digest."""
        data = b"".join(self.pieces(digest))
        if self._ledger.digest("b", data) != digest:
            raise _mismatch(digest)
        return data

    def pieces(self, digest: str) -> Iterator[bytes]:
        """The same in frames of at most ``FRAME`` bytes, each authenticated, for what is too big to hold."""
        with closing(self.shelf.parts(_name(digest))) as parts:
            file = self._next(parts, digest)
            if file is None:
                raise NotFound(f"There are no bytes under {digest}.")
            if file.read(len(MAGIC)) != MAGIC:
                raise _mismatch(digest)
            place, last = 0, False
            while not last:
                head = file.read(HEAD.size)
                if not head and (following := self._next(parts, digest)):
                    file = following
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

    def _next(self, parts: Iterator[BinaryIO], digest: str) -> BinaryIO | None:
        try:
            return next(parts, None)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateUnavailable(f"The bytes of {digest} cannot be read: {error.strerror}.") from error

    def size(self) -> int:
        """Bytes stored."""
        return self.shelf.size()

    def sweep(self, older_s: float = 3600) -> int:
        """Remove what killed writers left unfinished: the number of files or objects."""
        return self.shelf.sweep(older_s)


def _name(digest: str) -> str:
    name = digest.removeprefix("b:")
    if name == digest or not name.replace("-", "").replace("_", "").isalnum():
        raise NotFound(f"There are no bytes under {digest!r}.")
    return name


def _aad(place: int, last: bool) -> bytes:
    return b"blob" + struct.pack(">Q?", place, last)


def _mismatch(digest: str) -> DrystoneError:
    return DigestMismatch(
        f"The bytes of {digest} are not what was kept; they were not used.",
        looked="They failed their digest or their seal.",
        todo="Restore the state folder from a backup, or ingest the source again.",
    )
