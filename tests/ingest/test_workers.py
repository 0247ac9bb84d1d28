"""The limited workers: what goes wrong costs one document, and there is no way out."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drystone.ingest import isolation
from drystone.ingest.pool import Broken, Job, Pool
from drystone.ingest.wire import pack, unpack
from drystone.records import Block, Parsed, Part
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
        "exit",
        "panic",
    ]
    start = time.monotonic()
    answers = pool.parse([hostile(word) for word in words])
    assert [kind(a) for a in answers] == [
        "fine", "timeout", "fine", "crashed", "crashed", "memory", "fine", "expansion", "malformed", "malformed",
        "empty", "fine", "malformed", "malformed", "malformed"]  # fmt: skip
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
    for wrong in ({"title": "\ud800"}, {"notes": "abc"}, {"notes": ["x"] * 21}, {"notes": ["\udfff"]}, {"notes": [1]}):
        with pytest.raises(ValueError):
            unpack({**header, **wrong}, text + blocks)
    with pytest.raises(ValueError):
        unpack(*pack_of(Block("paragraph", 0, 5, page=1 << 40)))
    with pytest.raises(ValueError):
        unpack(*pack_of(Block("paragraph", 3, 99)))
    with pytest.raises(ValueError):
        unpack(*pack_of(Block("paragraph", 3, 5), Block("paragraph", 0, 2)))


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../b", "a//b", "a/", ".", "a\nb", "a\0b", "\ud800", ""])
def test_a_part_with_a_name_that_leads_out_is_not_believed(name: str) -> None:
    header, payload = pack(Parsed("", (), parts=(Part("good/name.txt", b"1"), Part("n" * 1000, b"2"))))
    assert [p.data for p in unpack(header, b"".join(payload)).parts] == [b"1", b"2"]
    header, payload = pack(Parsed("", (), parts=(Part(name, b"1"),)))
    with pytest.raises(ValueError):
        unpack(header, b"".join(payload))


@pytest.mark.parametrize("word", ["nested", "endless", "garbage", "kind", "surrogate"])
def test_a_worker_that_was_taken_over_costs_its_document(pool: Pool, word: str) -> None:
    hurt, next = (kind(a) for a in pool.parse([hostile(f"say {word}"), hostile("fine")]))
    assert hurt in ("crashed", "expansion") and next == "fine"


def test_answers_that_nobody_asked_for_do_not_go_to_other_documents(pool: Pool) -> None:
    pool.parse([hostile("say twice")])
    assert [kind(a) for a in pool.parse([hostile("fine"), hostile("fine")])] == ["fine", "fine"]


def test_what_no_utf8_can_hold_is_replaced(pool: Pool) -> None:
    answer = pool.parse([hostile("lone")])[0]
    assert isinstance(answer, Parsed) and (answer.title, answer.notes) == ("a?b", ("c?d",))


def test_a_document_larger_than_the_memory(tmp_path: Path) -> None:
    made = Pool(settings(tmp_path, ingest__memory_mb=200))
    try:
        answers = made.parse([hostile("fine"), Job(TEXT, "n", "text/plain", bytes(300 << 20)), hostile("fine")])
        assert [kind(a) for a in answers] == ["fine", "memory", "fine"]
    finally:
        made.close()


def test_more_blocks_than_the_caller_can_hold(pool: Pool) -> None:
    assert kind(pool.parse([hostile("blocks")])[0]) == "expansion"


def pack_of(*blocks: Block) -> tuple[dict[str, object], bytes]:
    header, payload = pack(Parsed("short", blocks))
    return header, b"".join(payload)


# What each wall alone holds: with only this one switched off, these ways are open and no others.
HELD = {
    "seccomp": {"socket", "udp", "inet6", "unix", "pair", "netlink", "fork", "times", "mode", "attribute", "priority", "affinity",
                "their limits", "io_uring", "bpf", "keyctl", "unshare", "shared memory", "queue",
                "perf", "kcmp", "process_vm", "pidfd", "setns", "handle", "fanotify", "mount",
                "userfaultfd", "ptrace", "queued signal", "queued thread signal", "thread signal"},
    "landlock": {"secret", "listing", "root", "passwd", "environ", "append", "memory", "dns", "their environ",
                 "their memory", "their files"},
    "limits": {"grow", "descriptors"},
    "network_namespace": set(),
}  # fmt: skip


@pytest.fixture
def without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """``without(*walls)``: the ways out that are open to a worker on which these walls were not put up."""
    import drystone.ingest.pool

    secret, victim = tmp_path / "keys" / "secret", tmp_path / "victim"
    secret.parent.mkdir()
    secret.write_text("key")
    root = str(Path(__file__).resolve().parents[2])
    off = {
        "seccomp": "sandbox._seccomp = lambda libc: False",
        "landlock": "sandbox._landlock = lambda libc: False",
        "limits": "sandbox._limits = lambda memory: None",
        "network_namespace": "sandbox._NEW_USER = sandbox._NEW_NET = 0",
    }
    made: list[Pool] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def ways(*walls: str) -> str:
            victim.write_text("precious")
            (tmp_path / "victim.spare").write_text("precious")
            script = tmp_path / "python"
            script.write_text(
                f'#!/bin/sh\nshift 3\nexec {REAL} -I -c \'import sys; sys.path.append("{root}"); '
                "from drystone.ingest import sandbox, worker; "
                + "".join(f"{off[wall]}; " for wall in walls)
                + 'sys.exit(worker.main(sys.argv[1:]))\' "$@"\n'
            )
            script.chmod(0o755)
            monkeypatch.setattr(drystone.ingest.pool.sys, "executable", str(script))
            made.append(Pool(settings(tmp_path)))
            stands = made[-1].walls()
            if not all(stands[wall] for wall in ("seccomp", "landlock", "network_namespace") if wall not in walls):
                pytest.skip(f"this kernel lacks a wall: {stands}")
            answer = made[-1].parse([hostile(f"escape {secret} {victim} {server.getsockname()[1]}")])[0]
            assert isinstance(answer, Parsed), answer
            return answer.text.removeprefix("ways: ")

        yield ways
    for pool in made:
        pool.close()


def test_there_is_no_way_out(without: Callable[..., str], tmp_path: Path) -> None:
    assert without() == ""
    assert (tmp_path / "victim").read_text() == "precious"
    assert {p.name for p in tmp_path.iterdir()} == {"keys", "victim", "victim.spare", "python"}


@pytest.mark.parametrize("wall", HELD)
def test_each_wall_holds_what_it_is_there_for(wall: str, without: Callable[..., str]) -> None:
    """The control: the test above would fail if this wall were not put up."""
    found = set(filter(None, without(wall).split(", ")))
    surely = {"seccomp": {"socket", "fork", "times", "their limits", "queued signal"},
              "landlock": {"secret", "listing", "root", "passwd", "environ", "append"}}  # fmt: skip
    assert surely.get(wall, HELD[wall]) <= found <= HELD[wall]  # a kernel may lack a call, or forbid it by itself


def test_behind_the_filter_stand_the_other_walls(without: Callable[..., str]) -> None:
    """Without the filter there are sockets, but no network; without landlock too, files can be changed."""
    assert "connect" not in without("seccomp").split(", ")
    found = without("seccomp", "network_namespace", "landlock", "limits").split(", ")
    assert {"connect", "dns", "truncate", "delete", "rename", "program", "kill", "write", "folder", "link"} <= set(
        found
    ), found


def test_how_a_worker_died_is_said(pool: Pool) -> None:
    """``abort`` signals its own process, which it may."""
    answers = pool.parse([hostile("abort"), hostile("crash")])
    assert [a.reason for a in answers if isinstance(a, Broken)] == [
        "The parser process died (SIGABRT).", "The parser process died (SIGSEGV)."]  # fmt: skip


def test_threads_work_inside(pool: Pool) -> None:
    assert kind(pool.parse([hostile("threads")])[0]) == "threads 4"


def test_no_descriptor_is_inherited_but_the_two_pipes(pool: Pool, tmp_path: Path) -> None:
    with open(tmp_path / "secret", "w+") as file:
        os.set_inheritable(file.fileno(), True)
        made = Pool(settings(tmp_path))
        try:
            assert kind(made.parse([hostile("descriptors")])[0]) == "pipe pipe"
        finally:
            made.close()


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


def test_what_is_slow_is_spread_over_workers_and_each_is_heard_of(tmp_path: Path) -> None:
    made = Pool(settings(tmp_path, ingest__slow_workers=2, ingest__slow_timeout_s=1.0), slow=True)
    try:
        done: list[int] = []
        jobs = [Job(TEXT, str(n), "text/plain", b"text") for n in range(4)]
        assert [kind(a) for a in made.parse(jobs, done.append)] == ["text"] * 4
        assert len(done) == 4 and max(done) == 4
        late = made.parse([hostile("hang")])[0]
        assert isinstance(late, Broken) and late.kind == "timeout" and "ingest.slow_timeout_s" in late.reason
    finally:
        made.close()


def test_no_bytes_at_all(pool: Pool) -> None:
    assert [kind(a) for a in pool.parse([Job(TEXT, "n", "text/plain", b"")] * 2)] == ["empty"] * 2
    assert pool.parse([]) == []


def test_a_zip_bomb_in_a_worker(pool: Pool) -> None:
    job = Job("drystone.ingest.parsers.docx:DocxParser", "b", "x", docx("<w:p/>" * 3_000_000))
    assert kind(pool.parse([job])[0]) == "expansion"


def test_isolation_is_said_in_words(tmp_path: Path) -> None:
    assert isolation(settings(tmp_path)).startswith("limits")


def test_a_kernel_that_lacks_a_wall_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"limits": True, "network_namespace": True, "landlock": False, "seccomp": False}
    monkeypatch.setattr(Pool, "walls", lambda self: there)
    assert isolation(settings(tmp_path)) == "limits, network namespace; not here: landlock, seccomp"


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
