"""HTML as readable text: the main content, without scripts, styles and navigation.

Guarantees: one walk without recursion, so that depth cannot break it; headings, paragraphs, lists, tables and code
become blocks; ``main``, a single ``article`` or ``role=main`` is the content where there is one. Nothing is fetched.
"""

from __future__ import annotations

import re
from typing import Any

from drystone.errors import ParseFailed
from drystone.ingest.parsers.build import TextBuilder, table
from drystone.ingest.parsers.text import decode
from drystone.records import Parsed
from drystone.records.document import BlockKind

_DROP = ("script, style, noscript, template, svg, canvas, iframe, object, embed, head, nav, dialog, select, button, "
         "input, textarea, [hidden], [aria-hidden=true], [role=navigation], [role=search]")  # fmt: skip
_AROUND = {"header", "footer", "aside"}
_BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hgroup", "hr",
    "html", "li", "main", "ol", "p", "pre", "section", "summary", "table", "ul",
}  # fmt: skip
_CHARSET = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]+)", re.I)


def render(source: str, notes: tuple[str, ...] = ()) -> Parsed:
    """HTML text to readable text with blocks."""
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(source)
    named = tree.css_first("title")
    title = named.text(deep=True).strip() if named is not None else ""
    for node in tree.css(_DROP):
        if node.tag != "html" and node.tag != "body":
            node.decompose()
    root = _content(tree)
    out = TextBuilder()
    if root is not None:
        _walk(root, out)
    return out.parsed(title, notes)


def _content(tree: Any) -> Any:
    body = tree.body
    for query in ("main", "[role=main]", "article"):
        found = tree.css(query)
        if len(found) == 1 and body is not None:
            here, whole = len(found[0].text(deep=True).strip()), len(body.text(deep=True).strip())
            if here * 3 >= whole:
                return found[0]
    return body


def _walk(root: Any, out: TextBuilder) -> None:
    """Depth first with an explicit stack; a node is met twice, going in and coming out."""
    run: list[str] = []
    kinds: list[tuple[BlockKind, int]] = [("paragraph", 0)]
    lists: list[int] = []  # of each open list: 0 for bullets, else the next number
    near = False

    def flush() -> None:
        nonlocal near
        text = "\n".join(" ".join(line.split()) for line in "".join(run).split("\n"))
        run.clear()
        kind, level = kinds[-1]
        if text.strip():
            mark = run_mark.pop() if run_mark else ""
            out.add(kind, mark + text.strip(), level=level, near=near and kind == "list")
            near = kind == "list"

    run_mark: list[str] = []
    stack: list[tuple[Any, bool]] = [(root, True)]
    while stack:
        node, going_in = stack.pop()
        tag = node.tag
        if not going_in:
            flush()
            if tag in ("ul", "ol", "dl"):
                lists.pop()
                near = bool(lists)
            if tag[:1] == "h" and tag[1:].isdigit() or tag == "li":
                kinds.pop()
                run_mark.clear()
            continue
        if tag == "-text":
            run.append((node.text_content or "").replace("\n", " "))
            continue
        if tag == "br":
            run.append("\n")
            continue
        if tag == "img":
            run.append(node.attributes.get("alt") or "")
            continue
        if tag.startswith(("-", "!", "_")):
            continue
        if tag in _AROUND and node.parent is not None and node.parent.tag == "body":
            continue  # the page's own header and footer, not a section's
        if tag in _BLOCKS:
            flush()
            if tag == "table" and not node.css("table table"):
                out.add("table", _table(node))
                near = False
                continue
            if tag == "pre":
                out.add("code", node.text(deep=True))
                near = False
                continue
            if tag in ("ul", "ol", "dl"):
                lists.append(1 if tag == "ol" else 0)
            if tag == "li":
                kinds.append(("list", 0))
                number = lists[-1] if lists else 0
                run_mark[:] = [f"{number}. " if number else "- "]
                if number:
                    lists[-1] += 1
            elif tag[0] == "h" and tag[1:].isdigit():
                kinds.append(("heading", int(tag[1:])))
            stack.append((node, False))
        elif tag in ("td", "th"):
            run.append(" ")
        children = []
        child = node.child
        while child is not None:
            children.append((child, True))
            child = child.next
        stack.extend(reversed(children))
        if tag == "a" and (target := node.attributes.get("href") or "").startswith(("http://", "https://", "mailto:")):
            shown = node.text(deep=True).strip()
            if shown and shown != target:
                stack.insert(len(stack) - len(children), (_Text(f" ({target})"), True))
    flush()


class _Text:
    """A piece of text that the page does not hold as such: a link's address."""

    tag = "-text"

    def __init__(self, text: str) -> None:
        self.text_content = text


def _table(node: Any) -> str:
    rows = [[cell for cell in row.iter() if cell.tag in ("td", "th")] for row in node.css("tr")]
    cells = [[cell.text(deep=True, separator=" ") for cell in row] for row in rows if row]
    caption = node.css_first("caption")
    before = f"{' '.join(caption.text(deep=True).split())}\n" if caption is not None else ""
    first = next((row for row in rows if row), [])
    if first and all(cell.tag == "th" for cell in first):
        return before + table(cells)
    if len(cells) > 1 and all(row and row[0].tag == "th" and len(row) == 2 for row in rows if row):
        return before + "\n".join(": ".join(" ".join(c.split()) for c in row) for row in cells)
    return before + "\n".join(" | ".join(" ".join(c.split()) for c in row if c.strip()) for row in cells)


class HtmlParser:
    """Web pages."""

    name = "html"
    version = "1"
    media_types = ("text/html",)

    def parse(self, data: bytes, *, name: str, media_type: str) -> Parsed:
        said = _CHARSET.search(data[:4096])
        if said and not data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
            encoding = said.group(1).decode("ascii").lower()
            try:
                data.decode("utf-8")
            except UnicodeDecodeError:
                latin = encoding in ("iso-8859-1", "latin1", "ascii")  # as browsers read them
                try:
                    text = data.decode("cp1252" if latin else encoding, "replace")
                except LookupError:
                    raise ParseFailed("The page names an encoding that does not exist.", kind="encoding") from None
                text = text.replace("\r\n", "\n").replace("\r", "\n")
                return render(text, (f"encoding:{encoding} as the page says",))
        text, notes = decode(data)
        return render(text, notes)
