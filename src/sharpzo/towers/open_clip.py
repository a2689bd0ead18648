"""Checkpoints of OpenCLIP: `open_clip_config.json`, and tensors under the names of OpenAI's CLIP.

`open_clip_options.py` says which towers options ask for, and refuses others by their names; a
tensor that the configuration does not account for is refused here. Source: https://github.com/mlfoundations/open_clip
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sharpzo.errors import CheckpointError
from sharpzo.towers import bottlenecks
from sharpzo.towers.config import (
    ImageConfig,
    PooledImage,
    ResNetConfig,
    TextConfig,
    WholeText,
    convert,
    read_json,
)
from sharpzo.towers.contents import OPEN_CLIP, OPEN_CLIP_FILES, Contents
from sharpzo.towers.open_clip_options import Model, read_image, read_text, refused
from sharpzo.towers.torch_archive import read_archive
from sharpzo.towers.weights import Source, Weights

_RESAMPLE = {"bicubic": 3, "bilinear": 2}  # Pillow's numbers
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


def read_open_clip(folder: Path) -> Contents:
    """Read a folder; raises `CheckpointError` naming the option or tensor at fault."""
    config = read_json(folder / OPEN_CLIP)
    model = convert(config.get("model_cfg"), Model, f"{OPEN_CLIP}: model_cfg")
    text, image = read_text(model), read_image(model)
    tokenizer = model.text_cfg.get("hf_tokenizer_name")
    if tokenizer and not (folder / "tokenizer.json").is_file():
        raise CheckpointError(
            f"{folder} holds no tokenizer.json, and {OPEN_CLIP} asks for the tokenizer "
            f"{tokenizer!r} (text_cfg.hf_tokenizer_name)"
        )
    file = next((folder / name for name in OPEN_CLIP_FILES if (folder / name).is_file()), None)
    if file is None:
        names = ", ".join(OPEN_CLIP_FILES)
        raise CheckpointError(f"{folder} holds none of {names}; download one of them")
    whole = read_archive(file) if file.suffix == ".bin" else Weights.read([file])
    weights = rename(whole, text, image, OPEN_CLIP)
    return Contents(
        text,
        image,
        weights,
        (file,),
        OPEN_CLIP,
        _processor(config.get("preprocess_cfg"), image.image_size),
        clip_words=True,
        warnings=tuple(_disagreement(folder, model.quick_gelu)),
    )


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
    positions = (config.context_length + config.appended, m)
    found = {
        f"{embeddings}.token_embedding.weight": Source(
            f"{own}token_embedding.weight", (config.vocabulary, m)
        ),
        f"{embeddings}.position_embedding.weight": Source(f"{own}positional_embedding", positions),
        **_pair("text_model.final_layer_norm", f"{own}ln_final", m),
    }
    if config.appended:
        found[f"{embeddings}.class_embedding"] = Source(f"{own}cls_emb", (m,))
    head = config.head if isinstance(config, WholeText) else "plain"
    ours = "text_model.head" if isinstance(config, WholeText) else "text_projection"
    if head == "linear":
        found |= _pair(ours, f"{own}text_projection", config.projection, m)
    elif head == "plain":
        turned = Source(f"{own}text_projection", (m, config.projection), turned=True)
        found[f"{ours}.weight"] = turned
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
    }
    states = config.projection if config.pool == "attention" else m
    found["visual_projection.weight"] = Source(
        "visual.proj", (states, config.projection), turned=True
    )
    found |= _pair("vision_model.post_layernorm", "visual.ln_post", states)
    if config.pre:
        found |= _pair("vision_model.pre_layrnorm", "visual.ln_pre", m)
    if isinstance(config, PooledImage):
        found |= _pooled_sources(config)
    return found | _block_sources("vision_model", "visual.transformer", config)


def _pooled_sources(config: PooledImage) -> dict[str, Source]:
    """LayerScale's factors, and the pooler of CoCa, of whose queries the first one is read."""
    m, wide, found = config.width, config.projection, dict[str, Source]()
    if config.scaled:
        for layer in range(config.layers):
            for number in (1, 2):
                found[f"vision_model.encoder.layers.{layer}.layer_scale{number}.lambda1"] = Source(
                    f"visual.transformer.resblocks.{layer}.ls_{number}.gamma", (m,)
                )
    if config.pool != "attention":
        return found
    theirs, ours = "visual.attn_pool", "vision_model.head"
    found[f"{ours}.learned"] = Source(f"{theirs}.query", (config.queries, wide), (0, 1))
    found |= _pair(f"{ours}.query_norm", f"{theirs}.ln_q", wide)
    found |= _pair(f"{ours}.key_norm", f"{theirs}.ln_k", m)
    found |= _pair(f"{ours}.out", f"{theirs}.attn.out_proj", wide, wide)
    for i, (name, width) in enumerate((("query", wide), ("key", m), ("value", m))):
        rows = (i * wide, (i + 1) * wide)
        found[f"{ours}.{name}.bias"] = Source(f"{theirs}.attn.in_proj_bias", (3 * wide,), rows)
        if wide == m:  # torch keeps the three as one
            found[f"{ours}.{name}.weight"] = Source(
                f"{theirs}.attn.in_proj_weight", (3 * m, m), rows
            )
        else:
            of = f"{theirs}.attn.{name[0]}_proj_weight"
            found[f"{ours}.{name}.weight"] = Source(of, (wide, width))
    return found


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


def _processor(raw: object, side: int) -> Mapping[str, Any]:
    """The settings of an image processor as transformers has them."""
    raw = convert(raw or {}, dict[str, Any], f"{OPEN_CLIP}: preprocess_cfg")
    resize, resample = raw.get("resize_mode") or "shortest", raw.get("interpolation") or "bicubic"
    if resize not in ("shortest", "squash"):
        raise refused("preprocess_cfg.resize_mode", resize)
    if resample not in _RESAMPLE:
        raise refused("preprocess_cfg.interpolation", resample)
    square = {"height": side, "width": side}
    return {
        "size": side if resize == "shortest" else square,
        "do_center_crop": resize == "shortest",
        "crop_size": square,
        "resample": _RESAMPLE[resample],
        "image_mean": raw.get("mean"),
        "image_std": raw.get("std"),
    }


def _disagreement(folder: Path, quick_gelu: bool) -> Iterable[str]:
    """What published weights of this name were trained with, if that is not what the configuration
    says."""
    # A hub's folder is models--owner--name/snapshots/commit.
    name = folder.parent.parent.name if folder.parent.name == "snapshots" else folder.name
    found = {"quick_gelu": _QUICK.search(name), "gelu": _EXACT.search(name)}
    for trained, word in found.items():
        if word and quick_gelu != (trained == "quick_gelu"):
            yield (
                f"weights called {word[0]!r} were trained with {trained}, and {OPEN_CLIP} says "
                f"quick_gelu {str(quick_gelu).lower()}: if the name is right, the "
                "features are not"
            )
