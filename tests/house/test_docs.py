"""Documentation runs: every ``sh``, ``bash`` and ``python`` block of README and docs is executed, in order, in one
shell and a temporary folder a page. What a ``print(...)`` with a comment says that it prints, it prints. A block
after ``<!-- not run: reason -->`` is shown only, and needs that reason."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [p for p in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if p.exists()]
BLOCK = re.compile(r"(?:<!-- not run: (?P<why>[^>]+) -->\s*\n)?^```(?P<kind>\w+)\n(?P<code>.*?)^```", re.M | re.S)
SAID = re.compile(r"^print\(.*\)  +# (.+)$", re.M)
RUN = {"python", "sh", "bash", "console"}


def blocks(page: Path) -> list[tuple[str, str]]:
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [(m["kind"], m["code"]) for m in found if m["kind"] in RUN and not m["why"]]


def script(page: Path) -> str:
    """One shell script a page; python blocks of a page share one interpreter's names."""
    lines, python = ["set -euo pipefail"], ""
    for kind, code in blocks(page):
        if kind == "python":
            python += code + "\n"
            path = f"block_{len(lines)}.py"
            lines.append(f"cat > {path} <<'PYTHON_BLOCK'\n{python}PYTHON_BLOCK\npython -W error {path}")
        else:
            lines.append(code)
    return "\n".join(lines)


@pytest.mark.whole
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_block_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    if not blocks(page):
        assert not re.search(r"^```(python|sh|bash|console)$", re.sub(BLOCK, "", page.read_text()), re.M)
        return
    env = {k: v for k, v in os.environ.items() if not k.startswith("DRYSTONE_") or k == "DRYSTONE_MODELS_PATH"}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    done = subprocess.run(["bash", "-c", script(page)], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{page.name}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    promised = [said for kind, code in blocks(page) if kind == "python" for said in SAID.findall(code)]
    assert not [said for said in promised if said not in done.stdout.splitlines()]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_inside_the_documentation_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert not [t for t in targets if not (page.parent / t).exists()]
