"""Which parser reads a document: by what the user said, by the name, and by the first bytes where these know better.

Guarantees: looks at names and bytes only, never parses; the same name and bytes always give the same answer on
every machine (the system's own table of types is not asked).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from drystone.errors import EngineMissing, SettingsError
from drystone.ingest.globs import matcher
from drystone.plugins import declared, load

UNKNOWN = "application/octet-stream"
ROW = "application/vnd.drystone.row+json"
_OOXML, _ODF = "application/vnd.openxmlformats-officedocument.", "application/vnd.oasis.opendocument."
DOCX, PPTX, XLSX = (_OOXML + k for k in (
    "wordprocessingml.document", "presentationml.presentation", "spreadsheetml.sheet"))  # fmt: skip
XLSB, XLS = "application/vnd.ms-excel.sheet.binary.macroenabled.12", "application/vnd.ms-excel"
DOC, PPT, MSG = "application/msword", "application/vnd.ms-powerpoint", "application/vnd.ms-outlook"
ODT, ODS, ODP = _ODF + "text", _ODF + "spreadsheet", _ODF + "presentation"
EPUB, RTF, MAIL = "application/epub+zip", "application/rtf", "message/rfc822"
ZIP, TAR, GZIP = "application/zip", "application/x-tar", "application/gzip"
BZIP2, XZ, SEVEN = "application/x-bzip2", "application/x-xz", "application/x-7z-compressed"
OLE, ENCRYPTED = "application/x-ole-storage", "application/x-encrypted-office"
_BY_SUFFIX = {
    **dict.fromkeys(("txt", "text", "log"), "text/plain"),
    **dict.fromkeys(("md", "markdown", "mdown", "mkd", "mdx", "qmd", "rmd"), "text/markdown"),
    **dict.fromkeys(("html", "htm", "xhtml"), "text/html"), **dict.fromkeys(("mht", "mhtml"), "multipart/related"),
    "csv": "text/csv", "tsv": "text/tab-separated-values", "tab": "text/tab-separated-values",
    "json": "application/json", "jsonl": "application/x-ndjson", "ndjson": "application/x-ndjson",
    "ipynb": "application/x-ipynb+json", "yaml": "application/yaml", "yml": "application/yaml",
    **dict.fromkeys(("xml", "xsd", "xsl", "xslt", "rss", "atom", "nxml", "rdf", "kml", "wsdl"), "application/xml"),
    "svg": "image/svg+xml",
    "pdf": "application/pdf", **dict.fromkeys(("docx", "docm", "dotx", "dotm"), DOCX),
    **dict.fromkeys(("pptx", "pptm", "potx", "ppsx", "potm", "ppsm"), PPTX),
    **dict.fromkeys(("xlsx", "xlsm", "xltx", "xltm"), XLSX), "xlsb": XLSB, **dict.fromkeys(("xls", "xlt"), XLS),
    **dict.fromkeys(("doc", "dot"), DOC), **dict.fromkeys(("ppt", "pps", "pot"), PPT), "msg": MSG,
    **dict.fromkeys(("odt", "ott", "fodt"), ODT), **dict.fromkeys(("ods", "ots", "fods"), ODS),
    **dict.fromkeys(("odp", "otp", "fodp"), ODP), "epub": EPUB, "rtf": RTF, "eml": MAIL, "mbox": "application/mbox",
    "ics": "text/calendar", "vcf": "text/vcard", "vtt": "text/vtt", "srt": "application/x-subrip",
    **dict.fromkeys(("rst", "rest"), "text/x-rst"), "org": "text/x-org",
    **dict.fromkeys(("adoc", "asciidoc", "asc"), "text/asciidoc"), **dict.fromkeys(("tex", "latex"), "text/x-tex"),
    "zip": ZIP, "jar": ZIP, **dict.fromkeys(("tar", "tgz", "tbz2", "txz"), TAR), "gz": GZIP, "bz2": BZIP2, "xz": XZ,
    "7z": SEVEN, "rar": "application/vnd.rar",
    "png": "image/png", **dict.fromkeys(("jpg", "jpeg", "jfif"), "image/jpeg"), "gif": "image/gif", "bmp": "image/bmp",
    "webp": "image/webp", **dict.fromkeys(("tif", "tiff"), "image/tiff"), "heic": "image/heic",
    "mp3": "audio/mpeg", "wav": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg", "opus": "audio/ogg",
    **dict.fromkeys(("m4a", "aac"), "audio/mp4"), **dict.fromkeys(("mp4", "mov", "m4v"), "video/mp4"),
    "webm": "video/webm", "mkv": "video/x-matroska", "avi": "video/x-msvideo", "wma": "audio/x-ms-wma",
    **dict.fromkeys(("py", "js", "ts", "java", "c", "h", "cpp", "go", "rs", "sh", "sql", "toml", "ini", "cfg", "conf",
                     "css", "properties", "bib", "sty"), "text/plain"),
}  # fmt: skip
_HTML = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype html|html|head|body)\b",
                   re.I | re.S)  # fmt: skip
_MAIL = re.compile(rb"\A(?:(?:Return-Path|Received|Delivered-To|MIME-Version|Message-ID|From|X-[\w-]+): )", re.I)
# What the first bytes say for certain. A name that says otherwise is wrong.
_MAGIC = (
    (b"%PDF-", "application/pdf"), (b"{\\rtf", RTF), (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"), (b"II*\0", "image/tiff"), (b"MM\0*", "image/tiff"), (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"), (b"ID3", "audio/mpeg"), (b"\x1a\x45\xdf\xa3", "video/webm"), (b"\x1f\x8b\x08", GZIP),
    (b"BZh", BZIP2), (b"\xfd7zXZ\0", XZ), (b"7z\xbc\xaf\x27\x1c", SEVEN), (b"Rar!\x1a\x07", "application/vnd.rar"),
)  # fmt: skip
_PACKED = {DOCX, PPTX, XLSX, XLSB, ODT, ODS, ODP, EPUB}  # zip files that are documents
_MAIN = ((b"word/document.xml", DOCX), (b"ppt/presentation.xml", PPTX), (b"xl/workbook.xml", XLSX),
         (b"xl/workbook.bin", XLSB))  # fmt: skip
_OLE = {DOC, PPT, XLS, MSG}
_STREAMS = (("WordDocument", DOC), ("PowerPoint Document", PPT), ("Workbook", XLS), ("__properties_version1", MSG))
_WRAPPED = {  # a compressed tar is a tar to its reader, whatever wraps it
    suffix: TAR for suffix in (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
}


def media_type(name: str) -> str:
    """From the name's ending; ``application/octet-stream`` where it says nothing."""
    lower = name.lower()
    for suffix in _WRAPPED:
        if lower.endswith(suffix):
            return TAR
    return _BY_SUFFIX.get(lower.rpartition(".")[2], UNKNOWN) if "." in lower.rpartition("/")[2] else UNKNOWN


def sniff(data: bytes, declared: str) -> str:
    """``declared``, unless the first bytes say clearly that it is something else."""
    if declared == ROW:
        return declared
    if data.startswith(b"PK\x03\x04") or data.startswith(b"PK\x05\x06"):
        return _zipped(data, declared)
    if data.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return _compound(data, declared)
    for magic, found in _MAGIC:
        if data.startswith(magic):
            return declared if found in (GZIP, BZIP2, XZ) and declared == TAR or _same(found, declared) else found
    if data[:4] == b"RIFF":
        return {b"WAVE": "audio/wav", b"WEBP": "image/webp", b"AVI ": "video/x-msvideo"}.get(data[8:12], declared)
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        if brand[:3] in (b"hei", b"hev", b"mif"):
            return "image/heic"
        return declared if declared in ("audio/mp4", "video/mp4") else "audio/mp4" if brand == b"M4A " else "video/mp4"
    if data[257:262] == b"ustar":
        return TAR
    if declared in _OLE | _PACKED and _HTML.match(data[:1024]):
        return "text/html"  # what programs that export to Word or Excel often write
    if declared == UNKNOWN:
        if b"%PDF-" in data[:1024]:
            return "application/pdf"
        return "text/html" if _HTML.match(data[:1024]) else MAIL if _MAIL.match(data) else "text/plain"
    return declared


def _same(found: str, declared: str) -> bool:
    """Container formats of sound and pictures share their first bytes with others of their kind."""
    kind = found.partition("/")[0]
    return kind in ("image", "audio", "video") and declared.startswith(f"{kind}/") or {found, declared} <= {
        "video/webm", "video/x-matroska", "audio/ogg"
    }  # fmt: skip


def _zipped(data: bytes, declared: str) -> str:
    """Packages say what they are: in their first member, or by the name of their main part."""
    if data[30:38] == b"mimetype":
        said = data[38 : 38 + 80]
        for kind in (ODT, ODS, ODP, EPUB):
            if said.startswith(kind.encode()):
                return kind
    names = data[-(1 << 20) :] if b"[Content_Types].xml" in data else b""
    found = [kind for inside, kind in _MAIN if inside in names]
    if declared in found or not found:
        return declared if declared in _PACKED else ZIP
    return found[0]


def _compound(data: bytes, declared: str) -> str:
    if "EncryptedPackage".encode("utf-16-le").ljust(64, b"\0") in data:  # as an entry of the directory writes it
        return ENCRYPTED
    found = [kind for stream, kind in _STREAMS if stream.encode("utf-16-le") in data]
    if declared in found or not found:
        return declared if declared in _OLE else OLE
    return found[0]


@dataclass(frozen=True, slots=True)
class Reader:
    """A parser as the worker needs it: ``target`` is ``module:attribute``.

    ``slow``: what takes over in a process with more time and memory; ``target`` itself, if it always runs there.
    """

    name: str
    version: str
    target: str
    media_types: tuple[str, ...]
    slow: str = ""


@lru_cache(maxsize=1)
def readers() -> Mapping[str, Reader]:
    """Every installed parser by name. Raises ``EngineMissing`` if one that is declared does not import."""
    found: dict[str, Reader] = {}
    for name, entry in declared("parsers").items():
        parser = load("parsers", name)
        types, slow = tuple(parser.media_types), getattr(parser, "slow", "")
        found[name] = Reader(name, parser.version, entry.value, types, slow)
    if not found:
        raise EngineMissing(
            "No parser is installed.", looked='The entry points "drystone.parsers" are empty.', todo="Install drystone."
        )
    return found


class Choice:
    """The parsers of one source. ``parsers``: pattern to parser's name, as in the source's table."""

    def __init__(self, parsers: Mapping[str, Any], source: str) -> None:
        self._readers = readers()
        self._types = {t: r for r in self._readers.values() for t in r.media_types}
        self._named: Sequence[tuple[re.Pattern[str], Reader]] = [
            (matcher(pattern), self._reader(str(name), source)) for pattern, name in parsers.items()
        ]

    def _reader(self, name: str, source: str) -> Reader:
        if name in self._readers:
            return self._readers[name]
        raise SettingsError(
            f"The source {source!r} names a parser {name!r} that is not installed.",
            looked=f"Installed: {', '.join(self._readers)}.",
        )

    def of(self, path: str, declared: str, data: bytes, named: str = "") -> tuple[Reader | None, str]:
        """The parser (``None``: nobody reads this) and the media type. ``named``: the parser that a person chose."""
        if named in self._readers:
            return self._readers[named], sniff(data, declared)
        for pattern, reader in self._named:
            if pattern.match(path):
                return reader, declared
        found = sniff(data, declared)
        return self._types.get(found), found

    def all(self) -> tuple[Reader, ...]:
        return tuple(self._readers.values())
