"""What the files of a checkpoint hold, and how the files of one format are told apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sharpzo.towers.config import ImageConfig, TextConfig
from sharpzo.towers.weights import Weights

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt")
PROCESSOR = "preprocessor_config.json"
SIGLIP = "siglip", "siglip2"  # model_type
OPEN_CLIP = "open_clip_config.json"
OPEN_CLIP_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
)


@dataclass(frozen=True, eq=False)
class Contents:
    """What the files of a checkpoint hold; nothing but headers is in memory.

    ``weights`` are named as transformers names them; ``parts`` are the files of the weights;
    ``config`` is the configuration's file, for messages; ``processor`` are the settings of an image
    processor as transformers saves it, None: the tower's defaults. ``clip_words``: where no file
    has a tokenizer, it is CLIP's own. ``warnings`` are sentences for who fits with the model.
    ``scale`` and ``bias`` turn cosines into logits where no tensor does. ``blobs`` are files that
    hold a tower whole, by what the names of its tensors would begin with.
    """

    text: TextConfig
    image: ImageConfig
    weights: Weights
    parts: tuple[Path, ...]
    config: str = "config.json"
    processor: Mapping[str, Any] | None = None
    clip_words: bool = False
    warnings: tuple[str, ...] = ()
    scale: float | None = None
    bias: float | None = None
    blobs: Mapping[str, tuple[Path, ...]] = field(default_factory=dict[str, tuple[Path, ...]])


@dataclass(frozen=True)
class Format:
    """Files of one format: ``config`` tells it apart, ``weights`` are patterns of what may hold the
    tensors (a hub id downloads these), ``sides`` are the other files that a model is made of."""

    name: str
    config: str
    weights: tuple[str, ...]
    sides: tuple[str, ...]
    read: Callable[[Path], Contents]
