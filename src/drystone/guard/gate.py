"""The two doors: ``admit`` before anything is done, ``release`` before anything leaves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, cast

from drystone.errors import Refused, UsageError
from drystone.guard.question import check_limit, check_purpose, check_question
from drystone.records import Actor, Checked, Classification, Decision, Evidence, Hit, Hits, Label, Request, Usage
from drystone.records.answer import REFUSAL, Mode

if TYPE_CHECKING:
    from drystone.ledger import Ledger
    from drystone.ledger.runs import Run
    from drystone.policy import Policy
    from drystone.ports import Guard, Look
    from drystone.settings import Settings

Action = Literal["ask", "search"]


class Gate:
    """What may come in and go out. ``guards`` give signals; none installed is said as ``not_run``."""

    def __init__(
        self, *, ledger: Ledger, policy: Policy, settings: Settings, guards: Sequence[Guard] = (),
        look: Look | None = None,
    ) -> None:  # fmt: skip
        """``look`` asks live sources who may read a document now."""
        self._ledger, self._policy, self._settings, self._guards = ledger, policy, settings, tuple(guards)
        self._look_at = look

    # -- in ----------------------------------------------------------------------------------------
    def admit(
        self,
        question: str,
        actor: Actor,
        run: Run,
        *,
        purpose: str,
        action: Action = "ask",
        assistant: str | None = None,
        mode: str | None = None,
        limit: int | None = None,
    ) -> Request:
        """Let a question in. Notes ``admit``.

        Raises ``UsageError`` for what is not a question, and ``Refused`` where the policy says no. A search is
        over every source unless it names an assistant; a question goes to the first assistant, if there is one.
        """
        with run.time("admit"):
            text = check_question(question, int(self._settings["answer.max_question_chars"]))
            purpose = check_purpose(purpose)
            limit = check_limit(limit if limit is not None else self._settings["retrieve.limit"])
            chosen = None if assistant is None and action == "search" else self._settings.assistant(assistant)
            mode = mode or (chosen.mode if chosen else "auto")
            if mode not in ("auto", "quoted", "generated"):
                raise UsageError(f"There is no mode {mode!r}.", todo="Use auto, quoted or generated.")
            label = Label(
                readers=frozenset({frozenset({f"user:{actor.name}"})}),
                classification=chosen.input_classification if chosen else Classification.internal,
                regions=frozenset({actor.region}),
            )
            now, decision = self._look(actor, action, purpose)
            guards = self._signals(text, "question") if decision else not_run()
            asked = {
                "mode": mode,
                "sources": None if chosen is None or chosen.sources is None else list(chosen.sources),
                "models": list(chosen.models) if chosen else [m.name for m in self._settings.models],
                "limit": limit,
            }
            run.note("admit", decision=decision, guards=guards, label=label, asked=asked)
            _stop(now, action, decision, guards)
            return Request(
                text=text,
                label=label,
                purpose=purpose,
                mode=cast(Mode, mode),
                sources=chosen.sources if chosen else None,
                models=chosen.models if chosen else tuple(m.name for m in self._settings.models),
                assistant=chosen.name if chosen else None,
                limit=limit,
            )

    # -- out ---------------------------------------------------------------------------------------
    def release(self, checked: Checked, actor: Actor, run: Run, *, purpose: str) -> Checked:
        """Look once more, then let an answer out or withdraw it whole. Notes ``release``.

        A generated answer rests on all that the model saw, not only on what it cites. What is withdrawn
        looks to the asker like any question without evidence; the note says how much was withdrawn.
        """
        with run.time("release"):
            now, decision = self._look(actor, "ask", purpose)
            pointer = self._ledger.catalog.pointer()
            resting: tuple[Evidence, ...] = checked.evidence if checked.refused is None else ()
            if checked.refused is None and checked.mode == "generated":
                resting += tuple(run.notes["compose"]["prompt"].evidence)
            hits = {e.hit.chunk: e.hit for e in resting}
            gone = hits.keys() - self.permitted(hits.values(), now, purpose)
            guards = self._signals(checked.text, "answer") if decision and resting and not gone else not_run()
            run.note(
                "release", decision=decision, guards=guards, commit=pointer.commit, sequence=pointer.sequence,
                withdrawn=len(gone),
            )  # fmt: skip
            _stop(now, "ask", decision, guards)
            if gone:
                label = run.notes["admit"]["label"]
                return Checked(REFUSAL, (), (), "refused", refused="no_evidence", usage=Usage(), label=label)
            return checked

    def release_hits(self, hits: Hits, actor: Actor, run: Run, *, purpose: str, as_of: int | None = None) -> Hits:
        """Look once more and drop what may no longer be seen. Notes ``release``.

        ``as_of``: the hits are of that past commit; a document that was removed since is judged by its last label.
        """
        with run.time("release"):
            now, decision = self._look(actor, "search", purpose)
            pointer = self._ledger.catalog.pointer()
            offered = {h.chunk: h for h in (*hits.hits, *(e.hit for e in hits.evidence))}
            kept = self.permitted(offered.values(), now, purpose, past=as_of is not None) if decision else set()
            run.note(
                "release", decision=decision, guards=not_run(), commit=pointer.commit, sequence=pointer.sequence,
                withdrawn=len(offered) - len(kept),
            )  # fmt: skip
            _stop(now, "search", decision, [])
            return replace(
                hits,
                hits=tuple(h for h in hits.hits if h.chunk in kept),
                evidence=tuple(e for e in hits.evidence if e.hit.chunk in kept),
            )

    # -- looking -------------------------------------------------------------------------------------
    def _look(self, actor: Actor, action: Action, purpose: str) -> tuple[Actor, Decision]:
        """The asker with the rights of now, and what the policy of now says."""
        self._policy.refresh()
        now = self._policy.renew(actor)
        return now, self._policy.decide(now, action, purpose=purpose)

    def permitted(self, hits: Iterable[Hit], actor: Actor, purpose: str, *, past: bool = False) -> set[str]:
        """Chunks whose document is there now, with a label of now, its source's own included, that flows to the asker.

        ``past``: a document that was removed since counts too, under the last label it had.
        """
        at, sink, hits = self._ledger.now(), actor.sink(purpose), tuple(hits)
        names = sorted({hit.document for hit in hits})
        said = {} if self._look_at is None else self._look_at(names)
        kept = set()
        for name in names:
            state = self._ledger.catalog.document(name)
            if state is not None:
                labels = [state.label, *([said[name]] if name in said else [])]
            else:
                labels = [self._ledger.catalog.last_label(name) if past else None]
            if all(label is not None and label.flows_to(sink, at) for label in labels):
                kept.add(name)
        return {hit.chunk for hit in hits if hit.document in kept}

    def _signals(self, text: str, where: str) -> list[dict[str, Any]]:
        """What each guard says. One that fails is written ``failed``, and then nothing passes."""
        out: list[dict[str, Any]] = []
        for guard in self._guards:
            said: dict[str, Any] = {"guard": guard.name, "version": guard.version, "outcome": "ran", "scores": {}}
            try:
                said["scores"] = {str(k): float(v) for k, v in guard.check(text, where=where).items()}
            except Exception as error:  # anybody's code: whatever it raises, we must not go on as if it had passed
                said |= {"outcome": "failed", "error": getattr(error, "code", type(error).__name__)}
            out.append(said)
        return out or not_run()


def not_run() -> list[dict[str, Any]]:
    """No guard looked. Never to be read as passed."""
    return [{"guard": None, "version": None, "outcome": "not_run", "scores": {}}]


def _stop(actor: Actor, action: Action, decision: Decision, guards: Sequence[dict[str, Any]]) -> None:
    if not decision:
        raise Refused(
            f"{actor.name} may not {action} here.",  # which policy decided is in the auditor's annex
            looked="" if actor.known else f"users.toml does not name {actor.name}.",
            todo="Ask one of group:owners." if actor.known else "An owner can add them to users.toml.",
        )
    if any(guard["outcome"] == "failed" for guard in guards):
        raise Refused("A guard could not look, so nothing passes.", todo="See the run's record.", reason="unavailable")
