"""What a command shows while it works: it moves, and what stands still says for how long."""

from __future__ import annotations

import pytest

from drystone.cli import output


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


def test_a_bar_says_how_long_one_document_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    monkeypatch.setattr(output, "time", clock)
    bar = output.Bar()
    for seconds, done in ((0, 0), (6, 3), (7, 3), (12, 3), (45, 3), (51, 20)):
        clock.now = 100.0 + seconds
        bar("parse", done, 20)
    assert capsys.readouterr().err.splitlines() == [
        "parse: 3 of 20",
        "parse: 3 of 20, 6 s at the next",
        "parse: 3 of 20, 39 s at the next",
        "parse: 20 of 20",
    ]
