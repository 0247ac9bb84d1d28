"""The embedder: texts per CPU-second of its sorted batches of 8, of arrival-order batches of 32, and of onnxruntime alone.

    python -m bench.embed [--quick] [--out FILE]

Texts are of mixed lengths, as passages, titles and sentences are. "raw" is the shortest loop that tokenizes, sorts
and runs the same session, and gives nothing back. One JSON document is the last line.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from drystone import settings
from drystone.index.minilm import MiniLM

PROSE = Path(__file__).parents[1] / "ARCHITECTURE.md"
WORDS = [word for word in PROSE.read_text().split() if word.isalpha()]


def texts(count: int) -> list[str]:
    """Lengths of 3 to 170 words, most of them short: median about 40."""
    rng = random.Random(3)
    return [" ".join(rng.choices(WORDS, k=min(170, 3 + int(rng.expovariate(1 / 50))))) for _ in range(count)]


def per_cpu_second(call: Callable[[], Any], count: int) -> float:
    started = time.process_time()
    call()
    return count / (time.process_time() - started)


def arrival(model: MiniLM, chosen: list[str], batch: int = 32) -> None:
    """What a framework does that embeds texts as they come."""
    for first in range(0, len(chosen), batch):
        encoded = model._tokenizer().encode_batch_fast(chosen[first : first + batch])
        model._run([e.ids[:256] for e in encoded])


def raw(model: MiniLM, chosen: list[str]) -> Callable[[], None]:
    session, tokenizer, _ = model._open()

    def run() -> None:
        pieces = sorted((e.ids[:256] for e in tokenizer.encode_batch_fast(chosen)), key=len)
        for first in range(0, len(pieces), 8):
            part = pieces[first : first + 8]
            ids = np.zeros((len(part), len(part[-1])), np.int64)
            mask = np.zeros_like(ids)
            for row, piece in enumerate(part):
                ids[row, : len(piece)], mask[row, : len(piece)] = piece, 1
            session.run(None, {"input_ids": ids, "attention_mask": mask})

    return run


def measure(quick: bool = False) -> dict[str, Any]:
    count, rounds = (96, 1) if quick else (160, 3)
    chosen = texts(count)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "drystone.toml").touch()
        model = MiniLM({}, settings=settings.load(Path(folder)))
        started = time.perf_counter()
        model.embed(["ready"])
        first_s = time.perf_counter() - started
        alone = raw(model, chosen)
        ways: dict[str, Callable[[], Any]] = {
            "sorted_8": lambda: model.embed(chosen),
            "arrival_32": lambda: arrival(model, chosen),
            "raw_sorted_8": alone,
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):  # in turn, so that a busy moment meets all of them
            for name, way in ways.items():
                found[name].append(per_cpu_second(way, count))
        question = []
        for _ in range(10):
            started = time.perf_counter()
            model.embed(["How long do I have to return an item?"])
            question.append(time.perf_counter() - started)
        order = model.embed(chosen[:64])
        drift = float(np.abs(order - np.concatenate([model.embed([t]) for t in chosen[:64]])).max())
    medians = {name: statistics.median(values) for name, values in found.items()}
    return {
        "texts": count,
        "median_words": int(statistics.median(len(t.split()) for t in chosen)),
        "per_cpu_second": {name: round(value, 1) for name, value in medians.items()},
        "sorted_against_arrival": round(medians["sorted_8"] / medians["arrival_32"], 2),
        "sorted_against_raw": round(medians["sorted_8"] / medians["raw_sorted_8"], 3),
        "first_text_s": round(first_s, 3),
        "question_ms": round(statistics.median(question) * 1000, 2),
        "batch_invariance": drift,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = measure(arguments.quick)
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
