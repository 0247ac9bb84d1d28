"""What goes between the caller and a worker: frames of a small JSON header and raw bytes, no pickles.

Guarantees: whatever a worker sends is checked before it becomes a record (sizes before reading, spans inside the
text, kinds from a list, no more than was allowed), since a hostile document may have taken the worker over.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Mapping
from typing import Any

from drystone.records import Block, Parsed, Part, Reading
from drystone.records.place import LONGEST

HEAD = struct.Struct("<IQ")  # bytes of the header, bytes of the payload
MAX_HEADER = 1 << 20
KINDS = ("heading", "paragraph", "list", "table", "code")
FIELDS = 5  # of a block: kind, start, end, level, page (-1: none)
NO_MEMORY = 12  # exit code of a worker that could not even take its documents in
MOST_BLOCKS = 1 << 21  # of one document: the caller holds them all
ALLOWED = Reading()
_TITLE, _NOTE, _NOTES = 300, 200, 20  # characters, characters, notes


def room(most: Reading) -> int:
    """Bytes of a document's text, blocks, places and names of parts together, at most."""
    return 4 * most.text + (4 << 20)


def frame(header: Mapping[str, Any], size: int) -> bytes:
    raw = json.dumps(header, separators=(",", ":")).encode()
    return HEAD.pack(len(raw), size) + raw


def pack(parsed: Parsed) -> tuple[dict[str, Any], list[bytes]]:
    """Header of a parsed document, and what follows it: text, blocks, their places (a line each), parts.

    What no UTF-8 can hold is written ``?``.
    """
    numbers = array("q")
    for b in parsed.blocks:
        numbers.extend((KINDS.index(b.kind), b.start, b.end, b.level, -1 if b.page is None else b.page))
    text, blocks = parsed.text.encode("utf-8", "replace"), numbers.tobytes()
    places = b""
    if any(b.place for b in parsed.blocks):
        places = "\n".join(b.place[:LONGEST].replace("\n", " ") for b in parsed.blocks).encode("utf-8", "replace")
    about = [
        [
            p.name[:1000],
            _clean(p.media_type, 200),
            _clean(p.title, _TITLE),
            p.kind,
            _clean(p.reason, _NOTE),
            len(p.data),
        ]
        for p in parsed.parts
    ]
    names = json.dumps(about, separators=(",", ":")).encode() if about else b""
    header = {
        "ok": True, "title": _clean(parsed.title, _TITLE),
        "notes": [_clean(note, _NOTE) for note in parsed.notes[:_NOTES]],
        "text": len(text), "blocks": len(blocks), "places": len(places), "parts": len(names),
    }  # fmt: skip
    return header, [text, blocks, places, names, *(p.data for p in parsed.parts)]


def _clean(text: str, longest: int) -> str:
    return text[:longest].encode("utf-8", "replace").decode()


def unpack(header: Mapping[str, Any], payload: bytes | bytearray, most: Reading = ALLOWED) -> Parsed:
    """Raises ``ValueError`` on anything that no honest worker sends."""
    sizes = [header[name] for name in ("text", "blocks", "places", "parts")]
    if not all(isinstance(size, int) and size >= 0 for size in sizes) or sum(sizes) > min(len(payload), room(most)):
        raise ValueError("sizes")
    view, at, pieces = memoryview(payload), 0, []
    for size in sizes:
        pieces.append(view[at : at + size])
        at += size
    if sizes[1] % (8 * FIELDS) or sizes[1] > 8 * FIELDS * MOST_BLOCKS:
        raise ValueError("sizes")
    text = str(pieces[0], "utf-8")
    if len(text) > most.text or len(payload) - at > most.unpacked:
        raise ValueError("sizes")
    numbers = array("q")
    numbers.frombytes(pieces[1])
    count = len(numbers) // FIELDS
    places = str(pieces[2], "utf-8").split("\n") if sizes[2] else [""] * count
    if len(places) != count or any(len(place) > LONGEST for place in places):
        raise ValueError("places")
    blocks, before = [], 0
    it = iter(numbers)
    for place, kind, start, end, level, page in zip(places, it, it, it, it, it, strict=True):
        if not (0 <= kind < len(KINDS) and before <= start <= end <= len(text)):
            raise ValueError("blocks")
        if not (0 <= level < 100 and -1 <= page < 1 << 31):
            raise ValueError("levels or pages")
        blocks.append(Block(KINDS[kind], start, end, level, None if page < 0 else page, place))  # type: ignore[arg-type]
        before = end
    title, notes = header["title"], header["notes"]
    if not isinstance(notes, list) or len(notes) > _NOTES:
        raise ValueError("notes")
    _texts((title, _TITLE), *((note, _NOTE) for note in notes))
    return Parsed(text, tuple(blocks), title, tuple(notes), tuple(_parts(pieces[3], view, at, most.parts)))


def _parts(names: memoryview, view: memoryview, at: int, most: int) -> list[Part]:
    """The parts, whose bytes follow one another to the payload's end. A name that leads out of its parent is none."""
    found: list[Part] = []
    seen: set[str] = set()
    for name, media_type, title, kind, reason, size in json.loads(bytes(names)) if len(names) else ():
        _texts((name, 1000), (media_type, 200), (title, _TITLE), (kind, 40), (reason, _NOTE))
        odd = not name.isprintable() or any(step in ("", ".", "..") for step in name.split("/"))
        if odd or name in seen or len(found) >= most or not isinstance(size, int) or not 0 <= size <= len(view) - at:
            raise ValueError("parts")
        seen.add(name)
        found.append(Part(name, bytes(view[at : at + size]), media_type, title, kind, reason))
        at += size
    if at != len(view):
        raise ValueError("parts")
    return found


def _texts(*given: tuple[Any, int]) -> None:
    """Raises ``ValueError`` for what is no text, longer than it may be, or cannot be written as UTF-8."""
    for text, longest in given:
        if not isinstance(text, str) or len(text) > longest:
            raise ValueError("texts")
        text.encode()
