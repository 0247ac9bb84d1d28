"""Which parser reads a document: by what the user said, by the name, and by the first bytes where these know better.

Guarantees: looks at names and bytes only, never parses; the same name and bytes always give the same answer on
every machine (the system's own table of types is not asked).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any

from drystone.errors import EngineMissing, SettingsError
from drystone.ingest.globs import matcher
from drystone.plugins import load

UNKNOWN = "application/octet-stream"
ROW = "application/vnd.drystone.row+json"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_BY_SUFFIX = {
    **dict.fromkeys(("txt", "text", "log", "rst", "org", "adoc", "asciidoc", "tex", "srt", "vtt"), "text/plain"),
    **dict.fromkeys(("md", "markdown", "mdown", "mkd", "mdx"), "text/markdown"),
    **dict.fromkeys(("html", "htm", "xhtml"), "text/html"),
    "csv": "text/csv", "tsv": "text/tab-separated-values",
    "json": "application/json", "jsonl": "application/x-ndjson", "ndjson": "application/x-ndjson",
    "pdf": "application/pdf", "docx": DOCX,
    **dict.fromkeys(("py", "js", "ts", "java", "c", "h", "cpp", "go", "rs", "sh", "sql", "toml", "yaml", "yml", "ini",
                     "cfg", "conf", "xml", "css", "properties"), "text/plain"),
}  # fmt: skip
_HTML = re.compile(rb"\A\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype html|html|head|body)\b", re.I | re.S)


def media_type(name: str) -> str:
    """From the name's ending; ``application/octet-stream`` where it says nothing."""
    return _BY_SUFFIX.get(name.rpartition(".")[2].lower(), UNKNOWN) if "." in name else UNKNOWN


def sniff(data: bytes, declared: str) -> str:
    """``declared``, unless the first bytes say clearly that it is something else."""
    if declared == ROW:
        return declared
    if data.startswith(b"%PDF-") or (declared == UNKNOWN and b"%PDF-" in data[:1024]):
        return "application/pdf"
    if data.startswith(b"PK\x03\x04"):
        return DOCX if declared == DOCX or b"word/document.xml" in data else "application/zip"
    if data.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        encrypted = "EncryptedPackage".encode("utf-16-le") in data
        return "application/x-encrypted-office" if encrypted else "application/x-ole-storage"
    if declared == UNKNOWN:
        return "text/html" if _HTML.match(data[:1024]) else "text/plain"
    return declared


@dataclass(frozen=True, slots=True)
class Reader:
    """A parser as the worker needs it: ``target`` is ``module:attribute``."""

    name: str
    version: str
    target: str
    media_types: tuple[str, ...]


@lru_cache(maxsize=1)
def readers() -> Mapping[str, Reader]:
    """Every installed parser by name. Raises ``EngineMissing`` if one that is declared does not import."""
    found: dict[str, Reader] = {}
    for entry in sorted(entry_points(group="drystone.parsers"), key=lambda e: e.name):
        parser = load("parsers", entry.name)
        found[entry.name] = Reader(entry.name, parser.version, entry.value, tuple(parser.media_types))
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

    def of(self, path: str, declared: str, data: bytes) -> tuple[Reader | None, str]:
        """The parser (``None``: nobody reads this) and the media type."""
        for pattern, reader in self._named:
            if pattern.match(path):
                return reader, declared
        found = sniff(data, declared)
        return self._types.get(found), found

    def all(self) -> tuple[Reader, ...]:
        return tuple(self._readers.values())
