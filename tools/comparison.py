"""The tables of docs/comparison.md and its rows in the README, from bench/results/frameworks.json."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

NAMES = {"drystone": "Drystone", "langchain": "LangChain", "llamaindex": "LlamaIndex"}
Row = tuple[str, Callable[[dict[str, Any]], str]]


def _held(found: dict[str, Any]) -> str:
    """What a store holds against a build from nothing."""
    said = [f"{found[name]} {name}" for name in ("missing", "surplus") if found[name]]
    return f" ({', '.join(said)})" if said else ""


def _embedded(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda one: f"{one[name]['embedded']}{_held(one[name])}"


def _outage(name: str) -> Callable[[dict[str, Any]], str]:
    def said(one: dict[str, Any]) -> str:
        found = one[name]
        stopped = (
            f"stopped: {found['error'].split(':')[0]}" if found["error"] else f"{found['chunks_lost']} chunks gone"
        )
        again = found["embedded_when_back"]
        return stopped + (f", {again} embedded when back" if again else "")

    return said


def _interrupted(name: str) -> Callable[[dict[str, Any]], str]:
    def said(one: dict[str, Any]) -> str:
        found = one[name]
        return f"{found['visible_after']} / {found['embedded_by_the_next_run']}{_held(found)}"

    return said


def _readers(one: dict[str, Any]) -> str:
    found = one["readers"]
    return f"{found['embedded']}; {found['old_readers_still_find']} / {found['new_readers_find']}"


def _vanished(one: dict[str, Any]) -> str:
    return f"{one['vanished']['still_found']} files, {one['vanished']['chunks_left_of_them']} chunks"


def _update(one: dict[str, Any]) -> str:
    found = one["update_fails"]
    return f"{found['files_gone_meanwhile']} of {found['files']}{_held(found)}"


def _twins(one: dict[str, Any]) -> str:
    found = one["twins"]
    return f"{found['embedded']}; {'kept' if found['twin_held_after_the_other_is_deleted'] else 'lost'}"


COUNTS: tuple[Row, ...] = (
    ("first build: chunks; texts embedded", lambda one: f"{one['built']['chunks']}; {one['built']['embedded']}"),
    ("nothing changed: embedded", _embedded("nothing_changed")),
    ("one paragraph of the longest file rewritten: embedded", _embedded("paragraph_rewritten")),
    ("one paragraph inserted near its top: embedded", _embedded("paragraph_inserted")),
    ("every file touched: embedded", _embedded("touched")),
    ("the longest file renamed: embedded", _embedded("renamed")),
    ("readers of all changed: embedded; found by the old / the new readers", _readers),
    ("8 files vanished: still found", _vanished),
    ("the listing is empty", _outage("outage_all")),
    ("half of the shares are empty", _outage("outage_half")),
    ("embedder fails half-way: chunks visible / embedded by the next run", _interrupted("embedder_fails")),
    ("kill -9 half-way: chunks visible / embedded by the next run", _interrupted("killed")),
    ("kill -9 after vectors were written, before that is noted", _interrupted("killed_before_noted")),
    ("embedder fails while all files are updated: files not found meanwhile", _update),
    ("a file copied: embedded; the copy after the first is deleted", _twins),
)
TIMES: tuple[Row, ...] = (
    (
        "installed, without the weights",
        lambda one: f"{one['installed']['mb']} MB, {one['installed']['packages']} packages",
    ),
    ("started, model loaded", lambda one: f"{one['time']['ready_s']} s"),
    ("first ingestion: chunks", lambda one: f"{one['time']['first']['chunks']}"),
    (
        "first ingestion: time",
        lambda one: f"{one['time']['first']['seconds']} s ({one['time']['first']['cpu_s']} CPU-s)",
    ),
    ("first ingestion: chunks a CPU-second", lambda one: f"{one['time']['first']['chunks_per_cpu_s']}"),
    ("peak memory", lambda one: f"{one['time']['peak_mb']} MB"),
    ("nothing changed", lambda one: f"{one['time']['nothing_changed']['seconds']} s"),
    ("one paragraph changed", lambda one: _timed(one, "one_paragraph")),
    ("readers of all files changed", lambda one: _timed(one, "readers")),
)


def _timed(one: dict[str, Any], name: str) -> str:
    return f"{one['time'][name]['embedded']} embedded, {one['time'][name]['seconds']} s"


def _mixed(one: dict[str, Any], step: str) -> str:
    found = one["model"].get(step)
    if found is None:
        return "-"
    return f"{found['embedded']} embedded; {found['vectors_old']} old, {found['vectors_new']} new; {found['found']}"


MODELS: tuple[Row, ...] = (
    ("known texts found first, before", lambda one: one["model"]["found_before"]),
    ("opened with the new model", lambda one: one["model"]["found_with_the_new_model"]),
    ("ingested: embedded; vectors of each model; found", lambda one: _mixed(one, "ingest")),
    ("then one file changed", lambda one: _mixed(one, "ingest_after_one_file_changed")),
    ("force_update", lambda one: _mixed(one, "ingest_with_force_update")),
)


def _lines(head: str, rows: tuple[Row, ...], columns: dict[str, dict[str, Any]]) -> list[str]:
    if not columns:
        return []
    lines = [f"| {head} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    return [*lines, *(f"| {name} | {' | '.join(cell(one) for one in columns.values())} |" for name, cell in rows), ""]


def tables(found: dict[str, Any]) -> str:
    """The three tables of docs/comparison.md."""
    stacks = {NAMES[name]: one for name, one in found["stacks"].items() if "time" in one}
    modes = {
        f"{NAMES[name]}{'' if mode == 'default' else f' `{mode}`'}": counts
        for name, one in found["stacks"].items()
        for mode, counts in one.get("counts", {}).items()
    }
    versions = [f"{NAMES[n]}: {', '.join(one['versions'])}" for n, one in found["stacks"].items() if "versions" in one]
    files = found["files"]
    return "\n".join(
        [
            *(f"{line}.\n" for line in versions),
            *(f"Not measured: {reason}\n" for reason in found["absent"].values()),
            *_lines(f"with the weights, {files['time']:,} files", TIMES, stacks),
            *_lines(f"counted, {files['counts']} files", COUNTS, modes),
            *_lines(f"another embedding model, {files['model']} files", MODELS, stacks),
        ]
    ).rstrip()


def rows(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Those of the README: the mode of each framework in which what vanished goes."""
    stacks = {name: one for name, one in found["stacks"].items() if "time" in one}
    if "drystone" not in stacks or len(stacks) < 2:
        return []
    first = {name: next(iter(one["counts"].values())) for name, one in stacks.items()}
    said: list[tuple[str, Callable[[dict[str, Any], dict[str, Any]], str]]] = [
        (
            f"{found['files']['time']:,} files ingested, same MiniLM weights: chunks a CPU-second, peak memory",
            lambda one, _: f"{one['time']['first']['chunks_per_cpu_s']}, {one['time']['peak_mb']} MB",
        ),
        ("their readers changed: texts embedded, time", lambda one, _: _timed(one, "readers").replace(" embedded", "")),
        ("a paragraph inserted: texts embedded", lambda _, one: str(one["paragraph_inserted"]["embedded"])),
        (
            "the embedding model exchanged, ingested again: known texts found",
            lambda one, _: one["model"]["ingest"]["found"],
        ),
        ("half of the share unreadable as empty", lambda _, one: _outage("outage_half")(one)),
        (
            "kill -9 before the last write: chunks twice after the next run",
            lambda _, one: str(one["killed_before_noted"]["surplus"]),
        ),
        (
            "embedder fails in an update: files not found meanwhile",
            lambda _, one: f"{one['update_fails']['files_gone_meanwhile']} of {one['update_fails']['files']}",
        ),
    ]
    out = []
    for name, cell in said:
        peers = [f"{NAMES[n]} {cell(one, first[n])}" for n, one in stacks.items() if n != "drystone"]
        out.append((name, cell(stacks["drystone"], first["drystone"]), "; ".join(peers)))
    return out
