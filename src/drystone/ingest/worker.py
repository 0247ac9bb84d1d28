"""The process in which documents are parsed: ``python -I -m drystone.ingest.worker MEMORY_MB TIMEOUT_S LIMITS``.

Guarantees: before the first document is read it has given up the network, writing files and starting programs
(``sandbox.py``), and its memory and CPU time are bounded. It takes frames on standard input and answers each
document on standard output in order, as soon as it is done, so that its death costs one document. What a parser
prints goes nowhere. After an answer of kind ``memory`` it ends itself.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from inspect import signature
from typing import Any, BinaryIO

from drystone.errors import ParseFailed
from drystone.ingest import sandbox
from drystone.ingest.wire import HEAD, MOST_BLOCKS, NO_MEMORY, frame, pack, room
from drystone.records import Parsed, Reading


def main(argv: list[str]) -> int:
    memory_mb, timeout_s, limits = int(argv[0]), float(argv[1]), json.loads(argv[2])
    source, sink = os.fdopen(os.dup(0), "rb", 1 << 16), os.fdopen(os.dup(1), "wb", 1 << 20)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    state = sandbox.enter(memory_mb)
    _send(sink, {"ready": True, **state})
    try:
        return _serve(source, sink, timeout_s, limits)
    except MemoryError:
        return NO_MEMORY


def _serve(source: BinaryIO, sink: BinaryIO, timeout_s: float, limits: dict[str, int]) -> int:
    parsers: dict[str, Any] = {}
    while (head := source.read(HEAD.size)) and len(head) == HEAD.size:
        header_size, _ = HEAD.unpack(head)
        jobs = json.loads(source.read(header_size))["jobs"]
        # All of it first: the caller must never wait for us while we wait for the caller.
        payloads = [source.read(job["size"]) for job in jobs]
        for job in jobs:
            data = payloads.pop(0)
            sandbox.allow_seconds(timeout_s + 5)
            reading = Reading(tuple(job.get("passwords", ())), seconds=timeout_s, **limits)
            if not _one(sink, parsers, job, data, reading):
                return 1
        sandbox.rest()
        del data
    return 0


def _one(sink: BinaryIO, parsers: dict[str, Any], job: dict[str, Any], data: bytes, reading: Reading) -> bool:
    """Answer one document. False if this process is not fit for another."""
    try:
        parse = parsers.get(job["target"])
        if parse is None:
            parse = parsers[job["target"]] = _parser(job["target"])
        parsed = parse(data, job["name"], job["type"], reading)
        if not parsed.text.strip() and not parsed.parts:
            raise ParseFailed(_nothing(parsed.notes), kind="empty")
        if len(parsed.text) > reading.text:
            raise ParseFailed("The document unfolds to more text than is allowed.", kind="expansion")
        if len(parsed.blocks) > MOST_BLOCKS:
            raise ParseFailed("The document unfolds to more passages than are allowed.", kind="expansion")
        if len(parsed.parts) > reading.parts or sum(len(p.data) for p in parsed.parts) > reading.unpacked:
            raise ParseFailed("It unfolds to more, or larger, parts than are allowed.", kind="expansion")
        header, payload = pack(parsed)
        if sum(map(len, payload[:4])) > room(reading):
            raise ParseFailed("The document unfolds to more text than is allowed.", kind="expansion")
        _send(sink, header, *payload)
    except ParseFailed as error:
        _send(sink, {"ok": False, "kind": error.kind, "reason": error.happened[:300]})
    except MemoryError:
        _send(sink, {"ok": False, "kind": "memory", "reason": "It needs more memory than a parser may have."})
        return False
    except BaseException as error:  # a parser's own failure (a panic in Rust, an exit) costs its document only
        reason = f"The parser could not read it ({type(error).__name__})."
        _send(sink, {"ok": False, "kind": "malformed", "reason": reason})
    return True


def _parser(target: str) -> Callable[[bytes, str, str, Reading], Parsed]:
    """A parser's ``parse`` with our order of arguments; ``reading`` goes to those that take it."""
    module, _, attribute = target.partition(":")
    parser = getattr(importlib.import_module(module), attribute)()
    if "reading" in signature(parser.parse).parameters:
        return lambda data, name, kind, reading: parser.parse(data, name=name, media_type=kind, reading=reading)
    return lambda data, name, kind, _: parser.parse(data, name=name, media_type=kind)


def _nothing(notes: tuple[str, ...]) -> str:
    return "There is no text in it" + (f" ({'; '.join(notes)})." if notes else ".")


def _send(sink: BinaryIO, header: dict[str, Any], *payload: bytes) -> None:
    sink.write(frame(header, sum(map(len, payload))))
    for part in payload:
        sink.write(part)
    sink.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
