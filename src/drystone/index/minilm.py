"""Sentence embeddings by onnxruntime, without torch: the built-in MiniLM, and any such folder.

Guarantees: 32-bit floats, rows of length 1; batches are sorted by length and padded only to their own longest text,
so a vector does not depend on its batch mates beyond float rounding (measured 6e-8). No text is cut: one that is
longer than the model's window is embedded window by window, and its vector is the mean of theirs, made length 1.
Importing this module loads nothing; the session opens at the first text, after the weights' digests were checked.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drystone.errors import EngineMissing, SettingsError
from drystone.models.weights import MINILM, file_digest, find, verify
from drystone.settings import Settings

WINDOW = 256  # word pieces with [CLS] and [SEP], what all-MiniLM-L6-v2 was published with
SLAB = 4096  # texts tokenized at a time: bounds memory, and is enough to sort by length


class OnnxEmbedder:
    """A folder with one ``*.onnx`` of a BERT-like encoder and its ``tokenizer.json``.

    ``[embedding]`` takes ``path`` (required), ``window`` (word pieces, 256), ``languages`` (those it was measured
    on; none said: all) and ``model`` (the name of the graph, if there are several). The graph takes ``input_ids`` and
    ``attention_mask`` (``token_type_ids`` if it must) and gives token states, which are averaged over the mask,
    or one vector a text.
    """

    local = True  # runs in this process: cleared for everything in project.region

    def __init__(self, options: Mapping[str, Any], *, settings: Settings) -> None:
        if not options.get("path"):
            raise SettingsError("[embedding] of type onnx has no path.", todo='Write path = "FOLDER".')
        folder = (settings.folder / str(options["path"])).expanduser()
        graphs = [folder / options["model"]] if "model" in options else sorted(folder.glob("*.onnx"))
        if len(graphs) != 1 or not graphs[0].is_file() or not (folder / "tokenizer.json").is_file():
            raise EngineMissing(
                "The embedding model's folder must hold one ONNX graph and tokenizer.json.",
                looked=f"We looked in {folder}.",
                todo="Correct path in [embedding], or name the graph with model.",
            )
        self.name = str(options.get("name", folder.name))
        self.languages = tuple(options.get("languages", ()))
        self._files = tuple(sorted(p for p in folder.iterdir() if p.is_file() and _part(p)))
        contents = "\n".join(f"{p.name} {file_digest(p)}" for p in self._files)
        self._setup(graphs[0], int(options.get("window", WINDOW)), settings)
        self.digest = _identity(contents, self._window)
        self.dimensions = int(self._run([[self._tokenizer().token_to_id("[PAD]") or 0]]).shape[1])

    def _setup(self, graph: Path, window: int, settings: Settings) -> None:
        self._graph, self._window = graph, window
        self._batch, self._threads = int(settings["index.batch"]), int(settings["index.threads"])
        self._opened: tuple[Any, Any, tuple[str, ...]] | None = None
        self._lock = threading.Lock()
        self.windowed = 0  # texts so far that were longer than the window

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, shape (len(texts), dimensions), in the order of ``texts``."""
        out = np.zeros((len(texts), self.dimensions), np.float32)
        for first in range(0, len(texts), SLAB):
            out[first : first + SLAB] = self._slab(texts[first : first + SLAB])
        return out

    def _slab(self, texts: Sequence[str]) -> NDArray[np.float32]:
        room = self._window - 2
        pieces: list[list[int]] = []
        owner: list[int] = []
        for number, encoding in enumerate(self._tokenizer().encode_batch_fast(list(texts))):
            ids = encoding.ids
            if len(ids) <= self._window:
                pieces.append(ids)
                owner.append(number)
                continue
            self.windowed += 1
            inner, count = ids[1:-1], -(-(len(ids) - 2) // room)
            size = -(-len(inner) // count)  # windows of equal length, so that each weighs the same
            for start in range(0, len(inner), size):
                pieces.append([ids[0], *inner[start : start + size], ids[-1]])
                owner.append(number)
        order = sorted(range(len(pieces)), key=lambda i: len(pieces[i]))
        vectors = np.empty((len(pieces), self.dimensions), np.float32)
        for first in range(0, len(order), self._batch):
            chosen = order[first : first + self._batch]
            vectors[chosen] = self._run([pieces[i] for i in chosen])
        if len(pieces) == len(texts):
            return vectors
        out = np.zeros((len(texts), self.dimensions), np.float32)
        np.add.at(out, np.array(owner), vectors)
        return _unit(out)

    def _run(self, pieces: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """One batch, padded to its own longest."""
        session, _, inputs = self._open()
        ids = np.zeros((len(pieces), max(map(len, pieces))), np.int64)
        mask = np.zeros_like(ids)
        for row, piece in enumerate(pieces):
            ids[row, : len(piece)] = piece
            mask[row, : len(piece)] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        found = session.run(None, {name: feed[name] for name in inputs})[0]
        if found.ndim == 3:  # token states: the mean over the mask (Reimers and Gurevych 2019)
            found = (found * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
        return _unit(found.astype(np.float32, copy=False))

    def _tokenizer(self) -> Any:
        return self._open()[1]

    def _open(self) -> tuple[Any, Any, tuple[str, ...]]:
        """Session, tokenizer, and the names of the inputs that the graph takes."""
        with self._lock:
            if self._opened is None:
                self._check()
                session = _session(self._graph, self._threads)
                inputs = tuple(i.name for i in session.get_inputs())
                self._opened = (session, _tokenizer(self._graph.parent), inputs)
            return self._opened

    def _check(self) -> None:
        """Nothing is pinned in a folder of the user's own: its digest is what it is, and names the generation."""


class MiniLM(OnnxEmbedder):
    """The built-in embedder: all-MiniLM-L6-v2, 384 dimensions, measured on English, pinned by digest."""

    name = "all-MiniLM-L6-v2"
    dimensions = 384
    languages = ("en",)

    def __init__(self, options: Mapping[str, Any], *, settings: Settings) -> None:
        unknown = set(options) - {"type"}
        if unknown:
            raise SettingsError(f"[embedding] of type builtin has {', '.join(sorted(unknown))}.", todo="Leave it out.")
        self.digest = _identity("\n".join(f"{name} {MINILM.files[name]}" for name in sorted(MINILM.files)), WINDOW)
        self._settings = settings
        self._setup(Path("minilm.onnx"), WINDOW, settings)

    def _check(self) -> None:
        folder = find(MINILM, self._settings)
        verify(folder, MINILM.files)
        self._graph = folder / "minilm.onnx"


def _part(path: Path) -> bool:
    return path.suffix in (".onnx", ".safetensors", ".data", ".bin") or path.name == "tokenizer.json"


def _identity(files: str, window: int) -> str:
    """Weights, tokenizer, pooling, window and precision together."""
    recipe = f"mean of tokens, mean of windows of {window}, fp32, unit length"
    return hashlib.sha256(f"{files}\n{recipe}".encode()).hexdigest()


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))[:, None]
    out: NDArray[np.float32] = (rows / np.maximum(length, 1e-12)).astype(np.float32)
    return out


def runtime() -> Any:
    """onnxruntime with its telemetry off: the official builds report to Microsoft and leave an id in the home folder.

    The variable is read once, when the library is loaded (microsoft/onnxruntime#27379).
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


def _session(graph: Path, threads: int) -> Any:
    onnxruntime = runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads give the core back
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
