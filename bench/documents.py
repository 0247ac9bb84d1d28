"""Which parser reads which format best: what is kept of a document, by ours and by others, on third-party files.

    python -m bench documents                                    # everything, into bench/results/documents.json
    python -m bench documents --format docx --engine ours        # some; nothing is kept
    python -m bench documents --show docx/word_tables.docx       # one file: the text, what is lost, what is too many
    python -m bench documents --worst FOLDER                     # a list per format of what costs most (--engine: beside)

Looks for the files at ../shared/eval beside the repository and says what it skips. Ours reads as an ingestion does:
chosen by name and first bytes, in the worker pool, scans and recordings in the slow one. A document inside a mail or an
archive is what that holds, so its text counts; what is attached to any other document is a document of its own and does
not. Others run in environments of their own (``peers.py``), without a network, 60 s a file. Scores: ``scoring.py``. A
file that an engine does not read scores 0. Seconds are of the run, one file after the other, libraries' imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
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
    "python-docx": Engine("bare", "python-docx", "MIT", (".docx",)),
    "docx2txt": Engine("bare", "docx2txt", "MIT", (".docx",)),
    "python-pptx": Engine("bare", "python-pptx", "MIT", (".pptx",)),
    "openpyxl": Engine("bare", "openpyxl", "MIT", (".xlsx", ".xlsm")),
    "python-calamine": Engine("bare", "python-calamine", "MIT", (".xlsx", ".xlsm", ".xls", ".ods")),
    "odfpy": Engine("bare", "odfpy", "Apache-2.0 or GPL-2.0 or LGPL-2.1", (".odt", ".ods", ".odp")),
    "beautifulsoup4": Engine("bare", "beautifulsoup4", "MIT", (".html",)),
    "trafilatura": Engine("bare", "trafilatura", "Apache-2.0", (".html",)),
    "lxml": Engine("bare", "lxml", "BSD-3-Clause", (".xml", ".nxml")),
    "stdlib": Engine("", "", "PSF-2.0", (".csv", ".md", ".vtt", ".asciidoc")),
    "pypdfium2": Engine("bare", "pypdfium2", "Apache-2.0 or BSD-3-Clause", (".pdf",)),
    "pypdf": Engine("bare", "pypdf", "BSD-3-Clause", (".pdf",)),
}
PDF_ENGINES = ("ours", "kreuzberg", "markitdown", "pypdfium2", "pypdf")  # markitdown is pdfminer.six
WIDE = ("ours", "kreuzberg", "markitdown")  # those that read many formats


class Readings:
    """What each engine made of each file, read once."""

    def __init__(self) -> None:
        self._readers: dict[str, Any] = {}
        self._read: dict[tuple[str, Path], Read] = {}
        self._absent: dict[str, str] = {}

    def of(self, engine: str, path: Path) -> Read:
        """Raises ``Absent``."""
        if engine in self._absent:
            raise Absent(self._absent[engine])
        try:
            if engine not in self._readers:
                self._readers[engine] = opened(engine)
            if (engine, path) not in self._read:
                self._read[engine, path] = self._readers[engine].read(path)
        except Absent as error:
            self._absent[engine] = str(error)
            raise
        return self._read[engine, path]

    def close(self, engine: str) -> None:
        if engine in self._readers:
            self._readers.pop(engine).close()


def opened(name: str) -> Any:
    """An engine that reads. Raises ``Absent``."""
    return Ours() if name == "ours" else peers.Reader(peers.peer(ENGINES[name].environment or "bare"), name)


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


def score(engine: str, chosen: Sequence[Case], readings: Readings) -> list[Scored]:
    """Those of ``chosen`` that the engine says it reads. Raises ``Absent``."""
    suffixes = ENGINES[engine].suffixes
    return [
        scored(case, readings.of(engine, case.path)) for case in chosen if not suffixes or case.file.endswith(suffixes)
    ]


def scored(case: Case, read: Read) -> Scored:
    cells, rows = scoring.cell_recall(read.text, case.expected), scoring.row_recall(read.text, case.expected)
    return Scored(case, read, scoring.bag(read.text, case.expected), cells, rows)


def summary(group: Sequence[Scored]) -> dict[str, Any]:
    return {
        "files": len(group),
        "f1": scoring.mean([s.bag.f1 for s in group]),
        "f1_distinct": scoring.mean([s.bag.distinct for s in group]),
        "precision": scoring.mean([s.bag.precision for s in group]),
        "recall": scoring.mean([s.bag.recall for s in group]),
        "cell_recall": scoring.mean([s.cells for s in group if s.cells is not None]),
        "row_recall": scoring.mean([s.rows for s in group if s.rows is not None]),
        "seconds": round(sum(s.read.seconds for s in group), 2),
        "failed": dict(Counter(s.read.kind for s in group if s.read.kind)),
    }


def by_format(found: Sequence[Scored]) -> dict[str, list[Scored]]:
    out: dict[str, list[Scored]] = defaultdict(list)
    for one in found:
        out[one.case.format].append(one)
    return dict(sorted(out.items()))


def fidelity(engines: Sequence[str], formats: Sequence[str], readings: Readings) -> dict[str, Any]:
    chosen = [c for c in cases() if not formats or c.format in formats]
    out: dict[str, Any] = {}
    for engine in engines:
        try:
            found = score(engine, chosen, readings)
        except Absent as error:
            out[engine] = {"skipped": str(error)}
            say(f"skipped: {error}")
            continue
        if not found:
            continue
        out[engine] = {"formats": {format: summary(group) for format, group in by_format(found).items()}}
        if not ENGINES[engine].suffixes:
            out[engine]["goal_formats"] = summary([s for s in found if s.case.format in GOAL])
            out[engine]["all"] = summary(found)
        tell(engine, out[engine])
    return out


def tell(engine: str, found: dict[str, Any]) -> None:
    say(
        f"\n{engine:<14}{'files':>6}{'F1':>8}{'distinct':>9}{'prec':>7}{'rec':>8}{'cells':>8}{'rows':>8}{'s':>8}  failed"
    )
    for name, row in [*found["formats"].items(), *((n, found[n]) for n in ("goal_formats", "all") if n in found)]:
        shares = "".join(f"{row[k]:8.3f}" if row[k] is not None else " " * 7 + "-"
                         for k in ("f1", "f1_distinct", "precision", "recall", "cell_recall", "row_recall"))  # fmt: skip
        failed = " ".join(f"{k}:{n}" for k, n in row["failed"].items())
        say(f"  {name:<12}{row['files']:>6}{shares}{row['seconds']:8.2f}  {failed}")


def show(engine: str, file: str) -> None:
    case = next((c for c in cases() if c.file.endswith(file)), None)
    path = case.path if case else next((p for p in DATA.rglob(Path(file).name) if p.is_file()), Path(file))
    read = Readings().of(engine, path)
    print(read.text)
    say(f"\n-- {path}: {read.seconds:.2f} s {read.kind} {read.reason}")
    if case:
        say("\n".join(lost(scored(case, read))))


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


def worst(folder: Path, formats: Sequence[str], others: Sequence[str], readings: Readings) -> None:
    """A file per format: our worst documents first, beside what ``others`` reach on the same file."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [c for c in cases() if not formats or c.format in formats]
    theirs: dict[str, dict[str, float]] = defaultdict(dict)
    for engine in others:
        try:
            for one in score(engine, chosen, readings):
                theirs[one.case.file][engine] = one.bag.f1
        except Absent as error:
            say(f"skipped: {error}")
    for format, group in by_format(score("ours", chosen, readings)).items():
        lines = [f"# {format}: {json.dumps(summary(group))}", ""]
        for one in sorted(group, key=lambda s: (s.bag.f1, s.cells or 0.0)):
            if one.bag.f1 < 0.999 or (one.cells or 1.0) < 1:
                beside = ", ".join(f"{engine} {f1:.3f}" for engine, f1 in theirs[one.case.file].items())
                lines += [*lost(one), *([f"- others' F1: {beside}"] if beside else []), ""]
        (folder / f"{format}.md").write_text("\n".join(lines), encoding="utf-8")


# -- PDF ---------------------------------------------------------------------------------------------
def pdfs() -> list[Path]:
    return sorted(p for d in ("docs_business_pdf/visible", "sec_10q/common/pdfs") for p in (DATA / d).glob("*.pdf"))


def share(engine: str, paths: Sequence[Path]) -> list[Path]:
    """What an engine reads of these: one 10-Q in four if it is not ours, or they alone take ten minutes."""
    long = [p for p in paths if "sec_10q" in p.parts and engine != "ours"]
    return [p for p in paths if p not in long or long.index(p) % 4 == 0]


def pdftotext() -> str | None:
    """The program, installed by apt-get if we may; ``None`` where it cannot be had."""
    if not shutil.which("pdftotext") and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-y", "-qq", "poppler-utils"], capture_output=True)
    return shutil.which("pdftotext")


def pages(path: Path) -> int:
    import pypdfium2

    document = pypdfium2.PdfDocument(path)
    count = len(document)
    document.close()
    return count


def pdf_words(engines: Sequence[str], readings: Readings) -> dict[str, Any]:
    """Word recall and precision against pdftotext, per file and in the mean, and pages a second.

    A file in which pdftotext finds no word is a scan: it is read, and timed, and not scored. A scanned page in another
    file costs who reads it precision, as do columns that are named in every row.
    """
    program = pdftotext()
    if program is None:
        return {"skipped": "pdftotext (Debian: poppler-utils) is not installed"}
    chosen = pdfs()
    counts = [pages(path) for path in chosen]
    version = subprocess.run([program, "-v"], capture_output=True, text=True).stderr.split("\n")[0]
    started = time.perf_counter()
    references = [subprocess.run([program, "-enc", "UTF-8", str(p), "-"], capture_output=True).stdout for p in chosen]
    out: dict[str, Any] = {
        "reference": version, "files": len(chosen), "pages": sum(counts),
        "reference_pages_per_s": round(sum(counts) / (time.perf_counter() - started), 1), "engines": {},
    }  # fmt: skip
    expected = [ref.decode("utf-8", "replace") for ref in references]
    scans = [path.name for path, text in zip(chosen, expected, strict=True) if not scoring.words(text)]
    per_file: dict[str, dict[str, list[float]]] = {p.name: {} for p in chosen if p.name not in scans}
    for engine in (e for e in PDF_ENGINES if e in engines):
        try:
            reads = {path: readings.of(engine, path) for path in share(engine, chosen)}
        except Absent as error:
            out["engines"][engine] = {"skipped": str(error)}
            continue
        bags = []
        for path, text in zip(chosen, expected, strict=True):
            if path in reads and path.name in per_file:
                bags.append(bag := scoring.bag(reads[path].text, text))
                per_file[path.name][engine] = [round(bag.recall, 4), round(bag.precision, 4)]
        count, seconds = sum(pages(path) for path in reads), sum(r.seconds for r in reads.values())
        out["engines"][engine] = found = {
            "files": len(bags),
            "recall": scoring.mean([b.recall for b in bags]),
            "lowest": round(min(b.recall for b in bags), 4),
            "precision": scoring.mean([b.precision for b in bags]),
            "pages_per_s": round(count / seconds, 1),
            "seconds": round(seconds, 1),
            "failed": dict(Counter(r.kind for r in reads.values() if r.kind)),
        }
        say(f"PDF {engine:<14} {json.dumps(found)}")
    return out | {"scans": scans, "recall_precision": per_file}


# -- the choice --------------------------------------------------------------------------------------
OWN = "own, on Python's library"
# Format: what reads it, the distribution whose weight that is ("": none), its licence, and why it.
CHOICE = {
    "pdf": ("pypdfium2", "pypdfium2", "Apache-2.0 or BSD-3-Clause", "it finds the words that pdftotext finds, fastest, and "
            "renders the page where a scan must be recognised; pymupdf is AGPL"),
    "docx": (OWN, "", "", "notes, text boxes, formulas and merged cells with their places, and files that python-docx refuses "
             "(strict); python-docx and docx2txt keep fewer words"),
    "pptx": (OWN, "", "", "the order on the slide, tables, groups, notes and charts, with the slide as place; python-pptx "
             "stops at a shape that it does not know"),
    "xlsx": (OWN, "", "", "values as they are shown (12.5%, a price with its currency), merged cells, comments, charts, in "
             "bounded memory; calamine is four times as fast and gives numbers without their format"),
    "xls": ("python-calamine", "python-calamine", "MIT", "the binary formats (xls, xlsb) in Rust, light; formats of numbers are "
            "lost, and a note says so"),
    "odt": (OWN, "", "", "tables, lists and merged cells with their places; odfpy is slower and gives the words alone"),
    "ods": (OWN, "", "", "as odt: repeated and merged cells, places"),
    "odp": (OWN, "", "", "as odt: slides and notes; neither kreuzberg nor markitdown reads it"),
    "epub": (OWN, "", "", "the spine of the book, then the reader of HTML"),
    "html": ("selectolax", "selectolax", "MIT", "a parser as browsers have it, so that a broken page is read as it is seen; "
             "beautifulsoup4 gives the words, but tears every row of a table"),
    "md": (OWN, "", "", "text as it is, with headings and tables as blocks"),
    "csv": (OWN, "", "", "the csv module, with dialect and encoding found"),
    "xbrl": (OWN, "", "", "the text by its elements; no entity is resolved"),
    "jats": (OWN, "", "", "as xbrl"),
    "doc": ("olefile, and own", "olefile", "BSD-2-Clause", "the pieces of the text from the file's own table; no program is run"),
    "ppt": ("olefile, and own", "olefile", "BSD-2-Clause", "as doc"),
    "webvtt": (OWN, "", "", "what was said, with its seconds as place"),
    "asciidoc": (OWN, "", "", "by its structure; kreuzberg wants to download a grammar"),
    "latex": (OWN, "", "", "by its structure"),
}  # fmt: skip


def choice() -> dict[str, Any]:
    """What reads each format, its licence and its weight with all it requires."""
    here = Path(sys.executable)
    return {
        format: {"reader": reader, "licence": licence or "Apache-2.0 (ours)", "because": because,
                 "mb": peers.weight_mb(here, distribution) if distribution else 0.0}
        for format, (reader, distribution, licence, because) in CHOICE.items()
    }  # fmt: skip


def weights(engines: Sequence[str]) -> dict[str, Any]:
    """Licence and installed megabytes of every engine that is not ours."""
    out: dict[str, Any] = {}
    for name in engines:
        engine = ENGINES[name]
        if engine.distribution:
            try:
                mb = peers.weight_mb(peers.peer(engine.environment), engine.distribution)
                out[name] = {"licence": engine.licence, "mb": mb, "pinned": pinned(engine)}
            except Absent:
                continue  # the score of that engine says why
    return out


def pinned(engine: Engine) -> str:
    wanted = engine.distribution.partition("[")[0]
    return next(pin for pin in peers.PINS[engine.environment] if pin.split("==")[0].partition("[")[0] == wanted)


# -- everything that is there ------------------------------------------------------------------------
SETS = {
    "docs_docling": "docs_docling/visible/files", "mails": "mails/visible", "docs_business_pdf": "docs_business_pdf/visible",
    "sec_10q": "sec_10q/common/pdfs", "enterprisebench": "enterprisebench/common", "audio": "audio/visible",
}  # fmt: skip
CLEAR = ("encrypted", "wrong_password", "empty", "unsupported", "too_large", "expansion", "engine_missing", "encoding")
UNTYPED = "The parser could not read it ("


def third_party() -> list[Path]:
    found = [p for folder in SETS.values() for p in (DATA / folder).rglob("*") if p.is_file()]
    return sorted(p for p in found if p.suffix not in (".gz", ".jsonl"))


def robustness(engines: Sequence[str], readings: Readings) -> dict[str, Any]:
    """How reading ends for every file: text, a clear reason, an error that names no reason, or not at all."""
    chosen = third_party()
    out: dict[str, Any] = {"files": len(chosen)}
    for engine in (e for e in WIDE if e in engines):
        try:
            reads = {path: readings.of(engine, path) for path in share(engine, chosen)}
        except Absent as error:
            out[engine] = {"skipped": str(error)}
            continue
        ends = {path: ending(engine, read) for path, read in reads.items()}
        counts = Counter(ends.values())
        out[engine] = {
            "files": len(reads),
            **{end: counts[end] for end in ("text", "clear reason", "empty", "error", "hang or crash")},
            "reasons": dict(Counter(r.kind for r in reads.values() if r.kind).most_common()),
            "ok_or_clear": round((counts["text"] + counts["clear reason"]) / len(reads), 4),
        }
        say(f"all files: {engine:<12} {json.dumps(out[engine])}")
        if engine == "ours":
            out[engine]["to_fix"] = [
                f"{path.relative_to(DATA)}: {reads[path].kind}: {reads[path].reason}"
                for path, end in ends.items() if end in ("error", "hang or crash")
            ]  # fmt: skip
            for line in out[engine]["to_fix"]:
                say(f"  {line}")
    return out


def ending(engine: str, read: Read) -> str:
    if not read.kind:
        return "text"
    if read.kind in ("timeout", "crashed", "memory"):
        return "hang or crash"
    if engine != "ours":
        return "empty" if read.kind == "empty" else "error"
    return "clear reason" if read.kind in CLEAR or not read.reason.startswith(UNTYPED) else "error"


def say(text: str) -> None:
    """For people; the last line of standard output is the result."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench documents", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--format", action="append", default=[], help="only this one; may be said again")
    parser.add_argument("--engine", action="append", default=[], choices=list(ENGINES), help="may be said again")
    parser.add_argument("--show", metavar="FILE", help="print what one file reads as")
    parser.add_argument("--worst", metavar="FOLDER", type=Path)
    parser.add_argument(
        "--only", choices=("text", "pdf", "all"), help="expected text, PDF words, or how every file ends"
    )
    parser.add_argument("--quick", action="store_true", help="ours alone")
    options = parser.parse_args()
    if not DOCLING.is_dir():
        print(json.dumps({"skipped": f"the evaluation files are not at {DOCLING}"}))
        return
    readings = Readings()
    if options.show:
        return show((options.engine or ["ours"])[0], options.show)
    if options.worst:
        return worst(options.worst, options.format, options.engine, readings)
    engines = options.engine or (["ours"] if options.quick else list(ENGINES))
    found: dict[str, Any] = {}
    if options.only in (None, "text"):
        found["fidelity"] = fidelity(engines, options.format, readings)
    if options.only in (None, "pdf") and not options.format:
        found["pdf"] = pdf_words(engines, readings)
    if options.only in (None, "all") and not options.format:
        found["third_party"] = robustness(engines, readings)
    found["choice"], found["engines"] = choice(), weights(engines)
    if not (options.format or options.engine or options.only):
        print(json.dumps(found))


if __name__ == "__main__":
    main()
