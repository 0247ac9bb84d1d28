"""Parsers that load the engines of images and recordings, and then reach for what they may not have."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from drystone.ingest.parsers import audio, ocr
from drystone.records import Parsed


class Reaching:
    name, version, media_types = "reaching", "1", ("x/reaching",)

    def parse(self, data: bytes, *, name: str, media_type: str) -> Parsed:
        import numpy as np

        if data == b"image":
            ocr.Eye().read(np.full((64, 256, 3), 255, np.uint8))
        else:
            audio._ear().hear(np.zeros(audio._WINDOW, np.float32), 0.0)
        tries: dict[str, Callable[[], object]] = {
            "socket": socket.socket,
            "read": lambda: Path("/etc/passwd").read_bytes(),
            "write": lambda: Path("/tmp/drystone-reaching").write_bytes(b"x"),
            "fork": os.fork,
            "program": lambda: subprocess.run(["/bin/true"], check=True),
        }
        return Parsed(" ".join(f"{name}:{_tried(reach)}" for name, reach in tries.items()), ())


def _tried(reach: Callable[[], object]) -> str:
    try:
        reach()
    except OSError as error:
        return type(error).__name__
    return "reached"
