"""A readable model: configurations, tensors by name and shape, tokenizer's place, preprocessing.

`formats.py` says which files make one; `families.py` what its towers compute.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sharpzo.errors import CheckpointError, InputError
from sharpzo.towers.contents import Contents
from sharpzo.towers.formats import SIDES, find_format
from sharpzo.types import Array

EMBEDDED = Path(__file__).parent.parent / "assets" / "model"
_HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w.-]+))?")  # with a revision
_LAYER = re.compile(r"((?:text|vision)_model)\.(?:\1\.)?encoder\.layers?\.(\d+)\.")
_HOTTEST = 10_000.0  # CLIP caps the factor on cosines at 100

# Layers of a block under the names that CLIP's text and vision transformers share.
CLIP_LAYERS = {
    "norm1": "layer_norm1", "query": "self_attn.q_proj", "key": "self_attn.k_proj",
    "value": "self_attn.v_proj", "out": "self_attn.out_proj", "norm2": "layer_norm2",
    "fc1": "mlp.fc1", "fc2": "mlp.fc2",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Checkpoint(Contents):
    """A readable model folder; nothing but headers is in memory.

    ``image_size``: pixels a side that photos are made to for the image tower; None: its own.
    """

    folder: Path = Path()
    sides: tuple[str, ...] = ()
    image_size: int | None = None

    @classmethod
    def open(cls, folder: str | Path, image_size: int | None = None) -> Checkpoint:
        """Read a folder; raises `CheckpointError` saying which file is missing or unusable."""
        folder = Path(folder)
        found = find_format(folder)
        contents = found.read(folder)
        made = cls(**vars(contents), folder=folder, sides=found.sides, image_size=image_size)
        made._check_depth()
        return made

    def _check_depth(self) -> None:
        """Raise for layers in the file that the configuration leaves out: half a tower answers
        worse, and without a word."""
        towers = {"text_model": self.text, "vision_model": self.image}
        for found in filter(None, map(_LAYER.match, self.weights)):
            layers = towers[found[1]].layers
            if int(found[2]) >= layers:
                raise CheckpointError(
                    f"{self.weights.file(found.string)} holds "
                    f"{self.weights.called(found.string)!r}, but {self.config} gives {found[1]} "
                    f"{layers} layers (num_hidden_layers)"
                )

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
                f"{self.folder} holds no tensor {name!r} (expected shape {shape}); {self.config} "
                "and weights do not belong together, or the download is incomplete"
            )
        if self.weights.shape(found) != shape:
            raise CheckpointError(
                f"{self.weights.file(found)}: tensor {self.weights.called(found)!r} has shape "
                f"{self.weights.shape(found)}, {self.config} asks for {shape}"
            )
        return found

    @property
    def logit_scale(self) -> float:
        """Factor on cosines; a tensor keeps its logarithm."""
        if self.scale is not None:
            return self.scale
        with np.errstate(over="ignore"):
            scale = float(np.exp(np.float64(self._number("logit_scale"))))
        if not 1 / _HOTTEST <= scale <= _HOTTEST:
            raise CheckpointError(
                f"{self.folder}: logit_scale multiplies cosines by {scale:g}; the checkpoint is "
                "damaged (CLIP's factor is at most 100)"
            )
        return scale

    @property
    def logit_bias(self) -> float | None:
        """What is added to the scaled cosines before a sigmoid; None of a model without one."""
        if self.bias is not None or "logit_bias" not in self.weights:
            return self.bias
        bias = self._number("logit_bias")
        if not abs(bias) <= _HOTTEST:
            raise CheckpointError(
                f"{self.folder}: logit_bias is {bias:g}; the checkpoint is damaged (SigLIP's is "
                "about -16)"
            )
        return bias

    def _number(self, name: str) -> float:
        """A tensor of one number, of no axis or, as in SigLIP, of one."""
        shape = (1,) if name in self.weights and self.weights.shape(name) == (1,) else ()
        return float(self.tensor(name, shape).reshape(()))

    @property
    def files(self) -> tuple[Path, ...]:
        """Those of configuration, tokenizer, preprocessing and weights."""
        sides = (path for name in self.sides if (path := self.folder / name).is_file())
        return (*sides, *self.parts)

    @property
    def fingerprint(self) -> str:
        """sha256 over all `files`."""
        digest = hashlib.sha256()
        for path in self.files:
            _add(digest, path)
        return digest.hexdigest()

    def digest(self, prefixes: Iterable[str], *extra: str) -> str:
        """sha256 over the tensors whose names start with a prefix, files that hold such a tower
        whole, and further strings.

        Hashing tensors instead of files keeps the fingerprint of one tower unchanged when the
        other one is replaced or the shards are cut elsewhere.
        """
        digest = hashlib.sha256(json.dumps(extra).encode())
        for name in sorted(n for n in self.weights if n.startswith(tuple(prefixes))):
            digest.update(f"{name} {self.weights.shape(name)}\0".encode())
            for part in self.weights.slices(name):
                digest.update(part.data)
        for path in (path for prefix in prefixes for path in self.blobs.get(prefix, ())):
            _add(digest, path)
        return digest.hexdigest()


def _add(digest: hashlib._Hash, path: Path) -> None:
    """Add a file's name, size and content to a digest."""
    digest.update(f"{path.name} {path.stat().st_size}\0".encode())
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)


def block_shapes(width: int, mlp_width: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights of a block's layers."""
    square, norm = (width, width), (width,)
    return {
        "norm1": norm, "query": square, "key": square, "value": square, "out": square,
        "norm2": norm, "fc1": (mlp_width, width), "fc2": (width, mlp_width),
    }  # fmt: skip


def check_finite(array: Array, checkpoint: Checkpoint, what: str) -> None:
    """Raise `CheckpointError` if a tower computed something that is not finite."""
    if not np.isfinite(array).all():
        raise CheckpointError(
            f"{checkpoint.folder}: the {what} are not finite: a weight is damaged, or they "
            "overflow in this precision; download the model again, or use float32"
        )


def resolve(model: str | Path | None = None, *, fetch: bool = True) -> Path:
    """Return the folder of a model: a folder path, None = embedded, or a hub id ``owner/name`` or
    ``owner/name@revision``, which is downloaded unless ``fetch`` is false or it is here already.

    Raises `InputError` if there is no such folder, `CheckpointError` if a download failed.
    """
    if model is None:
        if not (EMBEDDED / "config.json").is_file():
            raise CheckpointError(f"the embedded model is missing from {EMBEDDED}; reinstall")
        return EMBEDDED
    # `os.path`: what is too long for a path, in a stranger's record, is none.
    if os.path.isdir(model) or (Path(model).suffix == ".pt" and os.path.isfile(model)):
        return Path(model)
    if isinstance(model, str) and (hub := _HUB_ID.fullmatch(model)):
        return _download(hub[1], hub[2], fetch)
    raise InputError(
        f"{str(model)!r} is neither a folder nor a hub id like 'openai/clip-vit-base-patch32', nor "
        "one of OpenAI's files (.pt)"
    )


def _download(name: str, revision: str | None, fetch: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    def fetched(patterns: Sequence[str], revision: str | None) -> Path:
        return Path(snapshot_download(
            name, revision=revision, allow_patterns=list(patterns), local_files_only=not fetch,
        ))  # fmt: skip

    try:
        # What tells the formats apart comes first: a repository may hold its weights in several.
        folder = fetched(SIDES, revision)
        return fetched(find_format(folder).weights, folder.name)
    except Exception as error:  # the hub client raises dozens of unrelated types
        if not fetch and isinstance(error, LocalEntryNotFoundError):
            raise CheckpointError(
                f"model {name!r} is not on this machine; name it yourself to download it "
                f"(--model {name}), or give its folder"
            ) from None
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(
            f"model {name!r} could not be downloaded ({type(error).__name__}: {reason}); if this "
            "machine is offline, download it elsewhere and pass the folder"
        ) from error
