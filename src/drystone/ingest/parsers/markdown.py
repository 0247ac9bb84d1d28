"""Markdown as readable text: what a person would read, without the marks.

Guarantees: one pass over the lines, linear in time; headings (with their level), paragraphs, list items, tables and
code become blocks; emphasis marks go; a link keeps its address in brackets, wherever that is defined; a footnote
keeps its number; an image keeps its description; HTML between the lines is read as HTML; front matter is left out
except the title. Spans refer to this text. Not a full CommonMark renderer: nested quotes lose their depth.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from types import MappingProxyType

from drystone.ingest.parsers import html as page
from drystone.ingest.parsers.build import TextBuilder
from drystone.ingest.parsers.text import decode
from drystone.records import Parsed

_FRONT = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.S)
_TITLE = re.compile(r"""^title[ \t]*:[ \t]*(?:"([^"\n]*)"|'([^'\n]*)'|([^\n]*))""", re.M | re.I)
_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})")
_HEADING = re.compile(r"^ {0,3}(#{1,6})((?:[ \t].*)?)$")
_UNDER = re.compile(r"^ {0,3}(=+|-+)[ \t]*$")
_RULE = re.compile(r"^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$")
_ITEM = re.compile(r"^([ \t]*)([-*+]|\d{1,9}[.)])[ \t]+(?:\[[ xX]\][ \t]+)?(?=\S)")
_DELIMITER = re.compile(r"^[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")
_QUOTE = re.compile(r"^(?: {0,3}>[ ]?)+")
_CELL = re.compile(r"(?<!\\)\|")
_DEFINITION = re.compile(r"^ {0,3}\[([^\]\n^][^\]\n]*)\]:[ \t]+<?([^\s>]+)>?[ \t]*(?:[\"'(].*)?$")
_FOOTNOTE = re.compile(r"^ {0,3}\[\^([^\]\s]+)\]:[ \t]*(.*)$")
_HTML = re.compile(
    r"^ {0,3}</?(address|article|aside|blockquote|center|dd|details|div|dl|dt|figcaption|figure|footer|form|h[1-6]|"
    r"header|li|main|ol|p|pre|script|section|style|summary|table|tbody|td|tfoot|th|thead|tr|ul)(?=[\s/>])", re.I
)  # fmt: skip
_WHOLE = ("table", "pre", "script", "style", "dl")  # which an empty line does not end
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.S)

_MARKED = re.compile(r"[`*_\[<&\\~]")
_TICKS = re.compile(r"`+|\n")
_KEPT = re.compile(r"\0(\d+)\0")
_IMAGE = re.compile(r"!\[([^\[\]\n]*)\]\([^()\n]*(?:\([^()\n]*\)[^()\n]*)*\)")
_LINK = re.compile(r"\[([^\[\]\n]*)\]\([ ]*+<?([^()\s>]*(?:\([^()\s]*\)[^()\s>]*)*)>?(?:[ ]+[^)\[\n]*)?\)")
_REFERENCE = re.compile(r"\[([^\[\]\n]+)\](?:\[([^\[\]\n]*)\])?")
_NOTE = re.compile(r"\[\^([^\[\]\s]+)\]")
_BREAK = re.compile(r"<br[ \t]*/?>", re.I)
_AUTO = re.compile(r"<((?:https?://|mailto:)[^<>\s]+|[\w.+-]+@[\w.-]+)>")
_TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9-]*(?:[ \t][^<>]*)?/?>")
_STRONG = re.compile(r"(\*\*|~~|(?<!\w)__(?=\S)|(?<=\S)__(?!\w))")
_STAR = re.compile(r"(?<![\w*\\])\*(?=[^\s*])([^*\n]*[^\s*])\*(?!\w)|(?<=\w)\*(?=[^\s*\d])([^*\n]*[^\s*])\*(?!\*)")
_UNDERSCORE = re.compile(r"(?<![\w_\\])_(?=[^\s_])([^_\n]*[^\s_])_(?![\w_])")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")


def inline(text: str, targets: Mapping[str, str] = MappingProxyType({})) -> str:
    """One stretch of text without its marks. ``targets``: the addresses of links by name, in small letters."""
    if not _MARKED.search(text):
        return text
    kept: list[str] = []
    if "`" in text:
        text = _without_code(text.replace("\0", ""), kept)
    if "[" in text:
        text = _IMAGE.sub(r"\1", text)
        text = _LINK.sub(_link, text)
        text = _NOTE.sub(r"[\1]", text)

        def named(match: re.Match[str]) -> str:
            name = " ".join((match.group(2) or match.group(1)).lower().split())
            if name in targets:
                return _shown(match.group(1), targets[name])
            return match.group() if match.group(2) is None else match.group(1)

        text = _REFERENCE.sub(named, text)
    if "<" in text:
        text = _TAG.sub("", _BREAK.sub("\n", _AUTO.sub(r"\1", text)))
    text = _STRONG.sub("", text)
    text = _STAR.sub(lambda m: m.group(1) or m.group(2), text)
    text = _UNDERSCORE.sub(r"\1", text)
    if "\\" in text:
        text = _ESCAPE.sub(r"\1", text)
    if "&" in text:
        text = html.unescape(text)
    return _KEPT.sub(lambda m: kept[int(m.group(1))], text) if kept else text


def _without_code(text: str, kept: list[str]) -> str:
    """Spans of code (from a run of backticks to the next run as long, on one line) go to ``kept``; their numbers
    stand for them."""
    runs = list(_TICKS.finditer(text))
    closing: list[int | None] = [None] * len(runs)
    seen: dict[int, int] = {}
    for at in range(len(runs) - 1, -1, -1):
        if runs[at].group() == "\n":
            seen.clear()
        else:
            closing[at], seen[len(runs[at].group())] = seen.get(len(runs[at].group())), at
    out, end, at = [], 0, 0
    while at < len(runs):
        close = closing[at]
        if close is not None:
            code = text[runs[at].end() : runs[close].start()]
            out.append(f"{text[end : runs[at].start()]}\0{len(kept)}\0")
            kept.append(code.strip() or code)
            end, at = runs[close].end(), close
        at += 1
    return "".join(out) + text[end:]


def _heading(text: str) -> str:
    """A heading's line after its mark, without the marks that may close it."""
    text = text.strip(" \t")
    bare = text.rstrip("#")
    return bare.rstrip(" \t") if not bare or bare[-1] in " \t" else text


def _link(match: re.Match[str]) -> str:
    return _shown(match.group(1), match.group(2))


def _shown(text: str, target: str) -> str:
    outside = target.startswith(("http://", "https://", "mailto:", "tel:"))
    return f"{text} ({target})" if outside and target != text else text


def render(source: str, notes: tuple[str, ...] = ()) -> Parsed:
    """Markdown text (``\\n`` line ends) to readable text with blocks."""
    title = ""
    front = _FRONT.match(source)
    if front:
        source = source[front.end() :]
        named = _TITLE.search(front.group(1))
        title = next((g for g in named.groups() if g), "").strip() if named else ""
        notes = (*notes, "front matter: left out")
    out = TextBuilder()
    notes = (*notes, *fill(out, source))
    return out.parsed(title, notes)


def fill(out: TextBuilder, source: str) -> tuple[str, ...]:
    """Write Markdown without front matter into ``out``; notes."""
    notes: tuple[str, ...] = ()
    if "<!--" in source:
        source = _COMMENT.sub("", source)
    lines = source.split("\n")
    defined = (d for line in lines if "]:" in line and (d := _DEFINITION.match(line)))
    targets = {" ".join(d.group(1).lower().split()): d.group(2) for d in defined}
    paragraph: list[str] = []
    in_item = near = in_note = False

    def flush() -> None:
        nonlocal near, in_note
        in_note = False
        if paragraph:
            text = inline("\n".join(paragraph), targets)
            out.add("list" if in_item else "paragraph", text, near=near and in_item)
            near = in_item
            paragraph.clear()

    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if ">" in line[:4]:
            line = _QUOTE.sub("", line)
        bare = line.strip()
        if not bare:
            flush()
            if in_item and at < len(lines) and not (lines[at].startswith((" ", "\t")) or _ITEM.match(lines[at])):
                in_item = near = False
            continue
        first = bare[0]
        if first in "`~" and (fence := _FENCE.match(line)):
            flush()
            mark = fence.group(1)
            start = at
            while at < len(lines) and not (lines[at].strip().startswith(mark) and not lines[at].strip().strip(mark[0])):
                at += 1
            out.add("code", "\n".join(lines[start:at]))
            at += 1
            near = False
        elif first == "#" and (heading := _HEADING.match(line)):
            flush()
            out.add("heading", inline(_heading(heading.group(2)), targets), level=len(heading.group(1)))
            in_item = near = False
        elif first in "=-" and paragraph and not in_item and (under := _UNDER.match(line)):
            text = inline(" ".join(paragraph), targets)
            paragraph.clear()
            out.add("heading", text, level=1 if under.group(1)[0] == "=" else 2)
        elif first in "*-_" and _RULE.match(line):
            flush()
            in_item = near = False
        elif "|" in line and at < len(lines) and _DELIMITER.match(lines[at]) and ("|" in lines[at] or bare[0] == "|"):
            flush()
            header = _cells(line, targets)
            start = at = at + 1
            while at < len(lines) and "|" in lines[at]:
                at += 1
            rows = [_cells(row, targets) for row in lines[start:at]]
            out.table([header, *rows], header=None if any(header) else [])
            in_item = near = False
        elif first == "<" and (block := _HTML.match(line)):
            flush()
            start, end = at - 1, f"</{block.group(1).lower()}" if block.group(1).lower() in _WHOLE else ""
            while at < len(lines) and (lines[at].strip() if not end else end not in lines[at - 1].lower()):
                at += 1
            notes = (*notes, *page.fill(out, "\n".join(lines[start:at]))[1])
            in_item = near = False
        elif (first in "-*+" or first.isdigit()) and (item := _ITEM.match(line)):
            flush()
            in_item = True
            mark = item.group(2)
            paragraph.append(("- " if mark in "-*+" else mark + " ") + line[item.end() :].strip())
        elif line.startswith(("    ", "\t")) and not paragraph and not in_item:
            start = at - 1
            while at < len(lines) and (not lines[at].strip() or lines[at].startswith(("    ", "\t"))):
                at += 1
            out.add("code", "\n".join(code[4:] if code.startswith("    ") else code[1:] for code in lines[start:at]))
        elif first == "[" and (footnote := _FOOTNOTE.match(line)):
            flush()
            in_note = True
            paragraph.append(f"[{footnote.group(1)}] {footnote.group(2)}")
        elif first == "[" and (not paragraph or in_note) and _DEFINITION.match(line):
            continue
        else:
            paragraph.append(bare)
    flush()
    return notes


def _cells(line: str, targets: Mapping[str, str]) -> list[str]:
    bare = line.strip()
    bare = bare[1:] if bare.startswith("|") else bare
    bare = bare[:-1] if bare.endswith("|") and not bare.endswith("\\|") else bare
    return [inline(cell.replace("\\|", "|").strip(), targets) for cell in _CELL.split(bare)]


class MarkdownParser:
    """Markdown, with or without front matter."""

    name = "markdown"
    version = "3"
    media_types = ("text/markdown",)

    def parse(self, data: bytes, *, name: str, media_type: str) -> Parsed:
        text, notes = decode(data)
        return render(text, notes)
