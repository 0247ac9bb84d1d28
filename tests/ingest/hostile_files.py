"""A small good document of every format, and documents made to harm, each with the reasons that are right for it.

Everything is built in code. ``good()`` gives names and bytes; ``CASES`` groups of ``Case``: a name, a function that
builds the bytes, and the kinds of refusal that are right (``""``: it may come in, harmlessly). The same documents
feed ``tools/fuzz.py``.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import struct
import tarfile
import wave
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from tests.ingest import build_office
from tests.ingest.build import ENCRYPTED, pdf
from tests.ingest.build_office import compound

_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_KIND = "application/vnd.openxmlformats-officedocument."
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


# -- good documents -------------------------------------------------------------------------------------
def packed(members: Mapping[str, str | bytes], *, store: tuple[str, ...] = ()) -> bytes:
    """A zip of these members, in this order."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_STORED if name in store else zipfile.ZIP_DEFLATED
            file.writestr(info, content)
    return out.getvalue()


def ooxml(main: str, kind: str, parts: Mapping[str, str | bytes], relations: str = "", types: str = "") -> bytes:
    """An Office package: ``main`` is the path of its main part, ``kind`` its content type."""
    folder, _, name = main.rpartition("/")
    return packed({
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="xml" ContentType="'
        f'application/xml"/><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.'
        f'relationships+xml"/><Override PartName="/{main}" ContentType="{kind}"/>{types}</Types>',
        "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" Type="{_OFFICE}/'
        f'officeDocument" Target="{main}"/></Relationships>',
        f"{folder}/_rels/{name}.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">{relations}</Relationships>',
        **parts,
    })  # fmt: skip


def word(body: str = "<w:p><w:r><w:t>Hello from Word.</w:t></w:r></w:p>", *, head: str = "", relations: str = "",
         parts: Mapping[str, str | bytes] | None = None) -> bytes:  # fmt: skip
    main = f"{head}<w:document {W}><w:body>{body}</w:body></w:document>"
    return ooxml("word/document.xml", _KIND + "wordprocessingml.document.main+xml",
                 {"word/document.xml": main, **(parts or {})}, relations)  # fmt: skip


def sheet(rows: str = '<row r="1"><c r="A1" t="inlineStr"><is><t>Name</t></is></c><c r="B1" t="inlineStr"><is><t>Price'
          '</t></is></c></row><row r="2"><c r="A2" t="s"><v>0</v></c><c r="B2"><v>3.5</v></c></row>', *,
          parts: Mapping[str, str | bytes] | None = None, shared: str = "<si><t>Stove</t></si>") -> bytes:  # fmt: skip
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    relations = "".join(f'<Relationship Id="rId{n}" Type="{_OFFICE}/{kind}" Target="{target}"/>' for n, (kind, target)
                        in enumerate((("worksheet", "worksheets/sheet1.xml"), ("sharedStrings", "sharedStrings.xml")), 1))  # fmt: skip
    return ooxml("xl/workbook.xml", _KIND + "spreadsheetml.sheet.main+xml", {
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{_OFFICE}"><sheets><sheet name="Prices" sheetId="1" '
        'r:id="rId1"/></sheets></workbook>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{rows}</sheetData></worksheet>',
        "xl/sharedStrings.xml": f'<sst xmlns="{main}">{shared}</sst>', **(parts or {}),
    }, relations)  # fmt: skip


def slides(text: str = "Hello from a slide.") -> bytes:
    p, a = (f"http://schemas.openxmlformats.org/{k}/2006/main" for k in ("presentationml", "drawingml"))
    return ooxml("ppt/presentation.xml", _KIND + "presentationml.presentation.main+xml", {
        "ppt/presentation.xml": f'<p:presentation xmlns:p="{p}" xmlns:r="{_OFFICE}"><p:sldIdLst><p:sldId id="256" '
        'r:id="rId1"/></p:sldIdLst></p:presentation>',
        "ppt/slides/slide1.xml": f'<p:sld xmlns:p="{p}" xmlns:a="{a}"><p:cSld><p:spTree><p:sp><p:txBody><a:p><a:r><a:t>'
        f"{text}</a:t></a:r></a:p></p:txBody></p:sp></p:spTree></p:cSld></p:sld>",
    }, f'<Relationship Id="rId1" Type="{_OFFICE}/slide" Target="slides/slide1.xml"/>')  # fmt: skip


def odf(kind: str, body: str, manifest: str = "", head: str = "") -> bytes:
    o = "urn:oasis:names:tc:opendocument:xmlns:"
    spaces = " ".join(f'xmlns:{k}="{o}{k}:1.0"' for k in ("office", "text", "table"))
    spaces += f' xmlns:draw="{o}drawing:1.0" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return packed({
        "mimetype": f"application/vnd.oasis.opendocument.{kind}",
        "META-INF/manifest.xml": f'<manifest:manifest xmlns:manifest="{o}manifest:1.0"><manifest:file-entry manifest:'
        f'full-path="/" manifest:media-type="application/vnd.oasis.opendocument.{kind}"/>{manifest}</manifest:manifest>',
        "content.xml": f"{head}<office:document-content {spaces}><office:body>{body}</office:body></office:document-content>",
    }, store=("mimetype",))  # fmt: skip


def odt(text: str = "<text:p>Hello from Writer.</text:p>", **more: str) -> bytes:
    return odf("text", f"<office:text>{text}</office:text>", **more)


def epub(chapter: str = "<h1>One</h1><p>Hello from a book.</p>") -> bytes:
    return packed({
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0">'
        '<rootfiles><rootfile full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>',
        "book.opf": '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata xmlns:dc="http://purl.org/dc/'
        'elements/1.1/"><dc:title>A book</dc:title></metadata><manifest><item id="c" href="c.xhtml" media-type="'
        'application/xhtml+xml"/></manifest><spine><itemref idref="c"/></spine></package>',
        "c.xhtml": f'<html xmlns="http://www.w3.org/1999/xhtml"><head><title>c</title></head><body>{chapter}</body></html>',
    }, store=("mimetype",))  # fmt: skip


def tar(members: Mapping[str, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as file:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return out.getvalue()


def png(width: int, height: int, pixels: bytes | None = None) -> bytes:
    """A grey picture; ``pixels`` may be less than the header says."""
    raw = (b"\0" + b"\xff" * width) * height if pixels is None else pixels

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def bmp(width: int, height: int, pixels: bytes = b"") -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, len(pixels), 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54) + head + pixels


def gif(width: int, height: int) -> bytes:
    return (
        b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0"
        + struct.pack("<HH", width, height) + b"\0\x02\x02\x4c\x01\0;"
    )  # fmt: skip


def tiff(width: int, height: int, pixels: bytes = b"\xff") -> bytes:
    tags = ((256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1),
            (278, 4, height), (279, 4, len(pixels)))  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)


def webp(width: int, height: int) -> bytes:
    body = (
        b"VP8X"
        + struct.pack("<I", 10)
        + bytes(4)
        + (width - 1).to_bytes(3, "little")
        + (height - 1).to_bytes(3, "little")
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def wav(seconds: float = 0.2, rate: int = 8000) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(bytes(int(seconds * rate) * 2))
    return out.getvalue()


MAIL = (
    "From: Ann <ann@example.org>\r\nTo: bo@example.org\r\nSubject: Minutes\r\nDate: Mon, 1 Jan 2024 10:00:00 +0000\r\n"
    "Message-ID: <1@example.org>\r\nMIME-Version: 1.0\r\n"
)
LETTER = MAIL + (
    'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHello from '
    "a mail.\r\n--b\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>Hello=20there</p>"
    '\r\n--b\r\nContent-Type: text/plain; name="note.txt"\r\nContent-Disposition: attachment; filename="note.txt"\r\n'
    "Content-Transfer-Encoding: base64\r\n\r\nSGVsbG8gYXR0YWNobWVudA==\r\n--b--\r\n"
)
NOTEBOOK = {"cells": [{"cell_type": "markdown", "metadata": {}, "source": ["# Hello from a notebook"]},
                      {"cell_type": "code", "metadata": {}, "source": ["print(1)"], "outputs": [], "execution_count": 1}],
            "metadata": {}, "nbformat": 4, "nbformat_minor": 5}  # fmt: skip


@lru_cache(maxsize=1)
def good() -> dict[str, bytes]:
    """A small document of every format that can be built without an engine, by name."""
    hello = "Hello from a text.\n\nA second paragraph follows.\n"
    table = "<table:table table:name='T'><table:table-row><table:table-cell><text:p>Cell</text:p></table:table-cell></table:table-row></table:table>"
    texts = {
        "a.txt": hello,
        "a.md": "---\ntitle: A\n---\n# Hello\n\nA *word* and [a link](http://example.org).\n\n- one\n- two\n\n|a|b|\n|-|-|\n|1|2|\n\n```py\nx\n```\n",
        "a.html": "<!doctype html><title>T</title><main><h1>Hello</h1><p>A page &amp; more.<ul><li>one<li>two</ul><table><tr><th>a<th>b<tr><td>1<td rowspan=2>2</table><pre>x</pre></main>",
        "a.csv": "name,price\nstove,3.5\n\"a, b\",4\n", "a.tsv": "name\tprice\nstove\t3.5\n",
        "a.json": json.dumps({"title": "Hello", "items": [{"a": 1, "b": [1, 2, {"c": None}]}]}),
        "a.ndjson": '{"a": "hello"}\n{"a": 2}\n', "a.ipynb": json.dumps(NOTEBOOK), "a.yaml": "a: hello\nb:\n  - 1\n  - 2\n",
        "a.xml": "<?xml version='1.0'?><r><title>Hello</title><p a='1'>A text <b>in</b> XML.</p></r>",
        "a.svg": "<svg xmlns='http://www.w3.org/2000/svg'><text>Hello</text></svg>",
        "a.eml": LETTER, "a.mbox": "From ann Mon Jan  1 10:00:00 2024\n" + LETTER.replace("\r", "") + "\nFrom bo Mon Jan  1 10:00:00 2024\n" + LETTER.replace("\r", ""),
        "a.mht": MAIL + 'Content-Type: multipart/related; boundary="b"\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>Hello page</p>\r\n--b--\r\n',
        "a.ics": "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTART:20240101T100000Z\r\nSUMMARY:Hello\r\n  there\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
        "a.vcf": "BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Ann Hello\r\nTEL;TYPE=work:+1\r\nEND:VCARD\r\n",
        "a.vtt": "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\nHello there\n", "a.srt": "1\n00:00:01,000 --> 00:00:02,000\nHello there\n",
        "a.rst": "Hello\n=====\n\nA text with ``code``.\n\n- one\n- two\n", "a.org": "* Hello\n\nA text.\n** Two\n- item\n",
        "a.adoc": "= Hello\n\nA text.\n\n== Two\n\n* item\n", "a.tex": "\\documentclass{article}\\begin{document}\\section{Hello} A text.\\end{document}\n",
        "a.rtf": "{\\rtf1\\ansi{\\fonttbl{\\f0 Arial;}}\\f0 Hello from \\b rich\\b0  text.\\par \\u228? caf\\'e9\\par}",
        "a.py": "def hello():\n    return 1\n", "a.fodt": "<?xml version='1.0'?><office:document xmlns:office='urn:oasis:names:tc:opendocument:xmlns:office:1.0' xmlns:text='urn:oasis:names:tc:opendocument:xmlns:text:1.0' office:mimetype='application/vnd.oasis.opendocument.text'><office:body><office:text><text:p>Hello</text:p></office:text></office:body></office:document>",
    }  # fmt: skip
    found = {name: text.encode() for name, text in texts.items()}
    found |= {
        "a.pdf": pdf("Hello from a PDF.", "A second page."), "a.docx": word(), "a.xlsx": sheet(), "a.pptx": slides(),
        "a.odt": odt(), "a.ods": odf("spreadsheet", f"<office:spreadsheet>{table}</office:spreadsheet>"),
        "a.odp": odf("presentation", "<office:presentation><draw:page><draw:frame><draw:text-box><text:p>Hello</text:p></draw:text-box></draw:frame></draw:page></office:presentation>"),
        "a.epub": epub(), "a.zip": packed({"in/a.txt": hello, "b.md": "# B\n\nIn a zip."}),
        "a.tar": tar({"a.txt": hello.encode()}), "a.tgz": tar({"a.txt": hello.encode()}, "w:gz"),
        "b.txt.gz": gzip.compress(hello.encode(), mtime=0), "b.txt.bz2": bz2.compress(hello.encode()),
        "b.txt.xz": lzma.compress(hello.encode()), "a.png": png(8, 8), "a.bmp": bmp(2, 2, b"\xff" * 16), "a.gif": gif(1, 1),
        "a.tiff": tiff(1, 1), "a.webp": webp(1, 1), "a.wav": wav(),
        "a.doc": build_office.doc([("Title\r", 1, b""), ("Hello from an old Word.\r", 0, b"")]),
        "a.xls": build_office.xls({"Old": [["Item", "Price"], ["Hello", 3.5]]}),
        "a.ppt": build_office.ppt([("Hello", "one\rtwo", "A note.")]),
        "a.msg": compound({"__properties_version1.0": bytes(32), "__substg1.0_0037001F": "Hello".encode("utf-16-le"),
                           "__substg1.0_1000001F": "A body of text.".encode("utf-16-le")}),
    }  # fmt: skip
    return found


# -- hostile documents ----------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Case:
    """One hostile document. ``kinds``: which refusals are right; ``""`` is to come in."""

    name: str
    build: Callable[[], bytes]
    kinds: frozenset[str]

    @property
    def harmless(self) -> bool:
        return "" in self.kinds


def case(name: str, build: Callable[[], bytes] | bytes | str, *kinds: str) -> Case:
    if isinstance(build, str):
        build = build.encode("utf-8", "surrogatepass")
    made = build
    return Case(name, (lambda: made) if isinstance(made, bytes) else made, frozenset(kinds))


def encrypted() -> Iterator[Case]:
    """Everything that needs a password says so."""
    office = compound({"EncryptionInfo": b"\4\0\4\0\x40\0\0\0<encryption/>", "EncryptedPackage": bytes(64)})
    flags = bytearray(packed({"a.txt": "secret" * 50}))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        flags[flags.index(mark) + at] |= 1
    sealed = '<manifest:file-entry manifest:full-path="content.xml" manifest:media-type="text/xml"><manifest:encryption-data manifest:checksum-type="SHA1/1K" manifest:checksum="AA=="><manifest:algorithm manifest:algorithm-name="Blowfish CFB" manifest:initialisation-vector="AAAAAAAAAAA="/><manifest:key-derivation manifest:key-derivation-name="PBKDF2" manifest:iteration-count="1024" manifest:salt="AAAAAAAAAAAAAAAAAAAAAA=="/></manifest:encryption-data></manifest:file-entry>'
    yield case("encrypted.pdf", ENCRYPTED, "encrypted", "malformed")
    for suffix in ("docx", "xlsx", "pptx"):
        yield case(f"encrypted.{suffix}", office, "encrypted", "malformed")
    yield case("encrypted.zip", bytes(flags), "encrypted", "malformed", "empty", "")
    yield case("encrypted.odt", odf("text", "", manifest=sealed), "encrypted", "malformed", "empty")


def tiny() -> Iterator[Case]:
    for name in good():
        suffix = name.partition(".")[2]
        yield case(f"zero.{suffix}", b"", "empty")
        yield case(f"one.{suffix}", b"x", "malformed", "unsupported", "empty", "encoding", "engine_missing", "slow", "")
        yield case(
            f"null.{suffix}", b"\0", "malformed", "unsupported", "empty", "encoding", "engine_missing", "slow", ""
        )


ANY = ("", "malformed", "unsupported", "empty", "encoding", "engine_missing", "encrypted", "expansion", "slow")


def truncated() -> Iterator[Case]:
    for name, data in good().items():
        stem, _, suffix = name.partition(".")
        for part in (1, 3, 5, 7, 9):
            yield case(f"cut{part}{stem}.{suffix}", data[: len(data) * part // 10], *ANY)
        yield case(f"cut{stem}end.{suffix}", data[:-1], *ANY)
        yield case(f"grown{stem}.{suffix}", data + b"\0garbage\xff" * 100, *ANY)


def disguised() -> Iterator[Case]:
    """Every format under every other's name."""
    for name, data in good().items():
        for other in good():
            if other != name:
                yield case(f"{name.replace('.', '-')}.{other.partition('.')[2]}", data, *ANY)


def entities(address: str = "http://127.0.0.1:9/") -> Iterator[Case]:
    """Entities that grow, and such that reach out, wherever XML is read."""
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    heads = {
        "laughs": f'<!DOCTYPE r [<!ENTITY l0 "lol">{laughs}]>',
        "quadratic": f'<!DOCTYPE r [<!ENTITY l11 "{"x" * 100_000}">]>',
        "external": '<!DOCTYPE r [<!ENTITY l11 SYSTEM "file:///etc/passwd">]>',
        "remote": f'<!DOCTYPE r [<!ENTITY l11 SYSTEM "{address}entity">]>',
        "parameter": f'<!DOCTYPE r [<!ENTITY % p SYSTEM "{address}dtd"> %p;]>',
        "dtd": f'<!DOCTYPE r SYSTEM "{address}dtd">', "public": f'<!DOCTYPE r PUBLIC "-//X" "{address}dtd">',
        "loop": '<!DOCTYPE r [<!ENTITY l11 "&l10;"><!ENTITY l10 "&l11;">]>',
    }  # fmt: skip
    for kind, head in heads.items():
        use = "&l11;" * (2000 if kind == "quadratic" else 1)
        use = "text" if kind in ("parameter", "dtd", "public") else use
        text = f"<?xml version='1.0'?>{head}<r><p>before {use} after</p></r>"
        rights = ("malformed", "expansion", "")
        for suffix in ("xml", "svg", "html", "rss", "fodt"):
            yield case(f"{kind}.{suffix}", text, *rights, "empty", "unsupported")
        yield case(f"{kind}-16.xml", text.encode("utf-16"), *rights, "encoding", "unsupported")
        yield case(f"{kind}.docx", word(f"<w:p><w:r><w:t>{use}</w:t></w:r></w:p>", head=head), *rights)
        yield case(f"{kind}.odt", odt(f"<text:p>{use}</text:p>", head=head), *rights)
        yield case(
            f"{kind}.xlsx", sheet(parts={"xl/sharedStrings.xml": f"{head}<sst><si><t>{use}</t></si></sst>"}), *rights
        )
        yield case(f"{kind}.epub", packed({"mimetype": "application/epub+zip", "META-INF/container.xml": f"{head}<container>{use}</container>"}, store=("mimetype",)), *rights)  # fmt: skip
    yield case("xinclude.xml", f'<r xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="file:///etc/passwd" parse="text"/><xi:include href="{address}x"/><p>t</p></r>', "malformed", "unsupported", "")  # fmt: skip
    yield case("stylesheet.xml", f'<?xml-stylesheet href="{address}x.xsl" type="text/xsl"?><r>text</r>', "")


def outside(address: str = "http://127.0.0.1:9/") -> Iterator[Case]:
    """References to the outside: nothing is fetched."""
    page = (f'<html><head><base href="{address}"><link rel=stylesheet href="{address}c.css"><style>@import url({address}i.css);</style>'
            f'<meta http-equiv=refresh content="0;{address}r"><script src="{address}s.js"></script></head><body><p>text</p>'
            f'<img src="{address}i.png" alt=pic><iframe src="{address}f"></iframe><object data="{address}o"></object>'
            f'<embed src="{address}e"><video src="{address}v"></video><img srcset="{address}q 2x"><svg><image href="{address}g"/>'
            f'<use xlink:href="{address}u"/></svg><form action="{address}a"></form></body></html>')  # fmt: skip
    yield case("links.html", page, "")
    yield case("links.md", f"# T\n\n![p]({address}p.png) [l]({address}l)\n\n<img src={address}x>\n", "")
    yield case("links.svg", f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"><image xlink:href="{address}i"/><text>t</text></svg>', "")  # fmt: skip
    for kind in ("attachedTemplate", "image", "frame", "oleObject"):
        yield case(f"{kind}.docx", word(relations=f'<Relationship Id="rId9" Type="{_OFFICE}/{kind}" Target="{address}{kind}" TargetMode="External"/>'), "")  # fmt: skip
    yield case("main.docx", packed({"[Content_Types].xml": "<Types/>", "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" Type="{_OFFICE}/officeDocument" Target="{address}d.xml" TargetMode="External"/></Relationships>'}), "malformed", "empty")  # fmt: skip
    yield case("up.docx", packed({"[Content_Types].xml": "<Types/>", "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" Type="{_OFFICE}/officeDocument" Target="../../../../etc/passwd"/></Relationships>'}), "malformed", "empty")  # fmt: skip
    yield case("web.xlsx", sheet('<row r="1"><c r="A1"><f>WEBSERVICE("' + address + '")</f><v>1</v></c><c r="B1" t="str"><f>HYPERLINK("' + address + '")</f><v>t</v></c></row>'), "")  # fmt: skip
    yield case("links.odt", odt(f'<text:p>t<draw:frame><draw:image xlink:href="{address}i"/></draw:frame></text:p><text:section><text:section-source xlink:href="{address}s"/></text:section>'), "")  # fmt: skip
    yield case("links.epub", epub(f'<p>t</p><img src="{address}i"/>'), "")
    yield case("body.eml", MAIL + f'Content-Type: message/external-body; access-type=URL; URL="{address}x"\r\n\r\nContent-Type: text/plain\r\n\r\n', "empty", "unsupported", "malformed", "")  # fmt: skip
    yield case("image.eml", MAIL + f'Content-Type: text/html\r\n\r\n<p>t<img src="{address}t.gif">\r\n', "")
    yield case("uri.pdf", pdf("Hello").replace(b"/Type /Catalog", b"/Type /Catalog /OpenAction << /S /URI /URI (" + address.encode() + b") >>"), "")  # fmt: skip
    yield case("form.pdf", pdf("Hello").replace(b"/Type /Catalog", b"/Type /Catalog /AA << /WC << /S /SubmitForm /F (" + address.encode() + b") >> >> /OpenAction << /S /ImportData /F (" + address.encode() + b") >>"), "")  # fmt: skip
    yield case("launch.pdf", pdf("Hello").replace(b"/Type /Catalog", b"/Type /Catalog /OpenAction << /S /Launch /F (/bin/sh) /Win << /F (calc.exe) >> >>"), "")  # fmt: skip
    yield case("script.pdf", pdf("Hello").replace(b"/Type /Catalog", b"/Type /Catalog /OpenAction << /S /JavaScript /JS (while(1){app.launchURL(\"" + address.encode() + b"\")}) >>"), "")  # fmt: skip
    yield case("data.pdf", pdf("Hello").replace(b"/Length", b"/F (/etc/passwd) /FFilter [] /Length", 1), "", "empty", "malformed")  # fmt: skip


def macros() -> Iterator[Case]:
    vba = compound({"VBA": b"Attribute VB_Name" * 50})
    yield case("macro.docm", word(parts={"word/vbaProject.bin": vba}), "")
    yield case("macro.xlsm", sheet(parts={"xl/vbaProject.bin": vba}), "")
    yield case(
        "formula.csv", 'name,price\n=cmd|\'/C calc\'!A0,@SUM(1+1)\n+1+1,-2\n"=HYPERLINK(""http://x"")",\t=1\n', ""
    )
    yield case("dde.docx", word('<w:p><w:r><w:instrText>DDEAUTO c:\\\\windows\\\\system32\\\\cmd.exe "/k calc"</w:instrText></w:r><w:r><w:t>shown</w:t></w:r></w:p>'), "")  # fmt: skip
    yield case("object.rtf", "{\\rtf1{\\object\\objautlink\\objupdate{\\*\\objdata 0105" + "00" * 500 + "}}Hello text\\par}", "", "malformed")  # fmt: skip


def _deflated(size: int, level: int = 9) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()


def overlapping(count: int, size: int) -> bytes:
    """A zip whose ``count`` members are all the same bytes of the file."""
    body, crc = _deflated(size), zlib.crc32(bytes(size))
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 8, 0, 0, crc, len(body), size, 1, 0) + b"a"
    central = b"".join(
        struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, 0, 8, 0, 0, crc, len(body), size, 8, 0, 0, 0, 0, 0, 0)
        + b"%08d" % n
        for n in range(count)
    )
    start = len(local) + len(body)
    return local + body + central + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, len(central), start, 0)


def nested_zip(depth: int, width: int, leaf: bytes, name: str = "0.txt") -> bytes:
    data = packed({f"{n}{name}": leaf for n in range(width)})
    for _ in range(depth):
        data = packed({f"{n}.zip": data for n in range(width)})
    return data


def bombs() -> Iterator[Case]:
    """What is small packed and large unpacked."""
    grows = ("expansion", "memory", "too_large", "timeout", "malformed", "unsupported", "empty", "")
    yield case("ratio.zip", lambda: packed({"a.txt": bytes(300 << 20)}), "expansion")
    yield case("many.zip", lambda: packed({f"{n}.txt": b"x" * 20 for n in range(20_000)}), "expansion", "")
    yield case("overlap.zip", lambda: overlapping(5000, 4 << 20), "expansion", "malformed")
    yield case("forty-two.zip", lambda: nested_zip(5, 16, bytes(1 << 20)), *grows)
    yield case("deep.zip", lambda: nested_zip(100, 1, b"hello"), *grows)
    yield case("ratio.docx", lambda: word("<w:p/>" * 20_000_000), "expansion")
    yield case("ratio.xlsx", lambda: sheet("<row/>" * 20_000_000), "expansion")
    yield case("ratio.odt", lambda: odt("<text:p/>" * 20_000_000), "expansion")
    yield case("spaces.odt", odt('<text:p>a<text:s text:c="2000000000"/>b</text:p>'), "expansion", "")
    yield case("repeat.ods", odf("spreadsheet", "<office:spreadsheet><table:table table:name='T'><table:table-row table:number-rows-repeated='1048576'><table:table-cell table:number-columns-repeated='16384'><text:p>x</text:p></table:table-cell></table:table-row></table:table></office:spreadsheet>"), "expansion", "")  # fmt: skip
    yield case("far.xlsx", sheet('<row r="1048576"><c r="XFD1048576" t="inlineStr"><is><t>far</t></is></c></row><row r="1"><c r="A1"><v>1</v></c></row>'), "expansion", "malformed", "memory", "")  # fmt: skip
    yield case("merged.xlsx", sheet('<row r="1"><c r="A1" t="inlineStr"><is><t>x</t></is></c></row></sheetData><mergeCells count="1"><mergeCell ref="A1:XFD1048576"/></mergeCells><sheetData>'), "expansion", "malformed", "memory", "")  # fmt: skip
    yield case("span.html", "<table>" + "<tr><td rowspan=65534 colspan=1000>x" * 200 + "</table>", "expansion", "")
    yield case("gz.txt.gz", lambda: gzip.compress(bytes(300 << 20), 1), "expansion")
    yield case("bz.txt.bz2", lambda: bz2.compress(bytes(300 << 20), 9), "expansion")
    yield case("xz.txt.xz", lambda: lzma.compress(bytes(300 << 20), preset=0), "expansion")
    yield case("tar.tgz", lambda: tar({f"{n}.txt": bytes(50 << 20) for n in range(6)}, "w:gz"), "expansion")
    yield case("gzgz.gz", lambda: gzip.compress(gzip.compress(bytes(200 << 20), 9), 9), *grows)
    sparse = tarfile.TarInfo("a.txt")
    sparse.size = 1 << 40
    yield case("claims.tar", sparse.tobuf() + bytes(2048), "malformed", "expansion", "empty", "unsupported")
    yield case("png.png", lambda: png(50_000, 50_000, bytes(1 << 20)), *grows, "slow", "engine_missing")
    for name, data in (("a.png", png(60_000, 60_000, b"")), ("a.bmp", bmp(60_000, 60_000)), ("a.gif", gif(60_000, 60_000)),
                       ("a.tiff", tiff(60_000, 60_000)), ("a.webp", webp(60_000, 60_000)),
                       ("neg.bmp", bmp(-60_000, -60_000)), ("far.tiff", tiff(1, 1)[:4] + b"\xff\xff\xff\xf0")):  # fmt: skip
        yield case(f"huge-{name}", data, *grows, "slow", "engine_missing")
    yield case("huge.wav", wav()[:40] + b"\xff\xff\xff\x7f" + bytes(100), *grows, "slow", "engine_missing")
    yield case("stream.pdf", _flate(bytes(200 << 20)), *grows)
    yield case("chain.pdf", _flate(zlib.compress(zlib.compress(bytes(100 << 20), 9), 9), 3), *grows)


def _flate(content: bytes, times: int = 1) -> bytes:
    """A PDF whose page's content is this, compressed; ``times``: how often the file says that it is."""
    stream = zlib.compress(content, 9)
    filters = b"[" + b"/FlateDecode " * times + b"]"
    body = b"%%PDF-1.4\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n2 0 obj\n<< /Type /Pages /Kids [3 0 R] /Count 1 >>\nendobj\n3 0 obj\n<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R >>\nendobj\n4 0 obj\n<< /Filter %s /Length %d >>\nstream\n%s\nendstream\nendobj\ntrailer << /Root 1 0 R >>\n%%%%EOF\n"
    return body % (filters, len(stream), stream)


def archives() -> Iterator[Case]:
    """Members that lead out, or are no files."""
    names = ["../up.txt", "/etc/passwd", "a/../../up.txt", "..\\up.txt", "C:\\up.txt", "a\0b.txt", "\x1b[31mred.txt", "a//b.txt",
             "./a.txt", "CON", "x" * 300 + ".txt", "/".join(["d"] * 200) + "/a.txt", "a\nb.txt", "\u202etxt.exe", "é.txt", "e\u0301.txt",
             "A.txt", "a.txt", "", ".", ".."]  # fmt: skip
    yield case("names.zip", lambda: packed({n: f"inside {k}" for k, n in enumerate(names)}), "", "malformed")
    yield case("names.tar", lambda: tar({n: b"inside" for n in names}), "", "malformed")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        for kind, name in ((tarfile.SYMTYPE, "sym"), (tarfile.LNKTYPE, "hard"), (tarfile.CHRTYPE, "dev"), (tarfile.BLKTYPE, "blk"), (tarfile.FIFOTYPE, "fifo"), (tarfile.DIRTYPE, "dir")):  # fmt: skip
            info = tarfile.TarInfo(name + ".txt")
            info.type, info.linkname = kind, "/etc/passwd"
            file.addfile(info)
        info = tarfile.TarInfo("sym.txt/through.txt")
        info.size = 5
        file.addfile(info, io.BytesIO(b"hello"))
    yield case("links.tar", out.getvalue(), "", "empty")
    link = zipfile.ZipInfo("link.txt")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file2:
        file2.writestr(link, "/etc/passwd")
        file2.writestr("plain.txt", "hello plain")
    yield case("link.zip", made.getvalue(), "", "empty")
    yield case("prefix.zip", b"MZ" + bytes(500) + good()["a.zip"], "", "malformed", "unsupported")
    yield case("two-ends.zip", good()["a.zip"] + good()["a.zip"][-22:], "", "malformed")
    yield case("methods.zip", good()["a.zip"].replace(b"\x08\0", b"\x63\0"), "", "malformed", "empty", "encrypted", "unsupported")  # fmt: skip


def pdfs() -> Iterator[Case]:
    """Structures of a PDF that go in circles, deep or nowhere."""
    plain, bad = pdf("Hello"), ("malformed", "empty", "too_large", "")
    yield case("cycle.pdf", plain.replace(b"/Kids [4 0 R]", b"/Kids [2 0 R]"), *bad)
    yield case("self.pdf", plain.replace(b"/Pages 2 0 R", b"/Pages 1 0 R"), *bad)
    yield case("count.pdf", plain.replace(b"/Count 1", b"/Count 2147483647"), *bad)
    yield case("minus.pdf", plain.replace(b"/Count 1", b"/Count -5"), *bad)
    yield case("array.pdf", plain.replace(b"/MediaBox [", b"/X " + b"[" * 100_000 + b" /MediaBox ["), *bad)
    yield case("dicts.pdf", plain.replace(b"/MediaBox [", b"/X " + b"<</A " * 50_000 + b" /MediaBox ["), *bad)
    yield case("xref.pdf", plain.replace(b"startxref\n", b"startxref\n9"), *bad)
    yield case("no-trailer.pdf", plain[: plain.index(b"trailer")], *bad)
    yield case("prev.pdf", plain.replace(b"trailer << ", b"trailer << /Prev %d " % plain.index(b"xref\n0")), *bad)
    yield case("length.pdf", plain.replace(b"/Length ", b"/Length 9999999"), *bad)
    yield case("far.pdf", plain.replace(b"72 720 Td", b"1e308 -1e308 Td 1e-300 0 0 1e300 0 0 Tm"), *bad)
    yield case("kids.pdf", plain.replace(b"/Kids [4 0 R]", b"/Kids [" + b"4 0 R " * 30_000 + b"]").replace(b"/Count 1", b"/Count 30000"), *bad)  # fmt: skip
    yield case("q.pdf", plain.replace(b"BT /F1", b"q " * 60_000 + b"BT /F1"), *bad)
    yield case(
        "form.pdf", plain.replace(b"/Type /Page ", b"/Type /Page /Resources << /XObject << /X 3 0 R >> >> "), *bad
    )
    yield case("old-prefix.pdf", bytes(900) + plain, "", "malformed", "unsupported")


def nested(depth: int = 1000) -> Iterator[Case]:
    """Depth, wherever a format has it."""
    fine = ("", "malformed", "empty", "expansion", "unsupported")
    for deep in (depth, depth * 20):
        for name, (start, end) in {
            "div.html": ("<div>", "</div>"), "table.html": ("<table><tr><td>", "</table>"), "ul.html": ("<ul><li>", "</ul>"),
            "b.html": ("<b>", ""), "font.html": ("<font><p>", ""), "svg.html": ("<svg><g>", ""), "quote.html": ("<blockquote>", ""),
            "form.html": ("<select><option>", ""), "template.html": ("<template>", ""), "dl.html": ("<dl><dd>", ""),
            "x.xml": ("<a>", "</a>"), "g.svg": ("<g>", "</g>"), "list.json": ("[", "]"), "map.json": ('{"a":', "}"),
            "list.yaml": ("[", "]"), "seq.yaml": ("- ", ""), "group.rtf": ("{", "}"), "quote.md": ("> ", ""), "list.md": ("- ", ""),
            "emph.md": ("*a ", ""), "link.md": ("[a", "](b)"), "link2.md": ("[", ""), "img.md": ("![", ""), "tick.md": ("`", ""), "brace.tex": ("{", "}"),
            "env.tex": ("\\begin{a}", "\\end{a}"), "star.org": ("*", ""), "quote.rst": (" ", ""), "comment.eml": ("(", ")"),
        }.items():  # fmt: skip
            head = {"group.rtf": "{\\rtf1 ", "comment.eml": "From: ", "x.xml": "<?xml version='1.0'?>"}.get(name, "")
            tail = {"group.rtf": "}", "comment.eml": " a@b.org\nSubject: x\n\nbody\n"}.get(name, "")
            inner = "1" if name == "map.json" else "deep text" if name.endswith(("html", "md", "xml", "svg", "rtf", "tex", "yaml", "rst", "org")) else ""  # fmt: skip
            yield case(f"{deep}-{name}", head + start * deep + inner + end * deep + tail, *fine, "timeout")
        yield case(f"{deep}-p.docx", word("<w:sdt><w:sdtContent>" * deep + "<w:p><w:r><w:t>x</w:t></w:r></w:p>" + "</w:sdtContent></w:sdt>" * deep), *fine)  # fmt: skip
        yield case(f"{deep}-tbl.docx", word("<w:tbl><w:tr><w:tc>" * deep + "<w:p><w:r><w:t>x</w:t></w:r></w:p>" + "</w:tc></w:tr></w:tbl>" * deep), *fine)  # fmt: skip
        yield case(f"{deep}-list.odt", odt("<text:list><text:list-item>" * deep + "<text:p>x</text:p>" + "</text:list-item></text:list>" * deep), *fine)  # fmt: skip
        yield case(f"{deep}-span.odt", odt("<text:p>" + "<text:span>" * deep + "x" + "</text:span>" * deep + "</text:p>"), *fine)  # fmt: skip
        parts = "".join(f'Content-Type: multipart/mixed; boundary="b{n}"\r\n\r\n--b{n}\r\n' for n in range(deep))
        yield case(f"{deep}-parts.eml", MAIL + parts + "Content-Type: text/plain\r\n\r\ndeep\r\n", *fine, "timeout")
        yield case(f"{deep}-same.eml", MAIL + 'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n' * deep + "\r\nx\r\n", *fine, "timeout")  # fmt: skip
        yield case(f"{deep}-mails.eml", "Content-Type: message/rfc822\r\n\r\n" * deep + MAIL + "\r\nhello\r\n", *fine, "timeout")  # fmt: skip
    letter = LETTER.encode()
    for _ in range(8):
        letter = (MAIL + "Content-Type: message/rfc822\r\n\r\n").encode() + letter
    yield case("eight.eml", letter, *fine)


RUNS = (" ", "-", "|", "[", "]", "_", "\\", "*", "`", "<", "&", "!", "#", "(", "[](", "[](a ", "![", "<!--", "- ", "> ", "~", "a@", "[[",
        "](", "&#", "**a", "__a ", "`a` ", "`a``", "<a ", '<a b="', "1. ", "\t", "\n ", "\n>", "=\n", "|-", "| ", '"', ",", ";", "{",
        "[a]:", "---\n", "http://", "0", "e9", "a\n-\n", "\x0c", "<p>", "<b>", "<td>", "<![CDATA[", "<?", "=?utf-8?q?", "=", "=\r\n", ".", "a.",
        "'", "\\'", "\\u1", "\\begin{", "$", "%", "@", "://", "+1 ", "1-")  # fmt: skip


def runs(
    length: int = 20_000, suffixes: tuple[str, ...] = ("md", "html", "txt", "csv", "json", "eml")
) -> Iterator[Case]:
    """Long runs of what patterns stumble over; linear time, or they would not end in time."""
    for at, unit in enumerate(RUNS):
        run = unit * (length // len(unit))
        for suffix in suffixes:
            yield case(f"run{at}.{suffix}", run, *ANY)
            yield case(f"tail{at}.{suffix}", f"# a{run}b\n\n[](a{run}\n\n`a{run}x |\n\n{run}", *ANY)


def odd() -> Iterator[Case]:
    """Characters that break things further on."""
    every = "".join(map(chr, range(1, 0x300))) + "\u200b\u202e\u2066\u2069\ufeff\ufffe\uffff\U0010ffff\U000e0041"
    for suffix in ("txt", "md", "html", "csv", "json", "xml", "eml", "rtf", "yaml"):
        yield case(f"every.{suffix}", every, *ANY)
        yield case(f"lone.{suffix}", b"before \xed\xa0\x80 \xed\xbf\xbf after, and more text to come", *ANY)
        yield case(f"broken.{suffix}", b"before \xff\xfe\xc0\x80\xf5\x80\x80\x80 after", *ANY)
        yield case(f"nul.{suffix}", b"before\0after\0" * 9, *ANY)
        yield case(f"bidi.{suffix}", "access \u202elevel\u2066 user\u2069 end", *ANY)
    yield case("type.eml", b"Content-Type:\0/\nE", *ANY)  # the attachment's name is made from it
    yield case("lone.json", '{"a\\ud800": "\\udfff", "title": "\\ud83d"}', "")
    yield case("keys.json", json.dumps({f"k{n}": {"": "", "\0": "\x1b[31m"} for n in range(1000)}), "")
    yield case("number.json", "[" + "9" * 100_000 + "]", "", "malformed")
    yield case("float.json", "[1e999999, -1e999999, NaN, Infinity]", "", "malformed")
    yield case(
        "instructions.html",
        "<p>text<?php echo 1 ?><table><tr><?x?><td>a<?y?>b</table><ul><?z?><li>c</ul><pre><?w?></pre>",
        "",
    )
    yield case("charset.html", b'<meta charset="undefined"><p>\xff text', *ANY)
    yield case("idna.html", b'<meta charset="idna"><p>\xff text', *ANY)
    yield case("hex.html", b'<meta charset="hex"><p>\xff text', *ANY)
    yield case("zlib.html", b'<meta charset="zlib_codec"><p>\xff text', *ANY)
    yield case("unicode-escape.html", b'<meta charset="unicode_escape"><p>\xff \\ud800 text', *ANY)
    for charset in (
        "hex",
        "zlib",
        "idna",
        "undefined",
        "rot13",
        "utf-7",
        "unicode_escape",
        "x" * 5000,
        "\0",
        "punycode",
    ):
        name = f"charset-{charset[:8]!a}.eml".replace("\\", "").replace("'", "").replace("x00", "nul")
        yield case(name, MAIL + f"Content-Type: text/plain; charset={charset}\r\n\r\n+2AA- \\ud800 text ".replace("\0", "\x01") + "\u00e9", *ANY)  # fmt: skip
    yield case("headers.eml", "Subject: =?utf-8?b?" + "////" * 100 + "?= =?hex?q?zz?= =?x?b?A?=\r\nFrom: <\r\nDate: 99\r\nContent-Type: ;;;\r\n\r\nbody", *ANY)  # fmt: skip


def large() -> Iterator[Case]:
    """Much of one thing. Minutes of machine time all together."""
    big = ("", "expansion", "memory", "timeout", "too_large")
    yield case("rows.csv", lambda: b"a,b\n" + b"1,2\n" * 10_000_000, *big)
    yield case(
        "columns.csv", lambda: b",".join(b"c%d" % n for n in range(300_000)) + b"\n" + b"1," * 300_000 + b"\n", *big
    )
    yield case(
        "square.csv", lambda: b",".join(b"column%d" % n for n in range(5000)) + (b"\n" + b"1," * 5000) * 2000, *big
    )
    yield case("line.txt", lambda: b"word " * 20_000_000, *big)
    yield case("one-word.txt", lambda: b"x" * 100_000_000, *big)
    yield case("line.md", lambda: b"word *a* " * 11_000_000, *big)
    yield case("cell.csv", lambda: b'a\n"' + b"x y " * 10_000_000 + b'"\n', *big)
    yield case("cell.xlsx", lambda: sheet('<row r="1"><c r="A1" t="inlineStr"><is><t>' + "".join(random.Random(1).choices("ab ", k=5_000_000)) + "</t></is></c></row>"), *big)  # fmt: skip
    yield case("blocks.md", lambda: b"a\n\n" * 2_000_000, *big)
    yield case("blocks.html", lambda: b"<p>a" * 2_000_000, *big)
    yield case("blocks.txt", lambda: b"a\n\n" * 2_000_000, *big)
    yield case("values.json", lambda: b"[" + b'{"a":1},' * 3_000_000 + b"1]", *big)
    yield case("parts.eml", lambda: (MAIL + 'Content-Type: multipart/mixed; boundary="b"\r\n\r\n' + '--b\r\nContent-Disposition: attachment; filename="a.txt"\r\n\r\nx\r\n' * 50_000 + "--b--\r\n").encode(), *big, "malformed")  # fmt: skip
    yield case("headers.eml", lambda: (MAIL + "X-A: b\r\n" * 500_000 + "\r\nbody\r\n").encode(), *big, "malformed")
    yield case(
        "to.eml", lambda: (MAIL + "Cc: " + "a@b.org, " * 300_000 + "\r\n\r\nbody\r\n").encode(), *big, "malformed"
    )
    yield case("cards.vcf", lambda: good()["a.vcf"] * 200_000, *big)
    yield case("mails.mbox", lambda: good()["a.mbox"] * 20_000, *big)


ENGINES = (".png", ".bmp", ".gif", ".tiff", ".webp", ".wav")  # what is read by engines that take seconds to load


def pictures() -> Iterator[Case]:
    """Damaged images and recordings."""
    for group in (tiny, truncated):
        yield from (each for each in group() if each.name.endswith(ENGINES))
    yield case("frames.tiff", tiff(1, 1)[:-4] + struct.pack("<I", 8), "malformed", "empty")  # its next image is itself
    second = tiff(1, 1)
    yield case(
        "second.tiff", second[:-4] + struct.pack("<I", len(second)) + struct.pack("<HI", 0, 0), "malformed", "empty"
    )


SMALL: Mapping[str, Callable[[], Iterator[Case]]] = {
    "encrypted": encrypted, "tiny": tiny, "truncated": truncated, "entities": entities, "outside": outside, "macros": macros,
    "archives": archives, "pdfs": pdfs, "odd": odd,
}  # fmt: skip
SLOW: Mapping[str, Callable[[], Iterator[Case]]] = {
    "pictures": pictures, "disguised": disguised, "bombs": bombs, "nested": nested, "runs": runs, "large": large,
}  # fmt: skip
