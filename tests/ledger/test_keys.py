"""Keys: what is sealed opens, what is destroyed is gone from the disk's files, and processes agree."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given, settings
from hypothesis import strategies as st

from drystone.errors import FormatError, NotFound, ProofFailed, StateUnavailable
from drystone.ledger.keys import FileKeyStore, KeyRing


def ring(folder: Path, name: str = "shop") -> KeyRing:
    return KeyRing(folder / "keys", FileKeyStore(folder / "keys"), name=name)


def wrapped(folder: Path) -> dict[str, bytes]:
    connection = sqlite3.connect(folder / "keys" / "keys.db")
    try:
        return dict(connection.execute("SELECT id, wrapped FROM keys").fetchall())
    finally:
        connection.close()


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((folder / "keys").iterdir()))


def test_what_is_sealed_opens_after_a_reopening(tmp_path: Path) -> None:
    keys = ring(tmp_path)
    blobs = keys.seal_many([(f"x:{n}", b"text %d" % n) for n in range(20)], aad=b"a")
    assert len(set(blobs)) == 20 and not any(b"text" in blob for blob in blobs)
    keys.close()
    keys = ring(tmp_path)
    assert [keys.open(f"x:{n}", blob, aad=b"a") for n, blob in enumerate(blobs)] == [b"text %d" % n for n in range(20)]
    keys.close()


def test_a_changed_ciphertext_or_another_place_is_found(tmp_path: Path) -> None:
    keys = ring(tmp_path)
    blob = keys.seal("x:1", b"secret", aad=b"a")
    keys.seal("x:2", b"other")
    for place in range(len(blob)):
        changed = blob[:place] + bytes([blob[place] ^ 1]) + blob[place + 1 :]
        with pytest.raises((ProofFailed, FormatError)):
            keys.open("x:1", changed, aad=b"a")
    for id, aad in (("x:2", b"a"), ("x:1", b"b"), ("x:1", b"")):
        with pytest.raises(ProofFailed):
            keys.open(id, blob, aad=aad)
    keys.close()


def test_destroying_makes_a_record_unreadable_and_leaves_the_others(tmp_path: Path) -> None:
    keys = ring(tmp_path)
    gone, kept = keys.seal_many([("x:1", b"one"), ("x:2", b"two")])
    assert keys.destroy("x:1", "x:never") == 1 and keys.destroy("x:1") == 0
    assert not keys.has("x:1") and keys.has("x:2")
    with pytest.raises(NotFound):
        keys.open("x:1", gone)
    assert keys.open("x:2", kept) == b"two"
    again = keys.seal("x:1", b"one, once more")  # what was erased may come back, under another key
    assert keys.open("x:1", again) == b"one, once more"
    with pytest.raises(ProofFailed):
        keys.open("x:1", gone)
    keys.close()


def test_a_destroyed_key_is_in_no_file(tmp_path: Path) -> None:
    """Not in the database, not in a page's free space, not in the write-ahead log; with another process reading."""
    keys, other = ring(tmp_path), ring(tmp_path)
    names = [f"x:{random.Random(7).getrandbits(64) ^ n:x}" for n in range(3000)]
    for first in range(0, len(names), 500):
        keys.seal_many([(name, b"t") for name in names[first : first + 500]])
    before = wrapped(tmp_path)
    doomed = random.Random(3).sample(names, 700)
    assert all(before[name] in on_disk(tmp_path) for name in doomed)
    other.has(names[0])
    keys.destroy(*doomed[:350])
    other.destroy(*doomed[350:])
    disk = on_disk(tmp_path)
    assert not [name for name in doomed if before[name] in disk or before[name][12:44] in disk]
    assert all(before[name] in disk for name in set(names) - set(doomed))
    keys.close()
    other.close()


def test_a_destroy_killed_half_way_is_finished_by_the_next_opening(tmp_path: Path) -> None:
    keys = ring(tmp_path)
    keys.seal("x:1", b"one")
    before = wrapped(tmp_path)["x:1"]
    keys.close()
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom drystone.ledger.keys import *\n"
        "KeyRing._finish = lambda self: os.kill(os.getpid(), 9)\n"
        "folder = Path(sys.argv[1])\nring = KeyRing(folder, FileKeyStore(folder))\n"
        "ring.seal('x:1', b'again')\nring.destroy('x:1')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "keys")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert before in on_disk(tmp_path), "the killed process left nothing to finish, so this test tests nothing"
    keys = ring(tmp_path)
    assert before not in on_disk(tmp_path) and not keys.has("x:1")
    keys.close()


def test_the_root_key_is_private_and_never_made_twice(tmp_path: Path) -> None:
    keys = ring(tmp_path)
    blob = keys.seal("x:1", b"one")
    keys.close()
    root = tmp_path / "keys" / "root.key"
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()}
    assert modes == {"root.key": 0o600, "keys.db": 0o600, "shop.pub": 0o644}
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700

    root.chmod(0o640)
    with pytest.raises(StateUnavailable, match="read by others"):
        ring(tmp_path)
    root.chmod(0o600)
    text = root.read_text()
    root.unlink()
    with pytest.raises(StateUnavailable, match="missing"):
        ring(tmp_path)
    assert not root.exists(), "a lost root key was replaced by a new one, silently"
    root.touch(0o600)
    with pytest.raises(FormatError):
        ring(tmp_path)
    FileKeyStore(tmp_path / "elsewhere").wrap(b"k" * 32, context=b"c")
    root.write_text((tmp_path / "elsewhere" / "root.key").read_text())
    with pytest.raises(ProofFailed):
        ring(tmp_path)
    root.write_text(text)
    keys = ring(tmp_path)
    assert keys.open("x:1", blob) == b"one"
    keys.close()


def test_keys_of_an_older_backup_are_said_to_be_so(tmp_path: Path) -> None:
    keys = ring(tmp_path)
    with pytest.raises(StateUnavailable, match="no key"):
        keys.open("x:1", b"\x01" + bytes(40))
    keys.close()


def test_the_public_key_verifies_and_a_swapped_one_is_found(tmp_path: Path) -> None:
    keys = ring(tmp_path, name="our shop/Ö")
    path = tmp_path / "keys" / "our-shop.pub"
    load_pem_public_key(path.read_bytes()).verify(keys.sign(b"m"), b"m")  # type: ignore[union-attr, call-arg]
    keys.close()
    path.write_bytes(path.read_bytes().replace(b"A", b"B"))
    with pytest.raises(ProofFailed, match="public key"):
        ring(tmp_path)
    path.unlink()
    keys = ring(tmp_path, name="renamed")  # the log keeps the name it was founded with
    assert keys.name == "our-shop" and path.exists() and keys.origin.startswith("drystone/our-shop/")
    keys.close()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    ring(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "keys" / "keys.db")
    connection.execute("UPDATE ring SET format = 2")
    connection.commit()
    connection.close()
    with pytest.raises(FormatError, match="format 2"):
        ring(tmp_path)


parts = st.lists(st.one_of(st.binary(max_size=6), st.text("ab\0:", max_size=4)), max_size=4)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    return ring(tmp_path_factory.mktemp("ring"))


@settings(deadline=None)
@given(a=parts, b=parts)
def test_different_parts_have_different_digests(shared: KeyRing, a: list[str | bytes], b: list[str | bytes]) -> None:
    plain = [[p.encode() if isinstance(p, str) else p for p in some] for some in (a, b)]
    assert (shared.digest("v", *a) == shared.digest("v", *b)) == (plain[0] == plain[1])
    assert shared.digest("v", *a) != shared.digest("c", *a) and len(shared.digest("v", *a)) == 24


def test_digests_are_the_same_after_a_reopening_and_differ_between_projects(tmp_path: Path) -> None:
    first, other = ring(tmp_path / "one"), ring(tmp_path / "two")
    assert first.digest("v", "a") != other.digest("v", "a")
    again = ring(tmp_path / "one")
    assert first.digest("v", "a") == again.digest("v", "a")
    for keys in (first, other, again):
        keys.close()


def test_threads_and_rings_may_seal_the_same_record(tmp_path: Path) -> None:
    rings = [ring(tmp_path) for _ in range(2)]
    blobs: list[bytes] = []
    work = [
        threading.Thread(target=lambda keys=keys, n=n: blobs.append(keys.seal("x:1", b"%d" % n)))
        for n in range(4)
        for keys in rings
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert sorted(rings[0].open("x:1", blob) for blob in blobs) == [b"0", b"0", b"1", b"1", b"2", b"2", b"3", b"3"]
    for keys in rings:
        keys.close()


def test_processes_that_found_a_project_together_agree(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom drystone.ledger.keys import *\nimport cryptography.x509\n"
        "folder = Path(sys.argv[1])\nprint('ready', flush=True)\nsys.stdin.read()\n"
        "ring = KeyRing(folder, FileKeyStore(folder))\nprint(ring.digest('v', 'a'), ring.key_id)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "keys")]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for one in started:
        assert one.stdout is not None and one.stdout.readline() == "ready\n"
    for one in started:
        assert one.stdin is not None
        one.stdin.close()
    said = []
    for one in started:
        assert one.stdout is not None
        said.append(one.stdout.read())
        one.stdout.close()
        assert one.wait() == 0
    assert len(set(said)) == 1 and said[0].startswith("v:")
    assert sorted(p.name for p in (tmp_path / "keys").iterdir()) == ["keys.db", "project.pub", "root.key"]


@pytest.mark.whole
def test_no_ciphertext_without_its_key_after_kill_9(tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom drystone.ledger.keys import *\n"
        "folder, out = Path(sys.argv[1]), open(sys.argv[2], 'ab', buffering=0)\n"
        "ring = KeyRing(folder, FileKeyStore(folder))\n"
        "while True:\n    id = os.urandom(8).hex()\n    blob = ring.seal(id, b'text of ' + id.encode())\n"
        "    out.write((id + ' ' + blob.hex() + '\\n').encode())\n"
    )
    out = tmp_path / "out"
    out.touch()
    for n in range(4):
        child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "keys"), str(out)])
        before = out.stat().st_size
        while out.stat().st_size == before:
            time.sleep(0.005)
        time.sleep(0.01 * n)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    keys = ring(tmp_path, name="project")
    lines = [line.split(" ") for line in out.read_text().splitlines()]
    assert len(lines) >= 4
    assert all(keys.open(id, bytes.fromhex(blob)) == b"text of " + id.encode() for id, blob in lines)
    keys.close()
