"""Who may do what. Actors come from ``users.toml``, decisions about actions from Cedar.

Guarantees: nobody whom ``users.toml`` does not name may do anything; a file that is broken, vanished
half way or unreadable opens nothing: until it is mended, every call raises what is wrong with it.
"""

from __future__ import annotations

import os
import pwd
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drystone.errors import DrystoneError, PolicyError, Refused, SettingsError, UsageError
from drystone.policy.cedar import ACTIONS, PolicySet, compile_set
from drystone.policy.users import FILE, Directory, read
from drystone.records import Actor, Classification, Decision, Label, Sink, principal

if TYPE_CHECKING:
    from drystone.settings import Settings

__all__ = ["ACTIONS", "Policy", "system_user"]

_Signature = tuple[tuple[str, int, int, int, int], ...]
_RACY_NS = 2_000_000_000  # a file this young may change again without a new time stamp: read it again


@dataclass(frozen=True, slots=True)
class _State:
    """What was read at one moment. ``error`` is raised by every use until the files are mended."""

    files: Mapping[str, bytes]
    signature: _Signature | None  # None: too young to be trusted
    directory: Directory
    policies: PolicySet
    error: DrystoneError | None = None


class Policy:
    """Actors and decisions of one project. Safe to share between threads."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder, self._settings, self._lock = folder, settings, threading.Lock()
        signature, files = self._read()
        self._state = _State(files, signature, *self._build(files))

    @classmethod
    def open(cls, folder: Path, *, settings: Settings) -> Policy:
        """Read ``users.toml`` and ``policies/*.cedar`` of a project's folder."""
        return cls(Path(folder), settings)

    @property
    def digest(self) -> str:
        """Of the schema and all policies together: ``sha256:...``."""
        return self._now().policies.digest

    def refresh(self) -> bool:
        """Read the files again if they changed; True if they did.

        A broken edit raises, here and in every later call, until it is mended: old rights are not used.
        """
        with self._lock:
            state = self._state
            if state.signature is not None and state.signature == self._stat():
                self._now()
                return False
            try:
                signature, files = self._read()
                if files == state.files:
                    self._state = replace(state, signature=signature)
                    self._now()
                    return False
                self._state = _State(files, signature, *self._build(files))
                return True
            except DrystoneError as error:
                self._state = replace(state, files={}, signature=None, error=error)
                raise

    def actor(self, name: str | None, *, environ: Mapping[str, str] = os.environ) -> Actor:
        """The actor of a call: ``name``, else ``DRYSTONE_ACTOR``, else the operating system's user."""
        self.refresh()
        system = system_user()
        chosen = (name if name is not None else environ.get("DRYSTONE_ACTOR") or system).removeprefix("user:")
        if not chosen or chosen != chosen.strip() or ":" in chosen or not chosen.isprintable():
            raise UsageError(f"{chosen!r} is not the name of a person or service.", todo='Write a name without ":".')
        region = self._settings.region
        return self._now().directory.actor(chosen, region=region, proven=f"asserted by {system}")

    def renew(self, actor: Actor) -> Actor:
        """The same person with the rights of now (call :meth:`refresh` first)."""
        return self._now().directory.actor(actor.name, region=self._settings.region, proven=actor.proven)

    def decide(self, actor: Actor, action: str, *, owner: str | None = None, purpose: str | None = None) -> Decision:
        """May ``actor`` do ``action``? ``owner``: of the source (or passport) that it is about."""
        if action not in ACTIONS:
            raise UsageError(f"There is no action {action!r}.", looked=f"We know: {', '.join(ACTIONS)}.")
        purpose = purpose or self._settings.purpose
        return self._now().policies.decide(
            actor, action, purpose=purpose, owner=None if owner is None else principal(owner)
        )

    def require(self, actor: Actor, action: str, *, owner: str | None = None, purpose: str | None = None) -> Decision:
        """As :meth:`decide`, and raises ``Refused`` where it says no."""
        decision = self.decide(actor, action, owner=owner, purpose=purpose)
        if decision:
            return decision
        raise Refused(
            f"{actor.name} may not {action.replace('_', ' ')} here.",  # which policy decided: see `why`
            looked="" if actor.known else f"{FILE} does not name {actor.name}.",
            todo="Ask one of group:owners." if actor.known else f"An owner can add [[users]] to {FILE}.",
        )

    def processor(
        self,
        name: str,
        clearance: Classification,
        regions: frozenset[str],
        purposes: frozenset[str] | None,
        purpose: str | None,
    ) -> Sink:
        """A model endpoint or embedder as a sink, for one call's purpose. It reads nothing for itself."""
        return Sink(name, frozenset(), clearance, regions, purpose, processor=True, purposes=purposes)

    def why(
        self,
        asker: Actor,
        about: Actor,
        label: Label | None,
        *,
        document: str,
        origin: str,
        at: int,
        purpose: str | None = None,
    ) -> dict[str, Any]:
        """Why ``about`` may or may not read the document with this label, clause by clause.

        ``label`` is None where there is no such document. Raises ``NotFound`` for that, and in the same
        words where ``asker`` may not know: about oneself without the right to read, about others without
        the right ``audit``.
        """
        from drystone.policy.why import explain

        return explain(self, asker, about, label, document=document, origin=origin, at=at,
                       purpose=purpose or self._settings.purpose)  # fmt: skip

    # -- reading ---------------------------------------------------------------------------------
    def _now(self) -> _State:
        if self._state.error is not None:
            raise self._state.error
        return self._state

    def _paths(self) -> list[Path]:
        try:
            own = sorted(p for p in (self._folder / "policies").iterdir() if p.suffix == ".cedar")
        except FileNotFoundError:
            own = []
        except OSError as error:
            raise PolicyError(f"policies/ cannot be read: {error.strerror}.", todo="Mend its permissions.") from None
        return [self._folder / FILE, *own]

    def _stat(self) -> _Signature:
        found = []
        for path in self._paths():
            try:
                s = path.stat()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise PolicyError(f"{path.name} cannot be read: {error.strerror}.") from None
            found.append((path.name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino))
        return tuple(found)

    def _read(self) -> tuple[_Signature | None, dict[str, bytes]]:
        before, files = self._stat(), {}
        for path in self._paths():
            try:
                files[path.name] = path.read_bytes()
            except FileNotFoundError:
                if path.name != FILE:  # listed a moment ago: somebody is saving it
                    raise PolicyError(f"policies/{path.name} vanished while it was read.", todo="Try again.") from None
            except OSError as error:
                kind = SettingsError if path.name == FILE else PolicyError
                raise kind(f"{path.name} cannot be read: {error.strerror}.", looked=f"We read {path}.") from None
        youngest = max((max(mtime, ctime) for _, _, mtime, ctime, _ in before), default=0)
        settled = before == self._stat() and time.time_ns() - youngest > _RACY_NS
        return before if settled else None, files

    def _build(self, files: Mapping[str, bytes]) -> tuple[Directory, PolicySet]:
        rules = {name: data for name, data in files.items() if name != FILE}
        return read(files.get(FILE, b""), _named(self._folder.stat().st_uid)), compile_set(rules)


def system_user() -> str:
    """By the effective uid, not by an environment variable that anybody can set."""
    return _named(os.geteuid())


def _named(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"
