"""Every error that Drystone raises, on one page.

Guarantees: each error has a stable ``code`` that never moves, an HTTP ``status``, whether a ``retry``
can help, and three sentences: what happened, where we looked, what to do. A message never contains
the text of a document, a prompt, a key, or the existence of something the caller may not see.
"""

from __future__ import annotations


class DrystoneError(Exception):
    """The root. Catch this to catch everything that Drystone raises on purpose."""

    code = "error"
    status = 500
    retry = False
    exit_code = 1

    def __init__(self, happened: str, *, looked: str = "", todo: str = "") -> None:
        super().__init__(happened)
        self.happened = happened
        self.looked = looked
        self.todo = todo

    def __str__(self) -> str:
        return " ".join(part for part in (self.happened, self.looked, self.todo) if part)

    def to_dict(self) -> dict[str, object]:
        return {
            "code": self.code,
            "status": self.status,
            "retry": self.retry,
            "happened": self.happened,
            "looked": self.looked,
            "todo": self.todo,
        }


# --- what the caller wrote -------------------------------------------------------------------------
class UsageError(DrystoneError):
    """A command or a call was written wrongly."""

    code = "usage"
    status = 400
    exit_code = 2


class SettingsError(DrystoneError):
    """``drystone.toml``, ``users.toml`` or the environment holds something we cannot use."""

    code = "settings"
    status = 400
    exit_code = 2


class ProjectNotFound(SettingsError):
    code = "project_not_found"
    status = 404


class LabelError(DrystoneError):
    """A label is missing, empty or malformed. A thing without a label is refused, not public."""

    code = "label"
    status = 400


class PolicyError(DrystoneError):
    """A policy file does not parse or validate, or names what could not hold in retrieval."""

    code = "policy"
    status = 400
    exit_code = 2


# --- what may not be ---------------------------------------------------------------------------------
class Refused(DrystoneError):
    """The policy said no. ``reason`` is one of the contract's refusal reasons."""

    code = "refused"
    status = 403
    exit_code = 3

    def __init__(self, happened: str, *, looked: str = "", todo: str = "", reason: str = "policy") -> None:
        super().__init__(happened, looked=looked, todo=todo)
        self.reason = reason


class NotFound(DrystoneError):
    """There is no such thing, or the caller may not know of it: the two look the same."""

    code = "not_found"
    status = 404


class Unlabelled(LabelError):
    """No rule, sidecar, column or permission gave this document a label."""

    code = "unlabelled"


class MassRemoval(DrystoneError):
    """So many documents vanished at once that it looks like an outage."""

    code = "mass_removal"
    status = 409


class SourceUnavailable(DrystoneError):
    """A source could not be listed, or its listing was empty or unreadable: nothing was removed."""

    code = "source_unavailable"
    status = 503
    retry = True


class ParseFailed(DrystoneError):
    """A document could not be parsed within its limits; it lies in quarantine with a typed reason."""

    code = "parse_failed"
    status = 422

    def __init__(self, happened: str, *, looked: str = "", todo: str = "", kind: str = "malformed") -> None:
        super().__init__(happened, looked=looked, todo=todo)
        self.kind = kind


# --- the record -----------------------------------------------------------------------------------
class LedgerError(DrystoneError):
    code = "ledger"


class PassportIncomplete(LedgerError):
    """A step left no note, so the answer was withheld instead of released without proof."""

    code = "passport_incomplete"


class ProofFailed(LedgerError):
    """A signature, a digest, an inclusion or a consistency proof does not hold."""

    code = "proof_failed"


class FormatError(DrystoneError):
    """State, configuration or a passport was written in a format that this release cannot open."""

    code = "format"
    status = 409


class StateUnavailable(DrystoneError):
    """The state folder cannot be used: full disk, no permission, a network file system, a lock."""

    code = "state_unavailable"
    status = 503
    retry = True


class Busy(DrystoneError):
    """Another process holds what we need; waiting longer may help."""

    code = "busy"
    status = 409
    retry = True


# --- engines -----------------------------------------------------------------------------------------
class EngineMissing(DrystoneError):
    """An optional engine or model is not installed; the message names the extra or the file."""

    code = "engine_missing"
    status = 501


class DigestMismatch(DrystoneError):
    """Weights or bytes are not what their pinned digest says; they were not used."""

    code = "digest_mismatch"


class ModelUnavailable(DrystoneError):
    """A model endpoint did not answer, answered wrongly, or may not receive this prompt."""

    code = "model_unavailable"
    status = 503
    retry = True


class IndexIncomplete(DrystoneError):
    """A generation or a postings segment lacks rows that the commit names; search would be silently less."""

    code = "index_incomplete"
    status = 503
