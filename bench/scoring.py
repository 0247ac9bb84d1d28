"""How a reading of a document is scored. Pure functions of two texts; the same is done to both sides.

**Words.** Markdown's syntax goes from both texts: comments, line breaks, addresses of links and pictures (their words stay), escapes
and entities; then Unicode NFKC and lower case. A word is a run of letters and digits; each Chinese or Japanese character
is a word of its own. So ``**bold**`` and ``bold``, ``| a | b |`` and ``a: b`` have the same words, and order, layout and
case cost nothing.

**F1.** Words as bags (multisets): precision is the share of our words that are expected, recall the share of expected
words that are ours, F1 their harmonic mean. A word said twice that is expected once is one too many; beside it stands the
F1 of distinct words, for which repeating costs nothing (a table that names its columns in every row repeats).

**Cell recall.** The distinct cells of the Markdown tables that are expected, each as its words; found if these words stand
side by side, in order, in our text. Empty cells do not count. It asks whether a cell's text survived.

**Row recall.** The rows of these tables, as their distinct cells; found if one line of ours has all of them. It asks
whether what belongs together stayed together.

**Word recall** of a PDF against another reader of it: the recall and precision above.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_COMMENT = re.compile(r"<!--.*?-->|<br\s*/?>", re.S)
_LINK = re.compile(r"(!?\[(?:[^\[\]\\]|\\.|\[[^\[\]]*\])*\])\((?:[^()\s]|\([^()\s]*\))*(?:\s+\"[^\"]*\")?\)")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")
_RULE = re.compile(r"\s*\|?(?:\s*:?-+:?\s*\|)+(?:\s*:?-+:?\s*)?\s*")
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+"
)


@dataclass(frozen=True, slots=True)
class Score:
    """Shares, 0 to 1. ``distinct``: F1 of the distinct words."""

    f1: float
    precision: float
    recall: float
    distinct: float


def words(text: str) -> list[str]:
    """In order, as said above."""
    text = _LINK.sub(r"\1", _COMMENT.sub(" ", text))
    text = html.unescape(_ESCAPE.sub(r"\1", text))
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


def bag(text: str, expected: str) -> Score:
    """Two texts without a word agree; one without a word against one with words is 0."""
    ours, theirs = Counter(words(text)), Counter(words(expected))
    if not ours and not theirs:
        return Score(1.0, 1.0, 1.0, 1.0)
    common = (ours & theirs).total()
    if not common:
        return Score(0.0, 0.0, 0.0, 0.0)
    precision, recall = common / ours.total(), common / theirs.total()
    distinct = 2 * len(ours.keys() & theirs.keys()) / (len(ours) + len(theirs))
    return Score(2 * precision * recall / (precision + recall), precision, recall, distinct)


def difference(text: str, expected: str) -> tuple[Counter[str], Counter[str]]:
    """The words that are lost and those too many, with how often."""
    ours, theirs = Counter(words(text)), Counter(words(expected))
    return theirs - ours, ours - theirs


def tables(markdown: str) -> list[list[list[str]]]:
    """The pipe tables of a Markdown text: rows of cells. A table is rows, the second of which is dashes."""
    found: list[list[list[str]]] = []
    rows: list[str] = []
    for line in [*markdown.splitlines(), ""]:
        if line.lstrip().startswith("|"):
            rows.append(line.strip())
            continue
        if len(rows) >= 2 and _RULE.fullmatch(rows[1]):
            found.append([_cells(row) for row in (rows[0], *rows[2:])])
        rows = []
    return found


def cell_recall(text: str, expected: str) -> float | None:
    """Share of the distinct expected cells that are found; ``None`` where no table with text is expected."""
    cells = {key for table in tables(expected) for row in table for cell in row if (key := _key(cell))}
    ours = f" {' '.join(words(text))} "
    return sum(cell in ours for cell in cells) / len(cells) if cells else None


def row_recall(text: str, expected: str) -> float | None:
    """Share of the distinct expected rows that are found in one line; ``None`` where none with two cells is expected."""
    rows = {frozenset(key for cell in row if (key := _key(cell))) for table in tables(expected) for row in table}
    rows = {row for row in rows if len(row) > 1}
    if not rows:
        return None
    lines = [_key(line) for line in text.splitlines()]
    return sum(any(all(cell in line for cell in row) for line in lines) for row in rows) / len(rows)


def mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None


def _cells(row: str) -> list[str]:
    inner = row.removeprefix("|")
    inner = inner[:-1] if inner.endswith("|") and not inner.endswith("\\|") else inner
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", inner)]


def _key(cell: str) -> str:
    found = words(cell)
    return f" {' '.join(found)} " if found else ""
