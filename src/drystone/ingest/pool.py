"""Workers that parse, kept and used again, several documents a message, in parallel.

Guarantees: every job gets an answer, in order: a ``Parsed`` or a typed reason. A worker that hangs is killed when its
document's time is up; one that dies costs the one document it was at (which gets a second chance alone, in a fresh
process, if that one had already parsed others). Workers inherit no environment, no open file and no working folder.
A worker serves one label in its life, so that a document which takes it over learns of no document, and touches none,
that other people may read.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from drystone.errors import EngineMissing
from drystone.ingest.wire import HEAD, MAX_HEADER, NO_MEMORY, frame, room, unpack
from drystone.records import Label, Parsed, Reading
from drystone.settings import Settings

GROUP_DOCUMENTS, GROUP_BYTES = 64, 1 << 18  # of one message: a round trip must not cost more than the parsing
START_S = 30.0
MONTH = 30 * 86_400_000  # ms: documents that expire in the same one may share a worker


@dataclass(frozen=True, slots=True)
class Job:
    """One document to parse. ``target`` is the parser as ``module:attribute``, ``label`` the one in force."""

    target: str
    name: str
    media_type: str
    data: bytes
    passwords: tuple[str, ...] = ()
    label: Label | None = None

    @property
    def shares(self) -> Label | None:
        """Jobs of which this is equal may share a process."""
        label = self.label
        return label and replace(label, expires=label.expires // MONTH) if label and label.expires else label


@dataclass(frozen=True, slots=True)
class Broken:
    """Why a document could not be parsed. ``kind`` is typed; ``reason`` holds none of its text."""

    kind: str
    reason: str


class _Died(Exception):
    """The worker is gone. ``kind``: what it costs its document."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.broken = Broken(kind, reason)


class Pool:
    """Starts workers when they are first needed. Thread-safe.

    ``slow``: workers with the limits of what takes long: recognition of text in images, of speech.
    """

    def __init__(self, settings: Settings, *, slow: bool = False) -> None:
        of = "ingest.slow_" if slow else "ingest."
        self._size = max(1, int(settings[of + "workers"]))
        self._timeout, self._limit = float(settings[of + "timeout_s"]), of + "timeout_s"
        self._together = 1 if slow else GROUP_DOCUMENTS  # what is slow is spread, and each of it is heard of
        text, unpacked = int(settings["ingest.max_text_mb"]) << 20, int(settings["ingest.max_unpacked_mb"]) << 20
        limits = {"text": text, "unpacked": unpacked, "parts": int(settings["ingest.max_parts"])}
        self._arguments = (str(settings[of + "memory_mb"]), str(self._timeout), json.dumps(limits))
        self._most = Reading(text=text, unpacked=unpacked, parts=limits["parts"])
        self._idle: list[_Worker] = []  # the one used last is the last
        self._kept = self._size * (1 if slow else 4)  # of the idle ones
        self._lock = threading.Lock()

    def parse(
        self, jobs: Sequence[Job], done: Callable[[int], None] | None = None,
        taken: Callable[[int, Parsed], Parsed] = lambda _, parsed: parsed,
    ) -> list[Parsed | Broken]:  # fmt: skip
        """One answer a job, in order. ``done`` is told how many are ready.

        ``taken`` is given each document as it comes, with its job's place, in whatever thread it came, and returns what
        is to be held of it.
        """
        answers: list[Parsed | Broken | None] = [None] * len(jobs)
        waiting = deque(_groups(jobs, self._together))
        failures: list[BaseException] = []
        finished = 0

        def serve() -> None:
            nonlocal finished
            worker: _Worker | None = None
            try:
                while not failures:
                    try:
                        group = waiting.popleft()
                    except IndexError:
                        break
                    label = jobs[group[0]].shares
                    if worker is not None and worker.label != label:
                        self._give(worker)
                        worker = None
                    while group:
                        worker = worker or self._take(label)
                        group, alive = self._serve(worker, jobs, group, answers, taken)
                        worker = worker if alive else None
                    with self._lock:
                        finished = sum(a is not None for a in answers) if done else 0
                        if done:
                            done(finished)
            except BaseException as error:
                failures.append(error)
                if worker is not None:
                    worker.kill()
                    worker = None
            finally:
                if worker is not None:
                    self._give(worker)

        threads = [threading.Thread(target=serve, daemon=True) for _ in range(min(self._size, len(waiting)) - 1)]
        for thread in threads:
            thread.start()
        serve()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return [a for a in answers if a is not None]

    def _serve(
        self, worker: _Worker, jobs: Sequence[Job], group: list[int], answers: list[Parsed | Broken | None],
        taken: Callable[[int, Parsed], Parsed],
    ) -> tuple[list[int], bool]:  # fmt: skip
        """What is left of the group, and whether the worker lives. Each call answers a document or takes a chance."""
        used = worker.served > 0
        try:
            worker.send([jobs[i] for i in group], self._timeout)
        except _Died as death:
            if used:
                return group, False
            answers[group[0]] = death.broken
            return group[1:], False
        for at, index in enumerate(group):
            try:
                answer = worker.receive(self._timeout, self._most)
            except _Died as death:
                worker.kill()
                if used and death.broken.kind in ("crashed", "memory"):
                    return group[at:], False  # perhaps an earlier document's doing: once more in a fresh process
                answers[index] = death.broken
                return group[at + 1 :], False
            answers[index] = answer if isinstance(answer, Broken) else taken(index, answer)
            if isinstance(answer, Broken) and answer.kind == "memory":
                worker.kill()
                return (group[at:] if used else group[at + 1 :]), False
            used = True
        if worker.talks:  # more answers than questions: the next ones would go to the wrong documents
            worker.kill()
            return [], False
        return [], True

    def _take(self, label: Label | None = None) -> _Worker:
        """One that has served this label and no other, or none at all."""
        with self._lock:
            fits = [w for w in self._idle if w.label == label or not w.served]
            worker = max(fits, key=lambda w: w.served, default=None)
            if worker is not None:
                self._idle.remove(worker)
        worker = worker or _Worker(self._arguments, self._limit)
        worker.label = label
        return worker

    def _give(self, worker: _Worker) -> None:
        with self._lock:
            self._idle.append(worker)
            ends, self._idle = self._idle[: -self._kept], self._idle[-self._kept :]
        for one in ends:
            one.kill()

    def walls(self) -> dict[str, bool]:
        """Which walls stand around a worker, by name."""
        worker = self._take()
        self._give(worker)
        return dict(worker.walls)

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.kill()


def _groups(jobs: Sequence[Job], most: int) -> list[list[int]]:
    """What goes in one message, at most so many, of one label: a worker has all of a message in its memory."""
    labels: dict[Label | None, list[list[int]]] = {}
    sizes: dict[Label | None, int] = {}
    for index, job in enumerate(jobs):
        label = job.shares
        groups = labels.setdefault(label, [])
        sizes[label] = sizes.get(label, 0) + len(job.data)
        if not groups or sizes[label] > GROUP_BYTES or len(groups[-1]) >= most:
            groups.append([])
            sizes[label] = len(job.data)
        groups[-1].append(index)
    return [group for groups in labels.values() for group in groups]


class _Worker:
    """One process and the two pipes to it. ``limit``: the setting that bounds a document's time."""

    def __init__(self, arguments: Sequence[str], limit: str) -> None:
        self._late = f"It took longer than a document may take ({limit})."
        self.served = 0  # answers
        self.label: Label | None = None  # of all that it was given
        self._buffer = bytearray()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-m", "drystone.ingest.worker", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
            env={"LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"}, cwd="/", start_new_session=True,
        )  # fmt: skip
        self._end = weakref.finalize(self, _end, self._process)  # also when nobody closed the pool, or at the exit
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        try:
            header, _ = self._frame(time.monotonic() + START_S, 0)
        except _Died as death:
            raise EngineMissing(
                "The parser process does not start.",
                looked=f"{sys.executable} -I -m drystone.ingest.worker: {death}",
                todo="`drystone check` shows what is missing; ingest.memory_mb may be too small.",
            ) from None
        self.walls = {name: bool(state) for name, state in header.items() if name != "ready"}

    @property
    def talks(self) -> bool:
        """It said something that nobody asked for."""
        return bool(self._buffer)

    def send(self, jobs: Sequence[Job], timeout: float) -> None:
        header = [
            {"target": j.target, "name": j.name, "type": j.media_type, "size": len(j.data)}
            | ({"passwords": j.passwords} if j.passwords else {})
            for j in jobs
        ]
        self._write(frame({"jobs": header}, 0), timeout)
        small = b"".join(j.data for j in jobs) if len(jobs) > 1 else jobs[0].data
        self._write(small, timeout)

    def receive(self, timeout: float, most: Reading) -> Parsed | Broken:
        header, payload = self._frame(time.monotonic() + timeout, room(most) + most.unpacked)
        try:
            if header["ok"]:
                answer: Parsed | Broken = unpack(header, payload, most)
            else:
                kind, reason = header["kind"], header["reason"]
                if not isinstance(kind, str) or not kind.isidentifier() or not isinstance(reason, str):
                    raise ValueError("kind or reason")
                answer = Broken(kind[:40], "".join(c if c.isprintable() else " " for c in reason[:300]))
        except (ValueError, KeyError, TypeError, RecursionError):
            raise _Died("crashed", "The parser process answered what no parser answers.") from None
        self.served += 1
        return answer

    def _write(self, data: bytes, timeout: float) -> None:
        view, ready = memoryview(data), select.poll()
        ready.register(self._in, select.POLLOUT)
        deadline = time.monotonic() + timeout
        while view:
            left = deadline - time.monotonic()
            if left <= 0 or not ready.poll(left * 1000):
                self.kill()
                raise _Died("timeout", "The parser process did not take the document in time.")
            try:
                view = view[os.write(self._in, view[: 1 << 20]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise self._death() from None

    def _frame(self, deadline: float, most: int) -> tuple[dict[str, object], bytearray]:
        header_size, size = HEAD.unpack(self._read(HEAD.size, deadline))
        if header_size > MAX_HEADER or size > most:
            self.kill()
            raise _Died("expansion", "The document unfolds to more text than is allowed.")
        try:
            header = json.loads(self._read(header_size, deadline))
        except (ValueError, RecursionError):  # nested without end
            header = None
        if not isinstance(header, dict):
            raise _Died("crashed", "The parser process answered what no parser answers.")
        return header, self._read(size, deadline)

    def _read(self, size: int, deadline: float) -> bytearray:
        buffer, ready = self._buffer, select.poll()
        ready.register(self._out, select.POLLIN)
        while len(buffer) < size:
            left = deadline - time.monotonic()
            if left <= 0 or not ready.poll(left * 1000):
                self.kill()
                raise _Died("timeout", self._late)
            more = os.read(self._out, max(1 << 16, min(size - len(buffer), 1 << 20)))
            if not more:
                raise self._death()
            buffer += more
        if len(buffer) == size:  # handed over as it is: it may be large
            self._buffer = bytearray()
            return buffer
        data = buffer[:size]
        del buffer[:size]
        return data

    def _death(self) -> _Died:
        """How it ended, once its pipes are closed."""
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            code = 0
        self.kill()
        if code in (-signal.SIGXCPU, -signal.SIGALRM):
            return _Died("timeout", self._late)
        if code == NO_MEMORY:
            return _Died("memory", "It needs more memory than a parser may have.")
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return _Died("crashed", f"The parser process died ({how}).")

    def kill(self) -> None:
        self._end()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
