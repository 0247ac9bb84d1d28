"""The store: durable, all or nothing, shared by threads and processes, private, and refusing what it cannot keep."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from drystone.errors import FormatError, StateUnavailable
from drystone.ledger import store
from drystone.ledger.store import Database

ADD = "INSERT INTO counters (name, next) VALUES (?, 1)"
BUMP = "UPDATE counters SET next = next + 1 WHERE name = 'chunk'"
COUNT = "SELECT next FROM counters WHERE name = 'chunk'"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = Database(tmp_path / "state" / "ledger.db")
    yield found
    found.close()


def names(connection: sqlite3.Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT name FROM counters")} - {"document", "version", "chunk"}


def test_a_failure_undoes_only_its_own_work(database: Database) -> None:
    gate = threading.Event()

    def twice(connection: sqlite3.Connection) -> None:
        connection.execute(ADD, ("half",))
        connection.execute(ADD, ("half",))

    waits = database.submit(lambda connection: gate.wait(5))
    futures = [database.submit(lambda c, n=n: c.execute(ADD, (n,)).rowcount) for n in ("a", "b")]
    bad = database.submit(twice)
    last = database.submit(lambda c: names(c))
    gate.set()  # everything above waited, so it shares one transaction
    assert waits.result() and [f.result() for f in futures] == [1, 1]
    with pytest.raises(sqlite3.IntegrityError):
        bad.result()
    assert last.result() == {"a", "b"} == names(database.read())


def test_waiting_callables_share_one_transaction(database: Database) -> None:
    gate, changes = threading.Event(), []
    database.submit(lambda connection: gate.wait(5))
    futures = [database.submit(lambda c, n=n: c.execute(ADD, (str(n),))) for n in range(100)]
    before = database.data_version()
    gate.set()
    for future in futures:
        future.result()
        changes.append(database.data_version())
    assert len(set(changes) - {before}) <= 2


def test_threads_lose_nothing(database: Database) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: database.write(lambda c: c.execute(BUMP)), range(400)))
    assert database.read().execute(COUNT).fetchone()[0] == 400


WRITER = """
import sys
from pathlib import Path
from drystone.ledger.store import Database
database = Database(Path(sys.argv[1]))
for n in range(int(sys.argv[2])):
    database.write(lambda c: c.execute("UPDATE counters SET next = next + 1 WHERE name = 'chunk'"))
    print(n + 1, flush=True)
"""


def test_processes_lose_nothing(database: Database) -> None:
    work = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(database.path), "60"], stdout=subprocess.DEVNULL)
        for _ in range(3)
    ]
    before = database.data_version()
    for _ in range(60):
        database.write(lambda c: c.execute(BUMP))
    assert [process.wait(30) for process in work] == [0, 0, 0]
    assert database.data_version() != before
    assert database.read().execute(COUNT).fetchone()[0] == 240


def test_what_was_acknowledged_survives_a_kill(database: Database) -> None:
    for round_ in range(3):
        before = database.read().execute(COUNT).fetchone()[0]
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(database.path), "100000"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        acknowledged = 0
        for line in process.stdout:
            acknowledged = int(line)
            if acknowledged >= 20 + 13 * round_:
                process.send_signal(signal.SIGKILL)
                break
        rest = process.stdout.read().split()
        acknowledged = int(rest[-1]) if rest else acknowledged
        process.wait(30)
        process.stdout.close()
        found = database.read().execute(COUNT).fetchone()[0] - before
        assert acknowledged <= found <= acknowledged + 1
    assert database.read().execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_a_full_disk_is_said_and_nothing_is_half_written(database: Database) -> None:
    def limit(connection: sqlite3.Connection, pages: int) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    def much(connection: sqlite3.Connection) -> None:
        for n in range(2000):
            connection.execute(ADD, (f"{n}" + "x" * 2000,))

    pages = database.read().execute("PRAGMA page_count").fetchone()[0]
    database.write(lambda c: limit(c, pages + 20))
    with pytest.raises(StateUnavailable) as caught:
        database.write(much)
    assert "disk is full" in str(caught.value) and caught.value.retry
    assert names(database.read()) == set()
    database.write(lambda c: limit(c, 2**30))
    assert database.write(lambda c: c.execute(ADD, ("after",)).rowcount) == 1


def test_a_full_disk_fails_everyone_in_the_transaction(database: Database) -> None:
    gate = threading.Event()
    pages = database.read().execute("PRAGMA page_count").fetchone()[0]
    database.write(lambda c: c.execute(f"PRAGMA max_page_count = {pages + 5}"))
    database.submit(lambda c: gate.wait(5))
    small = database.submit(lambda c: c.execute(ADD, ("small",)))
    big = database.submit(lambda c: c.executemany(ADD, [(f"{n}" + "x" * 3000,) for n in range(200)]))
    gate.set()
    with pytest.raises(StateUnavailable):
        big.result()
    try:  # either it was committed on its own, or it was told that it was not
        small.result()
        assert names(database.read()) == {"small"}
    except StateUnavailable:
        assert names(database.read()) == set()


def test_a_callable_that_commits_itself_does_not_break_the_writer(database: Database) -> None:
    with pytest.raises(sqlite3.OperationalError):
        database.write(lambda c: c.execute("COMMIT"))
    assert database.write(lambda c: c.execute(ADD, ("after",)).rowcount) == 1


def test_files_are_private(database: Database) -> None:
    database.write(lambda c: c.execute(BUMP))
    assert stat.S_IMODE(database.path.parent.stat().st_mode) == 0o700
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in database.path.parent.iterdir()}
    assert set(found) == {"ledger.db", "ledger.db-wal", "ledger.db-shm"} and set(found.values()) == {0o600}


def test_looser_rights_are_taken_away(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir(mode=0o755)
    (tmp_path / "s" / "ledger.db").touch(mode=0o644)
    Database(tmp_path / "s" / "ledger.db").close()
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "s" / "ledger.db").stat().st_mode) == 0o600


def test_network_file_systems_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "file_system", lambda folder: "nfs4")
    with pytest.raises(StateUnavailable, match="network file system"):
        Database(tmp_path / "s" / "ledger.db")
    assert not (tmp_path / "s" / "ledger.db").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the table of mounts is Linux's")
def test_the_type_of_a_file_system_is_found() -> None:
    assert store.file_system(Path("/proc/self")) == "proc"
    assert store.file_system(Path("/sys")) == "sysfs"
    assert store.file_system(Path("/procession")) == store.file_system(Path("/")) != "proc"


def test_a_newer_format_is_refused(database: Database) -> None:
    database.write(lambda c: c.execute("INSERT INTO format (number) VALUES (99)"))
    database.close()
    with pytest.raises(FormatError, match="99"):
        Database(database.path)


def test_an_older_format_is_migrated_after_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = tmp_path / "steps"
    steps.mkdir()
    (steps / "0001_a.sql").write_text("CREATE TABLE format (number INTEGER PRIMARY KEY);\nCREATE TABLE a (x TEXT);\n")
    monkeypatch.setattr(store, "MIGRATIONS", steps)
    path = tmp_path / "s" / "ledger.db"
    old = Database(path)
    old.write(lambda c: c.execute("INSERT INTO a VALUES ('kept')"))
    old.close()
    (steps / "0002_b.sql").write_text("-- b; c\nCREATE TABLE b (y TEXT);\nINSERT INTO b SELECT x FROM a;")
    assert store.pending(path) == (1, ["0002_b.sql"])
    new = Database(path)
    assert new.read().execute("SELECT y FROM b").fetchone()[0] == "kept" and new.format == 2
    new.close()
    assert store.pending(path) == (2, [])
    assert store.pending(tmp_path / "s" / "ledger.db.format-1") == (1, ["0002_b.sql"])
    assert stat.S_IMODE((tmp_path / "s" / "ledger.db.format-1").stat().st_mode) == 0o600


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = tmp_path / "steps"
    steps.mkdir()
    (steps / "0001_a.sql").write_text("CREATE TABLE format (number INTEGER PRIMARY KEY);\n")
    monkeypatch.setattr(store, "MIGRATIONS", steps)
    Database(tmp_path / "s" / "ledger.db").close()
    (steps / "0002_b.sql").write_text("CREATE TABLE b (y TEXT);\nINSERT INTO nowhere VALUES (1);\n")
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        Database(tmp_path / "s" / "ledger.db")
    (steps / "0002_b.sql").write_text("CREATE TABLE b (y TEXT);\n")
    Database(tmp_path / "s" / "ledger.db").close()


def test_opening_for_the_first_time_at_once(tmp_path: Path) -> None:
    path = tmp_path / "s" / "ledger.db"
    with ThreadPoolExecutor(6) as pool:
        opened = list(pool.map(lambda _: Database(path), range(6)))
    for one in opened:
        one.write(lambda c: c.execute(BUMP))
    assert opened[0].read().execute(COUNT).fetchone()[0] == 6
    for one in opened:
        one.close()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"these are not the bytes of a database" * 200)
    with pytest.raises(StateUnavailable):
        Database(tmp_path / "ledger.db")


def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(sqlite3.OperationalError):
        database.read().execute(BUMP)


def test_a_snapshot_stands_still(database: Database) -> None:
    with database.snapshot() as connection:
        assert names(connection) == set()
        database.write(lambda c: c.execute(ADD, ("new",)))
        with database.snapshot() as inner:
            assert names(inner) == set()
    assert names(database.read()) == {"new"}


def test_a_fork_must_open_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = os.getpid()
    monkeypatch.setattr(store.os, "getpid", lambda: pid + 1)
    for use in (database.read, database.data_version, lambda: database.write(lambda c: c.execute(BUMP))):
        with pytest.raises(StateUnavailable, match="forked"):
            use()
    monkeypatch.undo()
    database.write(lambda c: c.execute(BUMP))


def test_closing_finishes_what_was_submitted(tmp_path: Path) -> None:
    database = Database(tmp_path / "ledger.db")
    futures = [database.submit(lambda c: c.execute(BUMP)) for _ in range(50)]
    database.close()
    database.close()
    assert all(future.done() for future in futures)
    with pytest.raises(StateUnavailable, match="closed"):
        database.write(lambda c: c.execute(BUMP))
    with pytest.raises(StateUnavailable, match="closed"):
        database.read()
    again = Database(tmp_path / "ledger.db")
    assert again.read().execute(COUNT).fetchone()[0] == 50
    again.close()
