"""The sample company answers its own list of questions, and declines those that have no answer for the asker."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import drystone
from drystone.cli import main
from drystone.errors import EngineMissing


@pytest.mark.engines
def test_the_sample_answers_and_declines_as_its_list_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "shop"), "--template", "sample"]) == 0
    questions = tomllib.loads((tmp_path / "shop" / "questions.toml").read_text(encoding="utf-8"))["questions"]
    wrong = []
    with drystone.open(tmp_path / "shop") as kb:
        try:
            report = kb.ingest(actor="olga")
        except EngineMissing as error:
            pytest.skip(f"the embedder's weights are not here: {error.looked}")
        assert (report.refused, report.failed) == (0, 0)
        for one in questions:
            answer = kb.ask(one["ask"], actor=one["as"])
            kb.passport(answer).verify()
            if one.get("refused") != (True if answer.refused else None) or one.get("expect", "") not in answer.text:
                wrong.append((one["as"], one["ask"], answer.text))
            assert "365" not in answer.text
    assert wrong == []
