"""What the three stacks have in common: a line of JSON asks, a line of JSON answers. Imports no stack and nothing of ours.

A driver is a class with ``open``, ``ingest``, ``search``, ``embed``, ``chunks``, ``vectors`` and ``close``; ``serve`` runs it in
the stack's own environment. Every text that is embedded passes the one ``Meter``, which counts, fails or kills.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

CHUNK = 900  # code points of a chunk, in all three
DIMENSIONS = 384


class EmbedderDown(RuntimeError):
    """What an embedding service that fails looks like to the framework."""


class Meter:
    """Counts texts. At the text number ``fail_at`` it raises, at ``kill_at`` the process dies as by kill -9."""

    def __init__(self) -> None:
        self.texts, self.on = 0, True
        self.fail_at: int | None = None
        self.kill_at: int | None = None
        self.lose_at: int | None = None

    def count(self, texts: int) -> None:
        """Before each call of the embedder with texts of documents."""
        if not self.on:
            return
        if self.kill_at is not None and self.texts + texts > self.kill_at:
            die()
        if self.fail_at is not None and self.texts + texts > self.fail_at:
            self.texts = self.fail_at
            raise EmbedderDown("the embedder went away")
        self.texts += texts

    def between(self) -> None:
        """Between the write of vectors and the note that they were written: the worst moment to die."""
        if self.lose_at is not None and self.texts >= self.lose_at:
            die()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


METER = Meter()
_directions: dict[str, Any] = {}


def hashed(texts: Sequence[str], salt: str = "") -> Any:
    """Words hashed to directions, (n, 384) unit rows: an instant embedder, for what only counts."""
    import numpy as np

    out = np.zeros((len(texts), DIMENSIONS), np.float32)
    for row, text in enumerate(texts):
        for word in re.findall(r"\w+", text.lower()):
            key = salt + word
            if key not in _directions:
                seed = int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big")
                _directions[key] = np.random.default_rng(seed).standard_normal(DIMENSIONS).astype(np.float32)
            out[row] += _directions[key]
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)


def rotation() -> Any:
    """A turn of the space, (384, 384): the same weights behind it are another model, as good in itself, and as MiniLM
    and its successor are, strangers to each other."""
    import numpy as np

    turned, _ = np.linalg.qr(np.random.default_rng(7).standard_normal((DIMENSIONS, DIMENSIONS)))
    return turned.astype(np.float32)


def same_vectors(before: dict[tuple[str, str], Any], after: dict[tuple[str, str], Any]) -> dict[str, int]:
    """How many of the vectors are what they were, and how many are the other model's."""
    import numpy as np

    turned = rotation()
    found = {"old": 0, "new": 0, "neither": 0}
    for key, vector in after.items():
        was = before.get(key)
        old, new = (0.0, 0.0) if was is None else (float(np.dot(was, vector)), float(np.dot(was @ turned, vector)))
        found["old" if old > 0.99 else "new" if new > 0.99 else "neither"] += 1
    return found


def serve(driver: Any) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    before: dict[tuple[str, str], Any] = {}
    for line in sys.stdin:
        ask = json.loads(line)
        do, answer = ask.pop("do"), {}
        started, texts = time.perf_counter(), METER.texts
        try:
            if do == "open":
                answer = driver.open(Path(ask["store"]), Path(ask["files"]), ask["mode"], ask["model"]) or {}
            elif do == "ingest":
                for name in ("fail_at", "kill_at", "lose_at"):
                    at = ask.get(name)
                    setattr(METER, name, None if at is None else METER.texts + at)
                answer = driver.ingest(ask.get("readers", "staff"), force=bool(ask.get("force"))) or {}
            elif do == "search":
                answer = {"found": [driver.search(text, ask["readers"]) for text in ask["texts"]]}
            elif do == "embed":
                answer = {"vectors": [[float(x) for x in driver.embed(text)] for text in ask["texts"]]}
            elif do == "chunks":
                answer = {"chunks": driver.chunks()}
            elif do == "remember":
                before = driver.vectors()
            elif do == "compare":
                answer = same_vectors(before, driver.vectors())
            elif do == "close":
                driver.close()
            error = ""
        except Exception as problem:
            error = f"{type(problem).__name__}: {problem}"[:300]
            if not isinstance(problem, EmbedderDown):
                traceback.print_exc(limit=-4)
        METER.fail_at = METER.kill_at = METER.lose_at = None
        say(
            {
                **answer,
                "error": error,
                "seconds": time.perf_counter() - started,
                "embedded": METER.texts - texts,
            }
        )
