"""What flows while a question is answered: request, hits, evidence, prompt, draft, answer.

Offsets are Unicode code points into the document's parsed text; times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from drystone.records.label import Label
from drystone.records.place import parts

Mode = Literal["quoted", "generated", "auto"]
Reason = Literal[
    "no_evidence", "not_supported", "policy", "personal_data", "over_budget",
    "rate_limited", "needs_review", "unavailable",
]  # fmt: skip

# One text for every "no evidence", whatever the cause: it says nothing about documents.
REFUSAL = "I cannot answer this from the documents that are available to you."


@dataclass(frozen=True, slots=True)
class Request:
    """An admitted question. ``label`` is that of what was typed."""

    text: str
    label: Label
    purpose: str
    mode: Mode
    sources: tuple[str, ...] | None  # the assistant's scope; None is every source
    models: tuple[str, ...]  # the assistant's models, in order of preference
    assistant: str | None = None
    limit: int = 10


@dataclass(frozen=True, slots=True)
class Hit:
    """A permitted chunk that matches. ``row`` is the chunk's integer, never shown outside."""

    chunk: str
    document: str
    version: str
    title: str
    text: str
    score: float
    start: int
    end: int
    label: Label
    row: int
    heading: tuple[str, ...] = ()
    page: int | None = None
    place: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "chunk": self.chunk,
            "document": self.document,
            "version": self.version,
            "title": self.title,
            "text": self.text,
            "score": round(self.score, 6),
            "start": self.start,
            "end": self.end,
            "page": self.page,
            "place": parts(self.place),
            "heading": list(self.heading),
            "label": self.label.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class Evidence:
    """One sentence (with its neighbours in ``around``) of a hit that an answer can rest on.

    ``quote == document.text[start:end]``; ``score`` in 0..1 is how well it answers the question.
    """

    hit: Hit
    quote: str
    start: int
    end: int
    score: float
    around: str = ""


@dataclass(frozen=True, slots=True)
class Hits:
    """What retrieval returns. ``exact`` is True only where no approximation was made.

    ``evidence`` is ordered best first; ``confidence`` is the calibrated chance (0..1) that the evidence
    answers the question; ``notes`` say what was degraded ("language:hi searched by words").
    """

    hits: tuple[Hit, ...]
    evidence: tuple[Evidence, ...]
    exact: bool
    commit: int
    confidence: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """The exact text that a model would see, with its label. ``messages`` is empty in quoted mode."""

    mode: Literal["quoted", "generated", "refused"]
    messages: tuple[Mapping[str, str], ...]
    evidence: tuple[Evidence, ...]
    label: Label
    template: str  # "p:..." identity of the template
    models: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    max_tokens: int = 256


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: Decimal = Decimal(0)
    currency: str = "USD"

    def to_dict(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost": {"amount": f"{self.cost:.6f}", "currency": self.currency},
        }


@dataclass(frozen=True, slots=True)
class Draft:
    """What a model wrote; where code will quote, ``model`` is ``None`` and the text empty."""

    text: str
    model: str | None
    usage: Usage = Usage()
    notes: tuple[str, ...] = ()
    finish: str = "stop"


@dataclass(frozen=True, slots=True)
class Citation:
    n: int
    document: str
    version: str
    chunk: str
    title: str
    quote: str
    start: int
    end: int
    score: float
    supported: bool
    page: int | None = None
    place: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "document": self.document,
            "version": self.version,
            "chunk": self.chunk,
            "title": self.title,
            "quote": self.quote,
            "start": self.start,
            "end": self.end,
            "page": self.page,
            "place": parts(self.place),
            "score": round(self.score, 6),
            "supported": self.supported,
        }


@dataclass(frozen=True, slots=True)
class Checked:
    """A draft after the citation and support checks. ``refused`` carries the reason, or ``None``."""

    text: str
    citations: tuple[Citation, ...]
    evidence: tuple[Evidence, ...]  # what the citations rest on, in citation order
    mode: Literal["quoted", "generated", "refused"]
    refused: Reason | None = None
    notes: tuple[str, ...] = ()
    usage: Usage = Usage()
    label: Label | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer or a refusal, released. Either way it has a passport."""

    text: str
    refused: bool
    reason: Reason | None
    citations: tuple[Citation, ...]
    passport: str
    mode: str
    notes: tuple[str, ...]
    label: Label | None
    usage: Usage
    timings: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "refused": self.refused,
            "reason": self.reason,
            "citations": [c.to_dict() for c in self.citations],
            "passport": self.passport,
            "mode": self.mode,
            "notes": list(self.notes),
            "label": None if self.label is None else self.label.to_dict(),
            "usage": self.usage.to_dict(),
            "timings": {k: round(v, 3) for k, v in self.timings.items()},
        }
