"""The support check: how often it drops a true sentence, and how often it keeps a false one.

CLAPNQ (visible half): people's sentences with the sentences that they rest on are true; the same with a number, a
name, a negation or a direction changed, or with another passage cited, are false. SciFact (visible half): claims
that their evidence supports or contradicts, written freely: much harder than what the check is for. PubMedQA
(visible half): conclusions against the abstract that they were drawn from, and against another abstract.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drystone.answer.support import OPPOSITES, Finding, Similarity, names, supports
from drystone.index.sentences import sentences

EVAL = Path(__file__).resolve().parents[2] / "shared" / "eval"
Case = tuple[str, list[str], str]  # sentence, evidence, title
AUXILIARY = re.compile(r"\b(is|are|was|were|can|may|must|will|has|have|should|does|did)\b(?! not\b|n't)")


def lines(path: Path) -> list[dict[str, Any]]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in data.split(b"\n") if line]


def clean(text: str) -> str:
    """Undo the spaces that the data set's tokenizer put around punctuation."""
    text = re.sub(r"``\s*|\s*''", '"', text)
    text = re.sub(r"\s+(n't|[,.;:!?)%'’])", r"\1", re.sub(r"([($])\s+", r"\1", text))
    return text.strip()


def clapnq() -> list[Case]:
    cases = []
    for row in lines(EVAL / "clapnq" / "visible" / "dev.jsonl"):
        evidence = [clean(s) for s in row["output"][0].get("selected_sentences") or ()]
        answer = clean(row["output"][0].get("answer") or "")
        if evidence:
            cases += [(answer[a:b], evidence, clean(row["passages"][0]["title"])) for a, b in sentences(answer)]
    return cases


def another_number(case: Case, rng: random.Random) -> str | None:
    found = list(re.finditer(r"(?<![\w.,])\d[\d,]*(?:\.\d+)?(?!\w)", case[0]))
    if not found:
        return None
    one = rng.choice(found)
    digits = one[0]
    at = rng.choice([i for i, c in enumerate(digits) if c.isdigit()])
    other = rng.choice([d for d in "123456789" if d != digits[at]])
    return case[0][: one.start()] + digits[:at] + other + digits[at + 1 :] + case[0][one.end() :]


def exchanged(case: Case) -> str | None:
    """Two numbers of the sentence in each other's place: each is in the evidence, but elsewhere."""
    found = [m for m in re.finditer(r"(?<![\w.,])\d[\d,]*(?:\.\d+)?(?!\w)", case[0])]
    pair = next(((a, b) for a, b in zip(found, found[1:], strict=False) if a[0] != b[0]), None)
    if pair is None:
        return None
    a, b = pair
    return case[0][: a.start()] + b[0] + case[0][a.end() : b.start()] + a[0] + case[0][b.end() :]


def another_name(case: Case, pool: list[str], rng: random.Random) -> str | None:
    there = " ".join([*case[1], case[2]]).lower()
    found = [n for n in names(case[0]) if n.lower() in there]
    others = [n for n in pool if n.lower() not in there]
    if not found or not others:
        return None
    return re.sub(rf"\b{re.escape(rng.choice(found))}\b", rng.choice(others), case[0], count=1)


def negated(case: Case) -> str | None:
    if re.search(r"\bnot\b|n't", case[0]):
        return re.sub(r"\s*\bnot\b|n't", "", case[0], count=1)
    changed, times = AUXILIARY.subn(r"\1 not", case[0], count=1)
    return changed if times else None


def turned(case: Case) -> str | None:
    """One word of direction for its opposite: before, after; increase, decrease; ..."""
    for a, b in (pair for p in OPPOSITES for pair in (p, p[::-1])):
        for word in sorted(a):
            if re.search(rf"\b{word}\b", case[0], re.I):
                return re.sub(rf"\b{word}\b", min(b), case[0], count=1, flags=re.I)
    return None


def false_ones(cases: list[Case], rng: random.Random) -> Iterator[tuple[str, Case]]:
    pool = sorted({n for c in cases for n in names(c[0])})
    for n, case in enumerate(cases):
        changes = {
            "number": another_number(case, rng),
            "numbers exchanged": exchanged(case),
            "name": another_name(case, pool, rng),
            "negation": negated(case),
            "direction": turned(case),
        }
        for kind, sentence in changes.items():
            if sentence is not None and sentence != case[0]:
                yield kind, (sentence, case[1], case[2])
        other = next(c for c in cases[n + 1 :] + cases[:n] if c[2] != case[2])
        yield "other passage", (case[0], other[1], other[2])


def share(verdicts: list[Finding]) -> dict[str, Any]:
    failed = [v.failed for v in verdicts if v.failed]
    by = {k: failed.count(k) for k in sorted(set(failed))}
    return {"sentences": len(verdicts), "dropped": round(len(failed) / max(1, len(verdicts)), 4), "by": by}


def scifact(similar: Similarity | None) -> dict[str, Any]:
    corpus = {row["_id"]: row for row in lines(EVAL / "scifact" / "common" / "corpus.jsonl.gz")}
    found: dict[str, list[Finding]] = {"SUPPORT": [], "CONTRADICT": []}
    for row in lines(EVAL / "scifact" / "visible" / "claims.jsonl"):
        for one in row["evidence"]:
            document = corpus[str(one["doc_id"])]
            text = [document["sentences"][n] for n in one["sentences"]]
            finding = supports(text, row["claim"], context=[document["title"]], similarity=similar)
            found[one["label"]].append(finding)
    return {label.lower(): share(verdicts) for label, verdicts in found.items()}


def pubmedqa(similar: Similarity | None, most: int) -> dict[str, Any]:
    rows = lines(EVAL / "pubmedqa" / "visible" / "pqal_train500.jsonl.gz")[:most]
    own, other = [], []
    for row, next_row in zip(rows, rows[1:] + rows[:1], strict=True):
        for a, b in sentences(row["LONG_ANSWER"]):
            claim = row["LONG_ANSWER"][a:b]
            own.append(supports(row["CONTEXTS"], claim, context=[row["QUESTION"]], similarity=similar))
            other.append(supports(next_row["CONTEXTS"], claim, context=[next_row["QUESTION"]], similarity=similar))
    return {"own abstract": share(own), "other abstract": share(other)}


def embedder() -> Similarity | None:
    """The built-in embedder's cosine, remembered; ``None`` where its weights are not on this machine."""
    from functools import lru_cache

    from drystone.errors import EngineMissing
    from drystone.index.minilm import MiniLM
    from drystone.settings import defaults

    model = MiniLM(
        {"type": "builtin"}, settings=defaults(Path.cwd(), models__path=os.environ.get("DRYSTONE_MODELS_PATH", ""))
    )

    @lru_cache(maxsize=20_000)
    def vector(text: str) -> Any:
        return model.embed([text])[0]

    try:
        vector("warm")
    except EngineMissing:
        return None
    return lambda a, b: float(vector(a) @ vector(b))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    if not (EVAL / "clapnq").is_dir():
        print(json.dumps({"skipped": f"the evaluation data is not at {EVAL.parent.name}/{EVAL.name}"}))
        return
    cases = clapnq()[: 60 if quick else None]
    out: dict[str, Any] = {}
    for name, similar in (("words", None), ("words and meaning", embedder())):
        if name != "words" and similar is None:
            out[name] = {"skipped": "the embedding model is not on this machine"}
            continue
        wrong: dict[str, list[Finding]] = {}
        for kind, (sentence, evidence, title) in false_ones(cases, random.Random(7)):
            wrong.setdefault(kind, []).append(supports(evidence, sentence, context=[title], similarity=similar))
        true = [supports(e, s, context=[t], similarity=similar) for s, e, t in cases]
        kept = sum(not v.failed for verdicts in wrong.values() for v in verdicts)
        out[name] = {
            "true sentences dropped": share(true),
            "false sentences kept": round(kept / sum(map(len, wrong.values())), 4),
            "false sentences": {kind: share(verdicts) for kind, verdicts in wrong.items()},
            "scifact": scifact(similar),
            "pubmedqa": pubmedqa(similar, 20 if quick else 200),
        }
    print(json.dumps(out))


if __name__ == "__main__":
    main()
