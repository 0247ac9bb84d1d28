"""The log: every entry that was ever written, in order, provable to somebody who does not trust us.

Guarantees:
- Entries are canonical JSON (RFC 8785) and hold ids, numbers and salted digests; anything that could be a text, a
  path or an address is refused when it is written.
- They are the leaves of a Merkle tree (RFC 6962, section 2.1). Its nodes are stored as they become complete, in
  the order of tlog's ``StoredHashIndex`` (golang.org/x/mod/sumdb/tlog): appending and proving cost O(log n).
- Each entry has a keyed digest over its place and its hash: who can write to the database but has no key cannot
  change, move or drop an entry unnoticed. What is cut off at the end, or rewritten with the key, shows against
  checkpoints kept elsewhere (C2SP tlog-checkpoint in a signed note).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drystone.errors import LedgerError, ProofFailed, StateUnavailable, UsageError
from drystone.ledger.dsse import signed_by
from drystone.ledger.store import sql

if TYPE_CHECKING:
    import sqlite3

    from drystone.ledger import Ledger
    from drystone.ledger.keys import KeyRing

FORMAT = 1  # of an entry
MOST_BYTES = 64 * 1024  # of an entry
MOST_PROBLEMS = 50  # that a report lists
_TOKEN = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_.:+=-]{0,127})?", re.ASCII)  # an id: no space, no slash, no @
_SAFE = 2**53 - 1  # integers that RFC 8785 writes as they are
_NOTE = re.compile(r"(?:[^\n]+\n){3,}\n(?:\u2014 [^\n]+\n)+")
_EMPTY = hashlib.sha256(b"").digest()

NEXT = sql("SELECT coalesce(max(seq), -1) + 1 FROM log")
ADD = sql("INSERT INTO log (seq, entry, mac) VALUES (?, ?, ?)")
ENTRY = sql("SELECT entry FROM log WHERE seq = ?")
ADD_NODE = sql("INSERT INTO log_nodes (position, hash) VALUES (?, ?)")
NODE = sql("SELECT hash FROM log_nodes WHERE position = ?")
ADD_CHECKPOINT = sql("INSERT INTO log_checkpoints (size, note, at) VALUES (?, ?, ?) ON CONFLICT (size) DO NOTHING")
NEWEST_CHECKPOINT = sql("SELECT size, note FROM log_checkpoints ORDER BY size DESC LIMIT 1")


# -- entries --------------------------------------------------------------------------------------
def append(connection: sqlite3.Connection, kind: str, body: Mapping[str, Any], at: int, *, keys: KeyRing) -> int:
    """Write one entry inside a write transaction of the ledger; returns its number, from 0."""
    seq = size(connection)
    entry = encode(kind, seq, at, body)
    hash = _leaf(entry)
    connection.execute(ADD, (seq, entry, _mac(keys, seq, hash)))
    connection.execute(ADD_NODE, (_position(0, seq), hash))
    level = 0
    while seq >> level & 1:  # this leaf completes a subtree of the next level
        hash = _inner(_node(connection, level, (seq >> level) - 1), hash)
        level += 1
        connection.execute(ADD_NODE, (_position(level, seq >> level), hash))
    return seq


def encode(kind: str, seq: int, at: int, body: Mapping[str, Any]) -> bytes:
    """An entry's canonical bytes. Only ASCII ids and safe integers get in, for which this is RFC 8785."""
    checked = _opaque(body, "body")
    entry = {"at": at, "body": checked, "format": FORMAT, "kind": _opaque(kind, "kind"), "seq": seq}
    data = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode("ascii")
    if len(data) > MOST_BYTES:
        raise LedgerError(f"A log entry of {len(data)} bytes is too long.", todo="Write a digest of the list instead.")
    return data


def _opaque(value: Any, where: str) -> Any:
    """The value as JSON, if nothing in it can be a text. Messages name the place, never the value."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and -_SAFE <= value <= _SAFE:
        return value
    if isinstance(value, str) and _TOKEN.fullmatch(value):
        return value
    if isinstance(value, Mapping):
        keys = [_opaque(str(key), f"{where} (a key)") for key in value]
        return {key: _opaque(one, f"{where}.{key}") for key, one in zip(keys, value.values(), strict=True)}
    if isinstance(value, list | tuple):
        return [_opaque(one, f"{where}[]") for one in value]
    raise LedgerError(
        f"A log entry's {where} holds what is no id, number or digest ({type(value).__name__}).",
        todo="The log is for ever and holds no text: write ledger.digest(...) of it, or keep it in contents.",
    )


def size(connection: sqlite3.Connection) -> int:
    return int(connection.execute(NEXT).fetchone()[0])


def entry(connection: sqlite3.Connection, seq: int) -> bytes:
    return bytes(connection.execute(ENTRY, (seq,)).fetchone()[0])


def export(ledger: Ledger, after: int = 0) -> Iterator[dict[str, Any]]:
    """Entries whose number is ``after`` or more, in order, each as it was written."""
    while True:
        rows = ledger.database.read().execute(
            sql("SELECT seq, entry FROM log WHERE seq >= ? ORDER BY seq LIMIT 1000"), (after,)
        ).fetchall()  # fmt: skip
        for _, data in rows:
            yield json.loads(data)
        if not rows:
            return
        after = rows[-1][0] + 1


# -- the tree -------------------------------------------------------------------------------------
def root(connection: sqlite3.Connection, size: int) -> bytes:
    """The Merkle tree hash over the first ``size`` entries; 32 bytes."""
    return _hash(connection, 0, size) if size else _EMPTY


def inclusion(connection: sqlite3.Connection, index: int, size: int) -> list[bytes]:
    """PATH of RFC 6962: that entry ``index`` is in the tree of ``size`` entries."""
    if not 0 <= index < size:
        raise UsageError(f"There is no entry {index} in a tree of {size}.")
    low, high, path = 0, size, []
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(_hash(connection, middle, high))
            high = middle
        else:
            path.append(_hash(connection, low, middle))
            low = middle
    return path[::-1]


def consistency(connection: sqlite3.Connection, old: int, new: int) -> list[bytes]:
    """PROOF of RFC 6962: that the tree of ``old`` entries is the beginning of that of ``new``."""
    if not 0 < old <= new:
        raise UsageError(f"There is no proof from a tree of {old} to one of {new}.")
    low, high, path = 0, new, []
    while high != old:
        middle = low + _split(high - low)
        if old <= middle:
            path.append(_hash(connection, middle, high))
            high = middle
        else:
            path.append(_hash(connection, low, middle))
            low = middle
    if low:
        path.append(_hash(connection, low, high))
    return path[::-1]


def _hash(connection: sqlite3.Connection, low: int, high: int) -> bytes:
    """The hash over leaves [low, high), as RFC 6962 splits them; complete subtrees are read."""
    width = high - low
    if width & (width - 1) == 0:
        level = width.bit_length() - 1
        return _node(connection, level, low >> level)
    middle = low + _split(width)
    return _inner(_hash(connection, low, middle), _hash(connection, middle, high))


def _split(width: int) -> int:
    """The largest power of two smaller than ``width``."""
    return 1 << (width - 1).bit_length() - 1


def _node(connection: sqlite3.Connection, level: int, number: int) -> bytes:
    row = connection.execute(NODE, (_position(level, number),)).fetchone()
    if row is None:
        raise ProofFailed("The log's tree lacks a node.", todo="Run `drystone ledger verify`.")
    return bytes(row[0])


def _position(level: int, number: int) -> int:
    """Where a complete subtree's hash lies: right after the last leaf below it (tlog.StoredHashIndex)."""
    leaf = ((number + 1) << level) - 1
    return 2 * leaf - leaf.bit_count() + level


def _leaf(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def _inner(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _mac(keys: KeyRing, seq: int, leaf: bytes) -> str:
    return keys.digest("log", seq.to_bytes(8, "big"), leaf)


# -- checkpoints ----------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a signed note says: this log had ``size`` entries and this root."""

    origin: str
    size: int
    root: bytes


def checkpoint(ledger: Ledger) -> str:
    """Sign the log as it is now, keep the note, and append it to ``ledger.checkpoint_path`` if that is set."""
    with ledger.database.snapshot() as connection:
        count = size(connection)
        head = root(connection, count)
        newest = connection.execute(NEWEST_CHECKPOINT).fetchone()
    note = sign(ledger.keys, count, head)
    if newest is None or newest[0] != count:
        ledger.database.write(lambda connection: connection.execute(ADD_CHECKPOINT, (count, note, ledger.now())))
    path = outside(ledger)
    if path is not None:
        _append(path, note)
    return note


def covering(ledger: Ledger, index: int) -> str:
    """A checkpoint whose tree holds entry ``index``: the newest there is, or a new one."""
    newest = ledger.database.read().execute(NEWEST_CHECKPOINT).fetchone()
    return str(newest[1]) if newest is not None and newest[0] > index else checkpoint(ledger)


def outside(ledger: Ledger) -> Path | None:
    """The file outside the state folder that gets every checkpoint, or ``None``."""
    path = str(ledger.settings["ledger.checkpoint_path"])
    return ledger.settings.folder / path if path else None


def _append(path: Path, note: str) -> None:
    """Once, whole and durable, whichever process comes first."""
    data = note.encode()
    try:
        with open(path, "ab+", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - len(data)))
            if file.read() != data:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise StateUnavailable(
            f"The checkpoint could not be kept outside: {error.strerror}.", looked=f"ledger.checkpoint_path is {path}.",
            todo="Make the file writable; without it a log that was cut off cannot be told.",
        ) from None  # fmt: skip


def sign(keys: KeyRing, size: int, root: bytes) -> str:
    """A C2SP tlog-checkpoint in a signed note with one Ed25519 signature."""
    text = f"{keys.origin}\n{size}\n{base64.b64encode(root).decode()}\n"
    signature = base64.b64encode(_key_hash(keys) + keys.sign(text.encode())).decode()
    return f"{text}\n\u2014 {keys.origin} {signature}\n"


def read_notes(text: str) -> list[str]:
    """Every signed note in a text."""
    return _NOTE.findall(text)


def read_checkpoint(note: str, keys: KeyRing) -> Checkpoint:
    """What one of our own notes says; ``ProofFailed`` if we did not sign it."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    for line in signatures.splitlines():
        name, _, encoded = line.removeprefix("\u2014 ").partition(" ")
        try:
            data = base64.b64decode(encoded, validate=True)
            if name != keys.origin or data[:4] != _key_hash(keys):
                continue  # another key's signature, a witness's for instance
            Ed25519PublicKey.from_public_bytes(keys.public).verify(data[4:], text.encode())
            origin, count, head = text.splitlines()[:3]
            found = Checkpoint(origin, int(count), base64.b64decode(head, validate=True))
        except (InvalidSignature, ValueError):
            break
        if found.origin == keys.origin:
            return found
    raise ProofFailed("A checkpoint does not bear this log's signature.")


def _key_hash(keys: KeyRing) -> bytes:
    return hashlib.sha256(keys.origin.encode() + b"\n\x01" + keys.public).digest()[:4]


# -- verification -----------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Problem:
    """``kind``: edited, dropped, moved, tree, statement, checkpoint, truncated, forked. ``seq``: the entry."""

    kind: str
    seq: int | None
    message: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What :func:`verify` found. ``root`` is hex, of the tree recomputed from the entries."""

    size: int
    root: str
    checkpoints: int
    statements: int
    problems: tuple[Problem, ...]

    @property
    def valid(self) -> bool:
        return not self.problems

    def lines(self) -> tuple[str, ...]:
        """The same for people."""
        found = [f"{problem.kind}: {problem.message}" for problem in self.problems]
        said = f"{self.size} entries, {self.statements} passports, {self.checkpoints} checkpoints"
        return (*found, f"{'valid' if self.valid else 'NOT VALID'}: {said}, root {self.root}")

    def to_dict(self) -> dict[str, Any]:
        return {
            "valid": self.valid, "size": self.size, "root": self.root, "checkpoints": self.checkpoints,
            "statements": self.statements,
            "problems": [{"kind": p.kind, "seq": p.seq, "message": p.message} for p in self.problems],
        }  # fmt: skip


def verify(ledger: Ledger, against: Sequence[Path] = ()) -> VerifyReport:
    """Recompute everything from the entries and compare it with the tree, the keyed digests, the statements and
    every checkpoint: those in the database, those in ``ledger.checkpoint_path``, those in ``against`` (notes, or
    exported passports)."""
    problems: list[Problem] = []

    def problem(kind: str, seq: int | None, message: str) -> None:
        if len(problems) < MOST_PROBLEMS:
            problems.append(Problem(kind, seq, message))

    with ledger.database.snapshot() as connection:
        stored = connection.execute(sql("SELECT size, note FROM log_checkpoints ORDER BY size")).fetchall()
        notes = [(f"the stored checkpoint {number}", str(note)) for number, note in stored]
        notes += _kept_outside(ledger, against, bool(stored), problem)
        claims: dict[int, list[tuple[str, bytes]]] = {}
        for name, note in notes:
            try:
                claim = read_checkpoint(note, ledger.keys)
            except ProofFailed:
                problem("checkpoint", None, f"{name} does not bear this log's signature")
            else:
                claims.setdefault(claim.size, []).append((name, claim.root))
        count, head, statements = _recompute(connection, ledger.keys, claims, problem)
    for number in sorted(claims):
        if number > count:
            for name, _ in claims[number]:
                problem("truncated", None, f"{name} knows {number} entries, and the log has {count}")
    return VerifyReport(count, head.hex(), len(notes), statements, tuple(problems))


def _recompute(
    connection: sqlite3.Connection,
    keys: KeyRing,
    claims: Mapping[int, Sequence[tuple[str, bytes]]],
    problem: Callable[[str, int | None, str], None],
) -> tuple[int, bytes, int]:
    """One pass over entries, nodes and statements side by side; keeps nothing but the tree's right edge."""
    nodes = connection.execute(sql("SELECT position, hash FROM log_nodes ORDER BY position"))
    signed = connection.execute(sql("SELECT seq, ref, payload, signature FROM passports ORDER BY seq"))
    statement = signed.fetchone()
    edge: list[tuple[int, bytes]] = []  # complete subtrees (level, hash), the largest first
    count = statements = position = 0
    whole = True  # as long as the stored nodes are the recomputed ones

    def compare(hash: bytes, seq: int) -> None:
        nonlocal position, whole
        if whole and nodes.fetchone() != (position, hash):
            whole = False
            problem("tree", seq, f"the tree does not fit the entries from entry {seq} on")
        position += 1

    def claimed(size: int) -> None:
        for name, head in claims.get(size, ()):
            if head != _head(edge):
                problem("forked", None, f"{name} knows another history of the first {size} entries")

    claimed(0)
    for seq, data, mac in connection.execute(sql("SELECT seq, entry, mac FROM log ORDER BY seq")):
        if seq != count:
            problem("dropped", count, f"entries {count} to {seq - 1} are missing")
            count = seq
        data = _bytes(data)
        hash = _leaf(data)
        if mac != _mac(keys, seq, hash):
            problem("edited", seq, f"entry {seq} is not what was written there")
        try:
            said = json.loads(data)
            place, kind, body = said["seq"], said["kind"], dict(said["body"])
        except (ValueError, KeyError, TypeError, RecursionError):
            problem("edited", seq, f"entry {seq} is not an entry")
            place, kind, body = seq, "", {}
        if place != seq:
            problem("moved", seq, f"entry {seq} was written as entry {place}")
        if kind == "passport":
            while statement is not None and statement[0] < seq:
                problem("statement", statement[0], f"the passport of entry {statement[0]} is not in the log")
                statement = signed.fetchone()
            if statement is None or statement[0] != seq:
                problem("statement", seq, f"the passport of entry {seq} is missing")
            else:
                if (statement[1], digest(_bytes(statement[2]))) != (body.get("passport"), body.get("statement")):
                    problem("statement", seq, f"the passport of entry {seq} is not the one that was sealed")
                elif not signed_by(keys.public, _bytes(statement[2]), _bytes(statement[3])):
                    problem("statement", seq, f"the passport of entry {seq} does not bear this project's signature")
                statements += 1
                statement = signed.fetchone()
        level = 0
        compare(hash, seq)
        while edge and edge[-1][0] == level:
            hash = _inner(edge.pop()[1], hash)
            level += 1
            compare(hash, seq)
        edge.append((level, hash))
        count += 1
        claimed(count)
    if statement is not None:
        problem("statement", statement[0], f"the passport of entry {statement[0]} is not in the log")
    if whole and nodes.fetchone() is not None:
        problem("dropped", count, f"entries from {count} on are missing: the tree still has their hashes")
    return count, _head(edge), statements


def _head(edge: Sequence[tuple[int, bytes]]) -> bytes:
    if not edge:
        return _EMPTY
    hash = edge[-1][1]
    for _, left in reversed(edge[:-1]):
        hash = _inner(left, hash)
    return hash


def _kept_outside(
    ledger: Ledger, against: Sequence[Path], issued: bool, problem: Callable[[str, int | None, str], None]
) -> list[tuple[str, str]]:
    """The notes in ``ledger.checkpoint_path`` and in the files of ``against``, each with a name for messages."""
    found: list[tuple[str, str]] = []
    path = outside(ledger)
    if path is not None and issued:  # before the first checkpoint there is no such file
        try:
            found += [(f"a checkpoint in {path.name}", note) for note in read_notes(path.read_text("utf-8"))]
        except (OSError, ValueError):
            problem("checkpoint", None, f"{path} cannot be read; checkpoints were written to it")
    for file in against:
        try:
            text = Path(file).read_text("utf-8")
            notes = [json.loads(text)["log"]["checkpoint"]] if text.lstrip().startswith("{") else read_notes(text)
        except (OSError, ValueError, KeyError, TypeError):
            notes = []
        if not notes:
            raise UsageError(
                f"{file} holds no checkpoint.", looked="We read it as a signed note and as an exported passport.",
                todo="Name a file from `drystone ledger checkpoint` or `drystone passport show --json`.",
            )  # fmt: skip
        found += [(f"a checkpoint in {Path(file).name}", str(note)) for note in notes]
    return found


def _bytes(value: Any) -> bytes:
    """A column's bytes, whatever type somebody stored there."""
    return bytes(value) if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def digest(statement: bytes) -> str:
    """What the log says of a statement; it holds a random salt, so this tells nothing of its words."""
    return "sha256:" + base64.urlsafe_b64encode(hashlib.sha256(statement).digest()).rstrip(b"=").decode()
