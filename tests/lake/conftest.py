"""A lake over a real ledger, in a folder or in a bucket, and rows to commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from drystone.lake import Lake
from drystone.ledger import Ledger
from drystone.settings import Settings
from tests.lake.making import ACTOR, place, settings
from tests.lake.store import KEYS, Store, serving

KINDS = ["folder", pytest.param("bucket", marks=pytest.mark.engines)]


@pytest.fixture(scope="session")
def served() -> Iterator[Store]:
    with serving() as store:
        yield store


@pytest.fixture
def store(served: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An S3 store with nothing broken, and the keys to it in the environment."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    served.heal()
    served.log()
    yield served
    served.heal()


@pytest.fixture
def configured(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Settings]:
    """``configured(**settings)``: in a folder, or in a bucket where the test is parametrised with ``kind``."""
    if getattr(request, "param", "folder") == "bucket":
        store: Store = request.getfixturevalue("store")
        place(tmp_path, f"s3://{store.bucket()}/a/b", store.settings())
    return partial(settings, tmp_path)


@pytest.fixture
def opened(tmp_path: Path, configured: Callable[..., Settings]) -> Iterator[Callable[..., Lake]]:
    """``opened(**settings)``: a lake over the same state folder, as another process would open it."""
    made: list[Lake] = []

    def build(**overrides: Any) -> Lake:
        settings = configured(**overrides)
        ledger = Ledger.open(tmp_path / "state", project="shop", settings=settings)
        made.append(Lake(tmp_path / "state", ledger=ledger, settings=settings))
        return made[-1]

    yield build
    for lake in made:
        lake.close()
        lake.ledger.close()


@pytest.fixture
def lake(opened: Callable[..., Lake]) -> Lake:
    return opened()


@pytest.fixture
def run(lake: Lake) -> Iterator[Any]:
    with lake.ledger.run("ingest", actor=ACTOR) as run:
        yield run
        run.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of a module with ``BOTH_KINDS`` run over both kinds of storage, but those that ``FOLDER`` names."""
    both = getattr(metafunc.module, "BOTH_KINDS", False) and metafunc.function.__name__ not in metafunc.module.FOLDER
    if both and "configured" in metafunc.fixturenames:
        metafunc.parametrize("configured", KINDS, indirect=True)
