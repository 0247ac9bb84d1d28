"""Rich Text Format.

Guarantees: characters by the code page of their font, and as Unicode where the file says so; headings by style or
outline level, list items with their mark, tables with merged cells filled, notes, comments, text boxes, and what
pages repeat at their head and foot, once, at the end. Left out, each with a note: hidden and deleted text, pictures,
embedded files. Binary data is skipped by its length. Groups of any depth; nothing is fetched.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter

from drystone.errors import ParseFailed
from drystone.ingest.media import RTF
from drystone.ingest.parsers.build import TextBuilder
from drystone.ingest.parsers.ooxml import Edged, gridded, lay
from drystone.records import Parsed, Reading

_TOKEN = re.compile(
    r"\\([a-zA-Z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z])|([{}])|[\r\n\0]+|([^\\{}\r\n\0]+)|\\"
)
_LINK = re.compile(r'HYPERLINK\s+(?:\\\w\s+)*"((?:https?://|mailto:)[^"]{1,2000})"')
_SLACK = 60  # twips, a twenty-fourth of an inch: edges that people see as one line
_CHARSETS = {
    0: "cp1252", 77: "mac_roman", 128: "cp932", 129: "cp949", 130: "cp1361", 134: "gbk", 136: "cp950", 161: "cp1253",
    162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874",
    238: "cp1250",
}  # fmt: skip
_CHARACTERS = {
    "tab": "\t", "line": "\n", "emdash": "—", "endash": "–", "bullet": "•", "lquote": "‘", "rquote": "’",
    "ldblquote": "“", "rdblquote": "”", "emspace": " ", "enspace": " ", "qmspace": " ", "nestcell": " ",
    "mden": "/", "msup": "^", "msub": "_",  # of a formula
}  # fmt: skip
_SKIPPED = {
    "colortbl", "filetbl", "listtable", "listoverridetable", "revtbl", "rsidtbl", "objdata", "objclass", "objname",
    "themedata", "colorschememapping", "datastore", "latentstyles", "xmlnstbl", "generator", "nonshppict", "shprslt",
    "template", "author", "operator", "company", "comment", "keywords", "subject", "doccomm", "manager", "category",
    "nonesttables", "nesttableprops", "sp", "bkmkstart", "bkmkend", "fldtype", "datafield", "formfield", "atrfstart",
    "atrfend", "atnid", "atndate", "atnref", "atnparent", "atnicn", "atntime", "ftnsep", "ftnsepc", "aftnsep",
    "aftnsepc", "xe", "tc", "picprop", "blipuid", "blipuptag", "pgptbl", "wgrffmtfilter", "pnseclvl", "upr",
}  # fmt: skip
_HEADS = {"header", "headerl", "headerr", "headerf"}
_FEET = {"footer", "footerl", "footerr", "footerf"}
_KNOWN = {
    "moMath",
    "moMathPara",
    "shpinst",
    "shptxt",
    "annotation",
    "atnauthor",
    "fldinst",
    "shppict",
    "pn",
    "ud",
    "footnote",
}  # starred, but read


class RtfParser:
    """Rich text, of any version."""

    name = "rtf"
    version = "1"
    media_types = (RTF,)

    def parse(self, data: bytes, *, name: str, media_type: str, reading: Reading = Reading()) -> Parsed:
        if not data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{\\rtf"):
            raise ParseFailed("It is no rich text.", kind="malformed")
        return _Document(TextBuilder(reading.text)).read(data.decode("latin-1"))


class _Group:
    """What holds until a brace closes."""

    __slots__ = ("into", "skip", "codec", "uc", "hidden", "deleted", "name", "style", "outline", "item", "table")

    def __init__(self) -> None:
        self.into: list[str] = []  # where text goes
        self.name = ""  # the destination that began with this group
        self.skip = False
        self.codec, self.uc = "cp1252", 1
        self.hidden = self.deleted = False
        self.style, self.outline, self.item, self.table = -1, -1, False, False

    def inner(self) -> _Group:
        """What holds in a group that opens here."""
        new = _Group.__new__(_Group)
        new.into, new.skip, new.codec, new.uc, new.name = self.into, self.skip, self.codec, self.uc, ""
        new.hidden, new.deleted, new.style, new.outline = self.hidden, self.deleted, self.style, self.outline
        new.item, new.table = self.item, self.table
        return new


class _Document:
    def __init__(self, out: TextBuilder) -> None:
        self._out = out
        self._left = Counter[str]()
        self._fonts: dict[int, str] = {}
        self._font = 0
        self._styles: dict[int, str] = {}
        self._names: list[str] = []  # of fonts; nobody asks
        self._sheet: list[str] = []  # of the style that is being declared
        self._default = "cp1252"
        self._bytes = bytearray()
        self._title = ""
        self._mark = ""
        self._listed = False
        self._aside: list[tuple[str, str]] = []  # notes, heads and feet: what they are, and what they say
        self._notes = 0
        self._author = ""
        self._link = ""
        self._edges: list[tuple[int, str]] = []  # of the row's cells: right edge, and how it is merged
        self._merge = ""
        self._cells: list[str] = []
        self._rows: list[list[Edged]] = []

    def read(self, text: str) -> Parsed:
        group = _Group()
        self._top = group.into
        stack: list[_Group] = []
        starred, swallow, at, size = False, 0, 0, len(text)
        while at < size:
            token = _TOKEN.match(text, at)
            if token is None:
                at += 1
                continue
            at = token.end()
            word, number, hexed, sign, brace, plain = token.groups()
            if plain is not None or hexed is not None:
                raw = bytes((int(hexed, 16),)) if hexed is not None else plain.encode("latin-1")
                if swallow:
                    take = min(swallow, len(raw))
                    raw, swallow = raw[take:], swallow - take
                if raw and not group.skip:
                    self._bytes += raw
                continue
            if brace:
                self._flush(group)
                swallow = 0
                if brace == "{":
                    stack.append(group)
                    group = group.inner()
                elif stack:
                    self._leave(group, stack[-1])
                    group = stack.pop()
                starred = False
                continue
            if sign:
                if sign == "*":
                    starred = True
                elif swallow:
                    swallow -= 1
                else:
                    self._flush(group)
                    self._say(
                        group,
                        {"~": "\u00a0", "_": "-", "\n": "\n", "\r": "\n"}.get(sign, sign if sign in "\\{}" else ""),
                    )
                continue
            if not word:
                continue
            value = int(number) if number else None
            if word == "bin":
                at += max(0, value or 0)
                continue
            if word == "u":
                self._flush(group)
                if not group.skip:
                    self._say(group, chr((value or 0) & 0xFFFF))
                swallow = group.uc
                continue
            swallow = 0
            self._flush(group)
            self._word(group, word, value, starred)
            starred = False
        self._flush(group)
        self._paragraph(group)
        self._end_table()
        if stack:
            self._left["its end is missing"] = 0
        for kind, said in dict.fromkeys(self._aside):
            if kind == "note":
                self._out.add("paragraph", said)
            elif any(c.isalpha() for c in said):
                self._out.add("paragraph", said, place=f"part={kind}")
        notes = [
            f"{what}: {count} not read" if count else f"damaged: {what}" for what, count in sorted(self._left.items())
        ]
        return self._out.parsed(_whole(self._title), notes)

    # --- characters -------------------------------------------------------------------------------
    def _flush(self, group: _Group) -> None:
        """Bytes that have come together, as characters: a character may be several bytes."""
        if self._bytes:
            raw = bytes(self._bytes)
            self._bytes.clear()
            self._say(group, raw.decode(group.codec, "replace"))

    def _say(self, group: _Group, text: str) -> None:
        if group.skip or not text:
            return
        if group.hidden or group.deleted:
            if text.strip():
                self._left["hidden text" if group.hidden else "tracked changes"] += 1
            return
        group.into.append(text)

    # --- words ------------------------------------------------------------------------------------
    def _word(self, group: _Group, word: str, value: int | None, starred: bool) -> None:
        if self._destination(group, word, starred) or group.skip:
            return
        on = value != 0
        if word in _CHARACTERS:
            self._say(group, _CHARACTERS[word])
        elif word in ("par", "sect", "page"):
            if group.into is self._top:
                if group.table:
                    self._say(group, "\n")
                else:
                    self._paragraph(group)
            else:
                self._say(group, "\n")
        elif word in ("pard", "plain"):
            if word == "pard":
                group.style, group.outline, group.item, group.table = -1, -1, False, False
            else:
                group.hidden = False
                group.codec = self._fonts.get(self._font, self._default)
        elif word == "s" and value is not None:
            group.style = value
        elif word == "outlinelevel" and value is not None:
            group.outline = value
        elif word == "ls":
            group.item = on
        elif word == "intbl":
            if not group.table and group.into is self._top and not self._rows and not self._cells:
                self._paragraph(group)
            group.table = True
        elif word == "v":
            group.hidden = on
        elif word == "deleted":
            group.deleted = on
        elif word == "uc":
            group.uc = max(0, min(value if value is not None else 1, 10))
        elif word == "f" and value is not None:
            if group.into is self._names:
                self._font = value
            else:
                group.codec = self._fonts.get(value, self._default)
        elif word == "fcharset" and value is not None:
            if value in _CHARSETS:
                self._fonts[self._font] = _CHARSETS[value] if value else self._default
        elif word == "ansicpg" and value:
            self._default = group.codec = _codec(value)
        elif word in ("mac", "pc", "pca"):
            self._default = group.codec = {"mac": "mac_roman", "pc": "cp437", "pca": "cp850"}[word]
        elif word == "deff" and value is not None:
            self._font = value
        elif word == "chftn":
            if group.into is self._top:
                self._say(group, f"[{self._notes + 1}]")
        else:
            self._row(group, word, value)

    def _row(self, group: _Group, word: str, value: int | None) -> None:
        """Rows and cells. A cell's right edge says in which columns of the table it stands."""
        if word == "trowd":
            self._edges, self._merge = [], ""
        elif word in ("clmrg", "clvmrg"):
            self._merge = "left" if word == "clmrg" else "above"
        elif word == "cellx":
            self._edges.append((value or 0, self._merge))
            self._merge = ""
        elif word == "cell":
            self._cells.append(" ".join(_whole("".join(group.into)).split()))
            group.into.clear()
        elif word == "row" and self._cells:
            edges = [*self._edges, *[((n + 1) * 1_000_000, "") for n in range(len(self._cells) - len(self._edges))]]
            self._rows.append([Edged(e, t, m) for (e, m), t in zip(edges, self._cells, strict=False)])
            self._cells = []
        elif word == "row":
            self._cells = []

    def _destination(self, group: _Group, word: str, starred: bool) -> bool:
        """Whether ``word`` begins a destination; then the group's text goes elsewhere, or nowhere."""
        if word == "fonttbl":
            group.name, group.into = word, self._names
        elif word == "stylesheet":
            group.name, group.into = word, self._sheet
        elif group.skip:
            return False
        elif word in ("footnote", *_HEADS, *_FEET, "annotation", "shptxt", "title", "atnauthor", "fldinst", "listtext",
                      "pntext"):  # fmt: skip
            group.name, group.into = word, []
            group.hidden = False
            if word == "title":
                group.codec = self._default
        elif word == "fldrslt":
            group.name = word
        elif word == "info":
            group.name, group.into = word, []
        elif word in ("pict", "object"):
            if word == "pict":
                self._left["pictures"] += 1
                group.skip = True
            else:
                self._left["embedded files"] += 1
        elif word in _SKIPPED or word[0] == "m" and word.endswith("Pr") or starred and word not in _KNOWN:
            group.skip = True
        else:
            return False
        return True

    def _leave(self, group: _Group, outer: _Group) -> None:
        """A brace closes: what a destination holds is put where it belongs."""
        if group.into is self._sheet and outer.into is self._sheet:
            named = "".join(self._sheet).strip(" ;").lower()
            self._sheet.clear()
            if named:
                self._styles[max(group.style, 0)] = named
            return
        if not group.name or group.name in ("fonttbl", "stylesheet"):
            return
        said = " ".join(_whole("".join(group.into)).split()) if group.into is not outer.into else ""
        if group.name == "footnote":
            self._notes += 1
            self._aside.append(("note", f"[{self._notes}] {said.removeprefix(f'[{self._notes}]').strip()}"))
        elif group.name in _HEADS:
            self._aside.append(("headers", said))
        elif group.name in _FEET:
            self._aside.append(("footers", said))
        elif group.name == "annotation":
            self._aside.append(("comments", f"Comment{f' by {self._author}' if self._author else ''}: {said}"))
        elif group.name == "atnauthor":
            self._author = said
        elif group.name == "shptxt":
            self._aside.append(("note", said))
        elif group.name == "title":
            self._title = "".join(group.into)
        elif group.name == "fldinst":
            found = _LINK.search(said)
            self._link = found.group(1) if found else ""
        elif group.name == "fldrslt":
            shown = "".join(outer.into[-40:])
            if self._link and not shown.rstrip().endswith(self._link.removeprefix("mailto:")):
                self._say(outer, f" ({self._link})")
            self._link = ""
        elif group.name in ("listtext", "pntext"):
            self._mark = said or "-"

    # --- paragraphs and tables --------------------------------------------------------------------
    def _paragraph(self, group: _Group) -> None:
        text = "\n".join(" ".join(line.split()) for line in _whole("".join(self._top)).split("\n")).strip()
        self._top.clear()
        mark, self._mark = self._mark, ""
        if not text:
            return
        self._end_table()
        style = self._styles.get(group.style, "")
        level = group.outline + 1 if 0 <= group.outline < 9 else 0
        if style.startswith("heading ") and style[8:9].isdigit():
            level = int(style[8:9])
        elif style == "title":
            level = 1
        if level:
            shown = f"{mark} " if any(c.isalnum() for c in mark) else ""
            self._out.add("heading", shown + " ".join(text.split()), level=level)
        elif mark or group.item:
            shown = mark if any(c.isalnum() for c in mark) else "-"
            self._out.add("list", f"{shown} {text}", near=self._listed)
            self._listed = True
            return
        else:
            self._out.add("paragraph", text)
        self._listed = False

    def _end_table(self) -> None:
        rows, self._rows = self._rows, []
        if not rows:
            return
        lay(self._out, gridded(rows, _SLACK))
        self._listed = False


def _whole(text: str) -> str:
    """Two halves of a character beyond the first plane as one; a half alone is replaced."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _codec(number: int) -> str:
    name = {65001: "utf-8", 10000: "mac_roman", 1361: "johab"}.get(number, f"cp{number}")
    try:
        return codecs.lookup(name).name
    except LookupError:
        return "cp1252"
