"""``Retriever``: one question, the rows its asker may see, the best of them, and the sentences that answer it.

Guarantees: deny by default; permission is the first thing computed and everything after it, statistics included,
sees permitted rows alone. What is past is computed with the labels of then and released under those of now. Before
hits are returned they are looked at once more under the newest pointer.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from drystone.errors import Refused, UsageError
from drystone.index.sentences import sentences
from drystone.records import Actor, Evidence, Hit, Hits, Request, Sink
from drystone.retrieve import allow, evidence, fuse
from drystone.retrieve.corpus import Corpus
from drystone.retrieve.words import Scored

if TYPE_CHECKING:
    from drystone.index import Index
    from drystone.lake import Lake
    from drystone.lake import Reader as LakeReader
    from drystone.ledger import Ledger
    from drystone.ledger.change import Pointer
    from drystone.ledger.runs import Run
    from drystone.ledger.view import View
    from drystone.policy import Policy
    from drystone.ports import Look
    from drystone.settings import Settings

MASKS = 16  # masks kept; each costs a byte and a bit a passage
LONG = 60  # words from which a request is taken apart
PARTS = 32  # most parts of a long request
LOOKS = 8  # times that a search starts again because a source's own permissions have changed
_PART_TERMS = 3  # a sentence with fewer terms is no part


@dataclass(frozen=True, slots=True)
class Mask:
    """Permitted rows of one corpus for one sink at one commit."""

    allowed: allow.Allowed
    rows: NDArray[np.bool_]
    packed: NDArray[np.uint8]
    count: int
    tokens: int
    unembedded: int


class Retriever:
    """Thread-safe. Holds the searched rows in memory: 4 bytes a dimension and passage, and 1.5 for the codes."""

    def __init__(
        self, *, ledger: Ledger, lake: Lake, index: Index, policy: Policy, settings: Settings,
        look: Look | None = None, live: Callable[[], Collection[str]] = frozenset,
    ) -> None:  # fmt: skip
        """``look`` asks the sources named by ``live`` who may read a document now; otherwise their last word counts."""
        self._look, self._live = look, live
        self._sources = frozenset(s.name for s in settings.sources)  # one that is not configured any more has no hits
        self._ledger, self._lake, self._index, self._policy = ledger, lake, index, policy
        self._settings = settings
        self._lock = threading.RLock()
        self._corpus = Corpus.empty(None)
        self._adopted: tuple[int, tuple[tuple[str, int], ...], str | None] | None = None
        self._decisions = allow.Decisions()
        self._masks: OrderedDict[tuple[object, ...], Mask] = OrderedDict()
        self._synchronised: dict[str, int] = {}
        self._evidence = evidence.Reader(
            embed=lambda texts: index.embedder.embed(texts), terms=index.terms, sentences=sentences
        )

    # -- the two verbs ------------------------------------------------------------------------------
    def refresh(self) -> int:
        """Adopt the newest pointer; returns its commit. Costs microseconds when nothing changed."""
        if self._adopted != _state(self._ledger.catalog.pointer()):
            with self._lake.reader() as reader:
                self._adopt(reader)
        adopted = self._adopted
        assert adopted is not None
        return adopted[0]

    def search(
        self, request: Request, actor: Actor, run: Run, *, as_of: int | None = None, rights_at: int | None = None
    ) -> Hits:
        """The permitted hits of a request, best first; with evidence and its confidence unless the run only searches.

        ``as_of``: a past commit. ``rights_at``: compute with the labels of that commit at that time alone, for a
        replay, which shows nothing of it before it has looked at the rights of now. Notes ``search`` (see
        ARCHITECTURE). Raises ``Refused`` without an actor.
        """
        if not isinstance(actor, Actor):
            raise Refused("Nobody asked, so nothing was searched.", todo="Name who asks.")
        if as_of is not None and (isinstance(as_of, bool) or not isinstance(as_of, int)):
            raise UsageError("as_of is not a commit.", todo="Give the number of a commit, such as 7.")
        sink = actor.sink(request.purpose)
        notes: list[str] = []
        with run.time("search"):
            view = self._ledger.catalog.view()  # before the reader, whose tables then hold all that it shows
            with self._lake.reader() as reader:
                corpus = self._adopt(reader)
                commit = view.commit if as_of is None else as_of
                gone: frozenset[int] = frozenset()
                for _ in range(LOOKS):
                    notes.clear()
                    mask = self._mask(corpus, view, sink, request.sources, commit, rights_at, gone)
                    corpus.require(mask.rows)
                    ranking, question, share = self._rank(request, corpus, mask, notes)
                    hits = self._hits(reader, corpus, view, ranking)
                    no = frozenset() if rights_at is not None else self._refused_now((h.document for h in hits), sink)
                    if not no:
                        break
                    refused = frozenset(self._number(corpus, view, hit) for hit in hits if hit.document in no)
                    gone |= refused
                else:  # rights fall faster than we can look: show only what stood at the last look
                    hits = tuple(hit for hit in hits if self._number(corpus, view, hit) not in gone)
            found: tuple[Evidence, ...] = ()
            sure = 0.0
            if hits and run.kind != "search":
                found, features = self._evidence.read(question, hits, ranking.cosines.tolist(), share)
                sure = evidence.confidence(features, meaning=question.vector is not None)
            kept = hits if rights_at is not None else self._again(corpus, hits, sink, request.sources)
            if len(kept) < len(hits):
                found = tuple(e for e in found if e.hit in kept)
                sure = sure if found else 0.0
            result = Hits(kept, found, ranking.exact, commit, sure, tuple(notes))
        run.note(
            "search",
            hits=result,
            generation=corpus.generation,
            embedder=self._index.embedder.digest,
            policy=self._policy.digest,
            in_scope=mask.allowed.in_scope,
            readable=mask.allowed.readable,
            withheld=dict(mask.allowed.withheld),
        )
        return result

    def permitted_versions(self, actor: Actor, purpose: str, *, as_of: int) -> list[int]:
        """Versions that were visible at a commit and that both the labels of then and those of now allow."""
        view, sink = self._ledger.catalog.view(), actor.sink(purpose)
        decided = self._documents(view, sink, None)
        if as_of != view.commit:
            current, view = decided, self._ledger.catalog.view(as_of)
            decided = self._documents(view, sink, None).under(current)
        found = np.flatnonzero(allow.allowed(view, decided).versions)
        if self._look is not None:
            live = [n for n, name in enumerate(view.sources) if name in self._live()]
            asked = found[np.isin(view.document_source[view.version_document[found]], live)].tolist()
            names = {number: state.document for number, state in self._ledger.catalog.versions(asked).items()}
            no = self._refused_now(names.values(), sink)
            found = found[~np.isin(found, [number for number, name in names.items() if name in no])]
        return [int(number) for number in found]

    def forget_permissions(self) -> None:
        """Drop every decision that was kept for speed; the next search decides anew."""
        with self._lock:
            self._decisions = allow.Decisions()
            self._masks.clear()
            self._synchronised.clear()

    def close(self) -> None:
        with self._lock:
            if self._corpus.vectors is not None:
                self._corpus.vectors.close()

    # -- rows ---------------------------------------------------------------------------------------
    def _adopt(self, reader: LakeReader) -> Corpus:
        state = _state(reader.pointer)
        with self._lock:
            if self._adopted != state and (self._adopted is None or state[0] >= self._adopted[0]):
                corpus, self._corpus, self._adopted = self._corpus, Corpus.empty(None), None
                if corpus.generation != state[2]:
                    corpus = Corpus.empty(state[2])
                self._corpus = corpus.grown(reader, int(self._settings["retrieve.threads"]))
                self._adopted = state  # not reached when growing failed: what is half-grown is not kept
            return self._corpus

    def _hits(self, reader: LakeReader, corpus: Corpus, view: View, ranking: fuse.Ranking) -> tuple[Hit, ...]:
        texts = reader.chunks(corpus.chunk[ranking.rows].tolist())
        states = self._ledger.catalog.versions(sorted({text.version for text in texts}))
        return tuple(
            Hit(
                chunk=text.id,
                document=states[text.version].document,
                version=states[text.version].ref,
                title=states[text.version].title,
                text=text.text,
                score=float(score),
                start=text.start,
                end=text.end,
                label=view.label(int(view.version_document[text.version])),
                row=text.chunk,
                heading=text.heading,
                page=text.page,
                place=text.place or "",
            )
            for text, score in zip(texts, ranking.scores, strict=True)
        )

    # -- permission ---------------------------------------------------------------------------------
    def _documents(
        self, view: View, sink: Sink, sources: Sequence[str] | None, at: int | None = None
    ) -> allow.Documents:
        at = self._ledger.now() if at is None else at
        with self._lock:
            self._decisions.extend(view.labels)
            codes, expires = self._decisions.codes(sink), self._decisions.expires()
            scope = self._sources if sources is None else self._sources & set(sources)
            return allow.documents(view, codes, expires, at=at, sources=scope, stale=self._stale(at))

    def _mask(
        self,
        corpus: Corpus,
        view: View,
        sink: Sink,
        sources: Sequence[str] | None,
        commit: int,
        rights_at: int | None = None,
        gone: frozenset[int] = frozenset(),
    ) -> Mask:
        """The rows permitted at ``commit``: by the labels of then and, if it is past, by those of now too."""
        at = self._ledger.now() if rights_at is None else rights_at
        with self._lock:
            stale = self._stale(at)
            key = (view.sequence, commit, rights_at, gone, sink, sources, stale, len(corpus), corpus.generation)
            kept = self._masks.get(key)
            if kept is not None and at < kept.allowed.until:
                self._masks.move_to_end(key)
                return kept
        if rights_at is not None:
            view = self._ledger.catalog.view(commit)
            decided = self._documents(view, sink, sources, rights_at)
        else:
            decided = self._documents(view, sink, sources)
            if commit != view.commit:
                current, view = decided, self._ledger.catalog.view(commit)
                decided = self._documents(view, sink, sources).under(current)
        permitted = allow.allowed(view, decided.without(gone))
        rows = permitted.rows(corpus.version)
        mask = Mask(
            allowed=permitted,
            rows=rows,
            packed=np.packbits(rows, bitorder="little"),
            count=int(rows.sum()),
            tokens=int(corpus.tokens[rows].sum(dtype=np.int64)),
            unembedded=int((rows & ~corpus.embedded).sum()),
        )
        with self._lock:
            self._masks[key] = mask
            while len(self._masks) > MASKS:
                self._masks.popitem(last=False)
        return mask

    def _stale(self, at: int) -> frozenset[str]:
        """Sources whose own permissions were last synchronised too long ago to be believed."""
        late, live = set(), self._live() if self._look is not None else ()
        for source in self._settings.sources:
            if source.permissions == "source" and source.name not in live:
                oldest = at - int(source.permissions_max_age_s * 1000)
                if self._synchronised.get(source.name, -1) < oldest:
                    self._synchronised[source.name] = self._ledger.catalog.synchronised(source.name)
                if self._synchronised[source.name] < oldest:
                    late.add(source.name)
        return frozenset(late)

    def _refused_now(self, documents: Iterable[str], sink: Sink) -> frozenset[str]:
        """Those that their own source, asked now, does not let the asker read."""
        names = sorted(set(documents))
        if self._look is None or not names:
            return frozenset()
        said, at = self._look(names), self._ledger.now()
        return frozenset(
            name
            for name, label in said.items()
            if (self._ledger.catalog.document(name) is not None if label is None else not label.flows_to(sink, at))
        )  # of what was removed since, which only a past commit shows, its last label decides

    @staticmethod
    def _number(corpus: Corpus, view: View, hit: Hit) -> int:
        return int(view.version_document[corpus.version[np.searchsorted(corpus.chunk, hit.row)]])

    def _again(
        self, corpus: Corpus, hits: tuple[Hit, ...], sink: Sink, sources: Sequence[str] | None
    ) -> tuple[Hit, ...]:
        """Only those whose document the newest labels still allow."""
        view = self._ledger.catalog.view()
        decided = self._documents(view, sink, sources)
        version = corpus.version[np.searchsorted(corpus.chunk, [hit.row for hit in hits])]
        document = view.version_document[version]
        return tuple(
            hit for hit, d in zip(hits, document.tolist(), strict=True) if decided.code[d] == 0 and decided.in_scope[d]
        )

    # -- ranking ------------------------------------------------------------------------------------
    def _rank(
        self, request: Request, corpus: Corpus, mask: Mask, notes: list[str]
    ) -> tuple[fuse.Ranking, evidence.Question, float]:
        text, limit = request.text, max(1, request.limit)
        parts = split(text, self._index.terms)
        meaning = mask.count > 0 and self._meaning(request, corpus, mask, notes)
        vectors = self._index.embedder.embed([text, *parts]) if meaning else None
        weight = float(self._settings["retrieve.weight_dense"])
        weight = (weight if weight >= 0 else fuse.WEIGHT) if meaning else 0.0

        def one(n: int, written: str, most: int) -> tuple[fuse.Ranking, Scored]:
            words = corpus.words.score(self._index.terms(written), mask.rows, mask.count, corpus.tokens, mask.tokens)
            query = None if vectors is None else np.ascontiguousarray(vectors[n], np.float32)
            ranking = fuse.rank(
                query, corpus.vectors, words, mask=mask.rows, packed=mask.packed, count=mask.count, limit=most,
                weight=weight,
            )  # fmt: skip
            return ranking, words

        ranking, words = one(0, text, max(limit, fuse.WHOLE) if parts else limit)
        if parts:
            others = [one(n, part, fuse.PART)[0] for n, part in enumerate(parts, 1)]
            ranking = fuse.merge(ranking, others, limit)
            notes.append(f"request:taken apart into {len(parts)} parts")
        question = evidence.Question(
            text,
            *words.coverage(self._index.terms(evidence.content(text))),
            None if vectors is None else np.asarray(vectors[0], np.float32),
        )
        return ranking, question, float(words.scores[ranking.rows].max(initial=0.0))

    def _meaning(self, request: Request, corpus: Corpus, mask: Mask, notes: list[str]) -> bool:
        """May and can this question be compared by meaning? Says in the notes why not."""
        language = self._index.language(request.text)
        if corpus.vectors is None or corpus.generation is None:
            notes.append("vectors:none, searched by words")
        elif corpus.generation != self._index.generation:
            notes.append("vectors:of another embedding model, searched by words")
        elif not self._index.measured(language):
            notes.append(f"language:{language} searched by words")
        elif not self._index.permits(request.label):
            notes.append("question:may not flow to the embedder, searched by words")
        else:
            if mask.unembedded:
                notes.append(f"passages:{mask.unembedded} have no vector, searched by words")
            return True
        return False


def split(text: str, terms: Callable[[str], NDArray[np.uint64]]) -> list[str]:
    """The parts of a long request: its sentences, neighbours put together where there are too many."""
    if len(text.split()) < LONG:
        return []
    found = [text[a:b] for a, b in sentences(text)]
    found = [part for part in found if len(np.unique(terms(part))) >= _PART_TERMS]
    if len(found) < 3:
        return []
    step = -(-len(found) // PARTS)
    return [" ".join(found[i : i + step]) for i in range(0, len(found), step)]


def _state(pointer: Pointer) -> tuple[int, tuple[tuple[str, int], ...], str | None]:
    return pointer.commit, tuple(sorted(pointer.tables.items())), pointer.generation
