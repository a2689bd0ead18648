"""Two small encoders as ONNX files, with what `dual_encoder.json` says of them; no torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "photo", "of", "the", "cat", "dog", "dark",
         "bright", "blue", "."]  # fmt: skip
M, H, D, SIDE, LENGTH = 8, 12, 6, 16, 12
TEXT, IMAGE = "text.onnx", "image.onnx"


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(seed)
    shapes = {"table": (len(WORDS), M), "inner": (M, H), "outer": (H, D), "pixels": (3 * 16, D),
              "places": (LENGTH, 1)}  # fmt: skip
    return {name: draws.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def save_pair(
    folder: Path,
    *,
    pad: int | None = None,
    batch: str | int = "B",
    pooling: str = "none",
    mask: bool = True,
    fixed: bool = False,
    **said,
) -> Path:
    """Write a folder; ``said`` changes fields of the JSON, such as ``text={"width": 9}``."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = weights()
    save_file({"tokens": arrays["table"]}, folder / "table.safetensors")
    write_tokenizer(folder / "tokenizer.json")
    write_text(folder, arrays, batch, LENGTH if fixed else "L", pooling, mask)
    write_image(folder, arrays, batch)
    settings = {"size": SIDE, "crop_size": SIDE, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    document = {
        "width": D,
        "logit_scale": 20.0,
        "image": {"file": IMAGE, "input": "pixels", "output": "features"},
        "text": {"file": TEXT, "input": "embeddings", "output": "features", "width": M,
                 "length": LENGTH, "table": "table.safetensors", "pooling": pooling,
                 "mask": "mask" if mask else None, "pad": pad},
    }  # fmt: skip
    for name, value in said.items():
        document[name] = {**document[name], **value} if isinstance(value, dict) else value
    (folder / "dual_encoder.json").write_text(json.dumps(document))
    return folder


def write_tokenizer(file: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    ids = {word: i for i, word in enumerate(WORDS)}
    core = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    core.save(str(file))


def write_text(folder, arrays, batch="B", length="L", pooling="none", mask=True) -> None:
    """features = mean of tanh(tokens @ inner + place) over the mask, @ outer; or of each token."""
    nodes = [
        helper.make_node("Shape", ["embeddings"], ["many"], start=1, end=2),
        helper.make_node("Slice", ["places", "zero", "many", "zero"], ["near"]),
        helper.make_node("MatMul", ["embeddings", "inner"], ["mixed"]),
        helper.make_node("Add", ["mixed", "near"], ["placed"]),
        helper.make_node("Tanh", ["placed"], ["states"]),
    ]
    tokens = [batch, length]
    inputs = {"embeddings": (TensorProto.FLOAT, [*tokens, M])}
    if mask:
        inputs["mask"] = TensorProto.INT64, tokens
        nodes += [
            helper.make_node("Cast", ["mask"], ["kept"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["kept", "last"], ["shown"]),
            helper.make_node("Mul", ["states", "shown"], ["masked"]),
            helper.make_node("ReduceSum", ["masked", "one"], ["total"], keepdims=0),
            helper.make_node("ReduceSum", ["shown", "one"], ["count"], keepdims=0),
            helper.make_node("Div", ["total", "count"], ["pooled"]),
        ]
    else:
        nodes.append(helper.make_node("ReduceMean", ["states", "one"], ["pooled"], keepdims=0))
    pooled = "pooled" if pooling == "none" else "states"
    shape = [batch, D] if pooling == "none" else [*tokens, D]
    nodes.append(helper.make_node("MatMul", [pooled, "outer"], ["features"]))
    constants = {"inner": arrays["inner"], "outer": arrays["outer"], "places": arrays["places"],
                 "zero": np.array([0]), "one": np.array([1]), "last": np.array([2])}  # fmt: skip
    _save(folder / TEXT, nodes, inputs, {"features": shape}, constants)


def write_image(folder, arrays, batch="B", side: int | str = SIDE) -> None:
    """features = 4 x 4 mean pixels @ a matrix."""
    nodes = [
        helper.make_node("AveragePool", ["pixels"], ["small"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Flatten", ["small"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["features"]),
    ]
    inputs = {"pixels": (TensorProto.FLOAT, [batch, 3, side, side])}
    _save(folder / IMAGE, nodes, inputs, {"features": [batch, D]}, {"matrix": arrays["pixels"]})


def _save(file, nodes, inputs, outputs, constants) -> None:
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info(name, *port) for name, port in inputs.items()],
        [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, shape)
            for n, shape in outputs.items()
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), file)


def text_features(prompts, contexts, pooling="mean", pad=None, masked=True):
    """What the text encoder makes of prompts (P, K, D), one at a time."""
    arrays = weights()
    table, rows = arrays["table"].astype(np.float64), []
    for context in contexts:
        row = []
        for k, suffix in enumerate(prompts.suffixes):
            n = prompts.n_context
            own = context[k * n : (k + 1) * n] if prompts.specific else context
            tokens = np.concatenate([table[list(prompts.before)], own, table[list(suffix)]])
            many = len(tokens)
            if pad is not None:
                tokens = np.concatenate([tokens, table[[pad] * (LENGTH - many)]])
            states = np.tanh(tokens @ arrays["inner"] + arrays["places"][: len(tokens)])
            states = states if pad is not None and not masked else states[:many]
            chosen = {"mean": states.mean(axis=0), "first": states[0], "last": states[many - 1]}
            row.append(chosen[pooling] @ arrays["outer"])
        rows.append(row)
    return np.array(rows)


def image_features(pixels):
    """What the image encoder makes of pixels (B, D)."""
    small = pixels.reshape(len(pixels), 3, 4, 4, 4, 4).mean(axis=(3, 5))
    return small.reshape(len(pixels), -1) @ weights()["pixels"]
