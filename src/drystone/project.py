"""``drystone.open(path)``: builds the rooms and hands them to the flows. Wiring only.

Guarantees: a second project in the same process shares nothing with the first; everything that is
written stays under the project's state folder; there is no read without an actor.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drystone import flow, settings
from drystone.errors import NotFound, ProofFailed, Refused, UsageError
from drystone.records import Actor, Answer, Choosing, Hit, Hits, Label, Relabel, Report, format_time
from drystone.records.document import COUNTS

if TYPE_CHECKING:
    import pyarrow as pa

    from drystone.ports import Embedder, Guard, Progress
    from drystone.replay import Comparison


def open(
    path: str | Path,
    *,
    env: str | None = None,
    embedder: Embedder | None = None,
    guards: Sequence[Guard] = (),
    progress: Progress | None = None,
) -> Project:
    """Open the project in the folder ``path``. Thread-safe; several may be open in one process.

    ``env`` overlays ``drystone.<env>.toml``. ``embedder`` and ``guards`` replace the configured ones.
    """
    return Project(settings.load(Path(path), env), embedder=embedder, guards=guards, progress=progress)


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a streamed answer. Nothing is streamed before its answer is sealed; the last part has it."""

    text: str
    answer: Answer | None = None


class Project:
    """One project: its rooms, opened when first needed."""

    def __init__(
        self,
        configuration: settings.Settings,
        *,
        embedder: Embedder | None = None,
        guards: Sequence[Guard] = (),
        progress: Progress | None = None,
    ) -> None:
        self.settings = configuration
        self.folder = configuration.folder
        self._embedder = embedder
        self._guards = guards
        self._progress = progress
        self._lock = threading.RLock()
        self._built: flow.House | None = None

    # -- the rooms ---------------------------------------------------------------------------------
    @property
    def house(self) -> flow.House:
        with self._lock:
            if self._built is None:
                self._built = self._build()
            return self._built

    def _build(self) -> flow.House:
        from drystone.answer import Writer
        from drystone.guard import Gate
        from drystone.index import Index
        from drystone.ingest import Ingest
        from drystone.lake import Lake
        from drystone.ledger import Ledger
        from drystone.models import Models
        from drystone.policy import Policy
        from drystone.retrieve import Retriever

        s = self.settings
        policy = Policy.open(self.folder, settings=s)
        ledger = Ledger.open(s.state, project=str(s["project.name"]), settings=s)
        lake = Lake(s.state, ledger=ledger, settings=s)
        index = Index(
            lake=lake, ledger=ledger, policy=policy, settings=s, embedder=self._embedder, progress=self._progress
        )
        models = Models(settings=s, policy=policy)
        ingest = Ingest(settings=s, ledger=ledger, lake=lake, policy=policy, progress=self._progress)
        return flow.House(
            ledger=ledger,
            policy=policy,
            lake=lake,
            models=models,
            ingest=ingest,
            index=index,
            retrieve=Retriever(
                ledger=ledger, lake=lake, index=index, policy=policy, settings=s, look=ingest.look, live=ingest.live
            ),
            guard=Gate(ledger=ledger, policy=policy, settings=s, guards=self._guards, look=ingest.look),
            answer=Writer(index=index, settings=s, models=models),
        )

    def close(self) -> None:
        with self._lock:
            built, self._built = self._built, None
        if built is not None:
            built.models.close()
            built.ingest.close()
            built.retrieve.close()
            built.lake.close()
            built.ledger.close()

    def __enter__(self) -> Project:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def actor(self, name: str | None = None) -> Actor:
        """``name``, else ``DRYSTONE_ACTOR``, else the operating-system user."""
        return self.house.policy.actor(name)

    # -- the flows ---------------------------------------------------------------------------------
    def ingest(self, *sources: str, actor: str | None = None, allow_mass_removal: bool = False) -> Report:
        """Bring sources up to date (all of them, if none is named)."""
        who = self.actor(actor)
        chosen = [self.settings.source(name) for name in sources] or list(self.settings.sources)
        if not chosen:
            raise UsageError(
                "This project has no sources.",
                looked=f"We read {self.folder / settings.FILE}.",
                todo="Add a [[sources]] block.",
            )
        reports = []
        for source in chosen:
            report = flow.ingest(source, house=self.house, actor=who, allow_mass_removal=allow_mass_removal)
            alarm = self._quarantined(source.name)["alarm"]
            reports.append(replace(report, notes=(alarm, *report.notes)) if alarm else report)
        return total(reports, tuple(s.name for s in chosen))

    # -- quarantine ----------------------------------------------------------------------------------
    def quarantine(self, *sources: str, actor: str | None = None) -> list[dict[str, Any]]:
        """What could not come in, of the sources that the actor may ingest (all of them, if none is named).

        Each with ``document``, ``kind``, ``reason``, ``since``, ``inside`` (what it lies in), ``ignored`` and
        ``ignored_by``.
        """
        who = self.actor(actor)
        chosen = [self.settings.source(name) for name in sources] or list(self.settings.sources)
        found = []
        for source in chosen:
            if sources:
                self.house.policy.require(who, "ingest", owner=source.owner)
            elif not self.house.policy.decide(who, "ingest", owner=source.owner):
                continue
            found += [
                {
                    "document": name, "source": source.name, "kind": lies.failure.kind, "reason": lies.failure.reason,
                    "since": format_time(lies.since), "inside": lies.parent, "ignored": lies.ignored,
                    "ignored_by": lies.ignored_by,
                }
                for name, lies in self.house.ledger.catalog.failures(source.name).items()
            ]  # fmt: skip
        return found

    def ignore(self, document: str, reason: str, *, actor: str | None = None) -> None:
        """Leave a document in quarantine and count it no more, until its bytes change. An empty reason undoes it."""
        self._lying(document, self.actor(actor))
        with self.house.ledger.run("quarantine", actor=self.actor(actor), document=document) as run:
            self.house.ledger.catalog.ignore(document, reason.strip(), run.actor.name)
            run.close(action="ignore" if reason.strip() else "count again", reason=reason.strip())

    def retry(self, document: str, *, parser: str = "", password: str = "", actor: str | None = None) -> Report:
        """Read a document again, by another parser or with a password of its own, from now on.

        ``parser``: one that is installed; empty: the one that name and bytes choose. ``password``: where it lies
        (``env:NAME``, ``file:PATH``), which needs the right ``administer``. It need not be in quarantine: one that came
        in badly may be read otherwise too.
        """
        from drystone.ingest.media import readers

        who = self.actor(actor)
        source = self._lying(document, who, or_there=True)
        if parser and parser not in readers():
            raise UsageError(f"There is no parser {parser!r}.", looked=f"Installed: {', '.join(readers())}.")
        if password:  # or a source's owner could test guesses about this machine's files and environment
            self.house.policy.require(who, "administer")
            self.settings.secret(password, "the password")
        with self.house.ledger.run("quarantine", actor=who, document=document) as run:
            self.house.ledger.catalog.choose(document, Choosing(parser, password), who.name)
            run.close(action="retry", parser=parser, password=password)
        return self.ingest(source, actor=who.name)

    def _lying(self, document: str, who: Actor, *, or_there: bool = False) -> str:
        """The source of a document in quarantine that the actor may ingest; what they may not does not seem to be."""
        name = document.partition(":")[0]
        source = next((s for s in self.settings.sources if s.name == name), None)
        if source is not None and self.house.policy.decide(who, "ingest", owner=source.owner):
            there = or_there and self.house.ledger.catalog.document(_written(document)) is not None
            if there or document in self.house.ledger.catalog.failures(name):
                return name
        raise NotFound(
            f"There is no document {document!r} in quarantine.", todo="`drystone quarantine list` names them."
        )

    def _quarantined(self, source: str) -> dict[str, Any]:
        """Counts of one source, and what must be said loudly, or an empty text."""
        catalog = self.house.ledger.catalog
        lies = catalog.failures(source).values()
        kinds = Counter(q.failure.kind for q in lies if not q.ignored)
        (documents, noted), failed = catalog.counts(source), sum(kinds.values())
        share, alarm = failed / max(documents + failed, 1), ""
        if share > float(self.settings["ingest.quarantine_share"]):
            what = ", ".join(f"{kind} {n}" for kind, n in kinds.most_common())
            alarm = (
                f"WARNING: {failed} of {documents + failed} documents of {source} ({share:.0%}) are in quarantine "
                f"and answer nothing: {what}. `drystone quarantine list` names them."
            )
        return {
            "documents": documents, "quarantined": failed, "ignored": len(lies) - failed, "kinds": dict(kinds),
            "with_notes": noted, "alarm": alarm,
        }  # fmt: skip

    def search(
        self,
        query: str,
        *,
        actor: str | None = None,
        purpose: str | None = None,
        limit: int | None = None,
        as_of: int | None = None,
    ) -> list[Hit]:
        """Permitted hits, best first."""
        return list(self.hits(query, actor=actor, purpose=purpose, limit=limit, as_of=as_of).hits)

    def hits(
        self,
        query: str,
        *,
        actor: str | None = None,
        purpose: str | None = None,
        limit: int | None = None,
        as_of: int | None = None,
    ) -> Hits:
        """As :meth:`search`, with what else is known: whether it was exact, the commit, notes."""
        return flow.search(
            query,
            house=self.house,
            actor=self.actor(actor),
            purpose=purpose or self.settings.purpose,
            limit=int(self.settings["retrieve.limit"]) if limit is None else limit,
            as_of=as_of,
        )

    def ask(
        self,
        question: str,
        *,
        actor: str | None = None,
        purpose: str | None = None,
        assistant: str | None = None,
        mode: str | None = None,
    ) -> Answer:
        """An answer with citations and a passport, or a refusal with one."""
        chosen = self.settings.assistant(assistant)
        return flow.ask(
            question,
            house=self.house,
            actor=self.actor(actor),
            purpose=purpose or (chosen.purpose if chosen and chosen.purpose else self.settings.purpose),
            assistant=chosen.name if chosen else None,
            mode=mode,
        )

    def stream(self, question: str, **options: Any) -> Iterator[Part]:
        """The answer sentence by sentence. Nothing leaves before the whole is checked and sealed."""
        answer = self.ask(question, **options)
        pieces = answer.text.splitlines(keepends=True) or [""]
        for piece in pieces[:-1]:
            yield Part(piece)
        yield Part(pieces[-1], answer)

    async def aask(self, question: str, **options: Any) -> Answer:
        return await asyncio.to_thread(lambda: self.ask(question, **options))

    async def asearch(self, query: str, **options: Any) -> list[Hit]:
        return await asyncio.to_thread(lambda: self.search(query, **options))

    # -- the record --------------------------------------------------------------------------------
    def passport(self, answer: Answer | str, *, actor: str | None = None, annex: bool = False) -> PassportView:
        """The passport of an answer: its own asker may read it, others need ``read_passport``."""
        ref = answer if isinstance(answer, str) else answer.passport
        who = self.actor(actor) if actor is not None or isinstance(answer, str) else None
        if annex:
            self.house.policy.require(who or self.actor(None), "passport_audit")
        try:
            bundle = self.house.ledger.passport(_written(ref), annex=annex)
        except NotFound:
            raise _no_such(ref) from None
        if who is not None:
            owner = f"user:{predicate(bundle)['actor']['name']}"
            if not self.house.policy.decide(who, "read_passport", owner=owner):
                raise _no_such(ref)
        return PassportView(ref, bundle, self)

    def reach(self, ref: str, *, actor: str | None = None) -> list[Any]:
        """Everything made from it. Needs the right ``audit``; without it nothing seems to exist."""
        if not self.house.policy.decide(self.actor(actor), "audit"):
            raise _no_such(ref)
        found = self.house.ledger.reach(_written(ref))
        if not found and self.house.ledger.catalog.document(ref) is None:
            raise _no_such(ref)
        return found

    def why(self, about: str, document: str, *, actor: str | None = None, purpose: str | None = None) -> dict[str, Any]:
        """May ``about`` read ``document``, and which clause decides."""
        asker, subject = self.actor(actor), self.actor(about)
        state = self.house.ledger.catalog.document(_written(document))
        label = None if state is None else state.label
        if label is not None and (said := self.house.ingest.look([document])):  # its own source, asked now
            theirs = said[document]
            label = None if theirs is None else label.join(theirs)
        return self.house.policy.why(
            asker,
            subject,
            document=document,
            label=label,
            origin="" if state is None else state.origin,
            at=self.house.ledger.now(),
            purpose=purpose or self.settings.purpose,
        )

    def relabel(
        self, document: str, changes: Mapping[str, Any], *, reason: str = "", actor: str | None = None
    ) -> Label:
        """A dated override that survives ingestion and embeds nothing.

        ``changes`` are raw label parts; what is not named stays. Loosening needs the right
        ``declassify`` and a reason.
        """
        house, who = self.house, self.actor(actor)
        state = house.ledger.catalog.document(_written(document))
        if state is None:
            raise _no_such(document)
        owner = next((s.owner for s in self.settings.sources if s.name == state.source), None)
        if not house.policy.decide(who, "relabel", owner=owner):
            if state.label.flows_to(who.sink(self.settings.purpose), house.ledger.now()):
                house.policy.require(who, "relabel", owner=owner)
            raise _no_such(document)
        new = Label.parse({**state.label.to_dict(), **changes})
        if not new.at_least(state.label):
            house.policy.require(who, "declassify", owner=owner)
            if not reason.strip():
                raise Refused(
                    f"The new label of {document} is looser than the old one, and there is no reason.",
                    todo='Say why with --reason "...".',
                )
        with house.ledger.run("relabel", actor=who, document=document) as run:
            run.relabel(
                [Relabel(document, new, f"relabelled by {who.name}", override=True, seen=state.label)], reason=reason
            )
            run.close()
        return new

    def snapshot(self, name: str, *, actor: str | None = None, purpose: str | None = None) -> Snapshot:
        """A commit by name (``helpdesk@7``): computed as of then, released under the labels of now."""
        project, _, number = name.rpartition("@")
        if project not in ("", self.settings["project.name"]) or not re.fullmatch("[0-9]{1,18}", number):
            raise UsageError(
                f"{name!r} is no snapshot of this project.",
                todo=f"Write {self.settings['project.name']}@NUMBER; `drystone status` shows the newest.",
            )
        pointer = self.house.ledger.catalog.pointer()
        if int(number) > pointer.commit:
            raise NotFound(f"There is no commit {number}.", looked=f"The newest is {pointer.commit}.")
        who = self.actor(actor)
        self.house.policy.require(who, "search", purpose=purpose or self.settings.purpose)
        return Snapshot(self, int(number), who, purpose or self.settings.purpose)

    def status(self, *, actor: str | None = None) -> dict[str, Any]:
        """Freshness, sizes, quarantine, generations. Counts need the right ``audit`` or ``administer``."""
        house, who = self.house, self.actor(actor)
        pointer = house.ledger.catalog.pointer()
        found: dict[str, Any] = {
            "project": self.settings["project.name"],
            "state": str(self.settings.state),
            "commit": pointer.commit,
            "generation": pointer.generation,
            "sizes": {},
            "sources": [],
        }
        if house.policy.decide(who, "audit") or house.policy.decide(who, "administer"):
            found["sizes"] = house.lake.sizes()
            found["sources"] = [
                {
                    "name": source.name,
                    **self._quarantined(source.name),
                    "last_ingested": house.ledger.last_run("ingest", source.name),
                }
                for source in self.settings.sources
            ]
        else:
            found["notes"] = ["counts and sizes need the right audit or administer"]
        return found

    def check_model(self, name: str) -> dict[str, Any]:
        """Score a configured model on the published grounding set; ``auto`` uses it only if it passes."""
        from drystone.answer.grounding import check_model

        house = self.house
        return check_model(
            name, models=house.models, writer=house.answer, state=self.settings.state, progress=self._progress
        )

    def replay(self, ref: str, *, actor: str | None = None) -> Comparison:
        """Ask again as of then and compare; what was said then is shown only under the rights of now."""
        from drystone.replay import replay

        self.passport(ref, actor=actor or self.actor(None).name)
        return replay(ref, house=self.house, actor=self.actor(actor))


@dataclass(frozen=True, slots=True)
class PassportView:
    """A passport bundle, as stored, with the log part computed now."""

    ref: str
    bundle: Mapping[str, Any]
    project: Project

    @property
    def statement(self) -> dict[str, Any]:
        """What the passport says: the signed statement's predicate (unchecked; see :meth:`verify`)."""
        return predicate(self.bundle)

    def verify(self) -> tuple[str, ...]:
        """Check it with the small verifier and the project's public key. Says what holds, or raises ``ProofFailed``."""
        return check(self.bundle, public_key(self.project.settings.state), self.ref)

    def to_dict(self) -> dict[str, Any]:
        return dict(self.bundle)


class Snapshot:
    """A commit, read by one actor: ``arrow("chunks")``, ``polars("documents")``, ``duckdb()``."""

    def __init__(self, project: Project, commit: int, actor: Actor, purpose: str) -> None:
        self._project, self.commit, self._actor, self._purpose = project, commit, actor, purpose

    @property
    def versions(self) -> list[int]:
        """Those that the actor may read by the rights of now, each time anew: a snapshot may be held for long."""
        house, who = self._project.house, self._project.actor(self._actor.name)
        house.policy.require(who, "search", purpose=self._purpose)
        return house.retrieve.permitted_versions(who, self._purpose, as_of=self.commit)

    def arrow(self, table: str) -> pa.Table:
        if table not in ("documents", "chunks"):
            raise UsageError(f"There is no table {table!r} in a snapshot.", looked="There are: documents, chunks.")
        with self._project.house.lake.reader() as reader:
            return reader.arrow(table, self.versions)

    def polars(self, table: str) -> Any:
        from drystone.errors import EngineMissing

        try:
            import polars
        except ImportError:
            raise EngineMissing("polars is not installed.", todo="pip install polars, or use .arrow().") from None
        return polars.from_arrow(self.arrow(table))

    def duckdb(self) -> Any:
        """A DuckDB connection in memory that holds ``documents`` and ``chunks``."""
        from drystone.errors import EngineMissing

        try:
            import duckdb
        except ImportError:
            raise EngineMissing("duckdb is not installed.", todo="pip install duckdb, or use .arrow().") from None
        connection = duckdb.connect()
        for table in ("documents", "chunks"):
            connection.register(table, self.arrow(table))
        return connection


def total(reports: Sequence[Report], names: tuple[str, ...]) -> Report:
    """Several sources' reports as one."""
    found = reports[0]
    for r in reports[1:]:
        found = replace(
            found,
            **{n: getattr(found, n) + getattr(r, n) for n in COUNTS},
            commit=r.commit if r.commit is not None else found.commit,
            refusals=found.refusals + r.refusals,
            failures=found.failures + r.failures,
            skips=found.skips + r.skips,
            notes=found.notes + r.notes,
        )
    return replace(found, sources=names)


def predicate(bundle: Mapping[str, Any]) -> dict[str, Any]:
    """The predicate of a bundle's statement, unchecked."""
    try:
        found: dict[str, Any] = json.loads(base64.b64decode(bundle["statement"]["payload"]))["predicate"]
    except (KeyError, TypeError, ValueError):
        raise ProofFailed("This is no passport.", todo="Use what `drystone passport show --json` prints.") from None
    return found


def check(bundle: Mapping[str, Any], key: bytes, ref: str) -> tuple[str, ...]:
    """Check a bundle with the small verifier and a PEM public key. Raises ``ProofFailed``."""
    from drystone import verify

    said: list[str] = []
    try:
        verify.verify(json.dumps(bundle).encode(), key, say=said.append)
    except verify.Failed as failure:
        raise ProofFailed(
            f"{ref} does not verify: {failure}.", todo="Do not rely on it; get it again from whoever issued it."
        ) from None
    return tuple(" ".join(line.split()) for line in said)


def public_key(state: Path) -> bytes:
    found = sorted((state / "keys").glob("*.pub"))
    if len(found) != 1:
        raise NotFound(f"There is no single public key in {state / 'keys'}.", todo="Name one with --key PUB.")
    return found[0].read_bytes()


def _written(ref: str) -> str:
    """``ref``, unless it is no text that could be written anywhere: nothing is called so."""
    try:
        ref.encode()
    except UnicodeEncodeError:
        raise _no_such(ascii(ref)) from None
    return ref


def _no_such(ref: str) -> NotFound:
    return NotFound(
        f"There is no {ref}, or you may not know of it.",
        todo="Write a document as source:path (`drystone search` shows yours), a passport as passport:ID.",
    )


__all__ = ["Part", "PassportView", "Project", "Snapshot", "open"]
