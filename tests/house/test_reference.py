"""Every setting, port, error code, command and ledger event has its entry, and the other way round."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from drystone import errors

ROOT = Path(__file__).resolve().parents[2]


def test_the_reference_is_what_the_code_says() -> None:
    done = subprocess.run([sys.executable, "tools/reference.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_error_codes_are_unique_and_pinned() -> None:
    tree = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.DrystoneError)]
    codes = [e.code for e in tree]
    assert len(set(codes)) == len(codes)
    pinned = (Path(__file__).parent / "error_codes.txt").read_text().split()
    assert set(pinned) <= set(codes), "a code that was released stays"


def test_the_readme_quotes_the_committed_results_and_nothing_else() -> None:
    done = subprocess.run([sys.executable, "tools/figures.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
