"""Object storage: where the bucket is and how it is reached.

Guarantees: keys are read when first used and are in no ``repr`` and no error, for what an engine says of a store is
reduced to a reason of our own; both engines give up on a store that does not answer after bounded retries.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from drystone.errors import StateUnavailable

if TYPE_CHECKING:
    from drystone.settings import Settings

CONNECT_S, SILENT_S, RETRIES = 5, 20, 2
REASONS = (  # what the engines write, and what we say of it; the first that matches counts
    (r"NO_SUCH_BUCKET|NoSuchBucket", "there is no such bucket", "Create it, or correct project.state."),
    (r"status(?: code:)? 40[13]|ACCESS_DENIED|privileges|INVALID_ACCESS_KEY|SIGNATURE|[Cc]redential",
     "the store refused our key", "Check key and secret in [storage], and that they may list, read and write there."),
    (r"status(?: code:)? (?:503|429)|SLOW_DOWN|SlowDown|THROTTL", "the store asks us to slow down", "Try again later."),
    (r"was not found", "what the ledger names is not there",
     "Check project.state, or restore the bucket from the backup that belongs to the state folder."),
    (r"error sending request|NETWORK_CONNECTION|curlCode|timed out|Timeout was", "the store does not answer",
     "Check storage.endpoint, the network and the store; then try again."),
    (r"status(?: code:)? 5\d\d|INTERNAL_FAILURE", "the store failed", "Try again later."),
)  # fmt: skip


class Bucket:
    """``s3://bucket/prefix`` with the options of ``[storage]``. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        url = settings.bucket
        if url is None:
            raise AssertionError("project.state names a folder")
        self.url, self.prefix = url, url.removeprefix("s3://")
        self._settings, self._lock = settings, threading.Lock()
        self._files: Any = None

    def __repr__(self) -> str:
        return f"Bucket({self.url!r})"

    def lance(self) -> dict[str, str]:
        """The options that Lance takes."""
        given, keys = self._settings.storage, self._keys()
        found = {
            "aws_region": given.get("region", "us-east-1"),
            "aws_access_key_id": keys.get("key"),
            "aws_secret_access_key": keys.get("secret"),
            "aws_session_token": keys.get("token"),
            "connect_timeout": f"{CONNECT_S} seconds",
            "timeout": f"{SILENT_S} seconds",
            "client_max_retries": str(RETRIES),
            "client_retry_timeout": str(2 * SILENT_S),
        }
        if "endpoint" in given:
            found |= {"aws_endpoint": given["endpoint"].rstrip("/"), "aws_virtual_hosted_style_request": "false",
                      "allow_http": str(given["endpoint"].startswith("http://")).lower()}  # fmt: skip
        return {name: value for name, value in found.items() if value is not None}

    def files(self) -> Any:
        """The bucket as a file system of pyarrow. Small objects are one PUT each; nothing is asked on opening."""
        with self._lock:
            if self._files is None:
                from pyarrow import fs

                given, keys = self._settings.storage, self._keys()
                scheme, _, host = given.get("endpoint", "https://").rstrip("/").partition("//")
                self._files = fs.S3FileSystem(  # type: ignore[call-arg]  # the stubs lack allow_delayed_open
                    access_key=keys.get("key"),
                    secret_key=keys.get("secret"),
                    session_token=keys.get("token"),
                    region=given.get("region", "us-east-1"),
                    endpoint_override=host or None,
                    scheme=scheme.rstrip(":"),
                    connect_timeout=CONNECT_S,
                    request_timeout=SILENT_S,
                    retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1 + RETRIES),
                    background_writes=False,
                    allow_delayed_open=True,
                )
            return self._files

    def objects(self, folder: str) -> list[Any]:
        """All of a folder: one request a thousand objects, so never asked for a commit or a question."""
        from pyarrow import fs

        where = fs.FileSelector(f"{self.prefix}/{folder}", recursive=True, allow_not_found=True)
        with spoken(f"{self.url}/{folder}"):
            return [info for info in self.files().get_file_info(where) if info.is_file]

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes by what lies in ``folder``, by name without suffix."""
        found: dict[str, int] = {}
        for info in self.objects(folder):
            name = info.path.removeprefix(f"{self.prefix}/{folder}/").partition("/")[0].rpartition(".")[0]
            found[name] = found.get(name, 0) + info.size
        return dict(sorted(found.items()))

    def _keys(self) -> dict[str, str]:
        """Without any in [storage] the engines look where they always do: environment, ~/.aws, the machine's role."""
        given = self._settings.storage
        return {name: self._settings.secret(given[name], f"storage.{name}")
                for name in ("key", "secret", "token") if name in given}  # fmt: skip


@contextmanager
def spoken(what: str) -> Iterator[None]:
    """What an engine says of a store in words of ours. Its own are dropped: they may hold a key's id."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        text = str(error)
        found = next((reason[1:] for reason in REASONS if re.search(reason[0], text)), None)
    else:
        return
    reason, todo = found or ("the store's answer was not understood", "Check [storage] and the store.")
    raise StateUnavailable(
        f"Object storage cannot be used: {reason}.", looked=f"It was {what}.", todo=f"{todo} Nothing was committed."
    ) from None
