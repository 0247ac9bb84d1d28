"""Zero egress: the demo runs in an empty network namespace, and a planted network call is caught."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Every attempt to reach a network, even a loopback one that would succeed, ends the process.
WATCH = """
import sys
def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.bind"):
        address = args[1] if len(args) > 1 else args[0]
        if event == "socket.getaddrinfo" or isinstance(address, tuple):
            sys.stderr.write(f"EGRESS {event} {args[1:]}\\n"); sys.stderr.flush()
            import os; os._exit(97)
sys.addaudithook(watch)
"""


def _namespace() -> list[str]:
    """A command prefix that runs in an empty network namespace, or nothing where there is none."""
    for prefix in (["unshare", "-n"], ["unshare", "-rn"]):
        if shutil.which("unshare") and subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
            return prefix
    return []


def run(code: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    (tmp_path / "home").mkdir()
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "HOME": str(tmp_path / "home")}
    env.pop("ORT_DISABLE_TELEMETRY", None)
    return subprocess.run(
        [*_namespace(), sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True
    )


DEMO = "import sys; from drystone.cli import main; sys.exit(main(['demo', 'shop', '--once']))"


@pytest.mark.whole
def test_the_demo_runs_without_a_network(tmp_path: Path) -> None:
    done = run(DEMO, tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "EGRESS" not in done.stderr
    written = {p.name for p in tmp_path.iterdir()} - {"sitecustomize.py", "__pycache__", "home"}
    assert written == {"shop"}, "everything written stays in the project"
    assert not list((tmp_path / "home").iterdir()), "an engine left something in the home folder: has it telemetry?"


@pytest.mark.whole
def test_a_planted_network_call_would_be_caught(tmp_path: Path) -> None:
    planted = (
        "import drystone.flow as flow\n"
        "inner = flow.ask\n"
        "def ask(*a, **k):\n"
        "    import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))\n"
        "    return inner(*a, **k)\n"
        "flow.ask = ask\n"
    )
    done = run(planted + DEMO, tmp_path)
    assert done.returncode == 97 and "EGRESS" in done.stderr
