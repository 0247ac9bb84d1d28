"""Who asks (Actor), where information may go (Sink), and what was decided (Decision)."""

from __future__ import annotations

from dataclasses import dataclass

from drystone.records.label import EVERYONE, Classification, Trust


@dataclass(frozen=True, slots=True)
class Sink:
    """Anywhere information can go: a person, a model endpoint, a log, a file.

    ``principals``: whom the sink speaks for; clauses of readers are checked against them.
    ``processor``: True for an endpoint that works for an asker and reads nothing for itself
    (a model, the embedder): its clearance, regions and purpose count, clauses of readers do not.
    ``needs_trust``: the least trust that a value must have to be used here.
    ``purposes``: those it may be used for at all; ``None`` is any. Outside them nothing flows to it.
    """

    name: str
    principals: frozenset[str]
    clearance: Classification
    regions: frozenset[str]
    purpose: str | None
    processor: bool = False
    needs_trust: Trust = Trust.untrusted
    purposes: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Actor:
    """A person or service that asks. Built by ``policy`` alone, with groups already expanded.

    ``principals``: ``user:NAME``, every ``group:NAME`` reached through nesting, and ``everyone``.
    ``purposes``: ``None`` is any. ``proven``: ``token``, ``key`` or ``asserted by <os user>``.
    ``known``: False for somebody whom ``users.toml`` does not name.
    """

    name: str
    principals: frozenset[str]
    clearance: Classification
    region: str
    purposes: frozenset[str] | None
    proven: str
    known: bool = True

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(sorted(p.removeprefix("group:") for p in self.principals if p.startswith("group:")))

    def sink(self, purpose: str | None) -> Sink:
        """The actor as a place where information goes, for one purpose."""
        return Sink(
            name=self.name,
            principals=self.principals | {EVERYONE},
            clearance=self.clearance,
            regions=frozenset({self.region}),
            purpose=purpose,
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision about an action. ``policies`` are the ids of the policies that determined it."""

    action: str
    allowed: bool
    policies: tuple[str, ...]
    policy_set: str  # digest of the whole policy set
    reason: str

    def __bool__(self) -> bool:
        return self.allowed

    def to_dict(self) -> dict[str, object]:
        return {
            "action": self.action,
            "result": "allow" if self.allowed else "deny",
            "policies": list(self.policies),
            "policy_set": self.policy_set,
        }
