"""The analyser of words: the same for documents and for questions.

Guarantees: a term is a keyed 64-bit hash (BLAKE2b under a key of the project), so an index does not show its words to
who lacks the key; case, accents and English inflection do not matter; identifiers such as ``ISO-27001`` are found
whole and by their parts; scripts without spaces are searched by pairs of characters. Changing what comes out of
here changes every posting: ``VERSION`` then changes too.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

VERSION = "terms/1"
REMEMBERED = 400_000  # words; about 60 MB, then the memory starts anew

_STOP = """
    a an and are as at be been but by can did do does for from had has have he her his how i if in into is it its
    me my of on or our s she so t than that the their them then there these they this those to too up was
    we were what when where which while who whom why will with would you your
"""
STOP = frozenset(_STOP.split())  # not "no" and "not": they decide what a sentence says

# Letters, digits and the marks that Indic, Arabic, Hebrew and South-East Asian words need (not \w in Python).
_LETTER = (
    r"(?:[^\W_]|[\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed"
    r"\u0900-\u0963\u0966-\u0dff\u0e31-\u0e4e\u0eb1-\u0ecd\u102b-\u103e\u17b4-\u17d3\u200c\u200d])"
)
_TOKEN = re.compile(rf"{_LETTER}+(?:[-_./:@+#'’]{_LETTER}+)*")
_ASCII_TOKEN = re.compile(r"[a-z0-9]+(?:[-_./:@+#'][a-z0-9]+)*")
_SPLIT = re.compile(r"[-_./:@+#'’]")
_MARKS = re.compile(
    r"[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0640\u200c\u200d]"
)
_UNSPACED = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
    r"\U00020000-\U0003ffff]+"
)


class Counts(NamedTuple):
    """Which term is how often in which text. The first three are parallel, ascending by term and then by text."""

    term: NDArray[np.uint64]
    text: NDArray[np.int32]  # place in what was counted
    times: NDArray[np.uint8]  # stops at 255
    tokens: NDArray[np.int32]  # terms of each text, all occurrences


class Analyser:
    """Text to terms, with a memory of words. Safe to share between threads."""

    def __init__(self, key: bytes) -> None:
        self._words = _Words(key[:64])

    def terms(self, text: str) -> NDArray[np.uint64]:
        """All terms in order, repeated as often as they occur."""
        return np.array(list(chain.from_iterable(self._words.of(text))), np.uint64)

    def count(self, texts: Sequence[str]) -> Counts:
        """The terms of many texts at once."""
        found = [self.terms(text) for text in texts]
        tokens = np.fromiter(map(len, found), np.int32, len(found))
        term = np.concatenate(found) if found else np.zeros(0, np.uint64)
        text = np.repeat(np.arange(len(found), dtype=np.int32), tokens)
        order = np.lexsort((text, term))
        term, text = term[order], text[order]
        first = np.flatnonzero(np.r_[True, (term[1:] != term[:-1]) | (text[1:] != text[:-1])][: len(term)])
        count = np.minimum(np.diff(np.r_[first, len(term)]), 255).astype(np.uint8)
        return Counts(term[first], text[first], count, tokens)


class _Words(dict[str, tuple[int, ...]]):
    """Word to its hashed terms, worked out when first met."""

    def __init__(self, key: bytes) -> None:
        super().__init__()
        self._key = key

    def of(self, text: str) -> Iterable[tuple[int, ...]]:
        if len(self) > REMEMBERED:
            self.clear()
        if text.isascii():
            return map(self.__getitem__, _ASCII_TOKEN.findall(text.lower()))
        return map(self.__getitem__, _TOKEN.findall(fold(text)))

    def __missing__(self, word: str) -> tuple[int, ...]:
        found = self[word] = tuple(self._hash(term) for term in self._split(word))
        return found

    def _split(self, word: str) -> Iterable[str]:
        parts = [part for part in _SPLIT.split(word) if part]
        if len(parts) > 1 and any(c.isdigit() for c in word):
            yield word  # an identifier, an address or a number: whole, and by its parts below
        for part in parts:
            if part in STOP:
                continue
            if part.isascii():
                yield stem(part)
            else:
                yield from _pairs(part)

    def _hash(self, term: str) -> int:
        return int.from_bytes(blake2b(term.encode(), digest_size=8, key=self._key).digest(), "little")


@lru_cache(maxsize=1)
def _stemmer() -> Any:
    import Stemmer  # Snowball in C: 0.4 microseconds a word against 24 in Python, the same stems

    return Stemmer.Stemmer("english", 0)  # without a cache of its own: then it keeps no state between words


_STEMMING = threading.Lock()


def stem(word: str) -> str:
    """The English stem of a folded word (Snowball, "Porter2"); words in other letters stay as they are."""
    if not (word.isascii() and word.isalpha() and len(word) > 2):
        return word
    with _STEMMING:  # one buffer inside
        return str(_stemmer().stemWord(word))


def fold(text: str) -> str:
    """Without case, accents, vowel points and compatibility forms."""
    return unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFKD", text.casefold())))


def _pairs(word: str) -> Iterable[str]:
    """Runs of a script without spaces as overlapping pairs, the rest whole."""
    last = 0
    for run in _UNSPACED.finditer(word):
        if word[last : run.start()]:
            yield word[last : run.start()]
        signs, last = run[0], run.end()
        yield from (signs[i : i + 2] for i in range(max(1, len(signs) - 1)))
    if word[last:]:
        yield word[last:]
