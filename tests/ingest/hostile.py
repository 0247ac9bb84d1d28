"""Parsers that misbehave, for the tests of the workers. They run in the worker only."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import subprocess
import time
from pathlib import Path

from drystone.records import Block, Parsed


class Hostile:
    name, version, media_types = "hostile", "1", ("x/hostile",)

    def parse(self, data: bytes, *, name: str, media_type: str) -> Parsed:
        return Parsed(getattr(self, data.decode().partition(" ")[0])(data), ())

    def fine(self, data: bytes) -> str:
        return "fine"

    def pid(self, data: bytes) -> str:
        return str(os.getpid())

    def hang(self, data: bytes) -> str:
        while True:
            time.sleep(1)

    def crash(self, data: bytes) -> str:
        return ctypes.string_at(0).decode()

    def leave(self, data: bytes) -> str:
        os._exit(7)

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

    def lie(self, data: bytes) -> Parsed:  # type: ignore[override]
        return Parsed("short", (Block("paragraph", 0, 500),))

    def env(self, data: bytes) -> str:
        return " ".join(sorted(os.environ)) + " cwd=" + os.getcwd()

    def escape(self, data: bytes) -> str:
        """Every way out that we know; names those that are open."""
        open_ways = []

        def attempt(way: str, call: object) -> None:
            try:
                call()  # type: ignore[operator]
                open_ways.append(way)
            except (OSError, ValueError, subprocess.SubprocessError):
                return

        attempt("socket", lambda: socket.socket())
        attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        attempt("unix", lambda: socket.socket(socket.AF_UNIX))
        attempt("pair", socket.socketpair)
        attempt("netlink", lambda: socket.socket(16, socket.SOCK_RAW, 0))
        attempt("program", lambda: subprocess.run(["/bin/true"]))
        attempt("fork", lambda: os.fork() or os._exit(0))
        attempt("write", lambda: Path("/tmp/drystone-escape").write_text("x"))
        attempt("secret", lambda: Path(data.decode().split(" ")[1]).read_text())
        attempt("passwd", lambda: Path("/etc/passwd").read_text())
        attempt("kill", lambda: os.kill(os.getppid(), 0))
        libc = ctypes.CDLL(None, use_errno=True)
        calls = ((425, 0, "io_uring"), (101, 16, "ptrace"), (321, 0, "bpf"), (250, 0, "keyctl"), (272, 0, "unshare"))
        for number, first, way in calls if os.uname().machine == "x86_64" else ():
            if libc.syscall(number, first, 0, 0, 0) >= 0 or ctypes.get_errno() != errno.EPERM:
                open_ways.append(way)
        return "ways: " + " ".join(open_ways)
