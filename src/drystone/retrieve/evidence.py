"""The sentences that an answer can rest on, and the chance that they answer the question.

Guarantees: a quote is a slice of its document's text; every score lies in 0..1. ``confidence`` is a logistic function
of six features that a person can read; its coefficients are fitted and measured by ``bench/quality.py --calibrate``
on questions with and without an answer, and nothing else decides whether we refuse for want of evidence.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drystone.records import Evidence, Hit

FEATURES = ("bias", "sentence", "passage", "covered", "covered_passage", "words", "margin")
# Fitted by bench/quality.py --calibrate; order as in FEATURES. One set with an embedder, one for words alone.
WITH_MEANING = (-5.592, 2.135, 3.716, 2.344, 2.031, -0.402, 0.752)
BY_WORDS = (-3.054, 0.0, 0.0, 2.574, 2.533, 0.638, 0.0)
READ = 4  # hits whose sentences are looked at
SENTENCES = 12  # most sentences of one hit
_KEPT = 20_000  # sentence vectors remembered (30 MB at 384 dimensions)
_ROW = " | "  # between the cells of a table's row, which stands alone: what its neighbours say is of something else

_NUMBER = re.compile(
    r"\bhow (?:many|much|long|old|far|tall|big|high|often|large|deep|fast)\b|\bwhat (?:percent|number)", re.I
)
_TIME = re.compile(r"\bwhen\b|\bwhat (?:year|date|day|time)\b|\bwhich year\b", re.I)
_PERSON = re.compile(r"\bwho(?:m|se)?\b", re.I)
_HAS_NUMBER = re.compile(
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|hundred|"
    r"thousand|million|billion|half|once|twice|daily|weekly|monthly|annually)\b", re.I,
)  # fmt: skip
_HAS_TIME = re.compile(
    r"\b(?:1[0-9]|20)\d\d\b|\d+(?:st|nd|rd|th)\b|\d{1,2}:\d\d|\b(?:January|February|March|April|May|June|July|August|"
    r"September|October|November|December|Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)\b|"
    r"\b(?:day|week|month|year|hour|century)s?\b"
)
_NAME = re.compile(r"(?<=[a-z,;:)] )[A-Z][\w.'-]+")


def content(question: str) -> str:
    """The question without the words that only say what kind of answer is wanted ("how long", "what year")."""
    return _TIME.sub(" ", _NUMBER.sub(" ", question)) or question


@dataclass(frozen=True, slots=True)
class Question:
    """What is compared with sentences. ``weights``: of each distinct term of its content (``Scored.coverage``)."""

    text: str
    terms: NDArray[np.uint64]
    weights: NDArray[np.float64]
    vector: NDArray[np.float32] | None


class Reader:
    """Finds evidence. ``embed`` gives unit vectors; vectors of sentences are remembered by chunk and span."""

    def __init__(
        self, *, embed: Callable[[Sequence[str]], NDArray[np.float32]],
        terms: Callable[[str], NDArray[np.uint64]], sentences: Callable[[str], list[tuple[int, int]]],
    ) -> None:  # fmt: skip
        self._embed, self._terms, self._sentences = embed, terms, sentences
        self._vectors: OrderedDict[tuple[int, int], NDArray[np.float32]] = OrderedDict()

    def read(
        self, question: Question, hits: Sequence[Hit], cosines: Sequence[float], words: float
    ) -> tuple[tuple[Evidence, ...], Mapping[str, float]]:
        """Evidence, best first, and the features of the best. ``words``: the best hit's bm25 share."""
        found: list[tuple[Hit, int, int, str]] = []
        for hit in hits[:READ]:
            spans = self._sentences(hit.text)
            for n, (a, b) in enumerate(spans[:SENTENCES]):
                following = hit.text[b : spans[n + 1][1]].lstrip() if n + 1 < len(spans) else ""
                if _heads(hit.text[a:b], following):
                    continue
                alone = _ROW in hit.text[a:b]
                first, last = (n, n) if alone else (max(0, n - 1), min(len(spans) - 1, n + 1))
                found.append((hit, a, b, hit.text[spans[first][0] : spans[last][1]]))
        if not found:
            return (), {}
        near = self._similar(question, [(hit, hit.text[a:b], a) for hit, a, b, _ in found])
        covered = np.array([self._covered(question, f"{hit.title} {around}") for hit, _, _, around in found])
        own = np.array([self._covered(question, hit.text[a:b]) for hit, a, b, _ in found])
        kind = np.array([_kind(question.text, hit.text[a:b]) for hit, a, b, _ in found])
        meaning = question.vector is not None
        worth = (0.6 * near + 0.2 * covered + 0.15 * own if meaning else 0.5 * covered + 0.4 * own) + 0.05 * kind
        order = np.lexsort((np.arange(len(found)), -np.round(worth, 6)))
        best = int(order[0])
        evidence = tuple(
            Evidence(
                hit=found[i][0],
                quote=found[i][0].text[found[i][1] : found[i][2]],
                start=found[i][0].start + found[i][1],
                end=found[i][0].start + found[i][2],
                score=float(min(1.0, max(0.0, worth[i]))),
                around=found[i][3],
            )
            for i in order
        )
        home = found[best][0]
        features = {
            "bias": 1.0,
            "sentence": float(near.max()),
            "passage": max(cosines, default=0.0),
            "covered": float(covered[best]),
            "covered_passage": max(self._covered(question, f"{hit.title} {hit.text}") for hit in {home, hits[0]}),
            "words": words,
            "margin": float(near.max() - np.median(near)),
        }
        return evidence, features

    def _similar(self, question: Question, sentences: Sequence[tuple[Hit, str, int]]) -> NDArray[np.float64]:
        if question.vector is None:
            return np.zeros(len(sentences), np.float64)
        keys = [(hit.row, at) for hit, _, at in sentences]
        new = [i for i, key in enumerate(keys) if key not in self._vectors]
        if new:
            texts = [f"{sentences[i][0].title}: {sentences[i][1]}" for i in new]
            for i, vector in zip(new, self._embed(texts), strict=True):
                self._vectors[keys[i]] = vector
        out = np.array([float(self._vectors[key] @ question.vector) for key in keys], np.float64)
        while len(self._vectors) > _KEPT:
            self._vectors.popitem(last=False)
        return out

    def _covered(self, question: Question, text: str) -> float:
        """Share of the question's words, weighted by how rare they are, that the text has."""
        total = float(question.weights.sum())
        return float(question.weights[np.isin(question.terms, self._terms(text))].sum()) / total if total > 0 else 0.0


def _heads(row: str, following: str) -> bool:
    """Is this the first line of a table? Its names stand in every row again, so it says nothing by itself."""
    return _ROW in row and row.partition(_ROW)[0] + ": " in following


def confidence(features: Mapping[str, float], *, meaning: bool) -> float:
    """The calibrated chance that the evidence answers the question, 0..1; 0 without evidence."""
    if not features:
        return 0.0
    weights = WITH_MEANING if meaning else BY_WORDS
    total = sum(w * features[name] for name, w in zip(FEATURES, weights, strict=True))
    return 1.0 / (1.0 + math.exp(-total))


def _kind(question: str, sentence: str) -> float:
    """1 if the sentence has what the question asks for (number, time, name), -1 if it lacks it, 0 if unclear."""
    for asked, has in ((_NUMBER, _HAS_NUMBER), (_TIME, _HAS_TIME), (_PERSON, _NAME)):
        if asked.search(question):
            return 1.0 if has.search(sentence) else -1.0
    return 0.0


def fit(rows: Sequence[Mapping[str, float]], answered: Sequence[bool], ridge: float = 1.0) -> tuple[float, ...]:
    """Logistic regression by Newton's method with a small ridge: how the coefficients above were made."""
    x: Any = np.array([[row[name] for name in FEATURES] for row in rows], np.float64)
    y = np.array(answered, np.float64)
    w = np.zeros(x.shape[1])
    shrink = ridge * np.eye(x.shape[1])
    shrink[0, 0] = 1e-6
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ w))
        step = np.linalg.solve(x.T @ (x * (p * (1 - p))[:, None]) + shrink, x.T @ (y - p) - shrink @ w)
        w = w + step
        if np.abs(step).max() < 1e-9:
            break
    return tuple(round(float(v), 3) for v in w)
