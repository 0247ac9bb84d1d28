"""Every Protocol that a user may replace, on one page. Our own engines enter by the same door
(entry points, see ``plugins.py``); each port has a conformance suite in ``drystone.testing``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from drystone.records import Classification, Failure, Item, Label, Parsed, Usage


@runtime_checkable
class Source(Protocol):
    """Where data comes from. Built with ``(config: SourceConfig, settings: Settings)``.

    ``partial``, an optional attribute: after a listing, why it may lack things (a limit was reached), or ``""``. What
    such a listing lacks stays as it was, and the report says so.
    """

    name: str

    def list(self) -> Iterator[Item | Failure]:
        """Everything that is there now, and a ``Failure`` for each thing that is there but cannot come in.
        Raises ``SourceUnavailable`` if the listing cannot be trusted."""
        ...

    def read(self, item: Item) -> bytes:
        """The bytes of one item, whole."""
        ...

    def watched(self) -> Sequence[str]:
        """Local paths whose change is worth a new listing; empty where there are none."""
        ...


@runtime_checkable
class LiveSource(Source, Protocol):
    """A source that can be asked about one item at any time, cheaply: for who may read it now."""

    def look(self, id: str) -> Item | None:
        """The item as it is now, permissions included; ``None`` if it is gone or cannot be looked at."""
        ...


Look = Callable[[Sequence[str]], Mapping[str, Label | None]]
"""What sources with ``permissions = "source"`` say now: by document name its label, ``None`` for none. Documents of
other sources are not in it."""


@runtime_checkable
class Parser(Protocol):
    """Bytes to text. Runs inside a limited worker process: no network, bounded time and memory.

    ``version`` changes whenever the same bytes may give another text: documents are then read again. If ``parse`` also
    takes ``reading: Reading`` it is given the source's passwords and the limits. Heavy libraries are imported inside
    ``parse``; one that is missing is ``ParseFailed(kind="engine_missing")``, naming the extra that brings it.

    ``slow``, an optional attribute: ``module:attribute`` of the parser that takes over in a process with more time and
    memory when this one raises ``ParseFailed(kind="slow")``; a parser that names itself is always run there.
    """

    name: str
    version: str
    media_types: tuple[str, ...]

    def parse(self, data: bytes, *, name: str, media_type: str) -> Parsed:
        """Raises ``ParseFailed`` with a typed ``kind``."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Texts to unit vectors. ``digest`` identifies weights, tokenizer, pooling and precision together.

    An embedder is a sink: what may not flow to it is not embedded.
    """

    name: str
    digest: str
    dimensions: int
    languages: tuple[str, ...]  # those it was measured on

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape (len(texts), dimensions), float32, rows of length 1."""
        ...


@dataclass(frozen=True, slots=True)
class Completion:
    """One completion of a model endpoint, with what it cost."""

    text: str
    usage: Usage
    finish: str
    runtime: Mapping[str, Any]  # what a replay needs: build, threads, seed, parameters


@runtime_checkable
class Model(Protocol):
    """A chat model endpoint. ``digest`` is that of the weights, or of the endpoint's declaration."""

    name: str
    digest: str
    clearance: Classification
    regions: frozenset[str]
    purposes: frozenset[str] | None

    def complete(
        self, messages: Sequence[Mapping[str, str]], *, max_tokens: int, stop: Sequence[str] = ()
    ) -> Completion: ...

    def stream(
        self, messages: Sequence[Mapping[str, str]], *, max_tokens: int, stop: Sequence[str] = ()
    ) -> Iterator[str]: ...

    def close(self) -> None: ...


@runtime_checkable
class Guard(Protocol):
    """Looks at what comes in or goes out, and gives a signal; the policy decides what follows."""

    name: str
    version: str

    def check(self, text: str, *, where: str) -> Mapping[str, float]:
        """Scores by kind, 0..1. ``where`` is ``question`` or ``answer``."""
        ...


@runtime_checkable
class KeyStore(Protocol):
    """Holds the root key. The file in ``keys/`` is one; an HSM or Vault transit can be another."""

    def wrap(self, key: bytes, *, context: bytes) -> bytes: ...

    def unwrap(self, wrapped: bytes, *, context: bytes) -> bytes: ...


@runtime_checkable
class Progress(Protocol):
    """Where long work reports. ``total`` is ``None`` where unknown."""

    def __call__(self, step: str, done: int, total: int | None) -> None: ...
