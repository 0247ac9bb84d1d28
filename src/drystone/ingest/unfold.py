"""Reading one batch: its documents, and the documents inside them, to any depth that the settings allow.

Guarantees: what lies inside a document (an attachment, a member of an archive) is a document of its own, named
``parent!/name``, under its parent's label; what lay there before and does not any more is removed in the same commit;
equal bytes under an equal parser and label are left as they are. What fails costs itself alone and lies in quarantine.
A part's name never is that of a document that the source lists, nor that of a part elsewhere.
Parts, bytes and depth are bounded for each document that a source lists, however they are nested; memory holds what
came out of one document at a time.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
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


TOGETHER = 32 << 20  # bytes of documents that wait for their parser at a time
Kept = tuple[Work, str, str]  # a part; why it cannot be read: kind and reason, or ""


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
        self.parts: dict[str, list[Kept]] = {}  # of what was read, by document; their bytes lie in the lake
        self.roots: dict[str, tuple[str, int]] = {}  # of each part: the listed document, and how deep in it
        self.spent: dict[str, list[int]] = {}  # parts and bytes, by listed document
        self.named: set[str] = set()
        self.lock = threading.Lock()  # answers come in several threads

    def carry_out(self, batch: Batch) -> tuple[Batch, tuple[Document, ...], tuple[Failure, ...]]:
        """The batch with what came out of it: parts among its work, what vanished inside among what it removes."""
        plan = self.plan
        unread = plan.unread.pop(batch.key, [])
        self.failures = [failure for failure, _ in unread]
        self.relabelled = [relabel for _, work in unread for relabel in plan.keeping(work)]
        opened = []
        cleared: list[str] = []
        for work, parsed in self._read(batch.work):
            if parsed is None:
                if work.action == "change":  # its past is under the label of now
                    self.relabelled += plan.keeping(work)
                    plan.fallen += [work.document, *plan.within(work.document)]
                cleared += [name for name in plan.within(work.document) if name in plan.quarantine]
                continue
            opened.append((work, self._bring(work, parsed)))
        for work, version in opened:
            there = self._inside(work, version)
            before = work.renamed_from or work.document
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
    def _inside(self, root: Work, version: str) -> set[str]:
        """Everything below one listed document, breadth first. Returns the names of what is there now."""
        there: set[str] = set()
        queue = deque([(root, version)])
        while queue:
            above, version = queue.popleft()
            fresh: list[Work] = []
            for work, kind, reason in self.parts.pop(above.document, ()):
                if kind:
                    self._fail(work, kind, reason)
                elif self._as_it_was(work):
                    there |= {work.document, *self.plan.within(work.document)}
                    for name in (work.document, *self.plan.within(work.document)):
                        if name in self.plan.known:
                            self._relabel(name, work)
                else:
                    fresh.append(work)
            for work, parsed in self._read(fresh):
                if parsed is not None:
                    there.add(work.document)
                    queue.append((work, self._bring(work, parsed, version, above.document)))
        return there

    def _keep(self, work: Work, parsed: Parsed) -> Parsed:
        """Keep the bytes of what lies inside as soon as it is known, so that many archives are never held together."""
        if not parsed.parts:
            return parsed
        kept: list[Kept] = []
        held: list[tuple[int, bytes]] = []
        with self.lock:
            root, depth = self.roots.get(work.document, (work.document, 0))
            spent = self.spent.setdefault(root, [0, 0])
            for part in parsed.parts:
                inner = self._part(work, part.name, part.media_type, part.title, len(part.data))
                spent[0] += 1
                spent[1] += len(part.data)
                kind, reason = part.kind, part.reason
                if spent[0] > self.most_parts or spent[1] > self.most_bytes:
                    kind, reason = "expansion", "More lies inside than ingest.max_parts and max_unpacked_mb allow."
                elif depth >= self.most_depth:
                    kind, reason = "expansion", "It lies deeper inside than ingest.max_depth allows."
                elif inner.document in self.plan.listed or inner.document in self.named:
                    kind, reason = "duplicate_id", "There is another document with the same name."
                elif not kind:
                    held.append((len(kept), part.data))
                    self.roots[inner.document] = (root, depth + 1)
                self.named.add(inner.document)
                kept.append((inner, kind, reason))
            digests = self.lake.keep_many([data for _, data in held])
            for (at, data), digest in zip(held, digests, strict=True):
                inner = kept[at][0]
                _, found = self.plan.reader(inner, data)
                title = inner.item.title or inner.item.id.rpartition("/")[2]
                asset = Asset(inner.document, self.plan.source, digest, len(data), found, title, "")
                kept[at] = (replace(inner, asset=asset), "", "")
            self.parts[work.document] = kept
        return replace(parsed, parts=())

    def _part(self, above: Work, name: str, said: str, title: str, size: int) -> Work:
        name = safe(name) if INSIDE in name else name  # which says where one document lies in another
        document = f"{above.document}{INSIDE}{name}"
        kind = media_type(name)
        item = Item(document.partition(":")[2], above.item.fingerprint, size,
                    kind if kind != UNKNOWN else said or UNKNOWN, title)  # fmt: skip
        before = self.plan.known.get(document)
        origin = inherited(above.label_origin, above.document)
        old = above.renamed_from
        renamed = f"{old}{INSIDE}{name}" if old and f"{old}{INSIDE}{name}" in self.plan.known else None
        return Work(document, item, above.label, origin, "change" if before else "add", renamed, inside=True)

    def _as_it_was(self, work: Work) -> bool:
        """Is there nothing to do about it, and about whatever lies inside it?"""
        plan, before, reader = self.plan, self.plan.known.get(work.document), self.plan.chosen.get(work.document)
        if before is None or reader is None or work.asset is None or plan.stale(work.document):
            return False
        same = before.digest == work.asset.digest and before.transform == plan.transform(reader)
        return same and plan.embeds(before.base or before.label) == plan.embeds(work.label)

    def _relabel(self, name: str, above: Work) -> None:
        before = self.plan.known[name]
        if (before.base or before.label) != above.label:
            self.relabelled.append(Relabel(name, above.label, above.label_origin))

    # -- one document ---------------------------------------------------------------------------------
    def _read(self, works: Sequence[Work]) -> list[tuple[Work, Parsed | None]]:
        """What each gives; ``None`` for one that failed."""
        self._in_force(works)
        before, given = self.met, list[tuple[Work, Parsed | None]]()
        self.met += len(works)
        for some in _bounded(works):
            given += self._parse(some, before + len(given))
        return given

    def _parse(self, works: Sequence[Work], before: int) -> list[tuple[Work, Parsed | None]]:
        """As ``_read``. What needs more time gets it, after all the others."""
        from drystone.ingest.pool import Broken, Job

        jobs: list[Job] = []
        chosen: list[tuple[Work, Reader]] = []
        given: list[tuple[Work, Parsed | None]] = []

        def told(done: int) -> None:
            self.told(before + done, self.met)

        for work in works:
            assert work.asset is not None
            data = self.plan.held.pop(work.document, None)
            data = self.lake.bytes(work.asset.digest) if data is None else data
            reader, media_type = self.plan.reader(work, data)
            if not data:
                self._fail(work, "empty", "The file is empty.")
            elif reader is None:
                self._fail(work, "unsupported", f"No parser reads {media_type}.")
            else:
                self.used[reader.name] = reader
                passwords = self.plan.passwords_of(work.document)
                label = self.labels[work.document]
                jobs.append(Job(reader.target, work.item.id, media_type, data, passwords, label))
                chosen.append((work, reader))
                continue
            given.append((work, None))
        quick = [at for at, (_, reader) in enumerate(chosen) if reader.slow != reader.target]
        answers: dict[int, Parsed | Broken] = {}
        with self.run.time("parse"):
            if quick:
                found = self.pool.parse(
                    [jobs[at] for at in quick], told, lambda n, got: self._keep(chosen[quick[n]][0], got)
                )
                answers = dict(zip(quick, found, strict=True))
            later = [at for at, (_, reader) in enumerate(chosen) if at not in answers or _slow(answers[at], reader)]
            if later:
                again = [replace(jobs[at], target=chosen[at][1].slow) for at in later]
                first = len(works) - len(later)
                found = self.slow().parse(
                    again, lambda done: told(first + done), lambda n, got: self._keep(chosen[later[n]][0], got)
                )
                answers |= dict(zip(later, found, strict=True))
        for at, (work, _) in enumerate(chosen):
            answer = answers[at]
            if isinstance(answer, Broken):  # nobody has more time for what is slow still
                self._fail(work, "timeout" if answer.kind == "slow" else answer.kind, answer.reason)
                given.append((work, None))
            else:
                given.append((work, answer))
        return given

    def _in_force(self, works: Sequence[Work]) -> None:
        """Under which labels workers see them: what people decided, about what they lie in too, counts already."""
        asked = [(w.document, w.asset.digest, _above(w), w.label) for w in works if w.asset is not None]
        outer = [(name, "", "", self.labels[name]) for name in {*map(_above, works)} & self.labels.keys()]
        found = self.ledger.catalog.in_force([*outer, *asked])[len(outer) :]
        self.labels |= zip((name for name, *_ in asked), found, strict=True)

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
                parsed=parsed,
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


def _bounded(works: Sequence[Work]) -> Iterator[Sequence[Work]]:
    """In groups whose bytes may be held together."""
    first = size = 0
    for at, work in enumerate(works):
        mine = work.asset.size if work.asset is not None else 0
        if at > first and size + mine > TOGETHER:
            yield works[first:at]
            first, size = at, 0
        size += mine
    if first < len(works):
        yield works[first:]


def _above(work: Work) -> str:
    """What it lies in; "" if in nothing."""
    return work.document.rpartition(INSIDE)[0] if work.inside else ""


def _slow(answer: Parsed | Broken, reader: Reader) -> bool:
    return not isinstance(answer, Parsed) and answer.kind == "slow" and bool(reader.slow)
