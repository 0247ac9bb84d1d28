"""Keys: one for every record that may have to be forgotten, and three for the project itself.

Guarantees:
- A record's key is durable before ``seal`` returns, so a ciphertext that is committed afterwards can be opened
  whatever is killed in between.
- ``destroy`` overwrites the key where it lies and empties the write-ahead log before it returns; a destroy that
  was killed half-way is finished by whoever opens the ring next. What the disk itself keeps of overwritten
  blocks is beyond us (docs/security.md).
- Processes that open a new project at the same time agree on the same keys.

Data keys are wrapped by the ring's own key, which the ``KeyStore`` wraps: an HSM is asked once per opening, not
once per record. Ciphertexts are AES-256-GCM with a random nonce, bound to the record's id and the caller's ``aad``.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import secrets
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from drystone.errors import Busy, FormatError, NotFound, ProofFailed, StateUnavailable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from drystone.ports import KeyStore

T = TypeVar("T")

FORMAT = 1
_HEAD = b"\x01"  # of a sealed blob: its format
_NONCE, _KEY, _TAG = 12, 32, 16
_WRAPPED = _NONCE + _KEY + _TAG
_ROOT = "drystone root key v1 "
_WAIT_S = 10.0

# Rows of ``keys`` are appended in the order of ``n`` and overwritten in place with the same length: SQLite then
# never moves a wrapped key to another page, so no stale copy survives in a page's free space.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS ring (
  one INTEGER PRIMARY KEY CHECK (one = 1), format INTEGER NOT NULL, name TEXT NOT NULL,
  wrapping BLOB NOT NULL, digest BLOB NOT NULL, signing BLOB NOT NULL, unfinished INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS keys (n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, wrapped BLOB NOT NULL);
"""


class FileKeyStore:
    """The root key in a file of its own (``root.key``, mode 0600), made at the first ``wrap``."""

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder) / "root.key"

    def wrap(self, key: bytes, *, context: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE)
        return nonce + self._root(create=True).encrypt(nonce, key, context)

    def unwrap(self, wrapped: bytes, *, context: bytes) -> bytes:
        return _decrypt(self._root(create=False), wrapped, context, f"The root key in {self.path} does not fit.")

    def _root(self, *, create: bool) -> AESGCM:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if create and not self.path.exists():
            self._create()
        try:
            with self.path.open(encoding="ascii") as file:
                mode, text = os.fstat(file.fileno()).st_mode, file.read()
        except FileNotFoundError:
            raise StateUnavailable(
                "The root key is missing.",
                looked=f"We looked for {self.path}.",
                todo="Put the file back from its backup; without it nothing that was encrypted can be read.",
            ) from None
        if mode & 0o077:
            raise StateUnavailable(
                "The root key can be read by others.", looked=f"{self.path} has mode {mode & 0o777:o}.",
                todo=f"Run `chmod 600 {self.path}`, and ask who has read it.",
            )  # fmt: skip
        try:
            root = base64.urlsafe_b64decode(text.removeprefix(_ROOT).strip()) if text.startswith(_ROOT) else b""
        except ValueError:
            root = b""
        if len(root) != _KEY:
            raise FormatError("The root key's file is not in a form that we know.", looked=f"We read {self.path}.")
        return AESGCM(root)

    def _create(self) -> None:
        """All or nothing, and only one wins: written beside, made durable, then linked to its name."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = self.path.with_name(f".root.{secrets.token_hex(8)}")
        line = _ROOT + base64.urlsafe_b64encode(secrets.token_bytes(_KEY)).decode() + "\n"
        try:
            _write(beside, line.encode("ascii"), 0o600)
            try:
                os.link(beside, self.path)
            except FileExistsError:
                return  # another process was first; its key is the one
            _sync_folder(self.path.parent)
        finally:
            beside.unlink(missing_ok=True)


@dataclass(slots=True, eq=False)
class _Wanted:
    """Keys that a caller waits for."""

    ids: tuple[str, ...]
    keys: list[bytes] | None = None


class _Closed:
    """Stands where the connection was: whoever comes late is told so."""

    def __getattr__(self, name: str) -> Any:
        if name == "close":
            return lambda: None
        raise StateUnavailable("The keys are closed.", todo="Open the project again.")


class KeyRing:
    """The keys of one project, in ``folder/keys.db``. Safe for threads and for several processes.

    ``name`` (of the project) is fixed at the first opening: it names the log and the public key's file.
    """

    def __init__(self, folder: Path, store: KeyStore, *, name: str = "project") -> None:
        self.folder, self._store, self._lock = Path(folder), store, threading.RLock()
        self._waiting: deque[_Wanted] = deque()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / "keys.db"
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._connection = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise StateUnavailable(
                f"The keys cannot be opened: {error}.", looked=f"We tried {path}.",
                todo="Check the folder's owner and free space.",
            ) from None  # fmt: skip
        try:
            self._open(re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "project")
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise StateUnavailable(
                f"The keys cannot be read: {error}.", looked=f"We read {path}.", todo="Restore it from a backup."
            ) from None
        except BaseException:
            self._connection.close()
            raise

    # -- records ---------------------------------------------------------------------------------
    def seal(self, id: str, plaintext: bytes, *, aad: bytes = b"") -> bytes:
        """Encrypt ``plaintext`` under the key of ``id``, which is made if there is none."""
        return self.seal_many([(id, plaintext)], aad=aad)[0]

    def seal_many(self, items: Sequence[tuple[str, bytes]], *, aad: bytes = b"") -> list[bytes]:
        """The same for several records with one durable write."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        bound = [_bound(id, aad) for id, _ in items]
        keys = self._durable([id for id, _ in items])
        sealed = []
        for (_, plaintext), key, context in zip(items, keys, bound, strict=True):
            nonce = secrets.token_bytes(_NONCE)
            sealed.append(_HEAD + nonce + AESGCM(key).encrypt(nonce, plaintext, context))
        return sealed

    def open(self, id: str, blob: bytes, *, aad: bytes = b"") -> bytes:
        """The plaintext. ``NotFound`` when its key was destroyed, ``ProofFailed`` when the bytes were changed."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        with self._lock:
            rows = self._connection.execute("SELECT wrapped FROM keys WHERE id = ?", (id,)).fetchall()
        if not rows:
            raise StateUnavailable(
                f"There is no key for {id}.", looked=f"We looked in {self.folder / 'keys.db'}.",
                todo="The keys may be older than the data: restore both from the same backup.",
            )  # fmt: skip
        if not any(rows[0][0]):
            raise NotFound(f"{id} was erased: its key was destroyed.")
        if blob[:1] != _HEAD:
            raise FormatError(f"{id} is sealed in a format that this release does not know.")
        key = AESGCM(self._unwrap(id, rows[0][0]))
        return _decrypt(key, blob[1:], _bound(id, aad), f"The encrypted bytes of {id} were changed.")

    def has(self, id: str) -> bool:
        """Whether there is a key for ``id`` that was not destroyed."""
        with self._lock:
            rows = self._connection.execute("SELECT wrapped FROM keys WHERE id = ?", (id,)).fetchall()
        return bool(rows) and any(rows[0][0])

    def destroy(self, *ids: str) -> int:
        """Make the records unreadable for ever; returns how many keys there were. Durable on return."""

        def overwrite(connection: sqlite3.Connection) -> int:
            gone = 0
            for id in ids:
                gone += connection.execute(
                    "UPDATE keys SET wrapped = zeroblob(?) WHERE id = ? AND wrapped != zeroblob(?)",
                    (_WRAPPED, id, _WRAPPED),
                ).rowcount
            if gone:
                connection.execute("UPDATE ring SET unfinished = 1")
            return gone

        gone = self._write(overwrite)
        if gone:
            self._finish()
        return gone

    # -- the project -----------------------------------------------------------------------------
    def digest(self, kind: str, *parts: str | bytes) -> str:
        """An opaque id: ``kind:`` and 16 bytes of keyed BLAKE2b over the parts, base64url. Same parts, same id."""
        hasher = hashlib.blake2b(key=self._digest, digest_size=16)
        for part in (kind, *parts):
            data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
            hasher.update(len(data).to_bytes(8, "big"))
            hasher.update(data)
        return f"{kind}:{base64.urlsafe_b64encode(hasher.digest()).rstrip(b'=').decode()}"

    def sign(self, message: bytes) -> bytes:
        """Ed25519 (RFC 8032), 64 bytes."""
        return self._signing.sign(message)

    def close(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, cast("sqlite3.Connection", _Closed())
            connection.close()

    # -- inside ----------------------------------------------------------------------------------
    def _open(self, name: str) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._retry(lambda: self._connection.execute("PRAGMA journal_mode = WAL").fetchall())
        for pragma in ("synchronous = FULL", "secure_delete = ON", "temp_store = MEMORY"):
            self._connection.execute(f"PRAGMA {pragma}").fetchall()
        ring = "SELECT format, name, wrapping, digest, signing, unfinished FROM ring"
        tables = self._connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'ring'").fetchall()
        row = self._connection.execute(ring).fetchone() if tables[0][0] else None
        if row is None:
            row = self._write(lambda connection: self._found(connection, ring, name))
        if row[0] != FORMAT:
            raise FormatError(
                f"The keys have format {row[0]}; this release knows {FORMAT}.", todo="Install a newer release."
            )
        self.name = str(row[1])
        wrapping, self._digest, signing = (
            self._store.unwrap(row[2 + i], context=b"drystone:" + what)
            for i, what in enumerate((b"wrapping", b"digest", b"signing"))
        )
        self._wrapping = AESGCM(wrapping)
        self._signing = Ed25519PrivateKey.from_private_bytes(signing)
        self.public = self._signing.public_key().public_bytes_raw()
        self.key_id = hashlib.sha256(self.public).hexdigest()[:16]
        self.origin = f"drystone/{self.name}/{self.key_id[:8]}"  # unique to this log, as C2SP asks
        self._publish()
        if row[5]:
            self._finish()

    def _found(self, connection: sqlite3.Connection, ring: str, name: str) -> tuple[Any, ...]:
        """Make the project's keys, unless another process has just done so."""
        for statement in filter(str.strip, _SCHEMA.split(";")):
            connection.execute(statement)
        if connection.execute(ring).fetchone() is None:
            made = [
                self._store.wrap(secrets.token_bytes(_KEY), context=b"drystone:" + what)
                for what in (b"wrapping", b"digest", b"signing")
            ]
            connection.execute("INSERT INTO ring VALUES (1, ?, ?, ?, ?, ?, 0)", (FORMAT, name, *made))
        return tuple(connection.execute(ring).fetchone())

    def _publish(self) -> None:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        form = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        pem = self._signing.public_key().public_bytes(*form)
        path = self.folder / f"{self.name}.pub"
        if not path.exists():
            beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
            _write(beside, pem, 0o644)
            os.replace(beside, path)
        elif path.read_bytes() != pem:
            raise ProofFailed(
                "The public key's file does not belong to this project's signing key.", looked=f"We read {path}.",
                todo="Find out who changed it; removing the file lets it be written again.",
            )  # fmt: skip

    def _durable(self, ids: Sequence[str]) -> list[bytes]:
        """The keys of ``ids``. Who comes first writes for all who wait: one durable write, however many callers."""
        mine = _Wanted(tuple(ids))
        self._waiting.append(mine)
        with self._lock:
            if mine.keys is None:
                batch = list(self._waiting)
                try:
                    made = self._write(lambda connection: [[self._key(connection, id) for id in w.ids] for w in batch])
                except BaseException:
                    self._waiting.remove(mine)  # the others are still in the queue and try for themselves
                    raise
                for wanted, keys in zip(batch, made, strict=True):
                    wanted.keys = keys
                    self._waiting.remove(wanted)
        if mine.keys is None:
            raise AssertionError("a batch was written without one of its members")
        return mine.keys

    def _key(self, connection: sqlite3.Connection, id: str) -> bytes:
        """The key of ``id``; a new one if there is none or it was destroyed."""
        rows = connection.execute("SELECT wrapped FROM keys WHERE id = ?", (id,)).fetchall()
        if rows and any(rows[0][0]):
            return self._unwrap(id, rows[0][0])
        key, nonce = secrets.token_bytes(_KEY), secrets.token_bytes(_NONCE)
        wrapped = nonce + self._wrapping.encrypt(nonce, key, b"key:" + id.encode())
        if rows:
            connection.execute("UPDATE keys SET wrapped = ? WHERE id = ?", (wrapped, id))
        else:
            connection.execute("INSERT INTO keys (id, wrapped) VALUES (?, ?)", (id, wrapped))
        return key

    def _unwrap(self, id: str, wrapped: bytes) -> bytes:
        return _decrypt(self._wrapping, wrapped, b"key:" + id.encode(), f"The key of {id} was changed.")

    def _write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            connection = self._connection
            try:
                self._retry(lambda: connection.execute("BEGIN IMMEDIATE"))
                try:
                    result = change(connection)
                    connection.execute("COMMIT")
                    return result
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
            except sqlite3.DatabaseError as error:
                raise StateUnavailable(
                    f"A key could not be written: {error}.", looked=f"We tried {self.folder / 'keys.db'}.",
                    todo="Free space on the disk, or check the folder's owner.",
                ) from None  # fmt: skip

    def _finish(self) -> None:
        """Move the overwritten pages into the database and empty the write-ahead log, which held the old ones."""
        with self._lock:
            until = time.monotonic() + _WAIT_S
            while self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0]:
                if time.monotonic() > until:
                    raise Busy(
                        "The keys are destroyed, but their old bytes still lie in the write-ahead log.",
                        looked=f"Another process keeps {self.folder / 'keys.db'} open in the middle of a read.",
                        todo="Try again; the next opening of the project finishes it.",
                    )
                time.sleep(0.02)
        self._write(lambda connection: connection.execute("UPDATE ring SET unfinished = 0"))

    def _retry(self, attempt: Callable[[], object]) -> None:
        """SQLite does not wait for its lock in every case (a change of journal mode); we do."""
        until = time.monotonic() + _WAIT_S
        while True:
            try:
                attempt()
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) and "busy" not in str(error):
                    raise
                if time.monotonic() > until:
                    raise Busy(
                        "The keys are held by another process.", looked=f"We waited {_WAIT_S:.0f} s.", todo="Try again."
                    ) from None
                time.sleep(0.01)


def _bound(id: str, aad: bytes) -> bytes:
    name = id.encode()
    return len(name).to_bytes(4, "big") + name + aad


def _decrypt(key: AESGCM, data: bytes, context: bytes, message: str) -> bytes:
    from cryptography.exceptions import InvalidTag

    try:
        return key.decrypt(data[:_NONCE], data[_NONCE:], context)
    except (InvalidTag, ValueError):
        raise ProofFailed(message, todo="Restore it from a backup, and find out who wrote to it.") from None


def _write(path: Path, data: bytes, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
