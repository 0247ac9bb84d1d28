"""Does search find what answers? SciFact, Cranfield and tau2_banking against words alone, meaning alone and rank fusion;
and the refusal pair of the calibrated confidence on clapnq and XQuAD.

    python -m bench.quality [--quick] [--calibrate] [--out FILE]

Looks for the data at ../shared/eval beside the repository and says what it skips. Passages, terms, vectors, BM25, fusion,
parts and evidence are the product's own; vectors are kept in .cache/. A document scores as its best passage.
``--calibrate`` fits the coefficients of ``drystone.retrieve.evidence`` on every other pair of questions and prints them;
the refusal pair is always reported on the rest. One JSON document is the last line.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drystone import settings
from drystone.errors import EngineMissing
from drystone.index import sentences
from drystone.index.chunks import chunks, for_meaning, for_words
from drystone.index.minilm import MiniLM
from drystone.index.terms import Analyser
from drystone.ingest.parsers.markdown import MarkdownParser
from drystone.records import EVERYONE, Block, Classification, Hit, Label, Parsed
from drystone.retrieve import evidence, fuse
from drystone.retrieve.scan import Vectors
from drystone.retrieve.search import split
from drystone.retrieve.words import Postings, Scored, Words

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "eval"
CACHE = ROOT / ".cache" / "quality"
PUBLIC = Label(frozenset({frozenset({EVERYONE})}), Classification.public)
Query = tuple[str, frozenset[str]]


def lines(name: str) -> list[dict[str, Any]]:
    path = DATA / name
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@dataclass(frozen=True, slots=True)
class Paper:
    id: str
    title: str
    text: str


def scifact() -> tuple[list[Paper], list[Query]]:
    papers = [Paper(d["_id"], d["title"], " ".join(d["sentences"])) for d in lines("scifact/common/corpus.jsonl.gz")]
    claims = lines("scifact/visible/claims.jsonl")
    return papers, [(c["claim"], frozenset(c["relevant_doc_ids"])) for c in claims if c["relevant_doc_ids"]]


def cranfield() -> tuple[list[Paper], list[Query]]:
    papers = [
        Paper(d["_id"], d["title"], d["text"]) for d in lines("cranfield/common/corpus.jsonl.gz")
    ]  # whose text begins with the title
    asked = lines("cranfield/visible/queries.jsonl")
    return papers, [(q["text"], frozenset(d for d, code in q["qrels_code"].items() if code > 0)) for q in asked]


def tau2_banking() -> tuple[list[Paper], list[Query]]:
    papers = [Paper(d["id"], d["title"], d["content"]) for d in lines("tau2_banking/common/documents.jsonl.gz")]
    tasks = [t for t in lines("tau2_banking/visible/tasks.jsonl") if t["required_documents"]]
    return papers, [(scenario(t["user_scenario"])[:4000], frozenset(t["required_documents"])) for t in tasks]


def scenario(raw: dict[str, Any]) -> str:
    """What the customer knows and wants, as text."""
    return "\n".join(str(v) if isinstance(v, str) else json.dumps(v) for v in raw.values() if v)


class Store:
    """Passages of papers, all permitted, in the product's own structures."""

    def __init__(self, name: str, papers: list[Paper], model: MiniLM) -> None:
        self.papers, self.model, self.analyser = papers, model, Analyser(b"bench")
        self.passages: list[tuple[int, int, str]] = []  # paper, start, text
        meaning, words = [], []
        for n, paper in enumerate(papers):
            parsed = (
                MarkdownParser().parse(paper.text.encode(), name=paper.id, media_type="text/markdown")
                if name == "tau2_banking"
                else Parsed(paper.text, (Block("paragraph", 0, len(paper.text)),), title=paper.title)
            )
            for chunk in chunks(parsed, limit=900) if parsed.text.strip() else ():
                self.passages.append((n, chunk.start, chunk.text))
                meaning.append(for_meaning(chunk.text, chunk.heading, paper.title))
                words.append(for_words(chunk.text, chunk.heading, paper.title))
        self.x = embedded(f"{name}-passages", meaning, model)
        self.vectors = Vectors(self.x.shape[1], 2).grown(self.x)
        found = self.analyser.count(words)
        terms, first, counts = np.unique(found.term, return_index=True, return_counts=True)
        offsets = np.r_[first, first[-1] + counts[-1]].astype(np.int64)
        self.words = Words()
        self.words.append(Postings(terms, offsets, found.text.astype(np.int32), found.times))
        self.lengths = found.tokens
        self.reader = evidence.Reader(embed=model.embed, terms=self.analyser.terms, sentences=sentences)
        self.owner = np.array([n for n, _, _ in self.passages])

    def score(self, text: str, mask: np.ndarray | None = None) -> Scored:
        mask = np.ones(len(self.passages), bool) if mask is None else mask
        total = int(self.lengths[mask].sum())
        return self.words.score(self.analyser.terms(text), mask, int(mask.sum()), self.lengths, total)

    def rank(self, vector: np.ndarray, scored: Scored, limit: int, mask: np.ndarray | None = None) -> fuse.Ranking:
        mask = np.ones(len(self.passages), bool) if mask is None else mask
        packed, count = np.packbits(mask, bitorder="little"), int(mask.sum())
        return fuse.rank(vector, self.vectors, scored, mask=mask, packed=packed, count=count, limit=limit)

    def ours(self, text: str, vectors: np.ndarray, limit: int) -> fuse.Ranking:
        """As ``Retriever`` ranks: the whole, and the parts of a long request. ``vectors``: of both."""
        parts = split(text, self.analyser.terms)
        whole = self.rank(vectors[0], self.score(text), max(limit, fuse.WHOLE) if parts else limit)
        if not parts:
            return whole
        others = [self.rank(v, self.score(p), fuse.PART) for v, p in zip(vectors[1:], parts, strict=True)]
        return fuse.merge(whole, others, limit)

    def documents(self, rows: np.ndarray) -> list[str]:
        return list(dict.fromkeys(self.papers[n].id for n in self.owner[rows]))


def embedded(name: str, texts: list[str], model: MiniLM) -> np.ndarray:
    key = hashlib.sha256("\0".join([model.digest, *texts]).encode()).hexdigest()[:16]
    path = CACHE / f"{name}-{key}.npy"
    if not path.exists():
        print(f"embedding {len(texts)} texts of {name}", flush=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        np.save(path, np.concatenate([model.embed(texts[i : i + 512]) for i in range(0, len(texts), 512)]))
    return np.load(path)


def measures(found: list[list[str]], wanted: list[frozenset[str]]) -> dict[str, float]:
    """nDCG@10 and R@100 as trec_eval computes them (binary), and R@10."""
    gains, r10, r100 = [], [], []
    for ids, right in zip(found, wanted, strict=True):
        best = sum(1 / np.log2(i + 2) for i in range(min(10, len(right))))
        gains.append(sum(1 / np.log2(i + 2) for i, d in enumerate(ids[:10]) if d in right) / best)
        r10.append(len(right & set(ids[:10])) / len(right))
        r100.append(len(right & set(ids[:100])) / len(right))
    return {"ndcg_10": mean(gains), "recall_10": mean(r10), "recall_100": mean(r100)}


def mean(values: list[float]) -> float:
    return round(float(np.mean(values)), 4)


def ranked(name: str, papers: list[Paper], queries: list[Query], model: MiniLM) -> dict[str, Any]:
    store = Store(name, papers, model)
    parts = [[text, *split(text, store.analyser.terms)] for text, _ in queries]
    flat = embedded(f"{name}-questions", [text for group in parts for text in group], model)
    starts = np.cumsum([0, *map(len, parts)])
    found: dict[str, list[list[str]]] = {k: [] for k in ("ours", "whole_only", "bm25", "minilm", "rank_fusion")}
    for n, (text, _) in enumerate(queries):
        vectors = flat[starts[n] : starts[n + 1]]
        words, near = store.score(text), store.x @ vectors[0]
        by_words, by_meaning = np.argsort(-words.scores, kind="stable"), np.argsort(-near, kind="stable")
        places = np.zeros(len(near))
        for order in (by_words, by_meaning):
            places[order] += 1 / (61 + np.arange(len(order)))
        found["ours"].append(store.documents(store.ours(text, vectors, 300).rows))
        found["whole_only"].append(store.documents(store.rank(vectors[0], words, 300).rows))
        found["bm25"].append(store.documents(by_words[:400]))
        found["minilm"].append(store.documents(by_meaning[:400]))
        found["rank_fusion"].append(store.documents(np.argsort(-places, kind="stable")[:400]))
    wanted = [right for _, right in queries]
    out = {kind: measures(ids, wanted) for kind, ids in found.items()}
    print(name, len(papers), "documents", len(store.passages), "passages", len(queries), "questions")
    for kind, values in out.items():
        print(f"  {kind:12s}", values, flush=True)
    return {"documents": len(papers), "passages": len(store.passages), "questions": len(queries), **out}


# -- the refusal pair ---------------------------------------------------------------------------------
Case = tuple[str, bool, dict[str, float], dict[str, float]]  # kind, answerable, features, features by words alone


def cases(model: MiniLM, most: int) -> Iterator[Case]:
    """clapnq: its own unanswerable questions, whose passage is near. XQuAD: the paragraph there, and taken away."""
    asked = lines("clapnq/visible/dev.jsonl")
    half = most // 2  # the file has the answerable first
    asked = asked if len(asked) <= most else asked[:half] + asked[-half:]
    papers = [Paper(r["id"], r["passages"][0]["title"], r["passages"][0]["text"]) for r in asked]
    store = Store("clapnq", papers, model)
    for text, row in zip([r["input"] for r in asked], asked, strict=True):
        yield "clapnq", any(o["selected_sentences"] for o in row["output"]), *features(store, text, None, model)
    found = lines("xquad/visible/xquad.en.jsonl.gz")
    papers = [Paper(r["pid"], r["title"].replace("_", " "), r["context"]) for r in found]
    store = Store("xquad", papers, model)
    for n, row in enumerate(found[: most // 2]):
        for m, question in enumerate(row["qas"][:2]):
            there = m == 0
            yield "xquad", there, *features(store, question["question"], None if there else store.owner != n, model)
            # the smallest store that there is: one paragraph, the right one or its neighbour
            alone = store.owner == (n if there else (n + 1) % len(found))
            yield "alone", there, *features(store, question["question"], alone, model)


def features(store: Store, text: str, mask: Any, model: MiniLM) -> tuple[dict[str, float], dict[str, float]]:
    mask = np.ones(len(store.passages), bool) if mask is None else mask
    scored = store.score(text, mask)
    out = []
    for vector in (model.embed([text])[0], None):
        packed, count = np.packbits(mask, bitorder="little"), int(mask.sum())
        weight = fuse.WEIGHT if vector is not None else 0.0
        ranking = fuse.rank(
            vector, store.vectors, scored, mask=mask, packed=packed, count=count, limit=10, weight=weight
        )
        hits = []
        for row in ranking.rows.tolist():
            n, start, passage = store.passages[row]
            paper = store.papers[n]
            hits.append(
                Hit(str(row), paper.id, "", paper.title, passage, 0.0, start, start + len(passage), PUBLIC, row)
            )
        question = evidence.Question(text, *scored.coverage(store.analyser.terms(evidence.content(text))), vector)
        share = float(scored.scores[ranking.rows].max(initial=0.0))
        out.append(dict(store.reader.read(question, hits, ranking.cosines.tolist(), share)[1]) if hits else {})
    return out[0], out[1]


def refusals(model: MiniLM, most: int, calibrate: bool) -> dict[str, Any]:
    every = list(cases(model, most))
    learned = [case for n, case in enumerate(every) if n // 4 % 2 == 0]  # in fours: XQuAD is there, alone, away, alone
    held = [case for n, case in enumerate(every) if n // 4 % 2 == 1]
    if calibrate:
        for name, column in (("WITH_MEANING", 2), ("BY_WORDS", 3)):
            rows = [case for case in learned if case[column]]
            fitted = evidence.fit([case[column] for case in rows], [case[1] for case in rows])  # type: ignore[misc]
            print(name, "=", fitted)
            setattr(evidence, name, fitted)
    out: dict[str, Any] = {}
    for way, column in (("meaning", 2), ("words", 3)):
        for kind in ("clapnq", "xquad", "alone"):
            sure = [(evidence.confidence(c[column], meaning=way == "meaning"), c[1]) for c in held if c[0] == kind]  # type: ignore[arg-type]
            yes, no = [s for s, a in sure if a], [s for s, a in sure if not a]
            pairs = {
                str(t): {
                    "refused_unanswerable": mean([s < t for s in no]),
                    "refused_answerable": mean([s < t for s in yes]),
                }
                for t in (0.3, 0.4, 0.5, 0.6)
            }
            auc = mean([float(np.mean([(a > b) + 0.5 * (a == b) for b in no])) for a in yes])
            brier = mean([(s - a) ** 2 for s, a in sure])
            out[f"{kind}_{way}"] = {"questions": len(sure), "auc": auc, "brier": brier, "at": pairs}
            print(kind, way, out[f"{kind}_{way}"], flush=True)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tau2_banking and 100 questions of clapnq only")
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--only-refusals", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if not DATA.is_dir():
        print(json.dumps({"skipped": "the evaluation data is not beside the repository"}))
        return
    result: dict[str, Any] = {"skipped": []}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "drystone.toml").touch()
        model = MiniLM({"type": "builtin"}, settings=settings.load(Path(folder)))
        try:
            model.embed(["ready?"])
        except EngineMissing as error:
            print(json.dumps({"skipped": str(error)}))
            return
        if (DATA / "clapnq").is_dir() and (DATA / "xquad").is_dir():
            result["refusals"] = refusals(model, 100 if given.quick else 300, given.calibrate)
        for load in (
            () if given.only_refusals else (tau2_banking,) if given.quick else (tau2_banking, cranfield, scifact)
        ):
            if (DATA / load.__name__).is_dir():
                result[load.__name__] = ranked(load.__name__, *load(), model)
            else:
                result["skipped"].append(load.__name__)
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
