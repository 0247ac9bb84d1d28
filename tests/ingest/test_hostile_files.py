"""Hostile documents through the whole ingestion: it ends within its limits, the neighbours come in, and the hostile one
lies in quarantine with a typed reason or comes in harmlessly. Nothing is fetched, and nothing written but the state."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import drystone
from drystone.ingest.media import readers
from drystone.ingest.pool import Broken, Job, Pool
from drystone.records import Parsed
from drystone.settings import defaults
from drystone.testing import HashEmbedder
from tests.conftest import write_project
from tests.ingest import hostile_files
from tests.ingest.hostile_files import RUNS, SLOW, SMALL, Case

TIMEOUT_S, MEMORY_MB, SLOW_MB = 10, 1024, 4096
ENGINES = {"pictures", "disguised", "bombs"}  # groups with images, which are read in the slow lane
LIMITS = f"[ingest]\ntimeout_s = {TIMEOUT_S}\nmemory_mb = {MEMORY_MB}\nslow_timeout_s = 120\n"
NEIGHBOURS = {"handbook/0.txt": "The gate code is amber.\n", "handbook/zz.md": "# Zed\n\nThe last one is cedar.\n"}
UNTYPED = "could not read it ("


def documents(cases: Sequence[Case]) -> dict[str, Case]:
    return {f"handbook/{n:04}/{case.name}": case for n, case in enumerate(cases)}


def trial(folder: Path, cases: Sequence[Case], limits: str = LIMITS) -> list[str]:
    """Ingest them between two good neighbours; what is wrong with what happened, a line each."""
    named = documents(cases)
    files: dict[str, str | bytes] = {name: case.build() for name, case in named.items()}
    write_project(folder, {**files, **NEIGHBOURS}, extra=limits)
    before = outside(folder)
    with drystone.open(folder, embedder=HashEmbedder(8)) as kb:
        report = kb.ingest(actor="olga")
        there = set(kb.house.ledger.catalog.known("docs"))
        found = kb.search("amber cedar gate", actor="olga", limit=1000)
    wrong = [f"{name} did not come in" for name in NEIGHBOURS if f"docs:{name}" not in there]
    if not {"docs:handbook/0.txt", "docs:handbook/zz.md"} <= {hit.document for hit in found}:
        wrong.append("a neighbour is not found")
    failures = {f.document: f for f in (*report.failures, *report.refusals)}
    for name, case in named.items():
        failure = failures.pop(f"docs:{name}", None)
        if failure is None and f"docs:{name}" not in there:
            wrong.append(f"{name}: neither here nor in quarantine")
        elif failure is None and not case.harmless:
            wrong.append(f"{name}: came in, though it should not")
        elif failure is not None and (failure.kind not in case.kinds or UNTYPED in failure.reason):
            wrong.append(f"{name}: {failure.kind} {failure.reason!r}, not of {sorted(case.kinds)}")
    for name, failure in failures.items():  # parts
        if "!/" not in name or failure.kind in ("crashed", "timeout", "memory") or UNTYPED in failure.reason:
            wrong.append(f"{name}: {failure.kind} {failure.reason!r}")
    if outside(folder) != before:
        wrong.append(f"written: {outside(folder) ^ before}")
    return wrong


def outside(folder: Path) -> set[tuple[str, int]]:
    """Every file below the project that is not its state, with its size; and what lies beside it."""
    found = {(str(p), p.stat().st_size if p.is_file() else 0) for p in folder.rglob("*") if ".drystone" not in p.parts}
    return found | {(str(p), 0) for p in folder.parent.iterdir()}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that nobody may call, and no way to call any other from this process."""
    calls: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        done = threading.Event()

        def count() -> None:
            while not done.is_set():
                with contextlib.suppress(TimeoutError):
                    end, caller = server.accept()
                    end.close()
                    calls.append(caller)

        thread = threading.Thread(target=count)
        thread.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/"
        with socket.create_connection(server.getsockname()):
            deadline = time.monotonic() + 5
            while not calls and time.monotonic() < deadline:
                time.sleep(0.01)
        assert len(calls) == 1, "the server counts"
        monkeypatch.setattr(socket.socket, "connect", lambda *a: calls.append(a))
        yield address
        time.sleep(0.1)
        done.set()
        thread.join()
    assert len(calls) == 1, f"somebody called: {calls[1:]}"


@pytest.mark.parametrize("group", sorted(SMALL))
def test_hostile_documents(group: str, tmp_path: Path, offline: str) -> None:
    make = SMALL[group]
    cases = list(make(offline)) if group in ("entities", "outside") else list(make())  # type: ignore[call-arg]
    wrong = trial(tmp_path / "p", [case for case in cases if not case.name.endswith(hostile_files.ENGINES)])
    assert not wrong, "\n".join(wrong)


# What would wait if it were quadratic: the formats whose patterns are ours, a fifth of a second a megabyte at most.
@pytest.mark.engines
@pytest.mark.parametrize(
    "suffix",
    ["md", "html", "txt", "csv", "json", "eml", "rtf", "xml", "yaml", "ics", "rst", "tex", "org", "adoc", "vtt", "srt"],
)
def test_long_runs_are_read_in_linear_time(suffix: str, tmp_path: Path) -> None:
    from drystone.ingest.media import Choice, media_type

    choice, jobs = Choice({}, "t"), []
    cases = list(hostile_files.runs(40_000, (suffix,)))
    for case in cases:
        reader, kind = choice.of(case.name, media_type(case.name), case.build())
        if reader is not None:
            jobs.append(Job(reader.target, case.name, kind, case.build()))
    pool = Pool(defaults(tmp_path, ingest__timeout_s=3.0))
    try:
        answers = pool.parse(jobs)
    finally:
        pool.close()
    bad = [(j.name, a) for j, a in zip(jobs, answers, strict=True)
           if isinstance(a, Broken) and (a.kind in ("timeout", "crashed", "memory") or UNTYPED in a.reason)]  # fmt: skip
    assert not bad, [(name, RUNS[int("".join(filter(str.isdigit, name.partition(".")[0])))], a) for name, a in bad]


@pytest.mark.parametrize("name", sorted(hostile_files.good()))
def test_good_documents_are_read(name: str, tmp_path: Path) -> None:
    """The control: what the hostile ones are made from is not refused for another reason."""
    from drystone.ingest.media import Choice, media_type

    data = hostile_files.good()[name]
    reader, kind = Choice({}, "t").of(name, media_type(name), data)
    shells = {"a.png", "a.bmp", "a.gif", "a.tiff", "a.webp", "a.wav"}  # nothing to read in them
    if reader is None:
        pytest.skip(f"nothing reads {kind}")
    if reader.slow == reader.target:
        pytest.skip("read in the slow lane, by an engine")
    pool = Pool(defaults(tmp_path))
    try:
        answer = pool.parse([Job(reader.target, name, kind, data)])[0]
    finally:
        pool.close()
    if name in shells:
        assert isinstance(answer, Parsed) or UNTYPED not in answer.reason
    else:
        assert isinstance(answer, Parsed), answer
        assert answer.parts or "ello" in answer.text or "tove" in answer.text or "ell" in answer.text


# -- large ones, each group in a process of its own that measures itself --------------------------------
def measured(folder: Path, code: str, **environment: str) -> dict[str, Any]:
    """Run code that may set ``told``; it, the seconds, and the peaks in MB of that process and of its largest child."""
    script = (
        "import json, resource, sys, time\nfrom pathlib import Path\nstart, told = time.monotonic(), None\n"
        f"folder = Path({str(folder)!r})\n{code}\n"
        "peak = lambda who: resource.getrusage(who).ru_maxrss >> 10\n"
        "print(json.dumps([told, time.monotonic() - start, peak(resource.RUSAGE_SELF), peak(resource.RUSAGE_CHILDREN)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True,
        env={**os.environ, **environment}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told, seconds, peak, child = json.loads(done.stdout.splitlines()[-1])
    return {"told": told, "seconds": seconds, "peak": peak, "child": child}


@pytest.mark.engines
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("group", [
    g if g in ("nested", "pictures") else pytest.param(g, marks=pytest.mark.long) for g in sorted(SLOW)
])  # fmt: skip
def test_large_hostile_documents(group: str, tmp_path: Path) -> None:
    found = measured(tmp_path / "p", "from tests.ingest.hostile_files import SLOW\nfrom tests.ingest.test_hostile_files import trial\n"
                     f"told = trial(folder, list(SLOW[{group!r}]()))")  # fmt: skip
    print(group, {k: v for k, v in found.items() if k != "told"})
    assert not found["told"], "\n".join(found["told"])
    allowed = MEMORY_MB if group not in ENGINES else SLOW_MB
    assert found["child"] <= max(allowed, found["peak"]), found  # a child's peak begins with its parent's


INGEST = """
import drystone
from drystone.testing import HashEmbedder
from tests.conftest import write_project
from tests.ingest.test_hostile_files import NEIGHBOURS
write_project(folder, NEIGHBOURS, extra="[ingest]\\n" + LIMITS)
make(folder / "documents/handbook" / NAME)
with drystone.open(folder, embedder=HashEmbedder(8)) as kb:
    report = kb.ingest(actor="olga")
    told = [report.added, [[f.document, f.kind] for f in report.failures], len(kb.search("amber cedar", actor="olga"))]
"""


def one_file(folder: Path, name: str, make: str, limits: str = "") -> dict[str, Any]:
    """A project with one more file, which ``make`` (a body over ``path``) writes."""
    return measured(folder, f"NAME, LIMITS = {name!r}, {limits!r}\ndef make(path):\n    {make}\n{INGEST}")


@pytest.mark.engines
@pytest.mark.parametrize(
    ("limits", "kinds", "most"),
    [("", {"too_large"}, 400), ("max_file_mb = 4096\nslow_memory_mb = 1024\n", {"too_large"}, 400)],
)
def test_a_sparse_file_of_two_gigabytes(limits: str, kinds: set[str], most: int, tmp_path: Path) -> None:
    found = one_file(tmp_path / "p", "big.txt", 'open(path, "wb").truncate(2 << 30)', limits)
    print(found)
    added, failures, hits = found["told"]
    assert added == 2 and hits == 2 and [f[1] in kinds for f in failures] == [True], found
    assert found["peak"] < most, found


@pytest.mark.engines
@pytest.mark.parametrize(("name", "make", "most"), [
    pytest.param("just-below.txt", 'path.write_bytes(b"word " * ((511 << 20) // 5))', 2500, marks=pytest.mark.long),
    pytest.param("text.txt", 'path.write_bytes(b"A sentence with some words in it, as many have.\\n" * 500_000)', 2500, marks=pytest.mark.long),
    ("table.csv", 'path.write_bytes(b"name,price\\n" + b"stove,3.5\\n" * 50_000)', 2500),
    ("archive.zip", 'path.write_bytes(__import__("tests.ingest.test_hostile_files", fromlist=["x"]).archive(20))', 2500),
])  # fmt: skip
def test_the_main_process_stays_bounded(name: str, make: str, most: int, tmp_path: Path) -> None:
    found = one_file(tmp_path / "p", name, make)
    print(name, found)
    assert found["told"][2] == 2 or found["told"][0] > 2, found
    assert found["peak"] < most, found


def archive(megabytes: int) -> bytes:
    """A zip of this size with texts that do not compress."""
    import io
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as file:
        for n in range(megabytes):
            file.writestr(f"{n}.txt", (os.urandom(500_000).hex() + "\n") * 1)
    return out.getvalue()


def test_names_that_look_alike(make: Callable[..., Any]) -> None:
    """Names that differ in case, in normalisation or in what cannot be shown are documents of their own."""
    names = [
        "A.txt",
        "a.txt",
        "é.txt",
        "e\u0301.txt",
        "x\u202etxt.md",
        "tab\there.txt",
        "line\nend.txt",
        "a\x1b[31m.txt",
        "100%.txt",
        " .txt",
        "ﬀ.txt",
    ]
    kb = make({f"handbook/{name}": f"The file number {n} is here.\n" for n, name in enumerate(names)}, ingest=False)
    raw = os.fsencode(kb.folder / "documents/handbook") + b"/\xff\xfe.txt"
    with open(raw, "w") as file:
        file.write("The file with a broken name is here.\n")
    report = kb.ingest(actor="olga")
    known = set(kb.house.ledger.catalog.known("docs"))
    assert report.added == len(known) == len(names) + 1, report
    assert not any(c < " " or "\ud800" <= c <= "\udfff" for name in known for c in name)
    assert kb.ingest(actor="olga").added == 0


def test_every_parser_is_tried() -> None:
    """A parser for which no good document is built here would escape these tests."""
    from drystone.ingest.media import Choice, media_type

    choice = Choice({}, "t")
    locked = {each.name: each.build() for each in hostile_files.encrypted()}
    tried = {
        reader.name
        for name, data in (hostile_files.good() | locked).items()
        for reader, _ in [choice.of(name, media_type(name), data)]
        if reader
    }
    assert set(readers()) - tried <= {"row"}
