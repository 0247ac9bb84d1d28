"""Write the README's table of figures from bench/results/, and nothing that is not there.

python tools/figures.py            # write
python tools/figures.py --check    # exit 1 if the README says something else
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
README, RESULTS = ROOT / "README.md", ROOT / "bench" / "results"
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
    if pair := quality.get("refusals", {}).get("clapnq_meaning", {}).get("at", {}).get("0.5"):
        said = f"{pair['refused_unanswerable']:.2f} / {pair['refused_answerable']:.2f}"
        out.append(
            ("refused when unanswerable / when answerable (CLAPNQ, held questions)", said, "reported as the pair")
        )
    if answers := result("answers"):
        out += [(label, text, goal) for label, text, goal in answers.get("readme", [])]
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
    return out


def table() -> str:
    lines = ["| measure | measured | goal or peer |", "|---|---|---|"]
    return "\n".join(lines + [f"| {a} | {b} | {c} |" for a, b, c in rows()])


def main() -> None:
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(START, 1)
    _, after = rest.split(END, 1)
    new = f"{before}{START}\n{table()}\n{END}{after}"
    if "--check" in sys.argv:
        sys.exit(0 if new == text else "The README's figures are not those of bench/results: run tools/figures.py")
    README.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
