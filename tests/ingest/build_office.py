"""Office documents built in code: packages of XML, and the compound files of the years before 2007."""

from __future__ import annotations

import base64
import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
TYPES = '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'
R_NS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
R = f'xmlns:r="{R_NS}"'
A = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
P = 'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main"'
S = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_ODF = " ".join(
    f'xmlns:{short}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
    for short, name in (("office", "office"), ("text", "text"), ("table", "table"), ("draw", "drawing"),
                        ("style", "style"), ("presentation", "presentation"), ("svg", "svg-compatible"))
) + ' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xlink="http://www.w3.org/1999/xlink"'  # fmt: skip


def zipped(parts: Mapping[str, str | bytes], *, first: str = "") -> bytes:
    """A package. ``first``: a member that is stored, not packed, before the others."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        if first:
            packed.writestr(zipfile.ZipInfo("mimetype"), first)
        for name, text in parts.items():
            packed.writestr(name, text)
    return out.getvalue()


def relations(**targets: tuple[str, str]) -> str:
    """By id: the kind and the target; what has a colon in it is outside."""
    outside = 'TargetMode="External"'
    inner = "".join(
        f'<Relationship Id="{i}" Type="{R_NS}/{kind}" Target="{target}" {outside if ":" in target else ""}/>'
        for i, (kind, target) in targets.items()
    )
    return (
        f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{inner}</Relationships>'
    )


# --- Word -----------------------------------------------------------------------------------------
def word(body: str, beside: Mapping[str, bytes] | None = None, **parts: str) -> bytes:
    """A Word document around the XML of its body, which may use w, r, a, wp, wps, mc, m and v. ``rels``: relations."""
    more = " ".join((
        W, R, A, 'xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing"',
        'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"',
        'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"', 'xmlns:wps="urn:wps"', 'xmlns:v="urn:v"',
    ))  # fmt: skip
    named = {f"word/{name}.xml": text for name, text in parts.items() if name != "rels"}
    files = {
        "[Content_Types].xml": TYPES,
        "word/document.xml": f"<w:document {more}><w:body>{body}</w:body></w:document>",
    }
    if "rels" in parts:
        files["word/_rels/document.xml.rels"] = parts["rels"]
    return zipped({**files, **named, **{f"word/{name}": data for name, data in (beside or {}).items()}})


def p(text: str, style: str = "", more: str = "") -> str:
    named = f'<w:pStyle w:val="{style}"/>' if style else ""
    return f"<w:p><w:pPr>{named}{more}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def tc(inner: str, more: str = "") -> str:
    return f"<w:tc><w:tcPr>{more}</w:tcPr>{inner if inner.startswith('<') else p(inner)}</w:tc>"


def tbl(*rows: Sequence[str]) -> str:
    return "<w:tbl>" + "".join("<w:tr>" + "".join(row) + "</w:tr>" for row in rows) + "</w:tbl>"


# --- PowerPoint -----------------------------------------------------------------------------------
def sp(text: str, role: str = "", y: int = 0, x: int = 0, list_: str = "") -> str:
    place = f'<p:spPr><a:xfrm><a:off x="{x}" y="{y}"/></a:xfrm></p:spPr>' if x or y else "<p:spPr/>"
    ph = f'<p:ph type="{role}"/>' if role else ""
    lines = "".join(f"<a:p><a:pPr>{list_}</a:pPr><a:r><a:t>{line}</a:t></a:r></a:p>" for line in text.split("\n"))
    return f'<p:sp><p:nvSpPr><p:cNvPr id="1" name="x"/><p:nvPr>{ph}</p:nvPr></p:nvSpPr>{place}<p:txBody>{lines}</p:txBody></p:sp>'


def slides(*trees: str, notes: Mapping[int, str] | None = None, hidden: Sequence[int] = (), **parts: str) -> bytes:
    """A presentation of slides around the XML of their shapes; ``notes`` by number. ``parts``: relations of slide 1."""
    files: dict[str, str | bytes] = {}
    related, listed = {}, ""
    for number, tree in enumerate(trees, 1):
        show = ' show="0"' if number in hidden else ""
        files[f"ppt/slides/s{number}.xml"] = (
            f"<p:sld {P} {A} {R}{show}><p:cSld><p:spTree>{tree}</p:spTree></p:cSld></p:sld>"
        )
        beside = {"n": ("notesSlide", f"../notes/n{number}.xml")} if notes and number in notes else {}
        if number == 1:
            beside |= {name: (name, f"/ppt/{name}.xml") for name in parts}
        files[f"ppt/slides/_rels/s{number}.xml.rels"] = relations(**beside)
        if notes and number in notes:
            files[f"ppt/notes/n{number}.xml"] = (
                f"<p:notes {P} {A}><p:cSld><p:spTree>{sp(notes[number], 'body')}{sp('7', 'sldNum')}</p:spTree></p:cSld></p:notes>"
            )
        related[f"s{number}"] = ("slide", f"slides/s{number}.xml")
        listed += f'<p:sldId id="{255 + number}" r:id="s{number}"/>'
    files |= {f"ppt/{name}.xml": text for name, text in parts.items()}
    files["[Content_Types].xml"] = TYPES
    files["ppt/presentation.xml"] = f"<p:presentation {P} {R}><p:sldIdLst>{listed}</p:sldIdLst></p:presentation>"
    files["ppt/_rels/presentation.xml.rels"] = relations(**related)
    return zipped(files)


# --- Excel ----------------------------------------------------------------------------------------
def book(sheets: Mapping[str, str], formats: Sequence[str] = (), shared: Sequence[str] = (), hidden: Sequence[str] = (),
         beside: Mapping[str, Mapping[str, str]] | None = None, **more: str) -> bytes:  # fmt: skip
    """A workbook. ``sheets``: by name the XML of rows (and what follows ``sheetData`` after a ``|``). ``formats``: the
    number format of each cell style. ``beside``: by sheet the parts that it points to, by kind."""
    files: dict[str, str | bytes] = {"[Content_Types].xml": TYPES}
    related = {"st": ("styles", "styles.xml"), "ss": ("sharedStrings", "sharedStrings.xml")}
    listed = ""
    for number, (name, rows) in enumerate(sheets.items(), 1):
        rows, _, after = rows.partition("|")
        files[f"xl/worksheets/s{number}.xml"] = f"<worksheet {S} {R}><sheetData>{rows}</sheetData>{after}</worksheet>"
        state = ' state="hidden"' if name in hidden else ""
        listed += f'<sheet name="{name}" sheetId="{number}" r:id="s{number}"{state}/>'
        related[f"s{number}"] = ("worksheet", f"worksheets/s{number}.xml")
        parts = (beside or {}).get(name, {})
        files[f"xl/worksheets/_rels/s{number}.xml.rels"] = relations(**{k: (k, f"/xl/{k}.xml") for k in parts})
        files |= {f"xl/{kind}.xml": text for kind, text in parts.items()}
    codes = "".join(f'<numFmt numFmtId="{200 + n}" formatCode="{c}"/>' for n, c in enumerate(formats))
    xfs = "".join(f'<xf numFmtId="{200 + n}"/>' for n in range(len(formats)))
    files["xl/styles.xml"] = (
        f'<styleSheet {S}><numFmts>{codes}</numFmts><cellXfs><xf numFmtId="0"/>{xfs}</cellXfs></styleSheet>'
    )
    files["xl/sharedStrings.xml"] = f"<sst {S}>" + "".join(f"<si><t>{t}</t></si>" for t in shared) + "</sst>"
    files["xl/_rels/workbook.xml.rels"] = relations(**related)
    files["xl/workbook.xml"] = f"<workbook {S} {R}>{more.get('workbook', '')}<sheets>{listed}</sheets></workbook>"
    return zipped(files)


def row(number: int, *cells: tuple[str, str | float], style: int = 0, more: str = "") -> str:
    """Cells by name; text is written into the cell, numbers with ``style``."""
    inner = "".join(
        f'<c r="{at}{number}" t="inlineStr"><is><t>{value}</t></is></c>' if isinstance(value, str)
        else f'<c r="{at}{number}" s="{style}"><v>{value!r}</v></c>' for at, value in cells
    )  # fmt: skip
    return f'<row r="{number}"{more}>{inner}</row>'


def locked(data: bytes, password: str) -> bytes:
    """The same Office Open XML document under a password; made larger, for the writer's small files are broken."""
    from msoffcrypto.format.ooxml import OOXMLFile

    whole = io.BytesIO(data)
    with zipfile.ZipFile(whole, "a") as packed:
        packed.writestr("docProps/thumbnail.bin", hashlib.shake_256(b"noise").digest(8_000))
    data, out = whole.getvalue(), io.BytesIO()
    OOXMLFile(io.BytesIO(data)).encrypt(password, out)
    return out.getvalue()


# --- OpenDocument ---------------------------------------------------------------------------------
def odf(kind: str, body: str, styles: str = "", automatic: str = "", **files: str | bytes) -> bytes:
    """``kind``: ``text``, ``spreadsheet`` or ``presentation``."""
    parts: dict[str, str | bytes] = {
        "content.xml": odf_flat(kind, body, automatic, "document-content"),
        "styles.xml": f"<office:document-styles {_ODF}>{styles}</office:document-styles>",
        "meta.xml": f"<office:document-meta {_ODF}><office:meta><dc:title>A title</dc:title></office:meta></office:document-meta>",
    }
    return zipped(parts | files, first=f"application/vnd.oasis.opendocument.{kind}")


def odf_flat(kind: str, body: str, automatic: str = "", root: str = "document") -> str:
    return (
        f"<office:{root} {_ODF}><office:automatic-styles>{automatic}</office:automatic-styles>"
        f"<office:body><office:{kind}>{body}</office:{kind}></office:body></office:{root}>"
    )


def odf_locked(kind: str, body: str, password: str) -> bytes:
    """As OpenDocument 1.2 does: deflated, AES-256 in CBC mode, a key from PBKDF2."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    parts: dict[str, bytes] = {}
    entries = ""
    for name, text in (("content.xml", odf_flat(kind, body, "", "document-content")),
                       ("styles.xml", f"<office:document-styles {_ODF}/>"), ("meta.xml", f"<office:document-meta {_ODF}/>")):  # fmt: skip
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = packer.compress(text.encode()) + packer.flush()
        check = hashlib.sha256(packed[:1024]).digest()
        fill = 16 - len(packed) % 16
        packed += bytes(fill - 1) + bytes((fill,))
        key = hashlib.pbkdf2_hmac("sha1", hashlib.sha256(password.encode()).digest(), b"s" * 16, 1000, 32)
        sealer = Cipher(algorithms.AES(key), modes.CBC(b"i" * 16)).encryptor()
        parts[name] = sealer.update(packed) + sealer.finalize()
        entries += (
            f'<m:file-entry m:full-path="{name}"><m:encryption-data m:checksum-type="urn:sha256-1k" '
            f'm:checksum="{base64.b64encode(check).decode()}"><m:algorithm m:algorithm-name="http://www.w3.org/2001/04/'
            f'xmlenc#aes256-cbc" m:initialisation-vector="{base64.b64encode(b"i" * 16).decode()}"/><m:key-derivation '
            f'm:key-derivation-name="PBKDF2" m:key-size="32" m:iteration-count="1000" '
            f'm:salt="{base64.b64encode(b"s" * 16).decode()}"/><m:start-key-generation '
            f'm:start-key-generation-name="http://www.w3.org/2000/09/xmldsig#sha256"/></m:encryption-data></m:file-entry>'
        )
    manifest = f'<m:manifest xmlns:m="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">{entries}</m:manifest>'
    return zipped({**parts, "META-INF/manifest.xml": manifest}, first=f"application/vnd.oasis.opendocument.{kind}")


# --- books ----------------------------------------------------------------------------------------
def epub(*chapters: str, encryption: str = "") -> bytes:
    items = "".join(f'<item id="c{n}" href="text/c{n}.xhtml"/>' for n in range(len(chapters)))
    spine = "".join(f'<itemref idref="c{n}"/>' for n in range(len(chapters)))
    opf = (
        '<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:title>A book</dc:title></metadata><manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    files: dict[str, str | bytes] = {
        "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OPS/book.opf"/></rootfiles></container>',
        "OPS/book.opf": opf,
    }
    for n, chapter in enumerate(chapters):
        files[f"OPS/text/c{n}.xhtml"] = (
            f'<?xml version="1.0"?><!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head><body>{chapter}</body></html>'
        )
    if encryption:
        files["META-INF/encryption.xml"] = encryption
    return zipped(files, first="application/epub+zip")


def xlsb(name: str, rows: Sequence[Sequence[str | float]]) -> bytes:
    """A workbook of one sheet in the binary form of 2007 ([MS-XLSB])."""

    def biff(kind: int, data: bytes = b"") -> bytes:
        head = bytes((kind,)) if kind < 128 else bytes((kind & 0x7F | 0x80, kind >> 7))
        return head + bytes((len(data) & 0x7F | 0x80, len(data) >> 7)) + data

    def text(said: str) -> bytes:
        return struct.pack("<I", len(said)) + said.encode("utf-16-le")

    workbook = (
        biff(131) + biff(143) + biff(156, struct.pack("<II", 0, 1) + text("r1") + text(name)) + biff(144) + biff(132)
    )
    sheet = biff(129) + biff(148, struct.pack("<IIII", 0, len(rows) - 1, 0, len(rows[0]) - 1)) + biff(145)
    for r, cells in enumerate(rows):
        sheet += biff(0, struct.pack("<II", r, 0) + bytes(9))
        for c, value in enumerate(cells):
            at = struct.pack("<II", c, 0)
            sheet += biff(6, at + text(value)) if isinstance(value, str) else biff(5, at + struct.pack("<d", value))
    return zipped({
        "[Content_Types].xml": TYPES, "xl/workbook.bin": workbook, "xl/worksheets/s1.bin": sheet + biff(146) + biff(130),
        "xl/_rels/workbook.bin.rels": relations(r1=("worksheet", "worksheets/s1.bin")),
    })  # fmt: skip


# --- before 2007 ----------------------------------------------------------------------------------
def compound(streams: Mapping[str, bytes]) -> bytes:
    """A compound file with sectors of 512 bytes and its streams below the root, each long enough for sectors."""
    sectors: list[bytes] = []
    chains: list[int] = []
    entries = []

    def put(data: bytes) -> int:
        first = len(sectors)
        pieces = [data[at : at + 512].ljust(512, b"\0") for at in range(0, len(data), 512)]
        sectors.extend(pieces)
        chains.extend([*range(first + 1, first + len(pieces)), 0xFFFFFFFE])
        return first

    def entry(name: str, kind: int, child: int, right: int, first: int, size: int) -> bytes:
        raw = name.encode("utf-16-le") + b"\0\0"
        return (raw.ljust(64, b"\0") + struct.pack("<HBBIII", len(raw), kind, 1, 0xFFFFFFFF, right, child) + bytes(36)
                + struct.pack("<IQ", first, size))  # fmt: skip

    names = sorted(streams, key=lambda n: (len(n), n.upper()))
    for at, name in enumerate(names, 1):
        data = streams[name].ljust(4096, b"\0")
        entries.append(entry(name, 2, 0xFFFFFFFF, at + 1 if at < len(names) else 0xFFFFFFFF, put(data), len(data)))
    directory = entry("Root Entry", 5, 1, 0xFFFFFFFF, 0xFFFFFFFE, 0) + b"".join(entries)
    listed = put(directory.ljust(-(-len(directory) // 512) * 512, b"\0"))
    count = -(-(len(chains) + 2) // 128)
    table = len(sectors)
    chains.extend([0xFFFFFFFD] * count)
    raw = struct.pack(f"<{len(chains)}I", *chains).ljust(count * 512, b"\xff")
    sectors.extend(raw[at : at + 512] for at in range(0, len(raw), 512))
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack(
        "<HHHHHHIIIIIIIIII", 0x3E, 3, 0xFFFE, 9, 6, 0, 0, 0, count, listed, 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE, 0)  # fmt: skip
    head += struct.pack("<109I", *range(table, table + count), *[0xFFFFFFFF] * (109 - count))
    return head + b"".join(sectors)


def doc(paragraphs: Sequence[tuple[str, int, bytes]], *, encrypted: bool = False) -> bytes:
    """A Word document of 2003: paragraphs with the mark that ends them, style (0 normal, 1 to 9 headings), properties."""
    text = "".join(t for t, _, _ in paragraphs)
    body = text.encode("utf-16-le")
    start = 1024
    edges, runs, at = [start], [], start
    page = bytearray(512)
    top = 511
    for said, style, sprms in paragraphs:
        at += 2 * len(said)
        edges.append(at)
        raw = struct.pack("<H", style) + sprms
        raw = raw.ljust(len(raw) + (1 - len(raw) % 2), b"\0")  # with its length it takes an even number of bytes
        top = (top - len(raw) - 1) // 2 * 2
        page[top : top + 1 + len(raw)] = bytes(((len(raw) + 1) // 2,)) + raw
        runs.append(top // 2)
    table = struct.pack(f"<{len(edges)}I", *edges) + b"".join(bytes((r,)) + bytes(12) for r in runs)
    assert len(table) < top
    page[: len(table)] = table
    page[511] = len(runs)
    main = bytearray(start)
    struct.pack_into("<HHHHHH", main, 0, 0xA5EC, 0xC1, 0, 0x409, 0, 0x200 | (0x100 if encrypted else 0))
    struct.pack_into("<I", main, 0x4C, len(text))
    main += body
    main = main.ljust(-(-len(main) // 512) * 512, b"\0")
    number = len(main) // 512
    main += page
    sheet = struct.pack("<HH", 18, 10) + bytes(16)
    for identity in range(10):
        sheet += struct.pack("<HHHHHH", 10, identity, 0xFFF1, 0, 0, 0)
    clx = b"\x02" + struct.pack("<III", 16, 0, len(text)) + struct.pack("<HIH", 0, start, 0)
    side = struct.pack("<III", start, edges[-1], number)
    for index, (first, data) in {1: (0, sheet), 33: (len(sheet), clx), 13: (len(sheet) + len(clx), side)}.items():
        struct.pack_into("<II", main, 0x9A + 8 * index, first, len(data))
    return compound({"WordDocument": bytes(main), "1Table": sheet + clx + side})


def record(kind: int, data: bytes = b"", instance: int = 0, holds: bool = False) -> bytes:
    return struct.pack("<HHI", instance << 4 | (0xF if holds else 0), kind, len(data)) + data


def ppt(slides_: Sequence[tuple[str, str, str]]) -> bytes:
    """A presentation of 2003: slides with a title, a body and speaker notes."""
    objects: list[bytes] = []
    titles, noted = b"", b""
    for n, (title, body, notes) in enumerate(slides_):
        box = b"".join(
            record(0xF004, record(0xF010, struct.pack("<4h", top, 10, 500, top + 50))
                   + record(0xF00D, record(0x0F9E, struct.pack("<I", at)), holds=True), holds=True)
            for at, top in ((1, 300), (0, 20))
        )  # fmt: skip
        drawing = record(0x040C, record(0xF002, record(0xF003, box, holds=True), holds=True), holds=True)
        objects.append(record(0x03EE, record(0x03EF, bytes(16) + struct.pack("<II", 900 + n, 0)) + drawing, holds=True))
        said = record(0xF004, record(0xF00D, record(0x0F9F, struct.pack("<I", 2))
                                     + record(0x0FA0, notes.encode("utf-16-le")), holds=True), holds=True)  # fmt: skip
        page = record(0x040C, record(0xF002, record(0xF003, said, holds=True), holds=True), holds=True)
        objects.append(record(0x03F0, page, holds=True))
        titles += record(0x03F3, struct.pack("<IIIII", 2 + 2 * n, 0, 0, 256 + n, 0))
        titles += record(0x0F9F, struct.pack("<I", 0)) + record(0x0FA0, title.encode("utf-16-le"))
        titles += record(0x0F9F, struct.pack("<I", 1)) + record(0x0FA8, body.encode("latin-1"))
        noted += record(0x03F3, struct.pack("<IIIII", 3 + 2 * n, 0, 0, 900 + n, 0))
    document = record(0x03E8, record(0x0FF0, titles, holds=True) + record(0x0FF0, noted, 2, holds=True), holds=True)
    offsets, data = [], b""
    for one in (document, *objects):
        offsets.append(len(data))
        data += one
    directory = len(data)
    data += record(0x1772, struct.pack("<I", len(offsets) << 20 | 1) + struct.pack(f"<{len(offsets)}I", *offsets))
    edit = len(data)
    data += record(0x0FF5, struct.pack("<IIIIIII", 0, 0, 0, directory, 1, 0, 0))
    user = record(0x0FF6, struct.pack("<III", 20, 0xE391C05F, edit) + bytes(20))
    return compound({"PowerPoint Document": data, "Current User": user})


def xls(sheets: Mapping[str, Sequence[Sequence[str | float]]]) -> bytes:
    """A workbook of 2003 with texts and numbers from A1 on."""

    def biff(kind: int, data: bytes) -> bytes:
        return struct.pack("<HH", kind, len(data)) + data

    def text(said: str) -> bytes:
        return struct.pack("<HB", len(said), 1) + said.encode("utf-16-le")

    start = biff(0x809, struct.pack("<HHHHII", 0x600, 5, 0, 0, 0, 0))
    bodies = []
    for rows in sheets.values():
        body = biff(0x809, struct.pack("<HHHHII", 0x600, 0x10, 0, 0, 0, 0))
        for r, cells in enumerate(rows):
            for c, value in enumerate(cells):
                at = struct.pack("<HHH", r, c, 0)
                body += (
                    biff(0x204, at + text(value))
                    if isinstance(value, str)
                    else biff(0x203, at + struct.pack("<d", value))
                )
        bodies.append(body + biff(0x0A, b""))
    heads = [struct.pack("<BBBB", 0, 0, len(name), 1) + name.encode("utf-16-le") for name in sheets]
    at = len(start) + sum(4 + 4 + len(h) for h in heads) + 4
    listed = b""
    for head, body in zip(heads, bodies, strict=True):
        listed += biff(0x85, struct.pack("<I", at) + head)
        at += len(body)
    return compound({"Workbook": start + listed + biff(0x0A, b"") + b"".join(bodies)})
