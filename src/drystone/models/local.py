"""A GGUF model run by llama.cpp in a child process of ours.

Guarantees: the weights are those of the pinned digest; a crash of the engine ends the child and not us, and the
next call starts a new one; a call ends within ``models.timeout_s``; the child starts with the first call, inherits
no secrets from our environment, listens on no port, and ends with the project. Decoding is greedy in a slot of its
own, so the same prompt gives the same text with the same build, weights and number of threads.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from drystone.errors import EngineMissing, ModelUnavailable, SettingsError
from drystone.models import weights, worker
from drystone.ports import Completion
from drystone.records import Usage
from drystone.settings import ModelConfig, Settings

SEED = 0
CONTEXT = 4096
INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")


class LocalModel:
    """``type = "llama_cpp"``. Options: ``path`` with ``sha256`` (a GGUF file), or ``model`` (a known name;
    ``smollm2`` by default); ``context`` in tokens."""

    def __init__(self, config: ModelConfig, settings: Settings) -> None:
        self.name = config.name
        self.clearance, self.regions, self.purposes = config.clearance, config.regions, config.purposes
        self._settings = settings
        unknown = set(config.options) - {"path", "sha256", "model", "context"}
        if unknown:
            raise SettingsError(
                f"The model {config.name!r} has {', '.join(sorted(unknown))}, which we do not know.",
                looked="A llama_cpp model may have: path, sha256, model, context.",
            )
        self._path = str(config.options.get("path", ""))
        known = weights.CHAT.get(str(config.options.get("model", "smollm2")))
        if bool(self._path) != ("sha256" in config.options) or (known is None and not self._path):
            raise SettingsError(
                f"The model {config.name!r} is not pinned.",
                looked=f"A llama_cpp model is one of {', '.join(weights.CHAT)}, or a path with its sha256.",
                todo='Write model = "smollm2", or path = "FILE.gguf" and sha256 = "...".',
            )
        self._known = known
        pinned = "" if known is None else next(iter(known.files.values()))
        self._sha256 = str(config.options["sha256"]) if self._path else pinned
        self.digest = "sha256:" + self._sha256.lower()
        self._context = int(config.options.get("context", CONTEXT))
        self._threads = int(settings["models.threads"])
        self._timeout = float(settings["models.timeout_s"])
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._closes = 0

    def complete(
        self, messages: Sequence[Mapping[str, str]], *, max_tokens: int, stop: Sequence[str] = ()
    ) -> Completion:
        """Raises ``ModelUnavailable``, ``EngineMissing`` or ``DigestMismatch``."""
        request = self._request(messages, max_tokens, stop)
        closes = self._closes
        try:
            reply, build = self._ask(request)
        except _Died:  # it may have died between two calls; nothing was handed on, so once more
            if closes != self._closes:
                raise
            reply, build = self._ask(request)
        if "choices" not in reply:
            raise self._refused(reply)
        choice, used = reply["choices"][0], reply.get("usage", {})
        return Completion(
            text=str(choice["message"].get("content") or "").strip(),
            usage=Usage(int(used.get("prompt_tokens", 0)), int(used.get("completion_tokens", 0))),
            finish=str(choice.get("finish_reason") or "stop"),
            runtime=self.runtime(build, max_tokens),
        )

    def stream(
        self, messages: Sequence[Mapping[str, str]], *, max_tokens: int, stop: Sequence[str] = ()
    ) -> Iterator[str]:
        """Parts of the text. Leaving the loop early ends the child, since the engine would go on writing."""
        request = {**self._request(messages, max_tokens, stop), "stream": True}
        handed, closes = False, self._closes
        for last in (False, True):
            try:
                with _Turn(self) as (child, deadline):
                    for text in self._texts(child.events(request, deadline)):
                        handed = True
                        yield text
                return
            except _Died:
                if handed or last or closes != self._closes:
                    raise

    def runtime(self, build: str, max_tokens: int) -> dict[str, Any]:
        """What a replay needs to give the same text."""
        return {
            "engine": "llama.cpp",
            "build": build,
            "threads": self._threads,
            "context": self._context,
            "seed": SEED,
            "temperature": 0,
            "max_tokens": max_tokens,
            "cache_prompt": False,
        }

    @property
    def pid(self) -> int | None:
        """Of the child, or ``None`` while there is none."""
        child = self._child
        return child.process.pid if child is not None and child.process.poll() is None else None

    def close(self) -> None:
        """End the child, also in the middle of a call, which then fails. A later call starts a new one."""
        self._closes += 1
        child = self._child
        if child is not None:
            child.process.kill()
        # A stream that nobody reads on holds the lock for as long as it lives; it cleans up when it ends.
        if self._lock.acquire(timeout=1.0):
            try:
                self._stop()
            finally:
                self._lock.release()

    # -- the child ---------------------------------------------------------------------------------
    def _request(self, messages: Sequence[Mapping[str, str]], max_tokens: int, stop: Sequence[str]) -> dict[str, Any]:
        return {
            "messages": [dict(m) for m in messages],
            "max_tokens": max_tokens,
            "stop": list(stop),
            "temperature": 0.0,
            "top_k": 1,
            "seed": SEED,
            "cache_prompt": False,
        }

    def _ask(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        with _Turn(self) as (child, deadline):
            return child.ask(request, deadline)["reply"], child.build

    def _texts(self, events: Iterator[dict[str, Any]]) -> Iterator[str]:
        for event in events:
            if "choices" not in event:
                raise self._refused(event)
            for choice in event["choices"]:
                if text := choice.get("delta", {}).get("content"):
                    yield str(text)

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def _file(self) -> Path:
        if self._path:
            file = (self._settings.folder / self._path).expanduser()
        else:
            assert self._known is not None  # the constructor refused everything else
            file = weights.find(self._known, self._settings) / next(iter(self._known.files))
        weights.verify(file.parent, {file.name: self._sha256})
        return file

    def _started(self, deadline: float) -> _Child:
        if self._child is None or self._child.process.poll() is not None:
            self._stop()
            file = self._file()
            self._child = _Child(self.name)
            self._child.start({"path": str(file), "threads": self._threads, "context": self._context}, deadline)
        return self._child

    def _refused(self, reply: Mapping[str, Any]) -> ModelUnavailable:
        kind = str(reply.get("error", {}).get("type", "an unknown error"))
        return ModelUnavailable(
            f"The model {self.name!r} refused the prompt: {kind}.",
            todo="If the context is too small, raise context in its [[models]] block.",
        )


class _Turn:
    """One call at a time: takes the lock within the time limit; ends the child if the call did not end well."""

    def __init__(self, model: LocalModel) -> None:
        self._model = model

    def __enter__(self) -> tuple[_Child, float]:
        model = self._model
        deadline = time.monotonic() + model._timeout
        if not model._lock.acquire(timeout=model._timeout):
            raise _late(model.name)
        try:
            return model._started(deadline), deadline
        except BaseException:
            model._stop()
            model._lock.release()
            raise

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._model._stop()
        self._model._lock.release()


class _Child:
    """The process and its two pipes. Reading never waits beyond the deadline."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.build = ""
        package = str(Path(__file__).resolve().parents[2])
        environment = {k: os.environ[k] for k in INHERITED if k in os.environ}
        environment |= {"OMP_WAIT_POLICY": "passive", "PYTHONPATH": package, "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "drystone.models.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self._selector = selectors.DefaultSelector()
        assert self.process.stdout is not None
        self._selector.register(self.process.stdout, selectors.EVENT_READ)

    def start(self, message: Mapping[str, Any], deadline: float) -> None:
        self._send(message)
        reply = self._receive(deadline)
        if reply.get("missing"):
            raise EngineMissing(
                "The engine for local models is not installed.",
                looked="We looked for the package xllamacpp.",
                todo='Install it with pip install "drystone[local]".',
            )
        self.build = str(reply["ready"])

    def ask(self, request: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        self._send(request)
        return self._receive(deadline)

    def events(self, request: Mapping[str, Any], deadline: float) -> Generator[dict[str, Any], None, None]:
        self._send(request)
        while not (message := self._receive(deadline)).get("done"):
            part = message["part"]
            yield from part if isinstance(part, list) else [part]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._selector.close()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # what was not yet written has nobody to read it
                    pipe.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            worker.write(self.process.stdin, dict(message))  # type: ignore[arg-type]
        except OSError:
            raise _died(self._name) from None

    def _receive(self, deadline: float) -> dict[str, Any]:
        (size,) = worker.FRAME.unpack(self._bytes(worker.FRAME.size, deadline))
        if size > worker.LIMIT:
            raise _died(self._name)
        message: dict[str, Any] = json.loads(self._bytes(size, deadline))
        if "error" in message and not message.get("missing"):
            raise ModelUnavailable(f"The engine of the model {self._name!r} failed: {message['error']}.")
        return message

    def _bytes(self, size: int, deadline: float) -> bytes:
        assert self.process.stdout is not None
        descriptor, data = self.process.stdout.fileno(), b""
        while len(data) < size:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                raise _late(self._name)
            piece = os.read(descriptor, size - len(data))
            if not piece:
                raise _died(self._name)
            data += piece
        return data


def _late(name: str) -> ModelUnavailable:
    return ModelUnavailable(
        f"The model {name!r} did not answer in time.", todo="Raise models.timeout_s, or ask for fewer tokens."
    )


class _Died(ModelUnavailable):
    """The child ended while we waited for it."""


def _died(name: str) -> _Died:
    return _Died(
        f"The process of the model {name!r} ended.", todo="The next call starts a new one; is there enough memory?"
    )
