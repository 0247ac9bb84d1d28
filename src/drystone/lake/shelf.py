"""Where sealed blobs lie: files of a folder, or objects of a bucket.

Guarantees: a name is there whole or not at all, and durable when ``put`` returns: in a folder by a temporary file,
fsync and rename, in a bucket by the store's answer to one write each. What a killed writer leaves is in no name's
way and is swept.
"""

from __future__ import annotations

import io
import os
import secrets
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from drystone.lake.storage import Bucket, spoken

WRITERS = 16  # threads that write side by side: they wait for the disk or the store
Pieces = Callable[[], Iterable[bytes]]


class Files:
    """A folder; a blob is one file, however many pieces it has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def there(self, names: Sequence[str]) -> list[str]:
        """Those of ``names`` that are here."""
        return [name for name in names if self.path(name).exists()]

    def put(self, blobs: Mapping[str, Pieces]) -> None:
        folders = {self.path(name).parent for name in blobs}
        for folder in folders:
            folder.mkdir(mode=0o700, exist_ok=True)
        with ThreadPoolExecutor(min(WRITERS, len(blobs))) as writers:
            for _ in writers.map(self._store, blobs, blobs.values()):
                pass
            for _ in writers.map(_sync, (*folders, self.folder)):
                pass

    def _store(self, name: str, pieces: Pieces) -> None:
        path = self.path(name)
        hidden = path.parent / f"{secrets.token_hex(8)}.new"
        try:
            fd = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.writelines(pieces())
                file.flush()
                os.fsync(file.fileno())
            os.rename(hidden, path)
        except BaseException:
            hidden.unlink(missing_ok=True)
            raise

    def parts(self, name: str) -> Generator[BinaryIO, None, None]:
        """What holds the blob, in order. ``FileNotFoundError`` if there is none."""
        with self.path(name).open("rb") as file:
            yield file

    def size(self) -> int:
        return sum(path.stat().st_size for path in self._all())

    def sweep(self, older_s: float) -> int:
        old = [p for p in self._all() if p.suffix == ".new" and time.time() - p.stat().st_mtime > older_s]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def _all(self) -> Iterator[Path]:
        return (path for path in self.folder.glob("*/*") if path.is_file())

    def path(self, name: str) -> Path:
        return self.folder / name[:2] / name[2:]


class Objects:
    """A bucket; a blob's first piece is ``blobs/NAME``, written last; the others are ``pieces/NAME/1`` and so on.

    No multipart upload is ever begun, so none can be left behind, and only ``pieces/`` has to be looked through.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def __str__(self) -> str:
        return f"{self._bucket.url}/blobs"

    def there(self, names: Sequence[str]) -> list[str]:
        if not names:
            return []
        with spoken(str(self)):  # side by side in the engine
            found = self._bucket.files().get_file_info([self._path(name, 0) for name in names])
        return [name for name, info in zip(names, found, strict=True) if info.is_file]

    def put(self, blobs: Mapping[str, Pieces]) -> None:
        with spoken(str(self)), ThreadPoolExecutor(min(WRITERS, len(blobs))) as writers:
            for _ in writers.map(self._store, blobs, blobs.values()):
                pass

    def _store(self, name: str, pieces: Pieces) -> None:
        following = iter(pieces())
        first = next(following)
        for place, piece in enumerate(following, 1):
            self._write(name, place, piece)
        self._write(name, 0, first)

    def _write(self, name: str, place: int, piece: bytes) -> None:
        file = self._bucket.files().open_output_stream(self._path(name, place))
        file.write(piece)
        file.close()  # here it is sent, whole

    def parts(self, name: str) -> Generator[BinaryIO, None, None]:
        place = 0
        while True:
            try:
                with spoken(str(self)), self._bucket.files().open_input_stream(self._path(name, place)) as file:
                    data = file.read()
            except FileNotFoundError:
                if place:
                    return
                raise
            yield io.BytesIO(data)
            place += 1

    def size(self) -> int:
        return sum(info.size for folder in ("blobs", "pieces") for info in self._bucket.objects(folder))

    def sweep(self, older_s: float) -> int:
        """Pieces without their first. Asks for a name only where it has pieces, and for ``pieces/`` once."""
        old: dict[str, list[str]] = {}
        for info in self._bucket.objects("pieces"):
            if time.time() - info.mtime_ns / 1e9 > older_s:
                old.setdefault(info.path.split("/")[-2], []).append(info.path)
        whole = set(self.there(list(old)))
        gone = [path for name, paths in old.items() if name not in whole for path in paths]
        with spoken(str(self)):
            for path in gone:
                self._bucket.files().delete_file(path)
        return len(gone)

    def _path(self, name: str, place: int) -> str:
        return f"{self._bucket.prefix}/" + (f"pieces/{name}/{place}" if place else f"blobs/{name}")


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
