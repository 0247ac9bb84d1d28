"""PDFs, and images of text, that the tests make for themselves."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FONTS = b"/F1 3 0 R /F2 4 0 R"
PAD = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")


def at(x: float, y: float, text: str, size: float = 12, font: str = "F1", turn: tuple[int, ...] = (1, 0, 0, 1)) -> str:
    """Text at a place, from the lower left. ``turn``: the first four numbers of the text's matrix."""
    safe = text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
    return f"BT /{font} {size} Tf {' '.join(map(str, turn))} {x} {y} Tm ({safe}) Tj ET\n"


def lines(x: float, y: float, texts: Sequence[str], pitch: float = 14, **more: Any) -> str:
    return "".join(at(x, y - number * pitch, text, **more) for number, text in enumerate(texts))


@dataclass
class Page:
    """``content``: operators; ``image``: an RGB array that fills the page; ``notes``: dictionaries of annotations."""

    content: str = ""
    rotate: int = 0
    image: Any = None
    notes: Sequence[str] = ()
    size: tuple[int, int] = (612, 792)


@dataclass
class _Objects:
    bodies: list[bytes] = field(default_factory=list)
    streams: dict[int, bytes] = field(default_factory=dict)

    def add(self, body: str | bytes, stream: bytes | None = None) -> int:
        self.bodies.append(body.encode("latin-1") if isinstance(body, str) else body)
        if stream is not None:
            self.streams[len(self.bodies)] = stream
        return len(self.bodies)


def document(
    *pages: str | Page, title: str = "", marks: Sequence[tuple[str, int]] = (), attached: Mapping[str, bytes] | None = None,
    password: str | None = None,
) -> bytes:  # fmt: skip
    """``marks``: bookmarks with their page from 1. Fields of a form are the widgets among the pages' notes."""
    made = _Objects()
    made.add("")  # 1: the catalogue
    made.add("")  # 2: the pages
    made.add("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
    made.add("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold /Encoding /WinAnsiEncoding >>")
    kids: list[int] = []
    fields: list[int] = []
    for given in pages:
        page = Page(given) if isinstance(given, str) else given
        content, images = page.content, ""
        if page.image is not None:
            height, width = page.image.shape[:2]
            image = made.add(
                f"<< /Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace /DeviceRGB "
                "/BitsPerComponent 8 /Filter /FlateDecode",
                zlib.compress(page.image.tobytes(), 1),
            )
            images = f"/XObject << /I {image} 0 R >>"
            content = f"q {page.size[0]} 0 0 {page.size[1]} 0 0 cm /I Do Q\n{content}"
        stream = made.add("<<", content.encode("cp1252"))
        notes = [made.add(note) for note in page.notes]
        fields += [n for n, note in zip(notes, page.notes, strict=True) if "/Widget" in note]
        kids.append(made.add(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {page.size[0]} {page.size[1]}] /Rotate {page.rotate} "
            f"/Contents {stream} 0 R /Resources << /Font << {FONTS.decode()} >> {images} >> "
            f"/Annots [{' '.join(f'{n} 0 R' for n in notes)}] >>"
        ))  # fmt: skip
    catalogue = "<< /Type /Catalog /Pages 2 0 R"
    if fields:
        catalogue += f" /AcroForm << /Fields [{' '.join(f'{n} 0 R' for n in fields)}] /DA (/F1 10 Tf) >>"
    if marks:
        root = len(made.bodies) + 1
        catalogue += f" /Outlines {root} 0 R"
        made.add(f"<< /Type /Outlines /First {root + 1} 0 R /Last {root + len(marks)} 0 R /Count {len(marks)} >>")
        for number, (name, page_number) in enumerate(marks, 1):
            follows = f"/Next {root + number + 1} 0 R" if number < len(marks) else ""
            made.add(f"<< /Title ({name}) /Parent {root} 0 R {follows} /Dest [{kids[page_number - 1]} 0 R /Fit] >>")
    if attached:
        names = ""
        for name, data in sorted(attached.items()):
            file = made.add("<< /Type /EmbeddedFile", data)
            spec = made.add(f"<< /Type /Filespec /F ({name}) /UF ({name}) /EF << /F {file} 0 R >> >>")
            names += f"({name}) {spec} 0 R "
        catalogue += f" /Names << /EmbeddedFiles << /Names [{names}] >> >>"
    made.bodies[0] = f"{catalogue} >>".encode("latin-1")
    made.bodies[1] = f"<< /Type /Pages /Kids [{' '.join(f'{n} 0 R' for n in kids)}] /Count {len(kids)} >>".encode()
    trailer = ""
    if title:
        trailer += f" /Info {made.add(f'<< /Title ({title}) >>')} 0 R"
    key = b""
    if password is not None:
        key, entry = _lock(password)
        trailer += f" /Encrypt {made.add(entry)} 0 R /ID [<00> <00>]"
    return _written(made, trailer, key)


def _written(made: _Objects, trailer: str, key: bytes) -> bytes:
    out, offsets = b"%PDF-1.7\n", []
    for number, body in enumerate(made.bodies, 1):
        offsets.append(len(out))
        stream = made.streams.get(number)
        if stream is not None:
            if key:
                stream = rc4(hashlib.md5(key + number.to_bytes(3, "little") + b"\0\0").digest()[:10], stream)
            body += b" /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(offsets) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    head = f"trailer << /Size {len(offsets) + 1} /Root 1 0 R{trailer} >>\nstartxref\n{start}\n%%EOF\n"
    return out + head.encode("latin-1")


def _lock(password: str) -> tuple[bytes, str]:
    """The key of 40 bits, and the encryption dictionary, of the standard handler's second revision."""
    padded = (password.encode("latin-1") + PAD)[:32]
    owner = rc4(hashlib.md5(padded).digest()[:5], padded)
    key = hashlib.md5(padded + owner + (-4 & 0xFFFFFFFF).to_bytes(4, "little") + b"\0").digest()[:5]
    user = rc4(key, PAD)
    return key, f"<< /Filter /Standard /V 1 /R 2 /P -4 /O <{owner.hex()}> /U <{user.hex()}> >>"


def rc4(key: bytes, data: bytes) -> bytes:
    state, j = list(range(256)), 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    out, i, j = bytearray(), 0, 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)


def picture(*texts: str, size: float = 24, width: int = 612, height: int = 300, scale: float = 2.0) -> Any:
    """An image of lines of text, as an RGB array."""
    import pypdfium2

    page = Page(lines(40, height - 60, texts, pitch=size * 1.6, size=size), size=(width, height))
    opened = pypdfium2.PdfDocument(document(page))
    bitmap = opened[0].render(scale=scale, rev_byteorder=True)
    image = bitmap.to_numpy()[:, :, :3].copy()
    bitmap.close()
    opened.close()
    return image


def encoded(image: Any, kind: str, **more: Any) -> bytes:
    """An array as a file of a kind that Pillow writes."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(image).save(out, kind, **more)
    return out.getvalue()
