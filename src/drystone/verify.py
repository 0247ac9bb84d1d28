"""Check a passport without trusting, or having, the project that issued it.

    python -m drystone.verify FILE --key PUB [--checkpoint FILE] [--answer FILE]

One file, the standard library and ``cryptography``; it imports nothing of ours, and can be copied and read alone.
It says what holds, line by line, and exits with 0 only if everything does:

1. the statement's signature, over its bytes as stored (DSSE, Ed25519);
2. its form (in-toto Statement v1, predicate ``https://drystone.dev/passport/v1``), and that every evidence,
   citation, document, label and transform it refers to is in it;
3. that the log's entry is of this passport and holds this statement's SHA-256;
4. that the entry is in the tree that the checkpoint names (RFC 6962 inclusion proof);
5. the checkpoint's signature (C2SP signed note, tlog-checkpoint);
6. that an opened annex is the one that the statement commits to;
7. with ``--checkpoint``: that the log is a continuation of the one seen before (RFC 6962 consistency proof).

``PUB`` must come from the project's owner, not from the bundle: who chooses the key chooses the truth.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

FORMAT = 1
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://drystone.dev/passport/v1"
PAYLOAD = "application/vnd.in-toto+json"
NOTE = re.compile(r"(?:[^\n]+\n){3,}\n(?:\u2014 [^\n]+\n)+")
Say = Callable[[str], None]
Verify = Callable[[bytes, bytes], None]


class Failed(Exception):
    """Something does not hold. The message is for people."""


def verify(
    bundle: bytes,
    key: bytes,
    *,
    checkpoints: str | None = None,
    answer: str | None = None,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Check a bundle's bytes with a PEM public key; returns the statement's predicate or raises ``Failed``.

    ``checkpoints``: text with signed notes that were kept elsewhere. ``answer``: the text that was given.
    """
    public, check = _key(key)
    try:
        return _verify(_json(bundle, "the file"), public, check, checkpoints, answer, say)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, RecursionError) as error:
        raise Failed(f"the bundle is malformed ({type(error).__name__})") from None


def _verify(
    bundle: Any, public: bytes, check: Verify, checkpoints: str | None, answer: str | None, say: Say
) -> dict[str, Any]:
    _fields(bundle, "format passport statement annex log")
    _same(FORMAT, bundle["format"], "the bundle's format")

    envelope = _fields(bundle["statement"], "payload payloadType signatures")
    payload = _b64(envelope["payload"])
    _same(PAYLOAD, envelope["payloadType"], "the payload's type")
    _require(len(envelope["signatures"]) == 1, "there is not exactly one signature")
    signature = _fields(envelope["signatures"][0], "keyid sig")
    _same(hashlib.sha256(public).hexdigest()[:16], signature["keyid"], "the key's id")
    signed = b"DSSEv1 %d %s %d %s" % (len(PAYLOAD), PAYLOAD.encode(), len(payload), payload)
    _signed(check, _b64(signature["sig"]), signed, "the statement")
    say(f"statement    signed by key {signature['keyid']}, {len(payload)} bytes")

    statement = _json(payload, "the statement")
    predicate: dict[str, Any] = _structure(statement)
    _same(predicate["passport"], bundle["passport"], "the passport's id")
    _same(predicate["annex"], _fields(bundle["annex"], "commitment", "opened")["commitment"], "the annex")
    what = "answer" if predicate["outcome"] == "answer" else f"refusal ({predicate['reason']})"
    say(f"passport     {predicate['passport']}: {what} to {predicate['actor']['name']}, {predicate['sealed_at']}")
    say(f"evidence     {len(predicate['evidence'])} passages of {len(predicate['documents'])} documents")

    if "opened" in bundle["annex"]:
        opened = bundle["annex"]["opened"].encode()
        _same(predicate["annex"], "sha256:" + _url(opened), "the opened annex")
        _same(predicate["passport"], _json(opened, "the annex")["passport"], "the annex's passport")
        say("annex        opened, and as the statement commits to")
    else:
        say("annex        closed")

    part = _fields(bundle["log"], "index entry proof checkpoint consistency")
    entry = _b64(part["entry"])
    said = _fields(_json(entry, "the log's entry"), "at body format kind seq")
    body = _fields(said["body"], "passport statement")
    _require(_whole(part["index"]) and said["seq"] == part["index"], "the entry is of another place in the log")
    _require(said["kind"] == "passport" and said["format"] == FORMAT, "the entry is not a passport's")
    _same(predicate["passport"], body["passport"], "the entry's passport")
    _same("sha256:" + _url(payload), body["statement"], "the entry's digest of the statement")
    origin, size, root = _note(part["checkpoint"], public, check)
    _require(part["index"] < size, "the entry is not in the checkpoint's tree")
    leaf = hashlib.sha256(b"\x00" + entry).digest()
    _included(leaf, part["index"], size, [_b64(hash) for hash in part["proof"]], root)
    say(f"log          entry {part['index']} of {size} in {origin}, checkpoint signed")
    if not isinstance(part["consistency"], list):
        raise Failed("the log's part holds no list of consistency proofs")
    proofs = {one["size"]: [_b64(hash) for hash in one["proof"]] for one in part["consistency"]}

    if checkpoints is not None:
        _continues(checkpoints, public, check, (origin, size, root), proofs, say)
    if answer is not None:
        data = _unurl(predicate["salt"]) + b"answer\0" + answer.encode("utf-8", "surrogatepass")
        digest = statement["subject"][0]["digest"]["sha256-salted"]
        _same(digest, hashlib.sha256(data).hexdigest(), "the answer's text")
        say("answer       is the text that was given")
    return predicate


# -- the statement --------------------------------------------------------------------------------
def _structure(statement: Any) -> dict[str, Any]:
    """The predicate, if it says all that a passport must and refers to nothing that is not in it."""
    _fields(statement, "_type subject predicateType predicate")
    _same(STATEMENT, statement["_type"], "the statement's type")
    _same(PREDICATE, statement["predicateType"], "the predicate's type")
    _require(len(statement["subject"]) == 1, "the statement has not exactly one subject")
    digest = statement["subject"][0]["digest"]["sha256-salted"]
    _require(bool(re.fullmatch("[0-9a-f]{64}", digest)), "the answer's digest is malformed")
    predicate = statement["predicate"]
    needed = "format passport project actor purpose assistant asked_at sealed_at salt question outcome reason mode"
    tables = "notes search decisions guards annex documents labels transforms evidence citations label"
    _fields(predicate, f"{needed} {tables}", "model prompt cost dropped timings")
    _same(FORMAT, predicate["format"], "the passport's format")
    _require(len(_unurl(predicate["salt"])) == 16, "the salt is malformed")
    _require(isinstance(predicate["actor"]["name"], str) and "proven" in predicate["actor"], "there is no actor")
    _require(predicate["outcome"] in ("answer", "refusal"), "the outcome is neither an answer nor a refusal")
    answered = predicate["outcome"] == "answer"
    _require((predicate["reason"] is None) == answered, "outcome and reason contradict each other")
    _require(all("outcome" in guard and "where" in guard for guard in predicate["guards"]), "a guard has no outcome")
    _require(all(d["result"] in ("allow", "deny") for d in predicate["decisions"]), "a decision has no result")
    for document in predicate["documents"]:
        _place(document["transform"], predicate["transforms"])
        _place(document["label"], predicate["labels"])
        _require(all(document[part] for part in ("document", "version", "asset")), "a document has no origin")
    for one in predicate["evidence"]:
        _place(one["document"], predicate["documents"])
        _require(0 <= one["start"] <= one["end"] and one["chunk"], "an evidence has no place")
        _require(len(_unurl(one["text"])) == 32, "an evidence's digest is malformed")
    for citation in predicate["citations"]:
        _place(citation["evidence"], predicate["evidence"])
    if answered:
        _require("model" in predicate and predicate["search"] is not None, "the answer does not say how it was made")
        _require(predicate["citations"] != [] and predicate["decisions"] != [], "the answer rests on nothing")
        _require(all(d["result"] == "allow" for d in predicate["decisions"]), "it was answered against a decision")
    else:
        _require(not predicate["evidence"] and not predicate["citations"], "a refusal shows evidence")
    return dict(predicate)


def _place(number: Any, table: Sequence[Any]) -> None:
    _require(_whole(number) and number < len(table), "the statement refers to what is not in it")


# -- the log --------------------------------------------------------------------------------------
def _included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """RFC 9162, section 2.1.3.2."""
    node, last, hash = index, size - 1, leaf
    for sibling in proof:
        _require(last > 0, "the inclusion proof is too long")
        if node & 1 or node == last:
            hash = _inner(sibling, hash)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            hash = _inner(hash, sibling)
        node, last = node >> 1, last >> 1
    _require(last == 0 and hash == root, "the inclusion proof does not lead to the checkpoint's root")


def _consistent(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """RFC 9162, section 2.1.4.2, for ``0 < old < new``."""
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    _require(bool(path), "the consistency proof is empty")
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    first = second = path[0]
    for hash in path[1:]:
        _require(last > 0, "the consistency proof is too long")
        if node & 1 or node == last:
            first, second = _inner(hash, first), _inner(hash, second)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            second = _inner(second, hash)
        node, last = node >> 1, last >> 1
    _require(last == 0 and first == old_root and second == new_root, "the log is not a continuation: it was rewritten")


def _continues(
    text: str, public: bytes, check: Verify, here: tuple[str, int, bytes], proofs: dict[int, list[bytes]], say: Say
) -> None:
    """Each note kept elsewhere must be of this log, and at least one must be comparable with ours."""
    origin, size, root = here
    notes = NOTE.findall(text)
    _require(bool(notes) and not NOTE.sub("", text).strip(), "the other file holds something else than checkpoints")
    compared = 0
    for note in notes:
        other, count, head = _note(note, public, check)
        _same(origin, other, "the other checkpoint's log")
        if count == size:
            _require(head == root, f"the two checkpoints of {size} entries differ: the log was forked")
        elif 0 < count < size and count in proofs:
            _consistent(count, head, size, root, proofs[count])
        elif count:
            say(f"checkpoint   of {count} entries not compared: the bundle has no proof for this size")
            continue
        compared += 1
        say(f"checkpoint   of {count} entries: this log continues it")
    _require(compared > 0, "no checkpoint could be compared; export the bundle with proofs since their sizes")


def _note(text: str, public: bytes, check: Verify) -> tuple[str, int, bytes]:
    """A checkpoint's origin, size and root, if it bears the log's signature; other signatures may stand beside."""
    _require(isinstance(text, str) and bool(NOTE.fullmatch(text)), "the checkpoint is not a signed note")
    body, _, signatures = text.rpartition("\n\n")
    body += "\n"
    origin, count, head = body.split("\n")[:3]
    hash = hashlib.sha256(origin.encode() + b"\n\x01" + public).digest()[:4]
    for line in signatures.splitlines():
        name, _, encoded = line.removeprefix("\u2014 ").rpartition(" ")
        if name == origin and (data := _b64(encoded))[:4] == hash:
            _signed(check, data[4:], body.encode(), "the checkpoint")
            _require(bool(re.fullmatch("0|[1-9][0-9]{0,15}", count, re.ASCII)), "the checkpoint's size is malformed")
            root = _b64(head)
            _require(len(root) == 32, "the checkpoint's root is malformed")
            return origin, int(count), root
    raise Failed("the checkpoint does not bear this key's signature")


def _inner(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


# -- bytes ----------------------------------------------------------------------------------------
def _key(pem: bytes) -> tuple[bytes, Verify]:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise Failed("the key is not an Ed25519 public key in PEM")
    return key.public_bytes_raw(), key.verify


def _signed(check: Verify, signature: bytes, data: bytes, what: str) -> None:
    from cryptography.exceptions import InvalidSignature

    try:
        check(signature, data)
    except InvalidSignature:
        raise Failed(f"the signature of {what} does not hold") from None


def _json(data: bytes, what: str) -> Any:
    """JSON without double keys and without what JSON does not know: one reading, the same for everybody."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise Failed(f"{what} has a key twice")
        return dict(pairs)

    def never(name: str) -> Any:
        raise Failed(f"{what} holds {name}")

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=once, parse_constant=never)
    except ValueError:
        raise Failed(f"{what} is not JSON") from None


def _fields(value: Any, needed: str, allowed: str = "") -> Any:
    if not isinstance(value, dict):
        raise Failed("a part of the bundle is not an object")
    missing = [name for name in needed.split() if name not in value]
    unknown = sorted(set(value) - set(needed.split()) - set(allowed.split()))
    if missing or unknown:
        raise Failed(f"{'missing' if missing else 'unknown'} in the bundle: {', '.join(missing or unknown)}")
    return value


def _same(wanted: Any, found: Any, what: str) -> None:
    _require(type(wanted) is type(found) and wanted == found, f"{what} is not what it should be")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Failed(otherwise)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _b64(text: str) -> bytes:
    """Base64 in its one canonical spelling."""
    data = base64.b64decode(text, validate=True)
    _require(base64.b64encode(data).decode() == text, "a base64 text has spare bits")
    return data


def _url(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _unurl(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m drystone.verify", description="Check a passport offline.")
    parser.add_argument("file", metavar="FILE", help="a bundle, from `drystone passport show --json`")
    parser.add_argument("--key", metavar="PUB", required=True, help="the project's public key (PEM)")
    parser.add_argument("--checkpoint", metavar="FILE", help="signed notes of the same log that were kept elsewhere")
    parser.add_argument("--answer", metavar="FILE", help="the text that was given, to compare with the statement")
    options = parser.parse_args(arguments)
    try:
        verify(
            _read(options.file),
            _read(options.key),
            checkpoints=_read(options.checkpoint).decode("utf-8", "replace") if options.checkpoint else None,
            answer=_read(options.answer).decode("utf-8", "replace") if options.answer else None,
            say=print,
        )
    except Failed as failure:
        print(f"FAILED       {failure}")
        return 1
    print("VERIFIED")
    return 0


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
