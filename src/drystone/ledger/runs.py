"""Runs: what was done, by whom, with which notes, how long it took and how it ended.

Guarantees: a run that was not closed counts as failed; what is kept of it holds no text of a document, a
question or an answer; a question ends in an answer with a passport, a refusal with a passport, or withheld and
recorded as such: if any step's note is missing or contradicts another, nothing is released.
"""

from __future__ import annotations

import re
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from drystone.errors import DrystoneError, LedgerError, PassportIncomplete, Refused
from drystone.ledger import lineage, log
from drystone.ledger.change import Change, Pointer, as_json
from drystone.ledger.store import sql
from drystone.records import (
    Actor,
    Answer,
    Checked,
    Citation,
    Decision,
    Draft,
    Hit,
    Hits,
    Label,
    Prompt,
    Relabel,
    Usage,
    format_time,
)

if TYPE_CHECKING:
    import sqlite3

    from drystone.ledger import Ledger
    from drystone.records.answer import Reason

START = sql("INSERT INTO runs (run, kind, actor, started, state, facts) VALUES (?, ?, ?, ?, 'open', ?)")
END = sql("UPDATE runs SET ended = ?, state = ?, record = ? WHERE run = ?")

# Every step that an answer must have a note of, and what the note must say (ARCHITECTURE.md).
REQUIRED: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "admit": {"decision": Decision, "guards": Sequence, "label": Label},
    "search": {"hits": Hits, "generation": (str, type(None)), "embedder": str, "policy": str,
               "in_scope": int, "readable": int, "withheld": Mapping},
    "compose": {"prompt": Prompt},
    "generate": {"draft": Draft, "model": (str, type(None)), "weights": (str, type(None)), "runtime": Mapping,
                 "routes": Sequence},
    "check": {"checked": Checked, "dropped": int, "verdicts": Sequence},
    "release": {"decision": Decision, "guards": Sequence, "commit": int, "sequence": int, "withdrawn": int},
}  # fmt: skip


class Run:
    """Something that is done; a context manager. Notes stay as objects until the run ends."""

    def __init__(self, ledger: Ledger, kind: str, actor: Actor, facts: Mapping[str, Any]) -> None:
        self.ledger, self.kind, self.actor = ledger, kind, actor
        self.id = "r:" + urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode()
        self.notes: dict[str, dict[str, Any]] = {}
        self.timings: dict[str, float] = {}
        self.state = "open"
        self._steps: list[dict[str, Any]] = []  # every note in order, without texts
        self._edges: list[tuple[str, str, str, str]] = []
        self._clock = time.perf_counter()
        self.started = ledger.now()
        row = (self.id, kind, actor.name, self.started, as_json(plain(facts)))
        # Not waited for: it is written before anything that this run writes, and its failure is raised then.
        self._start: Future[Any] = ledger.database.submit(lambda connection: connection.execute(START, row))

    def note(self, step: str, **facts: Any) -> None:
        """Say what a step did. A second note of the same step replaces the first for the passport; both are kept."""
        self._still_open()
        self.notes[step] = facts
        self._steps.append({"step": step, "at": self.ledger.now(), "facts": plain(facts)})

    @contextmanager
    def time(self, step: str) -> Iterator[None]:
        """Add what the block took to ``timings``, as ``<step>_ms``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            key = f"{step}_ms"
            self.timings[key] = self.timings.get(key, 0.0) + (time.perf_counter() - start) * 1000

    def edge(self, made: str, kind: str, *, of: Sequence[str], transform: str = "") -> None:
        """Say that ``made`` was made of these; durable when the run ends."""
        self._still_open()
        self._edges += [(made, one, kind, transform) for one in of]

    def relabel(self, relabelled: Sequence[Relabel], *, reason: str = "") -> Pointer:
        """Give documents new labels, all in one commit. Embeds nothing."""
        pointer = self.ledger.catalog.apply(Change(key=f"{self.id}:relabel", relabelled=tuple(relabelled)), self)
        self.note("relabel", documents=len(relabelled), reason=reason, commit=pointer.commit)
        return pointer

    def close(self, **facts: Any) -> None:
        """End the run well. Durable on return."""
        self._still_open()
        if facts:
            self.note("close", **facts)
        self._end("closed")

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.state != "open":
            return
        failure = "not_closed" if error is None else getattr(error, "code", type(error).__name__)
        try:
            self._end("failed", failure=failure)
        except DrystoneError:
            if error is None:
                raise  # otherwise the first error says more; the run stays open in the record and counts as failed

    def _still_open(self) -> None:
        if self.state != "open":
            raise LedgerError(f"The run {self.id} has ended, so nothing can be added to it.")

    def _end(self, state: str, **outcome: Any) -> None:
        self.timings["total_ms"] = (time.perf_counter() - self._clock) * 1000
        self._start.result()
        self.ledger.database.write(lambda connection: self._write_end(connection, state, outcome))
        self.state = state

    def _write_end(self, connection: sqlite3.Connection, state: str, outcome: Mapping[str, Any]) -> None:
        at = self.ledger.tick(connection)
        record = {"steps": self._steps, "timings": {k: round(v, 3) for k, v in self.timings.items()}, **outcome}
        text = as_json(record)
        connection.execute(END, (at, state, text, self.id))
        lineage.connect(connection, self._edges, self.id)
        if "passport" in outcome:
            return  # the passport's entry says it, and commits to more
        body = {"run": self.id, "kind": self.kind, "state": state, "record": self.ledger.digest("d", self.id, text)}
        log.append(connection, "run", body, at, keys=self.ledger.keys)


class Question(Run):
    """One question on its way to an answer. Ends by :meth:`seal` or :meth:`refuse`."""

    def __init__(self, ledger: Ledger, text: str, actor: Actor, purpose: str, assistant: str | None) -> None:
        super().__init__(ledger, "question", actor, {"purpose": purpose, "assistant": assistant})
        self.text, self.purpose, self.assistant = text, purpose, assistant

    def __enter__(self) -> Question:
        return self

    def seal(self, checked: Checked) -> Answer:
        """Release an answer (or a refusal that the steps came to) with its passport, durable on return.

        Raises ``PassportIncomplete`` if a step's note is missing or the notes contradict each other; that the
        answer was withheld is durable before.
        """
        self._still_open()
        faults = missing(self.notes) or contradictions(self.notes, checked)
        if faults:
            self._withhold(faults)
            raise PassportIncomplete(
                "The answer was withheld, because its passport would not be complete.",
                looked=f"In run {self.id}: {'; '.join(faults)}.",
                todo="Every step must note what it did; see the run's record.",
            )
        return self._answer(checked, "sealed" if checked.refused is None else "refused")

    def refuse(self, error: Refused) -> Answer:
        """End in a refusal that some step raised. It has a passport too, over the notes there are."""
        self._still_open()
        reason = cast("Reason", error.reason)
        return self._answer(Checked(str(error), (), (), "refused", refused=reason), "refused")

    def _withhold(self, faults: Sequence[str]) -> None:
        self._end("withheld", failure="passport_incomplete", faults=list(faults))

    def _answer(self, checked: Checked, state: str) -> Answer:
        from drystone.ledger import passports

        self.timings["total_ms"] = (time.perf_counter() - self._clock) * 1000
        self._start.result()
        try:
            passport = passports.build(self.ledger, self, checked)
        except PassportIncomplete as error:
            self._withhold([error.looked])
            raise
        if state == "sealed":
            for evidence in passport.evidence:  # what a model saw counts, cited or not
                self.edge(passport.ref, "evidence", of=[evidence.hit.chunk])
                self.edge(evidence.hit.chunk, "chunk", of=[evidence.hit.version])
            made_with = {
                "prompt": self.notes["compose"]["prompt"].template,
                "generation": self.notes["search"]["generation"],
                "model": self.notes["generate"]["weights"],
            }
            for kind, ref in made_with.items():
                self.edge(passport.ref, kind, of=[ref] if ref else [])

        def write(connection: sqlite3.Connection) -> None:
            passport.write(connection)
            self._write_end(connection, state, {"passport": passport.ref, "reason": checked.refused})

        self.ledger.database.write(write)
        self.state = state
        silent = checked.refused == "no_evidence"  # nothing that depends on what the asker may not see
        return Answer(
            text=checked.text,
            refused=checked.refused is not None,
            reason=checked.refused,
            citations=() if checked.refused else checked.citations,
            passport=passport.ref,
            mode="refused" if silent else checked.mode,
            notes=() if silent else checked.notes,
            label=checked.label,
            usage=Usage() if silent else checked.usage,
            timings={"total_ms": self.timings["total_ms"]} if silent else dict(self.timings),
        )


LAST = sql("SELECT max(ended) FROM runs WHERE kind = ? AND state = 'closed' AND facts LIKE ? ESCAPE '!'")


def last(connection: sqlite3.Connection, kind: str, source: str) -> str | None:
    """See :meth:`drystone.ledger.Ledger.last_run`."""
    fact = re.sub(r"[!%_]", r"!\g<0>", f'"source":{as_json(source)}')
    row = connection.execute(LAST, (kind, f"%{fact}%")).fetchone()
    return None if row[0] is None else format_time(row[0])


# -- what an answer must rest on ----------------------------------------------------------------------
def missing(notes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Which notes or facts of notes are missing or of the wrong kind."""
    out = []
    for step, facts in REQUIRED.items():
        if step not in notes:
            out.append(f"there is no note of {step}")
            continue
        out += [f"the note of {step} does not say {fact}" for fact in facts if fact not in notes[step]]
        out += [
            f"the note of {step} says {fact} in a form that we cannot use"
            for fact, kind in facts.items()
            if fact in notes[step] and not isinstance(notes[step][fact], kind)
        ]
    return out


def contradictions(notes: Mapping[str, Mapping[str, Any]], released: Checked) -> list[str]:
    """Where the steps' notes do not fit each other or what is about to be released."""
    hits, prompt = notes["search"]["hits"], notes["compose"]["prompt"]
    draft, checked = notes["generate"]["draft"], notes["check"]["checked"]
    found = {_place(evidence) for evidence in hits.evidence}
    offered = {_place(evidence) for evidence in prompt.evidence}
    known = {hit.chunk: hit for hit in hits.hits}
    faults = []
    if not offered <= found:
        faults.append("the prompt holds evidence that the search did not find")
    if notes["generate"]["model"] != draft.model:
        faults.append("the draft names another model than its note")
    if released.refused is None:
        cited = {(c.chunk, c.start, c.end, c.quote) for c in released.citations}
        if not {_place(e) for e in released.evidence} <= offered:
            faults.append("the answer rests on evidence that was not in the prompt")
        if not cited <= {(c.chunk, c.start, c.end, c.quote) for c in checked.citations}:
            faults.append("the answer has a citation that was not checked")
        if not all(_as_found(c, known.get(c.chunk)) for c in released.citations):
            faults.append("the answer cites what the search did not find")
        if released.text != checked.text:
            faults.append("the answer has another text than was checked")
        if not released.citations:
            faults.append("the answer has no citation")
        resting = (*released.evidence, *(prompt.evidence if released.mode == "generated" else ()))
        if released.label is None or not all(released.label.at_least(e.hit.label) for e in resting):
            faults.append("the answer has a looser label than what it rests on")
        if released != checked and not faults:
            faults.append("the answer is not the one that was checked")
        if notes["release"]["withdrawn"]:
            faults.append("what the answer rests on was withdrawn")
        if checked.refused is not None:
            faults.append("the check refused and the release did not")
        for step in ("admit", "release"):
            if not notes[step]["decision"].allowed:
                faults.append(f"the decision of {step} was no")
            if any(guard.get("outcome") == "failed" for guard in notes[step]["guards"]):
                faults.append(f"a guard could not look at {step}")
        if notes["release"]["commit"] < hits.commit:
            faults.append("the release looked at an older commit than the search")
    return faults


def _as_found(citation: Citation, hit: Hit | None) -> bool:
    """Does a citation say what the hit says, at the place that it names?"""
    if hit is None or (citation.version, citation.document, citation.title) != (hit.version, hit.document, hit.title):
        return False
    return hit.text[citation.start - hit.start : citation.end - hit.start] == citation.quote and (
        citation.start >= hit.start
    )


def _place(evidence: Any) -> tuple[str, str, int, int, str]:
    return evidence.hit.chunk, evidence.hit.version, evidence.start, evidence.end, evidence.quote


# -- what is kept in the open -------------------------------------------------------------------------
def plain(value: Any) -> Any:
    """Facts as JSON without texts: of evidence the ids and places, of a prompt or a draft what it cost."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Hits):
        return {
            "hits": [[hit.chunk, hit.version, round(hit.score, 6)] for hit in value.hits],
            "exact": value.exact, "commit": value.commit, "confidence": value.confidence, "notes": list(value.notes),
        }  # fmt: skip
    if isinstance(value, Prompt):
        return {
            "mode": value.mode, "template": value.template, "notes": list(value.notes),
            "evidence": [[e.hit.chunk, e.start, e.end] for e in value.evidence],
        }  # fmt: skip
    if isinstance(value, Draft):
        return {
            "model": value.model, "finish": value.finish, "usage": value.usage.to_dict(), "notes": list(value.notes),
        }  # fmt: skip
    if isinstance(value, Checked):
        return {
            "mode": value.mode, "refused": value.refused, "notes": list(value.notes),
            "citations": [[c.chunk, c.start, c.end, c.supported] for c in value.citations],
        }  # fmt: skip
    if isinstance(value, Label | Decision | Usage) or hasattr(value, "to_dict"):
        return plain(value.to_dict())
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in (sorted(value, key=str) if isinstance(value, set | frozenset) else value)]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    raise LedgerError(f"A note cannot hold a {type(value).__name__}.", todo="Use records or JSON values.")
