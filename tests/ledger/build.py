"""What the ledger's tests build: an actor, labels, documents and changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drystone.ledger import Ledger
from drystone.ledger.catalog import Change
from drystone.records import Actor, Asset, Classification, Document, Label, Parsed
from drystone.settings import defaults

BO = Actor(
    name="bo",
    principals=frozenset({"user:bo", "group:staff", "everyone"}),
    clearance=Classification.internal,
    region="local",
    purposes=None,
    proven="asserted by bo",
)


def open_ledger(folder: Path) -> Ledger:
    return Ledger.open(folder / "state", project="shop", settings=defaults(folder))


def label(readers: Sequence[Any] = ("group:staff",), classification: str = "internal", **parts: Any) -> Label:
    return Label.parse({"readers": list(readers), "classification": classification, **parts})


STAFF = label()
HR = label(("group:hr",), "confidential")


def document(
    ledger: Ledger, name: str, content: str, given: Label = STAFF, renamed_from: str | None = None
) -> Document:
    """A document ``source:path`` with these bytes."""
    source = name.partition(":")[0]
    digest = ledger.digest("b", content)
    return Document(
        name=name,
        source=source,
        version=ledger.digest("v", name, content),
        asset=Asset(name, source, digest, len(content), "text/plain", name, f"print of {content}"),
        parsed=Parsed(content, (), title=f"Title of {name}"),
        label=given,
        label_origin="rule 1",
        transform=ledger.digest("t", "text", "1"),
        made_by="r:test",
        renamed_from=renamed_from,
    )


def change(ledger: Ledger, key: str, documents: Sequence[Document] = (), **more: Any) -> Change:
    """A change whose documents have two chunks each."""
    first = ledger.catalog.reserve(versions=len(documents), chunks=2 * len(documents))
    return Change(
        key=key,
        documents=tuple(documents),
        version_numbers=tuple(range(first.versions, first.versions + len(documents))),
        chunk_first=tuple(range(first.chunks, first.chunks + 2 * len(documents), 2)),
        chunk_count=(2,) * len(documents),
        **more,
    )
