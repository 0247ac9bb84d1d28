"""``Writer``: turns permitted hits into a prompt, and a draft into an answer whose every citation holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drystone.answer import check as checking
from drystone.answer import compose as composing
from drystone.answer.support import Similarity
from drystone.records import Checked, Draft, Hits, Prompt, Request

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drystone.index import Index
    from drystone.ledger.runs import Run
    from drystone.models import Models
    from drystone.settings import Settings


class Writer:
    """Holds nothing of a question: thread-safe. ``index`` lends its embedder for comparing meanings."""

    def __init__(self, *, index: Index, settings: Settings, models: Models) -> None:
        self._index = index
        self._settings = settings
        self.sentences = int(settings["answer.sentences"])
        self.max_tokens = int(settings["answer.max_tokens"])
        self._models = models

    def compose(self, request: Request, hits: Hits, run: Run) -> Prompt:
        """The exact text that a model would see, or the evidence that will be quoted. Notes ``compose``."""
        with run.time("compose"):
            prompt = composing.compose(
                request, hits, settings=self._settings, configured=self._models.names, grounded=self.grounded
            )
            run.note("compose", prompt=prompt)
            return prompt

    def check(self, draft: Draft, prompt: Prompt, run: Run) -> Checked:
        """The answer that the evidence bears. Notes ``check`` with a verdict for every sentence."""
        with run.time("check"):
            result = checking.check(
                draft,
                prompt,
                limit=self.sentences,
                similarity=self.similarity(),
                trusted=draft.model is not None and self.grounded(draft.model),
            )
            run.note("check", checked=result.checked, dropped=result.dropped, verdicts=list(result.verdicts))
            return result.checked

    def grounded(self, name: str) -> bool:
        """Did this model, as it is now, pass the grounding set of this release with this release's prompt?"""
        from drystone.answer.grounding import identity

        found = self._models.checked(name)
        return bool(
            found and found["passed"] and found["template"] == composing.TEMPLATE and found["set"] == identity()
        )

    def similarity(self) -> Similarity | None:
        """Cosine of two texts' meanings, if the embedder runs in this process.

        A remote embedder is a sink of its own; the check then goes by words alone, which is stricter.
        """
        embedder = self._index.embedder
        if not getattr(embedder, "local", False):
            return None
        vectors: dict[str, NDArray[np.float32]] = {}

        def similar(a: str, b: str) -> float:
            for text in {a, b} - vectors.keys():
                vectors[text] = embedder.embed([text])[0]
            return float(vectors[a] @ vectors[b])

        return similar
