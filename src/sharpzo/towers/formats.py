"""The formats of checkpoints: which files make one, and what they hold in the words of the towers.

A format ends where the towers begin: it gives their configurations, whose ``family`` says which
graph they are (`families.py`), and their tensors under one set of names. A new format is a function
that reads a folder, and an entry in `FORMATS`; its module is imported where there is such a folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from sharpzo.errors import CheckpointError
from sharpzo.towers.config import PAIR, ImageConfig, TextConfig, parse_image, parse_text, read_json
from sharpzo.towers.contents import (
    OPEN_CLIP,
    OPEN_CLIP_FILES,
    PROCESSOR,
    SIGLIP,
    TOKENIZER_FILES,
    Contents,
    Format,
)
from sharpzo.towers.weights import INDEX, SINGLE, Weights, files


def _read_transformers(folder: Path) -> Contents:
    config = read_json(folder / "config.json")
    if config.get("model_type") in SIGLIP:
        from sharpzo.towers.siglip_config import parse_siglip_image, parse_siglip_text

        text, image = parse_siglip_text(config), parse_siglip_image(config)
    else:
        text, image = parse_text(config), parse_image(config)
    path = folder / PROCESSOR
    return Contents(
        text,
        image,
        Weights.open(folder),
        tuple(files(folder)),
        processor=read_json(path) if path.is_file() else None,
    )


def _read_open_clip(folder: Path) -> Contents:
    from sharpzo.towers.open_clip import read_open_clip

    return read_open_clip(folder)


def _read_openai(file: Path) -> Contents:
    from sharpzo.towers.openai import read_openai

    return read_openai(file)


def _read_pair(folder: Path) -> Contents:
    from sharpzo.towers.pair import read_pair  # loads ONNX's library

    found = read_pair(folder)
    path = folder / PROCESSOR
    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing; beside {PAIR} it says how photos are resized and normalised, as "
            "transformers saves it"
        )
    return Contents(
        # What is read of a configuration whatever its family: widths, vocabulary, length.
        cast(TextConfig, found.text),
        cast(ImageConfig, found.image),
        found.weights,
        tuple(dict.fromkeys((*found.image_files, *found.text_files))),
        config=PAIR,
        processor=read_json(path),
        scale=found.said.logit_scale,
        bias=found.said.logit_bias,
        blobs={"vision_model.": found.image_files, "text_model.": found.text_files},
    )


TRANSFORMERS = Format(
    "transformers",
    "config.json",
    (SINGLE, "model-*.safetensors", INDEX),
    ("config.json", *TOKENIZER_FILES, PROCESSOR),
    _read_transformers,
)
ONNX_PAIR = Format(
    "two ONNX files",
    PAIR,
    ("*.onnx", "*.onnx?data", "*.data", "*.safetensors", "*.json"),
    (PAIR, PROCESSOR),
    _read_pair,
)
OPEN_CLIP_FOLDER = Format(
    "OpenCLIP", OPEN_CLIP, OPEN_CLIP_FILES[:2], (OPEN_CLIP, *TOKENIZER_FILES), _read_open_clip
)
OPENAI_FILE = Format("OpenAI's file", "", (), (), _read_openai)
FORMATS = (ONNX_PAIR, TRANSFORMERS, OPEN_CLIP_FOLDER)
SIDES = tuple(dict.fromkeys(side for one in FORMATS for side in one.sides))


def find_format(folder: Path) -> Format:
    """Return the format of a checkpoint's folder: the first whose configuration is there; that of
    transformers if none is, or if its `config.json` says a ``model_type``, as repositories hold
    more than one format. Two ONNX files come before all others. A file is one of OpenAI's."""
    if folder.is_file():
        return OPENAI_FILE
    there = [one for one in FORMATS if (folder / one.config).is_file()]
    several = len(there) > 1 and TRANSFORMERS in there
    if several and "model_type" not in read_json(folder / TRANSFORMERS.config):
        there.remove(TRANSFORMERS)
    return there[0] if there else TRANSFORMERS
