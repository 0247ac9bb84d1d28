"""What a question must be before anything is done with it."""

from __future__ import annotations

import unicodedata

from drystone.errors import UsageError

_ALLOWED = frozenset("\t\n\r")
MOST_HITS = 1000


def check_question(text: object, longest: int) -> str:
    """The question as it came. Raises ``UsageError`` if it is no text, empty, too long, or not writable text.

    Format characters (joiners, marks of direction) stay: Persian, Hindi and emoji need them.
    """
    if not isinstance(text, str):
        raise UsageError(f"The question is a {type(text).__name__}, not text.")
    if len(text) > longest:
        raise UsageError(
            f"The question has {len(text)} characters; at most {longest} are allowed.",
            todo="Shorten it, or raise answer.max_question_chars.",
        )
    for place, character in enumerate(text):
        if character < " " and character not in _ALLOWED or unicodedata.category(character) in ("Cc", "Cs"):
            if character in _ALLOWED:
                continue
            raise UsageError(
                f"The question has a control character or half a character (U+{ord(character):04X}).",
                looked=f"At place {place}.",
                todo="Remove it.",
            )
    if not any(unicodedata.category(character)[0] in "LNSP" for character in text):
        raise UsageError("The question is empty.", todo="Write what you want to know.")
    return text


def check_purpose(purpose: object) -> str:
    if not isinstance(purpose, str) or not purpose.strip() or not purpose.isprintable() or len(purpose) > 200:
        raise UsageError("A call has exactly one purpose, and this one is no name.", todo='For instance "support".')
    return purpose


def check_limit(limit: object) -> int:
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MOST_HITS:
        raise UsageError(f"limit is {limit!r}; it must be a number from 1 to {MOST_HITS}.")
    return limit
