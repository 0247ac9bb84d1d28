"""What comes in: items of a source, assets, documents, blocks, chunks. All frozen.

Offsets (``start``, ``end``) are Unicode code points into the document's parsed text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from drystone.records.label import Label

BlockKind = Literal["heading", "paragraph", "list", "table", "code"]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that a source lists. Nothing of its bytes has been read yet.

    ``id``: stable within the source: a relative path, or a row's id. ``fingerprint``: changes whenever
    the bytes may have changed (size, times, inode; a row's digest); equal fingerprints save reading.
    ``permissions``: what the source itself says (file modes, columns), as raw label parts, or ``None``.
    ``beside``: what a label file beside the item says, as raw label parts, or ``None``.
    ``size``: bytes, or -1 where unknown. ``media_type``: a hint from the name.
    """

    id: str
    fingerprint: str
    size: int
    media_type: str
    title: str = ""
    permissions: Mapping[str, Any] | None = None
    beside: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What the catalogue knows of one document that is there now; enough to see whether it changed.

    ``label`` is the one in force, ``override`` whether a person set it; ``base`` is what the door gave:
    compare a freshly computed label with that, and the ledger keeps the override; ``first_seen``: milliseconds,
    the first time the ledger saw the document, removals in between included.
    """

    document: str
    fingerprint: str
    digest: str  # of the bytes, "b:..."
    transform: str  # "t:..." of the parser that read it
    label: Label
    label_origin: str
    override: bool
    first_seen: int
    base: Label | None = None
    parent: str = ""  # the document that it lies in


@dataclass(frozen=True, slots=True)
class Asset:
    """The bytes as they came: encrypted in the lake, addressed by their keyed digest."""

    document: str  # "source:path" or "source:id"
    source: str
    digest: str  # "b:..." keyed, opaque
    size: int
    media_type: str
    title: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Block:
    """One structural part of a parsed text. ``level``: of a heading, 1 is the highest.

    ``place``: where it stands in the original beside its page (``place.py``). A table whose place names cells has
    one line a row, the first of them the first row of those cells.
    """

    kind: BlockKind
    start: int
    end: int
    level: int = 0
    page: int | None = None
    place: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A document inside a document: an attachment of a mail, a member of an archive.

    ``name``: a relative path with ``/`` that is unique among its siblings and has no ``..`` in it.
    ``media_type``: what the container says, or ``""``: then the name and the first bytes decide. ``kind``: why it
    cannot be read, where the container knows that already (``encrypted``, ``malformed``); then ``reason`` says more,
    there are no bytes, and it lies in quarantine.
    """

    name: str
    data: bytes
    media_type: str = ""
    title: str = ""
    kind: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a document is to be read; given to every parser whose ``parse`` takes ``reading``.

    ``passwords``: those that the source was given, to be tried in order. ``text``: most characters of parsed text.
    ``unpacked``: most bytes of all parts together. ``parts``: most parts. ``seconds``: time for the document, after
    which its process is ended: a parser that can stop earlier should, with a note of what it left out.
    """

    passwords: tuple[str, ...] = ()
    text: int = 1 << 28
    unpacked: int = 1 << 28
    parts: int = 10_000
    seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a parser returns: plain text, its structure, and what was lost or guessed on the way.

    ``notes``: short typed remarks ("encoding: cp1252 guessed", "pages without text: 3"), never text. ``parts``: what
    lies inside and becomes a document of its own; then the text may be empty.
    """

    text: str
    blocks: tuple[Block, ...]
    title: str = ""
    notes: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed asset with its label: one version of a document, ready to be chunked and committed."""

    name: str
    source: str
    version: str  # "v:..." keyed digest of (document, bytes, parser)
    asset: Asset
    parsed: Parsed
    label: Label
    label_origin: str  # which rule, sidecar, column or permission gave the label
    transform: str  # "t:..." parser and its version and parameters
    made_by: str  # the run
    renamed_from: str | None = None
    parent: str = ""  # the document that it lies in
    parent_version: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """One document that an ingestion will bring in. ``asset`` is there once its bytes are kept."""

    document: str
    item: Item
    label: Label
    label_origin: str
    action: Literal["add", "change"]
    renamed_from: str | None = None
    asset: Asset | None = None
    inside: bool = False  # it lies in another document


@dataclass(frozen=True, slots=True)
class Relabel:
    """A new label for a document that stays as it is. ``override``: set by a person, survives ingestion.

    ``seen``: the label that the person saw; if it is another by now, nothing changes.
    """

    document: str
    label: Label
    origin: str
    override: bool = False
    seen: Label | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """What one commit will bring. ``key`` makes the commit idempotent."""

    key: str
    source: str
    work: tuple[Work, ...] = ()
    relabelled: tuple[Relabel, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document: ``text == document.text[start:end]`` always holds."""

    ordinal: int
    start: int
    end: int
    text: str
    heading: tuple[str, ...] = ()
    page: int | None = None
    place: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """An item that did not come in. ``kind`` is typed; ``reason`` never holds the document's text."""

    document: str
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A document that lies in quarantine, and what it was when it failed: unchanged, it is not read again.

    ``ignored``: why a person decided to leave it outside, or ``""``; ``since``: milliseconds.
    """

    failure: Failure
    fingerprint: str
    transform: str  # "t:..." of the parser that could not read it
    parent: str = ""  # the document that it lies in
    ignored: str = ""
    ignored_by: str = ""
    since: int = 0


@dataclass(frozen=True, slots=True)
class Choosing:
    """How a person said that one document is to be read. ``password``: where it lies (``env:NAME``), never itself."""

    parser: str = ""
    password: str = ""


COUNTS = (  # the numbers of a report
    "seen", "added", "changed", "relabelled", "removed", "renamed", "refused", "failed", "skipped", "embedded",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Report:
    """What an ingestion did. Numbers, with lists of reasons beside them."""

    seen: int = 0
    added: int = 0
    changed: int = 0
    relabelled: int = 0
    removed: int = 0
    renamed: int = 0
    refused: int = 0
    failed: int = 0
    skipped: int = 0
    embedded: int = 0
    commit: int | None = None
    refusals: tuple[Failure, ...] = ()
    failures: tuple[Failure, ...] = ()
    skips: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = {name: getattr(self, name) for name in (*COUNTS, "commit")}
        for name in ("refusals", "failures", "skips"):
            out[name] = [{"document": f.document, "kind": f.kind, "reason": f.reason} for f in getattr(self, name)]
        out["notes"] = list(self.notes)
        out["sources"] = list(self.sources)
        return out
