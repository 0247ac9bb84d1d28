"""Plain text, and how bytes become characters.

Guarantees: a byte order mark decides; else valid UTF-8 is UTF-8; else what the zero bytes say (UTF-16, UTF-32), else
a guess among the legacy code pages, which a note names. Line ends become ``\\n`` before any span is counted, and a
note says so. Bytes that are no text at all are refused as ``unsupported``.

The guess is that of chardetng (the detector of Firefox), and ours for the code pages of DOS, which it does not know.
"""

from __future__ import annotations

import codecs
import re
from contextlib import suppress
from unicodedata import category

from drystone.errors import ParseFailed
from drystone.records import Parsed

_MARKS = (  # the longer ones first: a UTF-32 mark begins with a UTF-16 one
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_CONTROL = bytes(set(range(32)) - set(b"\t\n\x0b\x0c\r\x1b\x85"))
_SAMPLE = 1 << 16
_NO_TEXT = ("Cc", "Cn", "Co", "Cs")
_WIDER = {  # the detector's name: what Python calls the encoding that its documents are really in
    "gbk": "gb18030", "big5": "big5hkscs", "euc-kr": "cp949", "shift_jis": "cp932", "windows-874": "cp874",
    "iso-8859-8-i": "iso-8859-8", "gb2312": "gb18030", "ks_c_5601-1987": "cp949",
}  # fmt: skip
_ESCAPED = ("utf-16", "utf-32", "iso2022", "utf-7", "hz")  # whose bytes may look like UTF-8 and are not
_INSIDE = re.compile(r"(?<=[a-z])[^\x00-\x7f]+(?=[a-z])")
_PYTHON = {"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape"}  # codecs that no page means
_LONE = re.compile("[\ud800-\udfff]")


def decode(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Characters with ``\\n`` for line ends, and notes. Raises ``ParseFailed`` (``encoding`` or ``unsupported``)."""
    text, notes = _decode(data)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        notes = (*notes, "line ends: normalised")
    return text, notes


def decode_as(data: bytes, encoding: str, said: str) -> tuple[str, tuple[str, ...]]:
    """As ``decode``, for bytes that name their encoding; valid UTF-8 and a mark know better. ``said``: who names it."""
    if not encoding or data.startswith(tuple(mark for mark, _ in _MARKS)):
        return decode(data)
    latin = encoding.lower() in ("iso-8859-1", "latin1", "latin-1", "ascii", "us-ascii")  # as browsers read them
    try:
        codec = codecs.lookup("cp1252" if latin else _WIDER.get(encoding.lower(), encoding))
        if codec.name in _PYTHON:
            raise LookupError
        b"a".decode(codec.name)  # "base64" and its like are codecs too
    except (LookupError, ValueError):  # ValueError: a NUL in its name
        text, notes = decode(data)
        return text, (*notes, f"encoding: {said} names one that does not exist")
    if codec.name.startswith(("utf-16", "utf-32")) and b"\0" not in data:
        return decode(data)  # where it is said, in ASCII, it cannot be true
    text, notes = "", (f"encoding: {encoding.lower()[:40]} as {said} says",)
    if not codec.name.startswith(_ESCAPED):
        with suppress(UnicodeDecodeError):  # then it is as it says
            text, notes = data.decode("utf-8"), ()
    if notes:
        text = sound(codec.decode(data, "replace")[0])  # UTF-7 can write them
        if "\ufffd" in text:
            notes = (*notes, "encoding: broken characters")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", ""), notes


def sound(text: str) -> str:
    """The text with U+FFFD for halves of characters (surrogates), which nothing can store."""
    return _LONE.sub("\ufffd", text)


def _decode(data: bytes) -> tuple[str, tuple[str, ...]]:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                return data.decode(encoding), () if encoding == "utf-8-sig" else (f"encoding: {encoding}",)
            except UnicodeDecodeError:
                raise ParseFailed(f"The bytes are not the {encoding} that their mark says.", kind="encoding") from None
    if b"\0" in data:
        return _wide(data)
    if b"\x1b$" in data:
        try:
            return data.decode("iso2022_jp_2"), ("encoding: iso-2022-jp guessed",)
        except UnicodeDecodeError:
            pass  # an escape that means something else
    try:
        return data.decode("utf-8"), ()
    except UnicodeDecodeError:
        return _guessed(data)


def _wide(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Without a mark: the zeros say which, and what comes out must be letters that there are."""
    if data.count(0) * 100 < len(data):
        with suppress(UnicodeDecodeError):  # text in which some strayed
            text = data.replace(b"\0", b"").decode("utf-8")
            if not _odd(text):
                return text, ("encoding: zero bytes left out",)
    zeros = [data[at::4].count(0) * 4 / len(data) for at in range(4)]
    if min(zeros[:2]) > 0.9 and zeros[3] < 0.1:
        likely: tuple[str, ...] = ("utf-32-be",)
    elif min(zeros[2:]) > 0.9 and zeros[0] < 0.1:
        likely = ("utf-32-le",)
    else:  # Latin text has a zero in every other byte, other writing at least in its spaces
        likely = ("utf-16-be", "utf-16-le") if zeros[0] + zeros[2] > zeros[1] + zeros[3] else ("utf-16-le", "utf-16-be")
    for encoding in likely:
        with suppress(UnicodeDecodeError):
            text = data.decode(encoding)
            if not _odd(text):
                return text, (f"encoding: {encoding} guessed",)
    raise ParseFailed("The bytes are not text.", kind="unsupported")


def _odd(text: str) -> bool:
    sample = text[:_SAMPLE]
    return sum(category(c) in _NO_TEXT and c not in "\t\n\r\f\v" for c in sample) * 50 > len(sample)


def _guessed(data: bytes) -> tuple[str, tuple[str, ...]]:
    sample = data[:_SAMPLE]
    if len(sample.translate(None, _CONTROL)) < len(sample) * 0.98:
        raise ParseFailed("The bytes are not text.", kind="unsupported")
    wrong = sample.decode("utf-8", "replace").count("\ufffd")
    if wrong < len(sample) / 1000:
        strays = data.decode("utf-8", "replace")
        if strays.count("\ufffd") * 4 < sum(1 for c in strays[:_SAMPLE] if ord(c) > 127):
            return strays, ("encoding: utf-8 with broken characters",)
    from chardetng_py import EncodingDetector

    detector = EncodingDetector()
    detector.feed(data[: 1 << 22], last=len(data) <= 1 << 22)
    found = detector.guess(tld=None, allow_utf8=False).lower()
    encoding = _WIDER.get(found, found)
    if found == "windows-1252":
        encoding = _western(data)
    for attempt in (encoding, "cp1252"):
        try:
            return data.decode(attempt), (f"encoding: {attempt} guessed",)
        except (UnicodeDecodeError, LookupError):
            continue
    text = data.decode(encoding, "replace")
    if text.count("\ufffd") * 100 > len(text):
        raise ParseFailed("We could not tell in which encoding the text is written.", kind="encoding")
    return text, (f"encoding: {encoding} guessed, with broken characters",)


def _western(data: bytes) -> str:
    """Windows or DOS: read rightly, what stands between two small letters is a small letter."""
    scores = {}
    for encoding in ("cp1252", "cp850"):
        inside = "".join(_INSIDE.findall(data[:_SAMPLE].decode(encoding, "replace")))
        scores[encoding] = sum(1 if c.islower() else -1 for c in inside)
    return "cp850" if scores["cp850"] > max(0, scores["cp1252"]) else "cp1252"


class TextParser:
    """Plain text as it is. It names no blocks: what no block covers is paragraphs, parted by empty lines."""

    name = "text"
    version = "2"
    media_types = ("text/plain", "application/yaml")

    def parse(self, data: bytes, *, name: str, media_type: str) -> Parsed:
        text, notes = decode(data)
        return Parsed(text, (), "", notes)
