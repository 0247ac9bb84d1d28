"""The ledger's database: one SQLite file, many readers, one group-committing writer a process.

Guarantees: what :meth:`Database.write` returned is on the disk (WAL, ``synchronous=FULL``); a callable that
raises leaves nothing behind and does not disturb those committed with it; a full disk or a failing one is
:class:`StateUnavailable` and nothing is half written; state of a newer format is refused, of an older one
migrated in one transaction after a copy was kept; network file systems are refused; files are private (0600).
"""

from __future__ import annotations

import os
import queue
import re
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from drystone.errors import Busy, DrystoneError, FormatError, StateUnavailable

T = TypeVar("T")

PARAMETER = "?"  # PostgreSQL's drivers write %s
MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_MS = 30_000
GROUP = 256  # most callables of one transaction
NETWORK = re.compile(
    r"nfs4?|cifs|smb\d?|smbfs|afs|ceph|coda|gfs2|glusterfs|lustre|ncpfs|ocfs2|9p|davfs|webdav|beegfs|gpfs|vboxsf|"
    r"fuse\.(sshfs|s3fs|gcsfuse|blobfuse2?|rclone|goofys|glusterfs|cephfs|ceph|mount-s3|juicefs)"
)
_UNUSABLE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB,
             sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM}  # fmt: skip
_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def sql(text: str) -> str:
    """A statement with its parameters written as this database's driver wants them."""
    return text if PARAMETER == "?" else text.replace("?", PARAMETER)


class _Connection(sqlite3.Connection):
    """A connection that closes itself when the thread that used it is gone."""

    def __del__(self) -> None:
        self.close()


class Database:
    """One SQLite file. Thread-safe; open it once a process, and again in a process that was forked."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._pid = os.getpid()
        self._local = threading.local()
        self._queue: queue.SimpleQueue[tuple[Callable[[sqlite3.Connection], Any], Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._state = threading.Lock()  # guards the writer's start and the end
        self._writer: threading.Thread | None = None
        self._closed = False
        self._watch_lock = threading.Lock()
        with guarded(self.path):
            private_folder(self.path.parent)
            refuse_network(self.path.parent)
            private_file(self.path)
            self._write_connection = self._connect()
            self.format = _migrate(self._write_connection, self.path)
            self._watch = self._connect(query_only=True)

    # -- writing ------------------------------------------------------------------------------------
    def write(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``fn`` inside a transaction and return what it returned, once that is durable.

        ``fn`` may share its transaction with others that wait; if it raises, only its own work is undone
        and the caller gets the exception. It must not commit, and it must not call ``write``.
        """
        return self.submit(fn).result()

    def submit(self, fn: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Like ``write`` without waiting; callables are carried out in the order they were submitted."""
        future: Future[T] = Future()
        with self._state:
            self._usable()
            if self._writer is None:
                self._writer = threading.Thread(target=self._work, name="ledger-writer", daemon=True)
                self._writer.start()
            self._queue.put((fn, future))
        return future

    def _work(self) -> None:
        while True:
            jobs = [self._queue.get()]
            with suppress(queue.Empty):
                while jobs[-1] is not None and len(jobs) < GROUP:
                    jobs.append(self._queue.get_nowait())
            work = [job for job in jobs if job is not None]
            if work:
                self._commit(work)
            if len(work) < len(jobs):
                return

    def _commit(self, jobs: list[tuple[Callable[[sqlite3.Connection], Any], Future[Any]]]) -> None:
        """One transaction; each job in a savepoint. Every future is resolved, whatever happens.

        A job that is alone needs no savepoint, and a large one is several times faster without: SQLite keeps
        what a savepoint would restore in a list that it walks at every statement.
        """
        connection, shared = self._write_connection, len(jobs) > 1
        done: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for fn, future in jobs:
                if shared:
                    connection.execute("SAVEPOINT job")
                try:
                    done.append((future, fn(connection), None))
                except BaseException as error:
                    if not shared or not connection.in_transaction or _code(error) in _UNUSABLE:
                        raise  # the whole transaction is lost, so everybody hears of it
                    connection.execute("ROLLBACK TO job")
                    done.append((future, None, error))
                if shared:
                    connection.execute("RELEASE job")
            connection.execute("COMMIT")
        except BaseException as error:
            with suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            for _, future in jobs:
                future.set_exception(explained(error, self.path))
            return
        for future, result, failure in done:
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(explained(failure, self.path))

    # -- reading ------------------------------------------------------------------------------------
    def read(self) -> sqlite3.Connection:
        """This thread's connection for reading; every statement sees the newest commit."""
        connection: _Connection | None = getattr(self._local, "connection", None)
        if connection is None or self._closed or self._pid != os.getpid():
            with self._state:
                self._usable()
                connection = self._local.connection = self._connect(query_only=True)
        return connection

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A reading connection whose statements all see one and the same commit."""
        connection = self.read()
        if connection.in_transaction:  # within another snapshot
            yield connection
            return
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("ROLLBACK")

    def data_version(self) -> int:
        """Changes whenever this or another process committed; compare for equality only. 5 microseconds."""
        with self._watch_lock:
            self._usable()
            return int(self._watch.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Finish what was submitted, then close. Calling it again does nothing."""
        with self._state:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        if self._pid != os.getpid():
            return
        if self._writer is not None:
            self._writer.join()
        mine: _Connection | None = getattr(self._local, "connection", None)
        with self._watch_lock:
            for connection in (self._write_connection, self._watch, mine):
                if connection is not None:
                    connection.close()
        # Another thread may be in the middle of reading: its connection closes when that thread is gone.

    def _usable(self) -> None:
        if self._closed:
            raise StateUnavailable(
                "The ledger is closed.", looked=f"It was {self.path}.", todo="Open the project again."
            )
        if self._pid != os.getpid():
            raise StateUnavailable(
                "The ledger was opened by the process that this one was forked from.",
                looked=f"It is {self.path}.",
                todo="Open the project again in this process.",
            )

    def _connect(self, *, query_only: bool = False) -> _Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=BUSY_MS / 1000,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
            factory=_Connection,
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA cache_size = -65536")
        connection.execute("PRAGMA mmap_size = 268435456")
        connection.execute("PRAGMA temp_store = MEMORY")  # nothing lands outside the state folder
        if query_only:
            connection.execute("PRAGMA query_only = ON")
        return connection


# -- format -------------------------------------------------------------------------------------------
def migrations() -> list[tuple[int, Path]]:
    """Every migration, in order. The format is the number of the last one."""
    return sorted((int(path.name.partition("_")[0]), path) for path in MIGRATIONS.glob("*.sql"))


def pending(path: Path) -> tuple[int, list[str]]:
    """The format of a database file, and the names of the migrations that opening it would run."""
    with guarded(path):
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            found = _format(connection)
        finally:
            connection.close()
    return found, [file.name for number, file in migrations() if number > found]


def _format(connection: sqlite3.Connection) -> int:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'format'").fetchone():
        return 0
    return int(connection.execute("SELECT max(number) FROM format").fetchone()[0])


def _migrate(connection: sqlite3.Connection, path: Path) -> int:
    known = migrations()
    newest = known[-1][0]
    found = _format(connection)
    if 0 < found < newest:
        kept = path.with_name(f"{path.name}.format-{found}")
        if not kept.exists():
            partial = kept.with_suffix(f".{os.getpid()}")
            private_file(partial)
            copy = sqlite3.connect(partial)
            try:
                connection.backup(copy)
            finally:
                copy.close()
            partial.replace(kept)
    if found != newest:
        connection.execute("BEGIN IMMEDIATE")
        try:
            found = _format(connection)  # another process may have been quicker
            if found > newest:
                raise FormatError(
                    f"The ledger has format {found}, and this release knows formats up to {newest}.",
                    looked=f"It is {path}.",
                    todo="Use the release that wrote it, or a newer one.",
                )
            for number, file in known:
                if number > found:
                    for statement in _statements(file.read_text("utf-8")):
                        connection.execute(statement)
                    connection.execute("INSERT INTO format (number) VALUES (?)", (number,))
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    return newest


def _statements(script: str) -> Iterator[str]:
    """One statement at a time: ``executescript`` would commit between them."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if re.sub(r"--.*", "", statement).strip():
        raise FormatError("A migration ends within a statement.", looked=statement.strip()[:80])


# -- the place ----------------------------------------------------------------------------------------
def private_folder(folder: Path) -> None:
    """Make the folder if needed, and take every right from group and others."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)


def private_file(path: Path) -> None:
    """Make the file if needed, for its owner alone; SQLite gives its side files the same mode."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)


def file_system(folder: Path) -> str:
    """The type of the file system that holds ``folder``; empty where the system does not tell (not Linux)."""
    if not sys.platform.startswith("linux"):
        return ""
    place = os.fsencode(folder.resolve())
    best, kind = b"", ""
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        left, _, right = line.partition(b" - ")
        mount = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), left.split(b" ")[4])
        inside = place == mount or place.startswith(mount.rstrip(b"/") + b"/")
        if inside and len(mount) >= len(best):  # a later mount on the same place hides the earlier
            best, kind = mount, right.split(b" ")[0].decode()
    return kind


def refuse_network(folder: Path) -> None:
    """WAL needs memory shared between processes, which a network file system cannot give."""
    kind = file_system(folder)
    if NETWORK.fullmatch(kind):
        raise StateUnavailable(
            f"The state folder lies on a network file system ({kind}), where the ledger could be damaged.",
            looked=f"It is {folder}.",
            todo="Set project.state to a folder on a local disk.",
        )


# -- errors -------------------------------------------------------------------------------------------
def _code(error: BaseException) -> int | None:
    """SQLite's primary result code."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF


def explained(error: BaseException, path: Path) -> BaseException:
    """SQLite's and the system's errors in our words; any other error unchanged."""
    code = _code(error)
    if code in _LOCKED:
        out: DrystoneError = Busy(
            "Another process holds the ledger.",
            looked=f"We waited {BUSY_MS // 1000} s for {path}.",
            todo="Wait for it to finish, then try again.",
        )
    elif code in _UNUSABLE or isinstance(error, OSError):
        why = getattr(error, "sqlite_errorname", None) or getattr(error, "strerror", None) or "an I/O error"
        full = code == sqlite3.SQLITE_FULL
        out = StateUnavailable(
            "The disk is full, so nothing was written." if full else f"The ledger cannot be used: {why}.",
            looked=f"It is {path}.",
            todo="Free some space and try again." if full else "Check the disk and the folder's permissions.",
        )
    else:
        return error
    out.__cause__ = error
    return out


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        told = explained(error, path)
        if told is error:
            raise
        raise told from error
