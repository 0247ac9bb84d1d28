"""``drystone ingest --watch``: changes come in as they happen.

Guarantees: a look that finds nothing changed writes nothing; an outage, a broken setting or a lost right is said
once, loses nothing and is looked at again until it is over; a changed ``drystone.toml`` is in force at the next look;
Ctrl-C and SIGTERM end it in good order with exit code 0.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from drystone import settings
from drystone.cli import OK
from drystone.cli.output import project
from drystone.errors import DrystoneError
from drystone.plugins import load
from drystone.project import Project


def watch(options: argparse.Namespace, ingest: Callable[[Project], Any]) -> int:
    """Call ``ingest`` whenever a source may have changed, until a signal comes. Returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    said = ""
    try:
        while True:
            try:
                with project(options, progress=True) as kb:
                    said = _follow(kb, options, ingest, said)
            except DrystoneError as error:
                said = _say(error, said)
                time.sleep(options.interval)
    except KeyboardInterrupt:
        print("Stopped watching. What was committed stays.", file=sys.stderr)
        return OK


def _follow(kb: Project, options: argparse.Namespace, ingest: Callable[[Project], Any], said: str) -> str:
    """Watch with these settings until ``drystone.toml`` changes. Returns the last error said."""
    chosen = [kb.settings.source(name) for name in options.sources] or list(kb.settings.sources)
    sources = {s.name: load("sources", s.type)(s, kb.settings) for s in chosen}
    synced = min((s.permissions_max_age_s for s in chosen if s.permissions == "source"), default=float("inf")) / 2
    configured, seen, last = _stamp(kb), None, 0.0
    known: dict[str, tuple[float, bytes]] = {}  # when sources that lie elsewhere were last listed, and what they said
    pause = float(kb.settings["ingest.remote_interval_s"])
    print(f"watching {', '.join(sources)}; Ctrl-C ends it", file=sys.stderr)
    while configured == _stamp(kb):
        try:
            now = time.monotonic()
            for name, source in sources.items():
                if name not in known or source.watched() or now - known[name][0] >= pause:
                    known[name] = (now, _look(source))
            looked = [said_then for _, said_then in known.values()]
            if looked != seen or now - last > synced:
                ingest(kb)
                seen, last, said = looked, now, ""
        except (DrystoneError, OSError) as error:
            said, seen = _say(error, said), None
            known.clear()
        time.sleep(options.interval)
    return said


def _look(source: Any) -> bytes:
    """A digest of the listing: of a table in one file by its times and size alone, else of every item."""
    paths = list(source.watched())
    if paths and all(os.path.isfile(path) for path in paths):
        stats = [os.stat(path) for path in paths]
        return repr([(s.st_mtime_ns, s.st_ctime_ns, s.st_size, s.st_ino) for s in stats]).encode()
    digest = blake2b(digest_size=16)
    for item in source.list():
        digest.update(repr(item).encode("utf-8", "surrogatepass"))
    return digest.digest()


def _stamp(kb: Project) -> tuple[float, ...]:
    """Of the files that say what this project is."""
    names = [settings.FILE] + ([f"drystone.{kb.settings.environment}.toml"] if kb.settings.environment else [])
    paths = [kb.folder / name for name in names]
    return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)


def _say(error: Exception, said: str) -> str:
    if str(error) != said:
        print(f"{error} We keep looking.", file=sys.stderr, flush=True)
    return str(error)
