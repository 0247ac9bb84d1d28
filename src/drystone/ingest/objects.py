"""An object store as a source: S3 and what speaks its protocol, and any other store that fsspec reaches.

Guarantees: a listing is whole, in the order of the keys, or raises ``SourceUnavailable``: an error in the middle is an
outage, never a removal. S3 is listed by pages of 1,000, other stores by folders; memory holds no more of a listing.
A fingerprint holds ETag, version id, size and time, so that what any of them shows is seen. Passing errors
(throttling, 5xx, timeouts) are tried again after a pause. Neither errors nor logs hold a credential. Folder markers,
hidden names and label files are no documents; of a versioned bucket the current versions count, and a delete marker
is a removal.
"""

from __future__ import annotations

import re
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from drystone.errors import EngineMissing, SettingsError, SourceUnavailable
from drystone.ingest.files import SIDECAR, FilesSource
from drystone.ingest.media import media_type
from drystone.ingest.names import COMMON, Wanted, check, hush, loopback, original, safe
from drystone.records import Item
from drystone.settings import Settings, SourceConfig

PAUSES = (0.2, 1.0, 4.0)  # seconds before each further attempt
PAGE = 1000  # keys of one request
LOOK_S = 3.0  # a question waits for it
_S3 = {"s3", "s3a"}
_OPTIONS = COMMON | {"path", "endpoint", "region", "key", "secret", "token", "anonymous", "plain", "storage"}
_NOT_HERE = {"file", "local", "http", "https", "data"}
_LISTS = {"readers", "regions", "purposes"}
_TAGS = _LISTS | {"classification", "expires", "retention"}
_STAMPS = ("etag", "versionid", "generation", "md5hash", "contentmd5", "md5", "sha", "sha256", "oid", "blobid")
_TIMES = ("lastmodified", "mtime", "updated", "modified", "modify", "modificationtime", "created")
_TIMEOUTS = {"connect_timeout": 10, "read_timeout": 60}
_CODE = re.compile("[A-Za-z]{1,48}")


def open_files(config: SourceConfig, settings: Settings) -> FilesSource | ObjectsSource:
    """The source of type ``files``: a folder, or an object store where ``path`` is an address."""
    address = "://" in str(config.options.get("path"))
    return ObjectsSource(config, settings) if address else FilesSource(config, settings)


@dataclass(frozen=True, slots=True)
class _Found:
    key: str
    size: int
    stamp: str


class ObjectsSource:
    """Options: ``path`` (``s3://bucket/prefix`` or another protocol of fsspec), ``endpoint``, ``region``, ``key``,
    ``secret`` and ``token`` (places of secrets; without them S3's usual chain), ``anonymous``, ``plain`` (allows an
    ``http://`` endpoint elsewhere), ``storage`` (what another store's fsspec class takes; ``env:`` and ``file:`` are
    read), ``include``, ``exclude``, ``parsers``. With ``permissions = "source"`` the tags of objects name readers."""

    def __init__(self, config: SourceConfig, settings: Settings) -> None:
        options = check(config, _OPTIONS, ("path",))
        path = str(options["path"])
        protocol, _, place = path.partition("://")
        self.name = config.name
        if (
            "::" in path
            or protocol in _NOT_HERE
            or _user(place)
            or (protocol in _S3 and "@" in place.partition("/")[0])
        ):
            raise SettingsError(
                f"The path of the source {self.name!r} is no address of an object store that we take.",
                looked="It is a local or web address, a chain of addresses, or has a user in it.",
                todo='Write "s3://bucket/prefix"; a folder without "file://"; for web pages type = "web".',
            )
        self._s3 = protocol in _S3
        self._permitted = config.permissions == "source"
        if self._permitted and not self._s3:
            raise SettingsError(
                f'The source {self.name!r} has permissions = "source", and {protocol}:// names no readers.',
                todo='Only S3 object tags do. Write permissions = "rules".',
            )
        self._shown, self._wanted = path, Wanted(config)
        self._most = int(settings["ingest.max_file_mb"]) << 20
        self._fs = _open(config, settings, protocol)
        if self._s3:
            self._bucket, _, prefix = place.partition("/")
            self._prefix = prefix.rstrip("/") + "/" if prefix.rstrip("/") else ""
        else:
            self._root = str(self._fs._strip_protocol(path)).rstrip("/")

    def watched(self) -> Sequence[str]:
        return ()

    # -- listing -------------------------------------------------------------------------------------
    def list(self) -> Iterator[Item]:
        """Raises ``SourceUnavailable``."""
        try:
            if not self._permitted:
                yield from (self._item(found, None, beside) for found, beside in self._documents())
                return
            documents = self._documents()
            with ThreadPoolExecutor(8) as pool:
                while batch := tuple(islice(documents, 64)):
                    tags = pool.map(self._tags, (found.key for found, _ in batch))
                    for (found, beside), said in zip(batch, tags, strict=True):
                        if said is not None:  # else gone since it was listed
                            yield self._item(found, said, beside)
        except SourceUnavailable:
            raise
        except Exception as error:  # whatever a store's library raises
            raise self._unavailable(error) from None

    def _item(self, found: _Found, permissions: Mapping[str, Any] | None, beside: Mapping[str, Any] | None) -> Item:
        id = safe(found.key)
        return Item(id, found.stamp, found.size, media_type(id), "", permissions, beside)

    def _documents(self) -> Iterator[tuple[_Found, Mapping[str, Any] | None]]:
        """What is wanted, with its label file. An object waits until no label file of it can follow."""
        waiting: list[_Found] = []  # each key begins with the one before it, so these are few
        last = b""
        for found in self._s3_keys() if self._s3 else self._folder(self._root, ""):
            key = found.key.encode("utf-8", "surrogatepass")
            if key <= last:  # a label file could have come before its document
                raise SourceUnavailable(
                    f"The store of the source {self.name!r} does not list in the order of its keys.",
                    looked=f"We looked in {self._shown}.",
                    todo="Directory buckets do not; use a general one.",
                )
            last = key
            about = [one for one in waiting if one.key + SIDECAR == found.key]
            past = [one for one in waiting if (one.key + SIDECAR).encode("utf-8", "surrogatepass") < key]
            yield from ((one, None) for one in past)
            yield from ((one, self._beside(found)) for one in about)
            waiting = [one for one in waiting if one not in past and one not in about]
            marker = found.key.endswith("/") and found.size == 0
            if not marker and not found.key.endswith(SIDECAR) and self._wanted(safe(found.key)):
                waiting.append(found)
        yield from ((one, None) for one in waiting)

    def _s3_keys(self) -> Iterator[_Found]:
        where: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix, "MaxKeys": PAGE}
        versions = self._versioned()
        method, entries = ("list_object_versions", "Versions") if versions else ("list_objects_v2", "Contents")
        more: dict[str, Any] = {}
        while True:
            page = self._call(method, **where, **more)
            for entry in page.get(entries, ()):
                if entry.get("IsLatest", True):
                    stamp = f"{entry.get('ETag', '')}:{entry.get('VersionId', '')}:{entry['Size']}"
                    changed = entry["LastModified"].timestamp()
                    yield _Found(entry["Key"][len(self._prefix) :], int(entry["Size"]), f"{stamp}:{changed:.3f}")
            if not page.get("IsTruncated"):
                return
            if versions:
                more = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}
            else:
                more = {"ContinuationToken": page["NextContinuationToken"]}

    def _versioned(self) -> bool:
        """True where versions may be listed: a key that may not ask is told of current objects all the same."""
        try:
            if not self._call("get_bucket_versioning", Bucket=self._bucket).get("Status"):
                return False
            self._call("list_object_versions", Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        except Exception as error:
            if _status(error)[1] in (403, 405, 501):
                return False
            raise
        return True

    def _folder(self, folder: str, prefix: str) -> Iterator[_Found]:
        """Of another store. Folders sort by their name and ``/``, so that all keys come in order."""
        try:
            entries = self._try(lambda: self._wait("ls", folder, detail=True))
        except FileNotFoundError:
            if not prefix:
                raise
            return  # gone since the folder above was listed
        named = []
        for entry in entries:
            name = str(entry["name"]).rstrip("/").rpartition("/")[2]
            if name and str(entry["name"]).strip("/") != folder.strip("/"):
                named.append((name + "/" * (entry.get("type") == "directory"), entry))
        for name, entry in sorted(named, key=lambda one: one[0].encode("utf-8", "surrogatepass")):
            if name.endswith("/"):
                yield from self._folder(f"{folder}/{name[:-1]}", prefix + name)
            else:
                yield _Found(prefix + name, int(entry.get("size") or 0), self._stamp(entry))

    def _stamp(self, entry: Mapping[str, Any]) -> str:
        said = {re.sub("[_-]", "", str(name)).lower(): value for name, value in entry.items() if value}
        stamps = [str(said[name]) for name in (*_STAMPS, *_TIMES) if name in said]
        if not stamps:
            raise SourceUnavailable(
                f"The store of the source {self.name!r} says neither digest nor time of its objects.",
                looked=f"We looked in {self._shown}.",
                todo="We could not see changes there; copy the files to a folder or another store.",
            )
        return ":".join((*stamps, str(entry.get("size"))))

    def _tags(self, key: str, patient: bool = True) -> Mapping[str, Any] | None:
        """The parts of a label that an object's tags name; ``None`` if the object is gone."""
        asked = {"Bucket": self._bucket, "Key": self._prefix + key}
        try:
            if patient:
                said = self._call("get_object_tagging", **asked)
            else:
                said = self._wait("call_s3", "get_object_tagging", seconds=LOOK_S, **asked)
        except Exception as error:
            if _status(error)[0] in ("NoSuchKey", "NoSuchVersion", "MethodNotAllowed"):  # the last: a delete marker
                return None
            raise
        tags = {tag["Key"]: tag["Value"] for tag in said["TagSet"] if tag["Key"] in _TAGS}
        return {name: value.split() if name in _LISTS else value for name, value in tags.items()}

    def _beside(self, found: _Found) -> Mapping[str, Any]:
        """The label file of an object. One that cannot be read gives no label, and so no document."""
        try:
            return tomllib.loads(self._bytes(found.key, 1 << 20).decode())
        except (OSError, ValueError):
            return {"": "it is not readable TOML"}

    def look(self, id: str) -> Item | None:
        """One object's tags as they are now, asked with one call; no fingerprint. Its label file is not asked again.
        ``None`` if it is gone or the store does not answer within 3 seconds."""
        try:
            tags = self._tags(original(id), patient=False) if self._permitted else {}
        except Exception:  # not known is not permitted
            return None
        return None if tags is None else Item(id, "", -1, media_type(id), "", tags or None)

    # -- reading -------------------------------------------------------------------------------------
    def read(self, item: Item) -> bytes:
        """The object's bytes, if it is still the one that was listed: its tags were asked then. Raises ``OSError``."""
        etag = re.match('"[^"]+"(?=:)', item.fingerprint) if self._s3 else None
        return self._bytes(original(item.id), self._most, etag[0] if etag else "")

    def _bytes(self, key: str, most: int, etag: str = "") -> bytes:
        try:
            if self._s3:
                path = self._prefix + key
                found: bytes | None = self._try(lambda: self._wait(_body, self._bucket, path, most, etag))
            else:
                found = self._try(lambda: self._wait("cat_file", f"{self._root}/{key}", start=0, end=most + 1))
        except Exception as error:  # whatever a store's library raises
            raise OSError(_said(error)) from None
        if found is None or len(found) > most:
            raise OSError(f"it has grown to more than {most >> 20} MB")
        return found

    # -- asking the store ----------------------------------------------------------------------------
    def _call(self, method: str, **asked: Any) -> Any:
        return self._try(lambda: self._wait("call_s3", method, **asked))

    def _wait(self, what: Any, *args: Any, seconds: float = 300.0, **named: Any) -> Any:
        """One request, for so long at most. ``what``: a verb of fsspec's, or a coroutine over the file system."""
        if callable(what):
            args, verb = (self._fs, *args), what
        elif self._fs.async_impl:
            verb = getattr(self._fs, f"_{what}")
        else:
            return getattr(self._fs, what)(*args, **named)
        from fsspec.asyn import sync

        return sync(self._fs.loop, verb, *args, timeout=seconds, **named)

    def _try(self, ask: Callable[[], Any]) -> Any:
        for pause in PAUSES:
            try:
                return ask()
            except Exception as error:
                if not _passing(error):
                    raise
            time.sleep(pause)
        return ask()

    def _unavailable(self, error: Exception) -> SourceUnavailable:
        return SourceUnavailable(
            f"The store of the source {self.name!r} could not be listed: {_said(error)}.",
            looked=f"We looked in {self._shown}.",
            todo="Nothing was removed. Look at its address and credentials, or ingest again later.",
        )


async def _body(fs: Any, bucket: str, key: str, most: int, etag: str) -> bytes | None:
    """An object whole, or ``None`` if it has more bytes. One that breaks off raises."""
    only = {"IfMatch": etag} if etag else {}
    answer = await fs._call_s3("get_object", Bucket=bucket, Key=key, **only)
    async with answer["Body"] as body:
        if answer["ContentLength"] > most:
            return None
        found: bytes = await body.read()
    if len(found) != answer["ContentLength"]:
        raise TimeoutError("it broke off")
    return found


def _open(config: SourceConfig, settings: Settings, protocol: str) -> Any:
    try:
        import fsspec
    except ImportError:
        raise _missing(config, "fsspec") from None
    options, given = config.options, dict(config.options.get("storage", {}))
    if protocol in _S3:
        if given:
            raise SettingsError(f"The source {config.name!r} has storage, which s3:// does not take.")
        given = _s3_options(config, settings)
    else:
        if stray := sorted({"endpoint", "region", "key", "secret", "token", "anonymous", "plain"} & set(options)):
            raise SettingsError(
                f"The source {config.name!r} has {', '.join(stray)}, which only s3:// takes.",
                todo=f"Write what {protocol}:// takes as storage = {{ ... }}.",
            )
        for name, value in given.items():
            if isinstance(value, str) and value.partition(":")[0] in ("env", "file"):
                given[name] = settings.secret(value, f"storage.{name} of the source {config.name!r}")
    hush("botocore", "aiobotocore", "s3fs", "aiohttp", "gcsfs", "adlfs", "azure")
    try:
        made = fsspec.filesystem(protocol, skip_instance_cache=True, use_listings_cache=False, **given)
    except ImportError:
        raise _missing(config, {"gs": "gcsfs", "gcs": "gcsfs"}.get(protocol, protocol)) from None
    except Exception as error:  # its text may hold what was given
        raise SettingsError(
            f"The source {config.name!r}: fsspec opens no {protocol}:// with these options ({type(error).__name__}).",
            todo="Correct the address or storage.",
        ) from None
    if protocol in _S3:
        made.retries = 1  # we try again ourselves
    return made


def _s3_options(config: SourceConfig, settings: Settings) -> dict[str, Any]:
    options, endpoint = config.options, config.options.get("endpoint")
    if endpoint is not None:
        endpoint = str(endpoint)
        said = urlsplit(endpoint)
        if said.scheme not in ("http", "https") or not said.hostname or "@" in endpoint or _user(said.netloc):
            raise SettingsError(f"The endpoint of the source {config.name!r} is no http(s) address without a user.")
        if said.scheme == "http" and not loopback(said.hostname) and options.get("plain") is not True:
            raise SettingsError(
                f"The endpoint of the source {config.name!r} has no TLS: others could read the documents.",
                todo="Use https://, or write plain = true if that network is yours.",
            )
    keys = {
        name: settings.secret(options[name], f"the {name} of the source {config.name!r}")
        for name in ("key", "secret", "token") if name in options
    }  # fmt: skip
    if ("key" in keys) != ("secret" in keys) or ("token" in keys and "key" not in keys):
        raise SettingsError(
            f"The source {config.name!r} has a part of a credential.", todo="Write key and secret, or neither."
        )
    return {
        **keys,
        "anon": options.get("anonymous") is True,
        "endpoint_url": endpoint,
        "client_kwargs": {"region_name": str(options["region"])} if "region" in options else {},
        "config_kwargs": {
            **_TIMEOUTS,
            "retries": {"total_max_attempts": 1, "mode": "standard"},
            **({"s3": {"addressing_style": "path"}} if endpoint else {}),
        },
    }


def _user(place: str) -> bool:
    """Is there a user with a password in an address? A password may have a ``/`` in it."""
    _, mark, after = place.partition("/")[0].partition(":")
    return bool(mark) and (not after.isdecimal() or "@" in place)


def _missing(config: SourceConfig, package: str) -> EngineMissing:
    return EngineMissing(
        f"The source {config.name!r} is an object store, and a package for it is not installed ({package}).",
        todo='Install pip install "drystone[objects]"; for stores other than S3 also their fsspec package.',
    )


def _status(error: BaseException | None) -> tuple[str, int]:
    """The code and the HTTP status that a store answered, or ``("", 0)``."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, Mapping) and "Error" in response:
            code = str(response["Error"].get("Code", ""))
            return code, int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        for name in ("status_code", "status", "code"):
            if isinstance(status := getattr(error, name, None), int):
                return "", status
        error = error.__cause__
    return "", 0


def _passing(error: Exception) -> bool:
    code, status = _status(error)
    if code in ("SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded"):
        return True
    if status:
        return status >= 500 and status != 501 or status in (408, 425, 429)
    if isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError | IsADirectoryError):
        return False
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, OSError | TimeoutError) or bool(
        kinds & {"HTTPClientError", "ClientError", "ConnectionError"}
    )


def _said(error: Exception) -> str:
    """What happened, in our words: a library's own may hold what was signed."""
    code, status = _status(error)
    shown = f" ({code})" if _CODE.fullmatch(code) else f" (HTTP {status})" if status else f" ({type(error).__name__})"
    if status == 412:
        return "it changed since it was listed" + shown
    if code == "NoSuchBucket":
        return "there is no such bucket" + shown
    if code == "InvalidObjectState":
        return "it is archived and must be restored first" + shown
    if status in (401, 403) or isinstance(error, PermissionError):
        return "the store refuses these credentials, or they may not do this" + shown
    if status == 404 or isinstance(error, FileNotFoundError):
        return "there is nothing at this address" + shown
    if "Credentials" in type(error).__name__:
        return "no credentials were found" + shown
    if not status and {"HTTPClientError", "ConnectionError"} & {kind.__name__ for kind in type(error).__mro__}:
        return "the store cannot be reached" + shown
    return "the store did not answer as it should" + shown
