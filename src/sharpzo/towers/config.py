"""What `config.json` says of the two towers, with transformers' defaults where it is silent.

Two architectures are read: `CLIPModel` (model_type "clip") and `VisionTextDualEncoderModel`
(model_type "vision-text-dual-encoder") with a CLIP text tower. Everything else is refused: the
graphs rely on the text tower being causal, so an unknown one must never slip through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sharpzo.errors import CheckpointError

Settings = Mapping[str, Any]

ACTIVATIONS = ("gelu", "quick_gelu")

# CLIPTextConfig, CLIPVisionConfig and Dinov2Config of transformers 5.23; older ones agree.
TEXT_DEFAULTS = {
    "model_type": "clip_text_model", "vocab_size": 49408, "hidden_size": 512,
    "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8,
    "max_position_embeddings": 77, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
    "bos_token_id": 49406, "eos_token_id": 49407,
}  # fmt: skip
CLIP_IMAGE_DEFAULTS = {
    "model_type": "clip_vision_model", "hidden_size": 768, "intermediate_size": 3072,
    "num_hidden_layers": 12, "num_attention_heads": 12, "num_channels": 3, "image_size": 224,
    "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip
DINOV2_DEFAULTS = {
    "model_type": "dinov2", "hidden_size": 768, "mlp_ratio": 4, "num_hidden_layers": 12,
    "num_attention_heads": 12, "num_channels": 3, "image_size": 224, "patch_size": 14,
    "hidden_act": "gelu", "layer_norm_eps": 1e-6, "qkv_bias": True, "use_swiglu_ffn": False,
}  # fmt: skip


@dataclass(frozen=True)
class TextConfig:
    """A causal CLIP text transformer: sizes, activation and the rule that finds EOS.

    ``eos_id`` 2 stands for transformers' legacy rule (features at the highest token id, as in
    OpenAI's own code); any other value pools at the first token equal to it.
    """

    vocabulary: int
    width: int
    mlp_width: int
    layers: int
    heads: int
    context_length: int
    activation: str
    norm_eps: float
    sos_id: int
    eos_id: int
    projection: int
    causal: bool = True

    @property
    def legacy_pooling(self) -> bool:
        """Whether the feature is taken at the highest token id instead of the first EOS."""
        return self.eos_id == 2


@dataclass(frozen=True)
class ImageConfig:
    """A vision transformer that is read at its class token: sizes and family."""

    family: Literal["clip", "dinov2"]
    width: int
    mlp_width: int
    layers: int
    heads: int
    patch: int
    image_size: int
    activation: str
    norm_eps: float
    projection: int


def parse_text(config: Settings) -> TextConfig:
    """Return the text tower's settings from the whole `config.json`.

    >>> parse_text({"model_type": "clip", "text_config": {"hidden_size": 64}}).width
    64
    """
    raw = {**TEXT_DEFAULTS, **_part(config, "text")}
    if raw["model_type"] != "clip_text_model":
        raise CheckpointError(
            f"text tower of type {raw['model_type']!r} is not supported: only the causal CLIP text "
            "transformer ('clip_text_model') is, because features are computed up to EOS alone"
        )
    eos = raw["eos_token_id"]
    if isinstance(eos, list) and len(eos) == 1:
        eos = eos[0]
    if not isinstance(eos, int):
        raise CheckpointError(f"eos_token_id of the text tower is {eos!r}; one integer is needed")
    return TextConfig(
        vocabulary=raw["vocab_size"],
        width=raw["hidden_size"],
        mlp_width=raw["intermediate_size"],
        layers=raw["num_hidden_layers"],
        heads=_heads(raw, "text"),
        context_length=raw["max_position_embeddings"],
        activation=_activation(raw, "text"),
        norm_eps=raw["layer_norm_eps"],
        sos_id=raw["bos_token_id"],
        eos_id=eos,
        projection=config.get("projection_dim") or 512,
        causal=bool(raw.get("is_causal", True)),  # transformers 5 lets a configuration say so
    )


def parse_image(config: Settings) -> ImageConfig:
    """Return the image tower's settings from the whole `config.json`.

    >>> parse_image({"model_type": "clip", "vision_config": {"patch_size": 16}}).patch
    16
    """
    part = _part(config, "vision")
    family = part.get("model_type", "clip_vision_model")
    if family == "clip_vision_model":
        raw = {**CLIP_IMAGE_DEFAULTS, **part}
        mlp_width = raw["intermediate_size"]
    elif family == "dinov2":
        raw = {**DINOV2_DEFAULTS, **part}
        mlp_width = int(raw["hidden_size"] * raw["mlp_ratio"])
        if raw["use_swiglu_ffn"] or not raw["qkv_bias"]:
            raise CheckpointError("DINOv2 with SwiGLU or without query biases is not supported")
    else:
        raise CheckpointError(
            f"image tower of type {family!r} is not supported: use 'clip_vision_model' or 'dinov2'"
        )
    if raw["num_channels"] != 3:
        raise CheckpointError(f"image tower has {raw['num_channels']} channels; 3 are needed")
    return ImageConfig(
        family="dinov2" if family == "dinov2" else "clip",
        width=raw["hidden_size"],
        mlp_width=mlp_width,
        layers=raw["num_hidden_layers"],
        heads=_heads(raw, "image"),
        patch=_side(raw["patch_size"], "patch_size"),
        image_size=_side(raw["image_size"], "image_size"),
        activation=_activation(raw, "image"),
        norm_eps=raw["layer_norm_eps"],
        projection=config.get("projection_dim") or 512,
    )


def _part(config: Settings, name: str) -> dict[str, Any]:
    kind = config.get("model_type")
    if kind not in ("clip", "vision-text-dual-encoder"):
        raise CheckpointError(
            f"model_type {kind!r} is not supported: a CLIPModel ('clip') or a "
            "VisionTextDualEncoderModel ('vision-text-dual-encoder') is needed"
        )
    # Old CLIP configurations carry `text_config_dict`, which transformers lets win as a whole.
    part = config.get(f"{name}_config_dict")
    if part is None:
        part = config.get(f"{name}_config")
    if part is None:
        part = {}
    if kind != "clip" and "model_type" not in part:
        raise CheckpointError(f"config.json says no model_type in {name}_config")
    return {key: value for key, value in part.items() if value is not None}


def _heads(raw: Settings, tower: str) -> int:
    width, heads = raw["hidden_size"], raw["num_attention_heads"]
    if width % heads:
        raise CheckpointError(f"{tower} tower: width {width} is not a multiple of {heads} heads")
    return int(heads)


def _activation(raw: Settings, tower: str) -> str:
    if raw["hidden_act"] not in ACTIVATIONS:
        raise CheckpointError(
            f"{tower} tower: activation {raw['hidden_act']!r} is not one of {ACTIVATIONS}"
        )
    return str(raw["hidden_act"])


def _side(value: int | list[int], name: str) -> int:
    sides = [value] if isinstance(value, int) else list(value)
    if len(set(sides)) != 1:
        raise CheckpointError(f"{name} {value} is not square; one number is needed")
    return int(sides[0])
