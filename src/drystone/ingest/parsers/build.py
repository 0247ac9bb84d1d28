"""Putting a text together from parts, with a block for each.

Guarantees: blocks ascend and do not overlap; ``text[block.start:block.end]`` is the part as it was given; parts are
parted by an empty line; what is only white space leaves no block. A table's first line holds its header and every
row repeats it (``Price: 3 EUR | Colour: red``), so that a cell can be cited alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from drystone.errors import ParseFailed
from drystone.records import Block, Parsed, Part
from drystone.records.document import BlockKind
from drystone.records.place import cells, place

_LINES = 4096  # of one block, so that a long table is never held twice


class TextBuilder:
    """``limit``: most characters; more is an expansion bomb and stops the parsing at once."""

    def __init__(self, limit: int = 1 << 28) -> None:
        self._parts: list[str] = []
        self._blocks: list[Block] = []
        self._at = 0
        self._limit = limit
        self._tables = 0

    @property
    def empty(self) -> bool:
        return not self._blocks

    def add(
        self, kind: BlockKind, text: str, *, level: int = 0, page: int | None = None, near: bool = False,
        place: str = "",
    ) -> None:  # fmt: skip
        """``near``: only a line's end parts it from what comes before (an item of a list)."""
        text = text.strip("\n") if kind == "code" else text.strip()
        if not text.strip():
            return
        if self._parts:
            gap = "\n" if near else "\n\n"
            self._parts.append(gap)
            self._at += len(gap)
        self._parts.append(text)
        self._blocks.append(Block(kind, self._at, self._at + len(text), level, page, place))
        self._at += len(text)
        if self._at > self._limit:
            raise ParseFailed("The document unfolds to more text than is allowed.", kind="expansion")

    def table(
        self, rows: Iterable[Sequence[str]], *, header: Sequence[str] | None = None, page: int | None = None,
        first_row: int = 1, first_column: int = 1, **frame: str | int | None,
    ) -> None:  # fmt: skip
        """A table, one line a row, with its cells as place; rows may stream.

        ``header``: the columns' names where they are no row of it (empty: there are none); without one the first row
        that holds anything is the header. ``first_row`` and ``first_column``: where the first of ``rows`` lies.
        ``frame``: what the place names beside the cells (``slide``, ``sheet``, ``part``); a table that is on no sheet
        is numbered. A row without anything in it is left out.
        """
        if "sheet" not in frame:
            self._tables += 1
            frame["table"] = self._tables
        names = None if header is None else [_cell(c) for c in header]
        lines: list[str] = []
        begun = at = first_row
        widest, near = 0, False

        def flush() -> None:
            nonlocal near, widest
            where = cells(begun, first_column, begun + len(lines) - 1, first_column + max(widest, 1) - 1)
            self.add("table", "\n".join(lines), page=page, near=near, place=place(cells=where, **frame))
            lines.clear()
            near, widest = True, 0

        if names and any(names):
            self.add("table", " | ".join(n for n in names if n), page=page, place=place(**frame))
            near = True
        for at, row in enumerate(rows, first_row):
            values = [_cell(cell) for cell in row]
            if names is None and any(values):
                names, line = values, " | ".join(c for c in values if c)
            else:
                line = _line(names or (), values)
            if not line:
                if lines:
                    flush()
                continue
            if not lines:
                begun = at
            lines.append(line)
            widest = max(widest, len(values))
            if len(lines) >= _LINES:
                flush()
        if lines:
            flush()

    def parsed(self, title: str = "", notes: Sequence[str] = (), parts: Sequence[Part] = ()) -> Parsed:
        if not title:
            title = next((self._part(b) for b in self._blocks if b.kind == "heading" and b.level <= 1), "")
        return Parsed(
            "".join(self._parts), tuple(self._blocks), " ".join(title.split())[:300], tuple(notes), tuple(parts)
        )

    def _part(self, block: Block) -> str:
        at = 0
        for part in self._parts:
            if at == block.start:
                return part
            at += len(part)
        return ""


def counted(notes: Mapping[str, int]) -> list[str]:
    """Notes of what was counted; what did not happen is none."""
    return [f"{what}: {count}" for what, count in notes.items() if count]


def unread(left: Mapping[str, int]) -> list[str]:
    """Notes of what a document holds and we do not read. 0: nobody counted it."""
    return [f"{what}: {f'{count} ' if count else ''}not read" for what, count in sorted(left.items())]


def _line(names: Sequence[str], values: Sequence[str]) -> str:
    named = zip((*names, *[""] * (len(values) - len(names))), values, strict=False)
    return " | ".join(f"{name}: {value}" if name else value for name, value in named if value)


def _cell(text: str) -> str:
    return " ".join(text.split())
