"""Documents and sources that the room's tests share."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drystone.settings import Settings, SourceConfig, defaults

RULES: tuple[Mapping[str, Any], ...] = (
    {"match": "hr/**", "readers": ["group:hr"], "classification": "confidential"},
    {"match": "**", "readers": ["group:staff"], "classification": "internal"},
)


def config(type: str = "files", path: str = "documents", **more: Any) -> SourceConfig:
    """A source's table; ``rules``, ``fill``, ``permissions`` and options by name."""
    return SourceConfig(
        name="docs",
        type=type,
        owner="group:owners",
        permissions=more.pop("permissions", "rules"),
        permissions_max_age_s=900.0,
        discoverable=False,
        watch=False,
        rules=tuple(more.pop("rules", RULES)),
        fill=more.pop("fill", {}),
        options={"path": path, **more},
    )


def settings(folder: Path, **more: Any) -> Settings:
    return defaults(folder, ingest__timeout_s=10.0, **more)


def docx(body: str, **parts: str) -> bytes:
    """A minimal Word document around the XML of its body."""
    w = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("word/document.xml", f"<w:document {w}><w:body>{body}</w:body></w:document>")
        for name, text in parts.items():
            packed.writestr(f"word/{name}.xml", text)
    return out.getvalue()


def paragraph(text: str, style: str = "") -> str:
    named = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{named}<w:r><w:t>{text}</w:t></w:r></w:p>"


def pdf(*pages: str, encrypt: str = "") -> bytes:
    """A PDF with one line of text a page, written by hand. ``encrypt``: an encryption dictionary."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]
    kids = []
    for text in pages:
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode() if text else b""
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R /Resources << /Font << /F1 "
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>" % len(objects)
        )
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b" ".join(kids), len(kids))
    if encrypt:
        objects.append(encrypt.encode())
    out = b"%PDF-1.4\n"
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    more = b" /Encrypt %d 0 R /ID [<00> <00>]" % len(objects) if encrypt else b""
    return out + b"trailer << /Size %d /Root 1 0 R%s >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, more, start)


ENCRYPTED = pdf(
    "Secret",
    encrypt="<< /Filter /Standard /V 2 /R 3 /Length 128 /P -44 /O <" + "11" * 32 + "> /U <" + "22" * 32 + "> >>",
)
