"""LaTeX as readable text: what a reader of the printed page would see, formulas as they are written.

Guarantees: sections, paragraphs, lists, tables, code and references become blocks; commands go and what they hold
stays, unless it is about looks; a citation keeps its key in brackets; short commands that the document defines are put
in once, not over and over. Nothing is read from elsewhere: ``\\input`` and its like are counted in a note.
"""

from __future__ import annotations

import re
from collections import Counter
from unicodedata import normalize

from drystone.ingest.parsers.build import TextBuilder, counted
from drystone.ingest.parsers.text import decode
from drystone.records import Parsed

_LEVELS = {
    "part": 1,
    "chapter": 1,
    "section": 2,
    "subsection": 3,
    "subsubsection": 4,
    "paragraph": 5,
    "subparagraph": 6,
}
_MATH = {"equation", "align", "displaymath", "eqnarray", "gather", "multline", "math", "flalign", "alignat"}
_CODE = {"verbatim", "lstlisting", "Verbatim", "minted", "alltt"}
_TABLES = {"tabular", "tabularx", "tabulary", "longtable", "tabu", "supertabular"}
_LISTS = {"itemize", "enumerate", "description", "thebibliography"}
_HIDDEN = {"comment", "filecontents", "tikzpicture", "picture", "pspicture", "asy"}
_COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%.*\n?[ \t]*")
_MACRO = re.compile(
    r"\\(?:re)?(?:newcommand|providecommand)\*?\s*\{?\\([A-Za-z]+)\}?(\s*\[\d\])?(?:\s*\[[^\]]{0,100}\])?\s*\{|"
    r"\\(?:DeclareMathOperator\*?\s*\{\\([A-Za-z]+)\}|def\s*\\([A-Za-z]+)(#\d)?[^{\n]{0,20})\s*\{"
)
_TOKEN = re.compile(
    r"\\(begin|end)\s*\{([A-Za-z]+)\*?\}|\\(part|chapter|section|subsection|subsubsection|paragraph|subparagraph)\*?\s*"
    r"(?:\[[^\]\n]{0,300}\]\s*)?(?=\{)|\\(caption|title|author|date|abstract)\s*(?:\[[^\]\n]{0,300}\]\s*)?(?=\{)|"
    r"\\(item|bibitem)\b\s*(?:\[([^\]\n]{0,300})\])?|(\\\[|\$\$)|(\n[ \t]*\n\s*|\\par\b)"
)
_BRACE = re.compile(r"\\.|[{}]", re.S)
_GROUP = 50_000  # characters of one command's content
_LONGEST_FORMULA = 10_000
_PIECE = re.compile(
    r"\\verb\*?([^\sA-Za-z*])(.{0,500}?)\1|(\$[^$]{0,2000}\$|\\\(.{0,2000}?\\\))|"
    r"\\(?:([`'^\"~=.])\s*(?:\{\\?([A-Za-z]?)\}|\\?([A-Za-z]))|([uvHcdbkr])(?:\s*\{\\?([A-Za-z]?)\}|\s+\\?([A-Za-z])\b))|"
    r"\\([A-Za-z@]+)\*?|\\(.)|(---?)|(``|'')|([{}~])|\[", re.S
)  # fmt: skip
_ACCENTS = {"`": "\u0300", "'": "\u0301", "^": "\u0302", "~": "\u0303", '"': "\u0308", "=": "\u0304", ".": "\u0307",
            "u": "\u0306", "v": "\u030c", "H": "\u030b", "c": "\u0327", "d": "\u0323", "b": "\u0331", "k": "\u0328",
            "r": "\u030a"}  # fmt: skip
_LETTERS = {
    "ss": "ß", "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ", "o": "ø", "O": "Ø", "l": "ł", "L": "Ł", "aa": "å", "AA": "Å",
    "i": "i", "j": "j", "S": "§", "P": "¶", "copyright": "©", "pounds": "£", "euro": "€", "ldots": "…", "dots": "…",
    "textbackslash": "\\", "textasciitilde": "~", "textendash": "–", "textemdash": "—", "LaTeX": "LaTeX", "TeX": "TeX",
    "quad": " ", "qquad": " ", "newline": "\n", "linebreak": "\n", "tableofcontents": "", "textquotesingle": "'",
    "textregistered": "®", "texttrademark": "™", "degree": "°", "textdegree": "°", "textbar": "|", "space": " ",
}  # fmt: skip
_DROPPED = {  # with what they are given
    "begin", "end",
    "label", "includegraphics", "usepackage", "documentclass", "documentstyle", "bibliographystyle", "bibliography",
    "vspace", "hspace", "setlength", "addtolength", "setcounter", "addtocounter", "pagestyle", "thispagestyle",
    "pagenumbering", "input", "include", "RequirePackage", "definecolor", "color", "hypersetup", "newtheorem",
    "theoremstyle", "graphicspath", "index", "phantom", "vphantom", "hphantom", "fontsize", "selectfont", "rule",
    "cmidrule", "cline", "epsfig", "psfig", "address", "linespread", "newcounter", "newlength", "geometry",
    "captionsetup", "rowcolor", "cellcolor", "arraystretch", "lstset", "renewcommand", "newcommand",
    "providecommand", "newenvironment", "renewenvironment", "markboth", "markright", "special",
}  # fmt: skip
_GIVEN = re.compile(r"\s{0,20}(?:\{[^{}]*\}|\[[^\[\]]{0,300}\])")
_ADDRESS = re.compile(r"\s{0,20}\{([^{}]*)\}")


class TexParser:
    """LaTeX."""

    name = "tex"
    version = "1"
    media_types = ("text/x-tex",)

    def parse(self, data: bytes, *, name: str, media_type: str) -> Parsed:
        text, notes = decode(data)
        return _Tex(text).read(notes)


class _Tex:
    def __init__(self, text: str) -> None:
        self._notes: Counter[str] = Counter()
        self._text = self._expanded(_COMMENT.sub(r"\1", text) if "%" in text else text)
        self._notes["files to include left out"] = len(re.findall(r"\\(?:input|include)\b(?!graphics)", self._text))
        self._pairs = _braces(self._text)
        self._unclosed: set[str] = set()
        self._out = TextBuilder()
        self._run: list[str] = []
        self._lists: list[list[int]] = []  # of each open list: the next number; 0 for bullets
        self._mark = ""
        self._near = False
        self._title = ""

    def _expanded(self, text: str) -> str:
        """Commands without arguments that the document defines, put in once; their definitions go."""
        known: dict[str, str] = {}
        kept, at, pairs = [], 0, _braces(text)
        for found in _MACRO.finditer(text):
            if found.start() < at:
                continue
            content, end = _group(text, found.end() - 1, pairs)
            name = found.group(1) or found.group(3) or found.group(4)
            if not found.group(2) and not found.group(5) and len(content) <= 200:
                known.setdefault(name, content)
            kept.append(text[at : found.start()])
            at = end
        text = "".join(kept) + text[at:]
        if not known:
            return text
        return re.sub(r"\\([A-Za-z]+)(?![A-Za-z])", lambda m: known.get(m.group(1), m.group()), text)

    def read(self, notes: tuple[str, ...]) -> Parsed:
        text, at = self._text, 0
        body = re.search(r"\\begin\s*\{document\}", text)
        if body:
            for name in ("title", "author"):
                said = re.search(rf"\\{name}\s*(?:\[[^\]\n]{0, 300}\]\s*)?(?=\{{)", text[: body.start()])
                if said:
                    self._about(name, _group(text, said.end(), self._pairs)[0])
            at = body.end()
        end = text.find("\\end{document}", at)
        end = len(text) if end < 0 else end
        while found := _TOKEN.search(text, at, end):
            self._run.append(text[at : found.start()])
            at = self._token(found, text, end)
        self._run.append(text[at:end])
        self._flush()
        return self._out.parsed(self._title, (*notes, *counted(self._notes)))

    def _token(self, found: re.Match[str], text: str, end: int) -> int:
        """Do what a token says; where to go on."""
        border, environment, section, about, item, label, display, _ = found.groups()
        at = found.end()
        if border:
            return self._border(border == "begin", environment, text, at, end)
        if section:
            content, at = _group(text, at, self._pairs)
            self._flush()
            self._out.add("heading", _plain(content), level=_LEVELS[section])
        elif about:
            content, at = _group(text, at, self._pairs)
            self._about(about, content)
        elif item:
            self._flush()
            if item == "bibitem":
                key, at = _group(text, at, self._pairs) if text[at : at + 1] == "{" else ("", at)
                self._mark = f"[{key}] "
            elif label:
                self._mark = f"- {_plain(label)}: "
            elif self._lists and self._lists[-1][0]:
                self._mark = f"{self._lists[-1][0]}. "
                self._lists[-1][0] += 1
            else:
                self._mark = "- "
        elif display:
            closing = "$$" if display == "$$" else "\\]"
            stop = text.find(closing, at, min(end, at + _LONGEST_FORMULA))
            if stop < 0 or "\n\n" in text[at:stop]:  # two formulas side by side have such a mark between them
                self._run.append(display if stop >= 0 else "")
                return at
            self._formula(text[at:stop])
            return stop + 2
        else:
            self._flush()
        return at

    def _border(self, begins: bool, name: str, text: str, at: int, end: int) -> int:
        self._flush()
        if name in _LISTS:
            if begins:
                self._lists.append([1 if name == "enumerate" else 0])
                if name == "thebibliography":
                    self._out.add("heading", "References", level=2)
                    at = _group(text, at, self._pairs)[1]
            elif self._lists:
                self._lists.pop()
                self._near = bool(self._lists)
            return at
        if not begins:
            return at
        if name in _MATH | _CODE | _TABLES | _HIDDEN:
            closing = None
            if name not in self._unclosed:
                closing = re.compile(rf"\\end\s*\{{{name}\*?\}}").search(text, at, end)
            if closing is None:
                self._unclosed.add(name)
                return at
            content, at = text[at : closing.start()], closing.end()
            if name in _MATH:
                self._formula(re.sub(r"\\label\{[^{}]*\}|\\nonumber\b", "", content))
            elif name in _CODE:
                self._out.add("code", re.sub(r"\A(?:\[[^\]\n]{0,300}\]|\{[^{}\n]*\})*[ \t]*\n", "", content))
            elif name in _TABLES:
                self._table(content)
        elif name == "abstract":
            self._out.add("heading", "Abstract", level=2)
        else:
            while (more := re.compile(r"\s*(?=[\[{])").match(text, at)) and name in (
                "table",
                "figure",
                "minipage",
                "multicols",
            ):
                at = (
                    text.find("]", at) + 1 or at
                    if text[more.end()] == "["
                    else _group(text, more.end(), self._pairs)[1]
                )
                if at <= more.end():
                    break
        return at

    def _about(self, name: str, content: str) -> None:
        text = _plain(content)
        if name == "title":
            self._title = " ".join(text.split())
            self._out.add("heading", self._title, level=1)
        elif name == "abstract":
            self._out.add("heading", "Abstract", level=2)
            self._out.add("paragraph", text)
        elif name == "caption":
            self._flush()
            self._out.add("paragraph", text)
        elif text:
            self._out.add("paragraph", text)

    def _formula(self, text: str) -> None:
        self._flush()
        self._out.add("paragraph", " ".join(text.split()))

    def _table(self, text: str) -> None:
        """Rows end at ``\\\\``, cells at ``&``; a cell over several columns stands in the first."""
        while (more := re.match(r"\s*\[[^\]\n]{0,300}\]", text)) is not None:
            text = text[more.end() :]
        start = re.match(r"\s*(?=\{)", text)
        while start:  # the width, the columns
            text = text[_group(text, start.end(), _braces(text))[1] :]
            start = re.match(r"\s*(?=\{)", text)
        text = re.sub(r"\\(?:hline|toprule|midrule|bottomrule|endhead|endfirsthead|endfoot|endlastfoot)\b", "", text)
        rows = []
        for row in re.split(r"\\\\(?:\s*\[[^\]\n]{0,300}\])?|\\tabularnewline\b", text):
            cells: list[str] = []
            for cell in re.split(r"(?<!\\)&", row):
                wide = re.search(r"\\multicolumn\s*\{(\d{1,3})\}", cell)
                cells += [_plain(cell), *[""] * (int(wide.group(1)) - 1 if wide else 0)]
            rows.append(cells)
        self._out.table(rows)

    def _flush(self) -> None:
        text = _plain("".join(self._run))
        self._run.clear()
        if any(c.isalnum() for c in text):
            item = bool(self._lists)
            self._out.add("list" if item else "paragraph", self._mark + text, near=self._near and item)
            self._near, self._mark = item, ""


def _braces(text: str) -> dict[int, int]:
    """Where each brace that is opened closes."""
    pairs: dict[int, int] = {}
    stack: list[int] = []
    for brace in _BRACE.finditer(text):
        if brace.group() == "{":
            stack.append(brace.start())
        elif brace.group() == "}" and stack:
            pairs[stack.pop()] = brace.start()
    return pairs


def _group(text: str, at: int, pairs: dict[int, int]) -> tuple[str, int]:
    """What stands in braces at ``at``, and where it ends; without braces one character."""
    if text[at : at + 1] != "{":
        return text[at : at + 1], at + 1
    end = pairs.get(at, -1)
    return (text[at + 1 : end], end + 1) if 0 < end < at + _GROUP else ("", at + 1)


def _plain(text: str) -> str:
    """Without commands; formulas stay."""
    out: list[str] = []
    at = 0
    closers: list[tuple[int, str]] = []  # at which depth of braces what is to be written
    depth = 0
    while found := _PIECE.search(text, at):
        out.append(text[at : found.start()])
        at = found.end()
        _, verb, math, *accents, command, sign, dash, quote, brace = found.groups()
        accent = accents[0] or accents[3]
        if verb is not None:
            out.append(verb)
        elif math:
            out.append(math)
        elif accent:
            letter = next(filter(None, (*accents[1:3], *accents[4:])), "")
            out.append(normalize("NFC", letter + _ACCENTS[accent]))
        elif command:
            at = _command(command, text, at, out, closers, depth)
        elif sign is not None:
            out.append("\n" if sign == "\\" else " " if sign in " ,;:!\n/" else sign)
        elif dash:
            out.append("—" if len(dash) == 3 else "–")
        elif quote:
            out.append("“" if quote == "``" else "”")
        elif brace == "{":
            depth += 1
        elif brace == "}":
            if closers and closers[-1][0] == depth:
                out.append(closers.pop()[1])
            depth = max(0, depth - 1)
        else:
            out.append(" " if brace else "[")
    out.append(text[at:])
    lines = (" ".join(line.split()) for line in "".join(out).split("\n"))
    return "\n".join(line for line in lines if line)


def _command(name: str, text: str, at: int, out: list[str], closers: list[tuple[int, str]], depth: int) -> int:
    """Write what a command shows; where to go on. What its last braces hold is read on."""
    if name in _LETTERS:
        out.append(_LETTERS[name])
        if text[at : at + 2] == "{}":
            at += 2
        return at + (text[at : at + 1] == " ")
    options = re.compile(r"\s*\[[^\[\]]{0,300}\]").match(text, at)
    bare = options.end() if options else at
    if name in _DROPPED:
        at = bare
        while more := _GIVEN.match(text, at):
            at = more.end()
            if name in ("label", "begin", "end", "vspace", "hspace", "color", "includegraphics"):
                break
        return at
    given = _ADDRESS.match(text, bare)
    if given and (
        name.lower().startswith("cite") or name in ("ref", "eqref", "pageref", "autoref", "cref", "Cref", "nocite")
    ):
        out.append("" if name == "nocite" else f"[{given.group(1)}]")
        return given.end()
    if given and name == "href":
        outside = given.group(1).startswith(("http://", "https://", "mailto:"))
        closers.append((depth + 1, f" ({given.group(1)})" if outside else ""))
        return given.end()
    if given and name in (
        "textcolor",
        "colorbox",
        "multicolumn",
        "multirow",
        "parbox",
        "raisebox",
        "scalebox",
        "resizebox",
    ):
        at = given.end()
        if name in ("multicolumn", "multirow", "resizebox") and (second := _ADDRESS.match(text, at)):
            return second.end()
        return at
    if name in ("footnote", "thanks", "footnotetext") and text[bare : bare + 1] == "{":
        out.append(" (")
        closers.append((depth + 1, ")"))
    elif not text[at : at + 1].strip():
        out.append(" ")
        return at + 1 if text[at : at + 1] == " " else at
    return bare
