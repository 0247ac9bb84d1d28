"""Decisions about actions, by Cedar. The only module that imports ``cedarpy``.

Guarantees: every policy was validated against our schema before it is used; a policy that speaks of
documents is refused, because it could not hold inside retrieval; whatever goes wrong while deciding
is a denial; a decision names the policies that determined it and the digest of the whole set.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from drystone.errors import PolicyError
from drystone.records import Actor, Decision

ACTIONS = (
    "ask", "search", "ingest", "relabel", "declassify", "audit", "passport_audit", "read_passport", "administer",
)  # fmt: skip
_HERE = Path(__file__).parent
_PROJECT = {"type": "Project", "id": "project"}
_ATTRIBUTES = {"name", "known", "clearance", "region", "principals", "purposes", "purpose", "owner"}
_OF_DOCUMENTS = re.compile(r"document|chunk|path|title|source|folder|file|asset|label", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PolicySet:
    """A validated set of policies, parsed once. Build it with :func:`compile_set`."""

    digest: str  # "sha256:..." of the schema and every policy file, so an auditor can compute it again
    ids: tuple[str, ...]
    handle: Any

    def decide(self, actor: Actor, action: str, *, purpose: str, owner: str | None) -> Decision:
        """One decision. ``owner`` is a principal: of the source, or of the passport that is read."""
        import cedarpy

        context = {"purpose": purpose} if owner is None else {"purpose": purpose, "owner": owner}
        request = {
            "principal": {"type": "User", "id": actor.name},
            "action": {"type": "Action", "id": action},
            "resource": _PROJECT,
            "context": json.dumps(context),
        }
        result = cedarpy.is_authorized(request, self.handle, _entities(actor))
        policies = tuple(sorted(result.diagnostics.reasons))
        if result.diagnostics.errors:  # a policy that could not be evaluated might have been a forbid
            return Decision(action, False, policies, self.digest, "a policy could not be evaluated")
        if result.allowed:
            return Decision(action, True, policies, self.digest, f"permitted by {', '.join(policies)}")
        why = f"forbidden by {', '.join(policies)}" if policies else "no policy permits it"
        return Decision(action, False, policies, self.digest, why)


@lru_cache(maxsize=1024)
def _entities(actor: Actor) -> Any:
    import cedarpy

    attributes: dict[str, Any] = {
        "name": actor.name,
        "known": actor.known,
        "clearance": int(actor.clearance),
        "region": actor.region,
        "principals": sorted(actor.principals),
    }
    if actor.purposes is not None:
        attributes["purposes"] = sorted(actor.purposes)
    parents = [{"type": "Group", "id": group} for group in actor.groups]
    user = {"uid": {"type": "User", "id": actor.name}, "attrs": attributes, "parents": parents}
    return cedarpy.Entities.from_json_str(json.dumps([user]), _schema())


@lru_cache(maxsize=1)
def _schema() -> Any:
    import cedarpy

    return cedarpy.Schema.from_str((_HERE / "schema.cedarschema").read_text("utf-8"))


def compile_set(files: Mapping[str, bytes]) -> PolicySet:
    """The built-in policies with a project's ``files`` (name to text) on top, validated and parsed.

    Ids are ``builtin:NAME``; in a project's file the annotation ``@id("...")``, else ``file.cedar#n``
    counted from 1. Raises ``PolicyError`` with the file and the policy.
    """
    import cedarpy

    builtin = (_HERE / "builtin.cedar").read_bytes()
    total = sha256((_HERE / "schema.cedarschema").read_bytes())
    every: dict[str, Any] = {}
    for name, data in [("builtin", builtin), *sorted(files.items())]:
        for part in (name.encode(), data):
            total.update(len(part).to_bytes(8, "big") + part)
        for policy_id, policy in _file(name, data).items():
            if policy_id in every:
                raise PolicyError(
                    f"{name} has a policy with the id {policy_id!r}, which is taken.", todo="Give it another @id."
                )
            every[policy_id] = policy
    handle = cedarpy.PolicySet.from_json_str(
        json.dumps({"templates": {}, "staticPolicies": every, "templateLinks": []})
    )
    return PolicySet(f"sha256:{total.hexdigest()}", tuple(every), handle)


def _file(name: str, data: bytes) -> dict[str, Any]:
    """The policies of one file in Cedar's JSON form, by id. Validated."""
    import cedarpy

    try:
        text = data.decode("utf-8")
        parsed = json.loads(cedarpy.policies_to_json_str(text))
    except UnicodeDecodeError:
        raise PolicyError(f"{name} is not UTF-8.", todo="Save it as UTF-8.") from None
    except ValueError as error:
        raise PolicyError(f"{name} is not valid Cedar: {_line(error)}.") from None
    if parsed["templates"] or parsed["templateLinks"]:
        raise PolicyError(f"{name} has a template (?principal or ?resource).", todo="Write the policy out.")
    ordered = sorted(parsed["staticPolicies"].items(), key=lambda item: int(item[0].removeprefix("policy")))
    if not ordered:  # also what a file looks like while it is being saved: a forbid must not be lost that way
        raise PolicyError(f"{name} holds no policy.", todo="Write one, or delete the file.")
    ids = {}
    for n, (key, policy) in enumerate(ordered, 1):
        given = policy.get("annotations", {}).get("id")
        ids[key] = f"builtin:{given}" if name == "builtin" else given or f"{name}#{n}"
        if name != "builtin" and ids[key].startswith("builtin:"):
            raise PolicyError(f"{name}#{n} calls itself {ids[key]!r}.", todo="Only built-in policies are called so.")
    if len(set(ids.values())) < len(ids):
        raise PolicyError(f"{name} has two policies with one id.", todo="Give each its own @id.")
    faults = [(fault.policy_id, fault.error) for fault in cedarpy.validate_policies(text, _schema()).errors]
    faults += [(key, fault) for key, policy in ordered for fault in _never(policy)]
    for key, fault in faults:
        todo = "A policy may speak of a User, Groups, the actions, and context.purpose or context.owner."
        if _OF_DOCUMENTS.search(fault):
            todo = "Who may read a document is said by labels ([[sources.labels]] in drystone.toml), not by policies."
        raise PolicyError(f"{name}: the policy {ids.get(key, name)!r} does not hold: {_line(fault)}.", todo=todo)
    return {ids[key]: policy for key, policy in ordered}


def _never(node: Any) -> Iterator[str]:
    """What Cedar's validator lets pass although it can never be true: a forbid would be there and do nothing."""
    if isinstance(node, dict):
        has, entity = node.get("has"), (node.get("type"), node.get("id"))
        if isinstance(has, dict) and has.get("attr") not in _ATTRIBUTES:
            yield f"nothing has the attribute `{has.get('attr')}`"
        if entity[0] == "Project" and entity[1] != _PROJECT["id"]:
            yield f'there is no Project::"{entity[1]}", only Project::"{_PROJECT["id"]}"'
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _never(inner)


def _line(error: object) -> str:
    """Cedar's message on one line, without its positional name of the policy."""
    return re.sub(r"^for policy `[^`]*`, ", "", " ".join(str(error).split())).rstrip(".")
