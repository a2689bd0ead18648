"""A model folder in Hugging Face layout: configuration, weights, tokenizer, preprocessing."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sharpzo.errors import CheckpointError, InputError
from sharpzo.towers.config import ImageConfig, TextConfig, parse_image, parse_text, read_json
from sharpzo.towers.weights import Weights, files
from sharpzo.types import Array

EMBEDDED = Path(__file__).parent.parent / "assets" / "model"
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt")
SIDE_FILES = ("config.json", *TOKENIZER_FILES, "preprocessor_config.json")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

# Layers of a block under the names that CLIP's text and vision transformers share.
CLIP_LAYERS = {
    "norm1": "layer_norm1", "query": "self_attn.q_proj", "key": "self_attn.k_proj",
    "value": "self_attn.v_proj", "out": "self_attn.out_proj", "norm2": "layer_norm2",
    "fc1": "mlp.fc1", "fc2": "mlp.fc2",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A readable model folder; nothing but headers is in memory.

    >>> checkpoint = Checkpoint.open("models/clip-vit-base-patch32")  # doctest: +SKIP
    >>> checkpoint.text.width, checkpoint.image.patch  # doctest: +SKIP
    (512, 32)
    """

    folder: Path
    text: TextConfig
    image: ImageConfig
    weights: Weights

    @classmethod
    def open(cls, folder: str | Path) -> Checkpoint:
        """Read a folder; raises `CheckpointError` saying which file is missing or unusable."""
        folder = Path(folder)
        config = read_json(folder / "config.json")
        return cls(folder, parse_text(config), parse_image(config), Weights.open(folder))

    def tensor(self, name: str, shape: tuple[int, ...]) -> Array:
        """Return one tensor as float32 after checking its shape."""
        return self.weights[self.find(name, shape)]

    def pair(self, name: str, *shape: int) -> tuple[Array, Array]:
        """Return weight (of this shape) and bias (of its first side) of one layer."""
        return self.tensor(f"{name}.weight", shape), self.tensor(f"{name}.bias", shape[:1])

    def find(self, name: str, shape: tuple[int, ...]) -> str:
        """Return the name under which the file holds a tensor, after checking its shape."""
        # transformers 4 saved the towers of a dual encoder with their prefix doubled.
        doubled = f"{name.split('.', 1)[0]}.{name}"
        found = next((one for one in (name, doubled) if one in self.weights), None)
        if found is None:
            raise CheckpointError(
                f"{self.folder} holds no tensor {name!r} (expected shape {shape}); "
                "config.json and weights do not belong together, or the download is incomplete"
            )
        if self.weights.shape(found) != shape:
            raise CheckpointError(
                f"{self.weights.file(found)}: tensor {found!r} has shape "
                f"{self.weights.shape(found)}, config.json asks for {shape}"
            )
        return found

    def check_text(self) -> None:
        """Raise `CheckpointError` for what is missing of the text tower; nothing is read."""
        width = self.text.width
        wanted: dict[str, tuple[int, ...]] = {"final_layer_norm": (width,)}
        for layer in range(self.text.layers):
            for part, shape in block_shapes(width, self.text.mlp_width).items():
                wanted[f"encoder.layers.{layer}.{CLIP_LAYERS[part]}"] = shape
        for name, shape in wanted.items():
            self.find(f"text_model.{name}.weight", shape)
            self.find(f"text_model.{name}.bias", shape[:1])
        positions = (self.text.context_length, width)
        self.find("text_model.embeddings.position_embedding.weight", positions)

    @property
    def logit_scale(self) -> float:
        """Factor on cosines; the checkpoint keeps its logarithm."""
        return float(np.exp(np.float64(self.tensor("logit_scale", ()))))

    @property
    def fingerprint(self) -> str:
        """sha256 over configuration, weights, tokenizer and preprocessing files."""
        digest = hashlib.sha256()
        side = [path for name in SIDE_FILES if (path := self.folder / name).is_file()]
        for path in (*side, *files(self.folder)):
            digest.update(f"{path.name} {path.stat().st_size}\0".encode())
            with path.open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
        return digest.hexdigest()

    def digest(self, prefixes: Iterable[str], *extra: str) -> str:
        """sha256 over the tensors whose names start with a prefix, and further strings.

        Hashing tensors instead of files keeps the fingerprint of one tower unchanged when the
        other one is replaced or the shards are cut elsewhere.
        """
        digest = hashlib.sha256(json.dumps(extra).encode())
        for name in sorted(n for n in self.weights if n.startswith(tuple(prefixes))):
            digest.update(f"{name} {self.weights.shape(name)}\0".encode())
            for part in self.weights.slices(name):
                digest.update(part.data)
        return digest.hexdigest()


def block_shapes(width: int, mlp_width: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights of a block's layers."""
    square, norm = (width, width), (width,)
    return {
        "norm1": norm, "query": square, "key": square, "value": square, "out": square,
        "norm2": norm, "fc1": (mlp_width, width), "fc2": (width, mlp_width),
    }  # fmt: skip


def resolve(model: str | Path | None = None) -> Path:
    """Return the folder of a model: a folder path, a hub id ``owner/name``, or None = embedded.

    Raises `InputError` if there is no such folder, `CheckpointError` if a download failed.
    """
    if model is None:
        if not (EMBEDDED / "config.json").is_file():
            raise CheckpointError(f"the embedded model is missing from {EMBEDDED}; reinstall")
        return EMBEDDED
    if Path(model).is_dir():
        return Path(model)
    if isinstance(model, str) and _HUB_ID.fullmatch(model):
        return _download(model)
    raise InputError(
        f"{str(model)!r} is neither a folder nor a hub id like 'openai/clip-vit-base-patch32'"
    )


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    weights = ["model.safetensors", "model-*.safetensors", "model.safetensors.index.json"]
    try:
        return Path(snapshot_download(name, allow_patterns=[*SIDE_FILES, *weights]))
    except Exception as error:  # the hub client raises dozens of unrelated types
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(
            f"model {name!r} could not be downloaded ({type(error).__name__}: {reason}); if this "
            "machine is offline, download it elsewhere and pass the folder"
        ) from error
