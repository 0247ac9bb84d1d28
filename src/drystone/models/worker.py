"""The child process that runs llama.cpp: ``python -m drystone.models.worker``.

Guarantees: it speaks over its own standard input and output alone, in frames of four bytes (length, big endian)
and JSON. The engine insists on listening somewhere: it gets a socket in a folder of our own that is removed
before the first request, and a random key, so that nobody can connect. What the engine prints goes nowhere. It
ends when its input ends. One request at a time, in one slot, without a prompt cache: greedy decoding repeats.
"""

from __future__ import annotations

import json
import os
import secrets
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

FRAME = struct.Struct(">I")
LIMIT = 64 << 20  # a longer frame is a broken peer


def write(stream: BinaryIO, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode()
    stream.write(FRAME.pack(len(data)) + data)
    stream.flush()


def read(stream: BinaryIO) -> dict[str, Any] | None:
    """The next message, or ``None`` where the input ended."""
    head = stream.read(FRAME.size)
    if len(head) < FRAME.size:
        return None
    (size,) = FRAME.unpack(head)
    data = stream.read(size) if size <= LIMIT else b""
    return json.loads(data) if len(data) == size else None


def load(start: dict[str, Any]) -> tuple[Any, str]:
    """The engine with its model, and the engine's build. ``start``: path, threads, context."""
    os.environ["OMP_WAIT_POLICY"] = "passive"  # before the import: busy waiting costs 25 x under load
    os.environ["OMP_NUM_THREADS"] = str(start["threads"])
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = start["path"]
    params.n_ctx, params.n_parallel = start["context"], 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = start["threads"]
    params.cache_prompt, params.cache_ram_mib = False, 0
    params.warmup = params.ui = params.fit_params = params.endpoint_slots = False
    params.offline, params.verbosity = True, -1
    params.api_keys = [secrets.token_urlsafe(32)]
    with tempfile.TemporaryDirectory(prefix="drystone-") as folder:
        params.hostnames = [str(Path(folder) / "s.sock")]
        return xllamacpp.Server(params), xllamacpp.__version__


def serve(server: Any, request: dict[str, Any], out: BinaryIO) -> None:
    stream = bool(request.get("stream"))

    def part(event: Any) -> bool:
        write(out, {"part": event})
        return False

    reply = server.handle_chat_completions(request, part) if stream else server.handle_chat_completions(request)
    write(out, {"done": True} if stream else {"reply": reply})


def main() -> int:
    source, out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    quiet = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # the engine prints; prompts must not end up in somebody's log
        os.dup2(quiet, descriptor)
    start = read(source)
    if start is None:
        return 0
    try:
        server, build = load(start)
    except Exception as error:  # the parent turns it into one of its errors
        write(out, {"error": type(error).__name__, "missing": isinstance(error, ImportError)})
        return 1
    write(out, {"ready": build})
    while (request := read(source)) is not None:
        try:
            serve(server, request, out)
        except BrokenPipeError:
            return 0
        except Exception as error:
            write(out, {"error": type(error).__name__})
    return 0


if __name__ == "__main__":
    sys.stdout.flush()
    os._exit(main())  # the engine's own threads must not hold the process up
