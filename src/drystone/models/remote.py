"""An OpenAI-compatible chat endpoint: vLLM, SGLang, TGI, Ollama, OpenAI, Azure.

Guarantees: nothing is sent but to the declared URL: redirects are not followed, and proxies and credentials that
the process's environment happens to name are not used. The key is read when first used, goes into one header, and
into no message, log or record. A call is repeated, with a growing pause, only while nothing of its answer was
handed on. Whatever goes wrong is one typed error, ``ModelUnavailable``.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from drystone.errors import ModelUnavailable, SettingsError
from drystone.ports import Completion
from drystone.records import Usage
from drystone.settings import ModelConfig, Settings

if TYPE_CHECKING:
    import httpx

OPTIONS = {"url", "model", "key", "price_prompt", "price_completion", "currency", "retries", "temperature", "seed",
           "schema"}  # fmt: skip
# For an endpoint that can be held to a schema: what comes first decides the rest, so evidence before words.
_ROW = {
    "type": "object",
    "properties": {"evidence": {"type": "array", "items": {"type": "integer"}}, "text": {"type": "string"}},
    "required": ["evidence", "text"],
    "additionalProperties": False,
}
SCHEMA = {
    "type": "object",
    "properties": {"sentences": {"type": "array", "items": _ROW}},
    "required": ["sentences"],
    "additionalProperties": False,
}
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
PAUSE_S = 0.25  # before the first repetition; doubles each time
LONGEST_PAUSE_S = 8.0


class OpenAIModel:
    """``type = "openai"``. Options: ``url`` (up to ``/v1``), ``model``, ``key`` (``env:NAME`` or ``file:PATH``),
    ``price_prompt`` and ``price_completion`` (per million tokens) with ``currency``, ``retries`` (2),
    ``temperature`` (0), ``seed`` (0), ``schema`` (true holds the answer to a JSON schema)."""

    def __init__(self, config: ModelConfig, settings: Settings) -> None:
        options = config.options
        self.name = config.name
        self.clearance, self.regions, self.purposes = config.clearance, config.regions, config.purposes
        unknown = set(options) - OPTIONS
        if unknown:
            raise self._wrong(f"has {', '.join(sorted(unknown))}, which we do not know", sorted(OPTIONS))
        self._url = str(options.get("url", "")).rstrip("/")
        parts = urlsplit(self._url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise self._wrong("has no usable url", ['url = "https://HOST/v1", without a key or a query in it'])
        if not isinstance(options.get("model"), str) or not options["model"]:
            raise self._wrong("does not name its model", ['model = "NAME"'])
        self._model = str(options["model"])
        self._key = str(options.get("key", ""))
        if self._key and not self._key.startswith(("env:", "file:")):
            raise self._wrong("has a key that is not a reference", ['key = "env:NAME" or key = "file:PATH"'])
        self._settings = settings
        self._prices = tuple(self._price(options, k) for k in ("price_prompt", "price_completion"))
        self._currency = str(options.get("currency", "USD"))
        self._retries = int(options.get("retries", 2))
        self._seed, self._temperature = int(options.get("seed", 0)), float(options.get("temperature", 0.0))
        self._schema = bool(options.get("schema", False))
        self._timeout = float(settings["models.timeout_s"])
        declared = json.dumps([self._url, self._model, self._seed, self._temperature, self._schema])
        self.digest = "declared:" + hashlib.sha256(declared.encode()).hexdigest()
        self._lock = threading.Lock()
        self._opened: httpx.Client | None = None

    def complete(
        self, messages: Sequence[Mapping[str, str]], *, max_tokens: int, stop: Sequence[str] = ()
    ) -> Completion:
        """Raises ``ModelUnavailable``, or ``SettingsError`` where the key cannot be read."""
        body = self._body(messages, max_tokens, stop)
        deadline = time.monotonic() + self._timeout
        for attempt in range(self._retries + 1):
            try:
                with self._sent(body, deadline) as response:
                    return self._completion(_json(b"".join(_within(response, deadline, self.name)), self.name), body)
            except _Again as error:
                self._pause(attempt, error, deadline)
        raise AssertionError("the last attempt raises")  # pragma: no cover

    def stream(
        self, messages: Sequence[Mapping[str, str]], *, max_tokens: int, stop: Sequence[str] = ()
    ) -> Iterator[str]:
        """Parts of the text (server-sent events). After the first part nothing is repeated."""
        body = {**self._body(messages, max_tokens, stop), "stream": True}
        deadline = time.monotonic() + self._timeout
        handed = False
        for attempt in range(self._retries + 1):
            try:
                with self._sent(body, deadline) as response:
                    for part in self._parts(response, deadline):
                        handed = True
                        yield part
                return
            except _Again as error:
                if handed:
                    raise _broken(self.name) from None
                self._pause(attempt, error, deadline)

    def close(self) -> None:
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    # -- one call ------------------------------------------------------------------------------------
    def _client(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._opened is None:
                # trust_env=False: no proxy, certificate file or .netrc that the environment happens to name
                self._opened = httpx.Client(trust_env=False, follow_redirects=False)
            return self._opened

    @contextmanager
    def _sent(self, body: Mapping[str, Any], deadline: float) -> Iterator[httpx.Response]:
        """The response, status checked and headers read; transport errors become ours."""
        import httpx

        headers = {"Authorization": f"Bearer {key}"} if (key := self._secret()) else {}
        left = max(0.05, deadline - time.monotonic())
        try:
            with self._client().stream(
                "POST", self._url + "/chat/completions", json=body, headers=headers, timeout=left
            ) as response:
                if response.status_code in AGAIN:
                    raise _Again(f"it answered {response.status_code}", response.headers.get("retry-after"))
                if response.status_code != 200:
                    raise ModelUnavailable(
                        f"The model {self.name!r} answered {response.status_code}.",
                        looked=f"We asked {urlsplit(self._url).hostname}.",
                        todo="Check its url, model and key.",
                    )
                yield response
        except (httpx.TransportError, httpx.DecodingError, httpx.StreamError) as error:
            raise _Again(f"the connection failed ({type(error).__name__})") from None

    def _body(self, messages: Sequence[Mapping[str, str]], max_tokens: int, stop: Sequence[str]) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [dict(m) for m in messages],
            "max_tokens": max_tokens,
            "temperature": self._temperature,
            "seed": self._seed,
        }
        if self._schema:
            described = {"name": "answer", "strict": True, "schema": SCHEMA}
            body["response_format"] = {"type": "json_schema", "json_schema": described}
        return {**body, "stop": list(stop)} if stop else body

    def _completion(self, reply: Any, body: Mapping[str, Any]) -> Completion:
        try:
            choice, used = reply["choices"][0], reply.get("usage") or {}
            text, finish = choice["message"]["content"] or "", str(choice.get("finish_reason") or "stop")
            tokens = int(used.get("prompt_tokens", 0)), int(used.get("completion_tokens", 0))
            if not isinstance(text, str):
                raise TypeError
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise _garbage(self.name) from None
        runtime = {
            "engine": "openai",
            "model": str(reply.get("model") or self._model),
            "build": str(reply.get("system_fingerprint") or ""),
            **{k: body[k] for k in ("temperature", "seed", "max_tokens")},
        }
        return Completion(text.strip(), self._usage(*tokens), finish, runtime)

    def _usage(self, prompt: int, completion: int) -> Usage:
        cost = (self._prices[0] * prompt + self._prices[1] * completion) / 1_000_000
        return Usage(prompt, completion, cost, self._currency)

    def _parts(self, response: httpx.Response, deadline: float) -> Iterator[str]:
        rest = b""
        for piece in _within(response, deadline, self.name):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                line = line.strip()
                if not line.startswith(b"data:"):
                    continue
                data = line[5:].strip()
                if data == b"[DONE]":
                    return
                event = _json(data, self.name)
                try:
                    text = [c["delta"].get("content") for c in event["choices"]]
                except (KeyError, TypeError, AttributeError):
                    raise _garbage(self.name) from None
                yield from (t for t in text if t)
        raise _Again("the stream ended without [DONE]")

    def _pause(self, attempt: int, error: _Again, deadline: float) -> None:
        pause = min(LONGEST_PAUSE_S, max(PAUSE_S * 2**attempt, error.after))
        if attempt >= self._retries or time.monotonic() + pause >= deadline:
            raise ModelUnavailable(
                f"The model {self.name!r} is unavailable: {error.what}.",
                looked=f"We asked {urlsplit(self._url).hostname} {attempt + 1} times.",
                todo="Try again later, or check that the endpoint runs.",
            ) from None
        time.sleep(pause)

    def _secret(self) -> str:
        """Read when first used."""
        what = f"the key of the model {self.name!r}"
        found = self._settings.secret(self._key, what) if self._key else ""
        if not found.isascii() or not found.isprintable():
            raise SettingsError(f"T{what[1:]} is no key.", looked=f"We looked at {self._key}.")
        return found

    def _price(self, options: Mapping[str, Any], name: str) -> Decimal:
        try:
            price = Decimal(str(options.get(name, 0)))
        except InvalidOperation:
            price = Decimal(-1)
        if not (price.is_finite() and price >= 0):
            raise self._wrong(f"has a {name} that is no price", [f'{name} = "0.15" (per million tokens)'])
        return price

    def _wrong(self, what: str, may: Sequence[str]) -> SettingsError:
        return SettingsError(f"The model {self.name!r} {what}.", todo=f"It may have: {', '.join(may)}.")


class _Again(Exception):
    """Something that a repetition may cure. Never leaves this module."""

    def __init__(self, what: str, after: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.after = float(after) if after and after.isdigit() else 0.0


def _within(response: httpx.Response, deadline: float, name: str) -> Iterator[bytes]:
    """The body in pieces. A server that sends a byte now and then must not hold us for ever."""
    for piece in response.iter_bytes():
        if time.monotonic() > deadline:
            raise ModelUnavailable(f"The model {name!r} did not answer in time.", todo="Raise models.timeout_s.")
        yield piece


def _json(data: bytes, name: str) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        raise _garbage(name) from None


def _garbage(name: str) -> ModelUnavailable:
    return ModelUnavailable(f"The model {name!r} answered with something that is no completion.")


def _broken(name: str) -> ModelUnavailable:
    return ModelUnavailable(f"The model {name!r} broke off in the middle of its answer.")
