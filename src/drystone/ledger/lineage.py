"""What was made from what, forward and back, over one graph of integers.

Guarantees: an edge is written in the transaction of the thing it tells of; an edge is never changed; both
directions are one recursive statement over an index. What follows from the catalogue (a version's chunks, the
snapshots that show it) is not stored a second time, but computed when it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drystone.ledger.store import sql

if TYPE_CHECKING:
    import sqlite3

ADD_NODE = sql("INSERT INTO nodes (ref, kind) VALUES (?, ?) ON CONFLICT DO NOTHING")
ADD_EDGE = sql(
    "INSERT INTO edges (made, of, kind, transform, run) "
    "SELECT m.node, o.node, ?, ?, ? FROM nodes m, nodes o WHERE m.ref = ? AND o.ref = ? ON CONFLICT DO NOTHING"
)
FORWARD = sql(
    "WITH RECURSIVE found (node) AS (SELECT node FROM nodes WHERE ref = ? "
    "UNION SELECT e.made FROM found f JOIN edges e ON e.of = f.node) "
    "SELECT n.ref, n.kind FROM found f JOIN nodes n ON n.node = f.node"
)
BACK = sql(
    "WITH RECURSIVE found (node) AS (SELECT node FROM nodes WHERE ref = ? "
    "UNION SELECT e.of FROM found f JOIN edges e ON e.made = f.node) "
    "SELECT n.ref, n.kind FROM found f JOIN nodes n ON n.node = f.node"
)
VERSION = sql(
    "SELECT from_commit, coalesce(to_commit, (SELECT n + 1 FROM pointer)), chunk_count, run FROM versions "
    "WHERE ref = ? ORDER BY version"
)
RUNS = sql(
    "WITH RECURSIVE found (node) AS (SELECT node FROM nodes WHERE ref = ? "
    "UNION SELECT e.of FROM found f JOIN edges e ON e.made = f.node) "
    "SELECT DISTINCT e.run FROM found f JOIN edges e ON e.made = f.node"
)

_KINDS = {
    "a": "adapter", "b": "asset", "c": "chunk", "e": "embedder", "g": "generation", "m": "model", "p": "prompt",
    "passport": "answer", "r": "run", "t": "transform", "v": "version",
}  # fmt: skip
_OPAQUE = re.compile(r"([a-z]+):[A-Za-z0-9_-]{22}")  # as the key ring makes them: kind and 16 bytes


@dataclass(frozen=True, slots=True)
class Node:
    """One thing in the lineage. ``count``: how many it stands for (a version's chunks, a range of commits)."""

    ref: str
    kind: str
    count: int = 1

    def to_dict(self) -> dict[str, str | int]:
        return {"ref": self.ref, "kind": self.kind, "count": self.count}


def kind_of(ref: str) -> str:
    """What a reference names: opaque ids say it in their prefix, anything else is a document's name."""
    found = _OPAQUE.fullmatch(ref)
    return _KINDS.get(found[1], "document") if found else "document"


def connect(connection: sqlite3.Connection, edges: Iterable[tuple[str, str, str, str]], run: str) -> None:
    """Write edges ``(made, of, kind, transform)``, inside a write transaction. Known ones stay as they are."""
    edges = list(edges)
    refs = dict.fromkeys(ref for edge in edges for ref in edge[:2])
    connection.executemany(ADD_NODE, [(ref, kind_of(ref)) for ref in refs])
    connection.executemany(ADD_EDGE, [(kind, transform, run, made, of) for made, of, kind, transform in edges])


def reach(connection: sqlite3.Connection, ref: str, project: str) -> list[Node]:
    """Everything made from ``ref``, nearest first, without ``ref`` itself."""
    found = [Node(*row) for row in connection.execute(FORWARD, (ref,))]
    out = found[1:]
    for node in found:
        if node.kind == "version":
            for first, last, chunks, _ in connection.execute(VERSION, (node.ref,)):
                out.append(Node(node.ref, "chunks", chunks))
                if last > first:
                    out.append(Node(f"{project}@{first}..{last - 1}", "snapshots", last - first))
    return list(dict.fromkeys(out))


def origin(connection: sqlite3.Connection, ref: str) -> list[Node]:
    """Everything that ``ref`` was made from, nearest first, without ``ref`` itself; then the runs that made it."""
    found = [Node(*row) for row in connection.execute(BACK, (ref,))]
    return found[1:] + [Node(run, "run") for (run,) in connection.execute(RUNS, (ref,))]
