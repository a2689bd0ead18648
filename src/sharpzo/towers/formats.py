"""The formats of checkpoints: which files make one, and what they hold in the words of the towers.

A format ends where the towers begin: it gives their configurations, whose ``family`` says which
graph they are (`families.py`), and their tensors under one set of names. A new format is a function
that reads a folder, and an entry in `FORMATS`.
"""

from __future__ import annotations

from pathlib import Path

from sharpzo.towers import open_clip
from sharpzo.towers.config import parse_image, parse_text, read_json
from sharpzo.towers.contents import PROCESSOR, TOKENIZER_FILES, Contents, Format
from sharpzo.towers.weights import INDEX, SINGLE, Weights, files


def _read_transformers(folder: Path) -> Contents:
    config = read_json(folder / "config.json")
    text, image = parse_text(config), parse_image(config)
    path = folder / PROCESSOR
    return Contents(
        text,
        image,
        Weights.open(folder),
        tuple(files(folder)),
        processor=read_json(path) if path.is_file() else None,
    )


TRANSFORMERS = Format(
    "transformers",
    "config.json",
    (SINGLE, "model-*.safetensors", INDEX),
    ("config.json", *TOKENIZER_FILES, PROCESSOR),
    _read_transformers,
)
FORMATS = TRANSFORMERS, open_clip.FORMAT
SIDES = tuple(dict.fromkeys(side for one in FORMATS for side in one.sides))


def find_format(folder: Path) -> Format:
    """Return the format of a checkpoint's folder: the first whose configuration is there; that of
    transformers if none is, or if its `config.json` says a ``model_type``, as repositories hold
    more than one format."""
    there = [one for one in FORMATS if (folder / one.config).is_file()]
    if len(there) > 1 and "model_type" not in read_json(folder / TRANSFORMERS.config):
        there.remove(TRANSFORMERS)
    return there[0] if there else TRANSFORMERS
