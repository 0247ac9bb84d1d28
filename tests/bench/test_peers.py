"""Peers are read one file at a time: what hangs or fails costs itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bench import peers

HERE = Path(sys.executable)


def test_a_file_that_hangs_or_fails_costs_itself(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("words")
    (tmp_path / "blank.txt").write_text(" \n")
    os.mkfifo(tmp_path / "hangs.txt")  # nobody ever writes into it
    order = ["good.txt", "hangs.txt", "missing.txt", "blank.txt", "good.txt"]
    reads = [r for _, r in peers.read_all("stdlib", HERE, [tmp_path / name for name in order], limit_s=0.5)]
    assert [r.kind for r in reads] == ["", "timeout", "error", "empty", ""]
    assert reads[0].text == reads[4].text == "words"
    assert reads[2].reason.startswith("FileNotFoundError")


def test_what_does_not_import_is_absent() -> None:
    with pytest.raises(peers.Absent, match="markitdown"):
        peers.Reader(HERE, "markitdown").read(Path("x"))


@pytest.mark.engines
def test_an_environment_that_cannot_be_made_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "CACHE", tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(peers.Absent, match="no-such-distribution"):
        peers.venv("nothing", ["no-such-distribution==1.0"])
    assert not (tmp_path / "nothing" / "requirements.txt").exists()
