"""Path patterns: ``*`` and ``?`` stay within a folder, ``**`` crosses folders, ``[a-z]`` is one character.

Guarantees: a pattern always means the whole path, with ``/`` between folders and case respected; ``**`` alone is
everything; ``hr/**`` is everything below ``hr``; ``**/x`` is ``x`` at any depth, the top included.
"""

from __future__ import annotations

import re
from functools import lru_cache


@lru_cache(maxsize=4096)
def matcher(pattern: str) -> re.Pattern[str]:
    """Use with ``.match(path)``."""
    pattern = pattern.removeprefix("./").removeprefix("/")
    if pattern.endswith("/"):
        pattern += "**"
    out, at = [], 0
    while at < len(pattern):
        if pattern.startswith("**/", at) and (at == 0 or pattern[at - 1] == "/"):
            out.append("(?:[^/]+/)*")
            at += 3
        elif pattern.startswith("**", at):
            out.append(".*")
            at += 2
        elif pattern[at] == "*":
            out.append("[^/]*")
            at += 1
        elif pattern[at] == "?":
            out.append("[^/]")
            at += 1
        elif pattern[at] == "[" and (end := pattern.find("]", at + 2)) > 0:
            inside = pattern[at + 1 : end]
            inside = "^" + inside[1:] if inside.startswith(("!", "^")) else inside
            out.append("(?!/)[" + inside.replace("\\", "\\\\").replace("[", "\\[") + "]")
            at = end + 1
        else:
            out.append(re.escape(pattern[at]))
            at += 1
    return re.compile("(?s:" + "".join(out) + r")\Z")
