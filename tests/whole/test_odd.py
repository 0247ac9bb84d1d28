"""What the world brings: line ends, scripts, names, sizes, folders, disks and clocks that are not as they should be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import drystone
from drystone.errors import DrystoneError, SourceUnavailable, StateUnavailable
from drystone.testing import HashEmbedder
from tests.conftest import write_project

ROOT = os.geteuid() == 0
OPEN = "import sys, drystone; from drystone.errors import DrystoneError; from drystone.testing import HashEmbedder\nkb = drystone.open(sys.argv[1], embedder=HashEmbedder())\n"


def child(code: str, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, "-c", OPEN + code, *arguments], capture_output=True, text=True, timeout=250
    )


def holds(kb: Any, answer: Any) -> None:
    """Each citation's span is what it quotes, in the document as it is kept."""
    assert not answer.refused and answer.citations
    numbers = {s.document: s.number for s in kb.house.ledger.catalog.versions(
        [int(n) for n in kb.house.ledger.catalog.view().visible().nonzero()[0]]).values()}  # fmt: skip
    with kb.house.lake.reader() as reader:
        for cited in answer.citations:
            assert reader.document(numbers[cited.document]).text[cited.start : cited.end] == cited.quote


# -- texts --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("ends", ["\r\n", "\r", "\n"], ids=["windows", "old mac", "unix"])
def test_line_ends(ends: str, make: Callable[..., Any]) -> None:
    text = "# Leave\n\nEveryone has 27 days of paid holiday a year.\n\n- It is booked early.\n\n## Sick\n\nRing before nine.\n"
    plain = make({"handbook/leave.md": text}, name="plain")
    kb = make({"handbook/leave.md": text.replace("\n", ends)}, name="odd")
    mine, theirs = (
        [(h.text, h.start, h.end, h.title, round(h.score, 6)) for h in k.search("holiday booked early", actor="bo")]
        for k in (kb, plain)
    )
    assert mine == theirs and mine, "line ends are no content"
    answer = kb.ask("How many days of paid holiday does everyone have a year?", actor="bo")
    assert "27 days" in answer.text and "\r" not in answer.text
    holds(kb, answer)


SCRIPTS = {
    "hi": ("नीति", "# अवकाश\n\nप्रत्येक कर्मचारी को वर्ष में सत्ताईस दिन का अवकाश मिलता है। आवेदन एक सप्ताह पहले करें।\n", "कर्मचारी अवकाश"),
    "zh": ("政策", "# 休假\n\n每位员工每年有二十七天带薪休假。请提前一周提出申请。\n", "带薪休假"),
    "ar": ("سياسة", "# الإجازة\n\nلكل موظف سبعة وعشرون يوما من الإجازة المدفوعة في السنة. يقدم الطلب قبل أسبوع.\n", "الإجازة المدفوعة موظف"),
    "he": ("מדיניות", "# חופשה\n\nלכל עובד יש עשרים ושבעה ימי חופשה בשנה. יש להגיש בקשה שבוע מראש.\n", "ימי חופשה עובד"),
}  # fmt: skip


@pytest.mark.parametrize("language", SCRIPTS)
def test_a_language_that_was_not_measured_is_searched_by_words_and_says_so(
    language: str, make: Callable[..., Any]
) -> None:
    name, text, question = SCRIPTS[language]
    kb = make({f"handbook/{name}.md": text, "handbook/other.md": "# Leave\n\nNothing of this is told in English.\n"})
    hits = kb.hits(question, actor="bo")
    assert hits.hits and hits.hits[0].document == f"docs:handbook/{name}.md"
    assert f"language:{language} searched by words" in hits.notes
    answer = kb.ask(question, actor="bo")
    holds(kb, answer)
    assert answer.citations[0].quote in unicodedata.normalize("NFC", text), "a sentence, whole, in its own order"
    assert f"language:{language} searched by words" in answer.notes
    assert kb.passport(answer).verify()


NAMES = [
    b"with space.md", b" leading and trailing .md", b"it's.md", b'say "hello".md', b"line\nbreak.md", b"tab\tbed.md",
    b"latin\xe9.md", b"\xff\xfe.md", b"100%.md", b"50%41.md", b"hash#ask?.md", b"back\\slash.md", b"-rf.md",
    b"$(reboot).md", b"[a-z]*.md", "caf\u00e9.md".encode(), "cafe\u0301.md".encode(), "\u202egnp.md".encode(),
    "日本語 हिन्दी.md".encode(), "👩‍🚀.md".encode(), b"x" * 250 + b".md", b"colon:name.md", b"esc\x1b[31m.md", b"@7.md",
]  # fmt: skip


@pytest.mark.whole
def test_file_names(make: Callable[..., Any]) -> None:
    kb = make({"handbook/plain.md": "# Plain\n\nThe plain one.\n"}, ingest=False)
    folder = os.fsencode(kb.folder / "documents/handbook")
    for number, name in enumerate(NAMES):
        with open(os.path.join(folder, name), "w") as file:
            file.write(f"# Thing\n\nThe secret word of this one is zebra{number}word.\n")
    report = kb.ingest(actor="olga")
    assert (report.added, report.failed, report.refused, report.skipped) == (len(NAMES) + 1, 0, 0, 0)
    seen = set()
    for number in range(len(NAMES)):
        (hit,) = (h for h in kb.search(f"zebra{number}word", actor="bo") if f"zebra{number}word" in h.text)
        seen.add(hit.document)
        assert hit.document.isprintable() or "\u202e" in hit.document or "\u200d" in hit.document
        assert "\n" not in hit.document and "\x1b" not in hit.document
        hit.document.encode()  # can be written anywhere
        assert kb.why("bo", hit.document, actor="olga")["allowed"], "its name names it"
        holds(kb, kb.ask(f"What is the secret word of this one, zebra{number}word?", actor="bo"))
    assert len(seen) == len(NAMES), "no two names became one"
    again = kb.ingest(actor="olga")
    assert (again.added, again.changed, again.removed, again.embedded) == (0, 0, 0, 0)
    done = subprocess.run(
        [sys.executable, "-m", "drystone", "why", "--as", "olga", "docs:handbook/latin%E9.md", "--json", "--project", str(kb.folder)],
        capture_output=True, text=True, env={**os.environ, "PYTHONUTF8": "0", "LC_ALL": "C", "DRYSTONE_ACTOR": "olga"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["allowed"] is True
    os.rename(os.path.join(folder, b"latin\xe9.md"), os.path.join(folder, b"line\nbreak 2.md"))
    moved = kb.ingest(actor="olga")
    assert (moved.renamed, moved.embedded) == (1, 0)


# -- sizes --------------------------------------------------------------------------------------------
BIG = """
import json, resource, threading, time
peak, gone = [0], threading.Event()
def look():
    while not gone.wait(0.05):
        with open("/proc/self/statm") as file:
            peak[0] = max(peak[0], int(file.read().split()[1]) * resource.getpagesize() >> 20)
class Trivial(HashEmbedder):
    def embed(self, texts):
        import numpy as np
        out = np.zeros((len(texts), self.dimensions), np.float32)
        out[:, 0] = 1
        return out
kb = drystone.open(sys.argv[1], embedder=Trivial())
thread = threading.Thread(target=look); thread.start()
start = time.perf_counter()
report = kb.ingest(actor="olga")
seconds = time.perf_counter() - start
hits = kb.hits("zebraword9876", actor="olga").hits
found = hits[0].text if hits else ""
gone.set(); thread.join()
print(json.dumps({**report.to_dict(), "peak": peak[0], "seconds": seconds, "found": found}))
"""


@pytest.mark.engines
def test_a_text_of_100_mb_comes_in_within_bounds(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "p", {})
    path = folder / "documents/public/big.txt"
    path.parent.mkdir(parents=True)
    with path.open("w") as file:
        number = 0
        while file.tell() < 100 << 20:
            file.write("".join(f"Paragraph {number + n} tells of the harbour, the ships that came in, and of "
                               f"zebraword{number + n} which is like no other.\n\n" for n in range(1000)))  # fmt: skip
            number += 1000
    done = child(BIG, str(folder))
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    print(told["seconds"], told["peak"])
    assert (told["added"], told["failed"]) == (1, 0), told
    assert "zebraword9876 " in told["found"]
    assert told["peak"] < 2500, "MB, of the process that ingests: what one commit holds is held several times over"


@pytest.mark.engines
def test_10_000_tiny_files(make: Callable[..., Any]) -> None:
    files = {f"public/{n % 100}/{n}.txt": f"Note {n} is about thing{n} and nothing else." for n in range(10_000)}
    embedder = HashEmbedder()
    kb = make(files, embedder=embedder)
    assert embedder.embedded == 10_000
    assert kb.search("thing4321", actor="eve")[0].document == "docs:public/21/4321.txt"
    took = []
    for _ in range(5):
        start = time.process_time()
        again = kb.ingest(actor="olga")
        took.append((time.process_time() - start) * 1000 / 10_000)
        assert (again.seen, again.added, again.embedded) == (10_000, 0, 0)
    assert min(took) <= 0.05, f"{took} ms of processor time a file where nothing changed"
    for path in (kb.folder / "documents/public/7").iterdir():
        os.utime(path)
    again = kb.ingest(actor="olga")
    assert (again.added, again.changed, again.embedded) == (0, 0, 0)


# -- folders ------------------------------------------------------------------------------------------
def test_an_empty_folder_is_fine_until_something_was_there(make: Callable[..., Any]) -> None:
    kb = make({}, ingest=False)
    report = kb.ingest(actor="olga")
    assert (report.seen, report.added, report.commit) == (0, 0, report.commit)
    assert kb.search("anything at all", actor="bo") == []
    answer = kb.ask("Is there anything at all?", actor="bo")
    assert answer.refused and answer.reason == "no_evidence" and kb.passport(answer).verify()
    path = kb.folder / "documents/handbook/a.md"
    path.parent.mkdir()
    path.write_text("# A\n\nThe gate code is seven.\n")
    assert kb.ingest(actor="olga").added == 1
    path.unlink()
    with pytest.raises(SourceUnavailable) as caught:
        kb.ingest(actor="olga")
    assert "--allow-mass-removal" in str(caught.value)
    assert kb.search("gate code", actor="bo"), "an outage removes nothing"
    assert kb.ingest(actor="olga", allow_mass_removal=True).removed == 1
    path.parent.rmdir()
    (kb.folder / "documents").rmdir()
    with pytest.raises(SourceUnavailable) as caught:
        kb.ingest(actor="olga")
    assert "could not be listed" in str(caught.value)


# Root reads what it may not, by two capabilities: take them (PR_CAPBSET_DROP) from the program that is run next.
DROP = "import ctypes, os, sys\nfor n in (1, 2): os.geteuid() or ctypes.CDLL(None).prctl(24, n, 0, 0, 0)\nos.execv(sys.argv[1], sys.argv[1:])\n"


@pytest.mark.whole
def test_what_cannot_be_read_is_an_outage_or_a_failure_never_a_removal(make: Callable[..., Any]) -> None:
    kb = make({"handbook/a.md": "# A\n\nThe gate code is seven.\n", "handbook/b.md": "# B\n\nThe door code is nine.\n"})
    kb.close()
    code = "import json\ntry:\n    r = kb.ingest(actor='olga')\n    print(json.dumps(r.to_dict()))\n" \
           "except DrystoneError as e:\n    print(json.dumps([type(e).__name__, str(e)]))\n" \
           "print(len(kb.search('gate code door', actor='bo')))\n"  # fmt: skip
    file, folder = kb.folder / "documents/handbook/a.md", kb.folder / "documents/handbook"
    file.write_text("# A\n\nThe gate code is eight.\n")
    file.chmod(0)
    done = child(code, str(kb.folder), before=(sys.executable, "-c", DROP))
    report, hits = (json.loads(line) for line in done.stdout.splitlines())
    assert report["failed"] == 1 and report["removed"] == 0 and hits == 2, report
    assert report["failures"][0]["kind"] == "unreadable" and "ermission denied" in report["failures"][0]["reason"]
    folder.chmod(0)
    done = child(code, str(kb.folder), before=(sys.executable, "-c", DROP))
    error, hits = (json.loads(line) for line in done.stdout.splitlines())
    folder.chmod(0o755)
    assert error[0] == "SourceUnavailable" and "Nothing was removed" in error[1] and hits == 2
    file.chmod(0o644)
    done = child(code, str(kb.folder), before=(sys.executable, "-c", DROP))
    assert json.loads(done.stdout.splitlines()[0])["changed"] == 1


# -- disks --------------------------------------------------------------------------------------------
@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if (
        not ROOT
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], capture_output=True).returncode
    ):
        pytest.skip("needs the right to mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.whole
def test_a_full_disk_loses_nothing_and_says_so(small_disk: Path, tmp_path: Path) -> None:
    folder = write_project(tmp_path / "p", {"handbook/a.md": "# A\n\nThe gate code is seven.\n"}, extra="")
    text = (
        (folder / "drystone.toml")
        .read_text()
        .replace('name = "shop"', f'name = "shop"\nstate = "{small_disk / "state"}"', 1)
    )
    (folder / "drystone.toml").write_text(text)
    with drystone.open(folder, embedder=HashEmbedder(256)) as kb:
        assert kb.ingest(actor="olga").added == 1
        first = kb.ask("What is the gate code?", actor="bo")
        assert "seven" in first.text
        said: list[StateUnavailable] = []
        kept = 1  # documents whose coming in was acknowledged
        for left in (
            4000,
            2500,
            1500,
            900,
            600,
            400,
            250,
            150,
            90,
            50,
            20,
            0,
        ):  # kilobytes free: fails at another step each time
            for n in range(40):
                path = folder / f"documents/handbook/{left}-{n}.md"
                path.write_text(f"# N{n}\n\n" + f"The number {left} {n} was counted in the harbour of the town. " * 300)
            ballast = small_disk / "ballast"
            free = os.statvfs(small_disk)
            ballast.write_bytes(b"x" * max(0, free.f_bavail * free.f_frsize - (left << 10)))
            try:
                kept += kb.ingest(actor="olga").added
            except StateUnavailable as error:
                said.append(error)
            try:
                kb.relabel("docs:handbook/a.md", {"trust": "untrusted"}, actor="olga")
                assert not kb.ask("What is the gate code?", actor="bo").refused
            except StateUnavailable as error:
                said.append(error)
            ballast.unlink()
            assert len(list(kb.house.lake.logical())) >= kept, "what was acknowledged is there, to the last byte"
            assert "seven" in kb.ask("What is the gate code?", actor="bo").text, "it goes on once there is space"
            assert kb.passport(first.passport, actor="bo").verify()
            assert kb.house.ledger.verify().valid
            for other in (folder / "documents/handbook").glob(f"{left}-*"):
                other.unlink()
            kb.ingest(actor="olga", allow_mass_removal=True)
            kb.house.lake.maintain()
            kept = 1
        assert len(said) >= 8
        for error in said:
            words = str(error)
            assert any(w in words for w in ("disk is full", "No space left", "database or disk is full")), words
            assert "Free" in words, words
    with drystone.open(folder, embedder=HashEmbedder(256)) as kb:
        assert kb.ingest(actor="olga").added == 0
        assert "seven" in kb.ask("What is the gate code?", actor="bo").text
        assert not list((small_disk / "state/blobs").rglob("*.new"))


@pytest.mark.whole
def test_a_disk_that_is_full_from_the_start(small_disk: Path, tmp_path: Path) -> None:
    folder = write_project(tmp_path / "p", {"handbook/a.md": "# A\n\nThe gate code is seven.\n"})
    text = (
        (folder / "drystone.toml")
        .read_text()
        .replace('name = "shop"', f'name = "shop"\nstate = "{small_disk / "state"}"', 1)
    )
    (folder / "drystone.toml").write_text(text)
    ballast = small_disk / "ballast"
    for left in (0, 16, 64, 256):
        free = os.statvfs(small_disk)
        ballast.write_bytes(b"x" * (free.f_bavail * free.f_frsize - (left << 10)))
        done = child("print(kb.ingest(actor='olga').added)\n", str(folder))
        assert done.returncode == 0 or "drystone.errors.StateUnavailable: " in done.stderr, done.stderr[-800:]
        ballast.unlink()
    with drystone.open(folder, embedder=HashEmbedder()) as kb:
        kb.ingest(actor="olga")
        assert "seven" in kb.ask("What is the gate code?", actor="bo").text


# -- clocks -------------------------------------------------------------------------------------------
class Clock:
    """The wall clock, which somebody sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.off = 0.0
        true_ns, true = time.time_ns, time.time
        monkeypatch.setattr(time, "time_ns", lambda: true_ns() + int(self.off * 1e9))
        monkeypatch.setattr(time, "time", lambda: true() + self.off)


@pytest.mark.whole
def test_a_clock_that_jumps(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    day = 86400.0
    clock = Clock(monkeypatch)
    rules = (("soon/**", 'readers = ["everyone"]\nclassification = "public"\nretention = "30d"'),
             ("**", 'readers = ["everyone"]\nclassification = "public"'))  # fmt: skip
    kb = make({"soon/a.md": "# A\n\nThe gate code is seven.\n", "b.md": "# B\n\nThe door code is nine.\n"}, rules=rules)
    found: list[str] = []

    def live(off: float) -> bool:
        """Ingest, ask, relabel at that time; is the document with an end still readable?"""
        clock.off = off
        path = kb.folder / "documents/b.md"
        path.write_text(f"# B\n\nThe door code is nine. We wrote this {len(found)} times.\n")
        os.utime(path, (1, 1))  # a file's own times may say anything
        assert kb.ingest(actor="olga").changed == 1
        answer = kb.ask("What is the door code?", actor="bo")
        assert "nine" in answer.text and kb.passport(answer).verify()
        found.append(answer.passport)
        kb.relabel("docs:b.md", {"trust": ["trusted", "untrusted"][len(found) % 2]}, reason="tested", actor="olga")
        return any(h.document == "docs:soon/a.md" for h in kb.search("gate code", actor="bo"))

    assert live(0) and live(-3 * 365 * day) and live(5 * day) and live(-9999 * day) and live(29 * day)
    assert not live(31 * day)
    assert not live(0), "a clock that goes back does not bring back what has ended"
    assert not live(-365 * day)
    at = [event["at"] for event in kb.house.ledger.export()]
    assert at == sorted(at), "the record never goes back"
    assert kb.house.ledger.verify().valid
    kb.house.lake.maintain()
    far = child("print([h.document for h in kb.search('gate code', actor='bo')])\n", str(kb.folder))
    assert "soon" not in far.stdout and far.returncode == 0, "nor in another process"
    assert all(kb.passport(ref, actor="bo").verify() for ref in found)


# -- limits -------------------------------------------------------------------------------------------
@pytest.mark.whole
def test_a_file_size_limit_is_told(make: Callable[..., Any]) -> None:
    """``ulimit -f``: the system refuses to let a file grow, like a quota."""
    kb = make({"handbook/a.md": "# A\n\nThe gate code is seven.\n"})
    (kb.folder / "documents/handbook/big.md").write_text(
        "# Big\n\n" + "The harbour was counted once more today. " * 90_000
    )
    done = child(
        "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))\n"
        "try:\n    kb.ingest(actor='olga'); print('in')\nexcept DrystoneError as e:\n    print(type(e).__name__, e)\n",
        str(kb.folder),
    )  # fmt: skip
    assert done.stdout.startswith("StateUnavailable"), done.stdout + done.stderr[-1500:]
    assert "Free space" in done.stdout or "space" in done.stdout
    assert "seven" in kb.ask("What is the gate code?", actor="bo").text
    assert kb.ingest(actor="olga").added == 1
    assert issubclass(StateUnavailable, DrystoneError)
