"""Prompts of text towers that compute them whole: cleaned, framed and filled up as each was
trained."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from sharpzo.errors import CheckpointError
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.config import WholeText, read_json
from sharpzo.towers.prompts import Prompts, lay_out_whole
from sharpzo.towers.tokenizer import Tokenizer


def layout_siglip(
    checkpoint: Checkpoint,
    class_names: Sequence[str],
    template: str,
    n_context: int | None,
    specific: bool,
) -> Prompts:
    """Return the prompts of class names, filled up to the tower's length; see `prompts.layout`.

    Words are in lower case, as both generations were trained; the first also leaves out
    punctuation. Raises `CheckpointError` if no file says which token fills prompts up.
    """
    config, folder = checkpoint.text, checkpoint.folder
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise CheckpointError(
            f"{folder} holds no tokenizer.json; SigLIP's spiece.model alone is not read, save the "
            "tokenizer with transformers (AutoTokenizer.from_pretrained(…).save_pretrained(…))"
        )
    tokenizer = Tokenizer.read(file, config.vocabulary)
    said = _settings(folder)
    tokenizer.clean = _without_punctuation if _first(said) else str.lower
    return lay_out_whole(
        tokenizer, config.context_length, _pad(tokenizer, said, folder), class_names, template,
        n_context, specific,
    )  # fmt: skip


def layout_whole(
    checkpoint: Checkpoint,
    class_names: Sequence[str],
    template: str,
    n_context: int | None,
    specific: bool,
) -> Prompts:
    """`layout_siglip` of OpenCLIP's towers: by CLIP's own words, filled up with id 0, or by another
    tokenizer, cleaned as the configuration says."""
    config, folder = cast(WholeText, checkpoint.text), checkpoint.folder
    if config.words:
        tokenizer, pad = Tokenizer.open(checkpoint), 0
    else:
        tokenizer = Tokenizer.read(folder / "tokenizer.json", config.vocabulary)
        said = _settings(folder)
        tokenizer.clean, pad = _CLEAN[config.clean], _pad(tokenizer, said, folder)
        if config.strip:
            end = tokenizer.id_of(_token(said, "sep_token") or "[SEP]")
            tokenizer.after = tuple(0 if one == end else one for one in tokenizer.after)
    return lay_out_whole(
        tokenizer, config.context_length, pad, class_names, template, n_context, specific
    )


def _settings(folder: Path) -> Mapping[str, Any]:
    file = folder / "tokenizer_config.json"
    return read_json(file) if file.is_file() else {}


def _token(said: Mapping[str, Any], name: str) -> str | None:
    """A token of a tokenizer's settings, which may be an object."""
    token = said.get(name)
    token = token.get("content") if isinstance(token, dict) else token
    return None if token is None else str(token)


def _first(said: Mapping[str, Any]) -> bool:
    """Whether a tokenizer is SigLIP's own, and not Gemma's, which SigLIP 2 took."""
    return str(said.get("tokenizer_class", "")).removesuffix("Fast") == "SiglipTokenizer"


def _without_punctuation(words: str) -> str:
    kept = words.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(kept.split())


def _pad(tokenizer: Tokenizer, said: Mapping[str, Any], folder: Path) -> int:
    """The id of the token that fills prompts up: the tower reads it like any other."""
    token = _token(said, "pad_token")
    found = tokenizer.pad if token is None else tokenizer.id_of(token)
    if found is None:
        raise CheckpointError(
            f"{folder}: neither tokenizer_config.json (pad_token) nor tokenizer.json (padding) "
            "says which token of the vocabulary fills prompts up, and the text tower reads it"
        )
    return found


_CLEAN = {
    "whitespace": lambda words: " ".join(words.split()),
    "lower": lambda words: " ".join(words.lower().split()),
    "canonicalize": lambda words: _without_punctuation(words.replace("_", " ")),
}  # OpenCLIP's names
