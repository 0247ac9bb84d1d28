"""Nothing reaches whom it may not reach, over every path out. Each document carries a canary in its text, its
title and its name; whatever an actor gets back, in a result or an error, is searched for canaries that the
actor may not see. The negative control switches the labels off and must find leaks on every path."""

from __future__ import annotations

import base64
import contextlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from drystone.cli import main
from drystone.errors import DrystoneError
from drystone.records.label import Label, Verdict
from drystone.retrieve import allow
from tests.ingest.build_mail import zipped

FOLDERS = ("public", "hr", "eu", "research", "old", "both", "handbook")
MAY: dict[str, set[str]] = {  # worked out by hand from tests/conftest.py, purpose general
    "olga": {"public", "eu", "handbook"},
    "ann": {"public", "hr", "eu", "handbook"},
    "bo": {"public", "eu", "handbook"},
    "ravi": {"public", "handbook"},
    "eve": {"public"},
    "stranger": set(),
}


SUBJECT = dict(zip(FOLDERS, ["garden", "salary", "harbour", "laboratory", "museum", "bridge", "kitchen"], strict=True))


def question(folder: str) -> str:
    return f"What is the secret budget of the {SUBJECT[folder]} plan?"


def canary(folder: str) -> str:
    return f"zq{folder}canary"


def files() -> dict[str, str | bytes]:
    """A document, an archive with another inside, and one that cannot be read, in each folder."""
    return plans() | {
        name: data
        for folder in FOLDERS
        for name, data in (
            (f"{folder}/box-{canary(folder)}.zip", zipped({f"{canary(folder)}.txt": inner(folder).encode()})),
            (f"{folder}/broken-{canary(folder)}.json", b"{ broken"),
        )
    }


def inner(folder: str) -> str:
    return f"The box of the {SUBJECT[folder]} plan {canary(folder)} was sealed on Tuesday. Its secret budget is none."


def plans() -> dict[str, str | bytes]:
    return {
        f"{folder}/plan-{canary(folder)}.md": (
            f"# The {SUBJECT[folder]} plan {canary(folder)}\n\n"
            f"The secret budget of the {SUBJECT[folder]} plan {canary(folder)} is {1000 + n} euros this year.\n\n"
            f"Somebody called {canary(folder)} signed it on Monday, and nobody else knows.\n"
        )
        for n, folder in enumerate(FOLDERS)
    }


@dataclass
class Path:
    name: str
    probe: Callable[[Any, str, str], Any]  # (kb, actor, folder) -> anything
    by_label: bool = True  # the negative control must find a leak here
    names: bool = False  # the probe names the document itself


def document(folder: str) -> str:
    return f"docs:{folder}/plan-{canary(folder)}.md"


def member(folder: str) -> str:
    return f"docs:{folder}/box-{canary(folder)}.zip!/{canary(folder)}.txt"


def broken(folder: str) -> str:
    return f"docs:{folder}/broken-{canary(folder)}.json"


def cli(*arguments: str) -> str:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        main(arguments)
    return out.getvalue() + err.getvalue()


def passport_of_answer(kb: Any, actor: str, folder: str) -> Any:
    answer = kb.ask(question(folder), actor=actor)
    passport = kb.passport(answer.passport, actor=actor)
    entry = base64.b64decode(passport.bundle["log"]["entry"]).decode()
    return [passport.bundle, passport.statement, entry]


PATHS = (
    Path("search", lambda kb, actor, folder: [h.to_dict() for h in kb.search("secret budget of the plan", actor=actor)]),
    Path("search by canary", lambda kb, a, f: kb.search(canary(f), actor=a)),
    Path("hits", lambda kb, a, f: kb.hits("plan signed on Monday", actor=a, limit=100)),
    Path("ask", lambda kb, a, f: kb.ask(question(f), actor=a).to_dict()),
    Path("ask by canary", lambda kb, a, f: kb.ask(f"Who is {canary(f)}?", actor=a).to_dict()),
    Path("passport", passport_of_answer),
    Path("stream", lambda kb, a, f: list(kb.stream(question(f), actor=a))),
    Path("snapshot chunks", lambda kb, a, f: kb.snapshot("shop@1", actor=a).arrow("chunks").to_pylist()),
    Path("snapshot documents", lambda kb, a, f: kb.snapshot("shop@1", actor=a).arrow("documents").to_pylist()),
    Path("search as of", lambda kb, a, f: kb.search("secret budget", actor=a, as_of=1)),
    Path("why", lambda kb, a, f: sorted(kb.why(a, document(f), actor=a)["label"].items()) + [f], by_label=False,
         names=True),
    Path("reach", lambda kb, a, f: kb.reach(document(f), actor=a) if a != "olga" else None, by_label=False,
         names=True),
    Path("relabel", lambda kb, a, f: kb.relabel(document(f), {"trust": "untrusted"}, actor=a) if a != "olga" else None,
         by_label=False, names=True),
    Path("search in an archive", lambda kb, a, f: kb.search(f"box of the {SUBJECT[f]} plan sealed on Tuesday", actor=a)),
    Path("ask about an archive", lambda kb, a, f: kb.ask(f"When was the box of the {SUBJECT[f]} plan sealed?", actor=a)),
    Path("why of a member", lambda kb, a, f: sorted(kb.why(a, member(f), actor=a)["label"].items()) + [f],
         by_label=False, names=True),
    Path("quarantine", lambda kb, a, f: kb.quarantine(actor=a) if a != "olga" else None, by_label=False),
    Path("retry", lambda kb, a, f: kb.retry(broken(f), actor=a) if a != "olga" else None, by_label=False, names=True),
    Path("ignore", lambda kb, a, f: kb.ignore(broken(f), "no", actor=a) if a != "olga" else None, by_label=False,
         names=True),
    Path("status", lambda kb, a, f: kb.status(actor=a) if a != "olga" else None, by_label=False),
    Path("cli search", lambda kb, a, f: cli("search", "secret budget", "--as", a, "--json", "--project", str(kb.folder))),
    Path("cli ask", lambda kb, a, f: cli("ask", question(f), "--as", a, "--json",
                                         "--project", str(kb.folder))),
)  # fmt: skip


def told(kb: Any, path: Path, actor: str, folder: str) -> str:
    """Everything that came out: the result, or the error with its parts. What the caller itself typed is taken out."""
    try:
        found = path.probe(kb, actor, folder)
        text = found if isinstance(found, str) else json.dumps(found, default=repr) + repr(found)
    except DrystoneError as error:
        text = json.dumps(error.to_dict()) + str(error)
    if path.names:  # the caller wrote the document's name
        for name in (document(folder), member(folder), broken(folder)):
            text = text.replace(name, "TYPED")
    if "canary" in path.name:
        text = text.replace(canary(folder) + "?", "TYPED")
    return text


@pytest.fixture(scope="module")
def kb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    import drystone
    from drystone.testing import HashEmbedder
    from tests.conftest import write_project

    folder = write_project(tmp_path_factory.mktemp("leaks"), files(), extra='[embedding]\ntype = "builtin"\n')
    with drystone.open(folder, embedder=HashEmbedder()) as opened:
        opened.ingest(actor="olga")
        yield opened


def leaks(kb: Any, path: Path) -> list[str]:
    found = []
    for actor, readable in MAY.items():
        for folder in FOLDERS:
            text = told(kb, path, actor, folder)
            found += [
                f"{actor} saw {other} by {path.name}" for other in set(FOLDERS) - readable if canary(other) in text
            ]
    return found


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.name)
def test_no_path_leaks(kb: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if path.name.startswith("cli"):
        _same_embedder(kb, monkeypatch)
    assert leaks(kb, path) == []


@pytest.mark.parametrize("path", [p for p in PATHS if p.by_label], ids=lambda p: p.name)
def test_the_leak_test_can_fail(kb: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With labels switched off, every path that they guard must leak; otherwise the test above proves nothing."""
    if path.name.startswith("cli"):
        _same_embedder(kb, monkeypatch)
    decide = allow.documents

    def everything(*arguments: Any, **options: Any) -> Any:
        decided = decide(*arguments, **options)
        return replace(decided, code=np.zeros_like(decided.code), expires=np.full_like(decided.expires, allow.NEVER))

    monkeypatch.setattr(Label, "flows_to", lambda *_: Verdict(True, "", "off"))
    monkeypatch.setattr(allow, "documents", everything)
    kb.house.retrieve.forget_permissions()
    try:
        assert leaks(kb, path)
    finally:
        monkeypatch.undo()
        kb.house.retrieve.forget_permissions()


def test_everyone_sees_what_they_may(kb: Any) -> None:
    for actor, readable in MAY.items():
        if readable:
            text = repr(kb.search("secret budget of the plan", actor=actor, limit=50))
            assert {f for f in FOLDERS if canary(f) in text} == readable, actor
            boxes = {h.document for h in kb.search("box was sealed on Tuesday", actor=actor, limit=50)}
            assert {f for f in FOLDERS if member(f) in boxes} == readable, actor


def test_forbidden_and_absent_look_the_same(kb: Any) -> None:
    """A refusal does not reveal that a document exists."""
    for call in (
        lambda d: kb.why("eve", d, actor="eve"),
        lambda d: kb.reach(d, actor="eve"),
        lambda d: kb.relabel(d, {"classification": "internal"}, actor="eve"),
        lambda d: kb.retry(d, actor="eve"),
        lambda d: kb.ignore(d, "no", actor="eve"),
    ):
        said = []
        for name in (document("hr"), "docs:hr/nothing.md", member("hr"), broken("hr")):
            with pytest.raises(DrystoneError) as caught:
                call(name)
            said.append((type(caught.value), str(caught.value).replace(name, "X")))
        assert len(set(said)) == 1
    hidden = kb.ask(f"What is {canary('hr')} about?", actor="eve")
    absent = kb.ask("What is zqnothingcanary about?", actor="eve")
    assert (hidden.text, hidden.refused, hidden.reason, hidden.notes) == (
        absent.text, absent.refused, absent.reason, absent.notes,
    )  # fmt: skip


def _same_embedder(kb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import drystone.cli.output as output

    class Kept:
        def __enter__(self) -> Any:
            return kb

        def __exit__(self, *_: object) -> None:
            return None

    for module in ("knowledge", "record", "operate"):
        monkeypatch.setattr(f"drystone.cli.{module}.project", lambda *a, **k: Kept())
    assert output
