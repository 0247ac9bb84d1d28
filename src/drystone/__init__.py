"""Drystone: from source data to an answer that can be trusted, traced, priced and withdrawn.

>>> import drystone
>>> kb = drystone.open("helpdesk")                      # doctest: +SKIP
>>> kb.ask("How long do refunds take?", actor="bo")     # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drystone.project import Project, open

__version__ = "0.2.0"
__all__ = ["Project", "__version__", "open"]


def __getattr__(name: str) -> Any:
    """Import is silent and quick: what is heavy comes when it is first used."""
    if name in ("open", "Project"):
        from drystone import project

        return getattr(project, name)
    raise AttributeError(f"module 'drystone' has no attribute {name!r}")
