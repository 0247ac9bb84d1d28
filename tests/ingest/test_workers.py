"""The limited workers: what goes wrong costs one document, and there is no way out."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drystone.ingest import isolation
from drystone.ingest.pool import Broken, Job, Pool
from drystone.ingest.wire import pack, unpack
from drystone.records import Block, Parsed
from tests.ingest.build import docx, settings

REAL = sys.executable
TEXT = "drystone.ingest.parsers.text:TextParser"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """Workers that can also load the hostile parsers of this folder."""
    made = Pool(settings(tmp_path_factory.mktemp("p"), ingest__max_text_mb=2, ingest__memory_mb=700))
    made._timeout = 1.5
    yield made
    made.close()


@pytest.fixture(autouse=True)
def reachable(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A worker takes nothing from its caller's environment, so the hostile parsers reach it through a start script."""
    root = str(Path(__file__).resolve().parents[2])
    script = tmp_path_factory.mktemp("start") / "python"
    script.write_text(
        f'#!/bin/sh\nshift 3\nexec {sys.executable} -I -c \'import sys; sys.path.append("{root}"); '
        'from drystone.ingest.worker import main; sys.exit(main(sys.argv[1:]))\' "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr("drystone.ingest.pool.sys.executable", str(script))


def hostile(word: str) -> Job:
    return Job("tests.ingest.hostile:Hostile", "n", "x/hostile", word.encode())


def kind(answer: Parsed | Broken) -> str:
    return answer.kind if isinstance(answer, Broken) else answer.text


def test_each_failure_costs_its_document_alone(pool: Pool) -> None:
    words = [
        "fine",
        "hang",
        "fine",
        "crash",
        "leave",
        "eat",
        "fine",
        "unfold",
        "fail",
        "deep",
        "empty",
        "talk",
        "nothing",
    ]
    start = time.monotonic()
    answers = pool.parse([hostile(word) for word in words])
    assert [kind(a) for a in answers] == [
        "fine", "timeout", "fine", "crashed", "crashed", "memory", "fine", "expansion", "malformed", "malformed",
        "empty", "fine", "malformed"]  # fmt: skip
    assert time.monotonic() - start < 15
    assert not any("secret" in a.reason for a in answers if isinstance(a, Broken)), "no text of a document"


def test_a_worker_that_lies_is_not_believed(pool: Pool) -> None:
    header, (text, blocks, *_) = pack(Parsed("short", (Block("paragraph", 0, 5),)))
    assert unpack(header, text + blocks).text == "short"
    for wrong in (
        {**header, "text": 50},
        {**header, "title": 5},
        {**header, "title": "x" * 999},
        {**header, "text": -1},
    ):
        with pytest.raises((ValueError, KeyError)):
            unpack(wrong, text + blocks)
    with pytest.raises(ValueError):
        unpack(*pack_of(Block("paragraph", 3, 99)))
    with pytest.raises(ValueError):
        unpack(*pack_of(Block("paragraph", 3, 5), Block("paragraph", 0, 2)))


def pack_of(*blocks: Block) -> tuple[dict[str, object], bytes]:
    header, payload = pack(Parsed("short", blocks))
    return header, b"".join(payload)


def test_there_is_no_way_out(pool: Pool, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("key")
    walls = pool.walls()
    if not (walls["seccomp"] and walls["landlock"]):
        pytest.skip(f"this kernel lacks a wall: {walls}")
    answer = pool.parse([hostile(f"escape {secret}")])[0]
    assert kind(answer) == "ways: "
    code = f"from tests.ingest.hostile import Hostile; print(Hostile().escape(b'escape {secret}'))"
    root = Path(__file__).resolve().parents[2]
    without = subprocess.run([REAL, "-c", code], cwd=root, capture_output=True, text=True, timeout=60).stdout
    assert {"socket", "program", "fork", "secret", "ptrace"} <= set(without.split()), (
        "the test sees a way out where there is one"
    )


def test_nothing_is_inherited(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    answer = kind(pool.parse([hostile("env")])[0])
    assert "AWS" not in answer and answer.endswith("cwd=/")


def test_workers_are_used_again(pool: Pool) -> None:
    first = {kind(a) for a in pool.parse([hostile("pid")] * 5)}
    assert {kind(a) for a in pool.parse([hostile("pid")] * 5)} & first


def test_many_small_documents_keep_their_order(pool: Pool) -> None:
    jobs = [Job(TEXT, str(n), "text/plain", f"text {n}".encode()) for n in range(1000)]
    done: list[int] = []
    answers = pool.parse(jobs, done.append)
    assert [kind(a) for a in answers] == [f"text {n}" for n in range(1000)] and max(done) == 1000


def test_a_zip_bomb_in_a_worker(pool: Pool) -> None:
    job = Job("drystone.ingest.parsers.docx:DocxParser", "b", "x", docx("<w:p/>" * 3_000_000))
    assert kind(pool.parse([job])[0]) == "expansion"


def test_isolation_is_said_in_words(tmp_path: Path) -> None:
    assert isolation(settings(tmp_path)).startswith("limits")


@pytest.mark.engines
def test_a_text_of_100_megabytes(tmp_path: Path) -> None:
    made = Pool(settings(tmp_path))
    line = "Ein Satz mit Umläuten äöü und etwas mehr Text.\n"
    data = (line * 40 + "\n").encode() * (100_000_000 // (len(line.encode()) * 40))
    try:
        start = time.monotonic()
        answer = made.parse([Job(TEXT, "big.txt", "text/plain", data)])[0]
    finally:
        made.close()
    assert isinstance(answer, Parsed) and answer.text.encode() == data, answer
    assert time.monotonic() - start < 15
