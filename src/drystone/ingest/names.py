"""What sources outside this machine share: names that are safe as ids, and the options of a source's table.

Guarantees: ``safe`` and ``original`` are inverse to each other, so two names never share an id. An id has no empty,
``.`` or ``..`` segment, no control character and no ``!/`` (which names a document inside a document); what would be
one is written by its bytes as ``%XX``, an empty segment as ``%2F``, and ``%`` before two such digits as ``%25``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from typing import Any

from drystone.errors import SettingsError
from drystone.ingest.globs import matcher
from drystone.settings import SourceConfig

COMMON = frozenset({"include", "exclude", "parsers"})  # options of every source of documents
_ODD = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|%(?=[0-9A-F]{2})|!(?=/)")
_WRITTEN = re.compile("(?:%[0-9A-F]{2})+")
_SEGMENTS = {"": "%2F", ".": "%2E", "..": "%2E%2E"}


def safe(name: str) -> str:
    def written(match: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in match.group().encode("utf-8", "surrogatepass"))

    return "/".join(_SEGMENTS.get(part, part) for part in _ODD.sub(written, name).split("/"))


def original(id: str) -> str:
    def read(match: re.Match[str]) -> str:
        return bytes.fromhex(match.group().replace("%", "")).decode("utf-8", "surrogatepass")

    return "/".join("" if part == "%2F" else _WRITTEN.sub(read, part) for part in id.split("/"))


class Wanted:
    """Which ids come in, by the ``include`` and ``exclude`` of a source's table. Hidden names (``.x``) never do."""

    def __init__(self, config: SourceConfig) -> None:
        self._include, self._exclude = (
            [matcher(pattern) for pattern in strings(config, name)] for name in ("include", "exclude")
        )

    def __call__(self, id: str) -> bool:
        return not self.excluded(id) and (not self._include or any(p.match(id) for p in self._include))

    def excluded(self, id: str) -> bool:
        return id.startswith(".") or "/." in id or any(p.match(id) for p in self._exclude)


def check(config: SourceConfig, known: Collection[str], needed: Collection[str] = ()) -> Mapping[str, Any]:
    """The options of a source's table, if we know them all. Raises ``SettingsError``, which shows no value."""
    lacks = [name for name in needed if not isinstance(config.options.get(name), str) or not config.options[name]]
    unknown = sorted(set(config.options) - set(known))
    if unknown or lacks:
        raise SettingsError(
            f"The source {config.name!r} has "
            + (f"{', '.join(unknown)}, which we do not know." if unknown else f"no {', '.join(lacks)}."),
            looked=f"A source of type {config.type} has: {', '.join(sorted(known))}.",
        )
    return config.options


def strings(config: SourceConfig, option: str, default: Collection[str] = ()) -> tuple[str, ...]:
    value = config.options.get(option, default)
    if isinstance(value, str) or not all(isinstance(text, str) for text in value):
        raise SettingsError(f"{option} of the source {config.name!r} is not a list of texts.")
    return tuple(value)


def number(config: SourceConfig, option: str, default: int) -> int:
    value = config.options.get(option, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise SettingsError(f"{option} of the source {config.name!r} is not a number from 0 up.")
    return value


def hush(*loggers: str) -> None:
    """Let libraries log no requests and answers: what is signed or repeated there may hold a credential."""
    for name in loggers:
        logger = logging.getLogger(name)
        logger.setLevel(max(logging.WARNING, logger.level))


def loopback(host: str) -> bool:
    """Does this name mean this machine, whatever a name server says?"""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
