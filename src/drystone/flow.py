"""The two main flows, top to bottom, one room a line. A stack trace reads like this page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drystone.errors import Refused
from drystone.records import Actor, Answer, Hits, Report

if TYPE_CHECKING:
    from drystone.answer import Writer
    from drystone.guard import Gate
    from drystone.index import Index
    from drystone.ingest import Ingest
    from drystone.lake import Lake
    from drystone.ledger import Ledger
    from drystone.models import Models
    from drystone.policy import Policy
    from drystone.retrieve import Retriever
    from drystone.settings import SourceConfig


@dataclass(frozen=True, slots=True)
class House:
    """The rooms that the flows use. ``project.py`` builds it."""

    ledger: Ledger
    policy: Policy
    lake: Lake
    models: Models
    ingest: Ingest
    index: Index
    retrieve: Retriever
    guard: Gate
    answer: Writer


def ingest(source: SourceConfig, *, house: House, actor: Actor, allow_mass_removal: bool = False) -> Report:
    """Bring a source in. Everything below can be traced back to these bytes."""
    decision = house.policy.require(actor, "ingest", owner=source.owner)
    with house.ledger.run("ingest", actor=actor, source=source.name, decision=decision) as run:
        if house.index.stale:  # another embedding model: its generation is built beside the old, switched in one commit
            house.index.build_generation(run)
        permits = house.index.permits  # the embedder is a sink too
        plan = house.ingest.plan(source, run, allow_mass_removal=allow_mass_removal, embeds=permits)  # labelled
        report = plan.report
        for batch, documents, failures in house.ingest.documents(plan, run):  # bytes kept; parsed in limited workers
            rows, embedded = house.index.rows(documents, batch, run)  # embeds only what changed; loses no row
            pointer = house.lake.commit(rows, run)  # one number over all tables: helpdesk@7
            report = plan.count(report, batch, documents, failures, embedded, pointer)
        run.close(report=report)
        return report


def search(question: str, *, house: House, actor: Actor, purpose: str, limit: int, as_of: int | None = None) -> Hits:
    """Permitted hits. The same admission and the same look before release as an answer."""
    with house.ledger.run("search", actor=actor, purpose=purpose) as run:
        request = house.guard.admit(question, actor, run, purpose=purpose, action="search", limit=limit)
        hits = house.retrieve.search(request, actor, run, as_of=as_of)
        released = house.guard.release_hits(hits, actor, run, purpose=purpose, as_of=as_of)
        run.close()
        return released


def ask(
    question: str, *, house: House, actor: Actor, purpose: str, assistant: str | None = None, mode: str | None = None
) -> Answer:
    """Answer one question and leave a passport. A refusal leaves one too."""
    with house.ledger.question(question, actor=actor, purpose=purpose, assistant=assistant) as run:
        try:
            request = house.guard.admit(question, actor, run, purpose=purpose, assistant=assistant, mode=mode)
            hits = house.retrieve.search(request, actor, run)  # permission is inside the query
            prompt = house.answer.compose(request, hits, run)  # the exact text a model will see, with its label
            draft = house.models.generate(prompt, run, purpose=purpose)  # an endpoint the label may flow to
            checked = house.answer.check(draft, prompt, run)  # every citation holds
            released = house.guard.release(checked, actor, run, purpose=purpose)  # permissions looked at once more
            return run.seal(released)  # Answer with its passport, or refused as incomplete
        except Refused as refusal:
            return run.refuse(refusal)
