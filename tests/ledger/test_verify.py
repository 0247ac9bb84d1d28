"""The small verifier: it accepts what was issued, and nothing else."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from drystone import verify
from drystone.ledger import Ledger, dsse, log, passports
from drystone.verify import Failed
from tests.ledger.asking import ANSWERED, GUARDS, ask, evidence
from tests.ledger.build import open_ledger


@dataclass
class Issued:
    ledger: Ledger
    bundle: dict[str, Any]
    refusal: dict[str, Any]
    pem: bytes
    older: str
    newest: str


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issued]:
    folder = tmp_path_factory.mktemp("issued")
    ledger = open_ledger(folder)
    some = evidence(ledger, 3, 2)
    ask(ledger, some)
    older = ledger.checkpoint()
    answer = ask(ledger, some, mode="generated", guards=GUARDS)
    refusal = ask(ledger, [], refused="no_evidence")
    for _ in range(4):
        ask(ledger, some)
    newest = ledger.checkpoint()
    since = (int(older.split("\n")[1]),)
    bundle = passports.bundle(ledger, answer.passport, annex=True, since=since)
    pem = (folder / "state" / "keys" / "shop.pub").read_bytes()
    yield Issued(ledger, bundle, ledger.passport(refusal.passport, annex=True), pem, older, newest)
    ledger.close()


def check(issued: Issued, bundle: Any, **more: Any) -> dict[str, Any]:
    return verify.verify(json.dumps(bundle).encode(), issued.pem, **more)


def test_an_answer_and_a_refusal_verify(issued: Issued) -> None:
    said: list[str] = []
    assert check(issued, issued.bundle, answer=ANSWERED, say=said.append)["outcome"] == "answer"
    assert check(issued, issued.refusal, answer="")["reason"] == "no_evidence"
    assert len(said) == 6 and not any("45 days" in line for line in said)
    with pytest.raises(Failed, match="text"):
        check(issued, issued.bundle, answer="Items may be returned within 54 days. [1]")


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(one, (*path, key))
    else:
        yield path, value


def changed(bundle: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(bundle))
    place: Any = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return copy


def test_every_byte_counts(issued: Issued) -> None:
    """Any character of any text replaced, any number moved. What base64 holds is flipped bit by bit of its bytes.

    One exception: a consistency proof is looked at only when there is a checkpoint to compare with.
    """
    rng, tried = random.Random(5), 0
    for bundle, more in ((issued.bundle, {"checkpoints": issued.older}), (issued.refusal, {})):
        assert check(issued, bundle, **more)
        for path, value in list(leaves(bundle)):
            wrong: list[Any] = []
            if isinstance(value, str):
                step = max(1, len(value) // 60)  # every region of long texts, every character of short ones
                for place in range(rng.randrange(step), len(value), step):
                    other = rng.choice([c for c in "AZaz09+/-_=\n \u2014" if c != value[place]])
                    wrong.append(value[:place] + other + value[place + 1 :])
                wrong += [value + "A", value[:-1], ""]
            else:
                wrong += [value + 1, value - 1, -1, True, None, str(value), float(value) + 0.5]
            for one in wrong:
                tried += 1
                with pytest.raises(Failed):
                    check(issued, changed(bundle, path, one), **more)
    assert tried > 800


def test_every_bit_of_the_statement_and_the_signatures_counts(issued: Issued) -> None:
    for path in (
        ("statement", "payload"),
        ("statement", "signatures", 0, "sig"),
        ("log", "entry"),
        ("log", "proof", 0),
    ):
        value: Any = issued.bundle
        for key in path:
            value = value[key]
        data = base64.b64decode(value)
        for bit in random.Random(1).sample(range(len(data) * 8), min(len(data) * 8, 250)):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            with pytest.raises(Failed):
                check(issued, changed(issued.bundle, path, base64.b64encode(bytes(flipped)).decode()))


def test_missing_extra_and_swapped_parts_are_refused(issued: Issued) -> None:
    bundle = issued.bundle
    for part in ("format", "passport", "statement", "annex", "log"):
        with pytest.raises(Failed):
            check(issued, {key: value for key, value in bundle.items() if key != part})
        with pytest.raises(Failed):
            check(issued, {**bundle, part: None})
    for part in ("statement", "annex", "log"):  # each valid, but of the other passport
        with pytest.raises(Failed):
            check(issued, {**bundle, part: issued.refusal[part]})
    with pytest.raises(Failed, match="unknown"):
        check(issued, {**bundle, "extra": 1})
    twice = json.dumps(bundle)[:-1] + ', "passport": "passport:other"}'
    with pytest.raises(Failed, match="twice"):
        verify.verify(twice.encode(), issued.pem)
    for junk in (b"", b"[]", b"null", b"\xff", b"NaN", b'{"format": NaN}', b"[" * 100_000):
        with pytest.raises(Failed):
            verify.verify(junk, issued.pem)


def test_another_key_does_not_verify(issued: Issued, tmp_path: Path) -> None:
    other = open_ledger(tmp_path)
    other.close()
    pem = (tmp_path / "state" / "keys" / "shop.pub").read_bytes()
    with pytest.raises(Failed):
        verify.verify(json.dumps(issued.bundle).encode(), pem)
    for junk in (b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
        with pytest.raises(Failed, match="Ed25519"):
            verify.verify(json.dumps(issued.bundle).encode(), junk)


def resign(issued: Issued, change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """A bundle whose statement was changed by somebody who has the key, and its log written anew to fit."""
    copy = json.loads(json.dumps(issued.bundle))
    statement = json.loads(base64.b64decode(copy["statement"]["payload"]))
    change(statement)
    payload = json.dumps(statement).encode()
    keys, ref = issued.ledger.keys, copy["passport"]
    copy["statement"]["payload"] = base64.b64encode(payload).decode()
    copy["statement"]["signatures"][0]["sig"] = base64.b64encode(keys.sign(dsse.pae(dsse.PAYLOAD, payload))).decode()
    entry = log.encode("passport", 0, 1, {"passport": ref, "statement": log.digest(payload)})
    note = log.sign(keys, 1, hashlib.sha256(b"\0" + entry).digest())
    copy["log"] = {
        "index": 0,
        "entry": base64.b64encode(entry).decode(),
        "proof": [],
        "checkpoint": note,
        "consistency": [],
    }
    copy["annex"] = {"commitment": statement["predicate"].get("annex")}
    return dict(copy)


def test_a_malformed_statement_is_refused_though_it_is_signed(issued: Issued) -> None:
    assert check(issued, resign(issued, lambda s: None)), "re-signing itself must hold, or this tests nothing"

    def says(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda s: s["predicate"].update({name: value})

    wrong: list[Callable[[dict[str, Any]], Any]] = [
        lambda s: s.update(_type="https://in-toto.io/Statement/v2"),
        lambda s: s.update(predicateType="https://drystone.dev/passport/v2"),
        lambda s: s.update(subject=[]),
        lambda s: s["predicate"].pop("guards"),
        lambda s: s["predicate"].pop("model"),
        lambda s: s["predicate"]["evidence"][0].update(document=9),
        lambda s: s["predicate"]["documents"][0].update(label=-1),
        lambda s: s["predicate"]["documents"][0].pop("asset"),
        lambda s: s["predicate"]["citations"][0].update(evidence=3),
        lambda s: s["predicate"]["decisions"][0].update(result="deny"),
        lambda s: s["predicate"]["guards"][0].pop("outcome"),
        says("format", 2), says("salt", ""), says("outcome", "refusal"), says("reason", "no_evidence"),
        says("citations", []), says("passport", "passport:other"), says("search", None), says("actor", {}),
    ]  # fmt: skip
    for change in wrong:
        with pytest.raises(Failed):
            check(issued, resign(issued, change))


def test_a_checkpoint_kept_elsewhere_must_be_continued(issued: Issued) -> None:
    said: list[str] = []
    assert check(issued, issued.bundle, checkpoints=issued.older + issued.newest, say=said.append)
    assert sum("continues" in line for line in said) == 2
    size = int(issued.older.split("\n")[1])
    keys = issued.ledger.keys
    for wrong in (
        log.sign(keys, size, hashlib.sha256(b"another history").digest()),
        log.sign(keys, int(issued.newest.split("\n")[1]), bytes(32)),
        log.sign(keys, size + 1, bytes(32)),  # nothing in the bundle proves this size
        log.sign(keys, 10_000, bytes(32)),
        issued.older.replace("drystone/", "drystone2/"),
        issued.older + "and something else\n",
        "",
        "junk",
    ):
        with pytest.raises(Failed):
            check(issued, issued.bundle, checkpoints=wrong)


def test_it_is_one_file_that_runs_alone(issued: Issued, tmp_path: Path) -> None:
    source = Path(verify.__file__).read_text()
    names = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    assert names <= set(sys.stdlib_module_names) | {"cryptography"}
    shutil.copy(verify.__file__, tmp_path / "alone.py")
    (tmp_path / "bundle.json").write_text(json.dumps(issued.bundle))
    (tmp_path / "key.pub").write_bytes(issued.pem)
    (tmp_path / "note").write_text(issued.older)
    (tmp_path / "answer").write_text(ANSWERED)
    command = [
        sys.executable,
        "alone.py",
        "bundle.json",
        "--key",
        "key.pub",
        "--checkpoint",
        "note",
        "--answer",
        "answer",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env={})
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.splitlines()[-1] == "VERIFIED"
    (tmp_path / "answer").write_text("something else")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env={})
    assert (done.returncode, done.stderr) == (1, "") and done.stdout.splitlines()[-1].startswith("FAILED")


def test_running_it_imports_nothing_heavy(issued: Issued, tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text(json.dumps(issued.bundle))
    (tmp_path / "key.pub").write_bytes(issued.pem)
    script = (
        "import sys\nfrom drystone.verify import main\ncode = main(['bundle.json', '--key', 'key.pub'])\n"
        "ours = sorted(m for m in sys.modules if m.startswith('drystone'))\n"
        "assert ours == ['drystone', 'drystone.verify'] and 'numpy' not in sys.modules, ours\nsys.exit(code)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=False).returncode == 0
    assert verify.main([str(tmp_path / "absent"), "--key", str(tmp_path / "key.pub")]) == 1
