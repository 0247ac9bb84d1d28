"""Which model gets a prompt, and what came of it.

Guarantees: a prompt goes only to an endpoint to which its label flows at the ledger's time; each endpoint
that was considered is on record with the reason; where none may or can answer, the draft says so and the
answer is quoted from the evidence instead. No evidence is ever dropped to make a prompt routable.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from drystone import plugins
from drystone.errors import EngineMissing, ModelUnavailable, SettingsError
from drystone.models import results
from drystone.records import Draft, Prompt, Usage

if TYPE_CHECKING:
    from drystone.ledger.runs import Run
    from drystone.policy import Policy
    from drystone.ports import Completion, Model
    from drystone.settings import ModelConfig, Settings

NONE_CONFIGURED = "no model configured: quoted instead"
NONE_PERMITTED = "no permitted model: quoted instead"
UNCOUNTED = "tokens and price unknown: streamed"
UNAVAILABLE = "model unavailable: quoted instead"


class Models:
    """The project's model endpoints. Thread-safe; an endpoint is built, and started, when first used."""

    def __init__(self, *, settings: Settings, policy: Policy) -> None:
        self._settings = settings
        self._policy = policy
        self._configs = {config.name: config for config in settings.models}
        self._built: dict[str, Model] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._configs)

    def endpoint(self, name: str) -> Model:
        """The endpoint of that name. Raises ``SettingsError``, ``EngineMissing`` or ``DigestMismatch``."""
        config = self._config(name)
        with self._lock:
            if name not in self._built:
                self._built[name] = plugins.load("models", config.type)(config, self._settings)
            return self._built[name]

    def checked(self, name: str) -> dict[str, Any] | None:
        """What ``drystone models check`` measured of this endpoint as it is now; ``None`` where it was not checked."""
        try:
            return results.find(self._settings.state, self.endpoint(name).digest)
        except EngineMissing:
            return None

    def generate(self, prompt: Prompt, run: Run, *, purpose: str) -> Draft:
        """A draft from the first permitted endpoint that answers. Notes ``generate`` on the run.

        In modes ``quoted`` and ``refused`` no model is called. The draft's ``model`` is ``None`` and its text
        empty wherever the answer must be quoted.
        """
        with run.time("generate"):
            routes = self._routes(prompt, run, purpose)
            for name, route in routes:
                if not route["allowed"]:
                    continue
                try:
                    model = self.endpoint(name)
                    done = model.complete(prompt.messages, max_tokens=prompt.max_tokens)
                except (ModelUnavailable, EngineMissing) as error:
                    route["outcome"] = f"unavailable: {error.code}"
                    continue
                route["outcome"] = "used"
                return self._note(run, _draft(name, done), model, dict(done.runtime), routes)
            return self._note(run, _quoted(prompt, routes), None, {}, routes)

    def stream(self, prompt: Prompt, run: Run, *, purpose: str) -> Generator[str, None, Draft]:
        """Like ``generate``, in parts: yields text, returns the draft (``draft = yield from stream(...)``).

        Once a part has left there is no other endpoint to fall back to: a stream that breaks raises
        ``ModelUnavailable``, and the caller seals what left.
        """
        with run.time("generate"):
            routes = self._routes(prompt, run, purpose)
            for name, route in routes:
                if not route["allowed"]:
                    continue
                parts: list[str] = []
                try:
                    model = self.endpoint(name)
                    for part in model.stream(prompt.messages, max_tokens=prompt.max_tokens):
                        parts.append(part)
                        yield part
                except (ModelUnavailable, EngineMissing) as error:
                    route["outcome"] = f"unavailable: {error.code}"
                    if parts:
                        broken = Draft("".join(parts), name, notes=("model broke off", UNCOUNTED), finish="error")
                        self._note(run, broken, model, {}, routes)
                        raise
                    continue
                route["outcome"] = "used"
                draft = Draft("".join(parts), name, notes=(UNCOUNTED,))
                return self._note(run, draft, model, {"streamed": True}, routes)
            return self._note(run, _quoted(prompt, routes), None, {}, routes)

    def close(self) -> None:
        """End every child process and connection. The endpoints start again when used again."""
        with self._lock:
            built, self._built = list(self._built.values()), {}
        for model in built:
            model.close()

    def _config(self, name: str) -> ModelConfig:
        if name not in self._configs:
            raise SettingsError(
                f"There is no model {name!r}.",
                looked=f"drystone.toml has: {', '.join(self._configs) or 'none'}.",
                todo="Name one of these, or add a [[models]] block.",
            )
        return self._configs[name]

    def _routes(self, prompt: Prompt, run: Run, purpose: str) -> list[tuple[str, dict[str, Any]]]:
        """Every endpoint of this prompt in order of preference, with the decision about it."""
        if prompt.mode != "generated":
            return []
        out: list[tuple[str, dict[str, Any]]] = []
        at = run.ledger.now()  # the later of the wall clock and the ledger's last time
        for name in prompt.models or self.names:
            config = self._config(name)
            sink = self._policy.processor(name, config.clearance, config.regions, config.purposes, purpose)
            verdict = prompt.label.flows_to(sink, at)
            route: dict[str, Any] = {
                "model": name,
                "allowed": verdict.allowed,
                "part": verdict.part,
                "reason": verdict.reason,
                "outcome": "not needed" if verdict.allowed else "not permitted",
            }
            out.append((name, route))
        return out

    def _note(
        self,
        run: Run,
        draft: Draft,
        model: Model | None,
        runtime: dict[str, Any],
        routes: list[tuple[str, dict[str, Any]]],
    ) -> Draft:
        run.note(
            "generate",
            draft=draft,
            model=draft.model,
            weights=None if model is None else model.digest,
            runtime=runtime,
            routes=[route for _, route in routes],
        )
        return draft


def _draft(name: str, done: Completion) -> Draft:
    notes = ("model stopped at the token limit",) if done.finish == "length" else ()
    return Draft(done.text, name, done.usage, notes, done.finish)


def _quoted(prompt: Prompt, routes: list[tuple[str, dict[str, Any]]]) -> Draft:
    draft = Draft("", None, Usage())
    if prompt.mode != "generated":
        return draft
    if not routes:
        return replace(draft, notes=(NONE_CONFIGURED,))
    return replace(draft, notes=(UNAVAILABLE if any(r["allowed"] for _, r in routes) else NONE_PERMITTED,))
