"""A model folder in Hugging Face layout: configuration, weights, tokenizer, preprocessing.

Weights are read by memory map from safetensors files: 8 bytes little-endian header length, a JSON
header of name -> dtype, shape and byte range, then the bytes. Source:
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import hashlib
import json
import mmap
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sharpzo.errors import CheckpointError, InputError
from sharpzo.towers.config import (
    ImageConfig,
    TextConfig,
    convert,
    parse_image,
    parse_text,
    read_json,
)
from sharpzo.types import Array

EMBEDDED = Path(__file__).parent.parent / "assets" / "model"
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt")
SIDE_FILES = ("config.json", *TOKENIZER_FILES, "preprocessor_config.json")
_HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w.-]+))?")  # with a revision
_SLICE = 1 << 20
_LAYER = re.compile(r"((?:text|vision)_model)\.(?:\1\.)?encoder\.layers?\.(\d+)\.")
_HOTTEST = 10_000.0  # CLIP caps the factor on cosines at 100

# Layers of a block under the names that CLIP's text and vision transformers share.
CLIP_LAYERS = {
    "norm1": "layer_norm1", "query": "self_attn.q_proj", "key": "self_attn.k_proj",
    "value": "self_attn.v_proj", "out": "self_attn.out_proj", "norm2": "layer_norm2",
    "fc1": "mlp.fc1", "fc2": "mlp.fc2",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Entry:
    file: Path
    map: mmap.mmap
    raw: Array  # bytes of the map, uint8
    dtype: str
    shape: tuple[int, ...]


class Weights(Mapping[str, Array]):
    """Name -> float32 array; float32 tensors are views of the memory map, others are converted.

    Nothing is read before it is asked for. Raises `CheckpointError` naming file and tensor.
    """

    def __init__(self, entries: dict[str, _Entry]) -> None:
        self._entries = entries

    @classmethod
    def open(cls, folder: Path) -> Weights:
        """Open `model.safetensors`, or the shards that `model.safetensors.index.json` names."""
        return cls({name: e for file in files(folder) for name, e in _read_header(file).items()})

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, name: str) -> Array:
        entry = self._entries[name]
        return _decode(entry.raw, entry.dtype).reshape(entry.shape)

    def rows(self, name: str, indices: Array) -> Array:
        """Return some rows of a matrix as float32, touching only their bytes on disk."""
        entry = self._entries[name]
        raw = entry.raw.reshape(entry.shape[0], len(entry.raw) // max(1, entry.shape[0]))
        picked = np.ascontiguousarray(raw[np.asarray(indices, dtype=np.int64)])
        return _decode(picked.reshape(-1), entry.dtype).reshape(-1, *entry.shape[1:])

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without reading it."""
        return self._entries[name].shape

    def slices(self, name: str) -> Iterator[Array]:
        """Yield the bytes of a tensor as they are on disk, uint8, a slice in memory at a time."""
        raw = self._entries[name].raw
        for begin in range(0, len(raw), _SLICE):
            yield raw[begin : begin + _SLICE]
            self.release()

    @property
    def converted(self) -> bool:
        """Whether any tensor is converted when it is read, into memory of its own."""
        return any(entry.dtype != "F32" for entry in self._entries.values())

    def release(self) -> None:
        """Let the pages of all tensors leave memory; touched again, they are read again.

        Arrays handed out before stay valid. Does nothing where the system cannot. All of them,
        because the system also maps pages around those that are asked for.
        """
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            for mapped in {entry.map for entry in self._entries.values()}:
                mapped.madvise(mmap.MADV_DONTNEED)

    def file(self, name: str) -> Path:
        """Return the file that holds a tensor."""
        return self._entries[name].file


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A readable model folder; nothing but headers is in memory."""

    folder: Path
    text: TextConfig
    image: ImageConfig
    weights: Weights

    @classmethod
    def open(cls, folder: str | Path) -> Checkpoint:
        """Read a folder; raises `CheckpointError` saying which file is missing or unusable."""
        folder = Path(folder)
        config = read_json(folder / "config.json")
        text, image = parse_text(config), parse_image(config)
        made = cls(folder, text, image, Weights.open(folder))
        made._check_depth({"text_model": text.layers, "vision_model": image.layers})
        return made

    def _check_depth(self, layers: Mapping[str, int]) -> None:
        """Raise for layers in the file that the configuration leaves out: half a tower answers
        worse, and without a word."""
        for found in filter(None, map(_LAYER.match, self.weights)):
            if int(found[2]) >= layers[found[1]]:
                raise CheckpointError(
                    f"{self.weights.file(found.string)} holds {found.string!r}, but config.json "
                    f"gives {found[1]} {layers[found[1]]} layers (num_hidden_layers)"
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
        wanted = {
            f"encoder.layers.{layer}.{CLIP_LAYERS[part]}": shape
            for layer in range(self.text.layers)
            for part, shape in block_shapes(width, self.text.mlp_width).items()
        }
        for name, shape in {"final_layer_norm": (width,), **wanted}.items():
            self.find(f"text_model.{name}.weight", shape)
            self.find(f"text_model.{name}.bias", shape[:1])
        positions = (self.text.context_length, width)
        self.find("text_model.embeddings.position_embedding.weight", positions)

    @property
    def logit_scale(self) -> float:
        """Factor on cosines; the checkpoint keeps its logarithm."""
        with np.errstate(over="ignore"):
            scale = float(np.exp(np.float64(self.tensor("logit_scale", ()))))
        if not 1 / _HOTTEST <= scale <= _HOTTEST:
            raise CheckpointError(
                f"{self.folder}: logit_scale multiplies cosines by {scale:g}; the checkpoint is "
                "damaged (CLIP's factor is at most 100)"
            )
        return scale

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
    if Path(model).is_dir():
        return Path(model)
    if isinstance(model, str) and (hub := _HUB_ID.fullmatch(model)):
        return _download(hub[1], hub[2], fetch)
    raise InputError(
        f"{str(model)!r} is neither a folder nor a hub id like 'openai/clip-vit-base-patch32'"
    )


def _download(name: str, revision: str | None, fetch: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    weights = ["model.safetensors", "model-*.safetensors", "model.safetensors.index.json"]
    try:
        return Path(snapshot_download(
            name, revision=revision, allow_patterns=[*SIDE_FILES, *weights],
            local_files_only=not fetch,
        ))  # fmt: skip
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


def files(folder: Path) -> list[Path]:
    """Return the weight files of a checkpoint folder, in order."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise CheckpointError(
            f"{folder} holds neither model.safetensors nor model.safetensors.index.json; "
            "weights in other formats are not read, convert them with transformers"
        )
    shards = convert(read_json(index).get("weight_map"), dict[str, str], f"{index}: weight_map")
    names = sorted(set(shards.values()))
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise CheckpointError(f"{index} names {name!r}, which is not a file in that folder")
    return [folder / name for name in names]


def _read_header(file: Path) -> dict[str, _Entry]:
    """Where the tensors lie, once the safetensors library has found the header valid: ranges that
    neither overlap nor leave gaps, of the sizes that the shapes need, up to the end of the file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy"):
            pass
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{file} is not a safetensors file, is cut short or damaged ({error}); download it "
            "again (a Git LFS pointer is not the file itself)"
        ) from error
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = msgspec.json.decode(stream.read(length), type=dict[str, Any])
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    header.pop("__metadata__", None)
    data = np.frombuffer(mapped, np.uint8)[8 + length :]
    return {
        name: _Entry(
            file, mapped, data[slice(*entry["data_offsets"])], entry["dtype"], tuple(entry["shape"])
        )
        for name, entry in header.items()
    }


def _decode(raw: Array, dtype: str) -> Array:
    if dtype == "F32":
        return raw.view("<f4")
    if dtype == "F16":
        return raw.view("<f2").astype(np.float32)
    if dtype == "BF16":  # the upper half of a float32
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    raise CheckpointError(f"weights of type {dtype} are not read; use F32, F16 or BF16")
