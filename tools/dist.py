"""``make dist``: everything that someone needs to install Drystone where there is no index.

dist/ then holds the wheel of Drystone, the wheels of the embedded models, the locked wheels of all that
they need, SHA256SUMS and a Containerfile. Install with:

    pip install --no-index --find-links dist "drystone[local]"
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"

CONTAINERFILE = """\
# Runs without root and with a read-only root file system; mount the project at /project, its state included.
#   podman build -t drystone dist
#   podman run --read-only --tmpfs /tmp --userns keep-id:uid=10001 -v ./helpdesk:/project drystone status
FROM python:{python}-slim
RUN useradd --uid 10001 --no-create-home drystone
RUN --mount=type=bind,source=.,target=/wheels \\
    python -m venv /opt/drystone \\
 && /opt/drystone/bin/pip install --no-cache-dir --no-index --find-links /wheels "drystone[local]"
USER 10001
WORKDIR /project
ENV PATH=/opt/drystone/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["drystone"]
"""


def run(*command: str | Path) -> None:
    subprocess.run([str(c) for c in command], cwd=ROOT, check=True)


def locked() -> str:
    """What the wheels of dist/ were locked for: the lock file, the interpreter and the machine."""
    lock = hashlib.sha256((ROOT / "requirements.lock").read_bytes()).hexdigest()
    return f"{lock} {sys.implementation.cache_tag} {sysconfig.get_platform()}\n"


def download(pip: tuple[str, ...]) -> None:
    """The locked wheels, unless they are there; those of an earlier lock go, or pip would choose between two."""
    stamp = DIST / "LOCKED"
    if stamp.exists() and stamp.read_text() == locked():
        return
    stamp.unlink(missing_ok=True)
    for stale in DIST.glob("*.whl"):
        if not stale.name.startswith("drystone_model_"):
            stale.unlink()
    run(*pip, "download", "--require-hashes", "--only-binary", ":all:", "--dest", DIST, "-r", "requirements.lock")
    stamp.write_text(locked())


def main() -> None:
    DIST.mkdir(exist_ok=True)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    download(pip)
    for stale in DIST.glob("drystone-[0-9]*.whl"):
        stale.unlink()
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", DIST, ".")
    run(sys.executable, "tools/models.py", "wheels", "--out", DIST)
    (DIST / "Containerfile").write_text(CONTAINERFILE.format(python=f"{sys.version_info[0]}.{sys.version_info[1]}"))
    (DIST / "requirements.lock").write_bytes((ROOT / "requirements.lock").read_bytes())
    wheels = sorted(DIST.glob("*.whl"))
    sums = [f"{hashlib.sha256(w.read_bytes()).hexdigest()}  {w.name}" for w in wheels]
    (DIST / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    print(f"{len(wheels)} wheels, {sum(w.stat().st_size for w in wheels) / 1e6:.0f} MB, in {DIST.name}/")


if __name__ == "__main__":
    main()
