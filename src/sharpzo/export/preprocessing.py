"""The way from a photo to a tower's pixels as ONNX nodes; `towers/preprocess.py` is what they
follow.

ONNX Runtime's antialiased Resize computes what Pillow's does but for the rounding of pixels by one
level: of few, and of more in photos twice as tall as wide, which Pillow resizes along columns
first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sharpzo.data.photo import FIXED_VIEWS
from sharpzo.errors import InputError
from sharpzo.towers.preprocess import THIN, Preprocessing

if TYPE_CHECKING:
    from onnx import TensorProto  # noqa: F401

    from sharpzo.towers.graph import Builder

_FILTERS = {2: {"mode": "linear"}, 3: {"mode": "cubic", "cubic_coeff_a": -0.5}}  # Pillow's numbers
_FLOAT = 1  # TensorProto.FLOAT


def write_pixels(build: Builder, photo: str, preprocessing: Preprocessing) -> str:
    """Return pixels float32 (1, 3, h, w) of the value ``photo``, uint8 (H, W, 3) of any size.

    Of a photo more than 8 times as long as wide the middle stretch alone is resized, to the same
    pixels but for a shift by less than one of them. Raises InputError for a filter that ONNX lacks.
    """
    edge, crop = preprocessing.resize, preprocessing.crop
    if isinstance(edge, int) and crop is not None and max(crop) <= THIN * edge:
        photo = _stretch(build, photo)
    x = build.op("Transpose", photo, perm=[2, 0, 1])
    x = build.op("Unsqueeze", x, build.constant([0]))
    sides = build.op("Shape", photo, start=0, end=2)
    if edge is not None:
        if preprocessing.resample not in _FILTERS:
            raise InputError(
                f"the model resizes photos with filter {preprocessing.resample} of Pillow, which "
                "ONNX does not have; export with --input pixels"
            )
        sides = _target(build, sides, edge)
        whole = build.op("Concat", build.constant([1, 3]), sides, axis=0)
        x = build.op(
            "Resize", x, "", "", whole, antialias=1, exclude_outside=1,
            coordinate_transformation_mode="half_pixel", **_FILTERS[preprocessing.resample],
        )  # fmt: skip
    if crop is not None:
        if edge is None or np.any(np.array(edge) < crop):
            x, sides = _padded(build, x, sides, crop)
        wanted = build.constant(list(crop))
        begin = build.op("Div", build.op("Sub", sides, wanted), build.constant([2]))
        end = build.op("Add", begin, wanted)
        x = build.op("Slice", x, begin, end, build.constant([2, 3]))
    x = build.op("Cast", x, to=_FLOAT)
    if preprocessing.rescale is not None:
        x = build.op("Mul", x, build.constant(np.float32(preprocessing.rescale)))
    if preprocessing.normalize:
        mean, std = (
            np.array(values, np.float32).reshape(1, 3, 1, 1)
            for values in (preprocessing.mean, preprocessing.std)
        )
        x = build.op("Div", build.op("Sub", x, build.constant(mean)), build.constant(std))
    return x


def write_view(build: Builder, photo: str, view: str) -> str:
    """Return what a fixed view shows of the value ``photo``, both uint8 (H, W, 3)."""
    share, mirrored = FIXED_VIEWS[view]
    if share < 1:
        sides = build.op("Shape", photo, start=0, end=2)
        scaled = build.op("Mul", build.op("Cast", sides, to=_FLOAT), build.constant(share))
        kept = build.op("Cast", build.op("Round", scaled), to=7)  # TensorProto.INT64
        kept = build.op("Max", kept, build.constant([1]))
        photo = _middle(build, photo, sides, kept)
    if mirrored:
        ends = (build.constant([end]) for end in (-1, -(2**62), 1, -1))
        photo = build.op("Slice", photo, *ends)
    return photo


def _stretch(build: Builder, photo: str) -> str:
    """The middle of a thin photo, as its resizing may take gigabytes."""
    sides = build.op("Shape", photo, start=0, end=2)
    most = build.op("Mul", _other(build, sides), build.constant([THIN]))
    # Of the same parity, so that the middle stays where it is.
    odd = build.op("Mod", build.op("Sub", sides, most), build.constant([2]))
    kept = build.op("Min", sides, build.op("Add", most, odd))
    return _middle(build, photo, sides, kept)


def _middle(build: Builder, photo: str, sides: str, kept: str) -> str:
    begin = build.op("Div", build.op("Sub", sides, kept), build.constant([2]))
    end = build.op("Add", begin, kept)
    return build.op("Slice", photo, begin, end, build.constant([0, 1]))


def _other(build: Builder, sides: str) -> str:
    """Width and height of height and width."""
    return build.op("Gather", sides, build.constant([1, 0]), axis=0)


def _target(build: Builder, sides: str, edge: int | tuple[int, int]) -> str:
    """Height and width to resize to."""
    if isinstance(edge, tuple):
        return build.constant(list(edge))
    longer = build.op("Mul", sides, build.constant([edge]))
    longer = build.op("Div", longer, _other(build, sides))  # cut to an integer
    return build.op("Max", longer, build.constant([edge]))


def _padded(build: Builder, x: str, sides: str, crop: tuple[int, int]) -> tuple[str, str]:
    """A photo that is smaller than the crop with zeros around it, and its sides."""
    short = build.op("Sub", build.constant(list(crop)), sides)
    short = build.op("Max", short, build.constant([0]))
    after = build.op("Div", short, build.constant([2]))
    before, none = build.op("Sub", short, after), build.constant([0, 0])
    pads = build.op("Concat", none, before, none, after, axis=0)
    return build.op("Pad", x, pads), build.op("Add", sides, short)
