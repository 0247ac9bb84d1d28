"""A light chat model for tests, and what every model must hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b

from drystone.ports import Completion, Model
from drystone.records import Classification, Usage


class EchoModel:
    """Answers with ``reply(messages)``; keeps what it was sent in ``seen``. Stands in for an endpoint in tests."""

    def __init__(
        self,
        reply: Callable[[Sequence[Mapping[str, str]]], str],
        *,
        name: str = "echo",
        clearance: Classification = Classification.restricted,
        regions: frozenset[str] = frozenset({"local"}),
        purposes: frozenset[str] | None = None,
    ) -> None:
        self.name, self.clearance, self.regions, self.purposes = name, clearance, regions, purposes
        self.digest = blake2b(name.encode(), digest_size=16).hexdigest()
        self.reply = reply
        self.seen: list[Sequence[Mapping[str, str]]] = []

    def complete(
        self, messages: Sequence[Mapping[str, str]], *, max_tokens: int, stop: Sequence[str] = ()
    ) -> Completion:
        self.seen.append(messages)
        text = self.reply(messages)
        usage = Usage(
            prompt_tokens=sum(len(m["content"].split()) for m in messages), completion_tokens=len(text.split())
        )
        return Completion(text, usage, "stop", {"build": "echo"})

    def stream(
        self, messages: Sequence[Mapping[str, str]], *, max_tokens: int, stop: Sequence[str] = ()
    ) -> Iterator[str]:
        yield from self.complete(messages, max_tokens=max_tokens, stop=stop).text.split(" ")

    def close(self) -> None:
        return None


def check_model(model: Model) -> None:
    """A short completion with usage, and a stream; raises ``AssertionError``."""
    messages = [{"role": "user", "content": "Say hello."}]
    done = model.complete(messages, max_tokens=8)
    assert isinstance(done.text, str) and done.finish in ("stop", "length"), "text and how it ended"
    assert done.usage.prompt_tokens > 0 and done.usage.cost >= 0, "usage is counted"
    assert isinstance("".join(model.stream(messages, max_tokens=8)), str), "a stream of text"
    assert model.digest and model.name and isinstance(model.clearance, Classification), "an identity and a clearance"
