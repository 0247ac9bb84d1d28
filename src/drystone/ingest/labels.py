"""Labels at the door: what rules, label files, columns and the source's own permissions say, put together.

Guarantees: parts that several of them name are joined, so each can only tighten what another says; a part that none
names comes from the source's table in ``drystone.toml``; without readers and a classification there is no label, and
the document is refused with where we looked. With ``permissions = "source"`` the source itself must name readers.
Of the rules the first that matches counts. ``retention`` runs from the first time the ledger saw the document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from drystone.errors import LabelError, SettingsError, Unlabelled
from drystone.ingest.globs import matcher
from drystone.records import Classification, Item, Label, Trust, join_all, parse_time
from drystone.records.label import EVERYONE
from drystone.settings import SourceConfig, seconds

PARTS = {"readers", "classification", "regions", "purposes", "expires", "retention", "trust"}
_LEAST: Mapping[str, Any] = {"readers": [EVERYONE], "classification": "public", "trust": "trusted"}


@dataclass(frozen=True, slots=True)
class Parts:
    """Some parts of a label: the label with the weakest value for what is not ``named``."""

    label: Label
    named: frozenset[str]
    retention: int | None = None  # milliseconds

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Parts:
        """Raises ``LabelError``. A part that is ``None`` is not named; an empty list of readers is an error."""
        named = {name: value for name, value in raw.items() if value is not None}
        if unknown := set(named) - PARTS:
            raise LabelError(
                f"A label has no part {', '.join(repr(u) for u in sorted(unknown))}.",
                todo=f"It may have: {', '.join(sorted(PARTS))}.",
            )
        retention = named.pop("retention", None)
        if "expires" in named:
            named["expires"] = parse_time(named["expires"])
        label = Label.parse({**_LEAST, **named})
        try:
            age = None if retention is None else int(seconds(retention, "retention") * 1000)
        except SettingsError as error:
            raise LabelError(error.happened, todo=error.todo) from None
        return cls(label, frozenset(named), age)

    def join(self, other: Parts) -> Parts:
        ages = [age for age in (self.retention, other.retention) if age is not None]
        return Parts(self.label.join(other.label), self.named | other.named, min(ages, default=None))

    def filled(self, other: Parts) -> Parts:
        """With the parts of ``other`` that are missing here."""
        lacks = other.named - self.named
        mine, theirs = self.label, other.label
        return Parts(
            Label(
                readers=theirs.readers if "readers" in lacks else mine.readers,
                classification=theirs.classification if "classification" in lacks else mine.classification,
                regions=theirs.regions if "regions" in lacks else mine.regions,
                purposes=theirs.purposes if "purposes" in lacks else mine.purposes,
                expires=theirs.expires if "expires" in lacks else mine.expires,
                trust=theirs.trust if "trust" in lacks else mine.trust,
            ),
            self.named | other.named,
            other.retention if self.retention is None else self.retention,
        )


class Door:
    """Gives each item of one source its label, or says why it has none. Answers are remembered by what they rest on."""

    def __init__(self, config: SourceConfig) -> None:
        self._config = config
        self._rules = [(matcher(rule["match"]), self._rule(n, rule)) for n, rule in enumerate(config.rules, 1)]
        try:
            self._fill = Parts.parse(config.fill)
        except LabelError as error:
            raise SettingsError(f"The source {config.name!r}: {error}") from None
        self._known: dict[tuple[int, str], tuple[Parts, str]] = {}

    def _rule(self, number: int, rule: Mapping[str, Any]) -> Parts:
        try:
            return Parts.parse({name: value for name, value in rule.items() if name != "match"})
        except LabelError as error:
            raise SettingsError(
                f"Label rule {number} ({rule['match']!r}) of the source {self._config.name!r}: {error.happened}",
                todo=error.todo,
            ) from None

    def label(self, item: Item, first_seen: int) -> tuple[Label, str, bool]:
        """The label, where it came from, and whether it ages. Raises ``Unlabelled``."""
        rule = next((n for n, (pattern, _) in enumerate(self._rules) if pattern.match(item.id)), -1)
        if item.permissions is None and item.beside is None:
            key = (rule, "")
        else:
            key = (rule, f"{item.permissions!r}{item.beside!r}" + (item.id if item.beside else ""))
        found = self._known.get(key)
        if found is None:
            found = self._put_together(item, rule)  # a refusal names the item, so it is not remembered for others
            if len(self._known) > 100_000:  # rows may all differ
                self._known.clear()
            self._known[key] = found
        parts, origin = found
        if parts.retention is None:
            return parts.label, origin, False
        end = first_seen + parts.retention
        return join_all((parts.label, _until(parts.label, end))), origin, True

    def _put_together(self, item: Item, rule: int) -> tuple[Parts, str]:
        config, found = self._config, []
        own = f"{'columns' if config.type == 'rows' else 'permissions'} of source {config.name}"
        said = [(item.permissions, own)] if item.permissions is not None or config.type == "rows" else []
        looked = []
        for raw, origin in (*said, (item.beside, f'sidecar "{item.id}.label.toml"')):
            if raw is None:
                looked.append(f"{origin} (there is none)")
                continue
            try:
                parts = Parts.parse(raw)
            except LabelError as error:
                raise Unlabelled(f"Its label cannot be used: {error.happened}", looked=f"{origin}.") from None
            if raw is item.beside and parts.label.trust is Trust.trusted:  # whoever writes it vouches for themselves
                parts = replace(parts, named=parts.named - {"trust"})
            if parts.named or parts.retention:
                found.append((parts, origin))
        if config.permissions == "source" and not (item.permissions or {}).get("readers"):
            raise Unlabelled(
                "The source does not say who may read it.",
                looked=f'The source {config.name} has permissions = "source"; rules may only tighten what it says.',
            )
        if rule >= 0:
            pattern = config.rules[rule]["match"]
            found.append((self._rules[rule][1], f'rule {rule + 1} "{pattern}" of source {config.name}'))
        else:
            looked.append(f"{len(self._rules)} rules of source {config.name} (none matches)")
        parts = found[0][0] if found else Parts(Label.parse(_LEAST), frozenset())
        for more, _ in found[1:]:
            parts = parts.join(more)
        used = [origin for _, origin in found]
        if self._fill.named - parts.named or (self._fill.retention and not parts.retention):
            used.append(f"source {config.name}")
        full = parts.filled(self._fill)
        needed = {"readers": "readers", "classification": "a classification"}
        missing = [words for name, words in needed.items() if name not in full.named]
        if missing:
            raise Unlabelled(
                f"Nothing gives it {' and '.join(missing)}.",
                looked=f"We looked at {', '.join(used + looked) or 'nothing'}.",
                todo="Add a [[sources.labels]] rule that matches it.",
            )
        if "trust" not in full.named:
            full = full.filled(Parts(Label.parse({**_LEAST, "trust": Trust.untrusted}), frozenset({"trust"})))
        return full, " and ".join(used)


def _until(label: Label, end: int) -> Label:
    """The weakest label that expires at ``end``."""
    return Label(frozenset({frozenset({EVERYONE})}), Classification.public, None, None, end, Trust.trusted)
