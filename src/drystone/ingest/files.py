"""A folder of files as a source.

Guarantees: lists every regular file below ``path`` whose name no pattern excludes, or raises ``SourceUnavailable``:
a folder that cannot be read is an outage, never a removal. Hidden files, the state folder, the project's own
configuration and label files (``NAME.label.toml``) are no documents. Devices, sockets, pipes and links out of the
folder are listed as failures and never opened. A link inside the folder counts only where its target is not listed
by itself. Ids are paths with ``/``; bytes that are not UTF-8, control characters and a ``!`` at the end of a folder's
name (``!/`` names a document inside a document) are written ``%XX``, and ``%`` itself as ``%25`` in such names only.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from drystone.errors import SettingsError, SourceUnavailable
from drystone.ingest import posix
from drystone.ingest.globs import matcher
from drystone.ingest.media import media_type
from drystone.records import Failure, Item
from drystone.settings import Settings, SourceConfig

SIDECAR = ".label.toml"
Links = list[tuple[str, str]]  # path and id of each link that was met
_ODD = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_OPTIONS = {"path", "include", "exclude", "parsers"}
_OWN = {"drystone.toml", "users.toml"}  # of a project whose folder is the source


class FilesSource:
    """Options: ``path`` (relative to the project), ``include`` and ``exclude`` (lists of patterns), ``parsers``."""

    def __init__(self, config: SourceConfig, settings: Settings) -> None:
        unknown = set(config.options) - _OPTIONS
        if unknown or not isinstance(config.options.get("path"), str):
            raise SettingsError(
                f"The source {config.name!r} has "
                + (f"{', '.join(sorted(unknown))}, which we do not know." if unknown else "no path."),
                looked=f"A source of type files has: {', '.join(sorted(_OPTIONS))}.",
            )
        if "://" in config.options["path"]:
            raise SettingsError(
                f"The path of the source {config.name!r} is an address.",
                todo="An object store is opened by ingest.objects.open_files.",
            )
        self.name = config.name
        self.root = os.path.realpath(settings.folder / config.options["path"])
        self._permitted = config.permissions == "source"
        self._include = [matcher(p) for p in _patterns(config, "include")]
        self._exclude = [matcher(p) for p in _patterns(config, "exclude")]
        self._state = str(settings.state)
        self._most = int(settings["ingest.max_file_mb"]) << 20
        self._project = str(settings.folder)
        self._odd: dict[str, str] = {}  # id -> path, where they differ

    def watched(self) -> Sequence[str]:
        return (self.root,)

    # -- listing -------------------------------------------------------------------------------------
    def list(self) -> Iterator[Item | Failure]:
        """In the order of the names. Raises ``SourceUnavailable``."""
        if self._permitted:
            posix.forget_names()
        seen: set[str] = set()
        links: Links = []
        try:
            top = self._passers(self.root, os.stat(self.root)) if self._permitted else ()
            yield from self._folder(self.root, "", top, seen, links)
            for path, name in links:
                yield from self._link(path, name, seen)
        except OSError as error:
            where = error.filename if isinstance(error.filename, str) else self.root
            raise SourceUnavailable(
                f"A folder of the source {self.name!r} could not be listed ({error.strerror}).",
                looked=f"We looked in {os.fsencode(where).decode('utf-8', 'backslashreplace')}.",
                todo="Nothing was removed. Make it readable again, or exclude it.",
            ) from None

    def _folder(
        self, folder: str, prefix: str, above: tuple[frozenset[str], ...], seen: set[str], links: Links
    ) -> Iterator[Item | Failure]:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        sidecars = {entry.name for entry in entries if entry.name.endswith(SIDECAR)}
        for entry in entries:
            name = entry.name
            if name[0] == "." or name in sidecars:
                continue
            identity = prefix + _shown(name)
            if entry.is_symlink():
                if not self._excluded(identity, False):
                    links.append((entry.path, identity))
                continue
            if entry.is_dir(follow_symlinks=False):
                identity = prefix + _shown(name, True)
                if entry.path == self._state or any(p.match(identity + "/") for p in self._exclude):
                    continue
                if folder == self._project and name == "policies":
                    continue
                passers = above
                if self._permitted:
                    try:
                        passers = (*above, *self._passers(entry.path, entry.stat(follow_symlinks=False)))
                    except FileNotFoundError:
                        continue
                yield from self._folder(entry.path, identity + "/", passers, seen, links)
                continue
            if self._excluded(identity, True) or (folder == self._project and _own(name)):
                continue
            try:
                info = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # gone since the folder was listed
            if not stat.S_ISREG(info.st_mode):
                yield Failure(f"{self.name}:{identity}", "not_a_file", "It is a device, a socket or a pipe.")
                continue
            if identity in seen:
                yield Failure(f"{self.name}:{identity}", "duplicate_id", "Another file is written with the same id.")
                continue
            seen.add(identity)
            if identity != entry.path[len(self.root) + 1 :]:
                self._odd[identity] = entry.path
            elif self._odd:
                self._odd.pop(identity, None)
            beside = self._beside(entry.path) if sidecars and name + SIDECAR in sidecars else None
            yield self._item(identity, entry.path, info, above, beside)

    def _item(
        self, identity: str, path: str, info: os.stat_result, above: tuple[frozenset[str], ...],
        beside: Mapping[str, Any] | None,
    ) -> Item:  # fmt: skip
        permissions = None
        if self._permitted:
            readers = posix.principals(info.st_mode & 0o777, info.st_uid, info.st_gid, posix.acl(path), posix.READ)
            permissions = {"readers": _clauses((readers, *above))}
        return Item(
            identity,
            f"{info.st_size}:{info.st_mtime_ns}:{info.st_ctime_ns}:{info.st_ino}",
            info.st_size,
            media_type(identity),
            "",
            permissions,
            beside,
        )

    def _passers(self, path: str, info: os.stat_result) -> tuple[frozenset[str], ...]:
        """One clause of who may pass a folder; none where everyone may."""
        who = posix.principals(info.st_mode & 0o777, info.st_uid, info.st_gid, posix.acl(path), posix.PASS)
        return () if "everyone" in who else (who,)

    def _excluded(self, identity: str, file: bool) -> bool:
        if file and self._include and not any(p.match(identity) for p in self._include):
            return True
        return any(p.match(identity) for p in self._exclude)

    def _link(self, path: str, identity: str, seen: set[str]) -> Iterator[Item | Failure]:
        """A link to a file inside that is not listed by itself (it lies in a hidden folder) stands for it."""
        target = os.path.realpath(path)
        inside = target.startswith(self.root + os.sep) and not (target + os.sep).startswith(self._state + os.sep)
        if not inside:
            yield Failure(f"{self.name}:{identity}", "link_outside", "It is a link that leaves the source's folder.")
            return
        *folders, last = target[len(self.root) + 1 :].split("/")
        name = "/".join((*(_shown(part, True) for part in folders), _shown(last)))
        hidden = any(part.startswith(".") for part in name.split("/"))
        try:
            info = os.stat(target)
        except FileNotFoundError:
            yield Failure(f"{self.name}:{identity}", "link_broken", "It is a link to nothing.")
            return
        if not stat.S_ISREG(info.st_mode) or not hidden or self._excluded(name, False):
            if stat.S_ISDIR(info.st_mode) or name not in seen:
                yield Failure(f"{self.name}:{identity}", "link", "It is a link; what it points to counts by itself.")
            return
        if os.lstat(path).st_uid not in (0, info.st_uid):  # or one could give another's hidden file a weaker rule
            yield Failure(f"{self.name}:{identity}", "link", "It is a link to a file of somebody else.")
            return
        if self._excluded(identity, True) or identity in seen:
            return
        seen.add(identity)
        self._odd[identity] = target
        above: tuple[frozenset[str], ...] = ()
        if self._permitted:
            folder = os.path.dirname(target)
            while len(folder) >= len(self.root):
                above = (*self._passers(folder, os.stat(folder)), *above)
                folder = os.path.dirname(folder)
        beside = self._beside(path) if os.path.exists(path + SIDECAR) else None
        yield self._item(identity, target, info, above, beside)

    def _beside(self, path: str) -> Mapping[str, Any]:
        """The label file of a document. One that cannot be read gives no label, and so no document."""
        try:
            with open(path + SIDECAR, "rb") as file:
                return tomllib.loads(file.read(1 << 20).decode())
        except (OSError, ValueError):
            return {"": "it is not readable TOML"}

    def look(self, id: str) -> Item | None:
        """One file as it is now, with the folders above it; ``None`` if it is gone or is no file inside any more."""
        path = self._odd.get(id) or self._path(id)
        try:
            info = os.lstat(path)
            folder = os.path.realpath(os.path.dirname(path))
            if not stat.S_ISREG(info.st_mode) or not (folder + os.sep).startswith(self.root + os.sep):
                return None
            above: tuple[frozenset[str], ...] = ()
            while self._permitted and len(folder) >= len(self.root):
                above = (*self._passers(folder, os.stat(folder)), *above)
                folder = os.path.dirname(folder)
            beside = self._beside(path) if os.path.exists(path + SIDECAR) else None
            return self._item(id, path, info, above, beside)
        except OSError:
            return None

    def _path(self, id: str) -> str:
        """Where a file of this id lies, though it was not listed by this process; "" if two may be meant."""
        path: str = self.root
        last = id.count("/")
        for n, step in enumerate(id.split("/")):
            raw = os.fsdecode(unquote_to_bytes(step))
            meant = [name for name in {step, raw} if _shown(name, n < last) == step and "/" not in name]
            meant = [name for name in meant if "\0" not in name and os.path.lexists(os.path.join(path, name))]
            if len(meant) != 1:
                return ""
            path = os.path.join(path, meant[0])
        return path

    # -- reading -------------------------------------------------------------------------------------
    def read(self, item: Item) -> bytes:
        """The file's bytes, if it is still a regular file inside the source's folder. Raises ``OSError``."""
        path = self._odd.get(item.id) or os.path.join(self.root, item.id)
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode) or os.path.realpath(os.path.dirname(path)) != os.path.dirname(
                path
            ):
                raise OSError("it is no regular file any more")
            data = file.read(self._most + 1)
        if len(data) > self._most:  # it has grown since it was listed
            raise OSError("it is larger than ingest.max_file_mb allows")
        return data


def _patterns(config: SourceConfig, option: str) -> Sequence[str]:
    value = config.options.get(option, [])
    if isinstance(value, str) or not all(isinstance(p, str) for p in value):
        raise SettingsError(f"{option} of the source {config.name!r} is not a list of patterns.")
    return tuple(value)


def _own(name: str) -> bool:
    return name in _OWN or (name.startswith("drystone.") and name.endswith(".toml"))


def _shown(name: str, folder: bool = False) -> str:
    """A name as a step of an id: what cannot be shown, is no UTF-8 or looks like "inside" is written by its bytes."""
    inside = folder and name.endswith("!")
    if not inside and not _ODD.search(name):
        return name

    def written(match: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in os.fsencode(match.group()))

    shown = _ODD.sub(written, name.replace("%", "%25"))
    return shown[:-1] + "%21" if inside else shown


def _clauses(clauses: Sequence[frozenset[str]]) -> Sequence[Sequence[str]]:
    return [sorted(clause) for clause in dict.fromkeys(clauses)]
