"""A light embedder for tests, and what every embedder must hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from drystone.ports import Embedder


class HashEmbedder:
    """Words hashed to directions: texts that share words are near. Deterministic, no weights, instant."""

    languages = ("en",)

    def __init__(self, dimensions: int = 64, salt: str = "") -> None:
        self.name = f"hash-{dimensions}{salt}"
        self.digest = blake2b(self.name.encode(), digest_size=16).hexdigest()
        self.dimensions = dimensions
        self.salt = salt
        self.calls = 0
        self.embedded = 0
        self._words: dict[str, NDArray[np.float32]] = {}

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls += 1
        self.embedded += len(texts)
        out = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()) or ["\0"]:
                out[row] += self._direction(word)
        lengths = np.linalg.norm(out, axis=1, keepdims=True)
        out[lengths[:, 0] == 0, 0] = 1.0
        return (out / np.where(lengths == 0, 1, lengths)).astype(np.float32)

    def _direction(self, word: str) -> NDArray[np.float32]:
        found = self._words.get(word)
        if found is None:
            seed = int.from_bytes(blake2b((self.salt + word).encode(), digest_size=8).digest(), "big")
            found = np.random.default_rng(seed).standard_normal(self.dimensions).astype(np.float32)
            self._words[word] = found
        return found


def check_embedder(embedder: Embedder) -> None:
    """Shape, type, length 1, determinism, independence of batch mates; raises ``AssertionError``."""
    texts = ["Items may be returned within 45 days.", "A stove", "", "नमस्ते दुनिया", "word " * 500]
    together = embedder.embed(texts)
    assert together.shape == (len(texts), embedder.dimensions), "one row a text, `dimensions` columns"
    assert together.dtype == np.float32, "float32"
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-4), "rows have length 1"
    alone = np.concatenate([embedder.embed([t]) for t in texts])
    assert np.allclose(together, alone, atol=1e-5), "a vector does not depend on its batch mates"
    assert embedder.embed([]).shape == (0, embedder.dimensions), "no text, no row"
    assert embedder.digest and embedder.name, "an identity"
