"""A project around one source that is no folder, for tests of whole ingestions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import drystone
from drystone.project import Project
from drystone.testing import HashEmbedder

PEOPLE = '[[users]]\nname = "olga"\ngroups = ["owners"]\n'
RULE = '[[sources.labels]]\nmatch = "**"\nreaders = ["group:staff"]\nclassification = "internal"\n'


@contextmanager
def project(folder: Path, source: str, rules: str = RULE) -> Iterator[Project]:
    """``source``: the lines of its table but for the name, which is ``docs``."""
    folder.mkdir(exist_ok=True)
    (folder / "users.toml").write_text(PEOPLE)
    (folder / "drystone.toml").write_text(f'[[sources]]\nname = "docs"\n{source}\n{rules}')
    kb = drystone.open(folder, embedder=HashEmbedder(16))
    try:
        yield kb
    finally:
        kb.close()


def known(kb: Project) -> set[str]:
    return {name.removeprefix("docs:") for name in kb.house.ledger.catalog.known("docs")}
