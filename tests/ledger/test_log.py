"""The log: its tree against a naive RFC 6962, its entries against RFC 8785, and every way to falsify it."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from drystone.errors import LedgerError, StateUnavailable, UsageError
from drystone.ledger import Ledger, log
from drystone.settings import defaults
from drystone.verify import Failed, _consistent, _included
from tests.ledger.build import open_ledger


# -- RFC 6962, section 2.1, written as it stands there, over a list of entries ------------------------
def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(d: list[bytes]) -> bytes:
    if not d:
        return hashlib.sha256().digest()
    if len(d) == 1:
        return hashlib.sha256(b"\x00" + d[0]).digest()
    k = split(len(d))
    return hashlib.sha256(b"\x01" + mth(d[:k]) + mth(d[k:])).digest()


def path(m: int, d: list[bytes]) -> list[bytes]:
    if len(d) == 1:
        return []
    k = split(len(d))
    return [*path(m, d[:k]), mth(d[k:])] if m < k else [*path(m - k, d[k:]), mth(d[:k])]


def subproof(m: int, d: list[bytes], b: bool) -> list[bytes]:
    if m == len(d):
        return [] if b else [mth(d)]
    k = split(len(d))
    if m <= k:
        return [*subproof(m, d[:k], b), mth(d[k:])]
    return [*subproof(m - k, d[k:], False), mth(d[:k])]


# -- building ---------------------------------------------------------------------------------------
def add(ledger: Ledger, count: int, kind: str = "test", **body: Any) -> None:
    def some(connection: sqlite3.Connection) -> None:
        for n in range(count):
            log.append(connection, kind, {"n": n, **body}, 1_700_000_000_000, keys=ledger.keys)

    ledger.database.write(some)


def entries(ledger: Ledger) -> list[bytes]:
    return [row[0] for row in ledger.database.read().execute("SELECT entry FROM log ORDER BY seq")]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ledger, list[bytes]]]:
    ledger = open_ledger(tmp_path_factory.mktemp("many"))
    add(ledger, 150)
    yield ledger, entries(ledger)
    ledger.close()


@settings(deadline=None)
@given(data=st.data())
def test_roots_and_proofs_are_those_of_rfc_6962(many: tuple[Ledger, list[bytes]], data: st.DataObject) -> None:
    ledger, d = many
    connection = ledger.database.read()
    new = data.draw(st.integers(1, len(d)))
    index, old = data.draw(st.integers(0, new - 1)), data.draw(st.integers(1, new))
    assert log.root(connection, new) == mth(d[:new])
    proof = log.inclusion(connection, index, new)
    assert proof == path(index, d[:new])
    leaf = hashlib.sha256(b"\x00" + d[index]).digest()
    _included(leaf, index, new, proof, mth(d[:new]))
    steps = log.consistency(connection, old, new)
    assert steps == subproof(old, d[:new], True)
    if old < new:
        _consistent(old, mth(d[:old]), new, mth(d[:new]), steps)
        with pytest.raises(Failed):
            _consistent(old, mth(d[:old][::-1] + [b""]), new, mth(d[:new]), steps)
    with pytest.raises(Failed):
        _included(leaf, index, new, [*proof, leaf], mth(d[:new]))
    if proof:
        with pytest.raises(Failed):
            _included(leaf, index, new, [bytes(32), *proof[1:]], mth(d[:new]))


def test_every_size_from_nothing_on(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    assert log.root(ledger.database.read(), 0) == mth([])
    for size in range(1, 40):
        add(ledger, 1)
        assert log.root(ledger.database.read(), size) == mth(entries(ledger))
        report = ledger.verify()
        assert report.valid and report.size == size and report.root == mth(entries(ledger)).hex()
    for index, size in ((0, 0), (3, 3), (-1, 2)):
        with pytest.raises(UsageError):
            log.inclusion(ledger.database.read(), index, size)
    ledger.close()


token = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.:+=-]{0,20}\Z")
value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | token,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(token, inner, max_size=3),
    max_leaves=12,
)


@settings(deadline=None)
@given(kind=token, seq=st.integers(0, 2**50), at=st.integers(0, 2**50), body=st.dictionaries(token, value, max_size=5))
def test_entries_are_canonical_json(kind: str, seq: int, at: int, body: dict[str, Any]) -> None:
    whole: dict[str, Any] = {"format": 1, "kind": kind, "seq": seq, "at": at, "body": body}
    assert log.encode(kind, seq, at, body) == rfc8785.dumps(whole)


@pytest.mark.parametrize(
    "bad",
    ["How long do refunds take?", "handbook:hr/jane doe.md", "hr/jane.md", "jane@example.com", "Jürgen",
     "a\n", "x" * 129, "-v", 1.5, 2**53, b"bytes", object(), ["a b"], {"a b": 1}, {"k": {"k": ["a/b"]}}, {1.5: "a b"}],
)  # fmt: skip
def test_what_could_be_text_does_not_get_in(bad: Any) -> None:
    with pytest.raises(LedgerError) as caught:
        log.encode("test", 0, 0, {"value": bad})
    assert "jane" not in str(caught.value) and "refunds" not in str(caught.value)


def test_an_entry_has_a_limit() -> None:
    with pytest.raises(LedgerError, match="too long"):
        log.encode("test", 0, 0, {"value": ["v:aaaaaaaaaaaaaaaaaaaaaa"] * 3000})


def test_export_gives_the_entries_in_order(many: tuple[Ledger, list[bytes]]) -> None:
    ledger, d = many
    assert list(ledger.export()) == [json.loads(one) for one in d]
    assert [one["seq"] for one in ledger.export(148)] == [148, 149]


# -- falsifying -------------------------------------------------------------------------------------
def rebuild(connection: sqlite3.Connection) -> None:
    """What somebody can do who writes to the database and has no key: make the tree fit again."""
    connection.execute("DELETE FROM log_nodes")
    edge: list[tuple[int, bytes]] = []
    position = 0
    for (data,) in connection.execute("SELECT entry FROM log ORDER BY seq").fetchall():
        level, hash = 0, hashlib.sha256(b"\x00" + data).digest()
        connection.execute("INSERT INTO log_nodes VALUES (?, ?)", (position, hash))
        position += 1
        while edge and edge[-1][0] == level:
            hash = hashlib.sha256(b"\x01" + edge.pop()[1] + hash).digest()
            level += 1
            connection.execute("INSERT INTO log_nodes VALUES (?, ?)", (position, hash))
            position += 1
        edge.append((level, hash))


def edit(connection: sqlite3.Connection) -> None:
    connection.execute("""UPDATE log SET entry = CAST(replace(entry, '"n":4', '"n":5') AS BLOB) WHERE seq = 4""")


def drop(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM log WHERE seq = 9")


def close_up(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM log WHERE seq = 9")
    connection.execute("UPDATE log SET seq = -seq WHERE seq > 9")
    connection.execute("UPDATE log SET seq = -seq - 1 WHERE seq < 0")


def swap(connection: sqlite3.Connection) -> None:
    for old, new in ((3, -1), (12, 3), (-1, 12)):
        connection.execute("UPDATE log SET seq = ? WHERE seq = ?", (new, old))


def insert(connection: sqlite3.Connection) -> None:
    entry = log.encode("test", 30, 0, {"n": 99})
    connection.execute("INSERT INTO log VALUES (30, ?, 'log:AAAAAAAAAAAAAAAAAAAAAA')", (entry,))


def node(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE log_nodes SET hash = zeroblob(32) WHERE position = 2")


def cut(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM log WHERE seq >= 25")


def garble(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE log SET entry = x'00ff' WHERE seq = 7")


def falsify(ledger: Ledger, *changes: Callable[[sqlite3.Connection], object]) -> None:
    for one in changes:
        ledger.database.write(one)


@pytest.mark.parametrize("tree", [False, True], ids=["left the tree", "made the tree fit"])
@pytest.mark.parametrize(
    ("change", "kind"),
    [(edit, "edited"), (drop, "dropped"), (close_up, "moved"), (swap, "moved"), (insert, "edited"), (garble, "edited")],
)
def test_falsified_entries_are_found_from_the_database_alone(
    tmp_path: Path, change: Callable[[sqlite3.Connection], None], kind: str, tree: bool
) -> None:
    ledger = open_ledger(tmp_path)
    add(ledger, 30)
    assert ledger.verify().valid
    falsify(ledger, change, *([rebuild] if tree else []))
    report = ledger.verify()
    assert not report.valid and kind in {problem.kind for problem in report.problems}
    assert tree or "tree" in {problem.kind for problem in report.problems} or kind == "dropped"
    ledger.close()


@pytest.mark.parametrize(("change", "kind"), [(node, "tree"), (cut, "dropped")])
def test_a_false_node_and_a_clumsy_cut_are_found(
    tmp_path: Path, change: Callable[[sqlite3.Connection], None], kind: str
) -> None:
    ledger = open_ledger(tmp_path)
    add(ledger, 30)
    falsify(ledger, change)
    assert [problem.kind for problem in ledger.verify().problems] == [kind]
    ledger.close()


def test_a_cut_is_found_against_what_was_kept_outside(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    add(ledger, 30)
    (tmp_path / "kept.txt").write_text(ledger.checkpoint())
    assert ledger.verify([tmp_path / "kept.txt"]).valid
    falsify(ledger, cut, rebuild, lambda connection: connection.execute("DELETE FROM log_checkpoints"))
    assert ledger.verify().valid, "a clean cut cannot be told from the database alone; the documentation says so"
    report = ledger.verify([tmp_path / "kept.txt"])
    assert [problem.kind for problem in report.problems] == ["truncated"]
    add(ledger, 10)
    assert [problem.kind for problem in ledger.verify([tmp_path / "kept.txt"]).problems] == ["forked"]
    ledger.close()


def test_a_fork_is_found_by_whoever_saw_the_other_side(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    add(ledger, 10)
    ledger.close()
    shutil.copytree(tmp_path / "state", tmp_path / "fork" / "state")
    ledger, fork = open_ledger(tmp_path), open_ledger(tmp_path / "fork")
    add(ledger, 5)
    add(fork, 5, other=True)
    (tmp_path / "note").write_text(fork.checkpoint())
    assert fork.verify([tmp_path / "note"]).valid
    assert [problem.kind for problem in ledger.verify([tmp_path / "note"]).problems] == ["forked"]
    ledger.close()
    fork.close()


def test_a_stranger_s_checkpoint_and_a_changed_one_are_found(tmp_path: Path) -> None:
    ledger, stranger = open_ledger(tmp_path), open_ledger(tmp_path / "stranger")
    add(ledger, 3)
    note = ledger.checkpoint()
    for n, other in enumerate((stranger.checkpoint(), note.replace("\n3\n", "\n2\n"))):
        (tmp_path / f"note{n}").write_text(other)
        assert [p.kind for p in ledger.verify([tmp_path / f"note{n}"]).problems] == ["checkpoint"]
    ledger.database.write(
        lambda connection: connection.execute("UPDATE log_checkpoints SET note = ?", (note.replace("\n3\n", "\n2\n"),))
    )
    assert [p.kind for p in ledger.verify().problems] == ["checkpoint"]
    (tmp_path / "nothing").write_text("no note")
    for file in ("nothing", "absent"):
        with pytest.raises(UsageError):
            ledger.verify([tmp_path / file])
    ledger.close()
    stranger.close()


# -- checkpoints ------------------------------------------------------------------------------------
def test_a_checkpoint_is_a_c2sp_signed_note(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    add(ledger, 7)
    lines = ledger.checkpoint().split("\n")
    origin, size, root, blank, signature, end = lines
    assert (size, blank, end) == ("7", "", "") and " " not in origin and "+" not in origin
    assert base64.b64decode(root) == mth(entries(ledger))
    dash, name, encoded = signature.split(" ")
    data = base64.b64decode(encoded)
    public = Ed25519PublicKey.from_public_bytes(ledger.keys.public)
    assert (dash, name) == ("\u2014", origin) and len(data) == 68
    assert data[:4] == hashlib.sha256(name.encode() + b"\n" + b"\x01" + ledger.keys.public).digest()[:4]
    public.verify(data[4:], "\n".join([origin, size, root, ""]).encode())
    ledger.close()


def test_checkpoints_are_also_kept_outside(tmp_path: Path) -> None:
    kept = tmp_path / "elsewhere.txt"
    options = defaults(tmp_path, ledger__checkpoint_path=str(kept))
    ledger = Ledger.open(tmp_path / "state", project="shop", settings=options)
    assert ledger.verify().valid
    add(ledger, 3)
    notes = [ledger.checkpoint(), ledger.checkpoint()]
    add(ledger, 3)
    notes.append(ledger.checkpoint())
    assert notes[0] == notes[1] and log.read_notes(kept.read_text()) == [notes[0], notes[2]]
    report = ledger.verify()
    assert report.valid and report.checkpoints == 4
    falsify(ledger, lambda connection: connection.execute("DELETE FROM log WHERE seq > 3"), rebuild)
    falsify(ledger, lambda connection: connection.execute("DELETE FROM log_checkpoints WHERE size > 3"))
    assert [problem.kind for problem in ledger.verify().problems] == ["truncated"]
    kept.unlink()
    assert [problem.kind for problem in ledger.verify().problems] == ["checkpoint"]
    kept.mkdir()
    with pytest.raises(StateUnavailable, match="outside"):
        ledger.checkpoint()
    ledger.close()


# -- several writers --------------------------------------------------------------------------------
def test_threads_and_two_ledgers_append_to_one_log(tmp_path: Path) -> None:
    ledgers = [open_ledger(tmp_path) for _ in range(2)]
    work = [threading.Thread(target=add, args=(ledger, 5)) for ledger in ledgers for _ in range(8)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    report = ledgers[0].verify()
    assert report.valid and report.size == 80
    for ledger in ledgers:
        ledger.close()


def test_an_append_that_is_rolled_back_leaves_nothing(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    add(ledger, 3)

    def fail(connection: sqlite3.Connection) -> None:
        log.append(connection, "test", {}, 0, keys=ledger.keys)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ledger.database.write(fail)
    add(ledger, 1)
    assert ledger.verify().valid and ledger.verify().size == 4
    ledger.close()


@pytest.mark.whole
def test_a_log_whose_writers_are_killed_verifies(tmp_path: Path) -> None:
    open_ledger(tmp_path).close()
    script = (
        "import sys\nfrom pathlib import Path\nfrom drystone.ledger import log\n"
        "from tests.ledger.build import open_ledger\nledger = open_ledger(Path(sys.argv[1]))\n"
        "def three(c):\n    for n in range(3):\n        log.append(c, 'test', {'n': n}, 0, keys=ledger.keys)\n"
        "print('ready', flush=True)\nwhile True:\n    ledger.database.write(three)\n"
    )
    for n in range(2):
        writers = [
            subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) for _ in range(2)
        ]
        for writer in writers:
            assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
        threading.Event().wait(0.1 + 0.05 * n)
        for writer in writers:
            writer.kill()
            writer.wait()
            assert writer.stdout is not None
            writer.stdout.close()
    ledger = open_ledger(tmp_path)
    report = ledger.verify()
    assert report.valid and report.size > 6 and report.size % 3 == 0
    ledger.close()
