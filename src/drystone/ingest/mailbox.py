"""Mail as a source: a Maildir on this machine, or the folders of an IMAP server.

Guarantees: every message of the named folders is listed, or ``SourceUnavailable`` is raised. Nothing is ever changed:
folders are opened with EXAMINE and read with BODY.PEEK, so no message becomes seen. An id is ``folder/number``: the
file's unique name in a Maildir, the UID on a server. The Message-ID is not used: whoever sends a mail chooses it, and
could stand in for another. UIDVALIDITY and UID are the fingerprint, so what is known is not loaded again. Messages
marked as deleted do not count. Without TLS only this machine is spoken to; no error holds what the server said.
"""

from __future__ import annotations

import contextlib
import imaplib
import os
import re
import ssl
import stat
import threading
import time
import weakref
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any, TypeVar

import certifi

from drystone.errors import SettingsError, SourceUnavailable
from drystone.ingest.globs import matcher
from drystone.ingest.media import MAIL
from drystone.ingest.names import COMMON, Wanted, check, loopback, number, original, safe, strings
from drystone.records import Failure, Item
from drystone.settings import Settings, SourceConfig

PAUSES = (0.2, 1.0, 4.0)  # seconds before each further attempt
TIMEOUT_S = 30.0
_PAGE = 1000  # messages of one listing request
_BOTH = {"folders", "since"}
_SERVER = {"host", "port", "user", "password", "token", "tls", "ca"}
_LISTED = re.compile(rb'\((?P<flags>[^)]*)\) (?:"(?P<mark>\\?.)"|NIL) (?P<name>.+)', re.S)
_SEQUENCE, _UID, _SIZE = re.compile(rb"(\d+) \("), re.compile(rb"\bUID (\d+)"), re.compile(rb"\bRFC822\.SIZE (\d+)")
_FLAGS, _DATE = re.compile(rb"\bFLAGS \(([^)]*)\)"), re.compile(rb'\bINTERNALDATE "([^"]+)"')
T = TypeVar("T")


def open_mail(config: SourceConfig, settings: Settings) -> MaildirSource | ImapSource:
    """The source of type ``mail``: a server where there is a ``host``, else a folder."""
    if config.permissions == "source":
        raise SettingsError(
            f'The source {config.name!r} has permissions = "source", and mail names no readers.',
            todo='Write permissions = "rules"; a rule\'s match names folders: "INBOX/**".',
        )
    return ImapSource(config, settings) if "host" in config.options else MaildirSource(config, settings)


class _Folders:
    """Which folders count, and from when."""

    def __init__(self, config: SourceConfig) -> None:
        self.names = strings(config, "folders", ("INBOX",))
        self._patterns = [matcher(name) for name in self.names]
        since = config.options.get("since")
        try:
            day = date.fromisoformat(since) if isinstance(since, str) else since
        except ValueError:
            day = False
        if day is not None and type(day) is not date:
            raise SettingsError(f"since of the source {config.name!r} is no day.", todo='Write since = "2024-01-31".')
        self.since = None if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()

    def __contains__(self, name: str) -> bool:
        return any(pattern.match(name) for pattern in self._patterns)

    def missing(self, source: str, found: Sequence[str], where: str) -> SourceUnavailable | None:
        """An error if a folder that is named in full is not there: that is no removal of its mail."""
        gone = [name for name in self.names if not re.search(r"[*?\[]", name) and name not in found]
        if not gone and any(name in self for name in found):
            return None
        return SourceUnavailable(
            f"The source {source!r} has no folder {', '.join(map(repr, gone or self.names))}.",
            looked=f"{where} has: {', '.join(sorted(found)) or 'none'}.",
            todo="Nothing was removed. Correct folders.",
        )


class MaildirSource:
    """Options: ``path`` (relative to the project), ``folders`` (patterns; ``INBOX`` is the Maildir itself, and alone
    by default), ``since`` (a day), ``include``, ``exclude``, ``parsers``."""

    def __init__(self, config: SourceConfig, settings: Settings) -> None:
        check(config, COMMON | _BOTH | {"path"}, ("path",))
        self.name = config.name
        self.root = os.path.realpath(settings.folder / config.options["path"])
        self._folders, self._wanted = _Folders(config), Wanted(config)
        self._paths: dict[str, str] = {}  # folder/unique to where it lay when it was listed: a flag renames the file

    def watched(self) -> Sequence[str]:
        return (self.root,)

    def list(self) -> Iterator[Item | Failure]:
        """By folder, in the order of the names. Raises ``SourceUnavailable``."""
        try:
            pairs = sorted(self._found(self.root, "INBOX"))
            folders = dict(pairs)
            if len(folders) < len(pairs):
                raise OSError(0, "two of its folders have one name, as .Sent and Sent have")
            if error := self._folders.missing(self.name, tuple(folders), self.root):
                raise error
            for name in folders:
                if name in self._folders:
                    yield from self._messages(name, folders[name])
        except OSError as error:
            raise SourceUnavailable(
                f"The mail folder of the source {self.name!r} could not be listed ({error.strerror}).",
                looked=f"We looked in {self.root}.",
                todo="Nothing was removed. Make it readable again.",
            ) from None

    def _found(self, path: str, name: str) -> Iterator[tuple[str, str]]:
        """Maildirs at and below a path: those of Maildir++ (``.Sent.2024`` is Sent/2024) and folders in folders."""
        with os.scandir(path) as entries:
            inside = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
        if "cur" in inside and "new" in inside:
            yield name, path
        for child in inside:
            if child in ("cur", "new", "tmp"):
                continue
            called = child[1:].replace(".", "/") if child.startswith(".") else child
            if called:
                yield from self._found(os.path.join(path, child), called if name == "INBOX" else f"{name}/{called}")

    def _messages(self, folder: str, path: str) -> Iterator[Item | Failure]:
        found: dict[str, tuple[str, os.stat_result]] = {}
        for part in ("new", "cur"):  # what moves meanwhile moves this way
            with os.scandir(os.path.join(path, part)) as entries:
                for entry in entries:
                    unique, _, flags = entry.name.partition(":")
                    if unique.startswith(".") or "T" in flags.rpartition(",")[2]:
                        continue
                    with contextlib.suppress(FileNotFoundError):  # gone since the folder was listed
                        found[unique] = entry.path, entry.stat(follow_symlinks=False)
        for unique, (file, info) in sorted(found.items()):
            id = safe(f"{folder}/{unique}")
            if self._folders.since is not None and info.st_mtime < self._folders.since or not self._wanted(id):
                continue
            if not stat.S_ISREG(info.st_mode):
                yield Failure(f"{self.name}:{id}", "not_a_file", "It is a link, a device, a socket or a pipe.")
                continue
            self._paths[id] = file
            yield Item(id, f"{info.st_size}:{info.st_mtime_ns}:{info.st_ino}", info.st_size, MAIL)

    def read(self, item: Item) -> bytes:
        """The message's bytes, though its flags changed since. Raises ``OSError``."""
        path = self._paths.get(item.id)
        if path is None:
            raise FileNotFoundError("it was not listed")
        try:
            return self._bytes(path)
        except FileNotFoundError:
            folder, unique = os.path.dirname(os.path.dirname(path)), os.path.basename(path).partition(":")[0]
            for part in ("cur", "new"):
                for name in os.listdir(os.path.join(folder, part)):
                    if name.partition(":")[0] == unique:
                        return self._bytes(os.path.join(folder, part, name))
            raise FileNotFoundError("the message is gone") from None

    def _bytes(self, path: str) -> bytes:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            inside = (os.path.realpath(os.path.dirname(path)) + os.sep).startswith(self.root + os.sep)
            if not stat.S_ISREG(os.fstat(handle).st_mode) or not inside:
                raise OSError("it is no regular file any more")
            return file.read()


class ImapSource:
    """Options: ``host``, ``port``, ``user``, ``password`` or ``token`` (an OAuth 2 access token; places of secrets,
    read at each connection), ``tls`` (true; ``"starttls"``; false for this machine alone), ``ca`` (a file of
    certificates), ``folders`` (patterns, ``INBOX`` by default), ``since`` (a day), ``include``, ``exclude``,
    ``parsers``. Thread-safe: one connection, one request at a time."""

    def __init__(self, config: SourceConfig, settings: Settings) -> None:
        options = check(config, COMMON | _BOTH | _SERVER, ("host", "user"))
        self.name = config.name
        self._host, self._user = str(options["host"]), str(options["user"])
        self._tls = options.get("tls", True)
        if self._tls not in (True, False, "starttls"):
            raise SettingsError(f'tls of the source {self.name!r} is neither true, false nor "starttls".')
        if self._tls is False and not loopback(self._host):
            raise SettingsError(
                f"The source {self.name!r} would send its password and mail over the network without TLS.",
                todo='Write tls = true or tls = "starttls".',
            )
        self._port = number(config, "port", 993 if self._tls is True else 143)
        kinds = [kind for kind in ("password", "token") if kind in options]
        if len(kinds) != 1:
            raise SettingsError(f"The source {self.name!r} needs a password or a token.", todo='Write "env:NAME".')
        self._kind = kinds[0]
        self._secret: Callable[[], str] = lambda: settings.secret(
            options[self._kind], f"the {self._kind} of the source {config.name!r}"
        )
        self._secret()  # that it is there is said now
        self._context: ssl.SSLContext | None = None
        if self._tls:
            try:
                ca = settings.folder / str(options["ca"]) if "ca" in options else certifi.where()
                self._context = ssl.create_default_context(cafile=ca)
            except OSError:
                raise SettingsError(f"ca of the source {self.name!r} is no file of certificates.") from None
        self._folders, self._wanted = _Folders(config), Wanted(config)
        self._lock = threading.RLock()
        self._open: list[imaplib.IMAP4] = []  # none or one
        self._at: tuple[str, str, int] = ("", "", 0)  # the folder that is open, its UIDVALIDITY, its messages
        self._names: dict[str, str] = {}  # ours to the server's
        weakref.finalize(self, _leave, self._open)

    def watched(self) -> Sequence[str]:
        return ()

    # -- listing -------------------------------------------------------------------------------------
    def list(self) -> Iterator[Item]:
        """By folder, oldest first. Raises ``SourceUnavailable``."""
        names = self._asked(self._list_folders)
        if error := self._folders.missing(self.name, tuple(names), f"{self._host}:{self._port}"):
            raise error
        for name in sorted(names):
            if name in self._folders:
                valid, messages = self._asked(lambda name=name: self._messages(name))  # type: ignore[misc]
                for uid, size in messages:
                    id = f"{safe(name)}/{uid}"
                    if self._wanted(id):
                        yield Item(id, f"{valid}:{uid}:{size}", size, MAIL)

    def _list_folders(self) -> dict[str, str]:
        found = {}
        for line in self._done(self._server().list()):
            if isinstance(line, tuple):  # the name came as a literal
                line = line[0].rpartition(b" ")[0] + b" " + line[1]
            said = _LISTED.fullmatch(line or b"")
            if said and b"\\noselect" not in said["flags"].lower() and b"\\nonexistent" not in said["flags"].lower():
                name = said["name"].strip()
                if name[:1] == b'"':
                    name = re.sub(rb"\\(.)", rb"\1", name[1:-1])
                mark = (said["mark"] or b"/")[-1:].decode("ascii", "replace")
                shown = "/".join(part.replace("/", "%2F") for part in _utf7(name).split(mark))
                found["INBOX" if shown.upper() == "INBOX" else shown] = name.decode("latin-1")
        self._names = found
        return found

    def _messages(self, folder: str) -> tuple[str, Sequence[tuple[int, int]]]:
        """UIDVALIDITY, and UID and size of each message that counts."""
        self._examine(folder, again=True)
        server, (_, valid, count) = self._server(), self._at
        found: list[tuple[int, int]] = []
        seen = set()
        for first in range(1, count + 1, _PAGE):
            last = min(first + _PAGE - 1, count)
            for line in self._done(server.fetch(f"{first}:{last}", "(UID RFC822.SIZE FLAGS INTERNALDATE)")):
                text = b"".join(line) if isinstance(line, tuple) else line or b""
                said = [pattern.search(text) for pattern in (_SEQUENCE, _UID, _SIZE, _FLAGS, _DATE)]
                at, uid, size, flags, when = (match[1] if match else b"" for match in said)
                if not (at and uid and size) or int(at) in seen:
                    continue  # word of a flag that somebody else set just now
                seen.add(int(at))
                if b"\\deleted" not in flags.lower() and self._recent(when):
                    found.append((int(uid), int(size)))
        if len(seen) < count:
            raise imaplib.IMAP4.abort("messages vanished while they were listed")
        return valid, sorted(found)

    def _recent(self, when: bytes) -> bool:
        if self._folders.since is None:
            return True
        try:
            return datetime.strptime(when.decode().strip(), "%d-%b-%Y %H:%M:%S %z").timestamp() >= self._folders.since
        except ValueError:
            return True  # a date that cannot be read hides nothing

    # -- reading -------------------------------------------------------------------------------------
    def read(self, item: Item) -> bytes:
        """The message as it came. Raises ``OSError``."""
        folder, _, uid = item.id.rpartition("/")

        def fetch() -> bytes | None:
            self._examine(original(folder))
            if self._at[1] != item.fingerprint.partition(":")[0]:
                return None
            for part in self._done(self._server().uid("FETCH", uid, "(BODY.PEEK[])")):
                if isinstance(part, tuple) and (said := _UID.search(part[0])) and said[1] == uid.encode():
                    return bytes(part[1])
                if isinstance(part, tuple) and not _UID.search(part[0]):
                    return bytes(part[1])  # some servers write the UID behind the message
            return None

        try:
            found = self._asked(fetch)
        except SourceUnavailable as error:
            raise OSError(error.happened) from None
        if found is None:
            raise FileNotFoundError("the message is gone, or the folder was numbered anew")
        return found

    # -- speaking with the server ----------------------------------------------------------------------
    def _asked(self, ask: Callable[[], T]) -> T:
        """With a new connection where one broke. Raises ``SourceUnavailable``, without what the server said."""
        with self._lock:
            for pause in (*PAUSES, None):
                try:
                    return ask()
                except (imaplib.IMAP4.error, OSError) as error:  # not for good: abort, a broken or refused connection
                    _leave(self._open)
                    self._at = ("", "", 0)
                    passing = isinstance(error, imaplib.IMAP4.abort | OSError) and not isinstance(error, ssl.SSLError)
                    if pause is None or not passing:
                        raise SourceUnavailable(
                            f"The mail server of the source {self.name!r} could not be asked: {_said(error)}.",
                            looked=f"We asked {self._host}:{self._port}.",
                            todo="Nothing was removed. Look at host, user and password, or ingest again later.",
                        ) from None
                time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _server(self) -> imaplib.IMAP4:
        if self._open:
            return self._open[0]
        if self._tls is True:
            server: imaplib.IMAP4 = imaplib.IMAP4_SSL(
                self._host, self._port, ssl_context=self._context, timeout=TIMEOUT_S
            )
        else:
            server = imaplib.IMAP4(self._host, self._port, timeout=TIMEOUT_S)
        self._open.append(server)
        if self._tls == "starttls":
            server.starttls(self._context)
        secret = self._secret()
        try:
            if self._kind == "token":
                said = f"user={self._user}\1auth=Bearer {secret}\1\1".encode()
                server.authenticate("XOAUTH2", lambda asked: b"" if asked else said)
            elif "AUTH=PLAIN" in server.capabilities:
                server.authenticate("PLAIN", lambda _: f"\0{self._user}\0{secret}".encode())
            else:
                server.login(self._user, secret)
        except imaplib.IMAP4.abort:
            raise
        except (imaplib.IMAP4.error, UnicodeError):
            raise imaplib.IMAP4.error("refused") from None
        return server

    def _examine(self, folder: str, again: bool = False) -> None:
        server = self._server()
        if self._at[0] == folder and not again:
            return
        if folder not in self._names:
            self._list_folders()
        name = self._names.get(folder)
        if name is None or any(c in name for c in "\r\n\0"):  # a line's end in it would begin a command
            raise imaplib.IMAP4.abort("no such folder")
        quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
        count = self._done(server.select(quoted, readonly=True))[0]
        valid = server.response("UIDVALIDITY")[1]
        if not valid or not valid[0]:
            raise imaplib.IMAP4.abort("no UIDVALIDITY")
        self._at = (folder, bytes(valid[0]).decode("ascii", "replace"), int(count or 0))

    @staticmethod
    def _done(answer: tuple[str, Sequence[Any]]) -> Sequence[Any]:
        if answer[0] != "OK":
            raise imaplib.IMAP4.abort("the server said no")
        return answer[1]


def _leave(open: list[imaplib.IMAP4]) -> None:
    while open:
        with contextlib.suppress(OSError, imaplib.IMAP4.error):
            open.pop().shutdown()


def _said(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not hold ({error.verify_message})"
    if isinstance(error, imaplib.IMAP4.abort):
        return "it broke off, or refused a folder"
    if isinstance(error, imaplib.IMAP4.error):
        return "it refused the user or the password"
    return f"it cannot be reached ({type(error).__name__})"


def _utf7(name: bytes) -> str:
    """A folder's name from IMAP's modified UTF-7 (RFC 3501, 5.1.3), or as it stands where it is UTF-8 already."""

    def read(match: re.Match[str]) -> str:
        coded = match[1].replace(",", "/")
        return b64decode(coded + "=" * (-len(coded) % 4)).decode("utf-16-be") if coded else "&"

    text = name.decode("utf-8", "replace")
    try:
        return re.sub("&([A-Za-z0-9+,]*)-", read, text)
    except ValueError:
        return text
