"""Drystone with the same commands as the other two."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import common
import numpy as np

import drystone
from drystone import settings
from drystone.index.minilm import MiniLM

CONFIG = """
[project]
name = "bench"
[[sources]]
name = "docs"
type = "files"
path = "{files}"
  [[sources.labels]]
  match = "**"
  readers = ["group:{readers}"]
  classification = "public"
"""
USERS = """
[[users]]
name = "o"
groups = ["owners", "staff", "board"]
[[users]]
name = "staff"
groups = ["staff"]
[[users]]
name = "board"
groups = ["board"]
"""


class Metered:
    """The built-in MiniLM, or words hashed; every text is counted."""

    languages, dimensions, local = ("en",), common.DIMENSIONS, True

    def __init__(self, model: str, folder: Path) -> None:
        self.name = model.rpartition("/")[2]
        self.digest = sha256(self.name.encode()).hexdigest()
        self.inner = MiniLM({"type": "builtin"}, settings=settings.load(folder)) if model.startswith("/") else None
        self.turned = model.endswith("#turned")

    def embed(self, texts: Any) -> Any:
        common.METER.count(len(texts))
        if self.inner is None:
            return common.hashed(texts, self.name)
        vectors = self.inner.embed(texts)
        return vectors @ common.rotation() if self.turned else vectors


class Drystone:
    readers = "staff"

    def open(self, store: Path, files: Path, mode: str, model: str) -> None:
        store.mkdir(parents=True, exist_ok=True)
        self.store, self.files = store, files
        (store / "users.toml").write_text(USERS)
        self._configure("staff" if not (store / "drystone.toml").exists() else None)
        self.embedder = Metered(model, store)
        self._quiet(lambda: self.embedder.embed(["warm up"]))
        self.kb = drystone.open(store, embedder=self.embedder)

    def _configure(self, readers: str | None) -> None:
        if readers is not None:
            self.readers = readers
            (self.store / "drystone.toml").write_text(CONFIG.format(files=self.files, readers=readers))

    def _quiet(self, call: Any) -> Any:
        """Questions are embedded too, and not counted."""
        common.METER.on = False
        try:
            return call()
        finally:
            common.METER.on = True

    def ingest(self, readers: str, force: bool = False) -> dict[str, Any]:
        if f"group:{readers}" not in (self.store / "drystone.toml").read_text():  # rules are read when a project opens
            self.kb.close()
            self._configure(readers)
            self.kb = drystone.open(self.store, embedder=self.embedder)
        catalog = self.kb.house.ledger.catalog
        if common.METER.lose_at is not None:
            apply = catalog.apply

            def late(*args: Any, **named: Any) -> Any:
                common.METER.between()
                return apply(*args, **named)

            catalog.apply = late  # type: ignore[method-assign]
        report = self.kb.ingest(actor="o", allow_mass_removal=force)
        return {"report": str({name: value for name, value in report.to_dict().items() if value})}

    def search(self, text: str, readers: str) -> str:
        found = self._quiet(lambda: self.kb.search(text, actor=readers, limit=1))
        return found[0].document.removeprefix("docs:") if found else ""

    def embed(self, text: str) -> Any:
        return self._quiet(lambda: self.embedder.embed([text]))[0]

    def chunks(self) -> list[tuple[str, str]]:
        catalog = self.kb.house.ledger.catalog
        commit = catalog.pointer().commit
        if not commit:
            return []
        table = self.kb.snapshot(f"bench@{commit}", actor="o").arrow("chunks")
        versions = catalog.versions(sorted(set(table["version"].to_pylist())))
        rows = zip(table["version"].to_pylist(), table["text"].to_pylist(), strict=True)
        return [(versions[number].document.removeprefix("docs:"), text) for number, text in rows]

    def vectors(self) -> dict[tuple[str, str], Any]:
        """Those that the pointed generation searches."""
        catalog = self.kb.house.ledger.catalog
        pointer = catalog.pointer()
        table = self.kb.snapshot(f"bench@{pointer.commit}", actor="o").arrow("chunks")
        versions = catalog.versions(sorted(set(table["version"].to_pylist())))
        keys = {
            chunk: (versions[number].document.removeprefix("docs:"), text)
            for chunk, number, text in zip(*(table[n].to_pylist() for n in ("chunk", "version", "text")), strict=True)
        }
        with self.kb.house.lake.reader() as reader:
            chunks, rows = reader.vectors(str(pointer.generation))
        return {keys[chunk]: np.asarray(row) for chunk, row in zip(chunks.tolist(), rows, strict=True) if chunk in keys}

    def close(self) -> None:
        self.kb.close()


if __name__ == "__main__":
    common.serve(Drystone())
