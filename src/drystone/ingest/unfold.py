"""Reading one batch: its documents, and the documents inside them, to any depth that the settings allow.

Guarantees: what lies inside a document (an attachment, a member of an archive) is a document of its own, named
``parent!/name``, under its parent's label; what lay there before and does not any more is removed in the same commit;
equal bytes under an equal parser and label are left as they are. What fails costs itself alone and lies in quarantine.
A part's name never is that of a document that the source lists, nor that of a part elsewhere.
Parts, bytes and depth are bounded for each document that a source lists, however they are nested.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from drystone.ingest import INSIDE
from drystone.ingest.media import UNKNOWN, Reader, media_type
from drystone.ingest.names import safe
from drystone.ingest.plan import inherited
from drystone.records import Asset, Batch, Document, Failure, Item, Label, Parsed, Quarantined, Relabel, Work

if TYPE_CHECKING:
    from drystone.ingest.plan import Plan
    from drystone.ingest.pool import Broken, Pool
    from drystone.lake import Lake
    from drystone.ledger import Ledger
    from drystone.ledger.runs import Run
    from drystone.settings import Settings


@dataclass(slots=True)
class _Open:
    """A document whose parts are to be read. ``version`` is the one that its parts name as their parent's."""

    work: Work
    version: str
    parsed: Parsed
    depth: int


class Unfolding:
    """Lives as long as the reading of one batch. ``told`` hears how many of those known so far are read."""

    def __init__(
        self, plan: Plan, run: Run, *, settings: Settings, ledger: Ledger, lake: Lake, pool: Pool,
        slow: Callable[[], Pool], told: Callable[[int, int], None],
    ) -> None:  # fmt: skip
        self.plan, self.run, self.ledger, self.lake = plan, run, ledger, lake
        self.pool, self.slow, self.told = pool, slow, told
        self.met = 0  # documents so far, those inside others too
        self.most_bytes = int(settings["ingest.max_unpacked_mb"]) << 20
        self.most_parts = int(settings["ingest.max_parts"])
        self.most_depth = int(settings["ingest.max_depth"])
        self.documents: list[Document] = []
        self.work: list[Work] = []
        self.failures: list[Failure] = []
        self.quarantined: list[Quarantined] = []
        self.relabelled: list[Relabel] = []
        self.removed: list[str] = []
        self.used: dict[str, Reader] = {}
        self.labels: dict[str, Label] = {}  # in force, of what was read

    def carry_out(self, batch: Batch) -> tuple[Batch, tuple[Document, ...], tuple[Failure, ...]]:
        """The batch with what came out of it: parts among its work, what vanished inside among what it removes."""
        plan = self.plan
        unread = plan.unread.pop(batch.key, [])
        self.failures = [failure for failure, _ in unread]
        self.relabelled = [relabel for _, work in unread for relabel in plan.keeping(work)]
        ready = []
        for work in batch.work:
            assert work.asset is not None
            data = plan.held.pop(work.document, None)
            ready.append((work, self.lake.bytes(work.asset.digest) if data is None else data))
        opened = []
        cleared: list[str] = []
        for work, parsed in self._read(ready):
            if parsed is None:
                if work.action == "change":  # its past is under the label of now
                    self.relabelled += plan.keeping(work)
                    plan.fallen += [work.document, *plan.within(work.document)]
                cleared += [name for name in plan.within(work.document) if name in plan.quarantine]
                continue
            opened.append(_Open(work, self._bring(work, parsed), parsed, 1))
        for each in opened:
            there = self._inside(each) if each.parsed.parts else set()
            before = each.work.renamed_from or each.work.document
            self.removed += [name for name in plan.within(before) if name not in there and name in plan.known]
            cleared += [name for name in plan.within(before) if name not in there and name in plan.quarantine]
        if self.quarantined or cleared:
            failed = {q.failure.document for q in self.quarantined}
            gone = [name for name in cleared if name not in failed]
            self.ledger.catalog.quarantine(batch.source, self.quarantined, gone)
        batch = replace(
            batch, work=tuple(self.work), relabelled=(*batch.relabelled, *self.relabelled),
            removed=(*batch.removed, *self.removed),
        )  # fmt: skip
        self.run.note("parse", documents=len(self.documents), failures=len(self.failures), transforms={
            plan.transform(r): f"{r.name} {r.version}" for r in self.used.values()})  # fmt: skip
        return batch, tuple(self.documents), tuple(self.failures)

    # -- one document inside another ------------------------------------------------------------------
    def _inside(self, root: _Open) -> set[str]:
        """Everything below one listed document, breadth first. Returns the names of what is there now."""
        there: set[str] = set()
        named: set[str] = set()
        queue = deque([root])
        parts = size = 0
        while queue:
            above = queue.popleft()
            ready: list[tuple[Work, bytes]] = []
            for part in above.parsed.parts:
                parts, size = parts + 1, size + len(part.data)
                work = self._part(above, part.name, part.media_type, part.title, len(part.data))
                if parts > self.most_parts or size > self.most_bytes:
                    self._fail(work, "expansion", "More lies inside than ingest.max_parts and max_unpacked_mb allow.")
                elif above.depth > self.most_depth:
                    self._fail(work, "expansion", "It lies deeper inside than ingest.max_depth allows.")
                elif work.document in self.plan.listed or work.document in named:
                    self._fail(work, "duplicate_id", "There is another document with the same name.")
                elif part.kind:
                    self._fail(work, part.kind, part.reason)
                else:
                    ready.append((work, part.data))
                named.add(work.document)
            above.parsed = replace(above.parsed, parts=())  # their bytes are held once
            digests = self.lake.keep_many([data for _, data in ready])
            fresh: list[tuple[Work, bytes]] = []
            for (work, data), digest in zip(ready, digests, strict=True):
                _, found = self.plan.reader(work, data)
                title = work.item.title or work.item.id.rpartition("/")[2]
                asset = Asset(work.document, self.plan.source, digest, len(data), found, title, "")
                work = replace(work, asset=asset)
                if self._as_it_was(work, data):
                    there |= {work.document, *self.plan.within(work.document)}
                    for name in (work.document, *self.plan.within(work.document)):
                        if name in self.plan.known:
                            self._relabel(name, work)
                else:
                    fresh.append((work, data))
            for work, parsed in self._read(fresh):
                if parsed is not None:
                    there.add(work.document)
                    version = self._bring(work, parsed, above.version, above.work.document)
                    if parsed.parts:
                        queue.append(_Open(work, version, parsed, above.depth + 1))
        return there

    def _part(self, above: _Open, name: str, said: str, title: str, size: int) -> Work:
        name = safe(name) if INSIDE in name else name  # which says where one document lies in another
        document = f"{above.work.document}{INSIDE}{name}"
        kind = media_type(name)
        item = Item(document.partition(":")[2], above.work.item.fingerprint, size,
                    kind if kind != UNKNOWN else said or UNKNOWN, title)  # fmt: skip
        before = self.plan.known.get(document)
        origin = inherited(above.work.label_origin, above.work.document)
        old = above.work.renamed_from
        renamed = f"{old}{INSIDE}{name}" if old and f"{old}{INSIDE}{name}" in self.plan.known else None
        return Work(document, item, above.work.label, origin, "change" if before else "add", renamed, inside=True)

    def _as_it_was(self, work: Work, data: bytes) -> bool:
        """Is there nothing to do about it, and about whatever lies inside it?"""
        plan, before = self.plan, self.plan.known.get(work.document)
        reader, _ = plan.reader(work, data)
        if before is None or reader is None or work.asset is None or plan.stale(work.document):
            return False
        same = before.digest == work.asset.digest and before.transform == plan.transform(reader)
        return same and plan.embeds(before.base or before.label) == plan.embeds(work.label)

    def _relabel(self, name: str, above: Work) -> None:
        before = self.plan.known[name]
        if (before.base or before.label) != above.label:
            self.relabelled.append(Relabel(name, above.label, above.label_origin))

    # -- one document ---------------------------------------------------------------------------------
    def _read(self, ready: Sequence[tuple[Work, bytes]]) -> list[tuple[Work, Parsed | None]]:
        """What each gives; ``None`` for one that failed. What needs more time gets it, after all the others."""
        from drystone.ingest.pool import Broken, Job

        jobs: list[Job] = []
        chosen: list[tuple[Work, Reader]] = []
        labels = self._in_force([work for work, _ in ready])
        given: list[tuple[Work, Parsed | None]] = []
        before = self.met
        self.met += len(ready)

        def told(done: int) -> None:
            self.told(before + done, self.met)

        for work, data in ready:
            reader, media_type = self.plan.reader(work, data)
            if not data:
                self._fail(work, "empty", "The file is empty.")
            elif reader is None:
                self._fail(work, "unsupported", f"No parser reads {media_type}.")
            else:
                self.used[reader.name] = reader
                passwords = self.plan.passwords_of(work.document)
                label = labels[work.document]
                jobs.append(Job(reader.target, work.item.id, media_type, data, passwords, label))
                chosen.append((work, reader))
                continue
            given.append((work, None))
        quick = [at for at, (_, reader) in enumerate(chosen) if reader.slow != reader.target]
        answers: dict[int, Parsed | Broken] = {}
        with self.run.time("parse"):
            if quick:
                found = self.pool.parse([jobs[at] for at in quick], told)
                answers = dict(zip(quick, found, strict=True))
            later = [at for at, (_, reader) in enumerate(chosen) if at not in answers or _slow(answers[at], reader)]
            if later:
                again = [replace(jobs[at], target=chosen[at][1].slow) for at in later]
                found = self.slow().parse(again, lambda done: told(len(ready) - len(later) + done))
                answers |= dict(zip(later, found, strict=True))
        for at, (work, _) in enumerate(chosen):
            answer = answers[at]
            if isinstance(answer, Broken):  # nobody has more time for what is slow still
                self._fail(work, "timeout" if answer.kind == "slow" else answer.kind, answer.reason)
                given.append((work, None))
            else:
                given.append((work, answer))
        return given

    def _in_force(self, works: Sequence[Work]) -> dict[str, Label]:
        """Under which labels workers see them: what people decided, about what they lie in too, counts already."""
        asked = [(w.document, w.asset.digest, _above(w), w.label) for w in works if w.asset is not None]
        outer = [(name, "", "", self.labels[name]) for name in {*map(_above, works)} & self.labels.keys()]
        found = self.ledger.catalog.in_force([*outer, *asked])[len(outer) :]
        self.labels |= zip((name for name, *_ in asked), found, strict=True)
        return self.labels

    def _bring(self, work: Work, parsed: Parsed, parent_version: str = "", parent: str = "") -> str:
        """Its version."""
        assert work.asset is not None
        transform = self.plan.transform(self.plan.chosen[work.document])
        version = self.ledger.digest("v", work.document, work.asset.digest, transform)
        self.work.append(work)
        self.documents.append(
            Document(
                name=work.document,
                source=self.plan.source,
                version=version,
                asset=work.asset,
                parsed=replace(parsed, parts=()),
                label=work.label,
                label_origin=work.label_origin,
                transform=transform,
                made_by=self.run.id,
                renamed_from=work.renamed_from,
                parent=parent,
                parent_version=parent_version,
            )
        )
        return version

    def _fail(self, work: Work, kind: str, reason: str) -> None:
        failure = Failure(work.document, kind, reason)
        self.failures.append(failure)
        self.quarantined.append(Quarantined(failure, work.item.fingerprint, self.plan.reading, _above(work)))


def _above(work: Work) -> str:
    """What it lies in; "" if in nothing."""
    return work.document.rpartition(INSIDE)[0] if work.inside else ""


def _slow(answer: Parsed | Broken, reader: Reader) -> bool:
    return not isinstance(answer, Parsed) and answer.kind == "slow" and bool(reader.slow)
