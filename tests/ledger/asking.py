"""Questions as the rooms above would answer them: every note, with evidence that the catalogue knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from drystone.ledger import Ledger
from drystone.records import (
    Answer,
    Checked,
    Citation,
    Decision,
    Draft,
    Evidence,
    Hit,
    Hits,
    Label,
    Prompt,
    Usage,
    join_all,
)
from tests.ledger.build import BO, STAFF, change, document, label

YES = Decision("ask", True, ("builtin.ask",), "s:AAAAAAAAAAAAAAAAAAAAAA", "anyone known may ask")
RICH = label(("group:staff", "group:managers"), regions=["eu"], purposes=["support"], expires="2029-11-22T00:00:00Z")
ANSWERED = "Items may be returned within 45 days. [1]"
GUARDS = [{"guard": g, "version": "1.2.0", "outcome": "pass", "scores": {g: 0.01}} for g in ("injection", "personal")]


def evidence(ledger: Ledger, chunks: int, documents: int, given: Label = STAFF) -> list[Evidence]:
    """``chunks`` sentences of ``documents`` documents, brought into the catalogue by a run."""
    names = [f"handbook:policies/returns-and-refunds-{n}.md" for n in range(documents)]
    made = [document(ledger, name, f"Text of {name}.", given) for name in names]
    with ledger.run("ingest", actor=BO) as run:
        ledger.catalog.apply(change(ledger, run.id, made), run)
        run.close()
    out = []
    for n in range(chunks):
        one = made[n % documents]
        quote = f"Items of kind {n} may be returned within 45 days."
        hit = Hit(ledger.digest("c", one.version, str(n)), one.name, one.version, "Returns", quote, 0.7134 - n / 100,
                  812 + n, 812 + n + len(quote), given, n, page=3)  # fmt: skip
        out.append(Evidence(hit, quote, hit.start, hit.end, hit.score))
    return out


def ask(
    ledger: Ledger,
    found: Sequence[Evidence],
    *,
    question: str = "How long do I have?",
    mode: Any = "quoted",
    refused: Any = None,
    withheld: dict[str, int] | None = None,
    readable: int = 40,
    withdrawn: int = 0,
    guards: Sequence[dict[str, Any]] = (),
    cited: int = 3,
    leave_out: str = "",
) -> Answer:
    model = "local" if mode == "generated" else None
    runtime = {"build": "xllamacpp 2026.10", "seed": 1, "threads": 2, "max_tokens": 256} if model else {}
    usage = Usage(812, 88, Decimal("0.000000")) if model else Usage()
    with ledger.question(question, actor=BO, purpose="support", assistant="helpdesk") as run:
        commit = ledger.catalog.pointer().commit
        for step in ("admit", "search", "compose", "generate", "check", "release"):
            with run.time(step):
                pass
        hits = Hits(tuple(e.hit for e in found), tuple(found), True, commit, 0.9 if found else 0.1)
        messages = ({"role": "user", "content": question},) if model else ()
        joined = join_all([STAFF, *(e.hit.label for e in found)])
        prompt = Prompt(mode, messages, tuple(found), joined, "p:quoted-1")
        draft = Draft(ANSWERED, model, usage)
        rests = tuple(found[:cited])
        citations = tuple(
            Citation(n, e.hit.document, e.hit.version, e.hit.chunk, "Returns", e.quote, e.start, e.end, e.score, True)
            for n, e in enumerate(rests, 1)
        )
        checked = Checked(ANSWERED, citations, rests, mode, None, (), usage, joined)
        released = checked
        if refused:
            released = Checked("", (), (), "refused", refused, (), usage if withdrawn else Usage())
            checked = checked if withdrawn else released
        notes: dict[str, dict[str, Any]] = {
            "admit": {"decision": YES, "guards": list(guards), "label": STAFF},
            "search": {"hits": hits, "generation": "g:AAAAAAAAAAAAAAAAAAAAAA", "embedder": "minilm",
                       "policy": YES.policy_set, "in_scope": 50, "readable": readable, "withheld": withheld or {}},
            "compose": {"prompt": prompt},
            "generate": {"draft": draft, "model": model, "weights": "w:AAAAAAAAAAAAAAAAAAAAAA" if model else None,
                         "runtime": runtime, "routes": [{"model": "cluster", "why": "classification"}]},
            "check": {"checked": checked, "dropped": 0, "verdicts": []},
            "release": {"decision": replace(YES, action="release"), "guards": list(guards), "commit": commit,
                        "sequence": 1, "withdrawn": withdrawn},
        }  # fmt: skip
        for step, facts in notes.items():
            if step != leave_out:
                run.note(step, **facts)
        return run.seal(released)
