"""Plain text, and how bytes become characters.

Guarantees: a byte order mark decides; else valid UTF-8 is UTF-8; else what the zero bytes say (UTF-16), else a
guess, which a note names. Line ends become ``\\n`` before any span is counted, and a note says so. Bytes that are
no text at all are refused as ``unsupported``.
"""

from __future__ import annotations

import codecs

from drystone.errors import ParseFailed
from drystone.records import Parsed

_MARKS = (  # the longer ones first: a UTF-32 mark begins with a UTF-16 one
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_CONTROL = bytes(set(range(32)) - set(b"\t\n\x0b\x0c\r\x1b\x85"))
_SAMPLE = 1 << 16


def decode(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Characters with ``\\n`` for line ends, and notes. Raises ``ParseFailed`` (``encoding`` or ``unsupported``)."""
    text, notes = _decode(data)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        notes = (*notes, "line_ends:normalised")
    return text, notes


def _decode(data: bytes) -> tuple[str, tuple[str, ...]]:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                return data.decode(encoding), () if encoding == "utf-8-sig" else (f"encoding:{encoding}",)
            except UnicodeDecodeError:
                raise ParseFailed(f"The bytes are not the {encoding} that their mark says.", kind="encoding") from None
    zeros = data.count(0)
    if not zeros:
        try:
            return data.decode("utf-8"), ()
        except UnicodeDecodeError:
            return _guessed(data)
    return _utf16(data, zeros)


def _utf16(data: bytes, zeros: int) -> tuple[str, tuple[str, ...]]:
    """Without a mark: Latin text has its zeros in every other byte."""
    even, odd = data[::2].count(0), data[1::2].count(0)
    if zeros > len(data) / 5 and max(even, odd) > 20 * min(even, odd):
        encoding = "utf-16-be" if even > odd else "utf-16-le"
        try:
            return data.decode(encoding), (f"encoding:{encoding} guessed",)
        except UnicodeDecodeError:
            pass  # then it is binary, as the next line says
    raise ParseFailed("The bytes are not text.", kind="unsupported")


def _guessed(data: bytes) -> tuple[str, tuple[str, ...]]:
    sample = data[:_SAMPLE]
    if len(sample.translate(None, _CONTROL)) < len(sample) * 0.98:
        raise ParseFailed("The bytes are not text.", kind="unsupported")
    wrong = len(sample.decode("utf-8", "replace")) and sample.decode("utf-8", "replace").count("\ufffd")
    if wrong and wrong < len(sample) / 1000 and any(byte >= 0x80 for byte in data):
        strays = data.decode("utf-8", "replace")
        if strays.count("\ufffd") * 4 < sum(1 for c in strays[:_SAMPLE] if ord(c) > 127):
            return strays, ("encoding:utf-8 with broken characters",)
    import charset_normalizer

    best = charset_normalizer.from_bytes(sample).best()
    for encoding in (best.encoding if best else "cp1252", "cp1252"):
        try:
            return data.decode(encoding), (f"encoding:{encoding} guessed",)
        except (UnicodeDecodeError, LookupError):
            continue
    raise ParseFailed("We could not tell in which encoding the text is written.", kind="encoding")


class TextParser:
    """Plain text as it is. It names no blocks: what no block covers is paragraphs, parted by empty lines."""

    name = "text"
    version = "1"
    media_types = (
        "text/plain", "text/x-rst", "text/x-org", "text/asciidoc", "text/x-tex", "text/vtt", "application/x-subrip",
        "application/xml", "application/yaml", "text/calendar", "text/vcard", "image/svg+xml",
    )  # fmt: skip

    def parse(self, data: bytes, *, name: str, media_type: str) -> Parsed:
        text, notes = decode(data)
        return Parsed(text, (), "", notes)
