"""``make bench``: run every benchmark, one process each, and keep what they print in bench/results/.

python -m bench                 # all
python -m bench ingest search   # some
python -m bench --quick         # smaller sizes; nothing is kept
python -m bench documents --format docx   # options of one benchmark; nothing is kept
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ASIDE = ("peers", "scoring")  # no benchmarks: what several of them use


def main() -> None:
    names = sorted(p.stem for p in HERE.glob("*.py") if not p.stem.startswith("_") and p.stem not in ASIDE)
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*names, []], metavar="NAME", help=", ".join(names))
    parser.add_argument("--quick", action="store_true")
    options, its_own = parser.parse_known_args()
    if its_own:
        if len(options.names) != 1:
            parser.error(f"{' '.join(its_own)}: name the one benchmark that these are for")
        sys.exit(
            subprocess.run([sys.executable, "-m", f"bench.{options.names[0]}", *its_own], cwd=HERE.parent).returncode
        )
    failed = []
    for name in options.names or names:
        print(f"-- {name}", flush=True)
        started = time.perf_counter()
        command = [sys.executable, "-m", f"bench.{name}"] + (["--quick"] if options.quick else [])
        done = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True)
        lines = done.stdout.strip().splitlines()
        if done.returncode != 0 or not lines:
            failed.append(name)
            continue
        result = json.loads(lines[-1])
        print(json.dumps(result, indent=1)[:4000])
        if not options.quick:
            kept = {
                "command": f"python -m bench {name}",
                "date": time.strftime("%Y-%m-%d"),
                "machine": f"{platform.machine()}, {len_cores()} cores, Python {platform.python_version()}",
                "seconds": round(time.perf_counter() - started, 1),
                "result": result,
            }
            (HERE / "results").mkdir(exist_ok=True)
            (HERE / "results" / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def len_cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


if __name__ == "__main__":
    main()
