"""Write requirements.lock (what users run), requirements-full.lock (with every extra) and requirements-dev.lock (that
and the tools), with hashes.

Needs ``uv`` on the PATH or in .venv; resolution covers every platform that we support.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    # the model wheels are ours: tools/models.py builds them, no index has them yet
    local = [r for r in project["optional-dependencies"]["local"] if not r.startswith("drystone-model-")]
    tools = (ROOT / "requirements-dev.in").read_text().splitlines()
    compile_lock("requirements.lock", wanted + local)
    extras = [r for name, found in project["optional-dependencies"].items() if name != "local" for r in found]
    compile_lock("requirements-full.lock", wanted + local + extras)
    compile_lock("requirements-dev.lock", wanted + local + extras + tools)


def compile_lock(name: str, wanted: list[str]) -> None:
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes"]
    command += ["--no-emit-index-url", "--no-annotate", "--no-header", "--python-version", "3.11", "-o", name, "-"]
    subprocess.run(command, input="\n".join(wanted), text=True, cwd=ROOT, check=True)
    print(f"wrote {name}")


if __name__ == "__main__":
    main()
