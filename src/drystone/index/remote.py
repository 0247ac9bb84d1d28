"""Embeddings from any OpenAI-compatible endpoint. Imports ``httpx`` when the first text is embedded.

Guarantees: an endpoint that says nothing about its clearance gets public texts only (decided before the text comes
here); an answer with too few, misplaced or wrongly sized vectors is an error; what a second try can mend is tried again
with growing pauses; a key and a text appear in no message.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from drystone.errors import ModelUnavailable, SettingsError
from drystone.settings import Settings

if TYPE_CHECKING:
    import httpx

TRIES = 5
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class OpenAIEmbedder:
    """``[embedding]`` takes ``url``, ``model``, ``dimensions`` (required); ``key`` (``env:`` or ``file:``),
    ``clearance``, ``regions``, ``purposes``, ``languages``, ``batch`` (64 texts), ``timeout_s`` (60), and
    ``shorten = true`` if the endpoint can cut vectors to ``dimensions`` itself. ``revision``: write a new one when the
    model behind the same name has changed: it names the generation."""

    local = False

    def __init__(self, options: Mapping[str, Any], *, settings: Settings, transport: Any = None) -> None:
        missing = [name for name in ("url", "model", "dimensions") if not options.get(name)]
        if missing:
            raise SettingsError(
                f"[embedding] of type openai lacks {', '.join(missing)}.",
                looked="We read [embedding].",
                todo='Write url = "https://HOST/v1", model = "NAME" and dimensions = NUMBER.',
            )
        self._url = str(options["url"]).rstrip("/") + "/embeddings"
        self._model, self.dimensions = str(options["model"]), int(options["dimensions"])
        self.name = self._model
        self.languages = tuple(options.get("languages", ()))
        self._key = options.get("key")
        self._batch, self._timeout = int(options.get("batch", 64)), float(options.get("timeout_s", 60))
        self._shorten = bool(options.get("shorten", False))
        self._settings, self._transport = settings, transport
        self._client: httpx.Client | None = None
        identity = [self._url, self._model, str(self.dimensions), str(options.get("revision", ""))]
        self.digest = hashlib.sha256("\n".join(identity).encode()).hexdigest()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, shape (len(texts), dimensions), in the order of ``texts``."""
        out = np.zeros((len(texts), self.dimensions), np.float32)
        for first in range(0, len(texts), self._batch):
            part = list(texts[first : first + self._batch])
            out[first : first + len(part)] = self._ask(part)
        length = np.linalg.norm(out, axis=1, keepdims=True)
        if len(out) and not (length > 0).all():
            raise self._wrong("a vector of length 0")
        out /= length
        return out

    def _ask(self, texts: list[str]) -> NDArray[np.float32]:
        body: dict[str, Any] = {"model": self._model, "input": texts, "encoding_format": "float"}
        if self._shorten:
            body["dimensions"] = self.dimensions
        try:
            rows = sorted(self._send(body)["data"], key=lambda row: int(row["index"]))
            vectors = np.array([row["embedding"] for row in rows], np.float32)
        except (KeyError, TypeError, ValueError):
            raise self._wrong("something that is not a list of vectors") from None
        if [int(row["index"]) for row in rows] != list(range(len(texts))) or not np.isfinite(vectors).all():
            raise self._wrong("other vectors than were asked for")
        if vectors.shape[1:] != (self.dimensions,):
            raise self._wrong(f"vectors of {vectors.shape[-1]} dimensions instead of {self.dimensions}")
        return vectors

    def _send(self, body: dict[str, Any]) -> Any:
        import httpx

        if self._client is None:
            self._client = httpx.Client(timeout=self._timeout, transport=self._transport, trust_env=False)
        secret = self._settings.secret(self._key, "the key of [embedding]") if self._key else ""
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        said = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(_pause(attempt))
            try:
                response = self._client.post(self._url, json=body, headers=headers)
            except httpx.TransportError as error:
                said = type(error).__name__
                continue
            if response.status_code == 200:
                return response.json()
            said = f"status {response.status_code}"
            if response.status_code not in AGAIN:
                break
        raise ModelUnavailable(
            f"The embedding endpoint {self.name} did not answer as it should.",
            looked=f"We asked {self._url}; it said {said}.",
            todo="Check url, key and model in [embedding]; nothing was committed, so run again when it is back.",
        )

    def _wrong(self, what: str) -> ModelUnavailable:
        return ModelUnavailable(
            f"The embedding endpoint {self.name} gave {what}.",
            looked=f"We asked {self._url}.",
            todo="Check model and dimensions in [embedding]; nothing was committed.",
        )


def _pause(attempt: int) -> float:
    """Seconds: doubling from a quarter, with jitter, so that many callers do not come back together."""
    return 0.25 * 2.0 ** (attempt - 1) * random.uniform(0.75, 1.25)
