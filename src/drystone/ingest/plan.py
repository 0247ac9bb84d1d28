"""What an ingestion has to do: the listing compared with what the catalogue knows.

Guarantees: an equal fingerprint costs no reading, equal bytes no parsing; a label that changed alone is relabelled; a
document that came under another name is a rename if its bytes are those of one that vanished; a document that may no
longer come in (no label, no readers) is removed at once. Many vanished documents, or an empty listing where there
were some, stop everything before anything changes. What lies in quarantine is not read again until it or what would
read it changes.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING

from drystone.errors import MassRemoval, SourceUnavailable, Unlabelled
from drystone.ingest import INSIDE
from drystone.ingest.labels import Door
from drystone.ingest.media import Choice, Reader, media_type
from drystone.records import (
    Batch,
    Choosing,
    Document,
    Failure,
    Item,
    Known,
    Label,
    Quarantined,
    Relabel,
    Report,
    Work,
)

if TYPE_CHECKING:
    from drystone.ledger import Ledger
    from drystone.ledger.catalog import Pointer
    from drystone.ports import Source
    from drystone.settings import Settings, SourceConfig

REFUSED = {"unlabelled", "no_id", "no_text", "no_readers", "duplicate_id"}
SKIPPED = {"not_a_file", "link", "link_outside", "link_broken"}
LIMITS = ("timeout_s", "memory_mb", "max_file_mb", "max_text_mb", "max_unpacked_mb", "max_parts", "max_depth",
          "slow_timeout_s", "slow_memory_mb")  # fmt: skip
NOTES = 40  # of single documents in one report
AGE_SLACK = 86_400_000  # ms: the plan looks at the clock before the commit that first sees a document does


@dataclass(slots=True)
class Plan:
    """One ingestion of one source, from the listing to its last commit."""

    source: str
    run: str
    origin: Source
    choice: Choice
    transforms: Mapping[str, str]  # parser's name to "t:..."
    known: Mapping[str, Known]
    quarantine: Mapping[str, Quarantined]
    choosing: Mapping[str, Choosing]  # what people said of single documents
    passwords: tuple[str, ...]
    secret: Callable[[str], str]
    embeds: Callable[[Label], bool]
    reading: str  # "t:..." of every parser and limit together: what a document in quarantine waits for
    work: list[Work] = field(default_factory=list)
    relabelled: list[Relabel] = field(default_factory=list)
    reworded: set[str] = field(default_factory=set)  # relabelled only in what gave the label
    removed: list[str] = field(default_factory=list)
    touched: dict[str, str] = field(default_factory=dict)
    quarantined: list[Quarantined] = field(default_factory=list)
    cleared: list[str] = field(default_factory=list)
    fallen: list[str] = field(default_factory=list)  # were there, changed, and cannot be parsed any more
    unread: dict[str, list[tuple[Failure, Work]]] = field(default_factory=dict)  # by batch
    held: dict[str, bytes] = field(default_factory=dict)  # bytes between keeping and parsing, by document
    chosen: dict[str, Reader] = field(default_factory=dict)  # by document
    report: Report = field(default_factory=Report)
    listed: set[str] = field(default_factory=set)  # documents of the source that are named as if they lay in one
    inside: Mapping[str, Sequence[str]] = field(init=False)  # what lay in each document
    locked: Mapping[str, Sequence[str]] = field(init=False)  # where passwords lie, by document and by what it lies in
    current: frozenset[str] = field(init=False)  # the parsers of now

    def __post_init__(self) -> None:
        self.inside = _inside(self.known, self.quarantine)
        self.locked = _locked(self.choosing)
        self.current = frozenset(self.transforms.values())

    def transform(self, reader: Reader) -> str:
        return self.transforms[reader.name]

    def reader(self, work: Work, data: bytes) -> tuple[Reader | None, str]:
        """The parser of a document, by what a person said of it, else by name and bytes; and the media type."""
        said = self.choosing.get(work.document)
        found = self.choice.of(work.item.id, work.item.media_type, data, said.parser if said else "")
        if found[0] is not None:
            self.chosen[work.document] = found[0]
        return found

    def passwords_of(self, document: str) -> tuple[str, ...]:
        """Those of the document, of what lies in it (its container opens it), and of the source."""
        return (*dict.fromkeys(map(self.secret, self.locked.get(document, ()))), *self.passwords)

    def within(self, document: str) -> list[str]:
        """What lay inside a document, at any depth, in quarantine too."""
        found: list[str] = []
        waiting = list(self.inside.get(document, ()))
        while waiting:
            name = waiting.pop()
            if name in self.listed:
                continue
            found.append(name)
            waiting += self.inside.get(name, ())
        return found

    def keeping(self, work: Work) -> list[Relabel]:
        """The new label for what is there and cannot be read now, and for what lay in it."""
        if work.document not in self.known:
            return []
        base = self.known[work.document].base or self.known[work.document].label
        names = [work.document, *(name for name in self.within(work.document) if name in self.known)]
        return [] if base == work.label else [Relabel(name, work.label, work.label_origin) for name in names]

    def stale(self, document: str) -> bool:
        """Does something that lay inside wait for a newer parser, another password or other limits?"""
        for name in self.within(document):
            known, lies = self.known.get(name), self.quarantine.get(name)
            if known is not None and known.transform not in self.current:
                return True
            if lies is not None and lies.transform != self.reading and not lies.ignored:
                return True
        return False

    def count(
        self, report: Report, batch: Batch, documents: Sequence[Document], failures: Sequence[Failure], embedded: int,
        pointer: Pointer,
    ) -> Report:  # fmt: skip
        """The report with one batch added."""
        done = batch.work
        noted = [(d.name, note) for d in documents for note in d.parsed.notes]
        room = max(0, NOTES - len(report.notes))
        notes = [f"{name}: {note}" for name, note in noted[:room]]
        if len(noted) > room > 0:
            notes.append("and more; `drystone status` counts the documents that came in with notes")
        return replace(
            report,
            added=report.added + sum(w.action == "add" for w in done),
            changed=report.changed + sum(w.action == "change" for w in done),
            renamed=report.renamed + sum(w.renamed_from is not None for w in done),
            relabelled=report.relabelled + sum(r.document not in self.reworded for r in batch.relabelled),
            removed=report.removed + len(batch.removed),
            failed=report.failed + len(failures),
            failures=(*report.failures, *failures),
            notes=(*report.notes, *notes),
            embedded=report.embedded + embedded,
            commit=pointer.commit,
        )

    def batches(self, documents: int, size: int) -> Iterator[Batch]:
        """Bounded in documents and bytes. Removals and new labels come first; a rename stays in one commit."""
        number = 0

        def batch(work: Sequence[Work], relabelled: Sequence[Relabel] = (), removed: Sequence[str] = ()) -> Batch:
            nonlocal number
            number += 1
            gone = (*removed, *(w.renamed_from for w in work if w.renamed_from is not None))
            return Batch(f"{self.run}:{number}", self.source, tuple(work), tuple(relabelled), gone)

        first: tuple[Sequence[Relabel], Sequence[str]] = (self.relabelled, self.removed)
        group: list[Work] = []
        held = 0
        for work in self.work:
            if group and (len(group) >= documents or held + max(work.item.size, 0) > size):
                yield batch(group, *first)
                first, group, held = ((), ()), [], 0
            group.append(work)
            held += max(work.item.size, 0)
        if group or first[0] or first[1]:
            yield batch(group, *first)
        if self.fallen:
            yield batch((), (), self.fallen)


def identity(reader: Reader) -> str:
    """``t:`` and 16 bytes of BLAKE2b over the parser's name, version and place: the same in every project."""
    what = "\0".join(("parse", reader.name, reader.version, reader.target)).encode()
    return "t:" + urlsafe_b64encode(blake2b(what, digest_size=16).digest()).rstrip(b"=").decode()


def make(
    config: SourceConfig, origin: Source, run: str, *, settings: Settings, ledger: Ledger, allow_mass_removal: bool,
    listed: Callable[[int], None], embeds: Callable[[Label], bool],
) -> Plan:  # fmt: skip
    """List the source and compare. Raises ``SourceUnavailable`` or ``MassRemoval`` before anything changes."""
    choice = Choice(config.options.get("parsers", {}), config.name)
    transforms = {r.name: identity(r) for r in choice.all()}

    def secret(reference: str) -> str:
        return settings.secret(reference, f"a password of the source {config.name!r}")

    passwords = tuple(secret(reference) for reference in config.passwords)
    limits = (str(settings[f"ingest.{name}"]) for name in LIMITS)
    reading = ledger.digest(
        "t", *limits, *sorted(transforms.values()), repr(sorted(config.options.get("parsers", {}).items())), *passwords
    )
    plan = Plan(
        config.name, run, origin, choice, transforms, ledger.catalog.known(config.name),
        ledger.catalog.failures(config.name), ledger.catalog.chosen(), passwords, secret, cache(embeds), reading,
    )  # fmt: skip
    _Comparison(plan, config, settings, ledger, allow_mass_removal).carry_out(listed)
    return plan


def _inside(known: Mapping[str, Known], quarantine: Mapping[str, Quarantined]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    lying = ((name, lies.parent) for name, lies in quarantine.items() if name not in known)
    for name, parent in (*((name, there.parent) for name, there in known.items()), *lying):
        if parent:
            found.setdefault(parent, []).append(name)
    return found


def _locked(choosing: Mapping[str, Choosing]) -> dict[str, list[str]]:
    """A password of a document also opens what it lies in, at any depth."""
    found: dict[str, list[str]] = {}
    for name, said in choosing.items():
        steps = name.split(INSIDE) if said.password else []
        for depth in range(len(steps)):
            found.setdefault(INSIDE.join(steps[: depth + 1]), []).append(said.password)
    return found


def inherited(origin: str, parent: str) -> str:
    """What gave a part its label."""
    return origin if origin.endswith(")") and " (of " in origin else f"{origin} (of {parent})"


class _Comparison:
    """Fills a plan; lives as long as it takes."""

    def __init__(self, plan: Plan, config: SourceConfig, settings: Settings, ledger: Ledger, allowed: bool) -> None:
        self.plan, self.config, self.settings, self.ledger, self.allowed = plan, config, settings, ledger, allowed
        self.door = Door(config)
        self.now = ledger.now()
        self.known = {name: known for name, known in plan.known.items() if not known.parent}  # what is listed
        self.quarantine = plan.quarantine
        # A file that no parser's process could hold is not read at all.
        memory = max(int(settings["ingest.memory_mb"]), int(settings["ingest.slow_memory_mb"]))
        self.most = min(int(settings["ingest.max_file_mb"]), memory) << 20
        self.refusals: list[Failure] = []
        self.failures: list[Failure] = []
        self.skips: list[Failure] = []
        self.refused: list[str] = []  # documents that are there and may not stay
        self.new: list[Work] = []
        self.seen = 0

    @cached_property
    def first_seen(self) -> Mapping[str, int]:
        """Of documents that are gone too; nobody asks where nothing is new."""
        return self.ledger.catalog.first_seen(self.config.name)

    def carry_out(self, listed: Callable[[int], None]) -> None:
        plan, known, prefix = self.plan, self.known, f"{self.config.name}:"
        there: set[str] = set()
        for found in self.listing(there):
            self.seen += 1
            if isinstance(found, Failure):
                self.cannot(found, there)
                continue
            name = prefix + found.id
            there.add(name)
            if INSIDE in name:
                plan.listed.add(name)
            if self.seen % 1000 == 0:
                listed(self.seen)
            before = known.get(name)
            try:
                label, origin, ages = self.door.label(
                    found, before.first_seen if before else self.first_seen.get(name, self.now)
                )
            except Unlabelled as error:
                self.refusals.append(Failure(name, "unlabelled", str(error)))
                if before:
                    self.close(before)
                continue
            if before is None:
                self.unknown(name, found, label, origin)
            elif plan.stale(name):
                self.plan.work.append(Work(name, found, label, origin, "change"))
            elif before.fingerprint == found.fingerprint and before.transform in plan.current:
                self.skips += [plan.quarantine[n].failure for n in plan.within(name) if n in plan.quarantine]
                self.relabel(before, label, origin, ages, found)
            else:
                self.look(name, found, before, label, origin, ages)
        vanished = [name for name in known if name not in there]
        self.outage(vanished)
        self.renames(vanished)
        plan.work = [w for w in self.new if w.renamed_from] + [w for w in self.new if not w.renamed_from] + plan.work
        renamed = {w.renamed_from for w in plan.work}
        plan.removed = self.whole([name for name in vanished if name not in renamed] + self.refused)
        closed = {f.document for f in self.refusals if f.kind != "duplicate_id"}  # these wait for no parser
        stay = there - closed
        stay |= {inner for name in stay for inner in plan.within(name)}
        partial = str(getattr(plan.origin, "partial", ""))
        plan.cleared = [name for name in self.quarantine if name in closed or not (partial or name in stay)]
        self.refused = []
        plan.report = Report(
            seen=self.seen,
            refused=len(self.refusals),
            failed=len(self.failures),
            skipped=len(self.skips),
            refusals=tuple(self.refusals),
            failures=tuple(self.failures),
            skips=tuple(self.skips),
            notes=(f"{self.config.name}: {partial}",) if partial else (),
            sources=(self.config.name,),
        )

    def listing(self, there: set[str]) -> Iterator[Item | Failure]:
        """What the source lists. If it says afterwards that this is a part, what is not ``there`` is as it was."""
        yield from self.plan.origin.list()
        if getattr(self.plan.origin, "partial", ""):
            for name, before in self.known.items():
                if name not in there:
                    id = name.removeprefix(f"{self.config.name}:")
                    yield Item(id, before.fingerprint, -1, media_type(id))

    def whole(self, names: Sequence[str]) -> list[str]:
        """Documents, each followed by those inside it that are there."""
        return [n for name in names for n in (name, *(i for i in self.plan.within(name) if i in self.plan.known))]

    def cannot(self, failure: Failure, there: set[str]) -> None:
        """The source lists something that cannot come in."""
        kinds = self.refusals if failure.kind in REFUSED else self.skips if failure.kind in SKIPPED else self.failures
        kinds.append(failure)
        if failure.kind != "duplicate_id" and failure.document in self.known:
            there.add(failure.document)
            if failure.kind == "no_readers":
                self.close(self.known[failure.document])
            else:
                self.refused.append(failure.document)

    def close(self, before: Known) -> None:
        """Nobody may read it any more: it goes, and its last label opens it to nobody in the past either."""
        self.refused.append(before.document)
        nowhere = replace(before.base or before.label, regions=frozenset())
        for name in self.whole([before.document]):
            self.plan.relabelled.append(Relabel(name, nowhere, "refused at the door"))
            self.plan.reworded.add(name)

    def unknown(self, name: str, item: Item, label: Label, origin: str) -> None:
        last = self.ledger.catalog.last_label(name) if name in self.first_seen else None
        if last is not None and not last.at_least(label):  # it was here once, and may not come in again
            self.plan.relabelled.append(Relabel(name, label, origin))
        lies = self.quarantine.get(name)
        if lies and lies.fingerprint == item.fingerprint and lies.transform == self.plan.reading:
            self.skips.append(lies.failure)
        elif item.size > self.most:
            self.too_large(name, item)
        else:
            self.new.append(Work(name, item, label, origin, "add"))

    def too_large(self, name: str, item: Item) -> None:
        failure = Failure(name, "too_large", f"It has {item.size >> 20} MB; {self.most >> 20} are read at most.")
        self.failures.append(failure)
        self.plan.quarantined.append(Quarantined(failure, item.fingerprint, self.plan.reading))

    def look(self, name: str, item: Item, before: Known, label: Label, origin: str, ages: bool) -> None:
        """Something may have changed: the bytes say whether it did."""
        if item.size > self.most:
            self.too_large(name, item)
            self.relabel(before, label, origin, ages)  # of its past
            self.refused.append(name)
            return
        try:
            data = self.plan.origin.read(item)
        except OSError as error:  # not a removal: it stays as it was, under its new label
            self.failures.append(unreadable(name, error))
            self.relabel(before, label, origin, ages)
            return
        if before.fingerprint and self.ledger.digest("b", data) == before.digest:  # without one: somebody said "again"
            reader, _ = self.plan.reader(Work(name, item, label, origin, "change"), data)
            if reader is not None and self.plan.transform(reader) == before.transform:
                self.plan.touched[name] = item.fingerprint
                self.relabel(before, label, origin, ages, item)
                return
        self.plan.work.append(Work(name, item, label, origin, "change"))

    def relabel(self, before: Known, label: Label, origin: str, ages: bool, item: Item | None = None) -> None:
        """``item``: that of the document, if it can be read. What lies inside it takes its label."""
        base = before.base or before.label
        same = base == label or (ages and _same_but_for_age(base, label))
        if same and (before.override or before.label_origin == origin):
            return
        if item is not None and not same and self.plan.embeds(base) != self.plan.embeds(label):
            self.plan.work.append(Work(before.document, item, label, origin, "change"))  # now with vectors, or without
            return
        for name in self.whole([before.document]):
            said = origin if name == before.document else inherited(origin, before.document)
            self.plan.relabelled.append(Relabel(name, base if same else label, said))
            if same:
                self.plan.reworded.add(name)

    def outage(self, vanished: Sequence[str]) -> None:
        if self.allowed or not self.known:
            return
        if not self.seen:
            raise SourceUnavailable(
                f"The listing of the source {self.config.name!r} is empty, though {len(self.known)} documents came "
                "from it: that looks like an outage, and nothing was removed.",
                looked=f"We looked in {', '.join(self.plan.origin.watched()) or 'the source'}.",
                todo="If they are really gone, ingest with --allow-mass-removal.",
            )

    def renames(self, vanished: Sequence[str]) -> None:
        """New documents with the bytes of vanished ones; then, whether too many vanished without a trace."""
        by_digest: dict[str, list[str]] = {}
        for name in vanished:
            by_digest.setdefault(self.known[name].digest, []).append(name)
        for at, work in enumerate(self.new):
            if not by_digest:
                break
            try:
                digest = self.ledger.digest("b", self.plan.origin.read(work.item))
            except OSError:
                continue  # said when it is read to be kept
            names = by_digest.get(digest)
            if names:
                old = names.pop(0)
                if not names:
                    del by_digest[digest]
                label, origin, _ = self.door.label(work.item, self.known[old].first_seen)
                self.new[at] = replace(work, renamed_from=old, label=label, label_origin=origin)
        gone, share = sum(map(len, by_digest.values())), float(self.settings["ingest.removal_share"])
        if not self.allowed and gone > int(self.settings["ingest.removal_count"]) and gone > share * len(self.known):
            raise MassRemoval(
                f"{gone} of {len(self.known)} documents of the source {self.config.name!r} vanished at once; "
                "nothing was changed.",
                looked=f"More than {share:.0%} (ingest.removal_share) and more than "
                f"{self.settings['ingest.removal_count']} (ingest.removal_count) stop an ingestion.",
                todo="If they are really gone, ingest with --allow-mass-removal.",
            )


def unreadable(name: str, error: OSError) -> Failure:
    return Failure(name, "unreadable", f"It could not be read ({error.strerror or error}).")


def _same_but_for_age(base: Label, label: Label) -> bool:
    """Equal, but that the commit which first saw the document ran a moment after the plan that labelled it."""
    if base.expires is None or label.expires is None or abs(label.expires - base.expires) > AGE_SLACK:
        return False
    return replace(base, expires=None) == replace(label, expires=None)
