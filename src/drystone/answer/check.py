"""From a draft to an answer whose every citation holds.

Guarantees: a citation's quote is the document's text at its span, or it is not there; in quoted mode code writes
the quote and the number; in generated mode a sentence stays only if evidence supports it, and the number it gets is
that of the evidence that did, whatever number the model wrote; where nothing stays, the evidence is quoted instead
and the notes say so. A refusal says nothing about documents.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drystone.answer.compose import ABSENT, choose, one_line, place
from drystone.answer.support import Finding, Similarity, supports
from drystone.index.sentences import sentences
from drystone.records import Checked, Citation, Draft, Evidence, Prompt, join_all
from drystone.records.answer import REFUSAL, Reason
from drystone.records.place import narrowed

UNFAITHFUL = "a quote did not match its document and was left out"
NOTHING_HELD = "no generated sentence was supported: quoted instead"
MODEL_FOUND_NOTHING = "the model found no answer in the evidence"

_NUMBER = re.compile(r"\s*[\[(【]((?:\d+)(?:\s*[,;]\s*\d+)*)[\])】]")
_TRAILING = re.compile(r"([.!?…]+)((?:\s*\[[\d,; ]+\])+)")
_MARK = re.compile(r"^(?:[-*+•‣>#]+|\(?\d{1,3}[.)])\s+")


@dataclass(frozen=True, slots=True)
class Result:
    """``verdicts``: one for each sentence of the draft, in order; numbers and kinds, never text."""

    checked: Checked
    dropped: int
    verdicts: tuple[Mapping[str, Any], ...]


def check(
    draft: Draft, prompt: Prompt, *, limit: int, similarity: Similarity | None = None, trusted: bool = False
) -> Result:
    """``limit``: most sentences of a quoted answer. ``trusted``: the model passed the grounding set, so its word
    that the evidence holds no answer is taken; a small model's is not, and the evidence is quoted."""
    notes = prompt.notes + draft.notes
    if prompt.mode == "refused":
        return Result(_refused(prompt, draft, notes), 0, ())
    if prompt.mode == "quoted" or draft.model is None:
        return _quote(draft, prompt, choose(prompt.evidence, limit), notes)
    written = sentences_of(draft, prompt.evidence)
    if not written or all(ABSENT in text.upper() for text, _ in written):
        if trusted:
            return Result(_refused(prompt, draft, (*notes, MODEL_FOUND_NOTHING), "not_supported"), 0, ())
        return _quote(draft, prompt, choose(prompt.evidence, limit), (*notes, MODEL_FOUND_NOTHING, NOTHING_HELD))
    kept, verdicts = _judge(written, draft, prompt.evidence, similarity)
    dropped = len(written) - len(kept)
    if not kept:
        quoted = _quote(draft, prompt, choose(prompt.evidence, limit), (*notes, NOTHING_HELD))
        return Result(quoted.checked, dropped + quoted.dropped, verdicts)
    if dropped:
        notes += (f"sentences left out: {dropped}",)
    order = list(dict.fromkeys(n for _, rests in kept for n in rests))
    held = tuple(prompt.evidence[n] for n in order)
    text = " ".join(f"{said} {''.join(f'[{order.index(n) + 1}]' for n in rests)}" for said, rests in kept)
    cited = tuple(citation(n, e) for n, e in enumerate(held, 1))
    return Result(Checked(text, cited, held, "generated", None, notes, draft.usage, prompt.label), dropped, verdicts)


# -- what a model wrote --------------------------------------------------------------------------
def sentences_of(draft: Draft, evidence: Sequence[Evidence] = ()) -> list[tuple[str, tuple[int, ...]]]:
    """The draft's sentences without their numbers, and the numbers that it gave each (from 1).

    A model that copies a numbered line copies its place too, which is ours and no part of what is said.
    """
    found = []
    text = _plain_text(draft.text)
    for copied in {place(e) for e in evidence} - {""}:
        text = re.sub(re.escape(copied.rstrip()) + r"(?: |$)", "", text, flags=re.MULTILINE)
    for line in text.splitlines():
        line = _MARK.sub("", _TRAILING.sub(r"\2\1", line.strip()))
        for start, end in sentences(line):
            numbers = [int(n) for group in _NUMBER.findall(line[start:end]) for n in re.findall(r"\d+", group)]
            said = one_line(_NUMBER.sub("", line[start:end]))
            if re.search(r"\w", said):
                found.append((said, tuple(dict.fromkeys(numbers))))
    return found


def _plain_text(text: str) -> str:
    """A model that was held to a JSON schema names its evidence before each sentence; as text the number follows."""
    body = re.sub(r"^```(?:json)?\s*|\s*```$", "", text.strip())
    if not body.startswith("{"):
        return text
    try:
        rows = json.loads(body)["sentences"]
        return "\n".join(f"{r['text']} {''.join(f'[{int(n)}]' for n in r['evidence'])}" for r in rows)
    except (ValueError, KeyError, TypeError):
        return text


def _judge(
    written: Sequence[tuple[str, tuple[int, ...]]],
    draft: Draft,
    evidence: Sequence[Evidence],
    similarity: Similarity | None,
) -> tuple[list[tuple[str, tuple[int, ...]]], tuple[Mapping[str, Any], ...]]:
    """The sentences that stay, each with the indices (from 0) of what it rests on, and a verdict for every one."""
    kept: list[tuple[str, tuple[int, ...]]] = []
    verdicts: list[Mapping[str, Any]] = []
    for at, (said, cited) in enumerate(written, 1):
        rests: tuple[int, ...] = ()
        named = tuple(n - 1 for n in cited if 0 < n <= len(evidence))
        if draft.finish == "length" and at == len(written) and not re.search(r"[.!?…。।]\W*$", said):
            finding = Finding("cut off")
        elif ABSENT in said.upper():
            finding = Finding("no statement")
        elif any(said == other for other, _ in kept):
            finding = Finding("repeated")
        else:
            finding, rests = _rests_on(said, named, evidence, similarity)
        if finding:
            kept.append((said, rests))
        verdicts.append(
            {
                "sentence": at,
                "cited": list(cited),
                "rests_on": [n + 1 for n in rests],
                "supported": bool(finding),
                "failed": finding.failed,
                "contained": round(finding.contained, 3),
                "similar": round(finding.similar, 3),
            }
        )
    return kept, tuple(verdicts)


def _rests_on(
    said: str, named: tuple[int, ...], evidence: Sequence[Evidence], similarity: Similarity | None
) -> tuple[Finding, tuple[int, ...]]:
    """What supports the sentence: what the model named, else the one piece of evidence that does it best."""

    def judged(numbers: tuple[int, ...]) -> Finding:
        cited = [evidence[n] for n in numbers]
        if not all(holds(e) for e in cited):
            return Finding("quote")
        context = [text for e in cited for text in (e.hit.title, *e.hit.heading)]
        return supports([e.quote for e in cited], said, context=context, similarity=similarity)

    first = judged(named) if named else Finding("citation")
    if first:
        return first, named
    others = [(judged((n,)), (n,)) for n in range(len(evidence)) if (n,) != named]
    best = max(others, key=lambda o: (bool(o[0]), o[0].contained), default=(first, named))
    return best if best[0] else (first, ())


# -- what code writes ------------------------------------------------------------------------------
def _quote(draft: Draft, prompt: Prompt, chosen: Sequence[Evidence], notes: tuple[str, ...]) -> Result:
    held = tuple(e for e in chosen if holds(e))
    verdicts = tuple(
        {"sentence": n, "supported": holds(e), "failed": "" if holds(e) else "quote"} for n, e in enumerate(chosen, 1)
    )
    dropped = len(chosen) - len(held)
    if dropped:
        notes += (UNFAITHFUL,)
    if not held:
        return Result(_refused(prompt, draft, notes, "not_supported"), dropped, verdicts)
    text = " ".join(f"{plain(e.quote)} [{n}]" for n, e in enumerate(held, 1))
    cited = tuple(citation(n, e) for n, e in enumerate(held, 1))
    label = join_all(e.hit.label for e in held)  # quotes hold nothing of what was typed
    return Result(Checked(text, cited, held, "quoted", None, notes, draft.usage, label), dropped, verdicts)


def _refused(prompt: Prompt, draft: Draft, notes: tuple[str, ...], reason: Reason = "no_evidence") -> Checked:
    return Checked(REFUSAL, (), (), "refused", reason, notes, draft.usage, prompt.label)


def holds(item: Evidence) -> bool:
    """Is the quote exactly the text of its hit, at the place that it names?"""
    first, last = item.start - item.hit.start, item.end - item.hit.start
    return 0 <= first < last <= len(item.hit.text) and item.hit.text[first:last] == item.quote


def citation(n: int, item: Evidence) -> Citation:
    hit = item.hit
    return Citation(
        n=n,
        document=hit.document,
        version=hit.version,
        chunk=hit.chunk,
        title=hit.title,
        quote=item.quote,
        start=item.start,
        end=item.end,
        score=item.score,
        supported=True,
        page=hit.page,
        place=narrowed(hit.place, hit.text, item.start - hit.start, item.end - hit.start),
    )


def plain(quote: str) -> str:
    """A quote as part of a text: on one line, without the mark of a list, a quotation or a heading."""
    return _MARK.sub("", one_line(quote))
