"""``make dist``: everything that someone needs to install Drystone where there is no index.

dist/ then holds the wheel of Drystone, the wheels of the embedded models, the locked wheels of all that
they need, SHA256SUMS and a Containerfile. Install with:

    pip install --no-index --find-links dist "drystone[local]"
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"

CONTAINERFILE = """\
# Runs without root and with a read-only root file system; mount the project at /project.
#   podman build -t drystone dist
#   podman run --read-only --tmpfs /tmp -v ./helpdesk:/project drystone status
FROM python:3.11-slim
COPY *.whl /wheels/
RUN python -m venv /opt/drystone \\
 && /opt/drystone/bin/pip install --no-cache-dir --no-index --find-links /wheels "drystone[local]" \\
 && rm -rf /wheels && useradd --uid 10001 --create-home drystone
USER 10001
WORKDIR /project
ENV PATH=/opt/drystone/bin:$PATH HOME=/tmp
ENTRYPOINT ["drystone"]
"""


def run(*command: str | Path) -> None:
    subprocess.run([str(c) for c in command], cwd=ROOT, check=True)


def main() -> None:
    DIST.mkdir(exist_ok=True)
    for stale in DIST.glob("drystone-[0-9]*.whl"):
        stale.unlink()
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", DIST, ".")
    run(sys.executable, "tools/models.py", "wheels", "--out", DIST)
    run(*pip, "download", "--require-hashes", "--only-binary", ":all:", "--dest", DIST, "-r", "requirements.lock")
    (DIST / "Containerfile").write_text(CONTAINERFILE)
    (DIST / "requirements.lock").write_bytes((ROOT / "requirements.lock").read_bytes())
    wheels = sorted(DIST.glob("*.whl"))
    sums = [f"{hashlib.sha256(w.read_bytes()).hexdigest()}  {w.name}" for w in wheels]
    (DIST / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    print(f"{len(wheels)} wheels, {sum(w.stat().st_size for w in wheels) / 1e6:.0f} MB, in {DIST.name}/")


if __name__ == "__main__":
    main()
