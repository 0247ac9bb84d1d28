"""Drystone, LangChain's index() and LlamaIndex's IngestionPipeline over the same files with the same MiniLM weights.

    python -m bench.frameworks [--quick] [--keep FOLDER]

Each stack runs in an environment of its own (``bench/peers_scripts/``, pinned here), cut off from the network where
the kernel lets us, as its documentation recommends: loader, splitter of 900 characters without overlap, record manager
or docstore on disk, Chroma on disk; the modes that clean up and those that do not. Every text that is embedded passes
one counter. What a store holds is read from the store and compared with a build of the same files from nothing.

1. *time*: 1,000 files of mixed lengths with the weights: first ingestion, nothing changed, one paragraph, new readers.
2. *counts*: the same kinds of files with words hashed for vectors (what is counted does not depend on weights):
   changes, touched and renamed files, readers, vanished files, outages, failures, kill -9, twins; every mode.
3. *model*: the weights, then the same weights behind a rotation of the space: a model as good, and a stranger.

One JSON document is the last line; a table goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench import peers, start
from drystone.index.minilm import MiniLM
from drystone.models.weights import MINILM, find
from drystone.settings import load

SCRIPTS = Path(__file__).resolve().parent / "peers_scripts"
COMMON = ("chromadb==1.5.9", "sentence-transformers==6.2.0", "transformers==5.24.0", "torch==2.13.0")
REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "langchain": (
        "langchain-core==1.8.3", "langchain-classic==1.0.8", "langchain-community==0.4.2", "langchain-chroma==1.1.0",
        "langchain-huggingface==1.2.3", "langchain-text-splitters==1.1.3",
        "greenlet==3.5.6",  # SQLAlchemy 2.1 no longer brings it, and SQLRecordManager does not import without
        *COMMON,
    ),
    "llamaindex": (
        "llama-index-core==0.14.25", "llama-index-embeddings-huggingface==0.8.0",
        "llama-index-vector-stores-chroma==0.6.0", "llama-index-readers-file==0.7.0", *COMMON,
    ),
}  # fmt: skip
MODES = {
    "drystone": ("default",),
    "langchain": ("full", "incremental", "scoped_full"),
    "llamaindex": ("upserts_and_delete", "upserts"),
}  # the first of each does what Drystone does: what vanished goes
HASHED, HASHED_2 = "hash", "hash-2"
LONG_AGO = 1_700_000_000  # when the files were last written

NOUNS = [
    "invoice",
    "contract",
    "kettle",
    "turbine",
    "ledger",
    "harbour",
    "customer",
    "engine",
    "permit",
    "orchard",
    "valve",
    "tariff",
    "patient",
    "reactor",
    "bridge",
    "warehouse",
    "policy",
    "surgeon",
    "cable",
    "deposit",
    "window",
    "furnace",
    "passenger",
    "statute",
    "bearing",
    "dividend",
    "clinic",
    "tunnel",
    "pension",
    "shipment",
    "boiler",
    "auditor",
    "freight",
    "garden",
    "lantern",
    "mortgage",
    "nurse",
    "outlet",
    "parcel",
    "quarry",
    "river",
    "signal",
    "tractor",
    "union",
    "vessel",
    "winter",
    "yard",
    "zone",
    "account",
    "barrel",
    "carpet",
    "dentist",
    "estate",
    "filter",
    "grain",
    "hinge",
    "island",
    "journal",
    "kitchen",
    "lawyer",
]
VERBS = [
    "accepts",
    "builds",
    "checks",
    "delays",
    "ends",
    "finds",
    "grants",
    "heats",
    "insures",
    "joins",
    "keeps",
    "limits",
    "moves",
    "needs",
    "opens",
    "pays",
    "rejects",
    "sells",
    "tests",
    "updates",
    "visits",
    "weighs",
    "approves",
    "borrows",
    "cleans",
    "delivers",
    "exports",
    "funds",
    "guards",
    "hires",
    "inspects",
]
ADJECTIVES = [
    "annual",
    "broken",
    "cold",
    "direct",
    "early",
    "final",
    "gentle",
    "heavy",
    "internal",
    "joint",
    "late",
    "medical",
    "narrow",
    "old",
    "private",
    "quiet",
    "rapid",
    "safe",
    "technical",
    "urgent",
    "valid",
    "wide",
    "active",
    "blue",
    "common",
    "dry",
    "empty",
    "formal",
    "green",
    "hidden",
    "idle",
]
PLACES = [
    "Aarhus",
    "Bilbao",
    "Cork",
    "Delft",
    "Essen",
    "Faro",
    "Ghent",
    "Hull",
    "Izmir",
    "Jena",
    "Kiel",
    "Lyon",
    "Malmo",
    "Nantes",
    "Oslo",
    "Porto",
    "Riga",
    "Sofia",
]


# -- files ----------------------------------------------------------------------------------------------
def sentence(rng: random.Random) -> str:
    a, b, c = (f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}" for _ in range(3))
    return (
        f"The {a} {rng.choice(VERBS)} the {b} in {rng.choice(PLACES)} before day {rng.randint(2, 9999)}, "
        f"and the {c} {rng.choice(VERBS)} it."
    )


def paragraph(rng: random.Random) -> str:
    return " ".join(sentence(rng) for _ in range(rng.randint(1, 6)))


def write(path: Path, text: str, at: int = LONG_AGO) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    os.utime(path, (at, at))


def corpus(root: Path, files: int, seed: int, longest: int = 60) -> Path:
    """Most have a paragraph or two, one has ``longest``: Pareto, in four folders."""
    rng = random.Random(seed)
    for number in range(files):
        count = min(longest, int(rng.paretovariate(1.1)))
        if number == files // 2:
            count = longest
        text = "\n\n".join(paragraph(rng) for _ in range(count))
        write(root / f"share{number % 4}" / f"{number:04d}.txt", text + "\n")
    return root


def all_files(root: Path) -> list[Path]:
    return sorted(root.rglob("*.txt"))


# -- a stack's process ------------------------------------------------------------------------------------
class Died(Exception):
    """The process ended before it answered."""


class Stack:
    """One process of one stack. ``peak_mb``: proportional memory of it and its children, looked at ten times a second."""

    def __init__(self, name: str, python: Path, home: Path) -> None:
        passed = ("PATH", "LANG", "DRYSTONE_MODELS", *(["PYTHONPATH"] if name == "drystone" else []))
        keep = {variable: os.environ[variable] for variable in passed if variable in os.environ}
        environment = {
            **keep, "HOME": str(home), "HF_HUB_OFFLINE": "1", "ANONYMIZED_TELEMETRY": "False", "PYTHONWARNINGS": "ignore",
            "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1",
        }  # fmt: skip
        self.log = home / f"{name}.log"
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*peers._wall(), str(python), str(SCRIPTS / f"{name}_stack.py")],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, text=True,
            )  # fmt: skip
        self.peak_mb = 0.0

    def ask(self, do: str, **options: Any) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps({"do": do, **options}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise Died(do)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def must(self, do: str, **options: Any) -> dict[str, Any]:
        answer = self.ask(do, **options)
        if answer["error"]:
            raise RuntimeError(f"{self.log}: {do}: {answer['error']}")
        return answer

    def watch(self) -> Callable[[], float]:
        """Until the returned function is called, which gives the peak in MB."""
        done = threading.Event()

        def look() -> None:
            while not done.wait(0.1):
                self.peak_mb = max(self.peak_mb, pss_mb(self.process.pid))

        thread = threading.Thread(target=look, daemon=True)
        thread.start()

        def stop() -> float:
            done.set()
            thread.join()
            return round(self.peak_mb)

        return stop

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def cpu_s(pid: int) -> float:
    """Of a process, of all below it, and of those of them that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        below = [
            int(c) for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()
        ]
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK") + sum(map(cpu_s, below))


def pss_mb(pid: int) -> float:
    """Of a process and all below it; shared pages are shared out."""
    total = 0.0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) / 1024
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                total += pss_mb(int(child))
    except OSError:
        pass  # it ended while we looked
    return total


# -- one stack, one mode: what is counted ------------------------------------------------------------------
class Trial:
    """Scenarios from one built store. The files keep their paths, which are their names to all three stacks."""

    def __init__(self, stack: str, mode: str, python: Path, home: Path, pristine: Path, model: str = HASHED) -> None:
        self.name, self.mode, self.python, self.home, self.model = stack, mode, python, home, model
        self.pristine, self.files = pristine, home / "files"
        self.number = 0
        self.stack = self._process()
        self.reset()
        self.built, self.clean = self.build()
        if {name for name, _ in self.clean} != {str(p.relative_to(self.files)) for p in all_files(self.files)}:
            raise RuntimeError(f"{stack} {mode}: a build does not hold all files")

    def _process(self) -> Stack:
        return Stack(self.name, self.python, self.home)

    def reset(self) -> None:
        shutil.rmtree(self.files, ignore_errors=True)
        shutil.copytree(self.pristine, self.files)

    def store(self) -> Path:
        self.number += 1
        return self.home / f"store-{self.number}"

    def open(self, store: Path, model: str | None = None, stack: Stack | None = None) -> None:
        (stack or self.stack).must(
            "open", store=str(store), files=str(self.files), mode=self.mode, model=model or self.model
        )

    def chunks(self) -> Counter[tuple[str, str]]:
        """What the store holds: (file, text), each as often as it is there."""
        return Counter((name, " ".join(text.split())) for name, text in self.stack.must("chunks")["chunks"])

    def build(self) -> tuple[dict[str, Any], Counter[tuple[str, str]]]:
        """From nothing, in a process that ends: its store can be copied."""
        self.base = self.store()
        self.open(self.base)
        done = self.stack.must("ingest")
        held = self.chunks()
        self.stack.must("close")
        self.restart()
        return done, held

    def restart(self) -> None:
        self.stack.close()
        self.stack = self._process()

    def fresh(self) -> tuple[dict[str, Any], Counter[tuple[str, str]]]:
        """The same files as they are now, from nothing: the truth."""
        self.open(self.store())
        done = self.stack.must("ingest")
        held = self.chunks()
        self.stack.must("close")
        return done, held

    def again(self) -> None:
        """The files as they were, a copy of the built store, opened."""
        self.reset()
        store = self.store()
        shutil.copytree(self.base, store)
        self.open(store)

    def known(self, count: int = 20) -> list[Path]:
        """Files of one chunk: the whole text finds its own file at rank one, if the vectors fit each other."""
        small = [p for p in all_files(self.pristine) if 150 < p.stat().st_size < 800]
        return small[:: max(1, len(small) // count)][:count]

    def recall(self, readers: str = "staff", paths: list[Path] | None = None) -> str:
        """Of the known files, how many are found first by their own text."""
        paths = self.known() if paths is None else paths
        found = self.stack.must("search", texts=[p.read_text().strip() for p in paths], readers=readers)["found"]
        right = sum(name == str(p.relative_to(self.pristine)) for name, p in zip(found, paths, strict=True))
        return f"{right}/{len(paths)}"


def differs(held: Counter[Any], wanted: Counter[Any]) -> dict[str, int]:
    return {"missing": (wanted - held).total(), "surplus": (held - wanted).total()}


def counted(trial: Trial) -> dict[str, Any]:
    """Part 2, for one stack in one mode."""
    out: dict[str, Any] = {
        "built": {
            "files": len(all_files(trial.files)),
            "chunks": trial.clean.total(),
            "embedded": trial.built["embedded"],
        }
    }
    stack = trial.stack
    longest = max(all_files(trial.pristine), key=lambda p: (p.stat().st_size, str(p))).relative_to(trial.pristine)

    def step(change: Callable[[], None], **options: Any) -> dict[str, Any]:
        """Change the files, ingest, and look whether the store holds what a build from nothing holds."""
        trial.again()
        change()
        done = stack.ask("ingest", **options)
        held = trial.chunks()
        stack.must("close")
        return {
            "embedded": done["embedded"],
            "seconds": round(done["seconds"], 3),
            "error": done["error"],
            "held": held,
        }

    def against(found: dict[str, Any], truth: Counter[Any]) -> dict[str, Any]:
        held = found.pop("held")
        return {**found, **differs(held, truth)}

    out["nothing_changed"] = against(step(lambda: None), trial.clean)

    def rewrite() -> None:
        path = trial.files / longest
        parts = path.read_text().split("\n\n")
        first = parts[30].split()
        parts[30] = " ".join(["That", *first[1:]])
        write(path, "\n\n".join(parts), LONG_AGO + 86_400 * 3)

    def insert() -> None:
        path = trial.files / longest
        parts = path.read_text().split("\n\n")
        parts.insert(2, paragraph(random.Random(99)))
        write(path, "\n\n".join(parts), LONG_AGO + 86_400 * 3)

    for name, change in (("paragraph_rewritten", rewrite), ("paragraph_inserted", insert)):
        found = step(change)
        out[name] = against(found, trial.fresh()[1])

    def touch() -> None:
        for path in all_files(trial.files):
            os.utime(path, (LONG_AGO + 86_400 * 30, LONG_AGO + 86_400 * 30))

    out["touched"] = against(step(touch), trial.clean)

    def rename() -> None:
        (trial.files / longest).rename(trial.files / "share0" / "renamed.txt")

    found = step(rename)
    out["renamed"] = against(found, trial.fresh()[1])

    # -- who may read it
    trial.again()
    before = trial.recall("staff")
    done = stack.must("ingest", readers="board")
    out["readers"] = {
        "embedded": done["embedded"], "seconds": round(done["seconds"], 3), "found_before": before,
        "old_readers_still_find": trial.recall("staff"), "new_readers_find": trial.recall("board"),
    }  # fmt: skip
    stack.must("close")

    # -- what vanished
    gone = trial.known(8)

    def vanish() -> None:
        for path in gone:
            (trial.files / path.relative_to(trial.pristine)).unlink()

    trial.again()
    vanish()
    done = stack.ask("ingest")
    out["vanished"] = {
        "files": len(gone), "error": done["error"], "still_found": trial.recall(paths=gone),
        "chunks_left_of_them": sum(n for (name, _), n in trial.chunks().items() if trial.pristine / name in gone),
    }  # fmt: skip
    stack.must("close")

    def outage(shares: tuple[str, ...]) -> None:
        for share in shares:
            shutil.rmtree(trial.files / share)
            (trial.files / share).mkdir()

    for name, shares in (
        ("outage_all", ("share0", "share1", "share2", "share3")),
        ("outage_half", ("share0", "share1")),
    ):
        trial.again()
        outage(shares)
        done = stack.ask("ingest")
        left = trial.chunks()
        trial.reset()  # the share is mounted again
        back = stack.must("ingest")
        out[name] = {
            "error": done["error"], "chunks_lost": (trial.clean - left).total(), "embedded_when_back": back["embedded"],
            **differs(trial.chunks(), trial.clean),
        }  # fmt: skip
        stack.must("close")

    # -- failures in the first ingestion
    half = trial.built["embedded"] // 2
    for name, how in (("embedder_fails", "fail_at"), ("killed", "kill_at"), ("killed_before_noted", "lose_at")):
        trial.reset()
        store = trial.store()
        trial.open(store)
        spent = half
        try:
            done = stack.ask("ingest", **{how: half})
            spent = done["embedded"]
            if not done["error"]:
                raise RuntimeError(f"{trial.name} {trial.mode}: {name} did not happen")
            stack.must("close")
            trial.restart()
        except Died:
            trial.stack = trial._process()
        stack = trial.stack
        trial.open(store)
        visible = trial.chunks().total()
        done = stack.must("ingest")
        out[name] = {
            "visible_after": visible, "of": trial.clean.total(),
            "embedded_by_the_next_run": done["embedded"],
            "embedded_twice": None if how == "lose_at" else spent + done["embedded"] - trial.built["embedded"],
            **differs(trial.chunks(), trial.clean),
        }  # fmt: skip
        again = stack.must("ingest")
        out[name]["after_one_more_run"] = {"embedded": again["embedded"], **differs(trial.chunks(), trial.clean)}
        stack.must("close")

    # -- a failure while everything changes
    def revise() -> None:
        for path in all_files(trial.files):
            write(path, path.read_text().replace("The ", "This ", 1), LONG_AGO + 86_400 * 3)

    trial.again()
    revise()
    done = stack.ask("ingest", fail_at=len(all_files(trial.files)) // 2)
    held = {name for name, _ in trial.chunks()}
    unseen = len(all_files(trial.files)) - len(held)
    stack.must("close")
    trial.restart()
    stack = trial.stack
    trial.open(trial.home / f"store-{trial.number}")
    rerun = stack.must("ingest")
    after = trial.chunks()
    stack.must("close")
    out["update_fails"] = {
        "error": done["error"], "files": len(all_files(trial.files)), "files_gone_meanwhile": unseen,
        "embedded_by_the_next_run": rerun["embedded"], **differs(after, trial.fresh()[1]),
    }  # fmt: skip

    # -- the same text in two files
    original = trial.known(3)[1].relative_to(trial.pristine)
    trial.again()
    shutil.copy2(trial.files / original, trial.files / "share0" / "zz-twin.txt")
    first = stack.must("ingest")
    both = {name for name, _ in trial.chunks()}
    (trial.files / original).unlink()
    stack.must("ingest")
    held_after = {name for name, _ in trial.chunks()}
    out["twins"] = {
        "embedded": first["embedded"],
        "both_held": str(original) in both and "share0/zz-twin.txt" in both,
        "twin_held_after_the_other_is_deleted": "share0/zz-twin.txt" in held_after,
    }
    stack.must("close")
    return out


# -- with the weights -------------------------------------------------------------------------------------
def weights(home: Path) -> Path:
    """The folder that sentence-transformers reads, around the same model.safetensors and tokenizer.json as ours."""
    (home / "drystone.toml").touch()
    folder, made = find(MINILM, load(home)), home / "all-MiniLM-L6-v2"
    (made / "1_Pooling").mkdir(parents=True)
    for name in ("model.safetensors", "tokenizer.json"):
        (made / name).symlink_to(folder / name)
    write_json = lambda path, value: (made / path).write_text(json.dumps(value))  # noqa: E731
    write_json("config.json", {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_size": 384, "num_hidden_layers": 6,
        "num_attention_heads": 12, "intermediate_size": 1536, "hidden_act": "gelu", "vocab_size": 30522,
        "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0,
    })  # fmt: skip
    write_json("tokenizer_config.json", {
        "tokenizer_class": "BertTokenizerFast", "do_lower_case": True, "model_max_length": 512, "unk_token": "[UNK]",
        "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]",
    })  # fmt: skip
    write_json("sentence_bert_config.json", {"max_seq_length": 256, "do_lower_case": False})
    write_json("1_Pooling/config.json", {"word_embedding_dimension": 384, "pooling_mode_mean_tokens": True})
    modules = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    write_json("modules.json", [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(modules)
    ])  # fmt: skip
    return made


def timed(stack: str, python: Path, home: Path, pristine: Path, model: str) -> dict[str, Any]:
    """Part 1."""
    files = home / "timed"
    shutil.copytree(pristine, files)
    started = time.perf_counter()
    process = Stack(stack, python, home)
    options = {"store": str(home / "timed-store"), "files": str(files), "mode": MODES[stack][0], "model": model}
    process.must("open", **options)
    ready = time.perf_counter() - started
    texts = [sentence(random.Random(n)) for n in range(5)]
    theirs = np.array(process.must("embed", texts=texts)["vectors"])
    same = float((theirs * MiniLM({}, settings=load(home.parent)).embed(texts)).sum(1).min())
    if same < 0.9999:
        raise RuntimeError(f"{stack}: not the same model: cosine {same}")
    stop, before = process.watch(), cpu_s(process.process.pid)
    first = process.must("ingest")
    used, peak = cpu_s(process.process.pid) - before, stop()
    chunks = len(process.must("chunks")["chunks"])
    out: dict[str, Any] = {
        "mode": MODES[stack][0], "ready_s": round(ready, 2), "peak_mb": peak, "cosine_to_ours": round(same, 6),
        "first": {"seconds": round(first["seconds"], 2), "embedded": first["embedded"], "chunks": chunks,
                  "cpu_s": round(used, 2), "chunks_per_s": round(chunks / first["seconds"], 1),
                  "chunks_per_cpu_s": round(chunks / used, 1)},
    }  # fmt: skip
    idle = [process.must("ingest") for _ in range(3)]
    out["nothing_changed"] = {
        "seconds": round(min(one["seconds"] for one in idle), 3),
        "embedded": sum(i["embedded"] for i in idle),
    }
    path = max(all_files(files), key=lambda p: (p.stat().st_size, str(p)))
    write(path, path.read_text().replace("The ", "This ", 1), LONG_AGO + 86_400 * 3)
    done = process.must("ingest")
    out["one_paragraph"] = {"seconds": round(done["seconds"], 3), "embedded": done["embedded"]}
    done = process.must("ingest", readers="board")
    out["readers"] = {"seconds": round(done["seconds"], 3), "embedded": done["embedded"]}
    process.must("close")
    process.close()
    return out


def exchanged(stack: str, python: Path, home: Path, pristine: Path, model: str) -> dict[str, Any]:
    """Part 3: another embedding model, as good as the first."""
    trial = Trial(stack, MODES[stack][0], python, home, pristine, model)
    ask = trial.stack
    out: dict[str, Any] = {"chunks": trial.clean.total()}
    trial.again()
    ask.must("remember")
    out["found_before"] = trial.recall()
    ask.must("close")
    trial.open(trial.home / f"store-{trial.number}", f"{model}#turned")
    out["found_with_the_new_model"] = trial.recall()
    done = ask.must("ingest")
    out["ingest"] = {"embedded": done["embedded"], **picked(ask.must("compare")), "found": trial.recall()}
    path = max(all_files(trial.files), key=lambda p: (p.stat().st_size, str(p)))
    write(path, path.read_text().replace("The ", "This ", 1), LONG_AGO + 86_400 * 3)
    done = ask.must("ingest")
    out["ingest_after_one_file_changed"] = {
        "embedded": done["embedded"],
        **picked(ask.must("compare")),
        "found": trial.recall(),
    }
    if stack == "langchain":
        done = ask.must("ingest", force=True)
        out["ingest_with_force_update"] = {
            "embedded": done["embedded"],
            **picked(ask.must("compare")),
            "found": trial.recall(),
        }
    ask.must("close")
    trial.stack.close()
    return out


def picked(answer: dict[str, Any]) -> dict[str, int]:
    return {f"vectors_{name}": answer[name] for name in ("old", "new", "neither")}


def installed(python: Path | None) -> dict[str, Any]:
    """Megabytes on disk and packages, without pip and setuptools; the weights (91 MB) are in neither."""
    if python is None:
        names = start.closure() - {"drystone-model-smollm2", "xllamacpp", "drystone-model-minilm"}
        return {"mb": round(start.installed_mb(names)), "packages": len(names)}
    code = (
        "from importlib.metadata import distributions as d;"
        "o=[x for x in d() if x.metadata['Name'] not in ('pip','setuptools')];"
        "print(sum(p.stat().st_size for x in o for f in x.files or () if (p:=x.locate_file(f)).is_file()), len(o))"
    )
    size, count = subprocess.run([python, "-Ic", code], check=True, capture_output=True, text=True).stdout.split()
    return {"mb": round(int(size) / 1e6), "packages": int(count)}


# -- all of it ----------------------------------------------------------------------------------------------
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keep", type=Path, help="a folder for stores and logs, kept")
    parser.add_argument("--only", choices=["time", "counts", "model"])
    parser.add_argument("--stack", choices=list(MODES))
    options = parser.parse_args()
    many, some, few = (60, 60, 40) if options.quick else (1000, 150, 100)

    pythons: dict[str, Path] = {"drystone": Path(sys.executable)}
    out: dict[str, Any] = {"stacks": {"drystone": {"installed": installed(None)}}, "absent": {}}
    for name, needed in REQUIREMENTS.items():
        try:
            pythons[name] = peers.venv(f"ingest-{name}", needed)
        except peers.Absent as error:
            out["absent"][name] = str(error)
            print(f"skipped: {error}", file=sys.stderr)
            continue
        out["stacks"][name] = {"versions": list(needed), "installed": installed(pythons[name])}
    out["network"] = "none" if peers.walled() else "not cut off"
    with tempfile.TemporaryDirectory() as temp:
        root = options.keep or Path(temp)
        root.mkdir(parents=True, exist_ok=True)
        corpora = {
            "time": corpus(root / "many", many, 1, longest=20),
            "counts": corpus(root / "some", some, 2),
            "model": corpus(root / "few", few, 3, longest=4),
        }
        out["files"] = {name: len(all_files(path)) for name, path in corpora.items()}
        folder = weights(root)
        for name, python in pythons.items():
            if options.stack not in (None, name):
                continue
            found, model = out["stacks"][name], str(folder)
            if options.only in (None, "time"):
                found["time"] = said(
                    timed(name, python, fresh_folder(root / f"{name}-time"), corpora["time"], model), name, "time"
                )
            if options.only in (None, "counts"):
                found["counts"] = {}
                for mode in MODES[name]:
                    trial = Trial(name, mode, python, fresh_folder(root / f"{name}-{mode}"), corpora["counts"])
                    found["counts"][mode] = said(counted(trial), name, mode)
                    trial.stack.close()
            if options.only in (None, "model"):
                found["model"] = said(
                    exchanged(name, python, fresh_folder(root / f"{name}-model"), corpora["model"], model),
                    name,
                    "model",
                )
    print(json.dumps(out))


def fresh_folder(path: Path) -> Path:
    path.mkdir()
    return path


def said(found: dict[str, Any], *names: str) -> dict[str, Any]:
    print(f"{' '.join(names)}: {json.dumps(found)}", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main()
