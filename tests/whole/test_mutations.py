"""No answer without a passport: leave out any step's note and the answer is withheld, not released."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from drystone.errors import PassportIncomplete
from drystone.ledger.runs import Run

FILES = {"handbook/leave.md": "# Leave\n\nEveryone has 27 days of paid holiday a year.\n"}
STEPS = ("admit", "search", "compose", "generate", "check", "release")


@pytest.mark.parametrize("step", STEPS)
def test_without_a_note_there_is_no_answer(
    step: str, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kb = make(FILES)
    assert not kb.ask("Everyone has how many days of paid holiday a year?", actor="bo").refused
    write = Run.note

    def forgetful(self: Run, name: str, **facts: Any) -> None:
        if name != step:
            write(self, name, **facts)

    monkeypatch.setattr(Run, "note", forgetful)
    with pytest.raises(PassportIncomplete) as caught:
        kb.ask("Everyone has how many days of paid holiday a year?", actor="bo")
    assert "27 days" not in str(caught.value)
    monkeypatch.undo()
    events = [e for e in kb.house.ledger.export() if e["kind"] == "question_failed" or "withheld" in str(e)]
    assert events, "that an answer was withheld is on record"
    assert kb.house.ledger.verify().valid


def test_a_note_of_other_evidence_is_no_note(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The notes must belong together: a search that noted other hits than the prompt rests on is refused."""
    from dataclasses import replace

    kb = make({**FILES, "handbook/b.md": "# Other\n\nThe canteen opens at noon for everyone.\n"})
    write = Run.note

    def swapped(self: Run, name: str, **facts: Any) -> None:
        if name == "search":
            facts["hits"] = replace(facts["hits"], hits=(), evidence=())
        write(self, name, **facts)

    monkeypatch.setattr(Run, "note", swapped)
    with pytest.raises(PassportIncomplete):
        kb.ask("Everyone has how many days of paid holiday a year?", actor="bo")


def test_a_replay_compares_what_was_found_decided_and_said(make: Callable[..., Any]) -> None:
    kb = make({**FILES, "handbook/b.md": "# Other\n\nThe canteen opens at noon for everyone.\n"})
    answer = kb.ask("Everyone has how many days of paid holiday a year?", actor="bo")
    (kb.folder / "documents/handbook/leave.md").write_text("# Leave\n\nEveryone has 30 days of paid holiday a year.\n")
    kb.ingest(actor="olga")
    found = kb.replay(answer.passport, actor="bo")
    assert found.equal and found.text == answer.text
    assert {"evidence", "scores", "prompt", "decisions", "text"} <= {line.what for line in found.compared}
    (kb.folder / "policies").mkdir()
    forbid = '@id("n") forbid (principal, action == Action::"ask", resource) when { principal.name == "nobody" };\n'
    (kb.folder / "policies/own.cedar").write_text(forbid)
    found = kb.replay(answer.passport, actor="bo")
    assert [line.what for line in found.compared if not line.equal] == ["policy", "decisions"]
