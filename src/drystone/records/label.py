"""Labels: who and what a piece of information may flow to.

One lattice for the whole stack (disjunction-category labels: Stefan, Russo, Mazières and Mitchell,
"Disjunction Category Labels", 2011). Guarantees, each a property test:

- ``join`` is associative, commutative and idempotent; a label is immutable and in canonical form.
- ``join(a, b).flows_to(sink, at) == a.flows_to(sink, at) and b.flows_to(sink, at)``.
- What is missing is refused: an empty or absent list of readers is an error, never "everyone".

Times are integer milliseconds since the epoch, UTC.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import IntEnum
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeGuard

from drystone.errors import LabelError

if TYPE_CHECKING:
    from drystone.records.actor import Sink

EVERYONE = "everyone"
Clause = frozenset[str]


class Classification(IntEnum):
    public = 0
    internal = 1
    confidential = 2
    restricted = 3

    @classmethod
    def parse(cls, value: object) -> Classification:
        if isinstance(value, Classification):
            return value
        if isinstance(value, str) and value.strip().lower() in cls.__members__:
            return cls[value.strip().lower()]
        raise LabelError(
            f"{value!r} is not a classification.",
            todo="Use one of public, internal, confidential, restricted.",
        )


class Trust(IntEnum):
    """Who could have written it. The join is the lower."""

    untrusted = 0
    trusted = 1

    @classmethod
    def parse(cls, value: object) -> Trust:
        if isinstance(value, Trust):
            return value
        if isinstance(value, str) and value.strip().lower() in cls.__members__:
            return cls[value.strip().lower()]
        raise LabelError(f"{value!r} is not a trust level.", todo="Use trusted or untrusted.")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a flow decision. ``part`` names the part of the label that decided.

    >>> bool(Verdict(True, "", ""))
    True
    """

    allowed: bool
    part: str
    reason: str

    def __bool__(self) -> bool:
        return self.allowed


PARTS = frozenset({"readers", "classification", "regions", "purposes", "expires", "trust"})
_YES = Verdict(True, "", "every part of the label holds")


def principal(name: object) -> str:
    """Normalise one principal: ``bo`` is ``user:bo``; ``group:hr`` and ``everyone`` stay."""
    if not isinstance(name, str) or not name.strip():
        raise LabelError(f"{name!r} is not a principal.", todo='Write a name, "group:NAME" or "everyone".')
    text = name.strip()
    if text == EVERYONE:
        return text
    kind, sep, rest = text.partition(":")
    if not sep:
        return f"user:{text}"
    kind, rest = kind.strip(), rest.strip()
    if not kind or not rest:
        raise LabelError(f"{name!r} is not a principal.", todo='Write a name, "group:NAME" or "everyone".')
    return f"{kind}:{rest}"


def _listed(value: object) -> TypeGuard[Iterable[Any]]:
    """A list of things: not one text, and not a mapping, whose values would be lost."""
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)


def clauses(readers: object) -> frozenset[Clause]:
    """Parse readers: a flat list is one clause (any of them), a list of lists is one of each."""
    if not _listed(readers):
        raise LabelError(
            f"readers is {readers!r}, not a list.",
            todo='Write readers = ["group:NAME"], or ["everyone"] if everyone may read.',
        )
    items = list(readers)
    if not items:
        raise LabelError(
            "readers is empty; a document without readers is refused, not public.",
            todo='Name the readers, or write ["everyone"].',
        )
    nested = [_listed(item) for item in items]
    if any(nested) and not all(nested):
        raise LabelError("readers mixes names and lists.", todo="Write one flat list, or a list of lists.")
    groups = [frozenset(map(principal, item)) for item in (items if nested[0] else [items])]
    if any(not g for g in groups):
        raise LabelError(
            "readers has an empty clause, which nobody could satisfy.",
            todo="Remove the empty list or name who may read.",
        )
    return _minimal(groups)


def _minimal(groups: Iterable[Clause]) -> frozenset[Clause]:
    """Drop what is implied: a clause with everyone, and every superset of another clause."""
    groups = frozenset(groups)
    if len(groups) == 1 and not any(EVERYONE in g for g in groups):
        return groups  # as almost all are
    wanted = {g for g in groups if EVERYONE not in g}
    kept = [g for g in wanted if not any(other < g for other in wanted)]
    return frozenset(kept) if kept else frozenset({frozenset({EVERYONE})})


def _names(value: object, part: str) -> frozenset[str] | None:
    """A set of names, or None for "anywhere" / "any". An empty list is refused."""
    if value is None:
        return None
    if not _listed(value):
        raise LabelError(f"{part} is {value!r}, not a list.", todo=f'Write {part} = ["NAME"], or leave it out.')
    items = list(value)
    if not all(isinstance(item, str) for item in items):
        raise LabelError(f"{part} has something that is no name.", todo=f'Write {part} = ["NAME"].')
    names = frozenset(item.strip() for item in items)
    if not names or "" in names:
        raise LabelError(
            f"{part} is empty, so nothing could ever satisfy it.",
            todo=f"Leave {part} out if there is no limit, or name at least one.",
        )
    return names


@dataclass(frozen=True, slots=True)
class Label:
    """What every piece of information carries. Build it with :meth:`parse`; combine with :meth:`join`.

    ``readers``: a conjunction of clauses, each a set of principals; never empty.
    ``regions`` / ``purposes``: a set, or ``None`` for no limit. An empty set can only come from a
    join and flows nowhere. ``expires``: milliseconds, or ``None`` for never.
    """

    readers: frozenset[Clause]
    classification: Classification
    regions: frozenset[str] | None = None
    purposes: frozenset[str] | None = None
    expires: int | None = None
    trust: Trust = Trust.untrusted

    def __post_init__(self) -> None:
        if not self.readers or any(not c for c in self.readers):
            raise LabelError(
                "A label without readers is refused, not public.", todo='Name the readers, or write ["everyone"].'
            )
        object.__setattr__(self, "readers", _minimal(self.readers))  # the canonical form, however it was built

    # -- reading and writing ---------------------------------------------------------------------
    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Label:
        """From a mapping with ``readers`` and ``classification`` (both required) and the other parts.

        A part that no label has is refused: ``region = ["eu"]`` would otherwise be a limit that is not kept.
        """
        if unknown := set(raw) - PARTS:
            raise LabelError(
                f"No label has {', '.join(sorted(map(str, unknown)))}.", looked=f"We know: {', '.join(sorted(PARTS))}."
            )
        if "readers" not in raw or raw["readers"] is None:
            raise LabelError(
                "There are no readers; a document without readers is refused, not public.",
                todo='Name the readers, or write readers = ["everyone"].',
            )
        if raw.get("classification") is None:
            raise LabelError(
                "There is no classification.", todo="Use one of public, internal, confidential, restricted."
            )
        return cls(
            readers=clauses(raw["readers"]),
            classification=Classification.parse(raw["classification"]),
            regions=_names(raw.get("regions"), "regions"),
            purposes=_names(raw.get("purposes"), "purposes"),
            expires=parse_time(raw["expires"]) if raw.get("expires") is not None else None,
            trust=Trust.parse(raw.get("trust", "untrusted")),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON form, sorted; parts without a limit are left out."""
        out: dict[str, Any] = {
            "classification": self.classification.name,
            "readers": sorted(sorted(c) for c in self.readers),
        }
        if self.regions is not None:
            out["regions"] = sorted(self.regions)
        if self.purposes is not None:
            out["purposes"] = sorted(self.purposes)
        if self.expires is not None:
            out["expires"] = format_time(self.expires)
        out["trust"] = self.trust.name
        return out

    def interned(self) -> str:
        """The canonical text of all parts but ``expires``: equal labels have equal text."""
        wide = {
            "classification": self.classification.name,
            "readers": sorted(sorted(c) for c in self.readers),
            "regions": None if self.regions is None else sorted(self.regions),
            "purposes": None if self.purposes is None else sorted(self.purposes),
            "trust": self.trust.name,
        }
        return json.dumps(wide, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_interned(cls, text: str, expires: int | None = None) -> Label:
        raw = json.loads(text)
        return cls(
            readers=frozenset(frozenset(c) for c in raw["readers"]),
            classification=Classification[raw["classification"]],
            regions=None if raw["regions"] is None else frozenset(raw["regions"]),
            purposes=None if raw["purposes"] is None else frozenset(raw["purposes"]),
            expires=expires,
            trust=Trust[raw["trust"]],
        )

    # -- the lattice -----------------------------------------------------------------------------
    def join(self, other: Label) -> Label:
        """What a thing derived from both carries: at least as strict as each, in every part."""
        return Label(
            readers=self.readers | other.readers,
            classification=max(self.classification, other.classification),
            regions=_both(self.regions, other.regions),
            purposes=_both(self.purposes, other.purposes),
            expires=_earlier(self.expires, other.expires),
            trust=min(self.trust, other.trust),
        )

    def at_least(self, other: Label) -> bool:
        """True if this label is as strict as ``other`` in every part (``self == self.join(other)``)."""
        return self.join(other) == self

    def flows_to(self, sink: Sink, at: int) -> Verdict:
        """May information with this label go to ``sink`` at the time ``at``? Says why not.

        ``at`` is the later of the wall clock and the ledger's last time, in milliseconds.
        """
        if self.expires is not None and at >= self.expires:
            return Verdict(False, "expires", f"it expired at {format_time(self.expires)}")
        if self.classification > sink.clearance:
            return Verdict(
                False,
                "classification",
                f"it is {self.classification.name} and {sink.name} is cleared for {sink.clearance.name}",
            )
        if self.regions is not None and not (sink.regions and sink.regions <= self.regions):
            return Verdict(
                False,
                "regions",
                f"it must stay in {_list(self.regions)} and {sink.name} is in {_list(sink.regions)}",
            )
        if sink.purposes is not None and sink.purpose not in sink.purposes:
            return Verdict(False, "purposes", f"{sink.name} serves {_list(sink.purposes)} and not {sink.purpose}")
        if self.purposes is not None and (sink.purpose is None or sink.purpose not in self.purposes):
            return Verdict(
                False, "purposes", f"it is for {_list(self.purposes)} and {sink.name} has purpose {sink.purpose}"
            )
        if sink.needs_trust > self.trust:
            return Verdict(False, "trust", f"it is {self.trust.name} and {sink.name} needs {sink.needs_trust.name}")
        if not sink.processor:
            unmet = [c for c in self.readers if EVERYONE not in c and c.isdisjoint(sink.principals)]
            if unmet:
                return Verdict(False, "readers", f"{sink.name} is none of {_list(min(unmet, key=sorted))}")
        return _YES


def join_all(labels: Iterable[Label]) -> Label:
    """The join of at least one label."""
    found = list(labels)
    if not found:
        raise LabelError("There is nothing to join, so there is no label, so it is refused.")
    return reduce(Label.join, found)


def _both(a: frozenset[str] | None, b: frozenset[str] | None) -> frozenset[str] | None:
    if a is None or b is None:
        return b if a is None else a
    return a & b


def _earlier(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return b if a is None else a
    return min(a, b)


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nowhere"


# -- times ----------------------------------------------------------------------------------------
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_FIRST, _LAST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MS, (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MS


def parse_time(value: object) -> int:
    """Milliseconds from an integer, a datetime, a date or RFC 3339 text. A time without a zone is UTC.

    Exact: what is finer than a millisecond is cut off, so nothing lasts longer than was written.
    """
    bad = LabelError(f"{value!r} is not a time.", todo="Write it as 2027-01-31T00:00:00Z.")
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise bad from None
    if isinstance(value, date) and not isinstance(value, datetime):  # a TOML date
        value = datetime.combine(value, time())
    if isinstance(value, datetime):
        value = ((value if value.tzinfo else value.replace(tzinfo=UTC)) - _EPOCH) // _MS
    if isinstance(value, int) and not isinstance(value, bool) and _FIRST <= value <= _LAST:
        return value
    raise bad


def format_time(ms: int) -> str:
    """RFC 3339, UTC, with milliseconds."""
    return (_EPOCH + ms * _MS).isoformat(timespec="milliseconds").replace("+00:00", "Z")
