"""The index: chunks, vectors, postings and generations.

Guarantees: every chunk of a document becomes a row, embedded or not; what was embedded before is not embedded
again; a document that may not flow to the embedder, or is in a language it was not measured on, is searched by words
alone, and the run says so; all vectors of a generation come from one model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from drystone.index.sentences import sentences

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drystone.lake import Lake, Rows
    from drystone.ledger import Ledger
    from drystone.ledger.catalog import Pointer
    from drystone.ledger.runs import Run
    from drystone.policy import Policy
    from drystone.ports import Embedder, Progress
    from drystone.records import Batch, Document, Label
    from drystone.settings import Settings

__all__ = ["Index", "sentences"]


class Index:
    """Thread-safe. ``embedder``: one that the caller made; ``None`` is that of ``[embedding]``.

    ``progress`` is told of the step ``embed``.
    """

    def __init__(
        self, *, lake: Lake, ledger: Ledger, policy: Policy, settings: Settings, embedder: Embedder | None = None,
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        from drystone.index.terms import Analyser

        self._lake, self._ledger, self._policy, self._settings = lake, ledger, policy, settings
        self.embedder = embedder or _configured(settings)
        self.generation = f"g:{self.embedder.digest[:32]}"
        self._progress = progress
        self._home = embedder is not None or bool(getattr(self.embedder, "local", False))
        self._analyser = Analyser(ledger.digest("k", "terms").encode())

    def rows(self, documents: Sequence[Document], batch: Batch, run: Run) -> tuple[Rows, int]:
        """What one commit brings, and how many texts were embedded for it."""
        from drystone.index.rows import build

        if self.stale:
            self.build_generation(run)
        return build(self, documents, batch, run)

    def told(self, done: int, total: int) -> None:
        """Progress of an embedding."""
        if self._progress is not None:
            self._progress("embed", done, total)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Shape (dimensions,), length 1; comparable with vectors of ``generation`` and no other."""
        vector: NDArray[np.float32] = self.embedder.embed([text])[0]
        return vector

    def permits(self, label: Label) -> bool:
        """May a text with this label flow to the embedder? Ask before ``embed_query``: a question is a text too."""
        from drystone.index.rows import permitted

        return permitted(self, label)

    def terms(self, text: str) -> NDArray[np.uint64]:
        """Keyed terms in order, repeated as they occur: the same analyser for documents and questions."""
        return self._analyser.terms(text)

    def language(self, text: str) -> str:
        """An ISO 639-1 code, or ``und``."""
        from drystone.index.language import language

        return language(text)

    def measured(self, language: str) -> bool:
        """May meaning be searched in this language? ``und`` is given the benefit of the doubt."""
        return language == "und" or not self.embedder.languages or language in self.embedder.languages

    @property
    def stale(self) -> bool:
        """Do the vectors in force come from another model than the configured one? Then words alone are searched."""
        return self._ledger.catalog.pointer().generation not in (None, self.generation)

    def build_generation(self, run: Run, progress: Progress | None = None) -> Pointer:
        """Embed what the configured model has not embedded yet, then put its generation in force, in one commit."""
        from drystone.index.generations import build

        return build(self, run, progress or self._progress)

    def switch_back(self, run: Run) -> Pointer:
        """Back to a generation that was in force before: ``[embedding]`` must name its model again."""
        from drystone.index.generations import back

        return back(self, run)


def _configured(settings: Settings) -> Embedder:
    from drystone import plugins

    options: Mapping[str, Any] = settings.embedding
    embedder: Embedder = plugins.load("embedders", str(options["type"]))(options, settings=settings)
    return embedder
