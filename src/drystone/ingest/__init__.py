"""Ingestion: sources are listed and compared, bytes kept and parsed, labels given at the door."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from drystone.errors import Unlabelled
from drystone.records import Asset, Batch, Document, Failure, Label, Work

if TYPE_CHECKING:
    from drystone.ingest.labels import Door
    from drystone.ingest.plan import Plan
    from drystone.ingest.pool import Pool
    from drystone.lake import Lake
    from drystone.ledger import Ledger
    from drystone.ledger.runs import Run
    from drystone.policy import Policy
    from drystone.ports import LiveSource, Progress, Source
    from drystone.settings import Settings, SourceConfig


AGAIN_S = 1.0  # seconds between two words about the same document
INSIDE = "!/"  # between a document's name and that of what lies in it


class Ingest:
    """Thread-safe; one a project.

    ``progress`` is told of the steps ``list``, ``parse`` and ``ingest``, from any thread.
    """

    def __init__(
        self, *, settings: Settings, ledger: Ledger, lake: Lake, policy: Policy, progress: Progress | None = None
    ) -> None:
        self._settings, self._ledger, self._lake, self._policy = settings, ledger, lake, policy
        self._progress = progress
        self._lock = threading.Lock()
        self._made: dict[bool, Pool] = {}  # for what takes long, and for the rest
        self._live: dict[str, tuple[LiveSource, Door]] | None = None
        self._plans: dict[str, Plan] = {}
        self._held: dict[str, tuple[int, Callable[[], None]]] = {}  # source: the thread and what frees the lock

    def plan(
        self, source: SourceConfig, run: Run, *, allow_mass_removal: bool = False,
        embeds: Callable[[Label], bool] = lambda _: True,
    ) -> Plan:  # fmt: skip
        """Compare a source with what is known. Holds the source's lock until ``batches`` has ended.

        ``embeds``: may a document with this label flow to the embedder? Where that changes it comes in once more.

        Raises ``SourceUnavailable``, ``MassRemoval`` or ``Busy`` before anything changes.
        """
        from drystone.ingest import lock, plan

        held = self._held.get(source.name)
        if held and held[0] == threading.get_ident():
            self._release(source.name)  # this thread gave that ingestion up
        release = lock.hold(self._settings.state, source.name, float(self._settings["ingest.lock_wait_s"]))
        self._held[source.name] = (threading.get_ident(), release)
        try:
            with run.time("list"):
                made = plan.make(
                    source, self._source(source), run.id, settings=self._settings, ledger=self._ledger,
                    allow_mass_removal=allow_mass_removal, listed=lambda n: self._tell("list", n, None), embeds=embeds,
                )  # fmt: skip
            self._ledger.catalog.touch(made.touched)
            if made.quarantined or made.cleared:
                self._ledger.catalog.quarantine(source.name, made.quarantined, made.cleared)
        except BaseException:
            self._release(source.name)
            raise
        self._plans[source.name] = made
        run.note("plan", source=source.name, seen=made.report.seen, new_or_changed=len(made.work),
                 relabelled=len(made.relabelled), removed=len(made.removed), touched=len(made.touched))  # fmt: skip
        return made

    def documents(self, plan: Plan, run: Run) -> Iterator[tuple[Batch, tuple[Document, ...], tuple[Failure, ...]]]:
        """What there is to do, batch by batch, bounded in documents and bytes; nothing to do is no batch.

        Each is kept and parsed while the one before it is embedded and committed. What fails to parse goes to
        quarantine, and is removed if it was there before.
        """
        total, done = len(plan.work), 0
        size = int(self._settings["ingest.batch_mb"]) << 20
        batches = plan.batches(int(self._settings["ingest.batch_documents"]), size)
        ahead = ThreadPoolExecutor(1, thread_name_prefix="ingest-ahead")

        def begin() -> Future[tuple[Batch, tuple[Document, ...], tuple[Failure, ...]]] | None:
            batch = next(batches, None)
            return None if batch is None else ahead.submit(lambda: self.parse(self.keep(batch, run), run))

        try:
            waiting = begin()
            while waiting is not None:
                found = waiting.result()
                waiting = begin()
                yield found
                batch, _, failures = found  # what came in and what failed, without what lies inside other documents
                done += sum(not work.inside for work in batch.work) + sum(INSIDE not in f.document for f in failures)
                self._tell("ingest", min(done, total), total)
        finally:
            ahead.shutdown(wait=True, cancel_futures=True)
            if self._plans.get(plan.source) is plan:
                del self._plans[plan.source]
                self._release(plan.source)

    def keep(self, batch: Batch, run: Run) -> Batch:
        """Read the bytes and keep them. What cannot be read is left out and listed by ``parse``."""
        from drystone.ingest.plan import unreadable

        plan = self._plans[batch.source]

        read: list[tuple[Work, bytes]] = []
        unread: list[tuple[Failure, Work]] = []
        with run.time("keep"):
            for work in batch.work:
                try:
                    read.append((work, plan.origin.read(work.item)))
                except OSError as error:
                    unread.append((unreadable(work.document, error), work))
            digests = self._lake.keep_many([data for _, data in read])
        kept = []
        for (work, data), digest in zip(read, digests, strict=True):
            _, media_type = plan.reader(work, data)
            title = work.item.title or work.item.id.rpartition("/")[2]
            asset = Asset(work.document, batch.source, digest, len(data), media_type, title, work.item.fingerprint)
            plan.held[work.document] = data
            kept.append(replace(work, asset=asset))
        plan.unread[batch.key] = unread
        return replace(batch, work=tuple(kept))

    def parse(self, batch: Batch, run: Run) -> tuple[Batch, tuple[Document, ...], tuple[Failure, ...]]:
        """Parse in limited workers, with whatever lies inside. See ``unfold.py``."""
        from drystone.ingest.unfold import Unfolding

        plan = self._plans[batch.source]
        with self._telling("parse", len(batch.work)) as told:
            return Unfolding(
                plan, run, settings=self._settings, ledger=self._ledger, lake=self._lake, pool=self._pool(),
                slow=lambda: self._pool(slow=True), told=told,
            ).carry_out(batch)  # fmt: skip

    def live(self) -> frozenset[str]:
        """Sources with ``permissions = "source"`` that can be asked at any time, so that what they say is never old."""
        return frozenset(self._doors())

    def look(self, documents: Sequence[str]) -> dict[str, Label | None]:
        """What live sources say now about these documents: the label, or ``None`` where there is none any more."""
        doors, found = self._doors(), dict[str, Label | None]()
        for name in documents:
            source = name.partition(":")[0]
            if source not in doors:
                continue
            origin, door = doors[source]
            listed = (self._ledger.catalog.above(name) or [name])[-1] if INSIDE in name else name
            item = origin.look(listed.partition(":")[2])
            try:
                found[name] = None if item is None else door.label(item, self._ledger.now())[0]
            except Unlabelled:
                found[name] = None
        return found

    def _doors(self) -> dict[str, tuple[LiveSource, Door]]:
        with self._lock:
            if self._live is None:
                from drystone.ingest.labels import Door
                from drystone.ports import LiveSource

                made = {s.name: (self._source(s), Door(s)) for s in self._settings.sources if s.permissions == "source"}
                self._live = {n: (o, d) for n, (o, d) in made.items() if isinstance(o, LiveSource)}
            return self._live

    def walls(self) -> dict[str, bool]:
        """Which walls stand around a parser's process: limits, network_namespace, landlock, seccomp."""
        return self._pool().walls()

    def close(self) -> None:
        with self._lock:
            made, self._made = self._made, {}
        for pool in made.values():
            pool.close()
        for source in list(self._held):
            self._release(source)

    def _source(self, source: SourceConfig) -> Source:
        from drystone.plugins import load

        made: Source = load("sources", source.type)(source, self._settings)
        return made

    def _pool(self, slow: bool = False) -> Pool:
        from drystone.ingest.pool import Pool

        with self._lock:
            if slow not in self._made:
                self._made[slow] = Pool(self._settings, slow=slow)
            return self._made[slow]

    def _release(self, source: str) -> None:
        held = self._held.pop(source, None)
        if held is not None:
            held[1]()

    @contextmanager
    def _telling(self, step: str, total: int) -> Iterator[Callable[[int, int], None]]:
        """What is told goes on to ``progress``, and again every second: one long document is no standstill."""
        at, over = (0, total), threading.Event()

        def told(done: int, total: int) -> None:
            nonlocal at
            at = (done, total)
            self._tell(step, done, total)

        def repeat() -> None:
            while not over.wait(AGAIN_S):
                if at[0] < at[1]:
                    self._tell(step, *at)

        thread = threading.Thread(target=repeat, daemon=True, name="ingest-telling")
        if self._progress is not None:
            thread.start()
        try:
            yield told
        finally:
            over.set()
            if self._progress is not None:
                thread.join()

    def _tell(self, step: str, done: int, total: int | None) -> None:
        if self._progress is not None:
            self._progress(step, done, total)


def isolation(settings: Settings) -> str:
    """In words, which walls stand around a parser's process on this machine."""
    from drystone.ingest.pool import Pool

    pool = Pool(settings)
    try:
        walls = pool.walls()
    finally:
        pool.close()
    stands = [name.replace("_", " ") for name, there in walls.items() if there]
    lacks = [name.replace("_", " ") for name, there in walls.items() if not there]
    return ", ".join(stands) + (f"; not here: {', '.join(lacks)}" if lacks else "")
