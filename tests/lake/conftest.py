"""A lake over a real ledger, and rows to commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drystone.lake import Lake
from drystone.ledger import Ledger
from drystone.settings import defaults
from tests.lake.making import ACTOR


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Lake]]:
    """``opened(**settings)``: a lake over the same state folder, as another process would open it."""
    made: list[Lake] = []

    def build(**overrides: Any) -> Lake:
        settings = defaults(tmp_path, **overrides)
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
