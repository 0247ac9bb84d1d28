"""Write the tables of the README, docs/comparison.md and decision 12 from bench/results/, and nothing that is not there.

python tools/figures.py            # write
python tools/figures.py --check    # exit 1 if they say something else
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import comparison

ROOT = Path(__file__).resolve().parent.parent
README, RESULTS = ROOT / "README.md", ROOT / "bench" / "results"
COMPARISON = ROOT / "docs" / "comparison.md"
PARSERS = ROOT / "docs" / "decisions" / "0012-parsers-by-measurement.md"
START, END = "<!-- figures -->", "<!-- /figures -->"


def result(name: str) -> Any:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text())["result"] if path.exists() else None


def rows() -> list[tuple[str, str, str]]:
    """Measure, figure, goal or peer."""
    out: list[tuple[str, str, str]] = []
    if start := result("start"):
        mb = start["installed_mb"]
        out += [
            ("`import drystone` / `drystone --help`", f"{start['import_s']} s / {start['help_s']} s", "0.15 s / 0.3 s"),
            (
                "sample company: made, ingested, three questions; memory",
                f"{start['demo_s']} s, {start['demo_peak_rss_mb']} MB",
                "1 GB",
            ),
            (
                "installed with / without the chat model",
                f"{mb['with_chat_model']} / {mb['without']} MB",
                "1250 / 1050 MB",
            ),
        ]
    if ingest := result("ingest"):
        real, trivial = ingest["real_embedder"], ingest["trivial_embedder"]
        out += [
            ("ingestion against the raw embedder (share of its time)", f"{real['share_of_raw']}", "0.95"),
            ("ingestion with a trivial embedder", f"{trivial['chunks_per_s']} chunks/s", "5000 chunks/s"),
            *(
                (
                    f"peak memory of {long['megabytes']} MB in one .{long['kind']} file ({long['chunks']} chunks)",
                    f"{long['peak_mb']} MB, its parser {long['worker_peak_mb']} MB, {long['seconds']} s",
                    "bounded",
                )
                for long in ingest.get("long_texts", ())
            ),
            (
                "nothing changed, a file (a bare walk)",
                f"{ingest['nothing_changed']['ms_per_file']} ms ({ingest['nothing_changed']['walk_ms_per_file']} ms)",
                "0.05 ms",
            ),
            (
                f"one paragraph of {ingest['one_paragraph']['files']} files changed",
                f"{ingest['one_paragraph']['embedded']} embedding, {ingest['one_paragraph']['seconds']} s",
                "1 embedding",
            ),
            (
                f"{ingest['relabel']['chunks']} chunks relabelled",
                f"{ingest['relabel']['seconds']} s, 0 embeddings",
                "1 s",
            ),
        ]
    if search := result("search"):
        for size in ("100000", "1000000"):
            scan = search["scan"].get(size)
            if scan:
                shares = [s for s in scan if s.endswith("%")]
                out.append(
                    (
                        f"vector search, {int(size):,} x 384, p50 at {' / '.join(shares)} readable",
                        " / ".join(f"{scan[s]['ours']['p50_ms']:.1f}" for s in shares) + " ms",
                        f"unfiltered: {scan['unfiltered']['p50_ms']:.1f} ms",
                    )
                )
                out.append(
                    (
                        "the same: recall@10 (filtered after the search)",
                        " / ".join(f"{scan[s]['ours']['recall_10']:g}" for s in shares)
                        + " ("
                        + " / ".join(f"{scan[s]['after']['recall_10']:g}" for s in shares)
                        + ")",
                        "1.0 where exact",
                    )
                )
    out += _documents(result("documents") or {}, result("loaders") or {})
    if leaks := result("leaks"):
        out.append(
            (
                f"forbidden hits in {leaks['cases']:,} actor-query cases (with the filter off)",
                f"{leaks['forbidden']} ({leaks['forbidden_with_filter_off']:,})",
                "0",
            )
        )
    quality = result("quality") or {}
    ways = {"bm25": "words alone", "minilm": "meaning alone", "rank_fusion": "rank fusion"}
    for name, label, measure, goal in (
        ("scifact", "SciFact nDCG@10", "ndcg_10", "0.74"),
        ("cranfield", "Cranfield nDCG@10", "ndcg_10", ""),
        ("tau2_banking", "long banking requests R@10", "recall_10", "0.30"),
    ):
        if found := quality.get(name):
            peers = ", ".join(f"{said} {found[way][measure]:.3f}" for way, said in ways.items())
            out.append((f"{label}, visible half", f"{found['ours'][measure]:.3f}", f"{goal} ({peers})".strip()))
    if answers := result("answers"):
        held, written = answers["held"], answers["quoted_against_generated"]
        pair = f"{held['refused_unanswerable']:.2f} / {held['refused_answerable']:.2f}"
        cited = f"{held['citation_precision']:.2f} / {held['citation_recall']:.2f}"
        told = " / ".join(f"{written[way]['rouge_l_recall']:.2f}" for way in ("quoted", "generated"))
        out += [
            ("CLAPNQ: refused when unanswerable / when answerable (held questions)", pair, "reported as the pair"),
            ("CLAPNQ: citations, precision / recall (held questions)", cited, ""),
            ("CLAPNQ: ROUGE-L recall, quoted / generated by the embedded model", told, "why `auto` quotes"),
        ]
    if support := result("support"):
        words = support["words"]
        said = f"{words['true sentences dropped']['dropped']:.3f} / {words['false sentences kept']:.3f}"
        out.append(("support check: true sentences dropped / false ones kept", said, "published"))
    if passport := result("passport"):
        for count, goal in (("8", "8 KB, 2 ms"), ("20", "12 KB")):
            one = passport["seal"][count]
            said = f"{one['bundle_bytes'] / 1000:.1f} KB, {one['seal_cpu_ms']:.1f} ms CPU"
            out.append((f"passport of {count} chunks of {one['documents']} documents", said, goal))
        check = passport["verify"]
        out.append((f"verification of {check['entries']:,} log entries", f"{check['verify_s']} s", ""))
    if ledger := result("ledger"):
        back, reach, rate = ledger["back_trace_ms"], ledger["reach_ms"], ledger["appends_per_s"]
        out += [
            (
                f"back-trace / reach at {ledger['edges']:,} edges, p99",
                f"{back['p99']} / {reach['p99']} ms",
                "20 / 200 ms",
            ),
            (
                "durable log appends a second, 1 / 16 clients",
                f"{rate['log_1_client']:,} / {rate['log_16_clients']:,}",
                f"raw SQLite, 1 client: {rate['raw_1']:,}",
            ),
        ]
    if frameworks := result("frameworks"):
        out += comparison.rows(frameworks)
    return out


def _documents(documents: Any, loaders: Any) -> list[tuple[str, str, str]]:
    out: list[tuple[str, str, str]] = []
    kept, peers = documents.get("fidelity", {}), ("kreuzberg", "markitdown")
    for key, label, goal in (
        ("f1", "words of a document kept, F1 over {files} files of 12 formats (distinct words)", "0.87"),
        ("cell_recall", "cells of their tables found", "0.9"),
    ):
        if ours := kept.get("ours", {}).get("goal_formats"):
            beside = f" ({ours['f1_distinct']:.3f})" if key == "f1" else ""
            others = [f"{p} {kept[p]['goal_formats'][key]:.3f}" for p in peers if "goal_formats" in kept.get(p, {})]
            out.append((label.format(**ours), f"{ours[key]:.3f}{beside}", _goal(goal, others)))
    pdf = documents.get("pdf", {})
    if ours := pdf.get("engines", {}).get("ours"):
        others = [f"{p} {pdf['engines'][p]['recall']:.3f}" for p in peers if "recall" in pdf["engines"].get(p, {})]
        label = f"words of pdftotext found in {pdf['files'] - len(pdf['scans'])} business PDFs"
        out.append((label, f"{ours['recall']:.3f}", _goal("0.97", others)))
    found = documents.get("third_party", {})
    if ours := found.get("ours"):
        others = [f"{p} {found[p]['ok_or_clear']:.3f}" for p in peers if "ok_or_clear" in found.get(p, {})]
        label = f"{found['files']} third-party files: text or a clear reason; hangs"
        out.append((label, f"{ours['ok_or_clear']:.3f}; {ours['hang or crash']}", _goal("0.98; 0", others)))
    if mixed := loaders.get("mixed"):
        others = [f"{name} {row['mb_per_s']:.1f}" for name, row in mixed.items()
                  if isinstance(row, dict) and "mb_per_s" in row and not name.startswith("ours")]  # fmt: skip
        said = f"{mixed['ours, 2 workers']['mb_per_s']:.1f} MB/s"
        out.append(
            (f"parsing {mixed['files']} mixed files, 2 workers", said, f"({', '.join(others)})" if others else "")
        )
    return out


def _goal(goal: str, others: list[str]) -> str:
    return f"{goal} ({', '.join(others)})" if others else goal


def parsers() -> str:
    """The measured table of decision 12: a format a line, ours beside the best of the others, and what was chosen."""
    found = result("documents")
    if not found or "fidelity" not in found:
        return "Not measured yet: `python -m bench documents`."
    kept, pdf = found["fidelity"], found["pdf"]
    lines = ["| format (files) | read by | licence, MB | F1 | cells | rows | s | others: F1 / cells / s | why |",
             "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for format, chosen in found["choice"].items():
        by = f"| {chosen['reader']} | {chosen['licence']}, {chosen['mb']:g} |"
        if format == "pdf":
            continue
        ours = kept["ours"]["formats"].get(format)
        if ours:
            others = "; ".join(
                f"{name} {_share(row['f1'])} / {_share(row['cell_recall'])} / {row['seconds']:g}"
                for name, engine in kept.items() if name != "ours" and (row := engine.get("formats", {}).get(format))
            )  # fmt: skip
            shares = " | ".join(_share(ours[key]) for key in ("f1", "cell_recall", "row_recall"))
            lines.append(
                f"| {format} ({ours['files']}) {by} {shares} | {ours['seconds']:g} | {others} | {chosen['because']} |"
            )
    whole = [f"{name}: F1 {e['goal_formats']['f1']:.3f}, of distinct words {e['goal_formats']['f1_distinct']:.3f}, cells "
             f"{e['goal_formats']['cell_recall']:.3f}" for name, e in kept.items() if "goal_formats" in e]  # fmt: skip
    lines += ["", f"Over the formats of the goal: {'; '.join(whole)}.", ""]
    if "engines" in pdf:
        chosen = found["choice"]["pdf"]
        lines += [
            f"**PDF** is read by {chosen['reader']} ({chosen['licence']}, {chosen['mb']:g} MB): {chosen['because']}. "
            f"Against {pdf['reference']}, {pdf['files']} files of {pdf['pages']} pages, of which {len(pdf['scans'])} "
            "without a word for pdftotext (read and timed, not scored):",
            "", "| engine | files | word recall | lowest file | precision | pages/s | failed |", "|---|---|---|---|---|---|---|",
            *(f"| {name} | {row['files']} | {row['recall']:.4f} | {row['lowest']:.4f} | {row['precision']:.4f} | {row['pages_per_s']:g} | "
              f"{', '.join(f'{k} {n}' for k, n in row['failed'].items()) or '-'} |"
              for name, row in pdf["engines"].items() if "recall" in row), "",
        ]  # fmt: skip
    weighed = [f"{row['pinned']} {row['mb']:g} MB ({row['licence']})" for row in found["engines"].values()]
    return "\n".join([*lines, f"Weight with all that is required: {'; '.join(weighed)}."])


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def table() -> str:
    lines = ["| measure | measured | goal or peer |", "|---|---|---|"]
    return "\n".join(lines + [f"| {a} | {b} | {c} |" for a, b, c in rows()])


def compared() -> str:
    found = result("frameworks")
    return comparison.tables(found) if found else "Not measured yet: `python -m bench frameworks`."


def main() -> None:
    stale = []
    for path, made in ((README, table), (COMPARISON, compared), (PARSERS, parsers)):
        text = path.read_text(encoding="utf-8")
        before, rest = text.split(START, 1)
        _, after = rest.split(END, 1)
        new = f"{before}{START}\n{made()}\n{END}{after}"
        if new != text:
            stale.append(path.name)
        if "--check" not in sys.argv:
            path.write_text(new, encoding="utf-8")
    if stale and "--check" in sys.argv:
        sys.exit(f"The figures of {', '.join(stale)} are not those of bench/results: run tools/figures.py")


if __name__ == "__main__":
    main()
