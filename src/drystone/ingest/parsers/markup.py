"""reStructuredText, AsciiDoc and Org: text with light marks, read line by line.

Guarantees: headings with their level, paragraphs, lists, tables (with their cells) and code become blocks; the marks
go, a link keeps its address; comments, attributes and drawers are left out. Nothing is included from elsewhere: what
asks for another file is counted in a note. One pass over the lines, linear in time. Not full implementations: a
construct that is not known is read as the text that it is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable

from drystone.ingest.parsers.build import TextBuilder, counted
from drystone.ingest.parsers.text import decode
from drystone.records import Parsed

_DEEPEST = 30  # directives inside one another
_WEB = ("http://", "https://", "mailto:")


class _Lines:
    """A document's lines, and the paragraph or list item that is being put together."""

    def __init__(self, text: str, inline: Callable[[str], str]) -> None:
        self.lines = text.expandtabs(4).split("\n")
        self.at = 0
        self.out = TextBuilder()
        self.notes: Counter[str] = Counter()
        self._inline = inline
        self._open: list[str] = []
        self._item = self._near = False

    def more(self) -> bool:
        return self.at < len(self.lines)

    def peek(self, ahead: int = 0) -> str:
        at = self.at + ahead
        return self.lines[at] if at < len(self.lines) else ""

    def say(self, line: str) -> None:
        self._open.append(line.strip())

    def item(self, mark: str, text: str) -> None:
        self.flush()
        self._item = True
        self._open.append(mark + text.strip())

    def flush(self, end: bool = False) -> None:
        """``end``: what follows is no more of the list."""
        if self._open:
            text = self._inline("\n".join(self._open))
            self.out.add("list" if self._item else "paragraph", text, near=self._near and self._item)
            self._near = self._item
            self._open.clear()
        if end:
            self._item = self._near = False

    @property
    def waiting(self) -> bool:
        return bool(self._open)

    @property
    def last(self) -> str:
        return self._open[-1] if self._open else ""

    @property
    def in_item(self) -> bool:
        return self._item

    def heading(self, text: str, level: int) -> None:
        self.flush(True)
        self.out.add("heading", " ".join(self._inline(text).split()), level=max(1, min(level, 6)))

    def paragraph(self, text: str) -> None:
        self.flush(True)
        self.out.add("paragraph", self._inline(text))

    def code(self, lines: Iterable[str]) -> None:
        self.flush(True)
        kept = [*lines]
        margin = min((len(line) - len(line.lstrip()) for line in kept if line.strip()), default=0)
        self.out.add("code", "\n".join(line[margin:].rstrip() for line in kept))

    def table(self, rows: Iterable[list[str]], headed: bool = True) -> None:
        self.flush(True)
        cells = ([self._inline(cell) for cell in row] for row in rows)
        self.out.table(cells, header=None if headed else [])

    def until(self, end: Callable[[str], bool]) -> list[str]:
        """The lines up to the one that ends them, which is taken, too."""
        start = self.at
        while self.more() and not end(self.peek()):
            self.at += 1
        self.at += 1
        return self.lines[start : self.at - 1]

    def indented(self, margin: int) -> list[str]:
        """The lines that are indented deeper, and the empty ones between them."""
        start = end = self.at
        while self.more() and (not self.peek().strip() or _margin(self.peek()) > margin):
            self.at += 1
            if self.lines[self.at - 1].strip():
                end = self.at
        return self.lines[start:end]

    def parsed(self, title: str, notes: tuple[str, ...]) -> Parsed:
        self.flush(True)
        return self.out.parsed(title, (*notes, *counted(self.notes)))


def _margin(line: str) -> int:
    return len(line) - len(line.lstrip())


def _link(text: str, address: str) -> str:
    outside = address.startswith(_WEB)
    return f"{text} ({address})" if outside and text and text != address else text or address


# reStructuredText

_UNDER = re.compile(r"([!-/:-@\[-`{-~])\1{2,}\s*$")
_RST_ITEM = re.compile(r"([-*+•]|(?:\d{1,4}|#|[a-zA-Z])[.)]|\((?:\d{1,4}|#|[a-zA-Z])\))\s+(?=\S)")
_DIRECTIVE = re.compile(r"\.\.\s+(?:\|[^|]+\|\s+)?([\w:-]+)::\s*(.*)$")
_TARGET = re.compile(r"\.\.\s+_(`[^`]+`|[^:]+):\s*(\S*)\s*$")
_RST_NOTE = re.compile(r"\.\.\s+\[(#?[^\]]*)\]\s+(.*)$")
_FIELD = re.compile(r":([A-Za-z][^:`]{0,60}):(?:\s+(.*))?$")
_GRID = re.compile(r"\+(?:[-=]+\+)+\s*$")
_SIMPLE = re.compile(r"=+(?:\s+=+)+\s*$")
_CODE = {"code", "code-block", "sourcecode", "parsed-literal", "highlight", "productionlist", "doctest", "testcode"}
_APART = {"toctree", "contents", "raw", "index", "meta", "only", "currentmodule", "module", "highlight", "default-role",
          "role", "sectnum", "include", "literalinclude", "automodule", "autoclass", "autofunction"}  # fmt: skip
_TITLED = {"table", "math", "rubric", "topic", "epigraph", "centered", "container", "function", "class", "sidebar"}
_ROLE = re.compile(r":[a-zA-Z][\w:.+-]*:`([^`]*)`")
_RST_LINK = re.compile(r"`([^`<]*?)\s*<([^<>`]+)>`__?")
_RST_MARK = re.compile(
    r"``(.+?)``|`([^`]+)`_{0,2}|\*\*(.+?)\*\*|(?<![\w*])\*(?=\S)([^*\n]+?)(?<=\S)\*(?!\w)|\|([^|\s][^|\n]*)\|_{0,2}"
)
_RST_REF = re.compile(r"\[(#?[\w.-]*|\*)\]_")
_RST_NAME = re.compile(r"(?<![\w`])([A-Za-z][\w.-]*[A-Za-z0-9])_(?![\w_])")
_RST_ESCAPE = re.compile(r"\\(\s?)(\S?)")


class RstParser:
    """reStructuredText."""

    name = "rst"
    version = "1"
    media_types = ("text/x-rst",)

    def parse(self, data: bytes, *, name: str, media_type: str) -> Parsed:
        text, notes = decode(data)
        targets = {m.group(1).strip("`").lower(): m.group(2) for line in text.split("\n") if (m := _TARGET.match(line))}
        source = _Lines(text, lambda line: _rst(line, targets))
        _Rst(source).read()
        return source.parsed("", notes)


def _rst(text: str, targets: dict[str, str]) -> str:
    if "_" in text:
        text = _RST_LINK.sub(lambda m: _link(m.group(1).strip(), m.group(2)), text)
        text = re.sub(r"`([^`]+)`__?", lambda m: _link(m.group(1), targets.get(m.group(1).lower(), "")), text)
        text = _RST_NAME.sub(lambda m: _named(m, targets), text)
        text = _RST_REF.sub(r"[\1]", text)
    if "`" in text:
        text = _ROLE.sub(lambda m: re.sub(r"\s*<[^<>]*>$", "", m.group(1)).lstrip("~!"), text)
    if "`" in text or "*" in text or "|" in text:
        text = _RST_MARK.sub(lambda m: next(group for group in m.groups() if group is not None), text)
    text = _RST_ESCAPE.sub(r"\2", text) if "\\" in text else text
    return text[:-1] if text.endswith("::") else text


def _named(match: re.Match[str], targets: dict[str, str]) -> str:
    name = match.group(1).lower()
    return _link(match.group(1), targets[name]) if name in targets else match.group()


class _Rst:
    def __init__(self, source: _Lines) -> None:
        self._source = source
        self._styles: list[str] = []  # of headings, in the order in which they came
        self._field = False  # whether fields are being read
        self._outer: list[tuple[list[str], int]] = []  # what goes on after the directives that are open

    def read(self) -> None:
        source = self._source
        while source.more():
            line = source.peek()
            bare = line.strip()
            source.at += 1
            if not bare:
                literal = source.last.endswith("::")
                source.flush()
                self._field = False
                if literal:
                    source.code(source.indented(0))
                elif source.in_item and source.peek()[:1].strip() and not _RST_ITEM.match(source.peek()):
                    source.flush(True)
                continue
            if self._heading(line, bare) or self._table(line, bare) or self._explicit(line, bare):
                continue
            item = _RST_ITEM.match(bare)
            field = _FIELD.match(bare) if not source.waiting or self._field else None
            if item and (not source.waiting or source.in_item) and not self._underlined():
                mark = item.group(1)
                source.item("- " if mark in "-*+•" else f"{mark} ", bare[item.end() :])
            elif field:
                if not self._field:
                    source.flush(True)
                self._field = True
                source.say(f"{field.group(1)}: {field.group(2) or ''}")
            else:
                source.say(bare[2:] if bare.startswith("| ") else bare)

    def _underlined(self) -> bool:
        return bool(_UNDER.match(self._source.peek())) and len(self._source.peek().strip()) > 3

    def _heading(self, line: str, bare: str) -> bool:
        source, below = self._source, self._source.peek()
        if _UNDER.match(line) and below.strip() and _UNDER.match(source.peek(1)) and source.peek(1)[0] == bare[0]:
            text, style = below, bare[0] * 2
            source.at += 2
        elif _UNDER.match(line):  # a line of its own parts what is above from what is below
            if source.waiting:
                source.say(bare)
            return not source.waiting
        elif not source.waiting and line[0] != " " and _UNDER.match(below) and len(below.rstrip()) >= min(len(bare), 4):
            text, style = line, below[0]
            source.at += 1
        else:
            return False
        if style not in self._styles:
            self._styles.append(style)
        source.heading(text.strip(), self._styles.index(style) + 1)
        return True

    def _table(self, line: str, bare: str) -> bool:
        source = self._source
        if _GRID.match(bare):
            rows = [bare]
            while source.peek().strip().startswith(("|", "+")):
                rows.append(source.peek().strip())
                source.at += 1
            source.table(*_grid(rows))
            return True
        if _SIMPLE.match(bare):
            rows, rules = [], 1
            while source.more():
                row = source.peek()[_margin(line) :]
                source.at += 1
                rows.append(row)
                rules += bool(_SIMPLE.match(row))
                if _SIMPLE.match(row) and (rules == 3 or not source.peek().strip()):
                    break
            source.table(*_simple(bare, rows))
            return True
        return False

    def _explicit(self, line: str, bare: str) -> bool:
        """Directives, notes, targets and comments: what begins with two dots."""
        if not bare.startswith(".."):
            return False
        source = self._source
        if bare != ".." and not bare.startswith(".. "):
            return False
        source.flush(True)
        note, directive = _RST_NOTE.match(bare), _DIRECTIVE.match(bare)
        inside = source.indented(_margin(line))
        if note:
            source.paragraph(f"[{note.group(1)}] " + "\n".join([note.group(2), *(row.strip() for row in inside)]))
        elif directive:
            self._directive(directive.group(1).lower(), directive.group(2), inside)
        return True

    def _directive(self, name: str, argument: str, inside: list[str]) -> None:
        source, options = self._source, {}
        while inside and (option := re.match(r"\s+:([\w-]+):\s*(.*)$", inside[0])):
            options[option.group(1)] = option.group(2)
            inside = inside[1:]
        if name in _CODE:
            source.code(inside)
        elif name in ("include", "literalinclude"):
            source.notes["files to include left out"] += 1
        elif name in _APART:
            return
        elif name in ("csv-table", "list-table"):
            source.paragraph(argument)
            rows = _listed(inside) if name == "list-table" else _commas([options.get("header", ""), *inside])
            source.table(rows, bool(options.get("header") or options.get("header-rows", "0") != "0"))
        else:
            if name in ("image", "figure"):
                argument = options.get("alt", "")
            elif name not in _TITLED:
                while inside and inside[0].strip():
                    argument, inside = f"{argument}\n{inside[0].strip()}", inside[1:]
                argument = f"{name.capitalize()}: {argument.strip()}".strip()
            source.paragraph(argument)
            if len(self._outer) < _DEEPEST:
                margin = min((_margin(row) for row in inside if row.strip()), default=0)
                self._outer.append((source.lines, source.at))
                source.lines, source.at = [row[margin:] for row in inside], 0
                self.read()
                source.flush(True)
                source.lines, source.at = self._outer.pop()
            else:
                source.paragraph("\n".join(inside))


def _grid(rows: list[str]) -> tuple[list[list[str]], bool]:
    """Cells between rules; the one of equal signs ends the header. A cell over several columns stands in the first."""
    edges = [at for at, sign in enumerate(rows[0]) if sign == "+"]
    done: list[list[str]] = []
    cells = [""] * (len(edges) - 1)
    headed = False
    for row in rows[1:]:
        if _GRID.match(row):
            done.append(cells)
            cells = [""] * (len(edges) - 1)
            headed = headed or "=" in row
            continue
        start = 0
        for column in range(len(edges) - 1):
            end = edges[column + 1]
            if end >= len(row) or row[end] in "|+":
                cells[start] += " " + row[edges[start] + 1 : end].strip(" |+")
                start = column + 1
    return [[cell.strip() for cell in row] for row in done if any(row)], headed


def _simple(rule: str, rows: list[str]) -> tuple[list[list[str]], bool]:
    spans = [match.span() for match in re.finditer("=+", rule)]
    done: list[list[str]] = []
    rules = 0
    for row in rows:
        if _SIMPLE.match(row):
            rules += 1
            continue
        if not row.strip() or re.fullmatch(r"[-\s]+", row):
            continue
        ends = [start for start, _ in spans[1:]] + [len(row) + 1]
        cells = [row[start:end].strip() for (start, _), end in zip(spans, ends, strict=True)]
        if not cells[0] and done:
            done[-1] = [f"{a} {b}".strip() for a, b in zip(done[-1], cells, strict=True)]
        else:
            done.append(cells)
    return done, rules > 1


def _listed(lines: list[str]) -> list[list[str]]:
    rows: list[list[str]] = []
    for line in lines:
        cell = re.match(r"\s*(\*\s+)?-(?:\s+(.*))?$", line)
        if cell and (cell.group(1) or rows):
            if cell.group(1):
                rows.append([])
            rows[-1].append(cell.group(2) or "")
        elif rows and rows[-1] and line.strip():
            rows[-1][-1] += " " + line.strip()
    return rows


def _commas(lines: list[str]) -> list[list[str]]:
    import csv

    return [row for row in csv.reader((line.strip() for line in lines), skipinitialspace=True) if row]


# AsciiDoc

_ADOC_ITEM = re.compile(r"(\*{1,5}|-|\.{1,5}|\d{1,4}\.|[a-z]\.|<\d+>|<\.>)\s+(?=\S)")
_ATTRIBUTE = re.compile(r":(!?[\w-]+!?):(?:\s+(.*))?$")
_TERM = re.compile(r"(.+?)(?::{2,4}|;;)(?:\s+(.*))?$")
_FENCE = re.compile(r"(-{4,}|\.{4,}|`{3,}|\+{4,}|/{4,}|={4,}|\*{4,}|_{4,}|--)(?:\w[\w,+-]*)?\s*$")
_SEPARATOR = re.compile(
    r"(?:(?<=\s)|^)(?:(\d{1,3}(?:\.\d{1,3})?|\.\d{1,3})([+*]))?(?:[<^>](?:\.[<^>])?|\.[<^>])?[a-demhlsv]?(?<!\\)\||(?<!\\)\|"
)
_ADOC_LINK = re.compile(r"(?:(link|xref|image|icon|kbd|btn|menu|footnote|stem|latexmath|pass|anchor):"
                        r"([^\s\[\]]{0,2000})|((?:https?|mailto):[^\s\[\]<>]{1,2000}))\[([^\]]{0,500})\]")  # fmt: skip
_CROSS = re.compile(r"<<([^<>,\n]+)(?:,\s*([^<>\n]*))?>>")
_ADOC_MARK = re.compile(
    r"(?<![\w*])\*(?=\S)([^*\n]+?)(?<=\S)\*(?![\w*])|(?<![\w_])_(?=\S)([^_\n]+?)(?<=\S)_(?![\w_])|"
    r"(?<![\w`])`(?=\S)([^`\n]+?)(?<=\S)`(?![\w`])|(?<![\w#])#(?=\S)([^#\n]+?)(?<=\S)#(?![\w#])|\*\*(.+?)\*\*|__(.+?)__|``(.+?)``"
)
_BRACES = re.compile(r"\{([\w-]+)\}")


class AsciidocParser:
    """AsciiDoc."""

    name = "asciidoc"
    version = "1"
    media_types = ("text/asciidoc",)

    def parse(self, data: bytes, *, name: str, media_type: str) -> Parsed:
        text, notes = decode(data)
        known: dict[str, str] = {
            "nbsp": " ",
            "empty": "",
            "sp": " ",
            "plus": "+",
            "vbar": "|",
            "amp": "&",
            "lt": "<",
            "gt": ">",
        }
        source = _Lines(text, lambda line: _adoc(line, known))
        _read_adoc(source, known)
        return source.parsed("", notes)


def _adoc(text: str, known: dict[str, str]) -> str:
    if "{" in text:
        text = _BRACES.sub(lambda m: known.get(m.group(1), m.group()), text)
    if "[" in text:
        text = _ADOC_LINK.sub(_adoc_macro, text)
        text = re.sub(r"\[\[[^\[\]]*\]\]|\[[#.][\w.#%-]*\](?=[#*_`])", "", text)
    if "<<" in text:
        text = _CROSS.sub(lambda m: (m.group(2) or m.group(1)).strip(), text)
    text = _ADOC_MARK.sub(lambda m: next(group for group in m.groups() if group is not None), text)
    return re.sub(r"(?m)\s\+$", "", text)


def _adoc_macro(match: re.Match[str]) -> str:
    name, target, address, inside = match.groups()
    shown = re.sub(r",?\s*(?:window|role|width|height|align|link|opts|title|scaledwidth)=[^,]*", "", inside).strip(
        ' "^'
    )
    if address:
        return _link(shown, address)
    if name == "footnote":
        return f" ({shown})"
    if name in ("link", "xref"):
        return _link(shown or target, target)
    if name == "menu":
        return " > ".join(filter(None, (target, shown)))
    return "" if name == "anchor" else shown


def _read_adoc(source: _Lines, known: dict[str, str]) -> None:
    options = ""
    while source.more():
        line = source.peek()
        bare = line.strip()
        source.at += 1
        if not bare:
            source.flush()
            continue
        fence = _FENCE.match(bare)
        heading = re.match(r"(={1,6}|#{1,6})\s+(\S.*)$", line)
        if bare.startswith("//") and not bare.startswith("////"):
            continue
        if bare.startswith("|===") or bare.startswith((",===", ":===")):
            end = bare
            _adoc_table(source, source.until(lambda row: row.strip() == end), options)  # noqa: B023 (called at once)
            options = ""
        elif fence:
            mark = fence.group(1)
            if mark[0] == "/":
                source.until(lambda row: row.strip() == mark)  # noqa: B023 (called at once)
            elif mark[0] in "-.`+" and mark != "--":
                source.code(source.until(lambda row: row.strip() == mark))  # noqa: B023 (called at once)
            else:
                source.flush(True)  # its lines are read as any others
            options = ""
        elif heading and not source.waiting:
            source.heading(heading.group(2), len(heading.group(1)))
        elif bare.startswith("[") and bare.endswith("]") and not source.waiting and not bare.startswith("[["):
            options = bare
        elif re.fullmatch(r"\[\[[^\]]*\]\]", bare):
            continue
        elif (attribute := _ATTRIBUTE.match(bare)) and not source.in_item:
            known[attribute.group(1)] = attribute.group(2) or ""
        elif re.match(r"(?:ifdef|ifndef|ifeval|endif|toc|include)::", bare):
            source.notes["files to include left out"] += bare.startswith("include::")
        elif image := re.match(r"(?:image|video|audio)::([^\[]*)\[([^\],]*)", bare):
            source.paragraph(image.group(2).strip(' "') if "=" not in image.group(2) else "")
        elif bare == "+" or bare in ("'''", "<<<"):
            source.flush()
        elif re.match(r"\.[^\s.]", bare) and not source.waiting:
            source.paragraph(bare[1:])
        elif item := _ADOC_ITEM.match(bare):
            mark = item.group(1)
            source.item(f"{mark} " if mark[0].isalnum() else "- ", bare[item.end() :])
        elif bare.startswith("|") and bare.count("|") > 1 and not source.waiting:
            source.at -= 1
            _adoc_table(source, source.until(lambda row: not row.strip().startswith("|")), "")
            source.at -= 1
        elif (term := _TERM.match(bare)) and (not source.waiting or source.in_item):
            source.item("- ", term.group(1) + (f": {term.group(2)}" if term.group(2) else ":"))
        else:
            if source.in_item and not source.waiting and source.peek(-2).strip() != "+":
                source.flush(True)
            source.say(bare)


def _adoc_table(source: _Lines, lines: list[str], options: str) -> None:
    """Cells in reading order; the columns are those of the first line, or what the options say."""
    said = re.search(r'cols="?([^"\]]+)"?', options)
    columns = 0
    if said:
        columns = sum(
            int(m.group(1)) if (m := re.match(r"\s*(\d+)\*", spec)) else 1 for spec in said.group(1).split(",")
        )
    lines = [line for line in lines if not line.strip().startswith("//")]
    cells: list[tuple[str, int, int]] = []
    for line in lines:
        found = list(_SEPARATOR.finditer(line))
        lead = line[: found[0].start()] if found else line
        if lead.strip() and cells:
            cells[-1] = (f"{cells[-1][0]} {lead.strip()}", *cells[-1][1:])
        if not columns and found:
            texts = [
                line[a.end() : b] for a, b in zip(found, [f.start() for f in found[1:]] + [len(line)], strict=True)
            ]
            columns = sum(_span(f)[0] for f in found) - (
                len(texts) > 2 and not texts[-1].strip() and line.rstrip()[-1] == "|"
            )
        for number, separator in enumerate(found):
            end = found[number + 1].start() if number + 1 < len(found) else len(line)
            text = line[separator.end() : end].strip().replace("\\|", "|")
            if number + 1 == len(found) and not text and number >= columns:
                continue  # a bar that only closes the row
            wide, high = _span(separator)
            cells += [(text, 1, 1)] * wide if separator.group(2) == "*" else [(text, wide, high)]
    rows: list[list[str]] = [[]]
    below: dict[tuple[int, int], str] = {}
    columns = max(1, min(columns, 1000))
    for text, wide, high in cells[:200_000]:
        while len(rows[-1]) < columns and (above := below.pop((len(rows), len(rows[-1])), None)) is not None:
            rows[-1].append(above)
        if len(rows[-1]) >= columns:
            rows.append([])
            while len(rows[-1]) < columns and (above := below.pop((len(rows), len(rows[-1])), None)) is not None:
                rows[-1].append(above)
        for down in range(1, min(high, 1000)):
            below[(len(rows) + down, len(rows[-1]))] = text
        rows[-1] += [text, *[""] * (min(wide, columns) - 1)]
    source.table(rows, "noheader" not in options)


def _span(separator: re.Match[str]) -> tuple[int, int]:
    wide, _, high = (separator.group(1) or "").partition(".")
    return int(wide or 1), int(high or 1)


# Org

_ORG_ITEM = re.compile(r"([-+]|\d{1,4}[.)])\s+(?:\[[ X-]\]\s+)?(?=\S)")
_ORG_LINK = re.compile(r"\[\[([^\[\]]+)\](?:\[([^\[\]]*)\])?\]")
_ORG_MARK = re.compile(
    r"(?<![\w*/=~+])(?:\*(?=\S)([^*\n]+?)(?<=\S)\*|/(?=\S)([^/\n]+?)(?<=\S)/|=(?=\S)([^=\n]+?)(?<=\S)=|~(?=\S)([^~\n]+?)(?<=\S)~|"
    r"\+(?=\S)([^+\n]+?)(?<=\S)\+)(?![\w*/=~+])"
)


class OrgParser:
    """Org mode."""

    name = "org"
    version = "1"
    media_types = ("text/x-org",)

    def parse(self, data: bytes, *, name: str, media_type: str) -> Parsed:
        text, notes = decode(data)
        source = _Lines(text, _org)
        return source.parsed(_read_org(source), notes)


def _org(text: str) -> str:
    text = _ORG_LINK.sub(lambda m: _link(m.group(2) or m.group(1), m.group(1)), text)
    text = re.sub(
        r"\[fn:([^\]:]*)(?::([^\]]*))?\]", lambda m: f"({m.group(2)})" if m.group(2) else f"[{m.group(1)}]", text
    )
    return _ORG_MARK.sub(lambda m: next(group for group in m.groups() if group is not None), text)


def _read_org(source: _Lines) -> str:
    title = ""
    while source.more():
        line = source.peek()
        bare = line.strip()
        source.at += 1
        keyword = re.match(r"#\+(\w+):?\s*(.*)$", bare)
        heading = re.match(r"(\*+)\s+(.*)$", line)
        if not bare:
            source.flush()
        elif heading:
            words = heading.group(2).rsplit(None, 1)
            tagged = len(words) == 2 and re.fullmatch(r":[\w@:]+:", words[1])
            source.heading(words[0] if tagged else heading.group(2), len(heading.group(1)))
        elif keyword:
            key, value = keyword.group(1).lower(), keyword.group(2)
            if key == "title":
                title = value
                source.heading(value, 1)
            elif key in ("begin_src", "begin_example", "begin_export"):
                end = "#+end" + key[5:]
                source.code(source.until(lambda row: row.strip().lower() == end))  # noqa: B023 (called at once)
            elif key in ("caption", "author", "date", "description"):
                source.paragraph(value)
            elif key == "include":
                source.notes["files to include left out"] += 1
            else:
                source.flush(True)
        elif re.fullmatch(r":[\w-]+:", bare):
            source.until(lambda row: row.strip().upper() == ":END:")
        elif bare.startswith("# ") or bare == "#" or re.fullmatch("-{5,}", bare):
            source.flush(True)
        elif bare.startswith(("SCHEDULED:", "DEADLINE:", "CLOSED:")):
            source.paragraph(bare)
        elif bare.startswith("|"):
            rows, headed = [line], False
            while source.peek().strip().startswith("|"):
                rows.append(source.peek())
                source.at += 1
            headed = len(rows) > 1 and rows[1].strip().startswith("|-")
            source.table(
                (
                    [cell.strip() for cell in row.strip().strip("|").split("|")]
                    for row in rows
                    if not row.strip().startswith("|-")
                ),
                headed,
            )
        elif bare.startswith(": ") or bare == ":":
            source.at -= 1
            start = source.at
            while source.peek().strip().startswith(":"):
                source.at += 1
            source.code(row.strip()[2:] for row in source.lines[start : source.at])
        elif item := _ORG_ITEM.match(bare):
            mark = item.group(1)
            source.item("- " if mark in "-+" else f"{mark} ", bare[item.end() :].replace(" :: ", ": ", 1))
        else:
            if source.in_item and line[0] != " " or bare.startswith("[fn:"):
                source.flush(True)
            source.say(bare)
    return title
