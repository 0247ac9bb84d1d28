"""Spreadsheets: every sheet under its name, every table with the cells where it stands, values as people see them.

Guarantees: a formula is its stored value; a number is written in its cell's format, a date as a date; merged cells
are filled; an empty row, or a gap between two tables that stand side by side, ends a table; lines above a table's
header are its titles. Hidden sheets and rows are read, and noted. Sheets stream: memory does not grow with their
rows beyond the text. A workbook that is too large for the time is read in the slower process. Left out, with a note:
formulas that have no stored value, pictures, embedded objects, macros. An embedded package is a part.
"""

from __future__ import annotations

import datetime
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from functools import lru_cache
from itertools import chain
from typing import IO, TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree

from drystone.errors import ParseFailed
from drystone.ingest.media import XLS, XLSB, XLSX
from drystone.ingest.parsers.build import TextBuilder, unread
from drystone.ingest.parsers.clock import later
from drystone.ingest.parsers.locked import opened
from drystone.ingest.parsers.ooxml import (
    MOST_BYTES,
    A,
    Package,
    R,
    Relation,
    graphic,
    headed,
    lay,
    package,
    paragraphs,
)  # fmt: skip
from drystone.records import Parsed, Part, Reading
from drystone.records.place import cells, corners, place

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_S = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_LOOK = 1_000  # rows that are held to see where tables begin and end
_WIDE = 100  # columns that a merged cell fills at most
_MERGES = 100_000  # of one sheet
_SLOW = 32 << 20  # bytes of XML that cannot be read in the common time
_MERGE = re.compile(rb"<(?:\w+:)?mergeCell\s[^>]*?ref=\"([A-Z]+[0-9]+:[A-Z]+[0-9]+)\"")


class Row(NamedTuple):
    """``number`` from 1; ``cells`` by column from 1, none of them empty."""

    number: int
    cells: dict[int, str]


class XlsxParser:
    """Office Open XML workbooks, templates and those with macros."""

    name = "xlsx"
    version = "1"
    media_types: tuple[str, ...] = (XLSX,)
    slow = "drystone.ingest.parsers.sheets:LargeXlsxParser"
    most = MOST_BYTES

    def parse(self, data: bytes, *, name: str, media_type: str, reading: Reading = Reading()) -> Parsed:
        with package(data, self.most) as packed:
            main = packed.main("xl", "xl/workbook.xml")
            root = packed.tree(main)
            if root is None:
                raise ParseFailed("It is no workbook: the main part is missing.", kind="malformed")
            later(self.slow, sum(packed.size(n) for n in packed.names("xl/") if n.endswith(".xml")), _SLOW)
            return _Workbook(packed, main, TextBuilder(reading.text)).read(root)


class LargeXlsxParser(XlsxParser):
    """The same, where there is time and memory."""

    slow = ""
    most = 4 << 30


class XlsParser:
    """Excel's binary workbooks, read by calamine. They keep no text of a format: dates are ISO, numbers as stored."""

    name = "xls"
    version = "1"
    media_types = (XLS, XLSB)

    def parse(self, data: bytes, *, name: str, media_type: str, reading: Reading = Reading()) -> Parsed:
        from python_calamine import CalamineError, CalamineWorkbook, PasswordError, SheetTypeEnum, SheetVisibleEnum

        notes = ["binary workbook: comments, charts and number formats are not read"]
        out = TextBuilder(reading.text)
        hidden = 0
        try:
            _no_loops(data)
            try:
                book = CalamineWorkbook.from_filelike(io.BytesIO(data))
            except (PasswordError, CalamineError):  # an encrypted one may be nothing that calamine knows
                book = CalamineWorkbook.from_filelike(io.BytesIO(opened(data, reading.passwords)))
                notes.append("encrypted: opened with a password")
            for about in book.sheets_metadata:
                if about.typ != SheetTypeEnum.WorkSheet:
                    continue
                hidden += about.visible != SheetVisibleEnum.Visible
                table = book.get_sheet_by_name(about.name)
                merged = [(r1 + 1, c1 + 1, r2 + 1, c2 + 1) for (r1, c1), (r2, c2) in table.merged_cell_ranges or ()]
                row, column = table.start or (0, 0)
                found = (Row(n, {c: s for c, v in enumerate(r, column + 1) if (s := _value(v))})
                         for n, r in enumerate(table.to_python(), row + 1))  # fmt: skip
                sheet(out, about.name, _filled(found, merged))
        except (CalamineError, ValueError, OSError, OverflowError):
            raise ParseFailed("It is damaged, or no workbook.", kind="malformed") from None
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # of Rust; no class that could be named here
                raise
            raise ParseFailed("It is damaged: its tables cannot be read.", kind="malformed") from None
        if hidden:
            notes.append(f"hidden sheets: {hidden} read too")
        return out.parsed("", notes)


_LAST_SECTOR = 0xFFFFFFFA  # from here on the numbers of sectors are marks


def _no_loops(data: bytes) -> None:
    """Refuses a compound file in which a chain of sectors bites its own tail: calamine would follow it for ever."""
    import olefile

    if not data.startswith(olefile.MAGIC):
        return
    sector_bytes = 1 << min(int.from_bytes(data[30:32], "little"), 20)
    at, left = int.from_bytes(data[68:72], "little"), len(data) // sector_bytes  # the table of tables is a chain, too
    while at < _LAST_SECTOR:
        if left <= 0:
            raise ParseFailed("It is damaged: its sectors go round in a circle.", kind="malformed")
        left, end = left - 1, (at + 2) * sector_bytes
        at = int.from_bytes(data[end - 4 : end], "little") if end <= len(data) else _LAST_SECTOR
    with olefile.OleFileIO(io.BytesIO(data)) as file:
        file.loadminifat()
        for chains in (file.fat, file.minifat):
            seen = bytearray(len(chains))  # 1: on the way, 2: known to end
            for first in range(len(chains)):
                way, at = [], first
                while at < len(chains) and not seen[at]:
                    seen[at] = 1
                    way.append(at)
                    at = chains[at]
                if at < len(chains) and seen[at] == 1:
                    raise ParseFailed("It is damaged: its sectors go round in a circle.", kind="malformed")
                for sector in way:
                    seen[sector] = 2


def _value(value: object) -> str:
    """A value of a workbook that keeps no formats."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, (int, float)):
        return general(value)
    if isinstance(value, datetime.datetime):
        return _iso(value)
    return str(value).strip()


class _Workbook:
    def __init__(self, packed: Package, main: str, out: TextBuilder) -> None:
        self._packed, self._out = packed, out
        self._related = packed.relations(main)
        self._left = Counter[str]()
        self._shared: list[str] = []
        self._parts: list[Part] = []
        self._formats: list[str] = []
        self._from_1904 = False

    def read(self, root: Element) -> Parsed:
        for relation in self._related.values():
            if relation.kind == "sharedStrings" and (stream := self._packed.stream(relation.target)):
                self._shared = list(_strings(stream))
            elif relation.kind == "styles":
                self._formats = _formats(self._packed.tree(relation.target))
        about = root.find(_S + "workbookPr")
        self._from_1904 = about is not None and about.get("date1904") in ("1", "true")
        hidden = 0
        for node in root.iter(_S + "sheet"):
            relation = self._related.get(node.get(R + "id") or "", Relation("", "", False))
            hidden += node.get("state") in ("hidden", "veryHidden")
            self._sheet(node.get("name") or "", relation)
        notes = [f"hidden sheets: {hidden} read too"] if hidden else []
        if rows := self._left.pop("hidden rows", 0):
            notes.append(f"hidden rows: {rows} read too")
        if "xl/vbaproject.bin" in self._packed:
            self._left["macros"] = 0
        notes += unread(self._left)
        return self._out.parsed(self._packed.title(), notes, self._parts)

    def _sheet(self, name: str, relation: Relation) -> None:
        related = self._packed.relations(relation.target)
        if relation.kind == "worksheet":
            scan = self._packed.stream(relation.target)
            stream = self._packed.stream(relation.target)
            if scan is None or stream is None:
                self._left["missing sheets"] += 1
                return
            merged = _merged(scan)
            if len(merged) >= _MERGES:
                self._left["some merged cells"] = 0
            sheet(self._out, name, _filled(self._rows(stream), merged))
        elif relation.kind == "chartsheet":
            self._out.add("heading", name, level=1, place=place(sheet=name))
        self._parts += self._packed.embedded(related.values())
        self._left["embedded files"] += sum(r.kind == "oleObject" for r in related.values())
        if not self._left["embedded files"]:
            del self._left["embedded files"]
        for beside in related.values():
            root = self._packed.tree(beside.target) if not beside.external and beside.kind in _BESIDE else None
            if root is None:
                continue
            if beside.kind == "drawing":
                self._drawing(root, self._packed.relations(beside.target), name)
            else:
                self._comments(root, name)

    def _rows(self, stream: IO[bytes]) -> Iterator[Row]:
        """Rows as they are met; what has been read is let go."""
        data: Element | None = None
        number = 0
        for event, node in ElementTree.iterparse(stream, ("start", "end")):
            if event == "start":
                if node.tag == _S + "sheetData":
                    data = node
                continue
            if node.tag == _S + "row":
                number = int(node.get("r") or number + 1)
                self._left["hidden rows"] += node.get("hidden") in ("1", "true")
                found = self._cells(node)
                if data is not None:
                    data.clear()
                if found:
                    yield Row(number, found)
        if not self._left["hidden rows"]:
            del self._left["hidden rows"]

    def _cells(self, row: Element) -> dict[int, str]:
        found: dict[int, str] = {}
        column = 0
        for cell in row:
            said = cell.get("r")
            column = _column(said) if said else column + 1
            kind, value = cell.get("t"), cell.findtext(_S + "v")
            if kind == "s":
                at = int(value) if value else -1
                text = self._shared[at] if 0 <= at < len(self._shared) else ""
            elif kind == "inlineStr":
                node = cell.find(_S + "is")
                text = _string(node) if node is not None else ""
            elif kind == "b":
                text = "TRUE" if value == "1" else "FALSE" if value else ""
            elif value and kind in (None, "n"):
                style = int(cell.get("s") or 0)
                code = self._formats[style] if style < len(self._formats) else ""
                text = shown(value, code, self._from_1904)
            else:  # the text of a formula, an error, a date as ISO
                text = value or ""
                if not text and cell.find(_S + "f") is not None:
                    self._left["formulas without a stored value"] += 1
            if text := text.strip():
                found[column] = text
        return found

    def _comments(self, root: Element, name: str) -> None:
        """Notes of both kinds, with the cell on which each hangs."""
        authors = [a.text or "" for a in root.iter(_S + "author")]
        for node in root.iter():
            where = node.get("ref") or ""
            if not where or not node.tag.endswith(("}comment", "}threadedComment")):
                continue
            who = authors[int(node.get("authorId") or 0)] if len(authors) > int(node.get("authorId") or 0) else ""
            if who.startswith("tc="):
                continue  # an old copy, for old programs, of a note that stands in its own part
            body = next((n for n in node if n.tag.endswith("}text")), None)
            said = "" if body is None else (_string(body) or (body.text or "")).strip()
            by = f" by {who}" if who and not said.startswith(who) else ""
            self._out.add("paragraph", f"Comment on {where}{by}: {said}" if said else "", place=_at(name, where))

    def _drawing(self, root: Element, related: dict[str, Relation], name: str) -> None:
        """Charts and text boxes on a sheet."""
        for anchor in root:
            if not graphic(self._packed, anchor, related, self._out, sheet=name, part="chart"):
                for _, text in paragraphs(anchor):
                    self._out.add("paragraph", text, place=place(sheet=name))
            self._left["pictures"] += sum(1 for n in anchor.iter() if n.tag == A + "blip")
        if not self._left["pictures"]:
            del self._left["pictures"]


_BESIDE = ("drawing", "comments", "threadedComment")


def _at(name: str, where: str) -> str:
    try:
        return place(sheet=name, cells=cells(*corners(where)))
    except ValueError:
        return place(sheet=name)


def _merged(stream: IO[bytes]) -> list[tuple[int, int, int, int]]:
    """The merged ranges of a sheet, which stand behind its rows."""
    found: list[tuple[int, int, int, int]] = []
    rest = b""
    while piece := stream.read(1 << 20):
        rest += piece
        end = 0
        for match in _MERGE.finditer(rest):
            found.append(corners(match.group(1).decode()))
            end = match.end()
        if len(found) >= _MERGES:
            break
        rest = rest[max(end, len(rest) - 256) :]
    return found[:_MERGES]


def _filled(rows: Iterable[Row], merged: list[tuple[int, int, int, int]]) -> Iterator[Row]:
    """The same rows; a value of merged cells stands in each of them, except where it is alone in its row (a title)."""
    waiting = sorted(merged, reverse=True)
    open_: list[tuple[int, int, int, str]] = []  # last row, first column, last column, value
    for row in rows:
        own = dict(row.cells)
        open_ = [one for one in open_ if one[0] >= row.number]
        for _, first, last, text in open_:
            if any(not first <= c <= last for c in own):
                for column in range(first, min(last, first + _WIDE) + 1):
                    row.cells.setdefault(column, text)
        while waiting and waiting[-1][0] <= row.number:
            top, first, bottom, last = waiting.pop()
            if top != row.number or first not in own:
                continue
            if any(not first <= c <= last for c in own):
                for column in range(first + 1, min(last, first + _WIDE) + 1):
                    row.cells.setdefault(column, own[first])
            open_.append((bottom, first, last, own[first]))
        yield row


# --- tables on a sheet ----------------------------------------------------------------------------
def sheet(out: TextBuilder, name: str, rows: Iterator[Row]) -> None:
    """A sheet under its name. Tables end at an empty row."""
    out.add("heading", name, level=1, place=place(sheet=name))
    waiting = next(rows, None)
    above: list[_Named] = []  # the tables before the gap
    while waiting is not None:
        held = [waiting] if waiting.cells else []
        at, waiting = waiting.number, None
        for row in rows:
            if row.number > at + 1 or not row.cells:
                waiting = row
                break
            held.append(row)
            at = row.number
            if len(held) >= _LOOK:
                break
        if not held:
            continue
        if len(held) < _LOOK:
            above = [named for part in _beside(held) if (named := _one(out, name, part, above))]
            continue
        left = min(min(r.cells) for r in held)
        rest = _Rest(rows, at)
        lines = (_line(r, left, 0) for r in chain(held, rest))
        sample = [_line(r, left, max(max(r.cells) for r in held)) for r in held[:20]]
        out.table(lines, header=None if headed(sample) else (), first_row=held[0].number, first_column=left, sheet=name)
        waiting = rest.after


class _Rest:
    """The rows that follow without a gap. ``after``: the one behind the gap."""

    def __init__(self, rows: Iterator[Row], at: int) -> None:
        self._rows, self._at = rows, at
        self.after: Row | None = None

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            if row.number > self._at + 1 or not row.cells:
                self.after = row
                return
            self._at = row.number
            yield row


def _line(row: Row, left: int, right: int) -> list[str]:
    return [row.cells.get(c, "") for c in range(left, max(right, max(row.cells, default=0)) + 1)]


def _beside(rows: list[Row]) -> list[list[Row]]:
    """Tables that stand side by side, each with a header of its own; else the rows as they are."""
    columns = sorted({c for row in rows for c in row.cells})
    for before, after in zip(columns, columns[1:], strict=False):
        if after - before < 2:
            continue
        left, right = _cut(rows, columns[0], before), _cut(rows, after, columns[-1])
        if all(headed([_line(r, first, to) for r in part]) for part, first, to in (
            (left, columns[0], before), (right, after, columns[-1]))):  # fmt: skip
            return [left, *_beside(right)]
    return [rows]


def _cut(rows: list[Row], first: int, last: int) -> list[Row]:
    """The part of the rows between two columns, without rows that are empty there at the start and the end."""
    found = [Row(r.number, {c: t for c, t in r.cells.items() if first <= c <= last}) for r in rows]
    while found and not found[-1].cells:
        found.pop()
    while found and not found[0].cells:
        found.pop(0)
    return found


class _Named(NamedTuple):
    """A table that had a header: its first and last column, and what they are called."""

    first: int
    last: int
    names: list[str]


def _one(out: TextBuilder, name: str, rows: list[Row], above: list[_Named]) -> _Named | None:
    """One table: lines above its header as titles, then the table. Returns the names of its columns."""
    left, right = min(min(r.cells, default=1 << 20) for r in rows), max(max(r.cells, default=0) for r in rows)
    while rows and right > left and len(rows[0].cells) == 1 and len(rows) > 1:
        ((column, text),) = rows[0].cells.items()
        where = cells(rows[0].number, column, rows[0].number, column)
        out.add("paragraph", text, place=place(sheet=name, cells=where))
        rows = rows[1:]
        left, right = min(min(r.cells, default=left) for r in rows), max(max(r.cells, default=0) for r in rows)
    lines = [_line(row, left, right) for row in rows]
    over = next((n for n in above if n.first <= left < right <= n.last), None)
    if over is not None and not headed(lines):
        # Rows that go on under the header of the table above: an empty row was for the eye.
        names = over.names[left - over.first :]
        out.table(lines, header=names, first_row=rows[0].number, first_column=left, sheet=name)
        return over
    lay(out, lines, first_row=rows[0].number, first_column=left, sheet=name)
    return _Named(left, right, lines[0]) if headed(lines) else None


# --- parts ----------------------------------------------------------------------------------------
def _strings(stream: IO[bytes]) -> Iterator[str]:
    """The shared strings, without the readings that stand above Japanese words."""
    root: Element | None = None
    for event, node in ElementTree.iterparse(stream, ("start", "end")):
        if event == "start":
            root = node if root is None else root
        elif node.tag == _S + "si":
            yield _string(node)
            if root is not None:
                root.clear()


def _string(node: Element) -> str:
    parts = [child.text or "" for child in node if child.tag == _S + "t"]
    parts += [run.findtext(_S + "t") or "" for run in node if run.tag == _S + "r"]
    return "".join(parts).replace("_x000D_", "")


def _formats(styles: Element | None) -> list[str]:
    """The format code of each cell style, by its number."""
    if styles is None:
        return []
    own = {n.get("numFmtId") or "": n.get("formatCode") or "" for n in styles.iter(_S + "numFmt")}
    styled = styles.find(_S + "cellXfs")
    codes = [] if styled is None else [x.get("numFmtId") or "0" for x in styled]
    return [own[code] if code in own else _BUILT_IN.get(code, "") for code in codes]


def _column(cell: str) -> int:
    column = 0
    for letter in cell:
        if not "A" <= letter <= "Z":
            break
        column = column * 26 + ord(letter) - 64
    if not 0 < column <= 16_384:
        raise ValueError("no such column")
    return column


# --- numbers as people see them -------------------------------------------------------------------
_BUILT_IN = {
    "1": "0", "2": "0.00", "3": "#,##0", "4": "#,##0.00", "9": "0%", "10": "0.00%", "11": "0.00E+00",
    "14": "yyyy-mm-dd", "15": "d-mmm-yy", "16": "d-mmm", "17": "mmm-yy", "18": "h:mm AM/PM", "19": "h:mm:ss AM/PM",
    "20": "h:mm", "21": "h:mm:ss", "22": "yyyy-mm-dd h:mm", "37": "#,##0 ;(#,##0)", "38": "#,##0 ;(#,##0)",
    "39": "#,##0.00;(#,##0.00)", "40": "#,##0.00;(#,##0.00)", "45": "mm:ss", "46": "[h]:mm:ss", "47": "mm:ss.0",
    "48": "0.0E+0", **dict.fromkeys(map(str, (*range(27, 37), *range(50, 59))), "yyyy-mm-dd"),
}  # fmt: skip
_TOKEN = re.compile(r'"([^"]*)"?|\\(.)|_.|\*.|\[([^\]]*)\]|(AM/PM|A/P|General|E[+-]|[yY]+|[mM]+|[dD]+|[hH]+'
                    r"|[sS]+(?:\.0+)?"
                    r"|[0#?]+|[.,%@/])|(.)", re.S)  # fmt: skip
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class _Format(NamedTuple):
    """One section of a number format, ready to be used."""

    kind: str  # "general", "date", "number", "text"
    tokens: tuple[tuple[str, str], ...]  # ("literal", text) or ("code", token)
    decimals: int = 0
    optional: int = 0  # of the decimals, those that are shown only if they say something
    whole: int = 1  # digits before the point at least
    grouped: bool = False
    scale: int = 0  # powers of ten that the number is divided by
    elapsed: str = ""


@lru_cache(maxsize=1024)
def _compiled(code: str) -> tuple[_Format, ...]:
    return tuple(_section(part) for part in _sections(code))


def _sections(code: str) -> list[str]:
    parts, quoted, escaped = [""], False, False
    for letter in code[:400]:
        if letter == ";" and not quoted and not escaped:
            parts.append("")
            continue
        quoted ^= letter == '"' and not escaped
        escaped = letter == "\\" and not escaped
        parts[-1] += letter
    return parts


def _section(code: str) -> _Format:
    tokens: list[tuple[str, str]] = []
    elapsed, foreign = "", False
    for quoted, escaped, bracket, word, other in _TOKEN.findall(code):
        if quoted or escaped or other:
            tokens.append(("literal", quoted or escaped or other))
        elif bracket:
            if bracket.startswith("$"):
                symbol, _, place_ = bracket[1:].partition("-")
                tokens.append(("literal", symbol))
                foreign = foreign or bool(place_) and place_.upper()[-2:] not in ("09", "00")
            elif bracket.lower().strip("hms") == "" and bracket:
                elapsed = bracket[0].lower()
                tokens.append(("code", bracket.lower()))
        elif word:
            tokens.append(("code", word))
    codes = [w for k, w in tokens if k == "code"]
    if any(w[0] in "yYdDhHsS" or w[0] in "mM" for w in codes if w not in ("General",)):
        if foreign and any(w.lower().startswith(("mmm", "ddd")) for w in codes):
            return _Format("date", (), elapsed=elapsed)  # names of months in a language that we do not speak
        return _Format("date", tuple(tokens), elapsed=elapsed)
    if "General" in codes:
        return _Format("general", tuple(tokens))
    figures = "".join(w for w in codes if w[0] in "0#?,.")
    digits = [w for w in codes if w[0] in "0#?"]
    if not digits or "/" in codes and "?" in "".join(digits):
        return _Format("text" if "@" in codes or not codes else "general", tuple(tokens))
    point = next((n for n, t in enumerate(tokens) if t == ("code", ".")), len(tokens))
    before = "".join(w for k, w in tokens[:point] if k == "code" and w[0] in "0#?,")
    after = "".join(w for k, w in tokens[point:] if k == "code" and w[0] in "0#?")
    exponent = any(w[0] == "E" for w in codes)
    if exponent:
        after = next((w for k, w in tokens[point:] if k == "code" and w[0] in "0#?"), "")
    trailing = sum(len(part) - len(part.rstrip(",")) for part in figures.split("."))
    return _Format(
        "exponent" if exponent else "number", tuple(tokens), len(after), after.count("#") + after.count("?"),
        before.count("0"), "," in before.rstrip(","), 3 * trailing - 2 * codes.count("%"),
    )  # fmt: skip


def shown(value: str, code: str, from_1904: bool = False) -> str:
    """A stored number as its format shows it, as far as we know formats; else as it is stored."""
    try:
        number = float(value)
    except ValueError:
        return value
    if number != number or number in (float("inf"), float("-inf")):
        return value
    if not code or code == "General":
        return general(number)
    sections = _compiled(code)
    chosen, sign = sections[0], number < 0
    if len(sections) > 1 and number < 0:
        chosen, sign = sections[1], False
    elif len(sections) > 2 and number == 0:
        chosen = sections[2]
    if chosen.kind == "date":
        return _date(number, chosen, from_1904)
    if chosen.kind == "text" and ("code", "@") not in chosen.tokens:
        return "".join(word for kind, word in chosen.tokens if kind == "literal").strip()  # it shows no number
    if chosen.kind in ("general", "text"):
        literal = "".join(w if k == "literal" else general(abs(number)) if w in ("General", "@") else ""
                          for k, w in chosen.tokens) if chosen.kind == "general" else ""  # fmt: skip
        plain = general(abs(number))
        return ("-" if sign else "") + (literal.strip() if plain in literal else plain)
    if chosen.kind == "exponent":
        return f"{number:.{chosen.decimals}E}"
    return _figure(number, chosen, sign)


def _figure(number: float, how: _Format, sign: bool) -> str:
    try:
        exact = Decimal(f"{abs(number):.15g}").scaleb(-how.scale)
        rounded = exact.quantize(Decimal(1).scaleb(-how.decimals), ROUND_HALF_UP)
    except InvalidOperation:
        return general(number)
    digits = f"{rounded:,f}" if how.grouped else f"{rounded:f}"
    whole, _, part = digits.partition(".")
    if not how.whole and whole == "0" and part.strip("0"):
        whole = ""
    whole = whole.rjust(how.whole, "0") if how.whole > 1 and not how.grouped else whole
    least = how.decimals - how.optional
    part = part[:least] + part[least:].rstrip("0")
    digits = whole + ("." + part if part else "")
    out, done = "", False
    for kind, word in how.tokens:
        if kind == "literal":
            out += word
        elif word == "%":
            out += "%"
        elif word[0] in "0#?" and not done:
            out, done = out + digits, True
    return ("-" if sign and rounded else "") + out.strip()


def general(number: float) -> str:
    """A number without a format: up to 15 digits, no exponent where people write none."""
    if number == int(number) and abs(number) < 1e15:
        return str(int(number))
    text = f"{number:.15g}"
    if "e" in text and 1e-7 < abs(number) < 1e15:
        return f"{Decimal(text):f}"
    return text


def _date(number: float, how: _Format, from_1904: bool) -> str:
    if number < 0 or number > 2_958_466:
        return general(number)
    if how.elapsed:
        seconds = round(number * 86_400)
        unit = {"h": 3600, "m": 60, "s": 1}[how.elapsed]
        rest = {"h": f":{seconds // 60 % 60:02}:{seconds % 60:02}", "m": f":{seconds % 60:02}", "s": ""}[how.elapsed]
        several = sum(1 for k, w in how.tokens if k == "code" and w[:1].lower() in ("h", "m", "s"))
        return f"{seconds // unit}{rest[: 3 * (several - 1)]}"
    base = datetime.datetime(1904, 1, 1) if from_1904 else datetime.datetime(1899, 12, 30 if number >= 60 else 31)
    at = base + datetime.timedelta(milliseconds=round(number * 86_400_000))
    if not how.tokens:
        return _iso(at)
    codes = [w.lower() for k, w in how.tokens if k == "code"]
    if not any(w[0] in "yhs" or w[:2] in ("mm", "dd") or w[0] in "dm" for w in codes):
        return general(number)
    half = any(w in ("am/pm", "a/p") for w in codes)
    out, before = "", ""
    for n, (kind, word) in enumerate(how.tokens):
        if kind == "literal":
            out += word
            continue
        small = word.lower()
        after = next((w[0].lower() for k, w in how.tokens[n + 1 :] if k == "code" and w[0].isalpha()), "")
        if small in ("m", "mm") and (before == "h" or after == "s"):
            out += f"{at.minute:02}" if len(small) > 1 else str(at.minute)
        else:
            out += _date_part(small, at, half)
        before = small[0] if small[0].isalpha() else before
    return out.strip()


def _date_part(code: str, at: datetime.datetime, half: bool) -> str:
    size = len(code)
    if code[0] == "y":
        return f"{at.year % 100:02}" if size <= 2 else str(at.year)
    if code[0] == "m":
        name = _MONTHS[at.month - 1]
        return (str(at.month), f"{at.month:02}", name[:3], name, name[:1])[min(size, 5) - 1]
    if code[0] == "d":
        name = _DAYS[at.weekday()]
        return (str(at.day), f"{at.day:02}", name[:3], name)[min(size, 4) - 1]
    if code[0] == "h":
        hour = (at.hour % 12 or 12) if half else at.hour
        return f"{hour:02}" if size > 1 else str(hour)
    if code[0] == "s":
        whole, _, part = code.partition(".")
        tail = f".{at.microsecond:06}"[: len(part) + 1] if part else ""
        return (f"{at.second:02}" if len(whole) > 1 else str(at.second)) + tail
    if code in ("am/pm", "a/p"):
        return ("AM" if at.hour < 12 else "PM")[: 2 if code == "am/pm" else 1]
    return code if code in ("/", ".", ",") else ""


def _iso(at: datetime.datetime) -> str:
    day, time = at.date().isoformat(), at.time().isoformat("seconds")
    return day if time == "00:00:00" else f"{day} {time.removesuffix(':00')}" if at.year >= 1900 else time
