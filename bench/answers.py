"""Do answers cite what people would, and refuse when there is nothing? CLAPNQ (visible half) through the whole product.

    python -m bench.answers [--quick]

The passages of all questions are one source of rows; somebody who may read them asks every question. A passage's
sentences are the data set's: one counts as cited if quotes cover more than half of it. Precision is the share of
cited sentences that people selected (a quote from another passage counts as a wrong one), recall the share of
selected ones that are cited, rouge_l_recall the share of people's answer that ours has in the same order; where two
people answered, the nearer one counts. Refusal is a pair. ``held`` are the questions that no constant was chosen on.
Then some questions are asked again in mode ``generated``. One JSON document is the last line.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import drystone
from drystone.errors import EngineMissing
from drystone.project import Project, predicate
from drystone.records import Answer

DATA = Path(__file__).resolve().parents[2] / "shared" / "eval" / "clapnq" / "visible" / "dev.jsonl"
PROJECT = """\
format = 1
[project]
name = "clapnq"
[[sources]]
name = "wiki"
type = "rows"
path = "passages.jsonl"
classification = "public"
trust = "trusted"
[[models]]
name = "local"
type = "llama_cpp"
"""
USERS = '[[users]]\nname = "asker"\ngroups = ["owners"]\n'
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Item:
    """A question, the sentences of its passage (spans of ``text``), and what people selected and answered."""

    id: str
    question: str
    title: str
    text: str
    sentences: list[Span]
    selected: list[frozenset[int]]  # one for each person; empty: unanswerable
    answers: list[str]
    held: bool

    @classmethod
    def read(cls, n: int, row: dict[str, Any]) -> Item:
        passage, spans, at = row["passages"][0], [], 0
        text = passage["text"].strip()
        for sentence in passage["sentences"]:
            start = text.index(sentence, at)
            at = start + len(sentence)
            spans.append((start, at))
        said = [one for one in row["output"] if one["selected_sentences"]]
        chosen = [frozenset(map(passage["sentences"].index, one["selected_sentences"])) for one in said]
        held = n // 4 % 2 == 1  # as in bench/quality.py, which fits the confidence on the others
        return cls(
            row["id"], row["input"], passage["title"], text, spans, chosen, [one["answer"] for one in said], held
        )


def cited(item: Item, answer: Answer) -> tuple[set[int], int]:
    """The sentences of the item's passage that quotes cover by more than half, and quotes from elsewhere."""
    own = [c for c in answer.citations if c.document == f"wiki:{item.id}"]
    found = set()
    for n, (a, b) in enumerate(item.sentences):
        if sum(max(0, min(b, c.end) - max(a, c.start)) for c in own) > (b - a) / 2:
            found.add(n)
    return found, len(answer.citations) - len(own)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", re.sub(r"\s*\[\d+\]", "", text).lower())


def rouge(answer: list[str], reference: list[str]) -> float:
    """ROUGE-L recall (Lin, 2004): the longest common subsequence as a share of the reference."""
    row = [0] * (len(reference) + 1)
    for word in answer:
        before = 0
        for n, other in enumerate(reference, 1):
            before, row[n] = row[n], before + 1 if word == other else max(row[n], row[n - 1])
    return row[-1] / max(1, len(reference))


def measures(asked: list[tuple[Item, Answer]]) -> dict[str, Any]:
    given = [(item, answer) for item, answer in asked if item.selected and not answer.refused]
    precision, recall, overlap, first = [], [], [], []
    for item, answer in given:
        right, elsewhere = cited(item, answer)
        total = len(right) + elsewhere
        pairs = [(len(right & s) / total if total else 0.0, len(right & s) / len(s)) for s in item.selected]
        p, r = max(pairs, key=lambda pair: (sum(pair), pair))
        precision.append(p)
        recall.append(r)
        overlap.append(max(rouge(words(answer.text), words(a)) for a in item.answers))
        first.append(not elsewhere)
    yes = [a.refused for i, a in asked if i.selected]
    no = [a.refused for i, a in asked if not i.selected]
    return {
        "questions": len(asked),
        "citation_precision": mean(precision),
        "citation_recall": mean(recall),
        "rouge_l_recall": mean(overlap),
        "own_passage_only": mean(first),
        "quotes": mean([len(a.citations) for _, a in given]),
        "refused_unanswerable": mean(no),
        "refused_answerable": mean(yes),
    }


def mean(values: list[Any]) -> float | None:
    return round(statistics.fmean(values), 4) if values else None


def untrue(kb: Project, answers: list[Answer]) -> int:
    """Citations whose quote is not the document's text from start to end."""
    wrong, house = 0, kb.house
    with house.lake.reader() as reader:
        for citation in (c for a in answers for c in a.citations):
            state = house.ledger.catalog.document(citation.document)
            assert state is not None and state.version.ref == citation.version
            text = reader.document(state.version.number).text
            wrong += text[citation.start : citation.end] != citation.quote
    return wrong


def ask(kb: Project, items: list[Item], mode: str) -> tuple[list[tuple[Item, Answer]], dict[str, float]]:
    asked, times = [], []
    for item in items:
        started = time.perf_counter()
        asked.append((item, kb.ask(item.question, actor="asker", mode=mode)))
        times.append((time.perf_counter() - started) * 1000)
    return asked, {"median_ms": round(statistics.median(times), 1), "longest_ms": round(max(times), 1)}


def generated(kb: Project, items: list[Item]) -> dict[str, Any]:
    """The same questions quoted and phrased by the embedded model. ``supported``: of the sentences that it wrote."""
    quoted, quick = ask(kb, items, "quoted")
    written, slow = ask(kb, items, "generated")
    if any("model unavailable" in a.notes for _, a in written):
        return {"skipped": "the chat model is not on this machine"}
    given = [a for _, a in written if not a.refused]
    phrased = [a for a in given if a.mode == "generated"]
    kept = sum(len(re.findall(r"(?:\[\d+\])+(?=\s|$)", a.text)) for a in phrased)
    dropped = sum(predicate(kb.passport(a).bundle)["dropped"] for a in given)
    return {
        "quoted": {**measures(quoted), **quick},
        "generated": {
            **measures(written),
            **slow,
            "sentences_written": kept + dropped,
            "supported": round(kept / max(1, kept + dropped), 4),
            "fell_back_to_quoted": len(given) - len(phrased),
        },
        "untrue_quotes": untrue(kb, [a for _, a in written]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="60 questions, 3 of them phrased by the model")
    quick = parser.parse_args().quick
    if not DATA.is_file():
        print(json.dumps({"skipped": "the evaluation data is not beside the repository"}))
        return
    rows = [json.loads(line) for line in DATA.read_text(encoding="utf-8").split("\n") if line]
    every = [Item.read(n, row) for n, row in enumerate(rows)]  # the file has the answerable first
    items = every[:30] + every[-30:] if quick else every
    with tempfile.TemporaryDirectory() as temp:
        folder = Path(temp)
        (folder / "drystone.toml").write_text(PROJECT)
        (folder / "users.toml").write_text(USERS)
        (folder / "passages.jsonl").write_text(
            "".join(
                json.dumps({"id": i.id, "title": i.title, "text": i.text, "readers": ["everyone"]}) + "\n"
                for i in every
            )
        )
        with drystone.open(folder) as kb:
            try:
                report = kb.ingest(actor="asker")
            except EngineMissing as error:
                print(json.dumps({"skipped": error.happened}))
                return
            assert report.added == len(every), report
            asked, times = ask(kb, items, "quoted")
            result = {
                "passages": report.added,
                "all": {**measures(asked), **times},
                "held": measures([pair for pair in asked if pair[0].held]),
                "untrue_quotes": untrue(kb, [a for _, a in asked]),
            }
            print(json.dumps(result), flush=True)
            some = [i for i in items if i.selected and i.held][:: 1 if quick else 3]
            result["quoted_against_generated"] = generated(kb, some[: 3 if quick else 20])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
