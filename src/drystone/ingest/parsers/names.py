"""Names of what lies inside a document: relative paths that lead nowhere else.

Guarantees: what ``Names.path`` and ``Names.file`` give is printable, has no empty, ``.`` or ``..`` step and no
backslash, is at most 300 characters long and unlike every other that the same ``Names`` gave.
"""

from __future__ import annotations

import re

LONGEST = 300
_DRIVE = re.compile(r"[A-Za-z]:")


class Names:
    """The names inside one document."""

    def __init__(self) -> None:
        self._given: set[str] = set()
        self._next: dict[str, int] = {}

    def path(self, raw: str) -> str:
        """An archive member's path; ``""`` if it leads out of the archive, or is none."""
        path = raw.replace("\\", "/")
        if "\0" in raw or path.startswith("/") or _DRIVE.match(path) or ".." in path.split("/"):
            return ""
        return self._unlike("/".join(step for step in map(_plain, path.split("/")) if step not in ("", ".")))

    def file(self, raw: str, otherwise: str = "part") -> str:
        """The name of an attachment: only the last step of what the mail says; else of ``otherwise``, else "part"."""
        steps = (_plain(said.replace("\\", "/").rstrip("/").rpartition("/")[2]) for said in (raw, otherwise))
        return self._unlike(next((step for step in steps if step not in ("", ".", "..")), "part"))

    def _unlike(self, name: str) -> str:
        if not name:
            return ""
        stem, dot, ending = name.rpartition(".")
        if not stem or "/" in ending or len(ending) > 12:
            stem, dot, ending = name, "", ""
        stem = stem[: LONGEST - 30].rstrip("/ ")
        name = found = stem + dot + ending
        while found in self._given:
            number = self._next[name] = self._next.get(name, 1) + 1
            found = f"{stem} ({number}){dot}{ending}"
        self._given.add(found)
        return found


def hidden(path: str) -> bool:
    """What systems leave beside the documents: dot files, resource forks, thumbnails."""
    steps = path.split("/")
    return (
        any(step.startswith(".") and step not in (".", "..") or step == "__MACOSX" for step in steps)
        or steps[-1].lower() in ("thumbs.db", "desktop.ini", "pax_global_header")
    )  # fmt: skip


def size(number: int) -> str:
    """Bytes as a person writes them."""
    for unit in ("bytes", "kB", "MB"):
        if number < 1000 or unit == "MB":
            break
        number = round(number / 1000, 1 if number < 10_000 else None)  # type: ignore[assignment]
    return f"{number} {unit}"


def _plain(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
