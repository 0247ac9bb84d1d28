"""Where a passage stands in its original, in the words of its format.

A *place* is a short text of ``key=value`` pairs joined by ``&``, as a URL's fragment is; it is empty where a format
has no such places. Keys, in this order: ``slide`` (from 1), ``sheet`` (its name), ``part`` (of a mail: ``body``),
``table`` (its number in the document, from 1), ``cells`` (``B2:D9``, rows and columns counted as a spreadsheet does),
``start_s`` and ``end_s`` (seconds of a recording). The page of a document lies beside it, as a number.

>>> place(sheet="Prices & more", cells=cells(2, 1, 9, 4))
'sheet=Prices %26 more&cells=A2:D9'
>>> parts('sheet=Prices %26 more&cells=A2:D9')
{'sheet': 'Prices & more', 'cells': 'A2:D9'}
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

KEYS = ("slide", "sheet", "part", "table", "cells", "start_s", "end_s")
FRAME = ("slide", "sheet", "part")  # no passage crosses from one to another
_NUMBERS: dict[str, Any] = {"slide": int, "table": int, "start_s": float, "end_s": float}
LONGEST = 400  # characters of one place
CELL = " | "  # between the cells of a table's row


def place(**named: str | int | float | None) -> str:
    """The text of a place; what is ``None`` or empty is left out. Raises ``KeyError`` for a key that there is not."""
    unknown = set(named) - set(KEYS)
    if unknown:
        raise KeyError(f"a place has no {', '.join(sorted(unknown))}")
    return "&".join(f"{key}={_written(named[key])}" for key in KEYS if named.get(key) not in (None, ""))


def parts(text: str) -> dict[str, Any]:
    """A place as a mapping; numbers as numbers. What is no place is an empty one."""
    found: dict[str, Any] = {}
    for pair in text.split("&") if text else ():
        key, _, value = pair.partition("=")
        try:
            found[key] = _NUMBERS.get(key, str)(value.replace("%26", "&").replace("%3D", "=").replace("%25", "%"))
        except ValueError:
            continue
    return found


def frame(text: str) -> str:
    """The part of a place that a passage may not leave."""
    if not text:
        return ""
    return "&".join(pair for pair in text.split("&") if pair.partition("=")[0] in FRAME)


def spoken(page: int | None, text: str) -> str:
    """A page and a place as a person would say them: ``page 3``, ``sheet Prices, B2:D9``, ``0:12 to 0:19``."""
    said = parts(text)
    out = [f"page {page}"] if page else []
    out += [f"{key} {said[key]}" for key in ("slide", "sheet", "part", "table") if key in said]
    out += [said["cells"]] if "cells" in said else []
    if "start_s" in said:
        out.append(" to ".join(_clock(said[key]) for key in ("start_s", "end_s") if key in said))
    return ", ".join(out)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def narrowed(text: str, passage: str, first: int, last: int) -> str:
    """The place of ``passage[first:last]``, where ``text`` is that of the passage: its rows alone of a table's.

    What stands beside the table has no cells. Where it is not sure which lines are the rows, the place stays as it is.
    """
    found = parts(text)
    if "cells" not in found:
        return text
    row, column, last_row, last_column = corners(found["cells"])
    lines = passage.split("\n")
    for rows in (_filled(lines, ""), _filled(lines, CELL)):
        if len(rows) == last_row - row + 1 and sum(b - a > 1 for a, b in pairwise(rows)) <= 1:
            break
    else:
        return text
    top, bottom = passage.count("\n", 0, first), passage.count("\n", 0, last)
    within = [number for number, line in enumerate(rows) if top <= line <= bottom]
    if within:
        return place(**{**found, "cells": cells(row + within[0], column, row + within[-1], last_column)})
    return place(**{key: value for key, value in found.items() if key not in ("table", "cells")})


def _filled(lines: list[str], mark: str) -> list[int]:
    """The numbers of the lines that are not blank and have ``mark``."""
    return [number for number, line in enumerate(lines) if line.strip() and mark in line]


def cells(row: int, column: int, last_row: int, last_column: int) -> str:
    """``B2:D9`` for rows and columns counted from 1; ``B2`` for one cell."""
    first, last = f"{_letters(column)}{row}", f"{_letters(last_column)}{last_row}"
    return first if first == last else f"{first}:{last}"


def corners(text: str) -> tuple[int, int, int, int]:
    """``B2:D9`` as row, column, last row, last column, from 1. Raises ``ValueError``."""
    first, _, last = text.partition(":")
    row, column = _corner(first)
    last_row, last_column = _corner(last) if last else (row, column)
    return row, column, last_row, last_column


def _corner(text: str) -> tuple[int, int]:
    letters = text.rstrip("0123456789")
    column = 0
    for letter in letters:
        if not "A" <= letter <= "Z":
            raise ValueError(f"{text!r} is no cell")
        column = column * 26 + ord(letter) - 64
    return int(text[len(letters) :]), column


def _letters(column: int) -> str:
    out = ""
    while column > 0:
        column, rest = divmod(column - 1, 26)
        out = chr(65 + rest) + out
    return out or "A"


def _written(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    text = " ".join(str(value).split())[:200]
    return text.replace("%", "%25").replace("&", "%26").replace("=", "%3D")
