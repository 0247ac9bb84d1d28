"""What several rooms' tests share: a small project in a temporary folder with a light embedder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import drystone
from drystone.testing import HashEmbedder

PEOPLE = """
[[users]]
name = "olga"
groups = ["owners", "auditors"]
clearance = "internal"
[[users]]
name = "ann"
groups = ["hr", "staff"]
clearance = "confidential"
[[users]]
name = "bo"
groups = ["staff"]
clearance = "internal"
purposes = ["general", "support"]
[[users]]
name = "ravi"
groups = ["staff"]
clearance = "internal"
region = "in"
[[users]]
name = "eve"
[[groups]]
name = "staff"
members = ["olga"]
[[groups]]
name = "people"
members = ["group:hr"]
[[groups]]
name = "hr"
members = []
"""

RULES: tuple[tuple[str, str], ...] = (
    ("public/**", 'readers = ["everyone"]\nclassification = "public"'),
    ("hr/**", 'readers = ["group:hr"]\nclassification = "confidential"'),
    ("eu/**", 'readers = ["group:staff"]\nclassification = "internal"\nregions = ["local", "eu"]'),
    ("research/**", 'readers = ["group:staff"]\nclassification = "internal"\npurposes = ["research"]'),
    ("old/**", 'readers = ["everyone"]\nclassification = "public"\nexpires = "2020-01-01T00:00:00Z"'),
    ("both/**", 'readers = [["group:hr"], ["group:owners"]]\nclassification = "internal"'),
    ("handbook/**", 'readers = ["group:staff"]\nclassification = "internal"'),
)


def write_project(
    folder: Path, files: Mapping[str, str | bytes], *, rules: tuple[tuple[str, str], ...] = RULES, extra: str = ""
) -> Path:
    """A project with one source ``docs`` over ``folder/documents``."""
    (folder / "documents").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / "documents" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    blocks = "".join(
        f"  [[sources.labels]]\n  match = {match!r}\n  {label}\n".replace("\n", "\n  ") for match, label in rules
    )
    text = f'[project]\nname = "shop"\n\n[[sources]]\nname = "docs"\ntype = "files"\npath = "documents"\n{blocks}\n{extra}\n'
    (folder / "drystone.toml").write_text(text)
    (folder / "users.toml").write_text(PEOPLE)
    return folder


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """``make(files, name="p", **options)``: an opened project, closed at the end of the test."""
    opened: list[Any] = []

    def build(files: Mapping[str, str | bytes], *, name: str = "p", ingest: bool = True, **options: Any) -> Any:
        opening = {k: options.pop(k) for k in ("embedder", "guards", "env") if k in options}
        opening.setdefault("embedder", HashEmbedder())
        kb = drystone.open(write_project(tmp_path / name, files, **options), **opening)
        opened.append(kb)
        if ingest:
            kb.ingest(actor="olga")
        return kb

    yield build
    for kb in opened:
        kb.close()
