"""Passports: what an answer or a refusal rests on, signed, and provable to be in the log.

Guarantees:
- The asker's *statement* (in-toto Statement v1 in DSSE, Ed25519) is kept as the bytes that were signed; the log
  holds their SHA-256 and nothing else of them.
- Texts appear as digests salted with 16 random bytes that are in the statement alone: whoever has only the log,
  or the database without the statement, cannot test a guess.
- What the asker may not know (the true reason, how much was in scope, readable and withheld, which policies
  decided) is in the *annex*: sealed, with a salt of its own, and committed to by its digest.
- A refusal for lack of evidence says the same, field for field, whether there was nothing or nothing permitted.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drystone.errors import NotFound, PassportIncomplete, ProofFailed
from drystone.ledger import log
from drystone.ledger.contents import Record, new_id
from drystone.ledger.dsse import PAYLOAD, pae
from drystone.ledger.store import sql
from drystone.records import Checked, Citation, Decision, Evidence, format_time

if TYPE_CHECKING:
    import sqlite3

    from drystone.ledger import Ledger
    from drystone.ledger.runs import Question

FORMAT = 1
TYPE = "https://drystone.dev/passport/v1"
STATEMENT = "https://in-toto.io/Statement/v1"

ADD = sql("INSERT INTO passports (ref, seq, payload, signature, contents, run, actor) VALUES (?, ?, ?, ?, ?, ?, ?)")
ONE = sql("SELECT seq, payload, signature, contents FROM passports WHERE ref = ?")
ORIGIN = sql("SELECT asset, transform FROM versions WHERE ref = ? ORDER BY version LIMIT 1")


@dataclass(frozen=True, slots=True)
class Sealed:
    """A passport that is signed and waits to be written, in the transaction that ends its question."""

    ledger: Ledger
    ref: str
    statement: bytes
    signature: bytes
    run: str
    actor: str
    contents: tuple[Record, ...]
    evidence: tuple[Evidence, ...]  # all that it rests on, for the edges

    def write(self, connection: sqlite3.Connection) -> int:
        """Contents, log entry and statement; returns the entry's number."""
        self.ledger.contents.write(connection, self.contents)
        body = {"passport": self.ref, "statement": log.digest(self.statement)}
        seq = log.append(connection, "passport", body, self.ledger.tick(connection), keys=self.ledger.keys)
        places = _json({record.kind: record.id for record in self.contents})
        row = (self.ref, seq, self.statement, self.signature, places, self.run, self.actor)
        connection.execute(ADD, row)
        return seq


def build(ledger: Ledger, question: Question, checked: Checked) -> Sealed:
    """Compose, sign and seal; writes the keys of its contents and nothing else.

    An answer needs every step's note (``PassportIncomplete`` otherwise); a refusal takes those there are.
    """
    ref, notes = new_id("passport"), question.notes
    annex = _json(_annex(ref, question, checked))
    statement = _json(_statement(ledger, ref, question, checked, log.digest(annex.encode()))).encode()
    texts = [("annex", annex)]
    if ledger.settings["ledger.keep_texts"]:
        texts += [("question", question.text), ("answer", checked.text)]
        if "compose" in notes and notes["compose"]["prompt"].messages:
            texts.append(("prompt", _messages(notes["compose"]["prompt"].messages)))
        if "search" in notes and "compose" in notes:
            texts.append(("replay", _json(_asked(ref, question, checked))))
    contents = ledger.contents.prepare(texts)
    signature = ledger.keys.sign(pae(PAYLOAD, statement))
    return Sealed(
        ledger, ref, statement, signature, question.id, question.actor.name, contents,
        tuple(_resting(_Facts(notes, needed=False), checked)),
    )  # fmt: skip


def salted(salt: bytes, what: str, text: str) -> str:
    """A text's digest under a passport's salt; ``what`` says which text, so that equal texts look different."""
    data = what.encode() + b"\0" + text.encode("utf-8", "surrogatepass")
    return _b64(hashlib.sha256(salt + data).digest())


# -- the statement --------------------------------------------------------------------------------
def _statement(ledger: Ledger, ref: str, question: Question, checked: Checked, annex: str) -> dict[str, Any]:
    salt = secrets.token_bytes(16)
    answered = checked.refused is None
    silent = checked.refused == "no_evidence"  # says nothing that depends on what the asker may not see
    facts = _Facts(question.notes, needed=answered)
    answer = hashlib.sha256(salt + b"answer\0" + checked.text.encode("utf-8", "surrogatepass")).hexdigest()
    search = facts.of("search", "hits")
    predicate: dict[str, Any] = {
        "format": FORMAT,
        "passport": ref,
        "project": ledger.keys.name,
        "actor": {"name": question.actor.name, "proven": question.actor.proven},
        "purpose": question.purpose,
        "assistant": question.assistant,
        "asked_at": format_time(question.started),
        "sealed_at": format_time(ledger.now()),
        "salt": _b64(salt),
        "question": salted(salt, "question", question.text),
        "outcome": "answer" if answered else "refusal",
        "reason": checked.refused,
        "mode": "refused" if silent else checked.mode,
        "notes": [] if silent else list(checked.notes),
        "search": None if search is None else {
            "commit": search.commit, "exact": None if silent else search.exact,
            "generation": facts.of("search", "generation"), "embedder": facts.of("search", "embedder"),
            "policy": facts.of("search", "policy"),
        },
        "decisions": _decisions(facts, ("admit",) if silent else ("admit", "release")),
        "guards": _guards(facts, silent),
        "annex": annex,
    }  # fmt: skip
    if not silent:
        predicate |= _generation(facts, salt, checked)
        predicate["timings"] = {k: round(v, 3) for k, v in question.timings.items()}
    predicate |= _evidence(ledger, facts, salt, checked)
    subject = {"name": "answer", "digest": {"sha256-salted": answer}}
    return {"_type": STATEMENT, "subject": [subject], "predicateType": TYPE, "predicate": predicate}


def _generation(facts: _Facts, salt: bytes, checked: Checked) -> dict[str, Any]:
    prompt = facts.of("compose", "prompt")
    return {
        "model": None if facts.of("generate", "model") is None else {
            "name": facts.of("generate", "model"), "weights": facts.of("generate", "weights"),
            "runtime": facts.of("generate", "runtime"),
        },
        "prompt": None if prompt is None else {
            "template": prompt.template, "mode": prompt.mode,
            "digest": salted(salt, "prompt", _messages(prompt.messages)),
        },
        "cost": checked.usage.to_dict(),
        "dropped": facts.of("check", "dropped"),
    }  # fmt: skip


def _decisions(facts: _Facts, steps: Sequence[str]) -> list[dict[str, Any]]:
    """Action and result; the policies that determined them are in the annex."""
    found: list[Decision] = [d for d in (facts.of(step, "decision") for step in steps) if d is not None]
    return [{"action": d.action, "result": "allow" if d.allowed else "deny", "policy_set": d.policy_set} for d in found]


def _guards(facts: _Facts, silent: bool) -> list[dict[str, Any]]:
    """Outcomes at both doors. Where no guard is installed, and where none was reached: ``not_run``."""
    out: list[dict[str, Any]] = []
    for where, step in (("question", "admit"), ("answer", "release")):
        ran = [] if silent and step == "release" else facts.of(step, "guards") or []
        out += [{"where": where, **guard} for guard in ran]
        if not ran:
            out.append({"where": where, "guard": None, "outcome": "not_run"})
    return out


def _evidence(ledger: Ledger, facts: _Facts, salt: bytes, checked: Checked) -> dict[str, Any]:
    """The evidence and its tables.

    Documents, labels and transforms are in tables; ``document``, ``label`` and ``transform`` are places in them.
    """
    resting = _resting(facts, checked)
    documents, labels, transforms = _Table(), _Table(), _Table()
    rows, read = [], ledger.database.read()
    for n, one in enumerate(resting):
        hit = one.hit
        origin = read.execute(ORIGIN, (hit.version,)).fetchone()
        if origin is None:
            raise PassportIncomplete(
                "The answer was withheld, because its evidence has no origin.",
                looked="We looked for its version in the catalogue.", todo="Ask again; the index may be ahead of it.",
            )  # fmt: skip
        document = {
            "document": hit.document, "version": hit.version, "asset": origin[0],
            "transform": transforms.place(origin[1]), "label": labels.place(hit.label.to_dict()),
        }  # fmt: skip
        rows.append({
            "chunk": hit.chunk, "document": documents.place(document), "start": one.start, "end": one.end,
            "score": round(one.score, 6), "text": salted(salt, f"evidence {n}", one.quote),
        })  # fmt: skip
    return {
        "documents": documents.rows,
        "labels": labels.rows,
        "transforms": transforms.rows,
        "evidence": rows,
        "citations": [
            {"n": c.n, "evidence": _place(c, resting), "supported": c.supported}
            for c in (checked.citations if checked.refused is None else ())
        ],
        "label": None if checked.label is None or checked.refused else checked.label.to_dict(),
    }


def _resting(facts: _Facts, checked: Checked) -> list[Evidence]:
    """What an answer rests on: a quoted one on what it cites, a generated one on all that the model saw."""
    if checked.refused is not None:
        return []
    seen = facts.of("compose", "prompt").evidence if checked.mode == "generated" else ()
    return [*checked.evidence, *(one for one in seen if one not in checked.evidence)]


def _place(citation: Citation, resting: Sequence[Evidence]) -> int:
    """Which evidence a citation names: the one of its span, or the first that holds it."""
    same = [n for n, one in enumerate(resting) if one.hit.chunk == citation.chunk]
    holding = [n for n in same if resting[n].start <= citation.start and citation.end <= resting[n].end]
    exact = [n for n in holding if (resting[n].start, resting[n].end) == (citation.start, citation.end)]
    if not holding:
        raise PassportIncomplete(
            "The answer was withheld, because a citation has no evidence.",
            looked=f"We looked for citation {citation.n} in the evidence of the answer.",
        )
    return (exact or holding)[0]


class _Table:
    """Equal rows once, in the order they came."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, row: Any) -> int:
        key = _json(row)
        if key not in self._places:
            self._places[key] = len(self.rows)
            self.rows.append(row)
        return self._places[key]


class _Facts:
    """The notes of a question. An answer needs each fact that is asked for; a refusal may lack some."""

    def __init__(self, notes: Mapping[str, Mapping[str, Any]], *, needed: bool) -> None:
        self._notes, self._needed = notes, needed

    def of(self, step: str, fact: str) -> Any:
        note = self._notes.get(step, {})
        if self._needed and fact not in note:
            raise PassportIncomplete(
                "The answer was withheld, because its passport would not be complete.",
                looked=f"The note of {step} does not say {fact}.",
                todo="Every step must note what it did.",
            )
        return note.get(fact)


# -- asking again -----------------------------------------------------------------------------------
def _asked(ref: str, question: Question, checked: Checked) -> dict[str, Any]:
    """What :mod:`drystone.replay` needs: who asked with which rights, what was found, what was said."""
    notes, actor = question.notes, question.actor
    hits, prompt = notes["search"]["hits"], notes["compose"]["prompt"]
    return {
        "format": FORMAT,
        "passport": ref,
        "question": question.text,
        "purpose": question.purpose,
        "assistant": question.assistant,
        "at": question.started,
        "actor": {
            "name": actor.name, "principals": sorted(actor.principals), "clearance": actor.clearance.name,
            "region": actor.region, "purposes": None if actor.purposes is None else sorted(actor.purposes),
            "proven": actor.proven,
        },
        "request": {**notes["admit"].get("asked", {}), "label": notes["admit"]["label"].to_dict()},
        "commit": hits.commit,
        "policy": notes["search"].get("policy"),
        "hits": [[hit.chunk, hit.score] for hit in hits.hits],
        "evidence": [[one.hit.chunk, one.start, one.end, one.score] for one in prompt.evidence],
        "messages": [dict(message) for message in prompt.messages],
        "template": prompt.template,
        "decisions": [notes[step]["decision"].to_dict() for step in ("admit", "release") if step in notes],
        "mode": checked.mode,
        "text": checked.text,
    }  # fmt: skip


def replayable(ledger: Ledger, ref: str) -> dict[str, Any] | None:
    """What a question needs to be asked again, or ``None`` where its texts were not kept or are gone."""
    kept = texts(ledger, ref).get("replay")
    return None if kept is None else dict(json.loads(kept))


# -- the annex --------------------------------------------------------------------------------------
def _annex(ref: str, question: Question, checked: Checked) -> dict[str, Any]:
    """What an auditor may know beyond the statement."""
    facts = _Facts(question.notes, needed=checked.refused is None)
    decisions = [d for d in (facts.of(step, "decision") for step in ("admit", "release")) if d is not None]
    hits = facts.of("search", "hits")
    return {
        "format": FORMAT,
        "passport": ref,
        "salt": _b64(secrets.token_bytes(16)),
        "reason": _true_reason(facts, checked),
        "in_scope": facts.of("search", "in_scope"),
        "readable": facts.of("search", "readable"),
        "withheld": dict(facts.of("search", "withheld") or {}),
        "withdrawn": facts.of("release", "withdrawn"),
        "confidence": None if hits is None else hits.confidence,
        "found": None if hits is None else len(hits.hits),
        "decisions": [{**d.to_dict(), "reason": d.reason} for d in decisions],
        "routes": list(facts.of("generate", "routes") or []),
        "model": facts.of("generate", "model"),
        "cost": checked.usage.to_dict(),
        "notes": list(checked.notes),
        "timings": {k: round(v, 3) for k, v in question.timings.items()},
    }


def _true_reason(facts: _Facts, checked: Checked) -> str | None:
    if checked.refused != "no_evidence":
        return checked.refused
    if facts.of("release", "withdrawn"):
        return "withdrawn"  # it was readable when it was found, and no longer when it was to be released
    withheld = facts.of("search", "withheld") or {}
    return "not_permitted" if any(withheld.values()) and not facts.of("search", "readable") else "no_evidence"


# -- the bundle -----------------------------------------------------------------------------------
def bundle(ledger: Ledger, ref: str, *, annex: bool = False, since: Sequence[int] = ()) -> dict[str, Any]:
    """The statement as stored, the annex's commitment, and the log part computed now.

    ``annex=True`` opens the annex: only for who has ``passport_audit``; the project asks the policy.
    ``since``: sizes of older checkpoints to which the bundle shall prove consistency.
    """
    seq, payload, signature, places = _row(ledger, ref)
    note = log.covering(ledger, max([seq, *(size - 1 for size in since)]))
    size = log.read_checkpoint(note, ledger.keys).size
    with ledger.database.snapshot() as connection:
        entry = log.entry(connection, seq)
        proof = log.inclusion(connection, seq, size)
        older = [{"size": old, "proof": [_plain(h) for h in log.consistency(connection, old, size)]} for old in since]
    commitment = json.loads(payload)["predicate"]["annex"]
    opened = {"opened": ledger.contents.get(places["annex"])} if annex else {}
    if annex and log.digest(opened["opened"].encode()) != commitment:
        raise ProofFailed("The annex is not the one that was sealed.", todo="Run `drystone ledger verify`.")
    return {
        "format": FORMAT,
        "passport": ref,
        "statement": {
            "payload": _plain(payload),
            "payloadType": PAYLOAD,
            "signatures": [{"keyid": ledger.keys.key_id, "sig": _plain(signature)}],
        },
        "annex": {"commitment": commitment, **opened},
        "log": {
            "index": seq,
            "entry": _plain(entry),
            "proof": [_plain(hash) for hash in proof],
            "checkpoint": note,
            "consistency": older,
        },
    }


def texts(ledger: Ledger, ref: str) -> dict[str, str]:
    """The question, the answer and the prompt (JSON messages) as they were; what was not kept or was erased is absent.

    Only for who may have them again: the project asks the policy. ``Contents.forget`` of their ids erases them.
    """
    found = {}
    for kind, id in _row(ledger, ref)[3].items():
        if kind != "annex" and ledger.keys.has(id):
            found[kind] = ledger.contents.get(id)
    return found


def _row(ledger: Ledger, ref: str) -> tuple[int, bytes, bytes, dict[str, str]]:
    row = ledger.database.read().execute(ONE, (ref,)).fetchone()
    if row is None:
        raise NotFound("There is no such passport.", todo="Check its id.")
    return row[0], bytes(row[1]), bytes(row[2]), json.loads(row[3])


def _messages(messages: Sequence[Mapping[str, str]]) -> str:
    return _json([dict(message) for message in messages])


def _json(value: object) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise PassportIncomplete(
            "The answer was withheld, because a note holds what is no number.", todo="Correct the guard or the score."
        ) from None


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _plain(data: bytes) -> str:
    return base64.b64encode(data).decode()
