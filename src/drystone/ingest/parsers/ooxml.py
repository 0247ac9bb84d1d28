"""Packages of XML parts (Office Open XML, OpenDocument, EPUB), and how their tables become text.

Guarantees: what would unfold beyond the limits is refused as ``expansion`` before it is unfolded; a document type
declaration, and with it every entity, is refused before the first element is read; nothing that a part refers to
outside the package is looked up; damaged packages are ``malformed``. No walk recurses.
"""

from __future__ import annotations

import codecs
import io
import posixpath
import re
import struct
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote
from xml.etree import ElementTree

from drystone.errors import ParseFailed
from drystone.ingest.parsers.build import TextBuilder
from drystone.records import Part
from drystone.records.place import place

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MOST_BYTES = 256 << 20  # of all parts together, unfolded
MOST_RATIO = 200  # unfolded to packed, for parts over a megabyte
MOST_PARTS = 10_000
_HEAD = 1 << 16
_PROLOG = re.compile(rb"\A\s*(?:<\?[^?]{0,400}\?>\s*|<!--(?:[^-]|-[^-]){0,20000}-->\s*){0,20}<[A-Za-z_]")
_ENCODING = re.compile(rb"\A\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.:-]{1,40})[\"']")
_DECLARATION = re.compile(rb"\A\s*<\?xml[^>]{0,300}\?>")
_STRICT = re.compile(rb"http://purl\.oclc\.org/ooxml/(\w+)/")
_YEAR = re.compile(r"(?:FY ?)?(?:19|20)\d\d\Z")
_NUMERIC = re.compile(r"[-+(]?\s?[$€£¥₹]?\s?[\d.,\u00a0' ]*\d[\d.,]*\s?[%)$€£¥₹]?\Z|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}")
R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_REL = "{http://schemas.openxmlformats.org/package/2006/relationships}Relationship"
_DC = "{http://purl.org/dc/elements/1.1/}"


class Relation(NamedTuple):
    """Where a part points to. ``kind``: the last word of its type; ``target``: a part's name or an address."""

    kind: str
    target: str
    external: bool


@contextmanager
def package(data: bytes, most: int = MOST_BYTES) -> Iterator[Package]:
    """An opened package; what goes wrong inside the ``with`` becomes ``ParseFailed``. ``most``: bytes of all parts."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            yield Package(packed, most)
    except ParseFailed:
        raise
    except (
        zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ElementTree.ParseError, ValueError, KeyError,
        IndexError, TypeError, OverflowError, struct.error, LookupError,
    ):  # fmt: skip
        raise ParseFailed("It is damaged: the package cannot be unpacked.", kind="malformed") from None
    except RuntimeError as error:
        if isinstance(error, RecursionError):
            raise
        raise ParseFailed("It is encrypted.", kind="encrypted") from None  # zipfile: a password is needed


class Package:
    """The parts of a package by name; names are compared without case, as Office does."""

    def __init__(self, packed: zipfile.ZipFile, most: int) -> None:
        if len(packed.infolist()) > MOST_PARTS:
            raise ParseFailed("It has more parts than a document has.", kind="expansion")
        self._packed = packed
        self._infos = {i.filename.replace("\\", "/").lstrip("/").lower(): i for i in packed.infolist()}
        self._most = most
        self._given: set[str] = set()  # embedded documents

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._infos

    def names(self, start: str = "") -> list[str]:
        return [
            i.filename.replace("\\", "/").lstrip("/") for n, i in self._infos.items() if n.startswith(start.lower())
        ]

    def size(self, name: str) -> int:
        """Bytes unfolded, as the package says; 0 where there is no such part."""
        info = self._infos.get(name.lower())
        return info.file_size if info else 0

    def open(self, name: str) -> _Bounded | None:
        """One part as a stream that counts against the package's limit; ``None`` where there is no such part."""
        info = self._infos.get(name.lower())
        if info is None:
            return None
        if info.file_size > self._most or (
            info.file_size > 1 << 20 and info.file_size > MOST_RATIO * max(info.compress_size, 1)
        ):
            raise ParseFailed("A part unfolds to more than is allowed.", kind="expansion")
        return _Bounded(self._packed.open(info), self)

    def spend(self, size: int) -> None:
        self._most -= size
        if self._most < 0:
            raise ParseFailed("Its parts unfold to more than is allowed.", kind="expansion")

    def raw(self, name: str) -> bytes | None:
        file = self.open(name)
        if file is None:
            return None
        with file:
            return file.read()

    def tree(self, name: str) -> Element | None:
        raw = self.raw(name)
        return None if raw is None else tree(raw)

    def stream(self, name: str) -> IO[bytes] | None:
        """One XML part as a stream that has been looked at as ``tree`` does."""
        file = self.open(name)
        return None if file is None else _Checked(file)  # type: ignore[return-value]

    def relations(self, part: str) -> dict[str, Relation]:
        """What a part points to, by id; the package's own relations for ``""``."""
        folder, base = posixpath.split(part)
        root = self.tree(posixpath.join(folder, "_rels", f"{base}.rels"))
        found: dict[str, Relation] = {}
        for node in () if root is None else root.iter(_REL):
            target, outside = node.get("Target") or "", node.get("TargetMode") == "External"
            if not outside:
                target = unquote(target.replace("\\", "/"))
                target = posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")
            found[node.get("Id") or ""] = Relation((node.get("Type") or "").rpartition("/")[2], target, outside)
        return found

    def main(self, kind: str, otherwise: str) -> str:
        """The name of the main part: what the package says, else where programs put it."""
        said = next((r.target for r in self.relations("").values() if r.kind == "officeDocument"), "")
        if said in self and posixpath.dirname(said).lower().startswith(kind):
            return said
        return otherwise

    def embedded(self, related: Iterable[Relation]) -> Iterator[Part]:
        """The documents that a part has inside it, each a package of its own."""
        for relation in related:
            if relation.kind == "package" and not relation.external and relation.target not in self._given:
                raw = self.raw(relation.target)
                if raw is not None:
                    self._given.add(relation.target)
                    yield Part(posixpath.basename(relation.target), raw)

    def title(self) -> str:
        core = self.tree("docProps/core.xml") if "docProps/core.xml" in self else None
        return "" if core is None else core.findtext(f"{_DC}title") or ""


class _Bounded:
    """A part's bytes; what is read is taken off the package's limit, whatever sizes the package claims."""

    def __init__(self, file: IO[bytes], owner: Package) -> None:
        self._file, self._owner = file, owner

    def read(self, size: int = -1) -> bytes:
        if size >= 0:
            got = self._file.read(size)
            self._owner.spend(len(got))
            return got
        out = io.BytesIO()
        while got := self.read(1 << 20):
            out.write(got)
        return out.getvalue()

    def __enter__(self) -> _Bounded:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()


class _Checked:
    """A stream of XML whose head has been checked before the first byte is given away."""

    def __init__(self, file: _Bounded) -> None:
        self._file = file
        self._head = checked(file.read(_HEAD), whole=False)

    def read(self, size: int = -1) -> bytes:
        head, self._head = self._head, b""
        return head or self._file.read(size)

    def close(self) -> None:
        self._file.close()


def tree(raw: bytes) -> Element:
    """XML as a tree. Raises ``ParseFailed`` for a document type declaration, ``ElementTree.ParseError``."""
    return ElementTree.fromstring(checked(raw))


def checked(raw: bytes, *, whole: bool = True) -> bytes:
    """The same XML in UTF-8, with the transitional names of namespaces; ``malformed`` if it declares a document type.

    A declaration can stand before the first element only: what comes before that is matched as a whole, and in
    one of the encodings in which a ``<`` is what it looks like.
    """
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or raw[:2] in (b"<\0", b"\0<"):
        if not whole and len(raw) >= _HEAD:
            raise ParseFailed("A large part is written in UTF-16, which is not read.", kind="encoding")
        marked = (
            raw if raw[:1] in b"\xff\xfe" else (codecs.BOM_UTF16_LE if raw[:1] == b"<" else codecs.BOM_UTF16_BE) + raw
        )
        raw = _DECLARATION.sub(b"", marked.decode("utf-16").encode("utf-8"))
    raw = raw.removeprefix(codecs.BOM_UTF8)
    said = _ENCODING.match(raw[:400])
    encoding = said.group(1).decode().lower() if said else "utf-8"
    if encoding not in ("utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "utf-16"):
        if not encoding.startswith("windows-125") or not whole:
            raise ParseFailed("A part is written in an encoding that such documents do not use.", kind="encoding")
        raw = _DECLARATION.sub(b"", raw.decode(encoding).encode("utf-8"))
    elif encoding == "utf-16":
        raw = _DECLARATION.sub(b"", raw)
    if not _PROLOG.match(raw[:_HEAD]):
        if b"<!DOCTYPE" in raw[:_HEAD]:
            raise ParseFailed("A part declares a document type, which no such document does.", kind="malformed")
        raise ParseFailed("A part is not the XML that it should be.", kind="malformed")
    return _STRICT.sub(rb"http://schemas.openxmlformats.org/\1/2006/", raw)


# --- tables ---------------------------------------------------------------------------------------
def numeric(text: str) -> bool:
    return bool(_NUMERIC.match(text.strip()))


def headed(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the columns: words in (nearly) every column, years at most, and rows below it."""
    if len(rows) < 2:
        return False
    first = [cell.strip() for cell in rows[0]]
    filled = [cell for cell in first if cell]
    width = max((len(row) for row in rows), default=0)
    if len(filled) < 2 or len(filled) < width / 2 or all(cell.endswith(":") for cell in filled[:1]):
        return False
    words = [cell for cell in filled if not numeric(cell)]
    return len(words) == len(filled) or all(_YEAR.match(c) for c in filled if numeric(c)) and (
        not first[0] or not numeric(first[0])
    )  # fmt: skip


def heads(rows: Sequence[Sequence[str]]) -> int:
    """How many of the first rows name the columns: more than one where a cell of the first spans several columns."""
    if not headed(rows):
        return 0
    count = 1
    while count < min(3, len(rows) - 1):
        above = [cell.strip() for cell in rows[count - 1]]
        spans = any(a and a == b for a, b in zip(above, above[1:], strict=False))
        below = [cell.strip() for cell in rows[count] if cell.strip()]
        corner = rows[count][0].strip() if rows[count] else ""
        if (
            not spans
            or len(below) < 2
            or corner not in ("", above[0])
            or any(numeric(cell) and not _YEAR.match(cell) for cell in below)
        ):
            break
        count += 1
    return count


def lay(
    out: TextBuilder, rows: Sequence[Sequence[str]], *, names: int | None = None, first_row: int = 1,
    first_column: int = 1, page: int | None = None, **frame: Any,
) -> None:  # fmt: skip
    """A table that is held as a whole. ``names``: how many of its first rows name the columns, where that is known."""
    if not any(cell.strip() for row in rows for cell in row):
        return
    count = heads(rows) if names is None else min(names, len(rows))
    if count > 1:
        joined = [" ".join(dict.fromkeys(c.strip() for c in column if c.strip())) for column in _columns(rows[:count])]
        out.table(
            rows[count:], header=joined, first_row=first_row + count, first_column=first_column, page=page, **frame
        )
        return
    header = None if count else ()
    out.table(rows, header=header, first_row=first_row, first_column=first_column, page=page, **frame)


class Edged(NamedTuple):
    """A cell that knows where its right edge is, not in which column it stands. ``merge``: with a neighbour's text."""

    right: int
    text: str
    merge: str = ""  # "", "left" or "above"


def gridded(rows: Sequence[Sequence[Edged]], slack: int) -> list[list[str]]:
    """Rows by columns: a cell fills each column that it reaches over; edges closer than ``slack`` are one."""
    grid: list[int] = []
    for edge in sorted({cell.right for row in rows for cell in row}):
        if not grid or edge - grid[-1] > slack:
            grid.append(edge)
    filled: list[list[str]] = []
    for row in rows:
        line: list[str] = []
        for cell in row:
            text = cell.text
            if cell.merge == "left" and line:
                text = line[-1]
            elif cell.merge == "above" and filled and len(line) < len(filled[-1]):
                text = filled[-1][len(line)]
            reached = bisect_right(grid, cell.right + slack) - len(line)
            line += [text] if len(row) == 1 else [text] * max(1, min(reached, 100))
        filled.append(line)
    return filled


def _columns(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    width = max(len(row) for row in rows)
    return [[row[n] if n < len(row) else "" for row in rows] for n in range(width)]


# --- drawings -------------------------------------------------------------------------------------
A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_C = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
_D = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}"
_FILE = re.compile(r"\.(?:png|jpe?g|gif|bmp|tiff?|emf|wmf|svg)\Z", re.I)
_BOAST = re.compile(
    r"\s*(?:AI-generated content may be incorrect|Description (?:automatically|generated)[\w ]*)\.?\s*\Z"
)


def described(text: str | None) -> str:
    """What a picture is said to show, without what Office adds about itself; the name of its file says nothing."""
    said = _BOAST.sub("", " ".join((text or "").split()))
    return "" if _FILE.search(said) else said


def paragraphs(body: Element) -> Iterator[tuple[Element, str]]:
    """The paragraphs of a DrawingML text body with what they say."""
    for paragraph in body.iter(A + "p"):
        parts: list[str] = []
        for node in paragraph.iter():
            if node.tag == A + "t":
                parts.append(node.text or "")
            elif node.tag == A + "br":
                parts.append("\n")
            elif node.tag == A + "tab":
                parts.append(" ")
        yield paragraph, "".join(parts).replace("\x0b", "\n").replace("_x000D_", "").strip()


def chart(root: Element) -> tuple[str, list[list[str]]]:
    """The title of a chart and the numbers that it keeps: a row a category, a column a series."""
    title = root.find(f"{_C}chart/{_C}title")
    said = " ".join(text for _, text in paragraphs(title) if text) if title is not None else ""
    series, names = [], list[str]()
    points: dict[int, str] = {}
    for one in root.iter(_C + "ser"):
        named = one.find(_C + "tx")
        names.append(" ".join(v.text or "" for v in named.iter(_C + "v")) if named is not None else "")
        points = points or _cached(one, "cat") or _cached(one, "xVal")
        series.append(_cached(one, "val") or _cached(one, "yVal"))
    at = sorted({n for one in (points, *series) for n in one})[:MOST_PARTS]
    rows = [[points.get(n, ""), *(one.get(n, "") for one in series)] for n in at]
    return said, [["", *names], *rows] if rows else []


def _cached(series: Element, name: str) -> dict[int, str]:
    node = series.find(_C + name)
    found: dict[int, str] = {}
    for level in () if node is None else node.iter():
        if level.tag in (_C + "pt",):
            at, text = int(level.get("idx") or 0), level.findtext(_C + "v") or ""
            if re.fullmatch(r"-?\d+\.\d{12,}(E-?\d+)?", text):
                text = f"{float(text):.10g}"  # a binary fraction's tail says nothing
            found[at] = f"{text} {found[at]}" if at in found else text  # outer levels of categories come last
    return found


def diagram(root: Element) -> list[str]:
    """The texts of a SmartArt drawing, in the order in which it keeps them."""
    shown = (p for p in root.iter(_D + "pt") if p.get("type", "node") in ("node", "asst"))
    return [text for point in shown if (text := " ".join(t for _, t in paragraphs(point) if t))]


def graphic(packed: Package, node: Element, related: dict[str, Relation], out: TextBuilder, **frame: Any) -> bool:
    """A chart or a SmartArt drawing anywhere in ``node``; false if there is neither."""
    where, found = place(**frame), False
    for one in node.iter():
        if one.tag == _C + "chart" and (at := related.get(one.get(R + "id") or "")):
            root = packed.tree(at.target)
            if root is not None:
                said, rows = chart(root)
                out.add("paragraph", said, place=where)
                lay(out, rows, names=1, **frame)
                found = True
        elif one.tag == _D + "relIds" and (at := related.get(one.get(R + "dm") or "")):
            root = packed.tree(at.target)
            for n, text in enumerate(diagram(root) if root is not None else ()):
                out.add("list", f"- {text}", near=n > 0, place=where)
                found = True
    return found
