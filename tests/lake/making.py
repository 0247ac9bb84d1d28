"""Rows for tests, small and readable: each document a few chunks, each chunk a few words."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from drystone.lake import Lake, Rows
from drystone.records import Actor, Block, Classification, Document, Label, Parsed
from drystone.records.document import Asset
from drystone.settings import Settings, defaults

ACTOR = Actor("olga", frozenset({"user:olga", "everyone"}), Classification.internal, "local", None, "asserted by olga")
LABEL = Label.parse({"readers": ["everyone"], "classification": "public"})
WIDE = 8  # dimensions


def place(folder: Path, url: str, storage: dict[str, Any]) -> None:
    """Say for every process of a test that the lake over ``folder`` lies in a bucket."""
    (folder / "place.json").write_text(json.dumps({"url": url, "storage": storage}))


def settings(folder: Path, **overrides: Any) -> Settings:
    found = folder / "place.json"
    if not found.exists():
        return defaults(folder, **overrides)
    said = json.loads(found.read_text())
    return replace(defaults(folder, project__state=said["url"], **overrides), storage=said["storage"])


def digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()


def vector(text: str, wide: int = WIDE) -> np.ndarray:
    rng = np.random.default_rng(int.from_bytes(digest(text)[:8], "big"))
    found = rng.standard_normal(wide).astype(np.float32)
    return found / np.linalg.norm(found)


def document(lake: Lake, name: str, texts: list[str]) -> Document:
    whole = "\n".join(texts)
    asset: Asset = lake.keep(
        whole.encode(), document=f"docs:{name}", source="docs", media_type="text/plain", title=name, fingerprint="f"
    )
    starts = np.cumsum([0, *(len(t) + 1 for t in texts)]).tolist()
    blocks = tuple(Block("paragraph", a, a + len(t), page=1) for a, t in zip(starts, texts, strict=False))
    version = lake.ledger.digest("v", name, whole)
    return Document(
        f"docs:{name}", "docs", version, asset, Parsed(whole, blocks, title=name), LABEL, "rule 1", "t:x", "r:x"
    )


def rows(lake: Lake, key: str, content: dict[str, list[str]], *, generation: str | None = "g:one", wide: int = WIDE,
         removed: tuple[str, ...] = ()) -> Rows:  # fmt: skip
    """What a commit of these documents (name: texts of its chunks) brings."""
    documents = tuple(document(lake, name, texts) for name, texts in content.items())
    counts = [len(texts) for texts in content.values()]
    reserved = lake.ledger.catalog.reserve(versions=len(documents), chunks=sum(counts))
    numbers = tuple(range(reserved.versions, reserved.versions + len(documents)))
    firsts = (reserved.chunks + np.cumsum([0, *counts])).tolist()
    texts = [t for found in content.values() for t in found]
    chunk = np.arange(reserved.chunks, reserved.chunks + len(texts), dtype=np.int64)
    ordinal = [i for n in counts for i in range(n)]
    start = [sum(len(t) + 1 for t in found[:i]) for found in content.values() for i in range(len(found))]
    chunks = pa.table(
        {
            "chunk": chunk,
            "version": np.repeat(np.array(numbers, np.int32), counts),
            "ordinal": pa.array(ordinal, pa.int32()),
            "id": [lake.ledger.digest("c", str(n)) for n in chunk],
            "digest": pa.array([digest(t) for t in texts], pa.binary()),
            "start": pa.array(start, pa.int32()),
            "end": pa.array([a + len(t) for a, t in zip(start, texts, strict=True)], pa.int32()),
            "text": pa.array(texts, pa.string()),
            "heading": pa.array([["Top"]] * len(texts), pa.list_(pa.string())),
            "page": pa.array([1 if i % 2 else None for i in ordinal], pa.int32()),
            "tokens": pa.array([len(t.split()) for t in texts], pa.int32()),
            "language": pa.array(["en"] * len(texts), pa.string()),
        }
    )
    words: dict[int, dict[int, int]] = {}
    for number, text in zip(chunk.tolist(), texts, strict=True):
        for word in text.split():
            at = words.setdefault(int.from_bytes(digest(word)[:8], "little"), {})
            at[number] = at.get(number, 0) + 1
    terms = sorted(words)
    postings = pa.table(
        {
            "segment": np.full(len(terms), reserved.chunks, np.int64),
            "term": pa.array(terms, pa.uint64()),
            "chunks": pa.array([sorted(words[t]) for t in terms], pa.list_(pa.int64())),
            "counts": pa.array([[words[t][c] for c in sorted(words[t])] for t in terms], pa.list_(pa.uint8())),
        }
    )
    flat = np.concatenate([vector(t, wide) for t in texts]) if texts else np.empty(0, np.float32)
    vectors = pa.table({"chunk": chunk, "vector": pa.FixedSizeListArray.from_arrays(pa.array(flat), wide)})
    return Rows(
        key=key, documents=documents, version_numbers=numbers, chunk_first=tuple(firsts[:-1]),
        chunk_count=tuple(counts), chunks=chunks if texts else None, vectors=vectors if texts and generation else None,
        generation=generation, postings=postings if texts else None,
        removed=tuple(f"docs:{name}" for name in removed),
    )  # fmt: skip
