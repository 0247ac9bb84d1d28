"""Commands that bring knowledge in and ask it: ingest, search, ask, why, relabel."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from drystone.cli import OK, PARTIAL, REFUSED
from drystone.cli.output import emit, project
from drystone.errors import Busy, LabelError, MassRemoval, SourceUnavailable, UsageError
from drystone.project import Project, total
from drystone.records import Answer, Report
from drystone.records.place import spoken

OUTAGES = (SourceUnavailable, MassRemoval, Busy)  # of one source, while others can be ingested


def ingest(options: argparse.Namespace) -> int:
    if options.interval <= 0:
        raise UsageError("--interval is not a time.", todo="Name seconds above zero.")
    try:
        with project(options, progress=True) as kb:
            code = _ingest(kb, options)
    except OUTAGES:
        if not options.watch:  # which says it, and looks again
            raise
    if not options.watch:
        return code
    from drystone.cli.watch import watch

    return watch(options, lambda kb: _ingest(kb, options, quiet=True))


def _ingest(kb: Project, options: argparse.Namespace, *, quiet: bool = False) -> int:
    """Source by source, so that the outage of one does not hold up the others."""
    names = [kb.settings.source(name).name for name in options.sources] or [s.name for s in kb.settings.sources]
    reports, outages = [], []
    for name in names:
        try:
            reports.append(kb.ingest(name, actor=options.actor, allow_mass_removal=options.allow_mass_removal))
        except OUTAGES as error:
            outages.append((name, error))
    if not reports:
        if outages:
            raise outages[0][1]
        kb.ingest()  # says that there is no source
    report = total(reports, tuple(names))
    if not quiet or outages or report.added + report.changed + report.relabelled + report.removed:
        lines = [f"  not ingested: {name}  {error}" for name, error in outages]
        missing = [{"source": name, "error": error.to_dict()} for name, error in outages]
        emit(options, {**report.to_dict(), "unavailable": missing}, *report_lines(report), *lines)
    if quiet and outages:
        raise outages[0][1]
    return PARTIAL if report.refused or report.failed or outages else OK


def report_lines(report: Report) -> list[str]:
    words = ["seen", "added", "changed", "relabelled", "removed", "refused", "failed", "skipped", "embedded"]
    lines = ["  ".join(f"{word} {getattr(report, word)}" for word in words)]
    for title, failures in (("refused", report.refusals), ("failed", report.failures), ("skipped", report.skips)):
        shown = failures[:20]
        lines += [f"  {title}: {f.document}  ({f.kind}) {f.reason}" for f in shown]
        if len(failures) > len(shown):
            lines.append(f"  {title}: and {len(failures) - len(shown)} more; --json lists all")
    lines += [f"  note: {note}" for note in report.notes]
    if report.commit is not None:
        lines.append(f"commit {report.commit}")
    return lines


def search(options: argparse.Namespace) -> int:
    with project(options) as kb:
        hits = kb.hits(
            options.query, actor=options.actor, purpose=options.purpose, limit=options.limit, as_of=options.as_of
        )
        lines = []
        for n, hit in enumerate(hits.hits, 1):
            where = ", ".join(filter(None, (hit.document, spoken(hit.page, hit.place))))
            lines.append(f"{n:>2}. {hit.score:.3f}  {where}  {' > '.join(hit.heading)}")
            lines.append(textwrap.shorten(hit.text, 160, placeholder=" ..."))
        lines += [f"note: {note}" for note in hits.notes]
        lines.append(f"{len(hits.hits)} hits, {'exact' if hits.exact else 'approximate'}, commit {hits.commit}")
        document: dict[str, Any] = {
            "hits": [h.to_dict() for h in hits.hits],
            "exact": hits.exact,
            "commit": hits.commit,
            "notes": list(hits.notes),
        }
        emit(options, document, *lines)
        return OK


def ask(options: argparse.Namespace) -> int:
    with project(options) as kb:
        answer = kb.ask(
            options.question,
            actor=options.actor,
            purpose=options.purpose,
            assistant=options.assistant,
            mode=options.mode,
        )
        emit(options, answer.to_dict(), *answer_lines(answer))
        return REFUSED if answer.refused else OK


def answer_lines(answer: Answer) -> list[str]:
    lines = [answer.text or "This was not answered."]
    if answer.refused:
        lines.append(f"refused: {answer.reason}")
    for c in answer.citations:
        where = ", ".join(filter(None, (c.document, spoken(c.page, c.place))))
        support = "" if c.supported else "  (not supported)"
        quote = " ".join(c.quote.split())
        lines.append(f"  [{c.n}] {where}, {c.start}-{c.end}: “{quote}”{support}")
    lines += [f"  note: {note}" for note in answer.notes]
    lines.append(f"  {answer.mode}  {answer.passport}")
    return lines


def why(options: argparse.Namespace) -> int:
    with project(options) as kb:
        about = options.actor or kb.actor(None).name
        found = kb.why(about, options.document, actor=options.by, purpose=options.purpose)
        lines = [f"{about} {'may' if found['allowed'] else 'may not'} read {options.document}: {found['reason']}"]
        lines += [
            f"  {'holds' if part['holds'] else 'fails'}  {part['part']}: needs {part['needs']}, has {part['has']}"
            for part in found["parts"]
        ]
        lines.append(f"  the label comes from {found['label_origin']}")
        emit(options, found, *lines)
        return OK if found["allowed"] else REFUSED


def relabel(options: argparse.Namespace) -> int:
    changes: dict[str, Any] = {}
    if options.readers is not None:
        changes["readers"] = [_names(clause) for clause in options.readers.split(";")]
    for part in ("regions", "purposes"):
        if getattr(options, part) is not None:
            changes[part] = _names(getattr(options, part))
    for part in ("classification", "expires", "trust"):
        if getattr(options, part) is not None:
            changes[part] = getattr(options, part)
    if not changes:
        raise UsageError(
            "relabel was told nothing to change.", todo="Name --readers, --classification, --regions, --purposes, ..."
        )
    with project(options) as kb:
        try:
            label = kb.relabel(options.document, changes, reason=options.reason, actor=options.actor).to_dict()
        except LabelError as error:  # of what was written here, not of a document
            raise UsageError(error.happened, looked=error.looked, todo=error.todo) from None
        emit(options, {"document": options.document, "label": label}, f"{options.document}: {label}")
        return OK


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
