"""HTML as readable text: the main content, without scripts, styles, navigation and what the page hides.

Guarantees: one walk without recursion; nesting beyond 512 elements is flattened before the page is parsed (with a
note), as browsers do, so that depth costs neither time nor the stack; headings, paragraphs, lists, tables and code
become blocks; a table's cells stand where their spans put them; tables that only lay a page out are read as its
content; ``main``, a single ``article`` or ``role=main`` is the content where there is one. Nothing is fetched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from drystone.ingest.parsers.build import TextBuilder
from drystone.ingest.parsers.tabular import headed
from drystone.ingest.parsers.text import decode_as
from drystone.records import Parsed
from drystone.records.document import BlockKind
from drystone.records.place import place

_DROP = ("script, style, template, svg, canvas, iframe, object, embed, head, nav, dialog:not([open]), select, "
         "button, input, textarea, [hidden], [aria-hidden=true], [role=navigation], [role=search], "
         "[style*='display:none' i], [style*='display: none' i], [style*='visibility:hidden' i], "
         "[style*='visibility: hidden' i]")  # fmt: skip
_AROUND = {"header", "footer", "aside"}
_BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hgroup", "hr",
    "html", "li", "main", "ol", "p", "pre", "section", "summary", "table", "ul",
}  # fmt: skip
_CHARSET = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]+)|<\?xml[^>]+encoding=[\"']([\w.:-]+)", re.I)
_DEEPEST = 512
_TAGS = re.compile(
    r"<!--.*?(?:-->|\Z)|<(script|style|svg|math)\b.*?(?:</\1\s*>|\Z)|<(/?)([a-z][^\s/>]*)[^<>]*>", re.I | re.S
)
_UNCOUNTED = {  # without an end, or with one that may be left out
    "area", "base", "body", "br", "caption", "col", "colgroup", "dd", "dt", "embed", "head", "hr", "html", "img",
    "input", "li", "link", "meta", "option", "p", "param", "rp", "rt", "source", "tbody", "td", "tfoot", "th", "thead",
    "tr", "track", "wbr",
}  # fmt: skip
_WIDEST = 1000  # columns that one cell may span, as browsers have it
_LONG = 1000  # characters of a cell that is rather a page's column
_LONGEST_ADDRESS = 200  # of a link; longer ones carry who clicked, not where to
_MOST_SPANNED = 1_000_000  # cells of one table; then spans are not followed
_REPEATED = 300  # characters of a cell that is written again in each row that it spans


def render(source: str, notes: tuple[str, ...] = ()) -> Parsed:
    """HTML text to readable text with blocks."""
    out = TextBuilder()
    title, said = fill(out, source)
    return out.parsed(title, (*notes, *said))


def fill(out: TextBuilder, source: str, part: str | None = None) -> tuple[str, tuple[str, ...]]:
    """Write a page into ``out``. Title and notes. ``part``: of a mail, for the places."""
    from selectolax.lexbor import LexborHTMLParser

    source, notes = _shallow(source)
    tree = LexborHTMLParser(source)
    named = tree.css_first("title")
    title = named.text(deep=True).strip() if named is not None else ""
    for node in tree.css(_DROP):
        if node.tag != "html" and node.tag != "body":
            node.decompose()
    long = sum(len(node.attributes.get("href") or "") > _LONGEST_ADDRESS for node in tree.css("a[href^=http]"))
    if long:
        notes = (*notes, f"html: long addresses of links left out: {long}")
    root = _content(tree)
    if root is not None and not _Walk(out, part, {"noscript"}).go(root) and _Walk(out, part, set()).go(tree.body):
        notes = (*notes, "html: what is shown without scripts, as there is nothing else")
    return title, notes


def _shallow(source: str) -> tuple[str, tuple[str, ...]]:
    """The page without the tags that nest deeper than browsers let them."""
    if source.count("<") < _DEEPEST:
        return source, ()
    depth = deepest = 0

    def kept(match: re.Match[str]) -> str:
        nonlocal depth, deepest
        name = (match.group(3) or "").lower()
        if not name or name in _UNCOUNTED:
            return match.group()
        if match.group(2):
            depth = max(0, depth - 1)
            return "" if depth >= _DEEPEST else match.group()
        depth += 1
        deepest = max(deepest, depth)
        return "" if depth > _DEEPEST else match.group()

    shallow = _TAGS.sub(kept, source)
    return (shallow, ("html: nesting beyond 512 flattened",)) if deepest > _DEEPEST else (source, ())


def _content(tree: Any) -> Any:
    body = tree.body
    for query in ("main", "[role=main]", "article"):
        found = tree.css(query)
        if len(found) == 1 and body is not None:
            here, whole = len(found[0].text(deep=True).strip()), len(body.text(deep=True).strip())
            if here * 3 >= whole:
                return found[0]
    return body


class _Walk:
    """Depth first with an explicit stack; a node is met twice, going in and coming out."""

    def __init__(self, out: TextBuilder, part: str | None, skip: set[str]) -> None:
        self._out, self._part, self._skip = out, part, skip
        self._place = place(part=part)
        self._run: list[str] = []
        self._mark = ""
        self._kinds: list[tuple[BlockKind, int]] = [("paragraph", 0)]
        self._lists: list[int] = []  # of each open list: 0 for bullets, else the next number
        self._near = self._wrote = False

    def go(self, root: Any) -> bool:
        """Whether there was any text."""
        stack: list[tuple[Any, bool]] = [(root, True)]
        while stack:
            node, going_in = stack.pop()
            tag = node.tag
            if not going_in:
                self._leave(tag)
            elif tag == "-text":
                self._run.append((node.text_content or "").replace("\n", " "))
            elif self._enter(node, tag):
                if tag in _BLOCKS:
                    stack.append((node, False))
                elif tag == "a" and (address := _address(node)):
                    stack.append((_Text(f" ({address})"), True))
                stack.extend([(child, True) for child in _children(node)][::-1])
        self._flush()
        return self._wrote

    def _enter(self, node: Any, tag: str) -> bool:
        """Whether to look at what is in it."""
        if tag == "br":
            self._run.append("\n")
        elif tag == "img":
            self._run.append(node.attributes.get("alt") or "")
        elif tag in ("td", "th"):
            self._run.append("\n")
        if tag in ("br", "img") or tag in self._skip or tag.startswith(("-", "!", "_")):
            return False
        if tag in _AROUND and node.parent is not None and node.parent.tag == "body":
            return False  # the page's own header and footer, not a section's
        if tag not in _BLOCKS:
            return True
        self._flush()
        if tag == "pre":
            self._add("code", node.text(deep=True))
        elif tag == "table" and (table := _Table(node)).holds_data:
            self._add("paragraph", table.caption)
            table.write(self._out, self._part)
            self._wrote = True
        else:
            self._open(node, tag)
            return True
        self._near = False
        return False

    def _open(self, node: Any, tag: str) -> None:
        if tag in ("ul", "ol", "dl"):
            self._lists.append(_number(node.attributes.get("start"), 1) if tag == "ol" else 0)
        elif tag in ("li", "dt", "dd"):
            self._kinds.append(("list", 0))
            number = self._lists[-1] if self._lists else 0
            self._mark = f"{number}. " if number else "- " if tag != "dd" else "  "
            if number:
                self._lists[-1] += 1
        elif tag[0] == "h" and tag[1:].isdigit():
            self._kinds.append(("heading", int(tag[1:])))

    def _leave(self, tag: str) -> None:
        self._flush()
        if tag in ("ul", "ol", "dl"):
            self._lists.pop()
            self._near = bool(self._lists)
        elif tag in ("li", "dt", "dd") or tag[0] == "h" and tag[1:].isdigit():
            self._kinds.pop()
            self._mark = ""

    def _flush(self) -> None:
        text = "\n".join(" ".join(line.split()) for line in "".join(self._run).split("\n")).strip()
        self._run.clear()
        if text:
            kind, level = self._kinds[-1]
            text = re.sub(r"\n{3,}", "\n\n", text)
            self._add(kind, self._mark + text, level, self._near and kind == "list")
            self._near, self._mark = kind == "list", ""

    def _add(self, kind: BlockKind, text: str, level: int = 0, near: bool = False) -> None:
        self._out.add(kind, text, level=level, near=near, place=self._place)
        self._wrote = self._wrote or bool(text.strip())


class _Text:
    """A piece of text that the page does not hold as such: a link's address."""

    tag = "-text"

    def __init__(self, text: str) -> None:
        self.text_content = text


class _Table:
    """A table's cells where their spans put them."""

    def __init__(self, node: Any) -> None:
        self.caption = ""
        self._node = node
        self._rows: list[tuple[bool, list[Any]]] = []  # whether it is of the head, its cells
        for child in _children(node):
            if child.tag == "caption":
                self.caption = _text(child)
            elif child.tag == "tr":
                self._rows.append((False, _cells(child)))
            elif child.tag in ("thead", "tbody", "tfoot"):
                self._rows += [(child.tag == "thead", _cells(row)) for row in _children(child) if row.tag == "tr"]
        self._rows = [(head, cells) for head, cells in self._rows if cells]
        self._top = self._header_rows()

    def _header_rows(self) -> int:
        """How many rows name the columns: the head's, else a row of headings, or more where it spans."""
        if not self._rows:
            return 0
        named = next((n for n, (head, _) in enumerate(self._rows) if not head), 0)
        if named:
            return named
        ruled = next((n for n, (_, cells) in enumerate(self._rows) if any(c.tag != "th" for c in cells)), 0)
        spans = any(_number(cell.attributes.get("colspan"), 1) > 1 for cell in self._rows[0][1])
        return ruled if spans else min(ruled, 1)

    @property
    def holds_data(self) -> bool:
        """Whether it is a table to its reader, too, and not one to lay the page out."""
        if (self._node.attributes.get("role") or "") in ("presentation", "none") or not self._rows:
            return False
        if any(cell.tag == "th" for _, cells in self._rows for cell in cells) or self.caption:
            return True
        if max(len(cells) for _, cells in self._rows) < 2:
            return False  # one column is a stack of blocks
        cells = [cell for _, row in self._rows for cell in row]
        rich = [cell for cell in cells if cell.css_first("table, h1, h2, h3, h4, p + p, pre") is not None]
        return len(rich) * 3 <= len(cells) and all(len(cell.text(deep=True)) < _LONG for cell in rich)

    def write(self, out: TextBuilder, part: str | None) -> None:
        rows, top, first = list(self._grid()), self._top, 1
        if len(rows) > 1 and len(self._rows[0][1]) == 1 and len(rows[0]) > 1:  # one cell over all: what the table is
            out.add("paragraph", rows[0][0], place=place(part=part))
            rows, top, first = rows[1:], max(0, top - 1), 2
        if top > 1:
            header = [" ".join(dict.fromkeys(filter(None, column))) for column in zip_longest(*rows[:top])]
            out.table(rows[top:], header=header, first_row=first + top, part=part)
        elif not top and all(len(cells) == 2 and cells[0].tag == "th" for _, cells in self._rows[first - 1 :]):
            out.table([[": ".join(filter(None, row))] for row in rows], header=[], first_row=first, part=part)
        else:
            out.table(rows, header=None if top or headed(rows) else [], first_row=first, part=part)

    def _grid(self) -> Iterator[list[str]]:
        below: dict[int, tuple[int, str]] = {}  # column: rows that a cell above still covers, its text
        left = _MOST_SPANNED
        for number, (_, cells) in enumerate(self._rows):
            row: list[str] = []

            def covered(row: list[str] = row) -> None:
                while (above := below.get(len(row))) is not None:
                    rows, text = above
                    if rows > 1:
                        below[len(row)] = (rows - 1, text)
                    else:
                        del below[len(row)]
                    row.append(text)

            for cell in cells:
                covered()
                text = _text(cell)
                again = text if len(text) <= _REPEATED else ""
                down = min(_number(cell.attributes.get("rowspan"), 1) or len(self._rows), len(self._rows) - number)
                wide = max(1, min(_number(cell.attributes.get("colspan"), 1), _WIDEST))
                left -= down * wide
                if left < 0:
                    down = wide = 1
                for step in range(wide):
                    text = text if not step else again if number < self._top else ""
                    if down > 1:
                        below[len(row)] = (down - 1, again if text else "")
                    row.append(text)
            covered()
            # A row of headings that all go on in the rows below says nothing that those do not.
            yield row if any(_number(c.attributes.get("rowspan"), 1) == 1 or c.tag == "td" for c in cells) else []


def _cells(row: Any) -> list[Any]:
    return [cell for cell in _children(row) if cell.tag in ("td", "th")]


def _text(root: Any) -> str:
    """A cell's text on one line; what stands apart in it stays apart."""
    pieces: list[str] = []
    stack = [root]
    while stack:
        node = stack.pop()
        tag = node.tag
        if tag == "-text":
            pieces.append(node.text_content or "")
            continue
        if tag == "img":
            pieces.append(node.attributes.get("alt") or "")
        if tag == "br" or tag in _BLOCKS or tag in ("td", "th"):
            pieces.append(" ")
            stack.append(_Text(" "))
        if tag == "noscript" or tag.startswith("!"):
            continue
        if tag == "a" and (address := _address(node)):
            stack.append(_Text(f" ({address})"))
        stack.extend(_children(node)[::-1])
    return " ".join("".join(pieces).split())


def _address(node: Any) -> str:
    """Where a link leads, if that is more than it shows. Links to the page in another language say nothing."""
    attributes = node.attributes
    target = attributes.get("href") or ""
    if len(target) > _LONGEST_ADDRESS:
        return ""
    if not target.startswith(("http://", "https://", "mailto:")) or "hreflang" in attributes:
        return ""
    shown = node.text(deep=True).strip()
    bare = target.removeprefix("mailto:")
    return (
        target if shown and shown not in (target, bare, bare.rstrip("/"), bare.partition("//")[2].rstrip("/")) else ""
    )


def _children(node: Any) -> list[Any]:
    found, child = [], node.child
    while child is not None:
        if child.tag is not None:  # a processing instruction has none
            found.append(child)
        child = child.next
    return found


def _number(text: str | None, otherwise: int) -> int:
    text = (text or "").strip()
    return int(text) if text.isdecimal() and len(text) < 6 else otherwise


class HtmlParser:
    """Web pages."""

    name = "html"
    version = "2"
    media_types = ("text/html",)

    def parse(self, data: bytes, *, name: str, media_type: str) -> Parsed:
        said = _CHARSET.search(data[:4096])
        encoding = (said.group(1) or said.group(2)).decode("ascii") if said else ""
        text, notes = decode_as(data, encoding, "the page")
        return render(text, notes)
