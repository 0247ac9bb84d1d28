"""Commands that look after an installation: check, settings, status, upgrade, models."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any

from drystone import __version__, settings
from drystone.cli import FAILED, OK
from drystone.cli.output import emit, project
from drystone.errors import DigestMismatch, DrystoneError, NotFound, UsageError

EXTRAS = (  # what it is for, a package of it, the extra that brings it
    ("text in images", "rapidocr", "documents"),
    ("speech", "ctranslate2", "audio"),
    ("object stores", "s3fs", "objects"),
)


def _settings(options: argparse.Namespace) -> settings.Settings:
    folder = Path(options.project) if options.project else settings.find(Path.cwd())
    return settings.load(folder, options.env)


def show_settings(options: argparse.Namespace) -> int:
    s = _settings(options)
    rows = [
        {"name": t.name, "value": s[t.name], "default": t.default, "origin": s.origin(t.name), "help": t.help}
        for t in settings.TABLE
    ]
    width = max(len(t.name) for t in settings.TABLE)
    emit(options, {"settings": rows}, *(f"{r['name']:<{width}}  {r['value']!r:<14} {r['origin']}" for r in rows))
    return OK


def check(options: argparse.Namespace) -> int:
    """Can it run here: engines, models, state folder, configuration, isolation of the parser workers."""
    results: list[dict[str, Any]] = []

    def probe(name: str, look: Callable[[], str], *, needed: bool = True) -> None:
        try:
            results.append({"check": name, "ok": True, "needed": needed, "detail": look()})
        except (DrystoneError, ImportError, OSError) as error:
            results.append({"check": name, "ok": False, "needed": needed, "detail": _said(error)})

    probe("python", lambda: platform.python_version())
    for engine in ("lance", "pyarrow", "onnxruntime", "faiss", "cedarpy", "tokenizers", "pypdfium2"):
        probe(engine, lambda engine=engine: _version(engine))  # type: ignore[misc]
    probe("xllamacpp", lambda: _version("xllamacpp"), needed=False)
    for what, package, extra in EXTRAS:
        probe(what, lambda package=package, extra=extra: _extra(package, extra), needed=False)  # type: ignore[misc]
    try:
        s = _settings(options)
    except DrystoneError as error:
        results.append({"check": "configuration", "ok": False, "needed": True, "detail": str(error)})
    else:
        from drystone.ingest import isolation
        from drystone.ledger.store import file_system, refuse_network

        results.append({"check": "configuration", "ok": True, "needed": True, "detail": str(s.folder / settings.FILE)})

        def local() -> str:
            refuse_network(_there(s.state))
            return f"{s.state} ({file_system(_there(s.state)) or 'unknown file system'})"

        probe("state folder", local)
        if s.bucket:
            probe("bucket", lambda: _bucket(s))
        probe("free disk", lambda: f"{shutil.disk_usage(_there(s.state)).free / 1e9:.1f} GB free")
        for name, place in _embedded(s).items():
            probe(f"model {name}", place, needed=name == "minilm")
        for source in s.sources:
            probe(f"source {source.name}", lambda source=source: _source(source, s))  # type: ignore[misc]
        probe("parser isolation", lambda: isolation(s), needed=False)
        with project(options) as kb:
            probe("policies and people", lambda: f"policy set {kb.house.policy.digest}")
    ok = all(r["ok"] or not r["needed"] for r in results)
    marks = {(True, True): "ok  ", (True, False): "ok  ", (False, True): "FAIL", (False, False): "none"}
    lines = [f"{marks[r['ok'], r['needed']]} {r['check']:<20} {r['detail']}" for r in results]
    emit(options, {"ok": ok, "checks": results}, *lines)
    return OK if ok else FAILED


def _embedded(s: settings.Settings) -> dict[str, Callable[[], str]]:
    """Where each embedded model lies, by name."""
    from drystone.models import weights

    return {name: lambda model=model: str(weights.find(model, s)) for name, model in weights.KNOWN.items()}  # type: ignore[misc]


def _source(source: settings.SourceConfig, s: settings.Settings) -> str:
    """What a source looks at, once its configuration and its label rules make sense."""
    from drystone.ingest.labels import Door
    from drystone.plugins import load

    Door(source)
    made = load("sources", source.type)(source, s)
    paths = [Path(path) for path in made.watched()]
    for path in paths:
        path.stat()
    if not paths:  # it lies elsewhere: the first item says whether it can be reached and listed
        found = next(iter(made.list()), None)
        return f"{source.type}, reached" + ("" if found is not None else "; it is empty")
    return ", ".join(map(str, paths)) or source.type


def _bucket(s: settings.Settings) -> str:
    """Can the lake's bucket be listed?"""
    from drystone.lake.storage import Bucket

    count = sum(1 for _ in Bucket(s).objects(""))
    return f"{s.bucket}, {count} objects"


def _version(name: str) -> str:
    if name == "onnxruntime":
        from drystone.index.minilm import runtime

        module = runtime()
    else:
        module = importlib.import_module(name)
    return str(getattr(module, "__version__", "present"))


def _extra(package: str, extra: str) -> str:
    """The version of what an extra brings; it is not loaded, which would take a second."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        raise ImportError(f'not installed: pip install "drystone[{extra}]"') from None


def _said(error: Exception) -> str:
    return f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.filename else str(error)


def _there(path: Path) -> Path:
    return path if path.exists() else _there(path.parent)


def status(options: argparse.Namespace) -> int:
    with project(options) as kb:
        found = kb.status(actor=options.actor)
        lines = [
            f"project {found['project']}  commit {found['commit']}  generation {found['generation'] or 'none'}",
            f"state {found['state']}  " + "  ".join(f"{k} {v / 1e6:.1f} MB" for k, v in found["sizes"].items()),
        ]
        for s in found["sources"]:
            lines.append(
                f"  {s['name']}: {s['documents']} documents ({s['with_notes']} of them with notes), "
                f"{s['quarantined']} in quarantine ({s['ignored']} more ignored), "
                f"last ingested {s['last_ingested'] or 'never'}"
            )
            lines += [f"  {s['alarm']}"] if s["alarm"] else []
        emit(options, found, *lines)
        return OK


def upgrade(options: argparse.Namespace) -> int:
    """Bring state that an earlier release wrote to the format of this one; a copy of the database is kept."""
    from drystone.ledger import FILE
    from drystone.ledger.store import pending

    s = _settings(options)
    if not (s.state / FILE).exists():
        raise NotFound("There is no state to upgrade.", looked=f"We looked for {s.state / FILE}.")
    found, steps = pending(s.state / FILE)
    document: dict[str, Any] = {"release": __version__, "format": found, "steps": steps, "done": False}
    if not steps:
        emit(options, document, f"Nothing to do: format {found} is what {__version__} writes.")
        return OK
    backup = s.state / f"{FILE}.format-{found}"
    if options.plan:
        emit(options, document, f"would copy the database to {backup}", *(f"would apply {step}" for step in steps))
        return OK
    with project(options) as kb:
        kb.house.ledger.now()  # opening migrates, in one transaction, after the copy
    done = {**document, "done": True, "backup": str(backup)}
    emit(options, done, f"copied the database to {backup}", *(f"applied {step}" for step in steps))
    return OK


# -- models -----------------------------------------------------------------------------------------
def models_list(options: argparse.Namespace) -> int:
    s = _settings(options)
    rows: list[dict[str, Any]] = [
        {"name": m.name, "type": m.type, "clearance": m.clearance.name, "regions": sorted(m.regions)} for m in s.models
    ]
    embedded: list[dict[str, Any]] = []
    for name, place in _embedded(s).items():
        try:
            embedded.append({"name": name, "found": place()})
        except DrystoneError as error:
            embedded.append({"name": name, "found": None, "reason": str(error)})
    lines = [f"{r['name']:<12} {r['type']:<10} {r['clearance']:<12} {', '.join(r['regions'])}" for r in rows]
    lines += [f"{e['name']:<12} {'embedded':<10} {e['found'] or e['reason']}" for e in embedded]
    emit(options, {"models": rows, "embedded": embedded}, *lines)
    return OK


def models_fetch(options: argparse.Namespace) -> int:
    """Copy a model's files into a folder. Nothing is written unless every file has its pinned digest."""
    target = _target(options)
    with tempfile.TemporaryDirectory() as temporary:
        name, files = _carried(Path(options.origin) if options.origin else _download(options.name, Path(temporary)))
    digests = _digests(name, files)
    if options.name not in (None, name):
        raise NotFound(f"{options.origin} holds the model {name!r}, not {options.name!r}.", todo="Name another file.")
    folder = target / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in files.keys() & {*digests, "digests.json", "card.md", "LICENSE"}:
        part = folder / f"{file}.part"
        part.write_bytes(files[file])
        part.replace(folder / file)
    emit(
        options,
        {"model": name, "folder": str(folder), "digests": digests},
        f"{name}: {len(digests)} files, every digest checked, in {folder}",
        f'models are looked for there with models.path = "{target.resolve()}" (or DRYSTONE_MODELS_PATH)',
    )
    return OK


def _pinned() -> dict[str, dict[str, str]]:
    """The files of every embedded model and their SHA-256, as this release was measured with."""
    from drystone.models import weights

    return {name: dict(model.files) for name, model in weights.KNOWN.items()}


def _target(options: argparse.Namespace) -> Path:
    if options.to:
        return Path(options.to)
    s = _settings(options)
    if not s["models.path"]:
        raise UsageError("fetch was not told where to.", looked="models.path is not set.", todo="Name --to DIR.")
    return (s.folder / str(s["models.path"])).expanduser()


def _download(name: str | None, folder: Path) -> Path:
    """The wheel of an embedded model, by pip, from whatever index pip is configured for."""
    if name not in _pinned():
        raise UsageError(
            f"There is no embedded model {name!r}." if name else "fetch was not told what.",
            looked=f"There are: {', '.join(_pinned())}.",
            todo="Name one of these, or a wheel or folder with --from.",
        )
    package = f"drystone-model-{name}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run([*command, "--dest", folder, package], capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise NotFound(
            f"pip could not download {package}.", looked=f"It said: {said}", todo="Name a wheel or folder with --from."
        )
    return next(folder.glob("*.whl"))


def _carried(origin: Path) -> tuple[str, dict[str, bytes]]:
    """The name of the model in a wheel or a folder, and its files."""
    try:
        if origin.is_dir():
            found = {p.name: p.read_bytes() for p in sorted(origin.iterdir()) if p.is_file()}
            return origin.resolve().name, found
        with zipfile.ZipFile(origin) as archive:
            members = [PurePosixPath(n) for n in archive.namelist() if n.startswith("drystone_model_")]
            members = [m for m in members if len(m.parts) == 2 and not m.parts[0].endswith(".dist-info")]
            files = {m.name: archive.read(str(m)) for m in members if m.suffix != ".py"}
            return members[0].parts[0].removeprefix("drystone_model_") if members else "", files
    except (OSError, zipfile.BadZipFile) as error:
        raise NotFound(
            f"There is no model in {origin}.",
            looked=f"It said: {getattr(error, 'strerror', None) or error}.",
            todo="Name a drystone_model_*.whl or a model's folder.",
        ) from None


def _digests(name: str, files: dict[str, bytes]) -> dict[str, str]:
    """What was checked: the digests pinned in this release, else those that came along for a model unknown to it."""
    try:
        wanted = _pinned().get(name) or dict(json.loads(files.get("digests.json", b"{}")))
    except (ValueError, TypeError):
        wanted = {}
    if not wanted:
        raise NotFound(
            "It holds no digests.json, so nothing in it can be checked.", todo="Use a model wheel or its folder."
        )
    for file, digest in wanted.items():
        if hashlib.sha256(files.get(file, b"")).hexdigest() != digest:
            raise DigestMismatch(
                f"{file} of the model {name!r} does not have its pinned digest; nothing was written.",
                todo="Fetch it again from a source you trust.",
            )
    return wanted


def models_check(options: argparse.Namespace) -> int:
    with project(options, progress=True) as kb:
        found = kb.check_model(options.name)
        lines = [
            f"{found['model']}: {'passes' if found['passed'] else 'does not pass'} the grounding set",
            *(f"  {k}: {v}" for k, v in found.items() if k not in ("model", "passed", "items")),
        ]
        emit(options, found, *lines)
        return OK if found["passed"] else FAILED
