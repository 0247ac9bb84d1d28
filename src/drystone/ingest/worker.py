"""The process in which documents are parsed: ``python -I -m drystone.ingest.worker MEMORY_MB MAX_TEXT TIMEOUT_S``.

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
from typing import Any, BinaryIO

from drystone.errors import ParseFailed
from drystone.ingest import sandbox
from drystone.ingest.wire import HEAD, frame, pack


def main(argv: list[str]) -> int:
    memory_mb, max_text, timeout_s = int(argv[0]), int(argv[1]), float(argv[2])
    source, sink = os.fdopen(os.dup(0), "rb", 1 << 16), os.fdopen(os.dup(1), "wb", 1 << 20)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    state = sandbox.enter(memory_mb)
    _send(sink, {"ready": True, **state})
    parsers: dict[str, Any] = {}
    while (head := source.read(HEAD.size)) and len(head) == HEAD.size:
        header_size, _ = HEAD.unpack(head)
        jobs = json.loads(source.read(header_size))["jobs"]
        # All of it first: the caller must never wait for us while we wait for the caller.
        payloads = [source.read(job["size"]) for job in jobs]
        for job in jobs:
            data = payloads.pop(0)
            sandbox.allow_seconds(timeout_s + 5)
            if not _one(sink, parsers, job, data, max_text):
                return 1
        sandbox.rest()
        del data
    return 0


def _one(sink: BinaryIO, parsers: dict[str, Any], job: dict[str, Any], data: bytes, max_text: int) -> bool:
    """Answer one document. False if this process is not fit for another."""
    try:
        parser = parsers.get(job["target"])
        if parser is None:
            module, _, attribute = job["target"].partition(":")
            parser = parsers[job["target"]] = getattr(importlib.import_module(module), attribute)()
        parsed = parser.parse(data, name=job["name"], media_type=job["type"])
        if not parsed.text.strip():
            raise ParseFailed(_nothing(parsed.notes), kind="empty")
        if len(parsed.text) > max_text:
            raise ParseFailed("The document unfolds to more text than is allowed.", kind="expansion")
        header, text, blocks = pack(parsed)
        if len(text) + len(blocks) > 4 * max_text + (1 << 20):
            raise ParseFailed("The document unfolds to more text than is allowed.", kind="expansion")
        _send(sink, header, text, blocks)
    except ParseFailed as error:
        _send(sink, {"ok": False, "kind": error.kind, "reason": error.happened[:300]})
    except MemoryError:
        _send(sink, {"ok": False, "kind": "memory", "reason": "It needs more memory than a parser may have."})
        return False
    except (RecursionError, Exception) as error:  # a parser's own failure costs its document only; the type names it
        reason = f"The parser could not read it ({type(error).__name__})."
        _send(sink, {"ok": False, "kind": "malformed", "reason": reason})
    return True


def _nothing(notes: tuple[str, ...]) -> str:
    return "There is no text in it" + (f" ({'; '.join(notes)})." if notes else ".")


def _send(sink: BinaryIO, header: dict[str, Any], *payload: bytes) -> None:
    sink.write(frame(header, sum(map(len, payload))))
    for part in payload:
        sink.write(part)
    sink.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
