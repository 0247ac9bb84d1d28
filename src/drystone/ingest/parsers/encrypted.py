"""Office Open XML documents under a password: opened (``locked.py``), then read like any other, with a note."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from drystone.errors import ParseFailed
from drystone.ingest.media import DOCX, ENCRYPTED, PPTX, UNKNOWN, XLSB, XLSX, sniff
from drystone.ingest.parsers.docx import DocxParser
from drystone.ingest.parsers.locked import opened
from drystone.ingest.parsers.sheets import LargeXlsxParser, XlsParser, XlsxParser
from drystone.ingest.parsers.slides import PptxParser
from drystone.records import Parsed, Reading


class EncryptedParser:
    """Office Open XML documents that a password protects."""

    name = "encrypted"
    version = "1"
    media_types = (ENCRYPTED,)
    slow = "drystone.ingest.parsers.encrypted:LargeEncryptedParser"
    workbook: type[XlsxParser] = XlsxParser

    def parse(self, data: bytes, *, name: str, media_type: str, reading: Reading = Reading()) -> Parsed:
        inside = opened(data, reading.passwords)
        found = sniff(inside, UNKNOWN)
        readers: dict[str, type[Any]] = {DOCX: DocxParser, PPTX: PptxParser, XLSX: self.workbook, XLSB: XlsParser}
        if found not in readers:
            raise ParseFailed("What is encrypted is no Office document that we read.", kind="unsupported")
        parsed: Parsed = readers[found]().parse(inside, name=name, media_type=found, reading=reading)
        return replace(parsed, notes=("encrypted: opened with a password", *parsed.notes))


class LargeEncryptedParser(EncryptedParser):
    """The same, where there is time and memory."""

    slow = ""
    workbook = LargeXlsxParser
