"""How fast documents are read: ours in the worker pool and in-process, the bare parser, LangChain's and LlamaIndex's loaders.

    python -m bench loaders                                  # everything, into bench/results/loaders.json
    python -m bench loaders --format docx --format pdf       # some; nothing is kept

The same files for all: the third-party ones of a format (``documents.py``; skipped where they are absent) and four
larger ones that are made here, the same every time. PDFs are the business ones without scanned pages: only ours
recognises text in those. Each contender has a fresh process a format, reads one file before the clock starts (imports), and then all of them;
the faster of two rounds counts. ``mb_per_s`` is of the files' bytes, ``peak_rss_mb`` of the process (of both workers
together for the pool). ``mixed``: all formats that LangChain's loaders and ours both read. A contender that fails on a file
says how often; its time still counts. ``raw``: what it gives is the file as it is, markup and all: nothing was parsed. LangChain has no loader of its own for the formats that are missing: those need
``unstructured``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import peers
from bench.documents import DOCLING, pdfs, say
from bench.peers import Absent
from drystone.ingest.media import Choice, media_type
from drystone.ingest.pool import Broken, Job, Pool
from drystone.settings import defaults

# The bare parser of each format: what someone would write by hand.
BARE = {
    "pdf": "pypdfium2", "docx": "python-docx", "pptx": "python-pptx", "xlsx": "openpyxl", "odt": "odfpy",
    "html": "beautifulsoup4", "csv": "stdlib", "json": "stdlib", "md": "stdlib", "txt": "stdlib", "eml": "stdlib",
    "rtf": "striprtf",
}  # fmt: skip
LANGCHAIN = ("pdf", "docx", "html", "csv", "md", "txt", "json")  # eml and the rest need unstructured
MIXED = "mixed"
WORKERS, ROUNDS = 2, 2
Figures = dict[str, Any]


def files(made: Path) -> dict[str, list[Path]]:
    found = {f: sorted(made.glob(f"*.{f}")) for f in BARE}
    if DOCLING.is_dir():
        for format in BARE:
            found[format] += sorted((DOCLING / "files").glob(f"*/*.{format}"))
        found["pdf"] = [p for p in pdfs() if "docs_business_pdf" in p.parts and not scanned(p)]
    found[MIXED] = [path for format in LANGCHAIN for path in found[format]]
    return found


def scanned(path: Path) -> bool:
    """Has it a page without text?"""
    import pypdfium2

    document = pypdfium2.PdfDocument(path)
    try:
        return any(page.get_textpage().count_chars() < 20 for page in document)
    finally:
        document.close()


def figures(chosen: Sequence[Path], seconds: float, failed: int, peak: float | None) -> Figures:
    size = sum(p.stat().st_size for p in chosen) / 1e6
    return {
        "mb_per_s": round(size / seconds, 2), "documents_per_s": round(len(chosen) / seconds, 1),
        "seconds": round(seconds, 3), "failed": failed, "peak_rss_mb": peak,
    }  # fmt: skip


def in_pool(chosen: Sequence[Path]) -> Figures:
    """As an ingestion parses: all documents at once, two workers."""
    with tempfile.TemporaryDirectory() as home:
        pool, choice = Pool(defaults(Path(home), ingest__workers=WORKERS)), Choice({}, "bench")
        jobs, unread = [], 0
        for path in chosen:
            data = path.read_bytes()
            reader, kind = choice.of(path.name, media_type(path.name), data)
            if reader is None:
                unread += 1
            else:
                jobs.append(Job(reader.target, path.name, kind, data))
        if not jobs:
            return {"skipped": "no parser of ours reads it"}
        pool.parse(jobs[:WORKERS])
        times = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            answers = pool.parse(jobs)
            times.append(time.perf_counter() - started)
        return figures(chosen, min(times), unread + sum(isinstance(a, Broken) for a in answers), workers_rss_mb())


def workers_rss_mb() -> float | None:
    """The most that each of our workers has held, added up; ``None`` where the system does not tell."""
    total = 0.0
    try:
        for child in {c for task in Path("/proc/self/task").iterdir() for c in (task / "children").read_text().split()}:
            if b"drystone.ingest.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                status = Path(f"/proc/{child}/status").read_text()
                total += int(status.split("VmHWM:")[1].split()[0]) / 1024
    except OSError:
        return None
    return round(total, 1)


def in_process(engine: str, python: Path, chosen: Sequence[Path]) -> Figures:
    """Raises ``Absent``."""
    reader = peers.Reader(python, engine)
    try:
        reader.read(chosen[0])
        times, failed, reads = [], 0, []
        for _ in range(ROUNDS):
            reads = [reader.read(path) for path in chosen]
            failed = sum(bool(r.kind) for r in reads)
            times.append(sum(r.seconds for r in reads))
        raw = all(read.text.strip() == as_text(path) for read, path in zip(reads, chosen, strict=True) if not read.kind)
        return figures(chosen, min(times), failed, reader.peak_rss_mb) | (
            {"raw": True} if raw and failed < len(chosen) else {}
        )
    finally:
        reader.close()


def as_text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "ignore").replace("\r\n", "\n").strip()


def contenders(format: str) -> dict[str, tuple[str, str]]:
    """Said name: engine and environment ("": our own Python)."""
    out = {"ours in-process": ("drystone", "")}
    if format in BARE:
        out["bare parser"] = (BARE[format], "bare")
    if format in LANGCHAIN or format == MIXED:
        out["LangChain"] = ("langchain", "langchain")
    return out | {"LlamaIndex": ("llamaindex", "llamaindex")}


def measure(format: str, chosen: Sequence[Path]) -> Figures:
    size = round(sum(p.stat().st_size for p in chosen) / 1e6, 2)
    out: Figures = {"files": len(chosen), "mb": size, "ours, 2 workers": in_pool(chosen)}
    for name, (engine, environment) in contenders(format).items():
        try:
            python = peers.peer(environment) if environment else Path(sys.executable)
            out[name] = in_process(engine, python, chosen) | {"engine": engine}
        except Absent as error:
            out[name] = {"skipped": str(error)}
    say(f"\n{format}: {len(chosen)} files, {size} MB")
    for name, row in out.items():
        if isinstance(row, dict):
            said = row.get("skipped") or (
                f"{row['mb_per_s']:8.2f} MB/s {row['documents_per_s']:9.1f} documents/s {row['peak_rss_mb'] or 0:8.0f} MB"
                f"  failed {row['failed']}{'  raw' if row.get('raw') else ''}"
            )
            say(f"  {name:<18}{said}")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench loaders", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--format", action="append", default=[], choices=[*BARE, MIXED])
    parser.add_argument("--quick", action="store_true", help="CSV and Markdown alone")
    options = parser.parse_args()
    formats = options.format or (["csv", "md"] if options.quick else [*BARE, MIXED])
    with tempfile.TemporaryDirectory() as folder:
        try:
            maker = [str(peers.peer("bare")), "-I", str(peers.HERE / "_peer.py"), "generate", folder]
        except Absent as error:
            print(json.dumps({"skipped": str(error)}))
            return
        subprocess.run(maker, check=True)
        found = files(Path(folder))
        result: Figures = {f: measure(f, found[f]) for f in formats if found[f]}
        result["installed_mb"] = installed()
    if not options.format:
        print(json.dumps(result))


def installed() -> dict[str, float]:
    """What each framework's loaders weigh with all they require."""
    out = {}
    for name, needs in (
        ("langchain", ("langchain-community", "docx2txt", "pypdfium2", "beautifulsoup4", "lxml")),
        (
            "llamaindex",
            ("llama-index-readers-file", "llama-index-core", "docx2txt", "python-pptx", "openpyxl", "pandas"),
        ),
    ):
        try:
            out[name] = peers.weight_mb(peers.peer(name), *needs)
        except Absent as error:
            say(f"skipped: {error}")
    return out


if __name__ == "__main__":
    main()
