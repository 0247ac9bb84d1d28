"""Quarantine as a place to work in: what could not come in, another try, a decision to leave it."""

from __future__ import annotations

import argparse
from collections import Counter

from drystone.cli import OK, PARTIAL
from drystone.cli.knowledge import report_lines
from drystone.cli.output import emit, project
from drystone.errors import UsageError


def show(options: argparse.Namespace) -> int:
    with project(options) as kb:
        found = kb.quarantine(*options.sources, actor=options.actor)
        open_ = [d for d in found if not d["ignored"]]
        shown = [d for d in (found if options.ignored else open_) if options.kind in (None, d["kind"])]
        lines = []
        for d in shown:
            lines.append(f"{d['document']}  ({d['kind']}) {d['reason']}  since {d['since']}")
            if d["ignored"]:
                lines.append(f"    ignored by {d['ignored_by']}: {d['ignored']}")
        kinds = Counter(d["kind"] for d in open_)
        what = ", ".join(f"{kind} {n}" for kind, n in kinds.most_common())
        lines.append(f"{len(open_)} in quarantine{': ' if what else ''}{what}; {len(found) - len(open_)} ignored")
        emit(options, {"quarantine": shown, "kinds": dict(kinds), "ignored": len(found) - len(open_)}, *lines)
        return OK


def retry(options: argparse.Namespace) -> int:
    with project(options, progress=True) as kb:
        report = kb.retry(options.document, parser=options.parser, password=options.password, actor=options.actor)
        failed = [f for f in report.failures if f.document == options.document]
        said = f"still in quarantine: ({failed[0].kind}) {failed[0].reason}" if failed else "it came in"
        emit(options, report.to_dict(), *report_lines(report), f"{options.document}: {said}")
        return PARTIAL if failed else OK


def ignore(options: argparse.Namespace) -> int:
    if options.reason is None or options.reason.isspace():
        raise UsageError("There is no reason.", todo='Say why with --reason "..."; --reason "" counts it again.')
    with project(options) as kb:
        kb.ignore(options.document, options.reason, actor=options.actor)
        what = f"ignored: {options.reason}" if options.reason else "counted again"
        emit(options, {"document": options.document, "ignored": options.reason}, f"{options.document}: {what}")
        return OK
