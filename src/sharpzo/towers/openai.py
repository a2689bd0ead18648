"""OpenAI's own files of CLIP (`RN50.pt`, `ViT-B-16.pt`, …): TorchScript, read for its tensors.

They hold no configuration: sizes are those of the tensors, as OpenAI's own program finds them.
"""

from __future__ import annotations

import re
from math import isqrt
from pathlib import Path
from typing import cast

from sharpzo.errors import CheckpointError
from sharpzo.towers.config import ImageConfig, ResNetConfig, TextConfig, check_heads
from sharpzo.towers.contents import Contents
from sharpzo.towers.open_clip import rename
from sharpzo.towers.torch_archive import is_script, read_archive
from sharpzo.towers.weights import Weights

_HEAD = 64  # numbers of an attention head, in all of these models
_LARGEST = 1024  # pixels a side


def read_openai(file: Path) -> Contents:
    """Read such a file; raises `CheckpointError` naming the tensor at fault."""
    if not is_script(file):
        raise CheckpointError(
            f"{file} holds tensors without a configuration; put it into a folder as "
            "open_clip_pytorch_model.bin, beside its open_clip_config.json"
        )
    weights = read_archive(file)
    text, image = _text(weights, file), _image(weights, file)
    renamed = rename(weights, text, image, "the shape of other tensors")
    return Contents(text, image, renamed, (file,), file.name, clip_words=True)


def _text(weights: Weights, file: Path) -> TextConfig:
    vocabulary, width = _shape(weights, file, "token_embedding.weight", 2)
    length, _ = _shape(weights, file, "positional_embedding", 2)
    _, projection = _shape(weights, file, "text_projection", 2)
    found = TextConfig(
        vocabulary, width, 4 * width, _depth(weights, "transformer.resblocks"),
        max(1, width // _HEAD), length, "quick_gelu", eos_id=2, projection=projection,
    )  # fmt: skip
    check_heads(found, "text")
    return found


def _image(weights: Weights, file: Path) -> ImageConfig:
    if "visual.proj" not in weights:
        return cast(ImageConfig, _resnet(weights, file))
    width, _, _, patch = _shape(weights, file, "visual.conv1.weight", 4)
    places, _ = _shape(weights, file, "visual.positional_embedding", 2)
    _, projection = _shape(weights, file, "visual.proj", 2)
    found = ImageConfig(
        family="clip",
        width=width,
        mlp_width=4 * width,
        layers=_depth(weights, "visual.transformer.resblocks"),
        heads=max(1, width // _HEAD),
        patch=patch,
        image_size=_side(file, patch, places),
        activation="quick_gelu",
        norm_eps=1e-5,
        projection=projection,
    )
    check_heads(found, "image")
    return found


def _resnet(weights: Weights, file: Path) -> ResNetConfig:
    stem = _shape(weights, file, "visual.layer1.0.conv1.weight", 4)[0]
    places, _ = _shape(weights, file, "visual.attnpool.positional_embedding", 2)
    projection, _ = _shape(weights, file, "visual.attnpool.c_proj.weight", 2)
    one, two, three, four = (max(1, _depth(weights, f"visual.layer{i}")) for i in range(1, 5))
    side = _side(file, 32, places)
    if stem % 2:
        raise CheckpointError(f"{file}: 'visual.layer1.0.conv1.weight' has {stem} channels")
    return ResNetConfig((one, two, three, four), stem, 32 * stem // _HEAD, side, projection)


def _shape(weights: Weights, file: Path, name: str, axes: int) -> tuple[int, ...]:
    shape = weights.shape(name) if name in weights else ()
    if len(shape) != axes or not all(shape):
        raise CheckpointError(
            f"{file} holds no tensor {name!r} of {axes} axes; it is not one of OpenAI's CLIP files"
        )
    return shape


def _depth(weights: Weights, stack: str) -> int:
    """Blocks of a stack."""
    found = (re.match(rf"{re.escape(stack)}\.(\d{{1,9}})\.", name) for name in weights)
    return max((int(one[1]) + 1 for one in found if one), default=0)


def _side(file: Path, patch: int, places: int) -> int:
    """Pixels a side of photos whose patches have so many positions, with one for the whole."""
    side = isqrt(max(0, places - 1)) * patch
    if not 0 < side <= _LARGEST or (side // patch) ** 2 + 1 != places:
        raise CheckpointError(f"{file}: {places} positions of patches of {patch} make no square")
    return side
