"""A remote endpoint, and everything that goes wrong with one."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from drystone.errors import ModelUnavailable, SettingsError
from drystone.models import remote
from drystone.models.remote import OpenAIModel
from drystone.settings import defaults
from drystone.testing import check_model
from tests.models.endpoint import GOOD, Endpoint, config, dripping, hanging_up, running, slow, streaming

ASK = [{"role": "user", "content": "the secret question"}]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setattr(remote, "PAUSE_S", 0.01)
    with running() as endpoint:
        yield endpoint


def model(server: Endpoint, folder: Path, timeout: float = 5.0, **options: Any) -> OpenAIModel:
    return OpenAIModel(
        config("big", url=server.url, model="big-1", **options), defaults(folder, models__timeout_s=timeout)
    )


def test_an_answer_with_usage_price_and_what_a_replay_needs(server: Endpoint, tmp_path: Path) -> None:
    made = model(server, tmp_path, price_prompt="0.15", price_completion="0.60", currency="EUR")
    done = made.complete(ASK, max_tokens=7)
    assert done.text == "Items may be returned within 45 days. [1]"
    assert done.usage.cost == Decimal("0.00045") and done.usage.currency == "EUR"
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (1000, 500)
    assert done.runtime == {
        "engine": "openai", "model": "big-1", "build": "fp7", "temperature": 0.0, "seed": 0, "max_tokens": 7,
    }  # fmt: skip
    assert server.seen[0][1]["messages"] == ASK
    made.close()


def test_it_holds_what_every_model_must(server: Endpoint, tmp_path: Path) -> None:
    server.script = [GOOD, streaming("Hel", "lo")]
    made = model(server, tmp_path)
    check_model(made)
    made.close()


@pytest.mark.parametrize("failures", [[500], [503, 429], [hanging_up], [hanging_up, 500]])
def test_it_asks_again_while_nothing_was_handed_on(server: Endpoint, tmp_path: Path, failures: list[Any]) -> None:
    server.script = [*failures, GOOD]
    made = model(server, tmp_path)
    assert "45 days" in made.complete(ASK, max_tokens=7).text
    assert len(server.seen) == len(failures) + 1
    made.close()


def test_it_gives_up_in_the_end_and_says_nothing_of_the_prompt(server: Endpoint, tmp_path: Path) -> None:
    server.script = [500] * 9
    made = model(server, tmp_path, retries=2)
    with pytest.raises(ModelUnavailable, match="it answered 500") as error:
        made.complete(ASK, max_tokens=7)
    assert len(server.seen) == 3 and "secret" not in str(error.value)
    made.close()


@pytest.mark.parametrize("status", [400, 401, 404, 307])
def test_a_refused_call_is_not_repeated_and_no_redirect_is_followed(
    server: Endpoint, tmp_path: Path, status: int
) -> None:
    server.script = [lambda h: h.answer(status, b"", location=server.url + "/elsewhere")]
    made = model(server, tmp_path)
    with pytest.raises(ModelUnavailable, match=str(status)):
        made.complete(ASK, max_tokens=7)
    assert len(server.seen) == 1
    made.close()


@pytest.mark.parametrize(
    "reply", [b"<html>", b"{}", b"[]", b'{"choices": []}', b'{"choices": [{"message": {"content": 3}}]}', b"\xff", b"7"]
)
def test_garbage_is_unavailable_too(server: Endpoint, tmp_path: Path, reply: bytes) -> None:
    server.script = [reply]
    made = model(server, tmp_path)
    with pytest.raises(ModelUnavailable, match="no completion"):
        made.complete(ASK, max_tokens=7)
    made.close()


@pytest.mark.parametrize("step", [slow(1.0), dripping])
def test_nothing_takes_longer_than_the_time_limit(server: Endpoint, tmp_path: Path, step: Any) -> None:
    server.script = [step] * 3
    made = model(server, tmp_path, timeout=0.3)
    with pytest.raises(ModelUnavailable):
        made.complete(ASK, max_tokens=7)
    made.close()


def test_a_stream_arrives_in_parts(server: Endpoint, tmp_path: Path) -> None:
    server.script = [503, streaming("Zwölf", " Tage", ". [1]")]
    made = model(server, tmp_path)
    assert list(made.stream(ASK, max_tokens=7)) == ["Zwölf", " Tage", ". [1]"]
    assert server.seen[-1][1]["stream"] is True
    made.close()


@pytest.mark.parametrize("step", [streaming("half", done=False), streaming("half", garbage=True)])
def test_a_stream_that_breaks_is_not_begun_again(server: Endpoint, tmp_path: Path, step: Any) -> None:
    server.script = [step, GOOD]
    made = model(server, tmp_path)
    parts = []
    with pytest.raises(ModelUnavailable):
        for part in made.stream(ASK, max_tokens=7):
            parts.append(part)
    assert parts == ["half"] and len(server.seen) == 1
    made.close()


def test_a_stream_that_broke_before_its_first_part_is_begun_again(server: Endpoint, tmp_path: Path) -> None:
    server.script = [streaming(done=False), streaming("whole")]
    made = model(server, tmp_path)
    assert list(made.stream(ASK, max_tokens=7)) == ["whole"]
    made.close()


def test_the_key_goes_into_one_header_and_nowhere_else(
    server: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("THE_KEY", "sk-very-private")
    (tmp_path / "key").write_text("sk-from-file\n")
    server.script = [GOOD, GOOD, 401]
    one, two = model(server, tmp_path, key="env:THE_KEY"), model(server, tmp_path, key="file:key")
    runtime = [m.complete(ASK, max_tokens=7).runtime for m in (one, two)]
    with pytest.raises(ModelUnavailable) as error:
        one.complete(ASK, max_tokens=7)
    assert [h["Authorization"] for h, _ in server.seen[:2]] == ["Bearer sk-very-private", "Bearer sk-from-file"]
    for said in (caplog.text, str(error.value), repr(runtime), one.digest, repr(one)):
        assert "sk-" not in said
    one.close()
    two.close()


@pytest.mark.parametrize("key", ["env:NOT_THERE", "file:not-there"])
def test_a_missing_key_is_said_and_nothing_is_sent(server: Endpoint, tmp_path: Path, key: str) -> None:
    made = model(server, tmp_path, key=key)
    with pytest.raises(SettingsError, match=key):
        made.complete(ASK, max_tokens=7)
    assert server.seen == []
    made.close()


def test_a_proxy_of_the_environment_is_not_used(
    server: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    made = model(server, tmp_path)
    assert made.complete(ASK, max_tokens=7).finish == "stop"
    made.close()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"url": "ftp://x/v1", "model": "m"},
        {"url": "https://user:pw@x/v1", "model": "m"},
        {"url": "https://x/v1?key=1", "model": "m"},
        {"url": "https://x/v1"},
        {"url": "https://x/v1", "model": "m", "key": "sk-plain"},
        {"url": "https://x/v1", "model": "m", "price_prompt": "free"},
        {"url": "https://x/v1", "model": "m", "price_prompt": "-1"},
        {"url": "https://x/v1", "model": "m", "colour": "red"},
    ],
)
def test_a_wrong_declaration_is_refused_without_repeating_a_key(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as error:
        OpenAIModel(config("big", **options), defaults(tmp_path))
    assert "sk-plain" not in str(error.value) and "pw" not in str(error.value)


def test_a_schema_asks_for_the_evidence_before_the_words(server: Endpoint, tmp_path: Path) -> None:
    made = model(server, tmp_path, schema=True)
    made.complete(ASK, max_tokens=7)
    wanted = server.seen[0][1]["response_format"]["json_schema"]["schema"]["properties"]["sentences"]["items"]
    assert list(wanted["properties"]) == ["evidence", "text"]
    assert made.digest != model(server, tmp_path).digest
    made.close()


def test_another_declaration_is_another_identity(tmp_path: Path) -> None:
    a, b, c = (
        OpenAIModel(config("big", url=f"https://{host}/v1", model=name), defaults(tmp_path)).digest
        for host, name in (("x", "m"), ("y", "m"), ("x", "n"))
    )
    assert len({a, b, c}) == 3
