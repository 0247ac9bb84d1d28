"""Parsers that misbehave, for the tests of the workers. They run in the worker only."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import resource
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from drystone.ingest.wire import HEAD, MOST_BLOCKS, frame, pack
from drystone.records import Block, Parsed

HOARD: list[bytes] = []


class Hostile:
    name, version, media_types = "hostile", "1", ("x/hostile",)

    def parse(self, data: bytes, *, name: str, media_type: str) -> Parsed:
        made = getattr(self, data.decode().partition(" ")[0])(data)
        return made if isinstance(made, Parsed) else Parsed(made, ())

    def fine(self, data: bytes) -> str:
        return "fine"

    def hoard(self, data: bytes) -> str:
        """Taken over by its document: all that this process ever saw, and what waits in it to be parsed."""
        HOARD.append(data)
        frame = sys._getframe()
        while frame.f_back is not None:
            frame = frame.f_back
            HOARD.extend(d for d in frame.f_locals.get("payloads", ()) if isinstance(d, bytes))
        return " ".join(d.decode() for d in HOARD)

    def pid(self, data: bytes) -> str:
        return str(os.getpid())

    def hang(self, data: bytes) -> str:
        while True:
            time.sleep(1)

    def crash(self, data: bytes) -> str:
        return ctypes.string_at(0).decode()

    def abort(self, data: bytes) -> str:
        os.abort()

    def leave(self, data: bytes) -> str:
        os._exit(7)

    def exit(self, data: bytes) -> str:
        raise SystemExit(3)

    def panic(self, data: bytes) -> str:
        """As a library in Rust does it: no ``Exception``."""
        raise type("PanicException", (BaseException,), {})

    def eat(self, data: bytes) -> str:
        return str(len(b"x" * (8 << 30)))

    def unfold(self, data: bytes) -> str:
        return "x" * (3 << 20)

    def fail(self, data: bytes) -> str:
        raise RuntimeError("secret words of the document")

    def deep(self, data: bytes) -> str:
        return self.deep(data)

    def empty(self, data: bytes) -> str:
        return " \n "

    def talk(self, data: bytes) -> str:
        print("noise on standard output")
        os.write(1, b"more noise")
        return "fine"

    def lone(self, data: bytes) -> Parsed:
        return Parsed("text", (), "a\ud800b", ("c\udfffd",))

    def blocks(self, data: bytes) -> Parsed:
        return Parsed("text", (Block("paragraph", 0, 0),) * (MOST_BLOCKS + 1))

    def say(self, data: bytes) -> str:
        """Take the pipe to the caller and answer on the worker's behalf."""
        ends = [n for n in range(3, 32) if _is_pipe(n) and fcntl.fcntl(n, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY]
        fine, payload = pack(Parsed("forged", ()))
        said = {
            "nested": HEAD.pack(1 << 20, 0) + b"[" * (1 << 20),
            "endless": HEAD.pack((1 << 32) - 1, (1 << 64) - 1),
            "garbage": b"\xff" * 100,
            "kind": frame({"ok": False, "kind": ["x"], "reason": {}}, 0),
            "surrogate": frame({**fine, "title": "\ud800"}, 6) + b"forged",
            "twice": (frame(fine, 6) + b"".join(payload)) * 2,
        }[data.decode().split(" ")[1]]
        while said:
            said = said[os.write(ends[0], said) :]
        return "more"

    def env(self, data: bytes) -> str:
        return " ".join(sorted(os.environ)) + " cwd=" + os.getcwd()

    def escape(self, data: bytes) -> str:
        """Every way out that we know; names those that are open. ``escape SECRET VICTIM PORT``: a file that may not
        be read, one that may not be changed, a port of loopback where somebody listens."""
        secret, victim, port = (data.decode().split(" ")[1:] + ["", "", "0"])[:3]
        parent, open_ways = os.getppid(), []

        def attempt(way: str, call: Callable[[], object]) -> None:
            try:
                call()
            except (OSError, ValueError, subprocess.SubprocessError, MemoryError):
                return
            open_ways.append(way)

        attempt("socket", lambda: socket.socket().close())
        attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close())
        attempt("inet6", lambda: socket.socket(socket.AF_INET6).close())
        attempt("unix", lambda: socket.socket(socket.AF_UNIX).close())
        attempt("pair", lambda: [end.close() for end in socket.socketpair()])
        attempt("netlink", lambda: socket.socket(16, socket.SOCK_RAW, 0).close())
        attempt("dns", lambda: socket.getaddrinfo("localhost", 80))
        attempt("connect", lambda: socket.create_connection(("127.0.0.1", int(port)), 1).close())
        attempt("program", lambda: subprocess.run(["/bin/true"]))
        attempt("fork", _fork)
        attempt("vfork", lambda: os.posix_spawn("/bin/true", ["true"], {}))
        attempt("write", lambda: Path(victim + ".new").write_text("x"))
        attempt("append", lambda: open(victim, "ab").close())
        attempt("truncate", lambda: os.truncate(victim, 1))
        attempt("delete", lambda: os.unlink(victim + ".spare"))
        attempt("rename", lambda: os.rename(victim, victim))
        attempt("mode", lambda: os.chmod(victim, 0o600))
        attempt("times", lambda: os.utime(victim))
        attempt("attribute", lambda: os.setxattr(victim, "user.x", b"1"))
        attempt("folder", lambda: os.mkdir(victim + ".folder"))
        attempt("link", lambda: os.symlink(victim, victim + ".link"))
        attempt("pipe", lambda: os.mkfifo(victim + ".pipe"))
        attempt("secret", lambda: Path(secret).read_text())
        attempt("listing", lambda: os.listdir(Path(secret).parent))
        attempt("root", lambda: os.listdir("/"))
        attempt("passwd", lambda: Path("/etc/passwd").read_text())
        attempt("environ", lambda: Path("/proc/self/environ").read_bytes())
        attempt("memory", lambda: open("/proc/self/mem", "rb").close())
        attempt("their environ", lambda: Path(f"/proc/{parent}/environ").read_bytes())
        attempt("their memory", lambda: open(f"/proc/{parent}/mem", "rb").close())
        attempt("their files", lambda: os.listdir(f"/proc/{parent}/fd"))
        attempt("kill", lambda: os.kill(parent, 0))
        attempt("group", lambda: os.killpg(os.getpgid(parent), 0))
        attempt("priority", lambda: os.setpriority(os.PRIO_PROCESS, parent, os.getpriority(os.PRIO_PROCESS, parent)))
        attempt("affinity", lambda: os.sched_setaffinity(parent, os.sched_getaffinity(parent)))
        attempt("their limits", lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE))
        attempt("grow", lambda: mmap.mmap(-1, 8 << 30).close())
        attempt("descriptors", lambda: [os.dup(0) for _ in range(200)] and None)
        os.closerange(40, 400)
        libc = ctypes.CDLL(None, use_errno=True)
        for number, arguments, way in _CALLS if os.uname().machine == "x86_64" else ():
            ctypes.set_errno(0)
            given = [parent if argument == "parent" else argument for argument in arguments]
            if libc.syscall(number, *given, 0, 0, 0) >= 0 or ctypes.get_errno() != errno.EPERM:
                open_ways.append(way)
        return "ways: " + ", ".join(open_ways)

    def descriptors(self, data: bytes) -> str:
        """What is open: kinds of files, without the null device."""
        found = []
        for number in range(256):
            try:
                info = os.fstat(number)
            except OSError:
                continue
            if not (stat.S_ISCHR(info.st_mode) and info.st_rdev == os.makedev(1, 3)):
                found.append("pipe" if stat.S_ISFIFO(info.st_mode) else stat.filemode(info.st_mode))
        return " ".join(found)

    def threads(self, data: bytes) -> str:
        """Threads are no processes: engines may use them."""
        seen: list[int] = []
        made = [threading.Thread(target=seen.append, args=(n,)) for n in range(4)]
        for thread in made:
            thread.start()
        for thread in made:
            thread.join()
        return f"threads {len(seen)}"


def _is_pipe(number: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(number).st_mode)
    except OSError:
        return False


def _fork() -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


# Calls that Python has no name for, and what makes them do nothing where they are allowed (x86-64).
_CALLS: tuple[tuple[int, tuple[int | str | None, ...], str], ...] = (
    (425, (0,), "io_uring"), (101, (16,), "ptrace"), (321, (0,), "bpf"), (250, (0,), "keyctl"), (272, (0,), "unshare"),
    (129, ("parent", 0), "queued signal"), (234, ("parent", "parent", 0), "thread signal"),
    (297, ("parent", "parent", 0), "queued thread signal"),
    (434, ("parent", 0), "pidfd"), (310, ("parent",), "process_vm"), (312, ("parent", "parent"), "kcmp"),
    (29, (0, 0), "shared memory"), (68, (0, 0), "queue"), (298, (None, 0, -1, -1), "perf"), (323, (0,), "userfaultfd"),
    (165, (None, None, None), "mount"), (308, (-1,), "setns"), (304, (-1, None), "handle"), (300, (0,), "fanotify"),
)  # fmt: skip
