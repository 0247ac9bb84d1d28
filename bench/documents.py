"""Which parser reads which format best: what is kept of a document, by ours and by others, on third-party files.

    python -m bench documents                                    # everything, into bench/results/documents.json
    python -m bench documents --format docx --engine ours        # some; nothing is kept
    python -m bench documents --show docx/word_tables.docx       # one file: the text, what is lost, what is too many
    python -m bench documents --worst FOLDER                     # a list per format of what costs most

Looks for the files at ../shared/eval beside the repository and says what it skips. Ours reads as an ingestion does:
chosen by name and first bytes, in the worker pool, scans and recordings in the slow one. A document inside a mail or an
archive is what that holds, so its text counts; what is attached to any other document is a document of its own and does
not. Others run in environments of their own (``peers.py``), without a network, 60 s a file. Scores: ``scoring.py``. A
file that an engine does not read scores 0. Seconds are of the run, one file after the other, libraries' imports included.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import peers, scoring
from bench.peers import Absent, Read
from drystone.ingest.media import Choice, media_type
from drystone.ingest.pool import Broken, Job, Pool
from drystone.records import Parsed
from drystone.settings import defaults

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "eval"
DOCLING = DATA / "docs_docling" / "visible"
# What is named in the goal, and what else there is expected text for.
GOAL = ("docx", "pptx", "xlsx", "odt", "ods", "odp", "epub", "html", "md", "csv", "xbrl", "jats")
CONTAINERS = ("message/rfc822", "application/vnd.ms-outlook", "application/mbox", "application/zip",
              "application/x-tar", "application/gzip", "application/x-bzip2", "application/x-xz",
              "application/x-7z-compressed")  # fmt: skip
DEPTH = 4


class Ours:
    """The product's own reading of a file."""

    def __init__(self) -> None:
        self._home = tempfile.TemporaryDirectory()
        settings = defaults(Path(self._home.name), ingest__workers=1)
        self._pools = {"fast": Pool(settings), "slow": Pool(settings, slow=True)}
        self._choice = Choice({}, "bench")

    def read(self, path: Path) -> Read:
        started = time.perf_counter()
        found = self._bytes(path.name, path.read_bytes(), 0)
        return Read(found.text, time.perf_counter() - started, found.kind, found.reason)

    def _bytes(self, name: str, data: bytes, depth: int) -> Read:
        reader, kind = self._choice.of(name, media_type(name), data)
        if reader is None:
            return Read("", 0, "encrypted" if "encrypted" in kind else "unsupported", f"No parser reads {kind}.")
        if reader.slow and reader.slow == reader.target:
            answer = self._parse("slow", reader.target, name, kind, data)
        else:
            answer = self._parse("fast", reader.target, name, kind, data)
            if isinstance(answer, Broken) and answer.kind == "slow":
                answer = self._parse("slow", reader.slow, name, kind, data)
        if isinstance(answer, Broken):
            return Read("", 0, answer.kind, answer.reason)
        texts = [answer.text]
        if kind in CONTAINERS and depth < DEPTH:
            texts += [self._bytes(part.name, part.data, depth + 1).text for part in answer.parts]
        return Read("\n\n".join(texts), 0)

    def _parse(self, pool: str, target: str, name: str, kind: str, data: bytes) -> Parsed | Broken:
        return self._pools[pool].parse([Job(target, name, kind, data)])[0]

    def close(self) -> None:
        self._home.cleanup()


@dataclass(frozen=True, slots=True)
class Engine:
    """``environment``: of ``peers.PINS``; ``distribution``: what it weighs; ``suffixes``: all, unless they are named."""

    environment: str
    distribution: str
    licence: str
    suffixes: tuple[str, ...] = ()


ENGINES = {
    "ours": Engine("", "", "Apache-2.0"),
    "kreuzberg": Engine("kreuzberg", "kreuzberg", "MIT"),
    "markitdown": Engine("markitdown", "markitdown[all]", "MIT"),
}


def opened(name: str) -> Any:
    """An engine that reads. Raises ``Absent``."""
    return Ours() if name == "ours" else peers.Reader(peers.peer(ENGINES[name].environment), name)


@dataclass(frozen=True, slots=True)
class Case:
    file: str
    format: str
    path: Path
    expected: str


def cases() -> list[Case]:
    """The files with expected text."""
    out = []
    for line in (DOCLING / "index.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["expected_md"]:
            expected = (DOCLING / "expected_md" / row["expected_md"]).read_text(encoding="utf-8")
            folder = row["file"].partition("/")[0]
            format = row["file"].rpartition(".")[2] if folder == "odf" else folder
            out.append(Case(row["file"], format, DOCLING / "files" / row["file"], expected))
    return out


@dataclass(frozen=True, slots=True)
class Scored:
    case: Case
    read: Read
    bag: scoring.Score
    cells: float | None
    rows: float | None


def score(engine: str, chosen: Sequence[Case]) -> list[Scored]:
    suffixes, reader = ENGINES[engine].suffixes, opened(engine)
    try:
        out = []
        for case in chosen:
            if suffixes and not case.file.endswith(suffixes):
                continue
            read = reader.read(case.path)
            out.append(Scored(case, read, scoring.bag(read.text, case.expected),
                              scoring.cell_recall(read.text, case.expected),
                              scoring.row_recall(read.text, case.expected)))  # fmt: skip
        return out
    finally:
        reader.close()


def summary(scored: Sequence[Scored]) -> dict[str, Any]:
    return {
        "files": len(scored),
        "f1": scoring.mean([s.bag.f1 for s in scored]),
        "f1_distinct": scoring.mean([s.bag.distinct for s in scored]),
        "precision": scoring.mean([s.bag.precision for s in scored]),
        "recall": scoring.mean([s.bag.recall for s in scored]),
        "cell_recall": scoring.mean([s.cells for s in scored if s.cells is not None]),
        "row_recall": scoring.mean([s.rows for s in scored if s.rows is not None]),
        "seconds": round(sum(s.read.seconds for s in scored), 2),
        "failed": dict(Counter(s.read.kind for s in scored if s.read.kind)),
    }


def by_format(scored: Sequence[Scored]) -> dict[str, list[Scored]]:
    out: dict[str, list[Scored]] = defaultdict(list)
    for one in scored:
        out[one.case.format].append(one)
    return dict(sorted(out.items()))


def fidelity(engines: Sequence[str], formats: Sequence[str]) -> dict[str, Any]:
    chosen = [c for c in cases() if not formats or c.format in formats]
    out: dict[str, Any] = {}
    for engine in engines:
        try:
            scored = score(engine, chosen)
        except Absent as error:
            out[engine] = {"skipped": str(error)}
            continue
        groups = by_format(scored)
        out[engine] = {
            "all": summary(scored),
            "goal_formats": summary([s for s in scored if s.case.format in GOAL]),
            "formats": {format: summary(group) for format, group in groups.items()},
        }
        tell(engine, out[engine])
    return out


def tell(engine: str, found: dict[str, Any]) -> None:
    say(
        f"\n{engine:<14}{'files':>6}{'F1':>8}{'distinct':>9}{'prec':>7}{'rec':>8}{'cells':>8}{'rows':>8}{'s':>8}  failed"
    )
    for name, row in [*found["formats"].items(), ("goal formats", found["goal_formats"]), ("all", found["all"])]:
        shares = "".join(f"{row[k]:8.3f}" if row[k] is not None else " " * 7 + "-"
                         for k in ("f1", "f1_distinct", "precision", "recall", "cell_recall", "row_recall"))  # fmt: skip
        failed = " ".join(f"{k}:{n}" for k, n in row["failed"].items())
        say(f"  {name:<12}{row['files']:>6}{shares}{row['seconds']:8.2f}  {failed}")


def show(engine: str, file: str) -> None:
    case = next((c for c in cases() if c.file.endswith(file)), None)
    reader = opened(engine)
    path = case.path if case else next((p for p in DATA.rglob(Path(file).name) if p.is_file()), Path(file))
    read = reader.read(path)
    reader.close()
    print(read.text)
    say(f"\n-- {path}: {read.seconds:.2f} s {read.kind} {read.reason}")
    if case:
        one = Scored(case, read, scoring.bag(read.text, case.expected), scoring.cell_recall(read.text, case.expected),
                     scoring.row_recall(read.text, case.expected))  # fmt: skip
        say("\n".join(lost(one)))


def lost(one: Scored) -> list[str]:
    """What one file costs, in words."""
    missing, extra = scoring.difference(one.read.text, one.case.expected)
    shares = " ".join(
        f"{name} {value:.3f}" for name, value in (("cells", one.cells), ("rows", one.rows)) if value is not None
    )
    lines = [
        f"### {one.case.file}: F1 {one.bag.f1:.3f} (precision {one.bag.precision:.3f}, recall {one.bag.recall:.3f}) {shares}"
    ]
    if one.read.kind:
        lines.append(f"- not read: {one.read.kind}: {one.read.reason}")
    for name, words in (("lost", missing), ("too many", extra)):
        if words:
            said = ", ".join(f"{word} x{n}" if n > 1 else word for word, n in words.most_common(40))
            lines.append(f"- {name} ({words.total()}): {said}")
    if one.cells is not None and one.cells < 1:
        ours = f" {' '.join(scoring.words(one.read.text))} "
        gone = list(dict.fromkeys(cell for table in scoring.tables(one.case.expected) for row in table for cell in row
                                  if scoring.words(cell) and f" {' '.join(scoring.words(cell))} " not in ours))  # fmt: skip
        lines.append(f"- cells not found ({len(gone)}): " + " | ".join(cell[:60] for cell in gone[:12]))
    return lines


def worst(folder: Path, formats: Sequence[str]) -> None:
    """A file per format: our worst documents first, beside what the others reach on the same file."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [c for c in cases() if not formats or c.format in formats]
    others: dict[str, dict[str, float]] = defaultdict(dict)
    for engine in ("kreuzberg", "markitdown"):
        try:
            for one in score(engine, chosen):
                others[one.case.file][engine] = one.bag.f1
        except Absent as error:
            say(f"skipped: {error}")
    for format, group in by_format(score("ours", chosen)).items():
        lines = [f"# {format}: {json.dumps(summary(group))}", ""]
        for one in sorted(group, key=lambda s: (s.bag.f1, s.cells or 0.0)):
            if one.bag.f1 < 0.999 or (one.cells or 1.0) < 1:
                beside = ", ".join(f"{engine} {f1:.3f}" for engine, f1 in others[one.case.file].items())
                lines += [*lost(one), *([f"- others' F1: {beside}"] if beside else []), ""]
        (folder / f"{format}.md").write_text("\n".join(lines), encoding="utf-8")


def say(text: str) -> None:
    """For people; the last line of standard output is the result."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench documents", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--format", action="append", default=[], help="only this one; may be said again")
    parser.add_argument("--engine", action="append", default=[], choices=list(ENGINES), help="may be said again")
    parser.add_argument("--show", metavar="FILE", help="print what one file reads as")
    parser.add_argument("--worst", metavar="FOLDER", type=Path)
    parser.add_argument("--quick", action="store_true", help="ours alone")
    options = parser.parse_args()
    if not DOCLING.is_dir():
        print(json.dumps({"skipped": f"the evaluation files are not at {DOCLING}"}))
        return
    if options.show:
        return show((options.engine or ["ours"])[0], options.show)
    if options.worst:
        return worst(options.worst, options.format)
    engines = options.engine or (["ours"] if options.quick else list(ENGINES))
    found = {"fidelity": fidelity(engines, options.format)}
    if not options.format and not options.engine:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
