"""Starting: import and --help, the demo from nothing to the last answer, its memory, what is installed."""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent


def median(command: list[Any], runs: int) -> float:
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def installed_mb(names: set[str]) -> float:
    total = 0
    for one in distributions():
        if (one.metadata["Name"] or "").lower().replace("_", "-") in names:
            total += sum(f.locate().stat().st_size for f in one.files or () if f.locate().is_file())  # type: ignore[union-attr]
    return total / 1e6


def closure() -> set[str]:
    """The names of what a user installs: those of the lock file and our own."""
    lock = (Path(__file__).resolve().parent.parent / "requirements.lock").read_text()
    names = {
        line.split("==")[0].strip().lower() for line in lock.splitlines() if "==" in line and not line.startswith(" ")
    }
    return names | {"drystone", "drystone-model-minilm", "drystone-model-smollm2"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    runs = 3 if parser.parse_args().quick else 11
    empty = median([sys.executable, "-c", "pass"], runs)
    out: dict[str, Any] = {
        "python_s": round(empty, 3),
        "import_s": round(median([sys.executable, "-c", "import drystone"], runs) - empty, 3),
        "import_goal": "<= 0.15",
        "help_s": round(median([BIN / "drystone", "--help"], runs), 3),
        "help_goal": "<= 0.3",
    }
    with tempfile.TemporaryDirectory() as temp:
        started = time.perf_counter()
        subprocess.run([BIN / "drystone", "demo", "shop", "--once"], cwd=temp, check=True, capture_output=True)
        out["demo_s"] = round(time.perf_counter() - started, 2)
        out["demo_peak_rss_mb"] = round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
        asked = [BIN / "drystone", "ask", "May I work from another country?", "--as", "bo", "--project", f"{temp}/shop"]
        out["ask_cold_s"] = round(median(asked, 3), 2)
    names = closure()
    everything = installed_mb(names)
    chat = installed_mb({"drystone-model-smollm2", "xllamacpp"})
    out["installed_mb"] = {
        "with_chat_model": round(everything), "without": round(everything - chat), "goal": "<= 1250 / <= 1050",
    }  # fmt: skip
    print(json.dumps(out))


if __name__ == "__main__":
    main()
