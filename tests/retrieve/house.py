"""A small house for the tests of retrieval: real ledger, lake, policy and index, and a light embedder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from drystone.index import Index
from drystone.lake import Lake
from drystone.ledger import Ledger
from drystone.policy import Policy
from drystone.ports import Embedder
from drystone.records import Actor, Batch, Block, Classification, Document, Hits, Label, Parsed, Relabel, Request
from drystone.retrieve import Retriever
from drystone.settings import Settings, SourceConfig, defaults
from drystone.testing import HashEmbedder

EVERYONE = Label.parse({"readers": ["everyone"], "classification": "public"})
HR = Label.parse({"readers": ["group:hr"], "classification": "confidential"})
STAFF = Label.parse({"readers": ["group:staff"], "classification": "internal"})
USERS = '[[users]]\nname = "ann"\nclearance = "restricted"\n'


def actor(name: str, *groups: str, clearance: str = "internal", region: str = "local") -> Actor:
    held = frozenset({f"user:{name}", "everyone", *(f"group:{g}" for g in groups)})
    return Actor(name, held, Classification.parse(clearance), region, None, f"asserted by {name}")


ANN = actor("ann", "hr", "staff", clearance="restricted")
BO = actor("bo", "staff")
EVE = actor("eve")


def source(name: str) -> SourceConfig:
    return SourceConfig(name, "files", "ann", "rules", 60.0, False, False, (), {}, {})


class House:
    def __init__(self, folder: Path, *, embedder: Embedder | None = None, settings: Settings | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.settings = settings or replace(defaults(folder), sources=tuple(map(source, ("docs", "other"))))
        self.ledger = Ledger.open(folder / "state", project="shop", settings=self.settings)
        self.lake = Lake(folder / "state", ledger=self.ledger, settings=self.settings)
        (folder / "users.toml").write_text(USERS)
        self.policy = Policy.open(folder, settings=self.settings)
        self.index = Index(
            lake=self.lake, ledger=self.ledger, policy=self.policy, settings=self.settings,
            embedder=embedder or HashEmbedder(),
        )  # fmt: skip
        self.retriever = self.another()
        self._keys = 0

    def another(self) -> Retriever:
        return Retriever(
            ledger=self.ledger, lake=self.lake, index=self.index, policy=self.policy, settings=self.settings
        )

    def put(
        self, content: Mapping[str, tuple[str, Label]], *, removed: Sequence[str] = (),
        relabelled: Mapping[str, Label] | None = None, source: str = "docs",
    ) -> int:  # fmt: skip
        """One commit of documents by name; returns its number."""
        with self.ledger.run("ingest", actor=ANN, source=source) as run:
            documents = [self._document(source, name, text, label, run.id) for name, (text, label) in content.items()]
            self._keys += 1
            batch = Batch(
                key=f"k{self._keys}",
                source=source,
                relabelled=tuple(Relabel(f"{source}:{n}", label, "rule") for n, label in (relabelled or {}).items()),
                removed=tuple(f"{source}:{n}" for n in removed),
            )
            rows, _ = self.index.rows(documents, batch, run)
            pointer = self.lake.commit(rows, run)
            run.close()
        return pointer.commit

    def _document(self, source: str, name: str, text: str, label: Label, run: str) -> Document:
        asset = self.lake.keep(
            text.encode(),
            document=f"{source}:{name}",
            source=source,
            media_type="text/plain",
            title=name,
            fingerprint="",
        )
        parsed = Parsed(text, (Block("paragraph", 0, len(text)),), title=name)
        version = self.ledger.digest("v", source, name, text)
        return Document(f"{source}:{name}", source, version, asset, parsed, label, "rule 1", "t:x", run)

    def search(self, text: str, who: Actor = BO, *, kind: str = "search", limit: int = 10, **more: Any) -> Hits:
        hits, self.noted = self.found(self.retriever, text, who, kind=kind, limit=limit, **more)
        return hits

    def found(
        self, retriever: Retriever, text: str, who: Actor, *, kind: str = "search", limit: int = 10,
        as_of: int | None = None, purpose: str = "general", sources: tuple[str, ...] | None = None,
    ) -> tuple[Hits, Mapping[str, Any]]:  # fmt: skip
        request = Request(text, replace(EVERYONE), purpose, "auto", sources, (), limit=limit)
        with self.ledger.run(kind, actor=who) as run:
            hits = retriever.search(request, who, run, as_of=as_of)
            noted = dict(run.notes["search"])
            run.close()
        return hits, noted

    def close(self) -> None:
        self.retriever.close()
        self.lake.close()
        self.ledger.close()
