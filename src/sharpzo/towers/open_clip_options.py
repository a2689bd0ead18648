"""What the options in `open_clip_config.json` ask of towers; one that no tower here has is refused
by its name."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar, cast

import msgspec
from msgspec import Meta

from sharpzo.errors import CheckpointError
from sharpzo.settings import Count, Fraction
from sharpzo.towers.config import (
    Activation,
    CocaText,
    EosText,
    ImageConfig,
    Json,
    Layers,
    PooledImage,
    ResNetConfig,
    Side,
    TextConfig,
    WholeText,
    check_heads,
    convert,
)
from sharpzo.towers.contents import OPEN_CLIP

T = TypeVar("T", bound=msgspec.Struct)
_Ratio = Annotated[float, Meta(gt=0, le=64)]
_Clean = Literal["whitespace", "lower", "canonicalize"]

# Options with the values under which a tower is one of ours; others are refused by name.
_VISION = {"block_type": "default", "timm_model_name": None}
_TEXT = {"block_type": "default",
         **dict.fromkeys(("ls_init_value", "hf_model_name", "tokenizer_mode"))}  # fmt: skip
# Options that change no feature once the others are as they should be.
_IDLE = {"patch_dropout", "output_tokens", "pos_embed_type"}
_IDLE_PREFIXES = "timm_", "hf_"


class _Norm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    eps: Fraction = 1e-5


class _Activation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    approximate: Literal["none", "tanh"] = "none"


class _Tokenizer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    clean: _Clean | None = None
    strip_sep_token: bool = False


class _Text(msgspec.Struct):
    context_length: Count = 77
    vocab_size: Count = 49408
    width: Count = 512
    heads: Count = 8
    layers: Layers = 12
    mlp_ratio: _Ratio = 4.0
    norm_kwargs: _Norm = _Norm()
    act_kwargs: _Activation = _Activation()
    pool_type: Literal["argmax", "eos", "first", "last", "none"] = "argmax"
    eos_id: int = 2
    pad_id: int = 0
    final_ln_after_pool: bool = False
    embed_cls: bool = False
    no_causal_mask: bool = False
    proj_type: Literal["linear", "none"] = "linear"
    proj_bias: bool = False
    hf_tokenizer_name: str | None = None
    tokenizer_kwargs: _Tokenizer = _Tokenizer()


class _Vision(msgspec.Struct):
    layers: Layers | list[Count] = 12
    width: Count = 768
    head_width: Count = 64
    mlp_ratio: _Ratio = 4.0
    patch_size: Count = 16
    image_size: Side = 224
    norm_kwargs: _Norm = _Norm()
    act_kwargs: _Activation = _Activation()
    ls_init_value: float | None = None
    no_ln_pre: bool = False
    pool_type: Literal["tok", "avg", "none"] = "tok"
    final_ln_after_pool: bool = False
    attentional_pool: bool | str = False
    attn_pooler_queries: Count = 256
    attn_pooler_heads: Count = 8


class Model(msgspec.Struct):
    """``model_cfg``: what both towers share, and the options of each."""

    embed_dim: Count
    vision_cfg: dict[str, Any]
    text_cfg: dict[str, Any]
    quick_gelu: bool = False


def read_text(model: Model) -> TextConfig:
    """Return the text tower; raises `CheckpointError` naming the option at fault."""
    raw = _options(model.text_cfg, "text_cfg", _TEXT, _Text)
    activation = _activation(model, raw.act_kwargs)
    sizes = {
        "vocabulary": raw.vocab_size,
        "width": raw.width,
        "mlp_width": int(raw.width * raw.mlp_ratio),
        "layers": raw.layers,
        "heads": raw.heads,
        "context_length": raw.context_length,
        "activation": activation,
        "norm_eps": raw.norm_kwargs.eps,
        # 2 stands for the highest id of a sentence, as `argmax` does.
        "eos_id": 2 if raw.pool_type == "argmax" else raw.eos_id,
        "projection": model.embed_dim,
    }
    if raw.embed_cls:
        found: TextConfig = _coca(raw, sizes)
    elif _shared(raw, activation):
        kind = EosText if raw.pool_type == "eos" and raw.eos_id == 2 else TextConfig
        found = kind(**sizes)
    else:
        found = _whole(raw, sizes)
    check_heads(found, "text")
    return found


def _shared(raw: _Text, activation: Activation) -> bool:
    """Whether a tower is one of CLIP's, whose prompts share their beginnings."""
    plain = raw.proj_type == "linear" and not raw.proj_bias and activation != "gelu_pytorch_tanh"
    causal = not raw.no_causal_mask and raw.pool_type in ("argmax", "eos")
    return plain and causal and raw.tokenizer_kwargs == _Tokenizer()


def _coca(raw: _Text, sizes: dict[str, Any]) -> CocaText:
    """A tower that is read at a class token behind the prompt, whatever ``pool_type`` says."""
    for option, usual in (("no_causal_mask", False), ("proj_type", "linear"), ("proj_bias", False),
                          ("pad_id", 0), ("hf_tokenizer_name", None)):  # fmt: skip
        if getattr(raw, option) != usual:
            raise refused(f"text_cfg.{option}", getattr(raw, option), " beside embed_cls")
    if sizes["activation"] == "gelu_pytorch_tanh":
        raise refused("text_cfg.act_kwargs", "tanh", " beside embed_cls")
    return CocaText(**sizes)


def _whole(raw: _Text, sizes: dict[str, Any]) -> WholeText:
    if raw.pool_type == "none":
        raise refused("text_cfg.pool_type", "none", ": there is no feature of a sentence")
    if raw.pool_type == "first" and not raw.no_causal_mask:
        raise refused(
            "text_cfg.pool_type", "first", ": the first token sees no other without no_causal_mask"
        )
    if raw.proj_type == "none" and raw.width != sizes["projection"]:
        raise CheckpointError(
            f"{OPEN_CLIP}: text_cfg.proj_type is 'none', and text_cfg.width {raw.width} is not "
            f"embed_dim {sizes['projection']}"
        )
    said = raw.tokenizer_kwargs
    if said != _Tokenizer() and raw.hf_tokenizer_name is None:
        raise refused("text_cfg.tokenizer_kwargs", said, " with CLIP's own tokenizer")
    return WholeText(
        **sizes,
        causal=not raw.no_causal_mask,
        pool="eos" if raw.pool_type == "argmax" else raw.pool_type,
        head="none" if raw.proj_type == "none" else "linear" if raw.proj_bias else "plain",
        clean=said.clean or "whitespace",
        strip=said.strip_sep_token,
        words=raw.hf_tokenizer_name is None,
        legacy=raw.pool_type == "argmax",
    )


def read_image(model: Model) -> ImageConfig:
    """Return the image tower; raises `CheckpointError` naming the option at fault."""
    raw = _options(model.vision_cfg, "vision_cfg", _VISION, _Vision)
    if isinstance(raw.layers, list):
        return _resnet(raw, model.embed_dim)
    if raw.width % raw.head_width:
        raise CheckpointError(
            f"{OPEN_CLIP}: vision_cfg.width {raw.width} is not a multiple of head_width "
            f"{raw.head_width}"
        )
    if raw.pool_type == "none" and not raw.attentional_pool:
        raise refused("vision_cfg.pool_type", "none", ": there is no feature of a photo")
    sizes = {
        "width": raw.width,
        "mlp_width": int(raw.width * raw.mlp_ratio),
        "layers": raw.layers,
        "heads": raw.width // raw.head_width,
        "patch": raw.patch_size,
        "image_size": raw.image_size,
        "activation": _activation(model, raw.act_kwargs),
        "norm_eps": raw.norm_kwargs.eps,
        "projection": model.embed_dim,
    }
    more = {
        "pool": _pool(raw, model.embed_dim),
        "pre": not raw.no_ln_pre,
        "normed_mean": raw.final_ln_after_pool and raw.pool_type == "avg",
        "scaled": raw.ls_init_value is not None,
    }
    usual = {"pool": "tok", "pre": True, "normed_mean": False, "scaled": False}
    if more == usual and sizes["activation"] != "gelu_pytorch_tanh":
        return ImageConfig(family="clip", **sizes)
    if more["pool"] == "attention":
        more |= {"queries": raw.attn_pooler_queries, "readers": raw.attn_pooler_heads}
        more["normed_mean"] = False
    return PooledImage(family="pooled", **sizes, **more)


def _pool(raw: _Vision, width: int) -> str:
    if not raw.attentional_pool:
        return raw.pool_type
    if raw.attentional_pool is not True:
        raise refused("vision_cfg.attentional_pool", raw.attentional_pool)
    if raw.pool_type != "tok":
        raise refused("vision_cfg.pool_type", raw.pool_type, " beside attentional_pool")
    if width > raw.width or width % raw.attn_pooler_heads:
        raise CheckpointError(
            f"{OPEN_CLIP}: with vision_cfg.attentional_pool, embed_dim {width} is at most "
            f"vision_cfg.width ({raw.width}) and a multiple of attn_pooler_heads "
            f"({raw.attn_pooler_heads})"
        )
    return "attention"


def _resnet(raw: _Vision, width: int) -> ImageConfig:
    for option, usual in (("pool_type", "tok"), ("attentional_pool", False), ("no_ln_pre", False),
                          ("ls_init_value", None), ("act_kwargs", _Activation())):  # fmt: skip
        if getattr(raw, option) != usual:
            raise refused(f"vision_cfg.{option}", getattr(raw, option), " of a ResNet")
    stages = cast("list[int]", raw.layers)
    if len(stages) != 4:
        raise refused("vision_cfg.layers", stages)
    one, two, three, four = stages
    heads = 32 * raw.width // raw.head_width
    found = ResNetConfig((one, two, three, four), raw.width, heads, raw.image_size, width)
    if not heads or found.channels % heads or raw.width % 2 or raw.image_size % 32:
        raise CheckpointError(
            f"{OPEN_CLIP}: a ResNet of vision_cfg.width {raw.width}, head_width {raw.head_width} "
            f"and image_size {raw.image_size} cannot be; the width is even, {found.channels} "
            "channels are a multiple of the heads, and the size is one of 32"
        )
    return cast(ImageConfig, found)  # of which the towers of all families share the sizes


def _activation(model: Model, said: _Activation) -> Activation:
    if said.approximate == "tanh":
        if model.quick_gelu:
            raise refused("act_kwargs", "tanh", " beside quick_gelu")
        return "gelu_pytorch_tanh"
    return "quick_gelu" if model.quick_gelu else "gelu"


def _options(given: Json, part: str, wanted: Json, kind: type[T]) -> T:
    """The options of a tower that are read; raises for one that is not supported."""
    raw = {name: value for name, value in given.items() if value is not None}
    for name, value in raw.items():
        if name in kind.__struct_fields__ or name in _IDLE or value in (False, {}, ""):
            continue
        if value != wanted.get(name) and (name in wanted or not name.startswith(_IDLE_PREFIXES)):
            raise refused(f"{part}.{name}", value)
    return convert(raw, kind, f"{OPEN_CLIP}: {part}")


def refused(option: str, value: object, why: str = "") -> CheckpointError:
    """What to raise for an option that no tower here has."""
    return CheckpointError(
        f"{OPEN_CLIP}: {option} is {value!r}, which is not supported{why}; two ONNX files of the "
        "encoders are"
    )
