"""SigLIP's and SigLIP 2's configurations in `config.json`, with transformers' defaults.

SigLIP 2's towers for one size of photo are saved as `siglip`, those for any ("NaFlex") as
`siglip2`; the text towers are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from msgspec import field

from sharpzo.errors import CheckpointError
from sharpzo.settings import Count
from sharpzo.towers.config import ImageConfig, TextConfig, check_heads, convert, one_number
from sharpzo.towers.contents import SIGLIP

# Siglip(2)TextConfig and Siglip(2)VisionConfig of transformers 5.23; older ones agree.
_BOTH = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
         "num_attention_heads": 12, "hidden_act": "gelu_pytorch_tanh",
         "layer_norm_eps": 1e-6}  # fmt: skip
_TEXT = {"vocab_size": 32000, "max_position_embeddings": 64}
_IMAGE = {"patch_size": 16, "num_channels": 3, "vision_use_head": True}


class SiglipText(TextConfig, frozen=True):
    """A text tower that reads both ways, up to the end of what fills prompts up."""

    family: ClassVar[str] = "siglip"
    pool: ClassVar[str] = "last"
    head: ClassVar[str] = "linear"


class SiglipImage(ImageConfig, frozen=True):
    """An image tower whose tokens a head pools; ``flat``: patches are kept with their colours
    last."""

    pool: ClassVar[str] = "head"
    pre: ClassVar[bool] = False

    flat: bool = field(default=False)


class _Patches(ImageConfig, frozen=True):
    """What SigLIP 2 says in place of the photo's size."""

    patches: Count = field(name="num_patches", default=256)


def parse_siglip_text(config: Mapping[str, Any]) -> SiglipText:
    """Return the text tower's settings from the whole `config.json`.

    >>> parse_siglip_text({"model_type": "siglip", "text_config": {"hidden_size": 96}}).projection
    96
    """
    where = "config.json: text_config"
    raw = {**_BOTH, **_TEXT, **_part(config, "text"), "is_causal": False}
    raw["projection_dim"] = raw.get("projection_size") or raw["hidden_size"]
    raw |= {"bos_token_id": 0, "eos_token_id": 0}  # the tokenizer knows these
    found = convert(raw, SiglipText, where)
    check_heads(found, "text")
    return found


def parse_siglip_image(config: Mapping[str, Any]) -> SiglipImage:
    """Return the image tower's settings from the whole `config.json`.

    >>> parse_siglip_image({"model_type": "siglip2"}).image_size
    256
    """
    where = "config.json: vision_config"
    flat = config.get("model_type") == "siglip2"
    raw = {**_BOTH, **_IMAGE, **_part(config, "vision"), "family": "siglip", "flat": flat}
    if raw["num_channels"] != 3:
        raise CheckpointError(f"image tower has {raw['num_channels']} channels; 3 are needed")
    if raw["vision_use_head"] is not True:
        raise CheckpointError(
            f"{where}.vision_use_head is {raw['vision_use_head']}; SigLIP without its pooling head "
            "has no features that text could be compared with"
        )
    raw["projection_dim"] = raw["hidden_size"]
    raw.setdefault("image_size", 224)
    raw |= {name: one_number(raw, name) for name in ("patch_size", "image_size")}
    found = convert(raw, SiglipImage, where)
    if flat:
        patches = convert(raw, _Patches, where).patches
        side = round(patches**0.5)
        if side * side != patches:
            raise CheckpointError(f"{where}.num_patches is {patches}; a square is needed")
        found = convert({**raw, "image_size": side * found.patch}, SiglipImage, where)
    check_heads(found, "image")
    return found


def _part(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One tower's configuration; `CheckpointError` for another kind of tower in its place."""
    given = config.get(f"{name}_config")
    where = f"config.json: {name}_config"
    part = convert({} if given is None else given, dict[str, Any], where)
    known = [f"{kind}_{name}_model" for kind in SIGLIP]
    kind = part.get("model_type", known[0])
    if kind not in known:
        raise CheckpointError(
            f"{where}: a tower of type {kind!r} is not supported in a {config['model_type']} "
            f"model; use {' or '.join(map(repr, known))}"
        )
    return {key: value for key, value in part.items() if value is not None}
