"""Contents: each text under its own key; forgotten means that no copy can be read."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from drystone.errors import NotFound, ProofFailed
from drystone.ledger import Ledger
from tests.ledger.build import open_ledger


def put(ledger: Ledger, kind: str, text: str) -> str:
    return ledger.database.write(lambda connection: ledger.contents.put(connection, kind, text))


def test_a_text_comes_back_and_is_nowhere_in_the_open(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    text = "Bo asked about Zebrawood refunds: \u0939\u093f\u0928\u094d\u0926\u0940 \0 end"
    id = put(ledger, "question", text)
    assert ledger.contents.get(id) == text and id.startswith("x:")
    ledger.close()
    state = b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())
    assert b"Zebrawood" not in state and b"question" in state


def test_a_forgotten_text_is_gone_even_from_a_copy_of_the_database(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    gone, kept = put(ledger, "answer", "a"), put(ledger, "answer", "b")
    sealed = ledger.database.read().execute("SELECT sealed FROM contents WHERE id = ?", (gone,)).fetchone()[0]
    assert ledger.contents.forget(gone) == 1 and ledger.contents.forget(gone) == 0
    with pytest.raises(NotFound):
        ledger.contents.get(gone)

    def restore(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE contents SET sealed = ? WHERE id = ?", (sealed, gone))

    ledger.database.write(restore)
    with pytest.raises(NotFound, match="erased"):
        ledger.contents.get(gone)
    assert ledger.contents.get(kept) == "b"
    ledger.close()


def test_a_record_cannot_pose_as_another(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    first, second = put(ledger, "annex", "one"), put(ledger, "answer", "two")

    def swap(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE contents SET kind = 'annex' WHERE id = ?", (second,))
        connection.execute(
            "UPDATE contents SET sealed = (SELECT sealed FROM contents WHERE id = ?) WHERE id = ?", (second, first)
        )

    ledger.database.write(swap)
    with pytest.raises(ProofFailed):
        ledger.contents.get(first)
    with pytest.raises(NotFound):
        ledger.contents.get(second)
    ledger.close()


def test_a_transaction_that_fails_leaves_no_record(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)

    def fail(connection: sqlite3.Connection) -> None:
        ledger.contents.put(connection, "answer", "text")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ledger.database.write(fail)
    assert ledger.database.read().execute("SELECT count(*) FROM contents").fetchone() == (0,)
    ledger.close()
