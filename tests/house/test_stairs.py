"""The walls: imports go down the stairs, engines have one home, import is silent and quick to the eye."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "drystone"

# Each outside system has one home; adding a second is a decision, made here.
HOMES = {
    "lance": {"lake/tables.py"},
    "onnxruntime": {"index/minilm.py", "ingest/parsers/ocr.py"},
    "rapidocr": {"ingest/parsers/ocr.py"},
    "cv2": {"ingest/parsers/ocr.py"},
    "PIL": {"ingest/parsers/ocr.py"},
    "tokenizers": {"index/minilm.py", "ingest/parsers/audio.py"},
    "ctranslate2": {"ingest/parsers/audio.py"},
    "miniaudio": {"ingest/parsers/audio.py"},
    "faiss": {"retrieve/scan.py"},
    "xllamacpp": {"models/worker.py"},
    "cedarpy": {"policy/cedar.py"},
    "httpx": {"models/remote.py", "index/remote.py", "ingest/web.py"},
    "fsspec": {"ingest/objects.py"},
    "imaplib": {"ingest/mailbox.py"},
    "sqlite3": {"ledger/store.py", "ledger/keys.py"},
    "pypdfium2": {"ingest/parsers/pdf.py"},
    "chardetng_py": {"ingest/parsers/text.py"},
    "selectolax": {"ingest/parsers/html.py"},
    "python_calamine": {"ingest/parsers/sheets.py"},
    "msoffcrypto": {"ingest/parsers/locked.py"},
    "olefile": {"ingest/parsers/legacy.py", "ingest/parsers/msg.py", "ingest/parsers/sheets.py"},
    "Stemmer": {"index/terms.py"},
}


def imports(path: Path) -> set[str]:
    """Top-level names that a file imports anywhere, inside functions too; not those for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.partition(".")[0])
    return found


def test_imports_go_down_the_stairs() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-500:]


def test_each_outside_system_has_one_home() -> None:
    strays = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for name in imports(path) & HOMES.keys()
        if str(path.relative_to(PACKAGE)) not in HOMES[name]
    ]
    assert not strays


QUIET = """
import sys, threading, logging
calls = []
watched = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork")
sys.addaudithook(lambda event, args: calls.append(event) if event.startswith(watched) else None)
threads, handlers = threading.active_count(), len(logging.getLogger().handlers)
import {module}
heavy = [m for m in ("numpy", "pyarrow", "lance", "onnxruntime", "faiss", "cedarpy", "httpx", "cryptography") if m in sys.modules]
assert not calls, calls
assert threading.active_count() == threads and len(logging.getLogger().handlers) == handlers
assert not heavy, heavy
"""


@pytest.mark.parametrize("module", ["drystone", "drystone.cli", "drystone.settings", "drystone.records"])
def test_import_is_silent_and_light(module: str) -> None:
    _is_silent(module)


def test_parsers_are_light() -> None:
    """Every ingestion asks all of them for their versions."""
    _is_silent("drystone.ingest.media; drystone.ingest.media.readers()")


def _is_silent(module: str) -> None:
    done = subprocess.run([sys.executable, "-c", QUIET.format(module=module)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and done.stderr == ""


def test_no_room_is_empty() -> None:
    assert not [p for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__" and not any(p.rglob("*.py"))]


def test_the_project_speaks_of_itself_alone() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    words = ["/" + "work/", "pypi" + ".org", "python" + "hosted", "npm" + "js.org"]
    found = [
        f"{name}: {word}"
        for name in listed
        if name.endswith((".py", ".md", ".toml", ".lock", ".txt", ".in", ".json", ".yml", ".sh", "Makefile", "run"))
        for word in words
        if word in (ROOT / name).read_text(encoding="utf-8", errors="replace")
    ]
    assert not found
