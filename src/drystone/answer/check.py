"""From a draft to an answer whose every citation holds.

Guarantees: a citation's quote is the document's text at its span, or it is not there; in quoted mode code
writes the quote and the number; in generated mode a sentence stays only if what it cites supports it; where
nothing stays, the evidence is quoted instead and the notes say so. A refusal says nothing about documents.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drystone.answer.compose import choose, one_line
from drystone.records import Checked, Citation, Draft, Evidence, Prompt

REFUSAL = "I cannot answer this from the documents that are available to you."
UNFAITHFUL = "a quote did not match its document and was left out"


@dataclass(frozen=True, slots=True)
class Result:
    checked: Checked
    dropped: int
    verdicts: tuple[Mapping[str, Any], ...]


def check(draft: Draft, prompt: Prompt, *, limit: int) -> Result:
    notes = prompt.notes + draft.notes
    if prompt.mode == "refused":
        return Result(_refused(prompt, draft, notes), 0, ())
    return _quote(draft, prompt, choose(prompt.evidence, limit), notes)


def _quote(draft: Draft, prompt: Prompt, chosen: Sequence[Evidence], notes: tuple[str, ...]) -> Result:
    held = tuple(e for e in chosen if holds(e))
    dropped = len(chosen) - len(held)
    verdicts = tuple({"sentence": n, "supported": holds(e), "failed": "" if holds(e) else "quote"}
                     for n, e in enumerate(chosen, 1))  # fmt: skip
    if dropped:
        notes += (UNFAITHFUL,)
    if not held:
        return Result(_refused(prompt, draft, notes, "not_supported"), dropped, verdicts)
    text = " ".join(f"{plain(e.quote)} [{n}]" for n, e in enumerate(held, 1))
    cited = tuple(citation(n, e) for n, e in enumerate(held, 1))
    checked = Checked(text, cited, held, "quoted", None, notes, draft.usage, prompt.label)
    return Result(checked, dropped, verdicts)


def _refused(prompt: Prompt, draft: Draft, notes: tuple[str, ...], reason: Any = "no_evidence") -> Checked:
    return Checked(REFUSAL, (), (), "refused", reason, notes, draft.usage, prompt.label)


def holds(item: Evidence) -> bool:
    """Is the quote exactly the text of its hit, at the place that it names?"""
    first = item.start - item.hit.start
    return 0 <= first < first + len(item.quote) and item.hit.text[first : item.end - item.hit.start] == item.quote


def citation(n: int, item: Evidence) -> Citation:
    hit = item.hit
    return Citation(n, hit.document, hit.version, hit.chunk, hit.title, item.quote, item.start, item.end, item.score,
                    True, hit.page)  # fmt: skip


def plain(quote: str) -> str:
    """A quote as part of a text: on one line, without the marks of a list, a quotation or a heading."""
    return re.sub(r"^(?:[-*+•‣>#]+|\d{1,3}[.)])\s+", "", one_line(quote))
