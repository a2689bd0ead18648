"""The towers' configurations in `config.json`, with transformers' defaults for what is missing.

Two architectures are read: `CLIPModel` (model_type "clip") and `VisionTextDualEncoderModel`
(model_type "vision-text-dual-encoder") with a CLIP text tower. Everything else is refused: the
graphs rely on the text tower being causal, so an unknown one must never slip through.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
from msgspec import Meta, field

from sharpzo.errors import CheckpointError
from sharpzo.settings import Count, Fraction, Positive

T = TypeVar("T")
Json = Mapping[str, Any]
Activation = Literal["gelu", "quick_gelu", "gelu_pytorch_tanh"]
# Photos of more pixels than this a side need gigabytes per photo; no CLIP sees half as many.
Side = Annotated[int, Meta(ge=1, le=1024)]
# The largest towers have a hundred; of billions, names alone would fill the memory.
Layers = Annotated[int, Meta(ge=1, le=1000)]
PAIR = "dual_encoder.json"  # of two encoders as ONNX files
_LARGEST_JSON = 64 << 20  # bytes; a sharded model's index takes less than a hundredth


class TextConfig(msgspec.Struct, frozen=True):
    """A causal CLIP text transformer: sizes, activation and the rule that finds EOS.

    ``eos_id`` 2 stands for transformers' legacy rule (features at the highest token id, as in
    OpenAI's own code); any other value pools at the first token equal to it. The defaults are those
    of CLIPTextConfig of transformers 5.23; older ones agree.
    """

    family: ClassVar[str] = "clip"

    vocabulary: Count = field(name="vocab_size", default=49408)
    width: Count = field(name="hidden_size", default=512)
    mlp_width: Count = field(name="intermediate_size", default=2048)
    layers: Layers = field(name="num_hidden_layers", default=12)
    heads: Count = field(name="num_attention_heads", default=8)
    context_length: Count = field(name="max_position_embeddings", default=77)
    activation: Activation = field(name="hidden_act", default="quick_gelu")
    norm_eps: Fraction = field(name="layer_norm_eps", default=1e-5)
    sos_id: int = field(name="bos_token_id", default=49406)
    eos_id: int = field(name="eos_token_id", default=49407)
    projection: Count = field(name="projection_dim", default=512)
    causal: bool = field(name="is_causal", default=True)  # since transformers 5

    appended: ClassVar[int] = 0  # class tokens behind the prompt

    @property
    def highest(self) -> bool:
        """Whether features are taken at the highest token id."""
        return self.eos_id == 2


class EosText(TextConfig, frozen=True):
    """Features are taken at the first token ``eos_id``, whatever its number is."""

    @property
    def highest(self) -> bool:
        return False


class CocaText(TextConfig, frozen=True):
    """A causal text tower that is read at a class token behind everything else."""

    family: ClassVar[str] = "coca"
    appended: ClassVar[int] = 1


class WholeText(TextConfig, frozen=True):
    """A text tower that reads prompts as they are filled up, both ways unless it is ``causal``.

    ``pool``: the token that the feature is made of; ``head``: by a matrix and a bias, by a matrix,
    or as it is. ``clean`` is what is done to words before; ``strip``: the token that ends a
    sentence is filling, too.
    """

    family: ClassVar[str] = "whole"

    pool: Literal["first", "last", "eos"] = "eos"
    head: Literal["linear", "plain", "none"] = "plain"
    clean: Literal["whitespace", "lower", "canonicalize"] = "whitespace"
    strip: bool = False
    words: bool = True  # CLIP's own
    legacy: bool = True  # EOS is the highest id

    @property
    def highest(self) -> bool:
        return self.legacy


class ImageConfig(msgspec.Struct, frozen=True):
    """A vision transformer that is read at its class token: sizes and family."""

    family: Literal["clip", "dinov2", "siglip", "pooled"]
    width: Count = field(name="hidden_size")
    mlp_width: Count = field(name="intermediate_size")
    layers: Layers = field(name="num_hidden_layers")
    heads: Count = field(name="num_attention_heads")
    patch: Count = field(name="patch_size")
    image_size: Side
    activation: Activation = field(name="hidden_act")
    norm_eps: Fraction = field(name="layer_norm_eps")
    projection: Count = field(name="projection_dim")

    pool: ClassVar[str] = "tok"  # what states are made of
    pre: ClassVar[bool] = True  # a norm before the blocks


class PooledImage(ImageConfig, frozen=True):
    """A vision transformer of OpenCLIP with other options than CLIP's.

    ``pool``: "tok", the class token; "avg", the mean of the others, normed after it if
    ``normed_mean``; "attention", what the first of ``queries`` reads with ``readers`` heads.
    ``pre``: a norm comes before the blocks; ``scaled``: LayerScale multiplies what branches add.
    """

    pool: Literal["tok", "avg", "attention"] = "tok"  # type: ignore[misc]
    pre: bool = True  # type: ignore[misc]
    normed_mean: bool = False
    scaled: bool = False
    queries: Count = 1
    readers: Count = 8


class ResNetConfig(msgspec.Struct, frozen=True):
    """A ResNet of OpenAI's CLIP: blocks of its four stages, channels behind its stem.

    >>> ResNetConfig((3, 4, 6, 3), stem=64, heads=32, image_size=224, projection=1024).width
    2049
    """

    stages: tuple[Count, Count, Count, Count]
    stem: Count
    heads: Count
    image_size: Side
    projection: Count
    family: ClassVar[str] = "resnet"

    @property
    def channels(self) -> int:
        """Width of what attention reads."""
        return 32 * self.stem

    @property
    def width(self) -> int:
        """Numbers of a state: the last one is 1, for the projection's bias."""
        return self.channels + 1

    @property
    def side(self) -> int:
        """Places a side that attention reads."""
        return self.image_size // 32

    @property
    def layers(self) -> int:
        """Blocks of all stages."""
        return sum(self.stages)


class _Dinov2(msgspec.Struct):
    """Where Dinov2Config differs from CLIPVisionConfig."""

    hidden_size: Count
    mlp_ratio: Positive = 4
    qkv_bias: bool = True
    use_swiglu_ffn: bool = False


# CLIPVisionConfig and Dinov2Config of transformers 5.23; older ones agree.
_IMAGE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
          "num_attention_heads": 12, "num_channels": 3, "image_size": 224}  # fmt: skip
_CLIP = {"patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
_DINOV2 = {"patch_size": 14, "hidden_act": "gelu", "layer_norm_eps": 1e-6}


def convert(raw: Any, kind: type[T], where: str) -> T:
    """Return JSON as a type; raises `CheckpointError`, with its place in the file ``where``.

    >>> convert({"hidden_size": "wide"}, TextConfig, "config.json: text_config")
    Traceback (most recent call last):
        ...
    sharpzo.errors.CheckpointError: config.json: text_config.hidden_size: expected `int`, got `str`
    """
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        path = path.rstrip("`")
        if path and where.endswith(".json"):  # the file itself, not a place in it
            path = f": {path.lstrip('.')}"
        message = f"{where}{path}: {what[0].lower()}{what[1:]}"
        raise CheckpointError(message) from None
    except UnicodeError:
        raise CheckpointError(f"{where} holds text that is not UTF-8") from None


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object from a file of the checkpoint."""
    try:
        if path.exists() and not path.is_file():
            raise CheckpointError(f"{path} is no file; it is refused")  # a pipe would block
        if path.stat().st_size > _LARGEST_JSON:
            raise CheckpointError(f"{path} is larger than any such file; it is refused")
        value = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} is missing; a model folder in Hugging Face layout is needed"
        ) from None
    except RecursionError:
        raise CheckpointError(f"{path} is nested too deeply; it is refused") from None
    except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
        raise CheckpointError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds {type(value).__name__}, not a JSON object")
    return value


def parse_text(config: Json) -> TextConfig:
    """Return the text tower's settings from the whole `config.json`.

    >>> parse_text({"model_type": "clip", "text_config": {"hidden_size": 64}}).width
    64
    """
    raw = {**_part(config, "text"), "projection_dim": config.get("projection_dim") or 512}
    kind = raw.get("model_type", "clip_text_model")
    if kind != "clip_text_model":
        raise CheckpointError(
            f"text tower of type {kind!r} is not supported: only the causal CLIP text transformer "
            "('clip_text_model') is, because features are computed up to EOS alone"
        )
    raw |= {name: one_number(raw, name) for name in ("eos_token_id",) if name in raw}
    found = convert(raw, TextConfig, "config.json: text_config")
    _check_activation(found, "text")
    check_heads(found, "text")
    return found


def parse_image(config: Json) -> ImageConfig:
    """Return the image tower's settings from the whole `config.json`.

    >>> parse_image({"model_type": "clip", "vision_config": {"patch_size": 16}}).patch
    16
    """
    part, where = _part(config, "vision"), "config.json: vision_config"
    kind = part.get("model_type", "clip_vision_model")
    if kind == "clip_vision_model":
        raw = {**_IMAGE, **_CLIP, **part, "family": "clip"}
    elif kind == "dinov2":
        raw = {**_IMAGE, **_DINOV2, **part, "family": "dinov2"}
        more = convert(raw, _Dinov2, where)
        raw["intermediate_size"] = int(more.hidden_size * more.mlp_ratio)
        if more.use_swiglu_ffn or not more.qkv_bias:
            raise CheckpointError("DINOv2 with SwiGLU or without query biases is not supported")
    else:
        raise CheckpointError(
            f"image tower of type {kind!r} is not supported: use 'clip_vision_model' or 'dinov2'"
        )
    if raw["num_channels"] != 3:
        raise CheckpointError(f"image tower has {raw['num_channels']} channels; 3 are needed")
    raw |= {name: one_number(raw, name) for name in ("patch_size", "image_size")}
    raw["projection_dim"] = config.get("projection_dim") or 512
    found = convert(raw, ImageConfig, where)
    _check_activation(found, "vision")
    check_heads(found, "image")
    return found


def _check_activation(config: TextConfig | ImageConfig, tower: str) -> None:
    if config.activation == "gelu_pytorch_tanh":
        raise CheckpointError(
            f"config.json: {tower}_config.hidden_act is {config.activation!r}; a tower of this "
            "family has 'gelu' or 'quick_gelu'"
        )


def _part(config: Json, name: str) -> dict[str, Any]:
    kind = config.get("model_type")
    if kind not in ("clip", "vision-text-dual-encoder"):
        raise CheckpointError(
            f"model_type {kind!r} is not supported: a CLIPModel ('clip'), a SiglipModel or "
            "Siglip2Model ('siglip', 'siglip2') or a VisionTextDualEncoderModel "
            "('vision-text-dual-encoder') is needed; any other pair of encoders can be exported "
            f"to ONNX, see {PAIR} in the documentation"
        )
    # Old CLIP configurations carry `text_config_dict`, which transformers lets win as a whole.
    part = config.get(f"{name}_config_dict")
    if part is None:
        part = config.get(f"{name}_config")
    part = convert({} if part is None else part, dict[str, Any], f"config.json: {name}_config")
    if kind != "clip" and "model_type" not in part:
        raise CheckpointError(f"config.json says no model_type in {name}_config")
    return {key: value for key, value in part.items() if value is not None}


def one_number(raw: Json, name: str) -> Any:
    """Return the number that a list repeats; `CheckpointError` for a list of several."""
    value = raw[name]
    if not isinstance(value, list):
        return value
    if not value or value != value[:1] * len(value):
        raise CheckpointError(f"config.json: {name} is {value}; one number is needed")
    return value[0]


def check_heads(config: TextConfig | ImageConfig, tower: str) -> None:
    """Raise `CheckpointError` for a width that heads cannot share."""
    if config.width % config.heads:
        raise CheckpointError(
            f"{tower} tower: width {config.width} is not a multiple of {config.heads} heads"
        )
