"""Putting a text together from parts, with a block for each.

Guarantees: blocks ascend and do not overlap; ``text[block.start:block.end]`` is the part as it was given; parts are
parted by an empty line; what is only white space leaves no block. A table's first line holds its header and every
row repeats it (``Price: 3 EUR | Colour: red``), so that a cell can be cited alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from drystone.errors import ParseFailed
from drystone.records import Block, Parsed
from drystone.records.document import BlockKind


class TextBuilder:
    """``limit``: most characters; more is an expansion bomb and stops the parsing at once."""

    def __init__(self, limit: int = 1 << 28) -> None:
        self._parts: list[str] = []
        self._blocks: list[Block] = []
        self._at = 0
        self._limit = limit

    def add(self, kind: BlockKind, text: str, *, level: int = 0, page: int | None = None, near: bool = False) -> None:
        """``near``: only a line's end parts it from what comes before (an item of a list)."""
        text = text.strip("\n") if kind == "code" else text.strip()
        if not text.strip():
            return
        if self._parts:
            gap = "\n" if near else "\n\n"
            self._parts.append(gap)
            self._at += len(gap)
        self._parts.append(text)
        self._blocks.append(Block(kind, self._at, self._at + len(text), level, page))
        self._at += len(text)
        if self._at > self._limit:
            raise ParseFailed("The document unfolds to more text than is allowed.", kind="expansion")

    def parsed(self, title: str = "", notes: Sequence[str] = ()) -> Parsed:
        if not title:
            title = next((self._part(b) for b in self._blocks if b.kind == "heading" and b.level <= 1), "")
        return Parsed("".join(self._parts), tuple(self._blocks), " ".join(title.split())[:300], tuple(notes))

    def _part(self, block: Block) -> str:
        at = 0
        for part in self._parts:
            if at == block.start:
                return part
            at += len(part)
        return ""


def table(rows: Iterable[Sequence[str]], header: Sequence[str] | None = None) -> str:
    """Rows of cells as text. Without a ``header`` the first row is one."""
    names: list[str] | None = None if header is None else [_cell(c) for c in header]
    lines: list[str] = [] if names is None else [" | ".join(n for n in names if n)]
    for row in rows:
        cells = [_cell(cell) for cell in row]
        if not any(cells):
            continue
        if names is None:
            names = cells
            lines.append(" | ".join(c for c in cells if c))
            continue
        named = zip(names + [""] * (len(cells) - len(names)), cells, strict=False)
        lines.append(" | ".join(f"{name}: {cell}" if name else cell for name, cell in named if cell))
    return "\n".join(line for line in lines if line)


def _cell(text: str) -> str:
    return " ".join(text.split())
