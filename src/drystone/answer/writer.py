"""``Writer``: turns permitted hits into a prompt, and a draft into an answer whose every citation holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drystone.answer import check as checking
from drystone.answer import compose as composing
from drystone.records import Checked, Draft, Hits, Prompt, Request

if TYPE_CHECKING:
    from drystone.index import Index
    from drystone.ledger.runs import Run
    from drystone.models import Models
    from drystone.settings import Settings


class Writer:
    """Holds nothing of a question: thread-safe. ``index`` lends its embedder for comparing meanings."""

    def __init__(self, *, index: Index, settings: Settings, models: Models) -> None:
        self._index = index
        self._settings = settings
        self._models = models

    def compose(self, request: Request, hits: Hits, run: Run) -> Prompt:
        """The exact text that a model would see, or the evidence that will be quoted. Notes ``compose``."""
        with run.time("compose"):
            prompt = composing.compose(request, hits, settings=self._settings, models=self._models)
            run.note("compose", prompt=prompt)
            return prompt

    def check(self, draft: Draft, prompt: Prompt, run: Run) -> Checked:
        """The answer that the evidence bears. Notes ``check`` with a verdict for every sentence."""
        with run.time("check"):
            result = checking.check(draft, prompt, limit=int(self._settings["answer.sentences"]))
            run.note("check", checked=result.checked, dropped=result.dropped, verdicts=list(result.verdicts))
            return result.checked
