"""Runs inside a peer's environment and imports nothing of ours: ``python -I _peer.py ENGINE``.

Takes a path (JSON) a line on standard input and answers a JSON line each: text, seconds, error, peak memory. What a
library prints goes nowhere. ``python -I _peer.py weigh DISTRIBUTION`` prints its size with what it requires, in MB; ``python -I _peer.py generate FOLDER``
writes documents to read.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Engine = Callable[[str], str]


def kreuzberg() -> Engine:
    from kreuzberg import ExtractionConfig, extract_file_sync

    config = ExtractionConfig(output_format="markdown", use_cache=False)
    return lambda path: str(extract_file_sync(path, config=config).content)


def markitdown() -> Engine:
    from markitdown import MarkItDown

    reader = MarkItDown(enable_plugins=False)
    return lambda path: str(reader.convert_local(path).markdown)


def python_docx() -> Engine:
    from docx import Document
    from docx.table import Table

    def read(path: str) -> str:
        lines = []
        for item in Document(path).iter_inner_content():
            if isinstance(item, Table):
                lines += [" | ".join(cell.text for cell in row.cells) for row in item.rows]
            else:
                lines.append(item.text)
        return "\n".join(lines)

    return read


def docx2txt() -> Engine:
    import docx2txt

    return lambda path: str(docx2txt.process(path))


def python_pptx() -> Engine:
    from pptx import Presentation

    def shape(one: Any) -> list[str]:
        if one.shape_type == 6:  # a group
            return [line for inner in one.shapes for line in shape(inner)]
        if one.has_table:
            return [" | ".join(cell.text for cell in row.cells) for row in one.table.rows]
        return [one.text_frame.text] if one.has_text_frame else []

    return lambda path: "\n".join(
        line for slide in Presentation(path).slides for one in slide.shapes for line in shape(one)
    )


def openpyxl() -> Engine:
    from openpyxl import load_workbook

    def read(path: str) -> str:
        book = load_workbook(path, read_only=True, data_only=True)
        rows = (row for sheet in book.worksheets for row in sheet.iter_rows(values_only=True))
        return "\n".join(" | ".join(str(value) for value in row if value is not None) for row in rows)

    return read


def python_calamine() -> Engine:
    from python_calamine import CalamineWorkbook

    def read(path: str) -> str:
        book = CalamineWorkbook.from_path(path)
        rows = (row for name in book.sheet_names for row in book.get_sheet_by_name(name).to_python())
        return "\n".join(" | ".join(str(value) for value in row if value != "") for row in rows)

    return read


def odfpy() -> Engine:
    from odf.namespaces import TABLENS, TEXTNS
    from odf.opendocument import load
    from odf.teletype import extractText

    def lines(node: Any) -> Iterator[str]:
        for child in node.childNodes:
            if getattr(child, "qname", None) in ((TEXTNS, "p"), (TEXTNS, "h")):
                yield extractText(child)
            elif getattr(child, "qname", None) == (TABLENS, "table-row"):
                yield " | ".join(" ".join(lines(cell)) for cell in child.childNodes)
            elif hasattr(child, "childNodes"):
                yield from lines(child)

    return lambda path: "\n".join(lines(load(path).body))


def striprtf() -> Engine:
    from striprtf.striprtf import rtf_to_text

    return lambda path: str(rtf_to_text(Path(path).read_text("latin-1"), errors="replace"))


def beautifulsoup4() -> Engine:
    from bs4 import BeautifulSoup

    def read(path: str) -> str:
        soup = BeautifulSoup(Path(path).read_bytes(), "lxml")
        for tag in soup(["script", "style", "template", "head"]):
            tag.decompose()
        return str(soup.get_text("\n", strip=True))

    return read


def trafilatura() -> Engine:
    from trafilatura import extract

    return lambda path: extract(Path(path).read_bytes(), include_tables=True, favor_recall=True) or ""


def lxml() -> Engine:
    from lxml import etree

    def read(path: str) -> str:
        parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True)
        return "\n".join(t for t in etree.parse(path, parser).getroot().itertext() if t.strip())

    return read


def pypdfium2() -> Engine:
    from pypdfium2 import PdfDocument

    def read(path: str) -> str:
        document, pages = PdfDocument(path), []
        for page in document:
            text = page.get_textpage()
            pages.append(text.get_text_bounded())
            text.close()
            page.close()
        document.close()
        return "\n".join(pages)

    return read


def pypdf() -> Engine:
    from pypdf import PdfReader

    return lambda path: "\n".join(page.extract_text() for page in PdfReader(path).pages)


def stdlib() -> Engine:
    """What Python itself reads: text, comma-separated values, mail, JSON."""
    import csv
    import email
    import email.policy

    def mail(path: str) -> str:
        message = email.message_from_bytes(Path(path).read_bytes(), policy=email.policy.default)
        body = message.get_body(("plain", "html"))
        heads = [f"{name}: {message[name]}" for name in ("Subject", "From", "To", "Date")]
        return "\n".join([*heads, body.get_content() if body else ""])

    def read(path: str) -> str:
        if path.endswith(".eml"):
            return mail(path)
        text = Path(path).read_text("utf-8", "replace")
        if path.endswith((".csv", ".tsv")):
            dialect = csv.Sniffer().sniff(text[:4096], ",;|\t")
            return "\n".join(" | ".join(row) for row in csv.reader(text.splitlines(), dialect))
        return json.dumps(json.loads(text), indent=1) if path.endswith(".json") else text

    return read


def drystone() -> Engine:
    """Ours in this process, without the worker."""
    from drystone.ingest.media import Choice, media_type
    from drystone.plugins import load

    choice, parsers = Choice({}, "bench"), {}

    def read(path: str) -> str:
        data = Path(path).read_bytes()
        reader, kind = choice.of(path, media_type(path), data)
        if reader is None:
            raise ValueError(f"no parser reads {kind}")
        if reader.name not in parsers:
            parsers[reader.name] = load("parsers", reader.name)()
        return str(parsers[reader.name].parse(data, name=path, media_type=kind).text)

    return read


def langchain() -> Engine:
    """LangChain's loaders by ending, those that need no ``unstructured``."""
    from langchain_community import document_loaders as loaders

    by_suffix: dict[str, Callable[[str], Any]] = {
        ".pdf": loaders.PyPDFium2Loader,
        ".docx": loaders.Docx2txtLoader,
        ".csv": loaders.CSVLoader,
        ".html": loaders.BSHTMLLoader,
        **dict.fromkeys((".txt", ".md", ".json", ".eml", ".xml"), lambda path: loaders.TextLoader(path, encoding="utf-8")),
    }  # fmt: skip
    return lambda path: "\n".join(d.page_content for d in by_suffix[Path(path).suffix](path).load())


def llamaindex() -> Engine:
    """``SimpleDirectoryReader`` with llama-index-readers-file: it chooses by ending, else reads as text."""
    from llama_index.core import SimpleDirectoryReader

    return lambda path: "\n".join(
        d.text for d in SimpleDirectoryReader(input_files=[path], raise_on_error=True).load_data()
    )


ENGINES: dict[str, Callable[[], Engine]] = {
    f.__name__.replace("_", "-"): f
    for f in (
        kreuzberg, markitdown, python_docx, docx2txt, python_pptx, openpyxl, python_calamine, odfpy, striprtf,
        beautifulsoup4, trafilatura, lxml, pypdfium2, pypdf, stdlib, drystone, langchain, llamaindex,
    )
}  # fmt: skip


def generate(folder: Path) -> None:
    """Larger documents, the same every time: four of each format, of about 4,000 paragraphs or rows in all."""
    import random
    from email.message import EmailMessage

    from docx import Document
    from odf.opendocument import OpenDocumentText
    from odf.text import P
    from openpyxl import Workbook
    from pptx import Presentation

    rng = random.Random(7)
    words = [
        f"{a}{b}" for a in ("stone", "wall", "river", "ledger", "policy", "claim", "grain", "field") for b in range(250)
    ]
    for n in range(4):
        texts = [" ".join(rng.choices(words, k=rng.randint(20, 90))) for _ in range(1000)]
        rows = [[str(i), *rng.choices(words, k=6), f"{rng.random() * 1000:.2f}"] for i in range(1000)]
        named = [dict(zip(("id", "a", "b", "c", "d", "e", "f", "amount"), row, strict=True)) for row in rows]
        plain = {
            "txt": "\n\n".join(texts),
            "md": "\n\n".join(f"## Part {i}\n\n{t}" if i % 10 == 0 else t for i, t in enumerate(texts)),
            "html": "<html><head><title>t</title></head><body>" + "".join(f"<p>{t}</p>" for t in texts) + "<table>"
            + "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows) + "</table></body></html>",
            "csv": "id,a,b,c,d,e,f,amount\n" + "".join(",".join(row) + "\n" for row in rows),
            "json": json.dumps(named),
            "rtf": "{\\rtf1\\ansi " + "\\par\n".join(texts) + "}",
        }  # fmt: skip
        for suffix, text in plain.items():
            (folder / f"made_{n}.{suffix}").write_text(text, encoding="utf-8")
        mail = EmailMessage()
        mail["Subject"], mail["From"], mail["To"] = "A long mail", "a@example.org", "b@example.org"
        mail["Date"] = "Mon, 02 Nov 2026 10:00:00 +0000"
        mail.set_content("\n\n".join(texts))
        (folder / f"made_{n}.eml").write_bytes(bytes(mail))
        document, book, show, odt = Document(), Workbook(write_only=True), Presentation(), OpenDocumentText()
        table = document.add_table(rows=0, cols=8)
        for row in rows[:50]:
            for cell, value in zip(table.add_row().cells, row, strict=True):
                cell.text = value
        sheet = book.create_sheet("made")
        for text, row in zip(texts, rows, strict=True):
            document.add_paragraph(text)
            odt.text.addElement(P(text=text))
            sheet.append(row)
        for at in range(0, 200, 2):
            slide = show.slides.add_slide(show.slide_layouts[1])
            slide.shapes.title.text, slide.placeholders[1].text = texts[at][:60], texts[at + 1]
        document.save(str(folder / f"made_{n}.docx"))
        book.save(str(folder / f"made_{n}.xlsx"))
        show.save(str(folder / f"made_{n}.pptx"))
        odt.save(str(folder / f"made_{n}.odt"))


def weigh(distributions: list[str]) -> float:
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import distribution as installed

    from pip._vendor.packaging.requirements import Requirement

    first = [Requirement(d) for d in distributions]
    waiting = [(r.name, "") for r in first] + [(r.name, e) for r in first for e in r.extras]
    seen, total = set(), 0
    while waiting:
        name, extra = one = waiting.pop()
        if one in seen:
            continue
        try:
            found = installed(name)
        except PackageNotFoundError:
            continue  # an extra of an extra that nothing asked for
        if name.lower() not in {n.lower() for n, _ in seen}:
            total += sum(p.stat().st_size for f in found.files or () if (p := found.locate_file(f)).is_file())  # type: ignore[attr-defined]
        seen.add(one)
        for text in found.requires or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(needed.name, ""), *((needed.name, e) for e in needed.extras)]
    return round(total / 1e6, 1)


def peak_mb() -> float:
    """The most memory this process has held; 0 where the system does not tell. (``ru_maxrss`` outlives an exec.)"""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    return round(int(status.split("VmHWM:")[1].split()[0]) / 1024, 1)


def main() -> None:
    if sys.argv[1] == "weigh":
        print(json.dumps(weigh(sys.argv[2:])))
        return
    if sys.argv[1] == "generate":
        generate(Path(sys.argv[2]))
        return
    answers = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)

    def say(answer: dict[str, object]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        engine = ENGINES[sys.argv[1]]()
    except Exception as error:
        say({"error": f"{type(error).__name__}: {error}"[:300]})
        return
    say({"ready": True})
    for line in sys.stdin:
        path, text, failed = json.loads(line), "", ""
        started = time.perf_counter()
        try:
            text = engine(path)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # Rust panics are BaseExceptions
            failed = f"{type(error).__name__}: {error}"[:300]
        seconds = time.perf_counter() - started
        text = text.encode("utf-8", "replace").decode()  # lone surrogates do not survive a pipe
        say({"text": text, "seconds": seconds, "error": failed, "rss_mb": peak_mb()})


if __name__ == "__main__":
    main()
