"""The graph of a trained classifier: image tower and head alone, from a photo to probabilities."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sharpzo import __version__
from sharpzo.detour import fixed_views
from sharpzo.errors import InputError
from sharpzo.export.heads import write_familiarity, write_logits
from sharpzo.export.precision import FilePrecision, lighter
from sharpzo.export.preprocessing import write_pixels, write_view
from sharpzo.towers.checkpoint import EMBEDDED
from sharpzo.towers.families import image_family
from sharpzo.towers.preprocess import Preprocessing

if TYPE_CHECKING:
    from sharpzo.fitting.trained import Trained
    from sharpzo.towers.graph import Graph

Signature = Literal["photo", "pixels"]
PROBABILITIES, FAMILIARITY = "probabilities", "familiarity"
LARGEST = (1 << 31) - (1 << 20)  # bytes of a file in the format of protocol buffers
_FLOAT, _UINT8 = 1, 2  # of TensorProto


@dataclass(frozen=True, eq=False)
class ClassifierGraph:
    """A ``graph`` and what its user has to know, as strings by name.

    With ``signature`` "photo" its input is ``photo``, uint8 (H, W, 3), RGB and upright, of any
    size; with "pixels" it is ``pixels``, float32 (B, 3, h, w), preprocessed. Its outputs are
    ``probabilities`` (B, K) and, where there is a rule for photos of no class, ``familiarity``
    (B,): below the threshold among the ``metadata`` a photo is none of the classes.
    """

    graph: Graph
    metadata: Mapping[str, str]
    signature: Signature
    precision: FilePrecision

    @property
    def threshold(self) -> float | None:
        """Of the familiarity; None without a rule."""
        found = self.metadata.get("threshold")
        return None if found is None else float(found)

    def whole(self) -> bytes:
        """The file's content, with the weights inside; InputError for more than 2 GB."""
        size = self.graph.bytes + self.graph.model.ByteSize()
        if size > LARGEST:
            raise InputError(
                f"the model takes {size / 1e9:.1f} GB, and one ONNX file holds 2 GB; export with "
                "--precision float16 or int8"
            )
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(self.graph.model)
        for tensor in model.graph.initializer:
            if tensor.name in self.graph.weights:
                del tensor.external_data[:]
                tensor.data_location = onnx.TensorProto.DEFAULT
                tensor.raw_data = self.graph.weights[tensor.name].tobytes()
        for key, value in self.metadata.items():
            model.metadata_props.add(key=key, value=value)
        return model.SerializeToString()


def build_classifier(
    trained: Trained,
    *,
    lost: float,
    signature: Signature = "photo",
    precision: FilePrecision = "float32",
    multi: bool = False,
) -> ClassifierGraph:
    """Return the graph of a classifier whose rule for photos of no class loses a share of the
    known ones.

    ``precision`` is that of the tower's matrices in the file; arithmetic is in float32. ``multi``:
    probabilities are of each class on its own, as by ``predict --multi``. Raises InputError for
    what cannot be written.
    """
    bias = trained.logit_bias() if multi else 0.0
    from sharpzo.towers.graph import Builder
    from sharpzo.towers.pair_graph import joined

    checkpoint, views = trained.towers.checkpoint, fixed_views([trained.head])
    preprocessing = Preprocessing.open(checkpoint, trained.towers.decoding)
    height, width = preprocessing.size
    build, batch = Builder(prefix="classifier."), 1 if signature == "photo" else "B"
    inputs: dict[str, Sequence[int | str]]
    if signature == "photo":
        seen = ["photo", *(write_view(build, "photo", view) for view in views)]
        pixels = [write_pixels(build, one, preprocessing) for one in seen]
        build.op("Concat", *pixels, axis=0, name="pixels")
        inputs = {"photo": ("H", "W", 3)}
    elif views:
        raise InputError(
            f"the run reads each photo through {1 + len(views)} views, which are cut from the "
            "photo itself; export with --input photo"
        )
    else:
        inputs = {"pixels": ("B", 3, height, width)}
    tower = image_family(checkpoint).build(checkpoint, height, width)
    batch = _batch(tower, batch, 1 + len(views))
    tokens = tower.model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    build.take_in(lighter(tower, precision))
    logits = write_logits(build, checkpoint, trained.head, tokens)
    if multi:
        logits = build.op("Add", logits, build.constant(np.float32(bias)))
        build.op("Sigmoid", logits, name=PROBABILITIES)
    else:
        build.op("Softmax", logits, axis=-1, name=PROBABILITIES)
    outputs: dict[str, Any] = {PROBABILITIES: (batch, len(trained.class_names))}
    if trained.strangers is not None:
        build.op("Identity", write_familiarity(build, trained.strangers), name=FAMILIARITY)
        outputs[FAMILIARITY] = (batch,)
    kind = _UINT8 if signature == "photo" else _FLOAT
    if signature == "pixels":
        inputs["pixels"] = (batch, 3, height, width)
    graph = joined(build.finish(inputs, outputs, "classifier", kind), tower)
    metadata = _metadata(trained, lost, precision, preprocessing.least)
    if multi:
        metadata["multi"] = "true"
    return ClassifierGraph(graph, metadata, signature, precision)


def _batch(tower: Graph, batch: int | str, passes: int) -> int | str:
    """Photos of a call, of a tower that each photo passes so many times."""
    own = tower.model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    if own and batch == "B":
        return own
    if own and own != passes:
        raise InputError(
            f"the image encoder takes {own} photos per call and no other number, and each photo "
            f"passes it {passes} times; export the encoder with a free batch"
        )
    return batch


def _metadata(
    trained: Trained, lost: float, precision: FilePrecision, least: int | None
) -> dict[str, str]:
    record = trained.record
    found = {
        "classes": json.dumps([str(label) for label in trained.classes.tolist()]),
        "precision": precision,
        "method": trained.method.name,
        "model": f"{model_name(trained)} (sha256 {record['model']['sha256']})",
        "licence": licence(trained),
        "made_by": f"sharpzo {__version__}",
    }
    if least is not None:  # photos may be decoded as small as this, shorter side
        found["least"] = str(least)
    if trained.strangers is not None:
        threshold = trained.strangers.threshold(lost)
        found["threshold"] = repr(threshold) if np.isfinite(threshold) else "-Infinity"
        found["lost"] = repr(float(lost))
    return found


def model_name(trained: Trained) -> str:
    """The model's hub id, or the name of its folder."""
    model = trained.towers.model
    if model is None:
        return "embedded"
    return Path(model).resolve().name if Path(model).exists() else str(model)


def licence(trained: Trained) -> str:
    """What is said of the licences of the weights in the file."""
    folder = trained.towers.checkpoint.folder
    if folder == EMBEDDED:
        return (
            "Image tower: DINOv2 ViT-S/14 (Meta AI), Apache-2.0, stored in another layout. Made by "
            "sharpzo, Apache-2.0. The classifier was made from your photos."
        )
    card = folder / "README.md"
    text = card.read_text("utf-8", "replace")[:20_000] if card.is_file() else ""
    named = re.search(r"\A---\n(?:.*\n)*?licen[sc]e:\s*(\S+)", text)
    terms = (
        f"under the licence '{named[1]}' of its card" if named else "under the model's own terms"
    )
    return (
        f"Image tower: {model_name(trained)}, {terms}. Made by sharpzo, Apache-2.0. The "
        "classifier was made from your photos."
    )
