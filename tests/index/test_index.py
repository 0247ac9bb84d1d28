"""The index over the real ledger, lake and policy: rows are whole, work is not repeated, generations do not mix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drystone.errors import ModelUnavailable, UsageError
from drystone.index import Index, generations
from drystone.lake import Lake, Rows
from drystone.ledger import Ledger
from drystone.policy import Policy
from drystone.records import Actor, Asset, Batch, Block, Classification, Document, Label, Parsed
from drystone.settings import Settings, defaults
from drystone.testing import HashEmbedder

PEOPLE = '[[users]]\nname = "olga"\ngroups = ["owners"]\nclearance = "internal"\n'
OLGA = Actor("olga", frozenset({"user:olga", "everyone"}), Classification.internal, "local", None, "asserted by olga")


@dataclass
class House:
    folder: Path
    settings: Settings
    ledger: Ledger
    lake: Lake
    policy: Policy
    number: int = 0

    def index(self, embedder: Any = None, **embedding: Any) -> Index:
        configured = Settings(self.folder, self.settings.values, self.settings.origins, embedding=embedding)
        return Index(
            lake=self.lake,
            ledger=self.ledger,
            policy=self.policy,
            settings=configured,
            embedder=embedder or HashEmbedder(),
        )

    def document(self, name: str, text: str, label: Label | None = None, title: str = "") -> Document:
        digest = self.ledger.digest("b", text)
        asset = Asset(name, "docs", digest, len(text), "text/plain", title, digest)
        return Document(
            name=name,
            source="docs",
            version=self.ledger.digest("v", name, text),
            asset=asset,
            parsed=parsed(text),
            label=label or PUBLIC,
            label_origin="rule 1",
            transform="t:text",
            made_by="r:test",
        )

    def bring(self, index: Index, *documents: Document, commit: bool = True) -> tuple[Rows, int]:
        self.number += 1
        with self.ledger.run("ingest", actor=OLGA) as run:
            rows, embedded = index.rows(documents, Batch(key=f"batch {self.number}", source="docs"), run)
            if commit:
                self.lake.commit(rows, run)
            run.close()
        return rows, embedded

    def build(self, index: Index) -> Any:
        with self.ledger.run("generation", actor=OLGA) as run:
            pointer = index.build_generation(run)
            run.close()
        return pointer


PUBLIC = Label.parse({"readers": ["everyone"], "classification": "public"})
SECRET = Label.parse({"readers": ["group:hr"], "classification": "restricted"})
RESEARCH = Label.parse({"readers": ["everyone"], "classification": "public", "purposes": ["research"]})
ELSEWHERE = Label.parse({"readers": ["everyone"], "classification": "public", "regions": ["mars"]})
EXPIRED = Label.parse({"readers": ["everyone"], "classification": "public", "expires": "2020-01-01T00:00:00Z"})


def parsed(text: str) -> Parsed:
    """``# Heading`` lines are headings."""
    out, blocks = "", []
    for part in text.split("\n\n"):
        heading = part.startswith("# ")
        part = part.removeprefix("# ")
        blocks.append(Block("heading" if heading else "paragraph", len(out), len(out) + len(part), int(heading)))
        out += part + "\n\n"
    return Parsed(out, tuple(blocks))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    (tmp_path / "users.toml").write_text(PEOPLE)
    configured = defaults(tmp_path)
    ledger = Ledger.open(tmp_path / "state", project="shop", settings=configured)
    lake = Lake(tmp_path / "state", ledger=ledger, settings=configured)
    yield House(tmp_path, configured, ledger, lake, Policy.open(tmp_path, settings=configured))
    lake.close()
    ledger.close()


def texts(*numbers: int) -> str:
    return "# Stoves\n\n" + "\n\n".join(f"Stove {n} burns wood. " * 30 for n in numbers)


def everything(house: House, generation: str) -> tuple[list[int], list[int], np.ndarray]:
    with house.lake.reader() as reader:
        numbers, vectors = reader.vectors(generation)
        return reader.chunk_rows().chunk.tolist(), numbers.tolist(), vectors


def test_rows_hold_every_chunk_and_the_postings_its_words(house: House) -> None:
    index = house.index()
    one, two, none = (
        house.document("docs:a", texts(1, 2, 3)),
        house.document("docs:b", "Tents."),
        house.document("docs:c", ""),
    )
    rows, embedded = house.bring(index, one, two, none)
    assert rows.chunk_count == (3, 1, 0) and embedded == 4
    with house.lake.reader() as reader:
        kept = reader.chunk_rows()
        found = reader.chunks(kept.chunk.tolist())
        assert [f.version for f in found] == [*[rows.version_numbers[0]] * 3, rows.version_numbers[1]]
        assert all(f.text == one.parsed.text[f.start : f.end] != "" for f in found[:3])
        assert {f.heading for f in found[:3]} == {("Stoves",)} and len({f.id for f in found}) == 4
        assert all(f.id.startswith("c:") and f.tokens for f in found)
        (segment,) = reader.postings()
        by_term = {
            int(term): dict(zip(segment.chunks[a:b].tolist(), segment.counts[a:b].tolist(), strict=True))
            for term, a, b in zip(segment.terms, segment.offsets, segment.offsets[1:], strict=False)
        }
        (tents,), (stoves,) = index.terms("tent").tolist(), index.terms("stove").tolist()
        assert list(by_term[tents].values()) == [1]
        assert list(by_term[stoves].values()) == [31, 31, 31]  # 30 in the text, one in the heading
        assert {int(t) for t in segment.terms} >= set(index.terms("burning wood").tolist())


def test_what_was_embedded_is_not_embedded_again(house: House) -> None:
    embedder = HashEmbedder()
    index = house.index(embedder)
    assert house.bring(index, house.document("docs:a", texts(1, 2, 3)))[1] == 3
    assert house.bring(index, house.document("docs:a", texts(1, 2, 4)))[1] == 1  # one paragraph changed
    assert house.bring(index, house.document("docs:renamed", texts(1, 2, 4)))[1] == 0
    assert house.bring(index, house.document("docs:x", texts(7)), house.document("docs:y", texts(7)))[1] == 1
    assert embedder.embedded == 5
    chunks, numbers, vectors = everything(house, index.generation)
    assert chunks == numbers and len(chunks) == 11
    with house.lake.reader() as reader:
        for found, vector in zip(reader.chunks(chunks), vectors, strict=True):
            assert np.allclose(HashEmbedder().embed([found.text])[0], vector, atol=1e-6)


@pytest.mark.parametrize("label", [SECRET, RESEARCH, PUBLIC])
def test_an_embedder_in_this_process_is_cleared_for_the_region(house: House, label: Label) -> None:
    assert house.bring(house.index(), house.document("docs:a", texts(1), label))[1] == 1


@pytest.mark.parametrize("label", [ELSEWHERE, EXPIRED])
def test_what_may_not_flow_to_the_embedder_keeps_its_rows(house: House, label: Label) -> None:
    embedder = HashEmbedder()
    index = house.index(embedder)
    rows, embedded = house.bring(
        index, house.document("docs:a", texts(1, 2), label), house.document("docs:b", texts(3))
    )
    assert (embedded, embedder.embedded) == (1, 1) and rows.chunk_count == (2, 1)
    chunks, numbers, _ = everything(house, index.generation)
    assert len(chunks) == 3 and len(numbers) == 1
    with house.lake.reader() as reader:
        assert len(reader.postings()) == 1 and len(reader.postings()[0].terms) > 3


def test_a_configured_embedder_that_says_nothing_gets_public_texts_only(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    from drystone import plugins

    made = HashEmbedder()
    monkeypatch.setattr(plugins, "load", lambda kind, name: lambda options, *, settings: made)

    def index(**embedding: Any) -> Index:
        configured = Settings(house.folder, house.settings.values, house.settings.origins, embedding=embedding)
        return Index(lake=house.lake, ledger=house.ledger, policy=house.policy, settings=configured)

    documents = [house.document("docs:a", texts(1), SECRET), house.document("docs:b", texts(2), RESEARCH)]
    eu = Label.parse({"readers": ["everyone"], "classification": "public", "regions": ["eu"]})
    documents.append(house.document("docs:c", texts(3), eu))
    assert house.bring(index(type="openai"), *documents, commit=False)[1] == 1
    assert house.bring(index(type="openai", clearance="restricted"), *documents, commit=False)[1] == 2
    assert house.bring(index(type="openai", clearance="restricted", regions=["eu"]), *documents, commit=False)[1] == 3
    assert house.bring(index(type="openai", purposes=["general"]), *documents, commit=False)[1] == 0
    assert house.bring(index(type="openai", purposes=["research"]), *documents, commit=False)[1] == 1
    assert index(type="openai").permits(PUBLIC) and not index(type="openai").permits(SECRET)


def test_languages_it_was_not_measured_on_are_searched_by_words(house: House) -> None:
    index = house.index()
    hindi, english = "सामान 45 दिनों के भीतर लौटाया जा सकता है। " * 5, "The goods can be returned within 45 days. " * 5
    rows, embedded = house.bring(index, house.document("docs:hi", hindi), house.document("docs:en", english))
    assert embedded == 1 and rows.chunk_count == (1, 1)
    with house.lake.reader() as reader:
        assert [c.language for c in reader.chunks(reader.chunk_rows().chunk.tolist())] == ["hi", "en"]
        terms = reader.postings()[0].terms
        assert np.isin(index.terms("लौटाया"), terms).all()
    assert not index.measured("hi") and index.measured("en") and index.measured("und")


def test_a_new_model_builds_beside_the_old_and_switches_once(house: House) -> None:
    old, new = house.index(HashEmbedder(8)), house.index(HashEmbedder(16))
    house.bring(old, house.document("docs:a", texts(1, 2, 3)))
    house.bring(old, house.document("docs:a", texts(1, 2, 4)))  # an older version can still be looked back at
    house.bring(old, house.document("docs:b", "Zelte. " * 10, ELSEWHERE))
    assert new.stale and not old.stale
    before = house.ledger.catalog.pointer()
    pointer = house.build(new)
    assert pointer.generation == new.generation and old.stale and not new.stale
    chunks, numbers, vectors = everything(house, new.generation)
    assert vectors.shape == (6, 16) and numbers == chunks[:6]
    with house.lake.reader(before) as reader:  # who still reads at the old pointer meets the old generation alone
        assert reader.pointer.generation == old.generation and len(reader.vectors(new.generation)[0]) == 0
        assert len(reader.vectors(old.generation)[0]) == 6
    assert house.build(new) == pointer  # again is nothing
    house.bring(new, house.document("docs:c", texts(9)))
    with house.ledger.run("generation", actor=OLGA) as run:  # the way back embeds only what came since
        pointer = old.switch_back(run)
        run.close()
    assert pointer.generation == old.generation
    assert len(everything(house, old.generation)[1]) == 7


def test_there_is_no_way_back_to_what_never_was(house: House) -> None:
    old = house.index(HashEmbedder(8))
    house.bring(old, house.document("docs:a", texts(1)))
    for index in (old, house.index(HashEmbedder(16))):
        with house.ledger.run("generation", actor=OLGA) as run, pytest.raises(UsageError):
            index.switch_back(run)


def test_ingestion_after_a_change_of_model_never_mixes(house: House) -> None:
    house.bring(house.index(HashEmbedder(8)), house.document("docs:a", texts(1, 2)))
    new = house.index(HashEmbedder(16))
    _, embedded = house.bring(new, house.document("docs:b", texts(3)))
    assert house.ledger.catalog.pointer().generation == new.generation
    chunks, numbers, vectors = everything(house, new.generation)
    assert chunks == numbers and vectors.shape == (3, 16)


class Dying(HashEmbedder):
    """Gives out after so many calls."""

    def __init__(self, dimensions: int, calls: int) -> None:
        super().__init__(dimensions)
        self.left = calls

    def embed(self, texts: Sequence[str]) -> Any:
        if self.left == 0:
            raise ModelUnavailable("The embedder died.")
        self.left -= 1
        return super().embed(texts)


def test_a_build_that_died_goes_on_where_it_stopped(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "PART", 3)
    old = house.index(HashEmbedder(8))
    house.bring(old, house.document("docs:a", texts(*range(10))))
    with pytest.raises(ModelUnavailable):
        house.build(house.index(Dying(16, calls=2)))
    assert house.ledger.catalog.pointer().generation == old.generation
    again = HashEmbedder(16)
    house.build(house.index(again))
    assert again.embedded == 10 - 6
    chunks, numbers, vectors = everything(house, house.index(again).generation)
    with house.lake.reader() as reader:
        expected = HashEmbedder(16).embed([c.text for c in reader.chunks(chunks)])
    assert chunks == numbers and np.allclose(vectors, expected, atol=1e-6)


def test_what_is_ingested_while_a_generation_is_built_is_in_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "PART", 3)
    old = house.index(HashEmbedder(8))
    house.bring(old, house.document("docs:a", texts(*range(7))))

    class Meanwhile(HashEmbedder):
        def embed(self, texts_: Sequence[str]) -> Any:
            if self.calls < 3:
                house.bring(old, house.document(f"docs:{self.calls}", texts(100 + self.calls)))
            return super().embed(texts_)

    new = house.index(Meanwhile(16))
    house.build(new)
    chunks, numbers, _ = everything(house, new.generation)
    assert len(chunks) == 10 and chunks == numbers


def test_an_embedder_that_returns_too_little_is_an_error(house: House) -> None:
    class Short(HashEmbedder):
        def embed(self, texts: Sequence[str]) -> Any:
            return super().embed(texts)[:-1]

    before = house.ledger.catalog.pointer()
    with pytest.raises(ModelUnavailable, match="another shape"):
        house.bring(house.index(Short()), house.document("docs:a", texts(1, 2)))
    assert house.ledger.catalog.pointer() == before


@given(st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=5), min_size=1, max_size=6))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_vectors_are_those_of_their_texts_after_any_series_of_versions(
    tmp_path_factory: pytest.TempPathFactory, series: list[list[int]]
) -> None:
    folder = tmp_path_factory.mktemp("series")
    (folder / "users.toml").write_text(PEOPLE)
    configured = defaults(folder)
    ledger = Ledger.open(folder / "state", project="shop", settings=configured)
    lake = Lake(folder / "state", ledger=ledger, settings=configured)
    house = House(folder, configured, ledger, lake, Policy.open(folder, settings=configured))
    embedder = HashEmbedder()
    index = house.index(embedder)
    for numbers in series:
        house.bring(index, house.document("docs:a", texts(*numbers)))
    chunks, kept, vectors = everything(house, index.generation)
    with lake.reader() as reader:
        found = [c.text for c in reader.chunks(chunks)]
    assert chunks == kept and len(chunks) == sum(len(numbers) for numbers in series)
    assert np.allclose(vectors, HashEmbedder().embed(found), atol=1e-6)
    assert embedder.embedded == len(set(found))
    lake.close()
    ledger.close()
