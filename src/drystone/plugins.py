"""Finding engines by entry point. Our own engines enter by the same door as anybody else's.

Groups: ``drystone.sources``, ``drystone.parsers``, ``drystone.embedders``, ``drystone.models``,
``drystone.guards``. Nothing is imported before it is asked for by name. What is declared
is looked up once in a process.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from drystone.errors import EngineMissing


@cache
def declared(kind: str) -> Mapping[str, EntryPoint]:
    """By name, in the order of names; of two with one name the first that Python finds."""
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=f"drystone.{kind}"):
        found.setdefault(entry.name, entry)
    return dict(sorted(found.items()))


def load(kind: str, name: str) -> Any:
    """The object behind ``name``. Raises ``EngineMissing`` with what there is."""
    entry = declared(kind).get(name)
    if entry is None:
        raise EngineMissing(
            f"There is no {kind[:-1]} type {name!r}.",
            looked=f"Installed: {', '.join(declared(kind)) or 'none'}.",
            todo="Correct the type, or install the package that brings it.",
        )
    try:
        return entry.load()
    except ImportError as error:
        raise EngineMissing(
            f"The {kind[:-1]} type {name!r} needs a package that is not installed ({error.name}).",
            looked=f"It is declared by {entry.value}.",
            todo='Install it, for instance with pip install "drystone[local]".',
        ) from None
