"""Permission explains itself: which clause of a label, which policy decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drystone.errors import NotFound
from drystone.policy.cedar import ACTIONS
from drystone.records import EVERYONE, Actor, Label, format_time

if TYPE_CHECKING:
    from drystone.policy import Policy


def explain(
    policy: Policy,
    asker: Actor,
    about: Actor,
    label: Label | None,
    *,
    document: str,
    origin: str,
    at: int,
    purpose: str,
) -> dict[str, Any]:
    """See :meth:`drystone.policy.Policy.why`."""
    search = policy.decide(about, "search", purpose=purpose)
    flows = None if label is None else label.flows_to(about.sink(purpose), at)
    readable = bool(flows) and bool(search)
    if label is None or flows is None or not (policy.decide(asker, "audit") or (asker.name == about.name and readable)):
        raise NotFound(f"There is no {document}, or you may not know of it.")
    return {
        "document": document,
        "actor": about.name,
        "known": about.known,
        "principals": sorted(about.principals),
        "purpose": purpose,
        "at": format_time(at),
        "allowed": readable,
        "reason": search.reason if flows and not search else flows.reason,
        "decided_by": "action" if flows and not search else flows.part,
        "label": label.to_dict(),
        "label_origin": origin,
        "parts": list(_parts(label, about, purpose, at)),
        "actions": [
            {**decision.to_dict(), "reason": decision.reason}
            for decision in (policy.decide(about, action, purpose=purpose) for action in ACTIONS)
        ],
    }


def _parts(label: Label, about: Actor, purpose: str, at: int) -> list[dict[str, Any]]:
    """Each part of the label by itself, so that one sees all that is missing and not only the first."""
    rows: list[dict[str, Any]] = []
    for clause in sorted(label.readers, key=sorted):
        by = sorted(clause & (about.principals | {EVERYONE}))
        rows.append({"part": "readers", "needs": sorted(clause), "has": by, "holds": bool(by)})
    needs, has = label.classification, about.clearance
    rows.append({"part": "classification", "needs": needs.name, "has": has.name, "holds": needs <= has})
    if label.regions is not None:
        holds = about.region in label.regions
        rows.append({"part": "regions", "needs": sorted(label.regions), "has": [about.region], "holds": holds})
    if label.purposes is not None:
        holds = purpose in label.purposes
        rows.append({"part": "purposes", "needs": sorted(label.purposes), "has": [purpose], "holds": holds})
    if label.expires is not None:
        ends, now = format_time(label.expires), format_time(at)
        rows.append({"part": "expires", "needs": f"before {ends}", "has": now, "holds": at < label.expires})
    return rows
