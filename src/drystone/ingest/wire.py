"""What goes between the caller and a worker: frames of a small JSON header and raw bytes, no pickles.

Guarantees: whatever a worker sends is checked before it becomes a record (sizes before reading, spans inside the
text, kinds from a list), since a hostile document may have taken the worker over.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Mapping
from typing import Any

from drystone.records import Block, Parsed

HEAD = struct.Struct("<IQ")  # bytes of the header, bytes of the payload
MAX_HEADER = 1 << 20
KINDS = ("heading", "paragraph", "list", "table", "code")
FIELDS = 5  # of a block: kind, start, end, level, page (-1: none)


def frame(header: Mapping[str, Any], size: int) -> bytes:
    raw = json.dumps(header, separators=(",", ":")).encode()
    return HEAD.pack(len(raw), size) + raw


def pack(parsed: Parsed) -> tuple[dict[str, Any], bytes, bytes]:
    """Header, text and blocks of a parsed document."""
    numbers = array("q")
    for b in parsed.blocks:
        numbers.extend((KINDS.index(b.kind), b.start, b.end, b.level, -1 if b.page is None else b.page))
    text, blocks = parsed.text.encode("utf-8", "replace"), numbers.tobytes()
    notes = [note[:200] for note in parsed.notes[:20]]
    return {"ok": True, "title": parsed.title[:300], "notes": notes, "text": len(text)}, text, blocks


def unpack(header: Mapping[str, Any], payload: bytes) -> Parsed:
    """Raises ``ValueError`` on anything that no honest worker sends."""
    split = header["text"]
    if not isinstance(split, int) or not 0 <= split <= len(payload) or (len(payload) - split) % (8 * FIELDS):
        raise ValueError("sizes")
    text = payload[:split].decode()
    numbers = array("q")
    numbers.frombytes(payload[split:])
    blocks, before = [], 0
    it = iter(numbers.tolist())
    for kind, start, end, level, page in zip(it, it, it, it, it, strict=True):
        if not (0 <= kind < len(KINDS) and before <= start <= end <= len(text) and 0 <= level < 100):
            raise ValueError("blocks")
        blocks.append(Block(KINDS[kind], start, end, level, None if page < 0 else page))  # type: ignore[arg-type]
        before = end
    title, notes = header["title"], header["notes"]
    if not isinstance(title, str) or len(title) > 300 or not all(isinstance(n, str) for n in notes):
        raise ValueError("title or notes")
    return Parsed(text, tuple(blocks), title, tuple(notes))
