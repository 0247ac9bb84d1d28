"""Finding engines by entry point. Our own engines enter by the same door as anybody else's.

Groups: ``drystone.sources``, ``drystone.parsers``, ``drystone.embedders``, ``drystone.models``,
``drystone.guards``. Nothing is imported before it is asked for by name.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from drystone.errors import EngineMissing


def names(kind: str) -> tuple[str, ...]:
    return tuple(sorted(e.name for e in entry_points(group=f"drystone.{kind}")))


def load(kind: str, name: str) -> Any:
    """The object behind ``name``. Raises ``EngineMissing`` with what there is."""
    for entry in entry_points(group=f"drystone.{kind}"):
        if entry.name == name:
            try:
                return entry.load()
            except ImportError as error:
                raise EngineMissing(
                    f"The {kind[:-1]} type {name!r} needs a package that is not installed ({error.name}).",
                    looked=f"It is declared by {entry.value}.",
                    todo='Install it, for instance with pip install "drystone[local]".',
                ) from None
    raise EngineMissing(
        f"There is no {kind[:-1]} type {name!r}.",
        looked=f"Installed: {', '.join(names(kind)) or 'none'}.",
        todo="Correct the type, or install the package that brings it.",
    )
