"""XML as readable text: articles (JATS), feeds (RSS, Atom), business reports (XBRL), drawings (SVG), and any other.

Guarantees: documents that declare entities are refused, so that nothing unfolds and nothing outside is asked for;
nothing is fetched. Elements that read like a document (titles, paragraphs, lists, tables) become blocks; elements that
read like data become lines ``path: value | path: value``, attributes among them, so that every value is in the text
with what names it. XML that is not well-formed is read as plain text, with a note.
"""

from __future__ import annotations

import html as escapes
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING
from xml.etree.ElementTree import TreeBuilder, tostring
from xml.parsers import expat

from drystone.errors import ParseFailed
from drystone.ingest.parsers import html
from drystone.ingest.parsers.build import TextBuilder
from drystone.ingest.parsers.clock import later
from drystone.ingest.parsers.text import decode_as
from drystone.records import Parsed, Reading

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_ENCODING = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*<\?xml[^>]+encoding\s*=\s*[\"']([\w.:-]+)", re.I)
_DECLARATION = re.compile(r"\A\s*<\?xml[^>]*\?>")
_NAMED = re.compile(r"&([A-Za-z][A-Za-z0-9]*);")
_MARKUP = re.compile(r"<(?:p|div|span|br|table|a|b|i|ul|ol|h[1-6])\b[^>]*>", re.I)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
LARGE = 6 << 20  # bytes that take longer than a document may, but where there is more time
_LONG = 2000  # characters of one record on a line
_LONGEST_PATH = 500
_DEEPEST = 60  # sections inside one another

_TITLES = {"title", "head", "heading", "subtitle", "invention-title", "bridgehead", "article-title"}
_PARAGRAPHS = {
    "p",
    "para",
    "simpara",
    "paragraph",
    "claim-text",
    "abstract-text",
    "quote",
    "blockquote",
    "caption",
    "note",
}
_ITEMS = {"li", "item", "listitem", "list-item"}
_CODE = {"programlisting", "screen", "code", "preformat", "literallayout", "pre"}
_SECTIONS = {
    "sec",
    "section",
    "sect1",
    "sect2",
    "sect3",
    "sect4",
    "chapter",
    "part",
    "div",
    "appendix",
    "article",
    "book",
}
_UNREAD = {"script", "style", "graphic", "inline-graphic", "object-id", "processing-meta"}


class XmlParser:
    """XML of any vocabulary."""

    name = "xml"
    version = "1"
    media_types = ("application/xml", "image/svg+xml")
    slow = "drystone.ingest.parsers.xml:LargeXmlParser"

    def parse(self, data: bytes, *, name: str, media_type: str, reading: Reading = Reading()) -> Parsed:
        later(self.slow, len(data), LARGE)
        said = _ENCODING.match(data[:400])
        text, notes = decode_as(data, said.group(1).decode("ascii") if said else "", "the document")
        out = TextBuilder(reading.text)
        try:
            root = _tree(text)
        except expat.ExpatError:
            return Parsed(text, (), "", (*notes, "xml: not well-formed, read as plain text"))
        kind = _local(root)
        if kind == "html":
            return html.render(text, notes)
        if kind == "article" and root.find("front") is not None:
            _Article(out).write(root)
        elif kind in ("rss", "feed", "RDF"):
            _feed(root, out)
        elif kind == "xbrl":
            _report(root, out)
        elif kind == "svg":
            _drawing(root, out)
        if out.empty:
            _any(root, out)
        title = next((_text(e) for e in islice(root.iter(), 200) if _local(e) in _TITLES and _text(e)), "")
        return out.parsed(title, notes)


class LargeXmlParser(XmlParser):
    """The same, where there is time."""

    slow = ""


def _tree(text: str) -> Element:
    """Raises ``ExpatError``, and ``ParseFailed`` where entities are declared."""
    text = _DECLARATION.sub("", text)
    try:
        return _built(text)
    except expat.ExpatError as error:
        if error.code != expat.errors.codes[expat.errors.XML_ERROR_UNDEFINED_ENTITY]:
            raise
        known = ("amp", "lt", "gt", "quot", "apos")  # then those of HTML, which many files use without saying so
        return _built(_NAMED.sub(lambda m: m.group() if m.group(1) in known else escapes.unescape(m.group()), text))


def _built(text: str) -> Element:
    builder = TreeBuilder()
    parser = expat.ParserCreate("utf-8", "}")
    parser.buffer_text = True
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)

    def refuse(*_: object) -> None:
        raise ParseFailed("It declares entities, which are how a small file unfolds without end.", kind="malformed")

    parser.EntityDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler = builder.data
    parser.SkippedEntityHandler = lambda name, parameter: (
        None if parameter else builder.data(escapes.unescape(f"&{name};"))
    )
    parser.Parse(text.encode("utf-8", "replace"), True)
    return builder.close()


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _text(element: Element | None) -> str:
    return " ".join("".join(_words(element)).split()) if element is not None else ""


def _words(element: Element, skip: frozenset[str] = frozenset()) -> Iterator[str]:
    """An element's text in order, without recursion; of a formula that is there twice its TeX."""
    stack: list[Element | str] = [element]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            yield node
            continue
        name = _local(node)
        if name in skip or name in _UNREAD:
            continue
        if name == "tex-math":
            yield _tex(node.text or "")
            continue
        children = list(node)
        if name == "alternatives" and any(_local(c) == "tex-math" for c in children):
            children = [c for c in children if _local(c) == "tex-math"]
        apart = name in _PARAGRAPHS or name in _ITEMS or name in _TITLES or name in ("break", "br", "td", "th", "entry")
        if node.text:
            yield (" " if apart else "") + node.text
        elif apart:
            yield " "
        for child in reversed(children):
            if child.tail:
                stack.append(child.tail)
            if name == "name":  # surname and given names
                stack.append(" ")
            stack.append(child)


def _tex(text: str) -> str:
    inner = re.search(r"\\begin\{document\}(.*?)\\end\{document\}", text, re.S)
    return (inner.group(1) if inner else text).strip()


class _Article:
    """A journal article (JATS, NISO Z39.96)."""

    def __init__(self, out: TextBuilder) -> None:
        self._out = out

    def write(self, root: Element) -> None:
        out, about = self._out, root.find("front/article-meta")
        if about is not None:
            out.add("heading", _text(about.find("title-group/article-title")), level=1)
            authors = [c for c in about.iter("contrib") if c.get("contrib-type", "author") == "author"]
            names = (
                _person(c.find("name")) or _text(c.find("collab")) or _text(c.find("string-name")) for c in authors
            )
            out.add("paragraph", ", ".join(filter(None, names)))
            places = ("".join(_words(a, frozenset(("label", "email", "institution-id")))) for a in about.iter("aff"))
            out.add("paragraph", "; ".join(filter(None, (" ".join(p.split()).strip(" ,;") for p in places))))
            for abstract in about.iter("abstract"):
                if abstract.find("title") is None:
                    out.add("heading", "Abstract", level=2)
                self._section(abstract, 2)
            words = [_text(k) for k in about.iter("kwd")]
            out.add("paragraph", f"Keywords: {', '.join(words)}" if words else "")
        for part in ("body", "back"):
            found = root.find(part)
            if found is not None:
                self._section(found, 1)
        for inner in [e for e in root if _local(e) in ("sub-article", "response")]:
            title = inner.find(".//article-title")
            out.add("heading", _text(title), level=1)
            for body in inner.findall("body"):
                self._section(body, 1)

    def _section(self, element: Element, level: int) -> None:
        if level > _DEEPEST:
            self._out.add("paragraph", _text(element))
            return
        for child in element:
            name = _local(child)
            if name in ("title", "label"):
                if name == "title":
                    self._out.add("heading", _text(child), level=min(level, 6))
            elif name in ("sec", "app", "ack", "ref-list", "glossary", "notes", "fn-group", "app-group", "boxed-text"):
                if child.find("title") is None and name == "ack":
                    self._out.add("heading", "Acknowledgments", level=level + 1)
                self._section(child, level + 1)
            elif name == "ref":
                self._out.add("list", "- " + _reference(child), near=True)
            elif name in ("list", "def-list"):
                self._list(child, level)
            elif name == "table-wrap":
                self._table(child)
            elif name in (
                "table-wrap-group",
                "fig-group",
                "disp-quote",
                "statement",
                "fn",
                "disp-formula-group",
                "floats-group",
            ):
                self._section(child, level)
            elif name in ("fig", "supplementary-material", "media"):
                self._out.add("paragraph", _caption(child))
            elif name in _CODE:
                self._out.add("code", "".join(child.itertext()))
            elif name not in _UNREAD:
                self._paragraph(child, level)

    def _paragraph(self, element: Element, level: int) -> None:
        """A paragraph; what stands in it as a block of its own (a list, a table, a figure) follows it."""
        blocks = frozenset(
            ("list", "def-list", "table-wrap", "fig", "boxed-text", "supplementary-material", "fig-group")
        )
        self._out.add("paragraph", " ".join("".join(_words(element, blocks)).split()))
        for child in element:
            if _local(child) in blocks:
                holder = element.makeelement("sec", {})
                holder.append(child)
                self._section(holder, level)

    def _list(self, element: Element, level: int) -> None:
        for item in element:
            if _local(item) == "def-item":
                term, meaning = _text(item.find("term")), _text(item.find("def"))
                self._out.add("list", f"- {term}: {meaning}", near=True)
            elif _local(item) == "list-item":
                self._out.add(
                    "list", "- " + " ".join("".join(_words(item, frozenset(("list", "label")))).split()), near=True
                )
                if level < _DEEPEST:
                    for inner in item.findall("list"):
                        self._list(inner, level + 1)

    def _table(self, element: Element) -> None:
        self._out.add("paragraph", _caption(element))
        for table in element.iter("table"):
            for math in table.iter("alternatives"):
                words = "".join(_words(math))
                for child in list(math):
                    math.remove(child)
                math.text = words
            table.tail = None
            html.fill(self._out, tostring(table, "unicode"))
        for foot in element.findall("table-wrap-foot"):
            self._out.add("paragraph", _text(foot))


def _caption(element: Element) -> str:
    return " ".join(filter(None, (_text(element.find("label")), _text(element.find("caption")))))


def _person(element: Element | None) -> str:
    if element is None:
        return ""
    return " ".join(filter(None, (_text(element.find("given-names")), _text(element.find("surname")))))


def _reference(element: Element) -> str:
    """A reference as it is printed, or put together from its fields."""
    mixed = element.find("mixed-citation")
    if mixed is None:
        mixed = element.find("citation")
    if mixed is not None and _text(mixed):
        return _text(mixed)
    fields = element.find("element-citation")
    if fields is None:
        return " ".join("".join(_words(element, frozenset(("label",)))).split())
    names = [
        " ".join(filter(None, (_text(n.find("surname")), _text(n.find("given-names"))))) for n in fields.iter("name")
    ]
    names += [_text(c) for c in fields.iter("collab")]
    first, last, volume = (_text(fields.find(f)) for f in ("fpage", "lpage", "volume"))
    pages = f"{first}–{last}" if first and last else first or _text(fields.find("elocation-id"))
    year = _text(fields.find("year"))
    said = [", ".join(names), _text(fields.find("article-title")) or _text(fields.find("chapter-title"))]
    said.append(" ".join(filter(None, (_text(fields.find("source")), ":".join(filter(None, (volume, pages))),
                                       f"({year})" if year else ""))))  # fmt: skip
    said += [f"{(i.get('pub-id-type') or 'id').upper()}: {_text(i)}" for i in fields.iter("pub-id")]
    return ". ".join(filter(None, said))


def _feed(root: Element, out: TextBuilder) -> None:
    """News: each entry under its title, with its date and address, and the longest of its texts."""
    entries = [e for e in root.iter() if _local(e) in ("item", "entry")]
    inside = {id(e) for e in entries}
    channel = next((e for e in root if _local(e) == "channel"), root)
    for child in channel:
        if id(child) not in inside and _local(child) in ("title", "description", "subtitle"):
            _told(child, out, 1)
    for entry in entries:
        by_name: dict[str, list[Element]] = {}
        for child in entry:
            by_name.setdefault(_local(child), []).append(child)
        out.add("heading", _text(next(iter(by_name.get("title", [])), None)), level=2)
        about = []
        for name in ("pubDate", "published", "updated", "date", "creator", "author", "category", "link"):
            values = [_text(e) or e.get("href") or e.get("term") or "" for e in by_name.get(name, [])]
            about.append(", ".join(filter(None, values)))
        out.add("paragraph", " | ".join(filter(None, about)))
        texts = [e for name in ("encoded", "content", "description", "summary") for e in by_name.get(name, [])]
        if texts:
            _told(max(texts, key=lambda e: len("".join(e.itertext()))), out, 0)


def _told(element: Element, out: TextBuilder, level: int) -> None:
    """Text that may hold HTML, escaped or as it is."""
    if _local(element) == "title" and level:
        out.add("heading", _text(element), level=level)
    elif len(element):
        html.fill(out, "".join(tostring(child, "unicode") for child in element))
    elif _MARKUP.search(element.text or ""):
        html.fill(out, element.text or "")
    else:
        out.add("paragraph", _text(element))


def _report(root: Element, out: TextBuilder) -> None:
    """A business report (XBRL): its notes, and its facts with unit and period."""
    periods: dict[str, str] = {}
    units: dict[str, str] = {}
    facts: dict[str, list[str]] = {}
    about: dict[str, str] = {}
    notes: list[Element] = []
    for element in root:
        name = _local(element)
        if name == "context":
            dates = [_text(e) for e in element.iter() if _local(e) in ("startDate", "endDate", "instant")]
            members = [_spaced(_text(e).rpartition(":")[2]) for e in element.iter() if _local(e) == "explicitMember"]
            periods[element.get("id") or ""] = ", ".join([" to ".join(dates), *members])
        elif name == "unit":
            units[element.get("id") or ""] = "/".join(_text(e).rpartition(":")[2] for e in element.iter() if not len(e))
        elif element.get("contextRef") is not None and (element.text or "").strip():
            value = element.text or ""
            if name.endswith("TextBlock") or _MARKUP.search(value):
                notes.append(element)
                continue
            about.setdefault(name, _text(element))
            unit, when = units.get(element.get("unitRef") or "", ""), periods.get(element.get("contextRef") or "", "")
            said = f"{_text(element)}{f' {unit}' if unit else ''}{f' ({when})' if when else ''}"
            facts.setdefault(_spaced(name), []).append(said)
    title = " ".join(about.get(n, "") for n in ("DocumentType", "EntityRegistrantName", "DocumentPeriodEndDate"))
    out.add("heading", " ".join(title.split()), level=1)
    for note in notes:
        _told(note, out, 0)
    out.add("table", "\n".join(f"{name}: {'; '.join(dict.fromkeys(values))}" for name, values in facts.items()))


def _spaced(name: str) -> str:
    return _CAMEL.sub(" ", name)


def _drawing(root: Element, out: TextBuilder) -> None:
    for element in root.iter():
        if _local(element) in ("title", "desc", "text"):
            out.add("paragraph", _text(element))
        elif _local(element) == "foreignObject":
            html.fill(out, tostring(element, "unicode"))


def _any(root: Element, out: TextBuilder) -> None:
    names = Counter(_local(e) for e in root.iter())
    prose = sum(names[n] for n in ("p", "para", "simpara", "paragraph", "claim-text"))
    if prose and (prose * 20 > names.total() or names["p"] > 2):
        _document(root, out)
    else:
        _data(root, out)


def _document(root: Element, out: TextBuilder) -> None:
    """What reads like a document: depth first with an explicit stack."""
    stack: list[tuple[Element | str, int]] = [(root, 0)]
    while stack:
        node, level = stack.pop()
        if isinstance(node, str):
            out.add("paragraph", " ".join(node.split()))
            continue
        name = _local(node)
        if name in _UNREAD:
            continue
        if name in _TITLES:
            out.add("heading", _text(node), level=max(1, min(level, 6)))
        elif name in _CODE:
            out.add("code", "".join(node.itertext()))
        elif name in ("table", "informaltable", "tgroup"):
            _rows(node, out)
        elif name in _ITEMS and not any(_local(e) in _ITEMS for e in node.iter() if e is not node):
            out.add("list", f"- {_text(node)}", near=True)
        elif name in _PARAGRAPHS and not any(_local(e) in ("table", "list", "ul", "ol", *_ITEMS) for e in node.iter()):
            out.add("paragraph", _text(node))
        else:
            deeper = level + (name in _SECTIONS or node is root)
            pieces: list[tuple[Element | str, int]] = [(node.text, deeper)] if node.text and node.text.strip() else []
            for child in node:
                pieces.append((child, deeper))
                if child.tail and child.tail.strip():
                    pieces.append((child.tail, deeper))
            stack.extend(reversed(pieces))


def _rows(table: Element, out: TextBuilder) -> None:
    """XHTML's tables by their spans, those of CALS row by row."""
    caption = next((c for c in table if _local(c) in ("title", "caption")), None)
    out.add("paragraph", _text(caption))
    if any(_local(e) == "tr" for e in table.iter()):
        for element in table.iter():
            element.tag = _local(element)
        if caption is not None:
            table.remove(caption)
        html.fill(out, f"<table>{''.join(tostring(child, 'unicode') for child in table)}</table>")
    else:
        out.table(
            [_text(cell) for cell in row if _local(cell) == "entry"] for row in table.iter() if _local(row) == "row"
        )


def _data(root: Element, out: TextBuilder) -> None:
    """What reads like data: a line for each of those that repeat, a line for each other value."""
    near = False

    def add(lines: list[str]) -> None:
        nonlocal near
        text = "\n".join(filter(None, lines))
        out.add("table", text, near=near)
        near = near or bool(text)

    lines: list[str] = []
    stack: list[tuple[Element, str]] = [(root, "")]
    while stack:
        node, path = stack.pop()
        lines += [f"{_joined(path, key)}: {value}" for key, value in _attributes(node)]
        if (node.text or "").strip():
            lines.append(f"{path or _local(node)}: {' '.join((node.text or '').split())}")
        counts = Counter(_local(child) for child in node)
        later: list[tuple[Element, str]] = []
        for child in node:
            name = _local(child)
            if counts[name] > 1:
                record = list(_leaves(child))
                if sum(map(len, record)) <= _LONG:
                    if not later:
                        lines.append(" | ".join(record))
                        if child.tail and child.tail.strip():
                            lines.append(" ".join(child.tail.split()))
                        continue
                    later.append((_one(child, record), ""))
                    continue
            later.append((child, _joined(path, name)))
        stack.extend(reversed(later))
        if len(lines) > 1000:
            add(lines)
            lines = []
    add(lines)


def _one(element: Element, record: list[str]) -> Element:
    """A record that waits for its turn, as an element without anything but its line."""
    held = element.makeelement("record", {})
    held.text = " | ".join(record)
    return held


def _leaves(element: Element) -> Iterator[str]:
    """``path: value`` for every value in an element, the element's own name left out."""
    stack: list[tuple[Element, str]] = [(element, "")]
    while stack:
        node, path = stack.pop()
        if node.attrib:
            for key, value in _attributes(node):
                yield f"{_joined(path, key)}: {value}"
        own = node.text or ""
        children = list(node)
        if children:
            own = " ".join(filter(None, [own, *(child.tail for child in children)]))
        if own and not own.isspace():
            yield f"{path or _local(node)}: {' '.join(own.split())}"
        if not children:
            continue
        names = [_local(child) for child in children]
        if len(set(names)) < len(names):
            counts, seen = Counter(names), Counter[str]()
            for at, name in enumerate(names):
                seen[name] += 1
                names[at] = f"{name}[{seen[name]}]" if counts[name] > 1 else name
        stack.extend(
            (child, _joined(path, name)) for child, name in zip(reversed(children), reversed(names), strict=True)
        )


def _attributes(element: Element) -> Iterator[tuple[str, str]]:
    for key, value in element.attrib.items():
        name = key.rpartition("}")[2]
        if value.strip() and not name.startswith("schemaLocation") and name != "noNamespaceSchemaLocation":
            yield name, " ".join(value.split())


def _joined(path: str, name: str) -> str:
    return f"{path if len(path) < _LONGEST_PATH else '...'}.{name}" if path else name
