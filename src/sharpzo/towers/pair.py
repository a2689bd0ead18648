"""Any two encoders as ONNX files, and what `dual_encoder.json` says of them.

The image encoder makes features of pixels (B, 3, h, w); the text encoder makes them of token
embeddings (B, L, m), which a context can be put into, and of a mask (B, L) if it takes one.
`pair_session.py` runs them. docs/models.md has an example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np
from msgspec import Meta

from sharpzo.errors import CheckpointError
from sharpzo.towers.config import PAIR as FILE
from sharpzo.towers.config import convert, read_json
from sharpzo.towers.onnx_file import OnnxFile, Port, inside
from sharpzo.towers.weights import Source, Weights

Pooling = Literal["none", "first", "last", "mean"]
Scale = Annotated[float, Meta(ge=1e-4, le=1e4)]  # CLIP's is 100
Width = Annotated[int, Meta(ge=1, le=1 << 16)]
Tokens = Annotated[int, Meta(ge=1, le=1 << 13)]
Token = Annotated[int, Meta(ge=0, le=1 << 31)]
# By ONNX's number of the type.
FLOATS: Mapping[int, type] = {1: np.float32, 10: np.float16}
MASKS: Mapping[int, type] = {**FLOATS, 6: np.int32, 7: np.int64, 9: np.bool_}
_TABLE = "text_model.embeddings.token_embedding.weight"  # as transformers calls it


class ImageFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The image encoder. ``pooling`` "none": its output is (B, D); else it is (B, T, D), of which
    the first or the last token is taken, or the mean."""

    file: str
    input: str
    output: str
    pooling: Pooling = "none"


class TextFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The text encoder, whose ``input`` are embeddings of ``width`` numbers: rows of the only
    tensor of ``table``, a safetensors file.

    Prompts hold at most ``length`` tokens. With ``pad``, the id of a token, they are all filled up
    to ``length``, and ``mask`` is 0 there. ``pooling`` takes tokens of the prompt alone.
    """

    file: str
    input: str
    output: str
    table: str
    width: Width
    length: Tokens
    mask: str | None = None
    pad: Token | None = None
    pooling: Pooling = "none"


class PairFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`dual_encoder.json`: features have ``width`` numbers; ``logit_scale`` multiplies their
    cosines, and is not its logarithm; ``logit_bias`` is added for a loss of sigmoids."""

    width: Width
    logit_scale: Scale
    image: ImageFile
    text: TextFile
    tokenizer: str = "tokenizer.json"
    logit_bias: Annotated[float, Meta(ge=-1e4, le=1e4)] | None = None


@dataclass(frozen=True)
class PairText:
    """The text encoder as a configuration of a text tower."""

    said: TextFile
    projection: int
    vocabulary: int
    tokenizer: str
    file: OnnxFile = field(repr=False)  # holds paths, which are no part of a fingerprint
    family: ClassVar[str] = "onnx"

    @property
    def width(self) -> int:
        """Numbers of a token's embedding."""
        return self.said.width

    @property
    def context_length(self) -> int:
        """Tokens that a prompt may have."""
        return self.said.length


@dataclass(frozen=True)
class PairImage:
    """The image encoder as a configuration of an image tower, whose states are its features."""

    said: ImageFile
    projection: int
    file: OnnxFile = field(repr=False)
    family: ClassVar[str] = "onnx"

    @property
    def width(self) -> int:
        """Numbers of a state."""
        return self.projection

    @property
    def batch(self) -> int | None:
        """Photos of a call, of an encoder that takes one number of them alone."""
        shape = self.file.inputs[self.said.input].shape
        return None if shape is None else shape[0]

    def check_size(self, height: int, width: int) -> None:
        """Raise `CheckpointError` for photos of a size that the encoder does not take."""
        port = self.file.inputs[self.said.input]
        sizes = () if port.shape is None else zip(port.shape[2:], (height, width), strict=True)
        if any(wanted not in (None, given) for wanted, given in sizes):
            raise CheckpointError(
                f"preprocessing makes photos of {height}x{width} pixels, {self.file.path} takes "
                f"{port}; make preprocessor_config.json agree with it"
            )


@dataclass(frozen=True, eq=False)
class Pair:
    """What a folder with `dual_encoder.json` holds: the table's ``weights``, and all ``files``
    that the image encoder, and the text encoder with table and tokenizer, are made of."""

    said: PairFile
    text: PairText
    image: PairImage
    weights: Weights
    image_files: tuple[Path, ...]
    text_files: tuple[Path, ...]


def read_pair(folder: Path) -> Pair:
    """Read `dual_encoder.json` and what it names; nothing is run, and of the table nothing but the
    header is read. Raises `CheckpointError` with the file and the field or the port at fault."""
    said = convert(read_json(folder / FILE), PairFile, str(folder / FILE))
    files = {one.file: OnnxFile.open(folder, one.file) for one in (said.image, said.text)}
    image, text = files[said.image.file], files[said.text.file]
    check_image(image, said.image, said.width)
    check_text(text, said.text, said.width)
    table, tokenizer = inside(folder, said.text.table), inside(folder, said.tokenizer)
    weights = _read_table(table, said.text.width)
    rows = weights.shape(_TABLE)[0]
    if said.text.pad is not None and said.text.pad >= rows:
        raise CheckpointError(
            f"{folder / FILE}: text.pad is {said.text.pad}, and {table.name} has {rows:,} rows"
        )
    return Pair(
        said,
        PairText(said.text, said.width, rows, tokenizer.name, text),
        PairImage(said.image, said.width, image),
        weights,
        image.files,
        (*text.files, table, tokenizer),
    )


def _read_table(file: Path, width: int) -> Weights:
    """The token table under the name that prompts look for; `CheckpointError` if it is none."""
    weights = Weights.read([file])
    if len(weights) != 1:
        raise CheckpointError(f"{file} holds {len(weights)} tensors; the token table alone is read")
    (name,) = weights
    shape = weights.shape(name)
    if len(shape) != 2 or shape[1] != width or not shape[0]:
        raise CheckpointError(
            f"{file}: tensor {name!r} has shape {shape}; a row of {width} numbers for each token "
            f"is needed, see text.width in {FILE}"
        )
    return weights.renamed({_TABLE: Source(name, shape)}, FILE)


def check_image(file: OnnxFile, said: ImageFile, width: int) -> None:
    """Raise `CheckpointError` for ports that are not as `dual_encoder.json` says."""
    port = file.port("input", said.input)
    file.only([said.input])
    _check(file, said.input, port, FLOATS, (None, 3, None, None), "pixels (B, 3, height, width)")
    _check_output(file, said.output, said.pooling, width)


def check_text(file: OnnxFile, said: TextFile, width: int) -> None:
    """Raise `CheckpointError` for ports that are not as `dual_encoder.json` says."""
    port, tokens = file.port("input", said.input), said.length
    mask = file.port("input", said.mask) if said.mask else None
    file.only(filter(None, (said.input, said.mask)))
    sizes = (None, None if said.pad is None else tokens, said.width)
    _check(file, said.input, port, FLOATS, sizes, f"embeddings (B, L, {said.width})")
    fixed = port.shape and port.shape[1]
    if fixed is not None and said.pad is None:
        raise CheckpointError(
            f"{file.path}: input {said.input!r} takes {fixed} tokens and no other number; give "
            f"text.pad in {FILE}, the id of the token that fills prompts up, or export it with a "
            "free length"
        )
    if mask is not None and said.mask:
        sizes = (None, None if said.pad is None else tokens)
        _check(file, said.mask, mask, MASKS, sizes, "a mask (B, L)")
    _check_output(file, said.output, said.pooling, width)


def _check_output(file: OnnxFile, name: str, pooling: Pooling, width: int) -> None:
    port = file.port("output", name)
    sizes = (None, width) if pooling == "none" else (None, None, width)
    wanted = f"({'B' if pooling == 'none' else 'B, T'}, {width}) with pooling {pooling!r}"
    _check(file, name, port, FLOATS, sizes, wanted)


def _check(
    file: OnnxFile,
    name: str,
    port: Port,
    kinds: Mapping[int, type],
    sizes: Sequence[int | None],
    wanted: str,
) -> None:
    shape = port.shape
    fits = shape is None or (
        len(shape) == len(sizes)
        and all(None in (one, two) or one == two for one, two in zip(shape, sizes, strict=True))
    )
    if port.kind not in kinds or not fits:
        raise CheckpointError(
            f"{file.path}: {name!r} is {port}, {FILE} asks for {wanted}; mend the one that is wrong"
        )
