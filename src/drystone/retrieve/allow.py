"""Who may see which row: the mask that every search starts from, before anything is compared.

Guarantees: deny by default. A version without a document, a document without a label, a label that was never
evaluated, an expired document, a source out of scope or not synchronised in time: none of them has rows.
A label is taken apart into pieces whose join it is, and ``Label.flows_to`` decides on each distinct piece;
by the law ``join(a, b).flows_to(s) == a.flows_to(s) and b.flows_to(s)`` that is its decision on the whole.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from drystone.records import EVERYONE, Classification, Label, Sink, Trust

if TYPE_CHECKING:
    from drystone.ledger.view import View

NEVER = 2**63 - 1
PARTS = ("", "expires", "classification", "regions", "purposes", "trust", "readers", "unlabelled", "stale", "source")
_CODE = {part: code for code, part in enumerate(PARTS)}
_SINKS = 64  # actors whose decisions are kept; each costs one byte a label
_ANYONE = frozenset({frozenset({EVERYONE})})


@dataclass(frozen=True, slots=True)
class Allowed:
    """``versions``: one bool a version. ``in_scope`` and ``readable`` count visible documents; ``withheld``
    counts the others by the part of the label that decided. ``until``: when time alone may change this (ms)."""

    versions: NDArray[np.bool_]
    in_scope: int
    readable: int
    withheld: Mapping[str, int]
    until: int

    def rows(self, row_version: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Gather to rows. A row of a version that the catalogue does not know is invisible."""
        if not len(row_version):
            return np.zeros(0, bool)
        if not len(self.versions):
            return np.zeros(len(row_version), bool)
        if int(row_version.max()) < len(self.versions) and int(row_version.min()) >= 0:
            return self.versions[row_version]
        known = (row_version >= 0) & (row_version < len(self.versions))
        return known & self.versions[np.where(known, row_version, 0)]


class Decisions:
    """``Label.flows_to`` for many labels at once: every distinct piece once per sink, new labels only.

    ``extend`` takes the catalogue's list of labels, of which an earlier part never changes.
    """

    def __init__(self) -> None:
        self._labels: list[Label] = []
        self._rests: dict[tuple[object, ...], int] = {}
        self._rest_labels: list[Label] = []
        self._clauses: dict[frozenset[str], int] = {}
        self._of_principal: dict[str, list[int]] = {}
        self._rest: list[int] = []
        self._flat: list[int] = []
        self._start: list[int] = []
        self._expires: list[int] = []
        self._arrays: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]] | None = None
        self._known: OrderedDict[Sink, NDArray[np.int8]] = OrderedDict()

    def extend(self, labels: Sequence[Label]) -> None:
        have = len(self._labels)
        if len(labels) < have or (have and labels[have - 1] != self._labels[-1]):
            self.__init__()  # type: ignore[misc]  # another catalogue: start again
            have = 0
        for label in labels[have:]:
            key = (label.classification, label.regions, label.purposes, label.trust)
            rest = self._rests.get(key)
            if rest is None:
                rest = self._rests[key] = len(self._rest_labels)
                self._rest_labels.append(Label(_ANYONE, *key[:3], None, label.trust))
            self._start.append(len(self._flat))
            for clause in label.readers:
                number = self._clauses.get(clause)
                if number is None:
                    number = self._clauses[clause] = len(self._clauses)
                    for name in clause:
                        self._of_principal.setdefault(name, []).append(number)
                self._flat.append(number)
            self._rest.append(rest)
            self._expires.append(NEVER if label.expires is None else label.expires)
            self._labels.append(label)
        if len(labels) > have:
            self._arrays = None

    def codes(self, sink: Sink) -> NDArray[np.int8]:
        """For each label 0, or the index in ``PARTS`` of the part that says no. Expiry is not looked at."""
        count = len(self._labels)
        found = self._known.pop(sink, None)
        if found is None or len(found) < count:
            found = self._evaluate(sink, count)
        self._known[sink] = found
        if len(self._known) > _SINKS:
            self._known.popitem(last=False)
        return found

    def expires(self) -> NDArray[np.int64]:
        return self._tables()[2]

    def _tables(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
        if self._arrays is None:
            self._arrays = (
                np.array(self._rest, np.int32),
                np.array(self._flat, np.int32),
                np.array(self._expires, np.int64),
            )
        return self._arrays

    def _evaluate(self, sink: Sink, count: int) -> NDArray[np.int8]:
        rest, flat, _ = self._tables()
        rest_code = np.array([_CODE[label.flows_to(sink, 0).part] for label in self._rest_labels], np.int8)
        holds = np.zeros(len(self._clauses), bool)
        clauses = list(self._clauses)
        maybe = {n for name in (*sink.principals, EVERYONE) for n in self._of_principal.get(name, ())}
        for number in maybe:  # a clause with none of the sink's principals stays false
            piece = Label(frozenset({clauses[number]}), Classification.public, trust=Trust.trusted)
            holds[number] = bool(piece.flows_to(sink, 0))
        if not count:
            return np.zeros(0, np.int8)
        every = np.logical_and.reduceat(holds[flat], np.array(self._start, np.int64))
        codes = rest_code[rest]
        return np.where((codes == 0) & ~every, np.int8(_CODE["readers"]), codes)


@dataclass(frozen=True, slots=True)
class Documents:
    """One decision a document: ``code`` 0 is readable, else the index in ``PARTS`` of what says no."""

    code: NDArray[np.int8]
    in_scope: NDArray[np.bool_]
    expires: NDArray[np.int64]

    def without(self, gone: Collection[int]) -> Documents:
        """As if these documents were not permitted: their own source says no, asked just now."""
        if not gone:
            return self
        code = self.code.copy()
        numbers = np.fromiter(gone, np.int64)
        code[numbers[numbers < len(code)]] = _CODE["source"]
        return replace(self, code=code)

    def under(self, later: Documents) -> Documents:
        """What both allow: the labels of then, released under those of now. Numbers of documents are shared."""
        n = min(len(self.code), len(later.code))
        code = np.where(self.code[:n] != 0, self.code[:n], later.code[:n])
        return Documents(code, self.in_scope[:n] & later.in_scope[:n], np.minimum(self.expires[:n], later.expires[:n]))


def documents(
    view: View, codes: NDArray[np.int8], label_expires: NDArray[np.int64], *, at: int,
    sources: Collection[str] | None, stale: Iterable[str] = (),
) -> Documents:  # fmt: skip
    """Decide on every document for one sink (``codes``, by label) at the time ``at`` (ms).

    ``sources``: names in scope, ``None`` for all. ``stale``: names whose permissions are too old to be believed.
    """
    names, late = list(view.sources), set(stale)
    label, source = view.document_label, view.document_source
    has_label = (label >= 0) & (label < len(codes))
    code = np.full(len(label), _CODE["unlabelled"], np.int8)
    code[has_label] = codes[label[has_label]]
    expires = np.array(view.document_expires, np.int64)
    expires[has_label] = np.minimum(expires[has_label], label_expires[label[has_label]])
    code[has_label & (expires <= at)] = _CODE["expires"]
    has_source = (source >= 0) & (source < len(names))
    in_scope, fresh = np.zeros(len(label), bool), np.zeros(len(label), bool)
    in_scope[has_source] = np.array([sources is None or n in sources for n in names], bool)[source[has_source]]
    fresh[has_source] = np.array([n not in late for n in names], bool)[source[has_source]]
    code[(code == 0) & ~fresh] = _CODE["stale"]
    return Documents(code, in_scope, expires)


def allowed(view: View, decided: Documents) -> Allowed:
    """The mask of versions at ``view.commit``."""
    document, count = view.version_document, len(decided.code)
    shown = (view.version_from <= view.commit) & (view.commit < view.version_to) & (document >= 0) & (document < count)
    numbers = np.flatnonzero(shown)
    numbers = numbers[decided.in_scope[document[numbers]]]
    code = decided.code[document[numbers]]
    versions = np.zeros(len(document), bool)
    versions[numbers[code == 0]] = True
    counted = np.bincount(code, minlength=len(PARTS))
    until = decided.expires[document[numbers[code == 0]]]
    return Allowed(
        versions=versions,
        in_scope=len(numbers),
        readable=int(counted[0]),
        withheld={part: int(counted[n]) for n, part in enumerate(PARTS) if n and counted[n]},
        until=int(until.min()) if len(until) else NEVER,
    )
