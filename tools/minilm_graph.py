"""Build ``tools/minilm.onnx``: all-MiniLM-L6-v2 as a small ONNX graph without weights of its own.

Guarantees: the graph's tensors point by offset into the ``model.safetensors`` that lies beside it, so there is one
copy of the weights and no export through torch; the weights are those whose digest is pinned in
``drystone.models.weights``; the same input gives the same bytes. Needs the package ``onnx``, at build time only.

    python tools/minilm_graph.py FOLDER              # FOLDER holds model.safetensors and tokenizer.json
    python tools/minilm_graph.py FOLDER --compare M  # cosine to another export (model_quantized.onnx or the like)

Architecture: BERT (Devlin et al. 2019), 6 layers of width 384 and 12 heads (Wang et al., MiniLM, 2020), mean over
the tokens of the mask, length 1 (Reimers and Gurevych, Sentence-BERT, 2019).
"""

from __future__ import annotations

import argparse
import json
import math
import struct
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

from drystone.models.weights import MINILM, verify

GRAPH = Path(__file__).with_name("minilm.onnx")
LAYERS, HEADS, WIDTH, EPSILON = 6, 12, 384, 1e-12
OPSET, IR = 17, 9


class Builder:
    """Collects nodes and initializers; each method returns the name of what it made."""

    def __init__(self, weights: Path) -> None:
        with weights.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            self.header = json.loads(file.read(size))
        self.base = 8 + size
        self.file = weights.name
        self.nodes: list[object] = []
        self.tensors: dict[str, TensorProto] = {}

    def weight(self, name: str) -> str:
        entry = self.header[name]
        if entry["dtype"] != "F32":
            raise SystemExit(f"{name} is {entry['dtype']}, not F32")
        first, last = entry["data_offsets"]
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=entry["shape"])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self.file), ("offset", self.base + first), ("length", last - first)):
            tensor.external_data.add(key=key, value=str(value))
        self.tensors[name] = tensor
        return name

    def constant(self, name: str, value: np.ndarray) -> str:
        self.tensors[name] = numpy_helper.from_array(value, name)
        return name

    def op(self, kind: str, *inputs: str, out: str = "", **attributes: object) -> str:
        out = out or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def linear(self, x: str, name: str) -> str:
        turned = self.op("Transpose", self.weight(f"{name}.weight"), perm=[1, 0])
        return self.op("Add", self.op("MatMul", x, turned), self.weight(f"{name}.bias"))

    def norm(self, x: str, name: str) -> str:
        return self.op(
            "LayerNormalization",
            *(x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias")),
            axis=-1,
            epsilon=EPSILON,
        )


def build(weights: Path) -> bytes:
    """From ``input_ids`` and ``attention_mask``, int64 (batch, tokens), to ``vector``, float32 (batch, 384)."""
    b = Builder(weights)
    for name, number in (("zero", 0), ("one", 1)):
        b.constant(name, np.int64(number).reshape(()))
    b.constant("heads", np.array([0, 0, HEADS, WIDTH // HEADS], np.int64))
    b.constant("width", np.array([0, 0, WIDTH], np.int64))
    b.constant("axes_1_2", np.array([1, 2], np.int64))
    b.constant("axis_1", np.array([1], np.int64))
    b.constant("axis_last", np.array([-1], np.int64))
    scale = math.sqrt(WIDTH // HEADS)
    for name, real in (("scale", scale), ("far", -1e9), ("unit", 1.0), ("half", 0.5), ("root2", math.sqrt(2))):
        b.constant(name, np.array(real, np.float32))

    tokens = b.op("Gather", b.op("Shape", "input_ids"), "one")
    places = b.op("Range", "zero", tokens, "one")
    x = b.op("Gather", b.weight("embeddings.word_embeddings.weight"), "input_ids")
    x = b.op("Add", x, b.op("Gather", b.weight("embeddings.position_embeddings.weight"), places))
    x = b.op("Add", x, b.op("Gather", b.weight("embeddings.token_type_embeddings.weight"), "zero"))
    x = b.norm(x, "embeddings.LayerNorm")
    mask = b.op("Cast", "attention_mask", to=TensorProto.FLOAT)
    bias = b.op("Unsqueeze", b.op("Mul", b.op("Sub", "unit", mask), "far"), "axes_1_2")
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}."
        query, key, value = (
            b.op("Transpose", b.op("Reshape", b.linear(x, f"{at}attention.self.{part}"), "heads"), perm=[0, 2, 1, 3])
            for part in ("query", "key", "value")
        )
        scores = b.op("Div", b.op("MatMul", query, b.op("Transpose", key, perm=[0, 1, 3, 2])), "scale")
        seen = b.op("MatMul", b.op("Softmax", b.op("Add", scores, bias), axis=-1), value)
        seen = b.op("Reshape", b.op("Transpose", seen, perm=[0, 2, 1, 3]), "width")
        x = b.norm(b.op("Add", b.linear(seen, f"{at}attention.output.dense"), x), f"{at}attention.output.LayerNorm")
        wide = b.linear(x, f"{at}intermediate.dense")
        gelu = b.op("Add", b.op("Erf", b.op("Div", wide, "root2")), "unit")
        wide = b.op("Mul", b.op("Mul", wide, "half"), gelu)
        x = b.norm(b.op("Add", b.linear(wide, f"{at}output.dense"), x), f"{at}output.LayerNorm")
    column = b.op("Unsqueeze", mask, "axis_last")
    total = b.op("ReduceSum", b.op("Mul", x, column), "axis_1", keepdims=0)
    mean = b.op("Div", total, b.op("ReduceSum", column, "axis_1", keepdims=0))
    b.op("LpNormalization", mean, out="vector", axis=-1, p=2)

    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["batch", WIDTH])
    graph = helper.make_graph(b.nodes, "minilm", inputs, [output], list(b.tensors.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="drystone")
    model.ir_version = IR
    return bytes(model.SerializeToString(deterministic=True))


TEXTS = (
    "Items may be returned within 45 days of delivery.",
    "How long do I have to return an item?",
    "The cat sat on the mat.",
    "Zwei Wochen Rückgabefrist, sagte sie. " * 9,
)


def compare(folder: Path, other: Path) -> float:
    """The lowest cosine between our vectors and those of another ONNX export, over a few texts."""
    from tokenizers import Tokenizer

    from drystone.index.minilm import runtime  # which switches telemetry off before anything else

    onnxruntime = runtime()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    ours, theirs = (
        onnxruntime.InferenceSession(str(p), providers=["CPUExecutionProvider"]) for p in (folder / GRAPH.name, other)
    )
    wanted = {i.name for i in theirs.get_inputs()}
    lowest = 1.0
    for text in TEXTS:
        ids = np.array([tokenizer.encode(text).ids], np.int64)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        a = ours.run(None, {k: feed[k] for k in ("input_ids", "attention_mask")})[0][0]
        b = theirs.run(None, {k: v for k, v in feed.items() if k in wanted})[0]
        b = b.mean(1)[0] if b.ndim == 3 else b[0]
        lowest = min(lowest, float(a @ b / np.linalg.norm(b)))
    return lowest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--compare", type=Path, metavar="ONNX")
    arguments = parser.parse_args()
    pinned = {name: MINILM.files[name] for name in ("model.safetensors", "tokenizer.json")}
    verify(arguments.folder, pinned)
    data = build(arguments.folder / "model.safetensors")
    GRAPH.write_bytes(data)
    (arguments.folder / GRAPH.name).write_bytes(data)
    checker.check_model(str(arguments.folder / GRAPH.name))
    print(f"{GRAPH.name}: {len(data)} bytes")
    if arguments.compare:
        print(f"lowest cosine to {arguments.compare.name}: {compare(arguments.folder, arguments.compare):.5f}")


if __name__ == "__main__":
    main()
