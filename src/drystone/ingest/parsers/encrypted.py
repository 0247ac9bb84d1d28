"""Office documents under a password: opened with those that the source was given, then read like any other.

Guarantees: the passwords are tried in order; none given is ``encrypted``, none that fits ``wrong_password``; what was
opened says so in a note. A document that asks for no password of its own, but is encrypted all the same, is opened.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from zipfile import BadZipFile

from drystone.errors import ParseFailed
from drystone.ingest.media import DOCX, ENCRYPTED, PPTX, UNKNOWN, XLSB, XLSX, sniff
from drystone.records import Parsed, Reading

_STANDARD = "VelvetSweatshop"  # Excel's own, for workbooks that are only locked against changes


class EncryptedParser:
    """Office Open XML documents that a password protects."""

    name = "encrypted"
    version = "1"
    media_types = (ENCRYPTED,)

    def parse(self, data: bytes, *, name: str, media_type: str, reading: Reading = Reading()) -> Parsed:  # noqa: B008
        from drystone.ingest.parsers.docx import DocxParser
        from drystone.ingest.parsers.sheets import XlsParser, XlsxParser
        from drystone.ingest.parsers.slides import PptxParser

        inside = opened(data, reading.passwords)
        found = sniff(inside, UNKNOWN)
        readers: dict[str, type[Any]] = {DOCX: DocxParser, PPTX: PptxParser, XLSX: XlsxParser, XLSB: XlsParser}
        if found not in readers:
            raise ParseFailed("What is encrypted is no Office document that we read.", kind="unsupported")
        parsed: Parsed = readers[found]().parse(inside, name=name, media_type=found, reading=reading)
        return replace(parsed, notes=("encrypted: opened with a password", *parsed.notes))


def opened(data: bytes, passwords: Sequence[str]) -> bytes:
    """The document without its encryption. ``ParseFailed``: ``encrypted``, ``wrong_password``, ``malformed``."""
    import msoffcrypto
    from msoffcrypto.exceptions import DecryptionError, FileFormatError, InvalidKeyError, ParseError

    try:
        file = msoffcrypto.OfficeFile(io.BytesIO(data))
        if not file.is_encrypted():
            raise ParseFailed("It is damaged.", kind="malformed")
        for password in (_STANDARD, *passwords):
            out = io.BytesIO()
            try:
                file.load_key(password=password)
                file.decrypt(out)
            except (InvalidKeyError, DecryptionError, AssertionError):
                continue
            if out.getvalue():
                return out.getvalue()
    except (FileFormatError, ParseError, BadZipFile, OSError, struct.error, ValueError, KeyError, IndexError, TypeError,
            AttributeError, UnicodeError, OverflowError) as error:  # fmt: skip
        raise ParseFailed("It is encrypted, and damaged or in a way that we do not know.", kind="encrypted") from error
    if not passwords:
        raise ParseFailed("It is encrypted, and the source names no password.", kind="encrypted")
    raise ParseFailed("It is encrypted, and none of the source's passwords opens it.", kind="wrong_password")
