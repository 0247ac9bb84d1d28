"""Ask again as of then, and compare.

Guarantees: evidence, order, scores (within 1e-6), prompt digest and decisions are computed with the commit, labels,
groups and purpose of then; the text must be equal in quoted mode, elsewhere its equality is reported; nothing of what
was said or found then is shown unless the asker may see it now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drystone.errors import NotFound, ProofFailed
from drystone.records import Actor, Classification, Decision, Hit, Label, Request

if TYPE_CHECKING:
    from drystone.flow import House

TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was compared. ``note`` says what is different, never with text of a document."""

    what: str
    equal: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """``equal``: everything that must be equal is. ``text``: that of then, or ``None`` if it may not be shown now."""

    ref: str
    commit: int
    equal: bool
    compared: tuple[Line, ...]
    text: str | None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "passport": self.ref,
            "commit": self.commit,
            "equal": self.equal,
            "compared": [{"what": c.what, "equal": c.equal, "note": c.note} for c in self.compared],
            "text": self.text,
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        out = [f"{self.ref}: {'equal' if self.equal else 'DIFFERS'}, asked again as of commit {self.commit}"]
        out += [
            f"  {'equal  ' if c.equal else 'differs'} {c.what}{'  ' + c.note if c.note else ''}" for c in self.compared
        ]
        out += [f"  note: {note}" for note in self.notes]
        return out


def replay(ref: str, *, house: House, actor: Actor) -> Comparison:
    """Compute again what the passport ``ref`` says; ``actor`` is who wants to know, now."""
    then = house.ledger.replayable(ref)
    if then is None:
        raise NotFound(
            f"The question behind {ref} is not kept, so it cannot be asked again.",
            looked="The setting ledger.keep_texts was off then, or the text was erased.",
        )
    if then["passport"] != ref:
        raise ProofFailed(f"What is kept beside {ref} belongs to another passport.", todo="Compare with a backup.")
    asker = Actor(
        name=then["actor"]["name"],
        principals=frozenset(then["actor"]["principals"]),
        clearance=Classification[then["actor"]["clearance"]],
        region=then["actor"]["region"],
        purposes=None if then["actor"]["purposes"] is None else frozenset(then["actor"]["purposes"]),
        proven=then["actor"]["proven"],
    )
    request = Request(
        text=then["question"],
        label=Label.parse(then["request"]["label"]),
        purpose=then["purpose"],
        mode=then["request"]["mode"],
        sources=None if then["request"]["sources"] is None else tuple(then["request"]["sources"]),
        models=tuple(then["request"]["models"]),
        assistant=then["assistant"],
        limit=then["request"]["limit"],
    )
    with house.ledger.run("replay", actor=actor, passport=ref) as run:
        hits = house.retrieve.search(request, asker, run, as_of=then["commit"], rights_at=then["at"])
        prompt = house.answer.compose(request, hits, run)
        draft = house.models.generate(prompt, run, purpose=request.purpose)
        checked = house.answer.check(draft, prompt, run)
        policy = "" if then["policy"] == house.policy.digest else "decided then by another policy set than today's"
        compared = (
            _list("hits and their order", [c for c, _ in then["hits"]], [h.chunk for h in hits.hits]),
            _scores("scores", [s for _, s in then["hits"]], [h.score for h in hits.hits]),
            _list(
                "evidence", [e[:3] for e in then["evidence"]], [[e.hit.chunk, e.start, e.end] for e in prompt.evidence]
            ),
            _scores("evidence's scores", [e[3] for e in then["evidence"]], [e.score for e in prompt.evidence]),
            Line(
                "prompt", (then["messages"], then["template"]) == ([dict(m) for m in prompt.messages], prompt.template)
            ),
            Line("policy", not policy, policy),
            _decisions(then, policy, house.policy.decide(asker, "ask", purpose=request.purpose)),
            Line("mode", then["mode"] == checked.mode),
            Line("text", then["text"] == checked.text),
        )
        found = [*hits.hits, *(evidence.hit for evidence in prompt.evidence)]
        released = _may_see_now({e[0] for e in then["evidence"]}, found, then["commit"], house, actor, request.purpose)
        free = {"policy"} | ({"decisions"} if policy else set()) | ({"text"} if then["mode"] == "generated" else set())
        must = [c for c in compared if c.what not in free]
        notes = [] if then["mode"] != "generated" else ["the text is a model's; its equality is reported, not demanded"]
        if not released:
            notes.append("the text is not shown: not everything it rests on may be seen by you now")
        run.close(equal=all(c.equal for c in must))
    return Comparison(
        ref, then["commit"], all(c.equal for c in must), compared, then["text"] if released else None, tuple(notes)
    )


def _may_see_now(chunks: set[str], found: list[Hit], commit: int, house: House, actor: Actor, purpose: str) -> bool:
    """May the actor ask at all, and see each of these chunks? One that is not found any more may not be seen.

    The labels of then count too: its name may be that of another document by now.
    """
    house.policy.refresh()
    now, at = house.policy.renew(actor), house.ledger.now()
    states = {name: house.ledger.catalog.document(name, commit) for name in {hit.document for hit in found}}
    may = {name for name, state in states.items() if state and state.label.flows_to(now.sink(purpose), at)}
    hits = [hit for hit in found if hit.document in may]
    return bool(house.policy.decide(now, "ask", purpose=purpose)) and chunks <= house.guard.permitted(
        hits, now, purpose, past=True
    )


def _decisions(then: dict[str, Any], other: str, now: Decision) -> Line:
    """Under the same policy set the same decisions. Under another one they cannot be asked again, and that is said."""
    if other:
        return Line("decisions", False, "not asked again: " + other)
    return Line("decisions", all(decision == now.to_dict() for decision in then["decisions"]))


def _list(what: str, then: list[Any], now: list[Any]) -> Line:
    if then == now:
        return Line(what, True)
    return Line(
        what, False, f"{len(then)} then, {len(now)} now, {sum(a != b for a, b in zip(then, now, strict=False))} differ"
    )


def _scores(what: str, then: list[float], now: list[float]) -> Line:
    if len(then) != len(now):
        return Line(what, False, f"{len(then)} then, {len(now)} now")
    worst = max((abs(a - b) for a, b in zip(then, now, strict=True)), default=0.0)
    return Line(what, worst <= TOLERANCE, f"largest difference {worst:.1e}")
