"""The one table of settings, and the only reader of the environment and of ``drystone.toml``.

Guarantees: every value knows where it came from; an unknown key, a wrong type or an unreadable file is
an error that names the file and the key, never a silent default. Order of origins, last wins:
default, ``drystone.toml``, ``drystone.<env>.toml``, environment (``DRYSTONE_SECTION_NAME``).
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drystone.errors import FormatError, LabelError, ProjectNotFound, SettingsError
from drystone.records.label import Classification

FORMAT = 1  # of drystone.toml; ``format = 1`` may be written there and must then be one we know
FILE = "drystone.toml"


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    kind: type
    default: Any
    help: str
    choices: tuple[str, ...] = ()


TABLE: tuple[Setting, ...] = (
    # project
    Setting("project.name", str, "", "name of the project; shown in passports and checkpoints"),
    Setting("project.region", str, "local", "where this installation processes"),
    Setting("project.purpose", str, "general", "the purpose when a call names none"),
    Setting("project.state", str, ".drystone", "state folder, or s3://bucket/prefix for the lake and the blobs"),
    Setting("project.local", str, ".drystone", "state folder of the ledger and keys where project.state is a bucket"),
    # ingest
    Setting("ingest.workers", int, 2, "parser processes"),
    Setting("ingest.timeout_s", float, 20.0, "longest time for one document to be parsed"),
    Setting("ingest.memory_mb", int, 1024, "most memory of one parser process"),
    Setting("ingest.max_file_mb", int, 512, "a larger file is quarantined unread"),
    Setting("ingest.max_text_mb", int, 256, "more parsed text than this is treated as an expansion bomb"),
    Setting("ingest.max_unpacked_mb", int, 256, "an archive or a mail with more in it is treated as a bomb"),
    Setting("ingest.max_parts", int, 10_000, "most documents inside one archive or mail"),
    Setting("ingest.max_depth", int, 5, "archives and mails inside one another; deeper ones are quarantined"),
    Setting("ingest.slow_workers", int, 1, "processes for scans, images of text and recordings"),
    Setting("ingest.slow_timeout_s", float, 900.0, "longest time for one scan, image or recording"),
    Setting("ingest.slow_memory_mb", int, 4096, "most memory of one such process"),
    Setting("ingest.remote_interval_s", float, 300.0, "how often --watch lists what lies in no local folder"),
    Setting("ingest.quarantine_share", float, 0.05, "a source with a larger share in quarantine says so loudly"),
    Setting("ingest.batch_documents", int, 256, "documents of one commit"),
    Setting("ingest.batch_mb", int, 32, "bytes of one commit"),
    Setting("ingest.removal_share", float, 0.15, "a larger share vanished at once stops the run"),
    Setting("ingest.removal_count", int, 10, "and only if more than this many vanished"),
    Setting("ingest.lock_wait_s", float, 30.0, "how long to wait for another process that ingests"),
    # index
    Setting("index.chunk_chars", int, 900, "a chunk's target length in characters"),
    Setting("index.overlap_sentences", int, 1, "sentences that a split passage repeats"),
    Setting("index.batch", int, 8, "texts of one embedding batch"),
    Setting("index.threads", int, 2, "threads of the embedder"),
    # lake
    Setting("lake.compact_fragments", int, 64, "small fragments before a table is compacted"),
    Setting("lake.keep_versions", int, 4, "Lance versions kept beside the pointed one"),
    # ledger
    Setting("ledger.checkpoint_path", str, "", "a file outside the state folder that gets every checkpoint"),
    Setting("ledger.keep_texts", bool, True, "keep questions and answers, each encrypted under its own key"),
    # retrieve
    Setting("retrieve.threads", int, 2, "threads of the vector scan"),
    Setting("retrieve.limit", int, 10, "hits of a search that names no limit"),
    Setting("retrieve.weight_dense", float, -1.0, "share of meaning against words; -1 is the measured default"),
    # answer
    Setting("answer.refusal_threshold", float, -1.0, "confidence below which we refuse; -1 is the calibrated one"),
    Setting("answer.sentences", int, 3, "most sentences of a quoted answer"),
    Setting("answer.max_tokens", int, 256, "most tokens that a model may write"),
    Setting("answer.max_question_chars", int, 8000, "a longer question is refused"),
    # models
    Setting("models.timeout_s", float, 120.0, "longest time for one completion"),
    Setting("models.threads", int, 2, "threads of the embedded chat model"),
    Setting("models.path", str, "", "folder or air-gap bundle to look for model files in"),
)  # fmt: skip

_BY_NAME = {s.name: s for s in TABLE}
_SECTIONS = {s.name.partition(".")[0] for s in TABLE}
_LISTS = {"sources", "models", "assistants"}
_TABLES = {"embedding", "storage"}
_STORAGE = {"endpoint": str, "region": str, "key": str, "secret": str, "token": str, "allow_http": bool}


@dataclass(frozen=True, slots=True)
class SourceConfig:
    name: str
    type: str
    owner: str
    permissions: str  # "rules" | "source"
    permissions_max_age_s: float
    discoverable: bool
    watch: bool
    rules: tuple[Mapping[str, Any], ...]  # each with "match" and raw label parts
    fill: Mapping[str, Any]  # source-level label parts that rows lack
    options: Mapping[str, Any]  # what the source's type understands: path, fields, ...
    passwords: tuple[str, ...] = ()  # where they lie (env:NAME, file:PATH); tried in order


@dataclass(frozen=True, slots=True)
class ModelConfig:
    name: str
    type: str
    clearance: Classification
    regions: frozenset[str]
    purposes: frozenset[str] | None
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AssistantConfig:
    name: str
    sources: tuple[str, ...] | None
    models: tuple[str, ...]
    mode: str
    input_classification: Classification
    purpose: str | None


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a project is. Read with ``settings["ingest.workers"]``; ``origin`` says why."""

    folder: Path
    values: Mapping[str, Any]
    origins: Mapping[str, str]
    sources: tuple[SourceConfig, ...] = ()
    models: tuple[ModelConfig, ...] = ()
    assistants: tuple[AssistantConfig, ...] = ()
    embedding: Mapping[str, Any] = field(default_factory=lambda: {"type": "builtin"})
    storage: Mapping[str, Any] = field(default_factory=dict)  # how the bucket of ``project.state`` is reached
    environment: str | None = None

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def origin(self, name: str) -> str:
        return self.origins[name]

    @property
    def state(self) -> Path:
        """The local folder of the ledger, keys and leases, and of the lake unless it lies in a bucket."""
        name = "project.state" if self.bucket is None else "project.local"
        return (self.folder / str(self[name])).resolve()

    @property
    def bucket(self) -> str | None:
        """``s3://bucket/prefix`` if the lake and the blobs lie there."""
        where = str(self["project.state"])
        return where.rstrip("/") if "://" in where else None

    @property
    def purpose(self) -> str:
        return str(self["project.purpose"])

    @property
    def region(self) -> str:
        return str(self["project.region"])

    def secret(self, reference: object, what: str) -> str:
        """What ``env:NAME`` or ``file:PATH`` (relative to the project) holds. Never part of an error.

        ``what`` names the setting in errors: "the key of the model 'cluster'". Raises ``SettingsError``.
        """
        kind, _, where = str(reference).partition(":")
        if kind not in ("env", "file") or not where:
            raise SettingsError(
                f"{what[:1].upper()}{what[1:]} names no place.", todo='Write "env:NAME" or "file:PATH".'
            )
        try:
            found = (
                os.environ.get(where, "")
                if kind == "env"
                else (self.folder / Path(where).expanduser()).read_text("utf-8").strip()
            )
        except (OSError, UnicodeDecodeError):
            found = ""
        if not found:
            todo = "Set that variable." if kind == "env" else "Write it into that file, readable for this process."
            raise SettingsError(f"{what} is not at {kind}:{where}: nothing is there.", todo=todo)
        return found

    def source(self, name: str) -> SourceConfig:
        for source in self.sources:
            if source.name == name:
                return source
        raise SettingsError(
            f"There is no source {name!r}.",
            looked=f"{self.folder / FILE} has: {', '.join(s.name for s in self.sources) or 'none'}.",
            todo="Name one of these, or add a [[sources]] block.",
        )

    def assistant(self, name: str | None) -> AssistantConfig | None:
        if name is None:
            return self.assistants[0] if self.assistants else None
        for assistant in self.assistants:
            if assistant.name == name:
                return assistant
        raise SettingsError(
            f"There is no assistant {name!r}.",
            looked=f"{self.folder / FILE} has: {', '.join(a.name for a in self.assistants) or 'none'}.",
            todo="Name one of these, or add an [[assistants]] block.",
        )


def defaults(folder: Path, **overrides: Any) -> Settings:
    """Settings without a file, for tests and tools; ``overrides`` use ``__`` for the dot."""
    values = {s.name: s.default for s in TABLE}
    origins = {s.name: "default" for s in TABLE}
    for key, value in overrides.items():
        name = key.replace("__", ".", 1)
        if name not in values:
            raise SettingsError(f"There is no setting {name!r}.", todo="`drystone settings` lists them.")
        values[name], origins[name] = value, "call"
    return Settings(folder=folder, values=values, origins=origins)


def find(start: Path) -> Path:
    """The nearest folder upward that holds a ``drystone.toml``."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / FILE).is_file():
            return folder
    raise ProjectNotFound(
        "There is no project here.",
        looked=f"We looked for {FILE} in {start} and every folder above it.",
        todo="Run `drystone init DIR`, or name a project with --project DIR.",
    )


def load(folder: Path, env: str | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read a project's settings. ``environ`` defaults to the process's environment."""
    folder = Path(folder).resolve()
    environ = os.environ if environ is None else environ
    path = folder / FILE
    if not path.is_file():
        raise ProjectNotFound(
            "There is no project here.", looked=f"We looked for {path}.", todo="Run `drystone init DIR`."
        )
    raw = _read(path)
    layers: list[tuple[str, dict[str, Any]]] = [(path.name, raw)]
    env = env or environ.get("DRYSTONE_ENV") or None
    if env:
        overlay = folder / f"drystone.{env}.toml"
        if not overlay.is_file():
            raise SettingsError(
                f"There is no environment {env!r}.", looked=f"We looked for {overlay}.", todo="Write that file."
            )
        layers.append((overlay.name, _read(overlay)))

    values = {s.name: s.default for s in TABLE}
    origins = {s.name: "default" for s in TABLE}
    blocks: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {kind: {} for kind in _LISTS}
    tables: dict[str, dict[str, Any]] = {"embedding": {"type": "builtin"}, "storage": {}}
    for origin, layer in layers:
        _layer(layer, origin, folder, values, origins, blocks, tables)
    for setting in TABLE:
        key = "DRYSTONE_" + setting.name.upper().replace(".", "_")
        if key in environ:
            values[setting.name] = _cast(setting, environ[key], f"environment variable {key}")
            origins[setting.name] = f"environment {key}"
    _unknown(environ)
    if not values["project.name"]:
        values["project.name"], origins["project.name"] = folder.name, "folder name"

    region = str(values["project.region"])
    sources = tuple(_source(raw, origin) for origin, raw in blocks["sources"].values())
    models = tuple(_model(raw, origin, region) for origin, raw in blocks["models"].values())
    assistants = tuple(_assistant(raw, origin, sources, models) for origin, raw in blocks["assistants"].values())
    _location(str(values["project.state"]), origins["project.state"])
    return Settings(folder, values, origins, sources, models, assistants, tables["embedding"], tables["storage"], env)


# -- reading ---------------------------------------------------------------------------------------
def _unknown(environ: Mapping[str, str]) -> None:
    """A variable that looks like a setting of ours and is none would be ignored: say so instead."""
    known = {"DRYSTONE_" + setting.name.upper().replace(".", "_") for setting in TABLE}
    for key in environ:
        if key.startswith(tuple(f"DRYSTONE_{section.upper()}_" for section in _SECTIONS)) and key not in known:
            raise SettingsError(
                f"The environment variable {key} sets nothing.",
                looked="We know DRYSTONE_ACTOR, DRYSTONE_ENV and DRYSTONE_SECTION_NAME for every setting.",
                todo="Correct or remove it; `drystone settings` lists all settings.",
            )


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path.name} is not valid TOML: {error}.", looked=f"We read {path}.") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path.name} is not UTF-8.", looked=f"We read {path}.") from None
    except OSError as error:
        raise SettingsError(f"{path.name} cannot be read: {error.strerror}.", looked=f"We read {path}.") from None


def _layer(
    layer: dict[str, Any],
    origin: str,
    folder: Path,
    values: dict[str, Any],
    origins: dict[str, str],
    blocks: dict[str, dict[str, tuple[str, dict[str, Any]]]],
    tables: dict[str, dict[str, Any]],
) -> None:
    for section, content in layer.items():
        if section == "format":
            if content != FORMAT:
                raise FormatError(
                    f"{origin} has format {content!r}; this release knows {FORMAT}.",
                    looked=f"We read {folder / origin}.",
                    todo="Install a newer release.",
                )
        elif section in _LISTS and isinstance(content, list):
            for block in content:
                name = block.get("name")
                if not isinstance(name, str) or not name or ":" in name or "/" in name:
                    raise SettingsError(
                        f"A [[{section}]] block in {origin} has no usable name.",
                        todo='Give it name = "..." without ":" or "/".',
                    )
                earlier = blocks[section].get(name)
                if earlier and earlier[0] == origin:
                    raise SettingsError(f"{origin} has two [[{section}]] blocks named {name!r}.", todo="Rename one.")
                merged = {**(earlier[1] if earlier else {}), **block}
                blocks[section][name] = (origin, merged)
        elif section in _TABLES and isinstance(content, dict):
            tables[section] = {"type": "builtin", **content} if section == "embedding" else _storage(content, origin)
        elif section in _SECTIONS and isinstance(content, dict):
            for key, value in content.items():
                setting = _BY_NAME.get(f"{section}.{key}")
                if setting is None:
                    known = ", ".join(s.name for s in TABLE if s.name.startswith(section + "."))
                    raise SettingsError(
                        f"{origin} sets {section}.{key}, which is no setting.",
                        looked=f"We know: {known}.",
                        todo="Correct the name; `drystone settings` lists all.",
                    )
                values[setting.name] = _cast(setting, value, origin)
                origins[setting.name] = origin
        else:
            raise SettingsError(
                f"{origin} has a part [{section}] that we do not know.",
                looked=f"We know: {', '.join(sorted(_SECTIONS | _LISTS | _TABLES))}.",
                todo="Correct or remove it.",
            )


def _location(state: str, origin: str) -> None:
    if "://" in state and not re.fullmatch(
        r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._-]*[A-Za-z0-9_-])*/?", state
    ):
        raise SettingsError(
            f"project.state is neither a folder nor a bucket that we can use ({origin}).",
            todo='Write "s3://bucket/prefix"; endpoint, region and keys belong into [storage].',
        )


def _storage(raw: dict[str, Any], origin: str) -> dict[str, Any]:
    """How object storage is reached, checked. ``key``, ``secret`` and ``token`` only say where the secrets are."""
    for name, value in raw.items():
        if name not in _STORAGE:
            raise SettingsError(
                f"{origin} sets storage.{name}, which is no setting.",
                looked=f"We know: {', '.join(_STORAGE)}.",
                todo="Correct the name.",
            )
        if not isinstance(value, _STORAGE[name]):
            raise SettingsError(f"storage.{name} in {origin} must be of type {_STORAGE[name].__name__}.")
    for name in {"key", "secret", "token"} & set(raw):
        if not raw[name].startswith(("env:", "file:")):
            raise SettingsError(f"storage.{name} in {origin} names no place.", todo='Write "env:NAME" or "file:PATH".')
    if ("key" in raw) != ("secret" in raw) or ("token" in raw and "key" not in raw):
        raise SettingsError(f"[storage] in {origin} has only a part of the keys.", todo="Give both key and secret.")
    found = re.fullmatch(
        r"(https?)://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?/?", raw.get("endpoint", "https://a")
    )
    if found is None:
        raise SettingsError(f"storage.endpoint in {origin} is not an address.", todo='Write "https://host:port".')
    if found[1] == "http" and not raw.get("allow_http") and not _loopback(found[2]):
        raise SettingsError(
            f"storage.endpoint in {origin} is not encrypted.",
            todo="Use https, or set storage.allow_http = true where the network between is yours alone.",
        )
    return dict(raw)


def _loopback(host: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _cast(setting: Setting, value: Any, origin: str) -> Any:
    bad = SettingsError(
        f"{setting.name} is {value!r} in {origin}; it must be of type {setting.kind.__name__}.",
        todo=f"It means: {setting.help}.",
    )
    if setting.kind is bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in ("true", "false", "1", "0"):
            return value.lower() in ("true", "1")
        raise bad
    if isinstance(value, bool):
        raise bad
    if setting.kind in (int, float):
        try:
            return setting.kind(value) if isinstance(value, (str, int, setting.kind)) else _no(bad)
        except ValueError:
            raise bad from None
    if not isinstance(value, str) or (setting.choices and value not in setting.choices):
        raise bad
    return value


def _no(error: Exception) -> Any:
    raise error


def seconds(text: object, what: str) -> float:
    """``15m``, ``90s``, ``2h``, ``3d``, ``1y`` or a number of seconds."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31_557_600.0}
    if isinstance(text, (int, float)) and not isinstance(text, bool) and text >= 0:
        return float(text)
    if isinstance(text, str) and text and text[-1] in units:
        try:
            number = float(text[:-1])
        except ValueError:
            number = -1.0
        if number >= 0:
            return number * units[text[-1]]
    raise SettingsError(f"{what} is {text!r}, not a duration.", todo='Write it as "90s", "15m", "2h", "3d" or "1y".')


_LABEL_PARTS = {"readers", "classification", "regions", "purposes", "expires", "retention", "trust"}
_SOURCE_KEYS = {"name", "type", "owner", "permissions", "permissions_max_age", "discoverable", "watch", "labels",
                "passwords"}  # fmt: skip


def _source(raw: dict[str, Any], origin: str) -> SourceConfig:
    name = raw["name"]
    kind = raw.get("type")
    if not isinstance(kind, str):
        raise SettingsError(f"The source {name!r} in {origin} has no type.", todo='Write type = "files" or "rows".')
    permissions = raw.get("permissions", "rules")
    if permissions not in ("rules", "source"):
        raise SettingsError(
            f"The source {name!r} in {origin} has permissions = {permissions!r}.", todo='Write "rules" or "source".'
        )
    rules = raw.get("labels", [])
    if not isinstance(rules, list):
        raise SettingsError(f"labels of the source {name!r} is not a list.", todo="Write [[sources.labels]] blocks.")
    for rule in rules:
        unknown = set(rule) - _LABEL_PARTS - {"match"}
        if unknown or not isinstance(rule.get("match"), str):
            raise SettingsError(
                f"A label rule of the source {name!r} in {origin} "
                + (f"has {', '.join(sorted(unknown))}, which no label has." if unknown else "has no match."),
                looked=f"A rule may have: match, {', '.join(sorted(_LABEL_PARTS))}.",
            )
    return SourceConfig(
        name=name,
        type=kind,
        owner=str(raw.get("owner", "group:owners")),
        permissions=permissions,
        permissions_max_age_s=seconds(raw.get("permissions_max_age", "15m"), "permissions_max_age"),
        discoverable=bool(raw.get("discoverable", False)),
        watch=bool(raw.get("watch", False)),
        passwords=_passwords(raw.get("passwords", []), name),
        rules=tuple(rules),
        fill={k: v for k, v in raw.items() if k in _LABEL_PARTS},
        options={k: v for k, v in raw.items() if k not in _SOURCE_KEYS | _LABEL_PARTS},
    )


def _passwords(value: Any, source: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(p, str) and p.startswith(("env:", "file:")) for p in value):
        raise SettingsError(
            f"passwords of the source {source!r} is not a list of places.",
            todo='Write passwords = ["env:NAME", "file:PATH"]; a password itself never stands in drystone.toml.',
        )
    return tuple(value)


def _model(raw: dict[str, Any], origin: str, region: str) -> ModelConfig:
    name, kind = raw["name"], raw.get("type")
    if not isinstance(kind, str):
        raise SettingsError(f"The model {name!r} in {origin} has no type.", todo='Write "llama_cpp" or "openai".')
    local = kind == "llama_cpp"  # in our own child process: cleared for everything in project.region
    try:
        clearance = Classification.parse(raw.get("clearance", "restricted" if local else "public"))
    except LabelError as error:
        raise SettingsError(f"The model {name!r} in {origin}: {error}") from None
    regions = raw.get("regions", [region] if local else [])
    purposes = raw.get("purposes")
    keys = {"name", "type", "clearance", "regions", "purposes"}
    return ModelConfig(
        name=name,
        type=kind,
        clearance=clearance,
        regions=frozenset(regions),
        purposes=None if purposes is None else frozenset(purposes),
        options={k: v for k, v in raw.items() if k not in keys},
    )


def _assistant(
    raw: dict[str, Any], origin: str, sources: tuple[SourceConfig, ...], models: tuple[ModelConfig, ...]
) -> AssistantConfig:
    name = raw["name"]
    unknown = set(raw) - {"name", "sources", "models", "mode", "input_classification", "purpose"}
    if unknown:
        raise SettingsError(
            f"The assistant {name!r} in {origin} has {', '.join(sorted(unknown))}, which we do not know."
        )
    for kind, known in (("sources", {s.name for s in sources}), ("models", {m.name for m in models})):
        missing = set(raw.get(kind, ())) - known
        if missing:
            raise SettingsError(
                f"The assistant {name!r} names {kind} that are not there: {', '.join(sorted(missing))}.",
                looked=f"{origin} has: {', '.join(sorted(known)) or 'none'}.",
            )
    mode = raw.get("mode", "auto")
    if mode not in ("auto", "quoted", "generated"):
        raise SettingsError(f"The assistant {name!r} has mode = {mode!r}.", todo="Use auto, quoted or generated.")
    return AssistantConfig(
        name=name,
        sources=tuple(raw["sources"]) if "sources" in raw else None,
        models=tuple(raw.get("models", ())),
        mode=mode,
        input_classification=Classification.parse(raw.get("input_classification", "internal")),
        purpose=raw.get("purpose"),
    )
