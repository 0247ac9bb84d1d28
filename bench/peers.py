"""Other people's libraries to measure against, each in an environment of its own under .cache/peers/.

Guarantees: the versions are those pinned here; an environment is made once, whole or not at all, also when two
benchmarks ask at a time; what a peer reads it reads without a network where the kernel lets us cut it off
(``walled()`` says so), one file at a time, and a file that takes too long costs itself. Nothing here is imported by the
product or installed beside it. Where an environment cannot be made (no package index), ``Absent`` says why, and the
benchmark skips that peer and says so.

    python -m bench.peers [NAME ...]    # make them all, or some
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / ".cache" / "peers"
PINS: dict[str, tuple[str, ...]] = {
    "kreuzberg": ("kreuzberg==4.10.4",),
    "markitdown": ("markitdown[all]==0.1.9",),
    "bare": (
        "python-docx==1.2.0", "docx2txt==0.9", "python-pptx==1.0.2", "openpyxl==3.1.5", "python-calamine==0.9.1",
        "odfpy==1.4.1", "striprtf==0.0.35", "beautifulsoup4==4.15.0", "lxml[html-clean]==6.1.3", "trafilatura==2.3.1",
        "pypdfium2==5.15.2", "pypdf==7.1.1",
    ),
    "langchain": (
        "langchain-community==0.4.2", "langchain-core==1.8.3", "docx2txt==0.9", "pypdfium2==5.15.2",
        "beautifulsoup4==4.15.0", "lxml==6.1.3",
    ),
    "llamaindex": (
        "llama-index-core==0.14.25", "llama-index-readers-file==0.7.0", "docx2txt==0.9", "python-pptx==1.0.2",
        "openpyxl==3.1.5", "pandas==2.3.3",
    ),
}  # fmt: skip
START_S = 120.0  # to import, on a busy machine


class Absent(Exception):
    """This peer cannot be measured here; the text says why."""


def venv(name: str, requirements: Sequence[str]) -> Path:
    """The Python of the environment ``name`` with exactly ``requirements`` (pinned) and what they need.

    Made by pip the first time, which downloads; after that it is only looked at. Raises ``Absent``.
    """
    home, wanted = CACHE / name, "\n".join(requirements) + "\n"
    python, made = home / "bin" / "python", home / "requirements.txt"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if made.exists() and made.read_text() == wanted:
            return python
        shutil.rmtree(home, ignore_errors=True)
        print(f"making {home} ({', '.join(requirements)})", file=sys.stderr, flush=True)
        quiet = ["-q", "--disable-pip-version-check", "--no-input", "--retries", "1", "--timeout", "30"]
        for command in (
            [sys.executable, "-m", "venv", str(home)],
            [str(python), "-m", "pip", "install", *quiet, *requirements],
        ):
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            if done.returncode != 0:
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise Absent(f"{name}: {command[1]} {command[2]} failed: {last[:200]}")
        made.write_text(wanted)
        return python


def peer(name: str) -> Path:
    """The Python of a peer pinned here. Raises ``Absent``."""
    return venv(name, PINS[name])


@lru_cache(maxsize=1)
def _wall() -> tuple[str, ...]:
    """What stands before a command to run it in an empty network; nothing where that cannot be had."""
    unshare = shutil.which("unshare")
    for command in ((unshare, "-rn"), (unshare, "-n")) if unshare else ():
        if command[0] and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return (command[0], command[1])
    return ()


def walled() -> bool:
    """Do peers run without a network here?"""
    return bool(_wall())


@dataclass(frozen=True, slots=True)
class Read:
    """What an engine made of one file: its text, or why there is none. ``kind``: "" where it read it."""

    text: str
    seconds: float
    kind: str = ""
    reason: str = ""


class Reader:
    """A peer's process that is sent one path at a time. ``engine``: a name of ``_peer.py``."""

    def __init__(self, python: Path, engine: str, limit_s: float = 60.0) -> None:
        self._command = [*_wall(), str(python), "-I", str(HERE / "_peer.py"), engine]
        self._limit_s, self._process = limit_s, None
        self._buffer = b""
        self.start_s = self.peak_rss_mb = 0.0

    def read(self, path: Path) -> Read:
        """Raises ``Absent`` if the process does not start."""
        process = self._running()
        assert process.stdin is not None
        process.stdin.write(json.dumps(str(path)).encode() + b"\n")
        process.stdin.flush()
        started = time.perf_counter()
        answer = self._line(self._limit_s)
        seconds = time.perf_counter() - started
        if answer is None:
            gone = process.poll() is not None
            self.close()
            kind, reason = ("crashed", "its process died") if gone else ("timeout", f"more than {self._limit_s:g} s")
            return Read("", seconds, kind, reason)
        self.peak_rss_mb = max(self.peak_rss_mb, answer["rss_mb"])
        if answer["error"]:
            return Read("", answer["seconds"], "error", answer["error"])
        return Read(answer["text"], answer["seconds"], "" if answer["text"].strip() else "empty")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(CACHE), "HF_HUB_OFFLINE": "1"}
            started = time.perf_counter()
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
            )
            self._buffer = b""
            ready = self._line(START_S)
            if ready is None or ready.get("error"):
                self.close()
                raise Absent(f"{self._command[-1]}: {(ready or {}).get('error', 'its process does not start')}")
            self.start_s = self.start_s or time.perf_counter() - started
        return self._process

    def _line(self, limit_s: float) -> dict[str, Any] | None:
        assert self._process is not None and self._process.stdout is not None
        pipe, until = self._process.stdout.fileno(), time.monotonic() + limit_s
        while b"\n" not in self._buffer:
            left = until - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                return None
            more = os.read(pipe, 1 << 20)
            if not more:
                self._process.wait(5)
                return None
            self._buffer += more
        line, self._buffer = self._buffer.split(b"\n", 1)
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def read_all(engine: str, python: Path, paths: Iterable[Path], limit_s: float = 60.0) -> Iterator[tuple[Path, Read]]:
    """Every file in one process, which is started again after one that hung or crashed."""
    reader = Reader(python, engine, limit_s)
    try:
        for path in paths:
            yield path, reader.read(path)
    finally:
        reader.close()


def weight_mb(python: Path, *distributions: str) -> float:
    """Megabytes on disk of distributions and of everything they require."""
    done = subprocess.run(
        [str(python), "-I", str(HERE / "_peer.py"), "weigh", *distributions], capture_output=True, check=True
    )
    return float(json.loads(done.stdout))


def main() -> None:
    for name in sys.argv[1:] or PINS:
        try:
            print(name, peer(name), flush=True)
        except Absent as error:
            print(f"skipped: {error}", flush=True)


if __name__ == "__main__":
    main()
