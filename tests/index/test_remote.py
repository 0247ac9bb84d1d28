"""An OpenAI-compatible embedding endpoint, over httpx's own in-memory transport: what it says wrongly is an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from drystone.errors import ModelUnavailable, SettingsError
from drystone.index import remote
from drystone.index.remote import OpenAIEmbedder
from drystone.settings import defaults
from drystone.testing import check_embedder

OPTIONS = {"type": "openai", "url": "https://embed.internal/v1/", "model": "m", "dimensions": 3}


def vector(text: str) -> list[float]:
    return [1.0, float(len(text)), float(text.count("e"))]


def good(request: httpx.Request) -> httpx.Response:
    texts = json.loads(request.content)["input"]
    rows = [{"index": i, "embedding": vector(t)} for i, t in enumerate(texts)]
    return httpx.Response(200, json={"data": rows[::-1]})  # order is the index's, not the list's


def make(answer: Callable[[httpx.Request], httpx.Response], **options: Any) -> OpenAIEmbedder:
    return OpenAIEmbedder(
        {**OPTIONS, **options}, settings=defaults(Path("/nowhere")), transport=httpx.MockTransport(answer)
    )


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(remote.time, "sleep", slept.append)
    return slept


def test_it_is_an_embedder() -> None:
    check_embedder(make(good, batch=2))


def test_texts_keep_their_order_over_batches() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return good(request)

    texts = ["a", "bee", "eee", "", "tree"]
    found = make(answer, batch=2).embed(texts)
    expected = np.array([vector(t) for t in texts], np.float32)
    assert np.allclose(found, expected / np.linalg.norm(expected, axis=1, keepdims=True))
    assert [len(json.loads(r.content)["input"]) for r in seen] == [2, 2, 1]
    assert str(seen[0].url) == "https://embed.internal/v1/embeddings" and "authorization" not in seen[0].headers


def test_the_key_comes_from_its_place_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBED_KEY", "s3cret")
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return httpx.Response(401, json={"error": "s3cret is wrong"})

    with pytest.raises(ModelUnavailable) as caught:
        make(answer, key="env:EMBED_KEY").embed(["the text itself"])
    assert seen == ["Bearer s3cret"]  # and once only: 401 is not mended by asking again
    assert "s3cret" not in str(caught.value) and "the text" not in str(caught.value)
    monkeypatch.delenv("EMBED_KEY")
    for key in ("env:EMBED_KEY", "file:/nowhere/key", "s3cret"):
        with pytest.raises(SettingsError) as wrong:
            make(answer, key=key).embed(["x"])
        assert key == "s3cret" or key in str(wrong.value)
        assert "s3cret" not in str(wrong.value)


def test_what_may_pass_is_tried_again_with_growing_pauses(no_pause: list[float]) -> None:
    answers = iter([httpx.Response(503), httpx.Response(429), None])

    def answer(request: httpx.Request) -> httpx.Response:
        return next(answers) or good(request)

    assert make(answer).embed(["bee"]).shape == (1, 3)
    assert len(no_pause) == 2 and 0.1 < no_pause[0] < no_pause[1] < 1


def test_an_endpoint_that_stays_away_is_unavailable(no_pause: list[float]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route")

    with pytest.raises(ModelUnavailable, match="ConnectError"):
        make(answer).embed(["bee"])
    assert len(no_pause) == remote.TRIES - 1


@pytest.mark.parametrize(
    "body",
    [
        {"data": []},
        {"data": [{"index": 1, "embedding": [1, 0, 0]}]},
        {"data": [{"index": 0, "embedding": [1, 0]}]},
        {"data": [{"index": 0, "embedding": [0, 0, 0]}]},
        {"data": [{"index": 0, "embedding": ["x", 0, 0]}]},
        {"data": [{"index": 0, "embedding": [float("nan"), 0, 0]}]},
        {"object": "list"},
        [],
    ],
)
def test_a_wrong_answer_is_an_error_and_not_a_vector(body: Any) -> None:
    with pytest.raises(ModelUnavailable):
        make(lambda _: httpx.Response(200, content=json.dumps(body))).embed(["bee"])


def test_missing_options_are_named_and_the_identity_is_of_model_and_revision() -> None:
    with pytest.raises(SettingsError, match="url, dimensions"):
        OpenAIEmbedder({"type": "openai", "model": "m"}, settings=defaults(Path("/nowhere")))
    assert make(good).digest == make(good, batch=5, key="env:X").digest
    assert len({make(good).digest, make(good, model="n").digest, make(good, revision="2").digest}) == 3
