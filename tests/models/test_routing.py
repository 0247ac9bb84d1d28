"""Which endpoint gets a prompt: real endpoints over HTTP, the real policy, a light run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drystone.errors import ModelUnavailable
from drystone.models import Models, remote, results
from drystone.policy import Policy
from drystone.records import Draft, Label, Prompt
from drystone.settings import ModelConfig, defaults
from tests.models.endpoint import Endpoint, config, running, streaming

NOW = 1_800_000_000_000


class Run:
    """Keeps notes; its ledger's time stands still."""

    def __init__(self) -> None:
        self.notes: dict[str, dict[str, Any]] = {}
        self.ledger = SimpleNamespace(now=lambda: NOW)

    def note(self, step: str, **facts: Any) -> None:
        self.notes[step] = facts

    @contextmanager
    def time(self, step: str) -> Iterator[None]:
        yield


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setattr(remote, "PAUSE_S", 0.01)
    with running() as endpoint:
        yield endpoint


def build(folder: Path, *configs: ModelConfig) -> Models:
    settings = replace(defaults(folder, models__timeout_s=5.0), models=configs)
    return Models(settings=settings, policy=Policy.open(folder, settings=settings))


def prompt(label: dict[str, Any] | None = None, **more: Any) -> Prompt:
    parts = {"readers": ["group:hr"], "classification": "internal", **(label or {})}
    return Prompt("generated", ({"role": "user", "content": "?"},), (), Label.parse(parts), "p:1", **more)


def ask(models: Models, what: Prompt, purpose: str = "general") -> tuple[Draft, dict[str, Any]]:
    run = Run()
    draft = models.generate(what, run, purpose=purpose)  # type: ignore[arg-type]
    models.close()
    return draft, run.notes["generate"]


def test_the_first_endpoint_that_the_label_may_flow_to_is_used(server: Endpoint, tmp_path: Path) -> None:
    names = {"url": server.url, "model": "m"}
    models = build(
        tmp_path, config("open", **names), config("inside", clearance="internal", **names),
        config("vault", clearance="restricted", **names),
    )  # fmt: skip
    draft, note = ask(models, prompt())
    assert draft.model == note["model"] == "inside" and len(server.seen) == 1
    assert [(r["model"], r["outcome"]) for r in note["routes"]] == [
        ("open", "not permitted"), ("inside", "used"), ("vault", "not needed"),
    ]  # fmt: skip
    assert note["routes"][0]["part"] == "classification" and "cleared for public" in note["routes"][0]["reason"]
    assert note["weights"].startswith("declared:") and note["runtime"]["engine"] == "openai"
    assert note["draft"] == draft


@pytest.mark.parametrize(
    ("label", "model", "part"),
    [
        ({"classification": "restricted"}, {"clearance": "internal"}, "classification"),
        ({"regions": ["in"]}, {"clearance": "internal"}, "regions"),
        ({"purposes": ["research"]}, {"clearance": "internal"}, "purposes"),
        ({"expires": NOW}, {"clearance": "internal"}, "expires"),
    ],
)
def test_what_may_not_reach_it_is_not_sent(
    server: Endpoint, tmp_path: Path, label: dict[str, Any], model: dict[str, Any], part: str
) -> None:
    models = build(tmp_path, config("big", url=server.url, model="m", **model))
    draft, note = ask(models, prompt(label))
    assert server.seen == []
    assert (draft.text, draft.model, draft.notes) == ("", None, ("no permitted model: quoted instead",))
    assert [r["part"] for r in note["routes"]] == [part] and note["weights"] is None


def test_an_endpoint_for_other_purposes_gets_nothing(server: Endpoint, tmp_path: Path) -> None:
    endpoint = config("big", clearance="internal", url=server.url, model="m", purposes=frozenset({"support"}))
    models = build(tmp_path, endpoint)
    assert ask(models, prompt({"purposes": ["general"]}))[0].model is None
    assert ask(models, prompt())[0].model is None, "a label without a limit does not lift the endpoint's own"
    assert server.seen == []
    assert ask(models, prompt({"purposes": ["support"]}), purpose="support")[0].model == "big"


def test_a_dead_endpoint_is_passed_over(server: Endpoint, tmp_path: Path) -> None:
    dead = config("dead", clearance="internal", url="http://127.0.0.1:9/v1", model="m", retries=0)
    alive = config("alive", clearance="internal", url=server.url, model="m")
    draft, note = ask(build(tmp_path, dead, alive), prompt())
    assert draft.model == "alive"
    assert note["routes"][0]["outcome"] == "unavailable: model_unavailable"
    draft, note = ask(build(tmp_path, dead), prompt())
    assert draft.model is None and draft.notes == ("model unavailable: quoted instead",)


def test_an_engine_that_is_not_installed_is_said(tmp_path: Path) -> None:
    draft, note = ask(build(tmp_path, config("odd", "no_such_type", clearance="internal")), prompt())
    assert draft.notes == ("model unavailable: quoted instead",)
    assert note["routes"][0]["outcome"] == "unavailable: engine_missing"


def test_quoted_and_refused_prompts_call_no_model(server: Endpoint, tmp_path: Path) -> None:
    models = build(tmp_path, config("big", clearance="restricted", url=server.url, model="m"))
    for mode in ("quoted", "refused"):
        draft, note = ask(models, replace(prompt(), mode=mode))  # type: ignore[arg-type]
        assert draft == Draft("", None) and note["routes"] == [] and note["model"] is None
    assert server.seen == []


def test_the_prompt_names_its_models_in_order(server: Endpoint, tmp_path: Path) -> None:
    names = {"url": server.url, "model": "m", "clearance": "internal"}
    models = build(tmp_path, config("a", **names), config("b", **names), config("c", **names))
    draft, note = ask(models, prompt(models=("c", "a")))
    assert draft.model == "c" and [r["model"] for r in note["routes"]] == ["c", "a"]


def test_no_model_at_all_is_said(tmp_path: Path) -> None:
    assert ask(build(tmp_path), prompt())[0].notes == ("no model configured: quoted instead",)


def test_a_stream_returns_its_draft_and_falls_back_only_before_the_first_part(server: Endpoint, tmp_path: Path) -> None:
    dead = config("dead", clearance="internal", url="http://127.0.0.1:9/v1", model="m", retries=0)
    alive = config("alive", clearance="internal", url=server.url, model="m")
    models, run = build(tmp_path, dead, alive), Run()
    server.script = [streaming("a", "b"), streaming("half", done=False)]
    stream, parts = models.stream(prompt(), run, purpose="general"), []  # type: ignore[arg-type]
    while True:
        try:
            parts.append(next(stream))
        except StopIteration as end:
            draft = end.value
            break
    assert parts == ["a", "b"] and (draft.text, draft.model) == ("ab", "alive")
    with pytest.raises(ModelUnavailable):
        list(models.stream(prompt(), run, purpose="general"))  # type: ignore[arg-type]
    assert run.notes["generate"]["draft"].text == "half" and run.notes["generate"]["draft"].finish == "error"
    models.close()


@given(
    st.sampled_from(["public", "internal", "confidential", "restricted"]),
    st.none() | st.sets(st.sampled_from(["eu", "in", "us"]), min_size=1),
    st.none() | st.sets(st.sampled_from(["general", "support"]), min_size=1),
    st.lists(
        st.tuples(
            st.sampled_from(["public", "internal", "confidential", "restricted"]),
            st.sets(st.sampled_from(["eu", "in", "us"])),
        ),
        max_size=3,
    ),
)
def test_a_route_is_allowed_exactly_where_the_label_flows(
    classification: str, regions: set[str] | None, purposes: set[str] | None, ends: list[tuple[str, set[str]]]
) -> None:
    policy = SimpleNamespace(processor=Policy.processor.__get__(object()))
    configs = tuple(
        config(f"m{n}", clearance=clearance, regions=frozenset(where)) for n, (clearance, where) in enumerate(ends)
    )
    models = Models(settings=replace(defaults(Path("/nowhere")), models=configs), policy=policy)  # type: ignore[arg-type]
    label = {"classification": classification, "regions": regions, "purposes": purposes}
    what = prompt({k: v for k, v in label.items() if v is not None})
    run = Run()
    for (_, route), one in zip(models._routes(what, run, "general"), configs, strict=True):  # type: ignore[arg-type]
        sink = policy.processor(one.name, one.clearance, one.regions, one.purposes, "general")
        assert route["allowed"] == what.label.flows_to(sink, NOW).allowed


def test_results_are_kept_by_digest_and_private(tmp_path: Path) -> None:
    path = results.keep(tmp_path, "sha256:aa", {"passed": True})
    assert results.find(tmp_path, "sha256:aa") == {"format": 1, "digest": "sha256:aa", "passed": True}
    assert results.find(tmp_path, "sha256:bb") is None
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    path.write_text("{half")
    assert results.find(tmp_path, "sha256:aa") is None
