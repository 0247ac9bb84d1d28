"""Small hits and evidence, cut from whole texts as retrieval cuts them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from drystone.index.sentences import sentences
from drystone.records import Draft, Evidence, Hit, Hits, Label, Prompt, Request

STAFF = Label.parse({"readers": ["group:staff"], "classification": "internal"})
HR = Label.parse({"readers": ["group:hr"], "classification": "confidential", "regions": ["eu"]})
TYPED = Label.parse({"readers": ["everyone"], "classification": "public", "purposes": ["general", "support"]})

RETURNS = "Items may be returned within 45 days of delivery. The item must be unused. Refunds reach the card in 5 days."
SHIPPING = "Delivery abroad takes 6 to 9 days and costs 18 euros. Parcels leave before 14:00."


def evidence(
    text: str, *scores: float, name: str = "returns.md", title: str = "Returns", label: Label = STAFF, offset: int = 100
) -> tuple[Evidence, ...]:
    """One piece for each sentence; ``scores`` in the order of the text. The hit starts at ``offset``."""
    hit = Hit(
        f"c:{name}", f"handbook:{name}", f"v:{name}", title, text, 1.0, offset, offset + len(text), label, 7,
        heading=("Deadlines",), page=3,
    )  # fmt: skip
    spans = sentences(text)
    given = scores or (0.9,) * len(spans)
    return tuple(
        Evidence(hit, text[a:b], offset + a, offset + b, s) for (a, b), s in zip(spans, given, strict=True) if s > 0
    )


def hits(*found: Evidence, confidence: float = 0.9, notes: tuple[str, ...] = ()) -> Hits:
    ranked = tuple(sorted(found, key=lambda e: -e.score))
    return Hits(tuple({e.hit.chunk: e.hit for e in ranked}.values()), ranked, True, 7, confidence, notes)


def request(
    mode: Any = "quoted", *, text: str = "How long may I return an item?", models: tuple[str, ...] = ()
) -> Request:
    return Request(text, TYPED, "general", mode, None, models)


def generated(*found: Evidence) -> Prompt:
    return Prompt("generated", ({"role": "user", "content": "?"},), found, STAFF, "p:1", ("big",), ("note",))


def draft(text: str, finish: str = "stop") -> Draft:
    return Draft(text, "big", finish=finish)


class Run:
    def __init__(self) -> None:
        self.notes: dict[str, dict[str, Any]] = {}
        self.ledger = SimpleNamespace(now=lambda: 0)

    def note(self, step: str, **facts: Any) -> None:
        self.notes[step] = facts

    @contextmanager
    def time(self, step: str) -> Iterator[None]:
        yield
