"""Runs inside a peer's environment and imports nothing of ours: ``python -I _peer.py ENGINE``.

Takes a path (JSON) a line on standard input and answers a JSON line each: text, seconds, error, peak memory. What a
library prints goes nowhere. ``python -I _peer.py weigh DISTRIBUTION`` prints its size with what it requires, in MB.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable

Engine = Callable[[str], str]


def kreuzberg() -> Engine:
    from kreuzberg import ExtractionConfig, extract_file_sync

    config = ExtractionConfig(output_format="markdown", use_cache=False)
    return lambda path: str(extract_file_sync(path, config=config).content)


def markitdown() -> Engine:
    from markitdown import MarkItDown

    reader = MarkItDown(enable_plugins=False)
    return lambda path: str(reader.convert_local(path).markdown)


ENGINES: dict[str, Callable[[], Engine]] = {f.__name__.replace("_", "-"): f for f in (kreuzberg, markitdown)}


def weigh(distribution: str) -> float:
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import distribution as installed

    from pip._vendor.packaging.requirements import Requirement

    first = Requirement(distribution)
    waiting, seen, total = [(first.name, "")] + [(first.name, e) for e in first.extras], set(), 0
    while waiting:
        name, extra = one = waiting.pop()
        if one in seen:
            continue
        try:
            found = installed(name)
        except PackageNotFoundError:
            continue  # an extra of an extra that nothing asked for
        if name.lower() not in {n.lower() for n, _ in seen}:
            total += sum(p.stat().st_size for f in found.files or () if (p := found.locate_file(f)).is_file())  # type: ignore[attr-defined]
        seen.add(one)
        for text in found.requires or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(needed.name, ""), *((needed.name, e) for e in needed.extras)]
    return round(total / 1e6, 1)


def main() -> None:
    if sys.argv[1] == "weigh":
        print(json.dumps(weigh(sys.argv[2])))
        return
    answers = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)

    def say(answer: dict[str, object]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        engine = ENGINES[sys.argv[1]]()
    except Exception as error:
        say({"error": f"{type(error).__name__}: {error}"[:300]})
        return
    say({"ready": True})
    for line in sys.stdin:
        path, text, failed = json.loads(line), "", ""
        started = time.perf_counter()
        try:
            text = engine(path)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # Rust panics are BaseExceptions
            failed = f"{type(error).__name__}: {error}"[:300]
        seconds = time.perf_counter() - started
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        text = text.encode("utf-8", "replace").decode()  # lone surrogates do not survive a pipe
        say({"text": text, "seconds": seconds, "error": failed, "rss_mb": round(rss, 1)})


if __name__ == "__main__":
    main()
