"""Checkpoints of OpenCLIP: `open_clip_config.json`, and tensors under the names of OpenAI's CLIP.

What changes a tower and is not supported is refused under its option's name; so is a tensor that
the configuration does not account for. Source: https://github.com/mlfoundations/open_clip
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

import msgspec
from msgspec import Meta

from sharpzo.errors import CheckpointError
from sharpzo.settings import Count, Fraction
from sharpzo.towers import bottlenecks
from sharpzo.towers.config import (
    Activation,
    ImageConfig,
    Json,
    ResNetConfig,
    Side,
    TextConfig,
    check_heads,
    convert,
    read_json,
)
from sharpzo.towers.contents import TOKENIZER_FILES, Contents, Format
from sharpzo.towers.torch_archive import read_archive
from sharpzo.towers.weights import Source, Weights

CONFIG = "open_clip_config.json"
FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
)
T = TypeVar("T", bound=msgspec.Struct)
_Ratio = Annotated[float, Meta(gt=0, le=64)]
_RESAMPLE = {"bicubic": 3, "bilinear": 2}  # Pillow's numbers

# Options with the values under which a tower is one of ours; others are refused by name.
_VISION = {
    "pool_type": "tok", "block_type": "default",
    **dict.fromkeys(("ls_init_value", "attentional_pool", "no_ln_pre", "act_kwargs",
                     "timm_model_name")),
}  # fmt: skip
_TEXT = {
    "proj_type": "linear", "block_type": "default",
    **dict.fromkeys(("ls_init_value", "no_causal_mask", "embed_cls", "proj_bias", "act_kwargs",
                     "hf_model_name", "tokenizer_mode", "tokenizer_kwargs")),
}  # fmt: skip
# Options that change no feature once the ones above are as they should be.
_IDLE = {"patch_dropout", "output_tokens", "final_ln_after_pool", "pos_embed_type", "pad_id",
         "attn_pooler_queries", "attn_pooler_heads"}  # fmt: skip
_IDLE_PREFIXES = "timm_", "hf_"
# Tensors beside the towers: of a sigmoid loss, of CoCa's decoder, and buffers.
_BESIDE = re.compile(
    r"logit_bias$|text_decoder\.|input_resolution$|context_length$|vocab_size$"
    r"|(?:.*\.)?(?:attn_mask|num_batches_tracked)$"
)
_BLOCKS = re.compile(
    r"((?:visual\.|text\.)?transformer\.resblocks|visual\.layer[1-4])\.(\d{1,9})\."
)
_LAYERS = {"layer_norm1": "ln_1", "self_attn.out_proj": "attn.out_proj", "layer_norm2": "ln_2",
           "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}  # fmt: skip
# What published weights were trained with, by a word in the name of their folder or repository.
_QUICK = re.compile(r"openai|metaclip|dfn[25]b|yfcc15m|cc12m", re.IGNORECASE)
_EXACT = re.compile(r"laion-?2b|datacomp|commonpool", re.IGNORECASE)


class _Norm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    eps: Fraction = 1e-5


class _Text(msgspec.Struct):
    context_length: Count = 77
    vocab_size: Count = 49408
    width: Count = 512
    heads: Count = 8
    layers: Count = 12
    mlp_ratio: _Ratio = 4.0
    norm_kwargs: _Norm = _Norm()
    pool_type: Literal["argmax", "eos"] = "argmax"
    eos_id: int = 2
    hf_tokenizer_name: str | None = None


class _Vision(msgspec.Struct):
    layers: Count | list[Count] = 12
    width: Count = 768
    head_width: Count = 64
    mlp_ratio: _Ratio = 4.0
    patch_size: Count = 16
    image_size: Side = 224
    norm_kwargs: _Norm = _Norm()


class _Model(msgspec.Struct):
    embed_dim: Count
    vision_cfg: dict[str, Any]
    text_cfg: dict[str, Any]
    quick_gelu: bool = False


def read_open_clip(folder: Path) -> Contents:
    """Read a folder; raises `CheckpointError` naming the option or tensor at fault."""
    config = read_json(folder / CONFIG)
    model = convert(config.get("model_cfg"), _Model, f"{CONFIG}: model_cfg")
    parts = {"text_cfg": model.text_cfg, "vision_cfg": model.vision_cfg}
    activation: Activation = "quick_gelu" if model.quick_gelu else "gelu"
    text = _text(parts, activation, model.embed_dim)
    image = _image(parts, activation, model.embed_dim)
    tokenizer = model.text_cfg.get("hf_tokenizer_name")
    if tokenizer and not (folder / "tokenizer.json").is_file():
        raise CheckpointError(
            f"{folder} holds no tokenizer.json, and {CONFIG} asks for the tokenizer "
            f"{tokenizer!r} (text_cfg.hf_tokenizer_name)"
        )
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None:
        raise CheckpointError(f"{folder} holds none of {', '.join(FILES)}; download one of them")
    whole = read_archive(file) if file.suffix == ".bin" else Weights.read([file])
    weights = rename(whole, text, image, CONFIG)
    return Contents(
        text,
        image,
        weights,
        (file,),
        CONFIG,
        _processor(config.get("preprocess_cfg"), image.image_size),
        clip_words=True,
        warnings=tuple(_disagreement(folder, activation)),
    )


FORMAT = Format("OpenCLIP", CONFIG, FILES[:2], (CONFIG, *TOKENIZER_FILES), read_open_clip)


def rename(weights: Weights, text: TextConfig, image: ImageConfig, config: str) -> Weights:
    """Return the tensors of both towers under our names.

    Raises `CheckpointError` for one that is missing, of another shape, or beyond what the file
    ``config`` tells of the towers.
    """
    own = "text." if any(name.startswith("text.") for name in weights) else ""
    depth = {f"{own}transformer.resblocks": text.layers}
    if isinstance(image, ResNetConfig):
        depth |= {f"visual.layer{i}": many for i, many in enumerate(image.stages, 1)}
    else:
        depth["visual.transformer.resblocks"] = image.layers
    _check_depth(weights, depth, config)
    scale = ("logit_scale" in weights and weights.shape("logit_scale") == (1,)) * (1,)
    sources = {
        "logit_scale": Source("logit_scale", scale, view=()),
        **_text_sources(text, own),
        **_image_sources(image),
    }
    known = {source.name for source in sources.values()}
    unknown = [name for name in weights if name not in known and not _BESIDE.match(name)]
    if unknown:
        raise CheckpointError(
            f"{weights.file(unknown[0])} holds {unknown[0]!r}, which no supported option of "
            f"{config} asks for; the towers would compute something else"
        )
    return weights.renamed(sources, config)


def _check_depth(weights: Weights, layers: Mapping[str, int], config: str) -> None:
    """Raise for a stack of blocks that is not as deep as the configuration says."""
    deepest = dict.fromkeys(layers, -1)
    for found in filter(None, map(_BLOCKS.match, weights)):
        deepest[found[1]] = max(int(found[2]), deepest.get(found[1], -1))
    for name, last in deepest.items():
        if last + 1 != layers.get(name, 0):
            raise CheckpointError(
                f"the weights hold {last + 1} blocks '{name}', but {config} says "
                f"{layers.get(name, 0)} layers; they do not belong together, or the download is "
                "incomplete"
            )


def _text_sources(config: TextConfig, own: str) -> dict[str, Source]:
    m, embeddings = config.width, "text_model.embeddings"
    found = {
        f"{embeddings}.token_embedding.weight": Source(
            f"{own}token_embedding.weight", (config.vocabulary, m)
        ),
        f"{embeddings}.position_embedding.weight": Source(
            f"{own}positional_embedding", (config.context_length, m)
        ),
        "text_projection.weight": Source(
            f"{own}text_projection", (m, config.projection), turned=True
        ),
        **_pair("text_model.final_layer_norm", f"{own}ln_final", m),
    }
    return found | _block_sources("text_model", f"{own}transformer", config)


def _resnet_sources(config: ResNetConfig) -> dict[str, Source]:
    """The tensors of a ResNet keep their names, but for the last projection."""
    found: dict[str, Source] = {}
    for name, shape in bottlenecks.shapes(config).items():
        last = name.removeprefix("attnpool.c_proj")
        ours = f"visual_projection{last}" if last != name else f"vision_model.{name}"
        found[ours] = Source(f"visual.{name}", shape)
    return found


def _image_sources(config: ImageConfig) -> dict[str, Source]:
    if isinstance(config, ResNetConfig):
        return _resnet_sources(config)
    m, p, grid = config.width, config.patch, config.image_size // config.patch
    embeddings = "vision_model.embeddings"
    found = {
        f"{embeddings}.class_embedding": Source("visual.class_embedding", (m,)),
        f"{embeddings}.position_embedding.weight": Source(
            "visual.positional_embedding", (1 + grid * grid, m)
        ),
        f"{embeddings}.patch_embedding.weight": Source("visual.conv1.weight", (m, 3, p, p)),
        "visual_projection.weight": Source("visual.proj", (m, config.projection), turned=True),
        **_pair("vision_model.pre_layrnorm", "visual.ln_pre", m),
        **_pair("vision_model.post_layernorm", "visual.ln_post", m),
    }
    return found | _block_sources("vision_model", "visual.transformer", config)


def _block_sources(ours: str, theirs: str, config: TextConfig | ImageConfig) -> dict[str, Source]:
    m, wide, found = config.width, config.mlp_width, dict[str, Source]()
    shapes = {"mlp.fc1": (wide, m), "mlp.fc2": (m, wide), "self_attn.out_proj": (m, m)}
    for layer in range(config.layers):
        to, of = f"{ours}.encoder.layers.{layer}", f"{theirs}.resblocks.{layer}"
        for name, other in _LAYERS.items():
            found |= _pair(f"{to}.{name}", f"{of}.{other}", *shapes.get(name, (m,)))
        for i, name in enumerate("qkv"):  # one matrix there
            for kind, shape in (("weight", (3 * m, m)), ("bias", (3 * m,))):
                found[f"{to}.self_attn.{name}_proj.{kind}"] = Source(
                    f"{of}.attn.in_proj_{kind}", shape, (i * m, (i + 1) * m)
                )
    return found


def _pair(ours: str, theirs: str, *shape: int) -> dict[str, Source]:
    return {
        f"{ours}.weight": Source(f"{theirs}.weight", shape),
        f"{ours}.bias": Source(f"{theirs}.bias", shape[:1]),
    }


def _text(model: Json, activation: Activation, width: int) -> TextConfig:
    raw = _options(model, "text_cfg", _TEXT, _Text)
    found = TextConfig(
        vocabulary=raw.vocab_size,
        width=raw.width,
        mlp_width=int(raw.width * raw.mlp_ratio),
        layers=raw.layers,
        heads=raw.heads,
        context_length=raw.context_length,
        activation=activation,
        norm_eps=raw.norm_kwargs.eps,
        # 2 stands for the highest id of a sentence, as `argmax` does.
        eos_id=2 if raw.pool_type == "argmax" else raw.eos_id,
        projection=width,
    )
    check_heads(found, "text")
    return found


def _image(model: Json, activation: Activation, width: int) -> ImageConfig:
    raw = _options(model, "vision_cfg", _VISION, _Vision)
    if isinstance(raw.layers, list):
        if len(raw.layers) != 4:
            raise _refused("vision_cfg.layers", raw.layers)
        one, two, three, four = raw.layers
        heads = 32 * raw.width // raw.head_width
        found = ResNetConfig((one, two, three, four), raw.width, heads, raw.image_size, width)
        if not heads or found.channels % heads or raw.width % 2 or raw.image_size % 32:
            raise CheckpointError(
                f"{CONFIG}: a ResNet of vision_cfg.width {raw.width}, head_width {raw.head_width} "
                f"and image_size {raw.image_size} cannot be; the width is even, {found.channels} "
                "channels are a multiple of the heads, and the size is one of 32"
            )
        return cast(ImageConfig, found)  # of which the towers of all families share the sizes
    if raw.width % raw.head_width:
        raise CheckpointError(
            f"{CONFIG}: vision_cfg.width {raw.width} is not a multiple of head_width "
            f"{raw.head_width}"
        )
    return ImageConfig(
        family="clip",
        width=raw.width,
        mlp_width=int(raw.width * raw.mlp_ratio),
        layers=raw.layers,
        heads=raw.width // raw.head_width,
        patch=raw.patch_size,
        image_size=raw.image_size,
        activation=activation,
        norm_eps=raw.norm_kwargs.eps,
        projection=width,
    )


def _options(model: Json, part: str, wanted: Json, kind: type[T]) -> T:
    """The options of a tower that say its sizes; raises for one that is not supported."""
    raw = convert(model.get(part), dict[str, Any], f"{CONFIG}: {part}")
    raw = {name: value for name, value in raw.items() if value is not None}
    for name, value in raw.items():
        if name in kind.__struct_fields__ or name in _IDLE or value in (False, {}, ""):
            continue
        if value != wanted.get(name) and (name in wanted or not name.startswith(_IDLE_PREFIXES)):
            raise _refused(f"{part}.{name}", value)
    return convert(raw, kind, f"{CONFIG}: {part}")


def _refused(option: str, value: object) -> CheckpointError:
    return CheckpointError(
        f"{CONFIG}: {option} is {value!r}, which is not supported; two ONNX files of the encoders "
        "are"
    )


def _processor(raw: object, side: int) -> Mapping[str, Any]:
    """The settings of an image processor as transformers has them."""
    raw = convert(raw or {}, dict[str, Any], f"{CONFIG}: preprocess_cfg")
    resize, resample = raw.get("resize_mode") or "shortest", raw.get("interpolation") or "bicubic"
    if resize not in ("shortest", "squash"):
        raise _refused("preprocess_cfg.resize_mode", resize)
    if resample not in _RESAMPLE:
        raise _refused("preprocess_cfg.interpolation", resample)
    square = {"height": side, "width": side}
    return {
        "size": side if resize == "shortest" else square,
        "do_center_crop": resize == "shortest",
        "crop_size": square,
        "resample": _RESAMPLE[resample],
        "image_mean": raw.get("mean"),
        "image_std": raw.get("std"),
    }


def _disagreement(folder: Path, activation: str) -> Iterable[str]:
    """What published weights of this name were trained with, if that is not what the configuration
    says."""
    # A hub's folder is models--owner--name/snapshots/commit.
    name = folder.parent.parent.name if folder.parent.name == "snapshots" else folder.name
    found = {"quick_gelu": _QUICK.search(name), "gelu": _EXACT.search(name)}
    for trained, word in found.items():
        if word and trained != activation:
            yield (
                f"weights called {word[0]!r} were trained with {trained}, and {CONFIG} says "
                f"quick_gelu {str(activation == 'quick_gelu').lower()}: if the name is right, the "
                "features are not"
            )
