"""Photos to the pixels that an image tower was trained on, as transformers' PIL processors do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from sharpzo.errors import CheckpointError, InputError
from sharpzo.settings import Positive
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.config import Side, convert
from sharpzo.towers.contents import PROCESSOR as FILE
from sharpzo.types import Array, Decoding

if TYPE_CHECKING:
    from PIL.Image import Image

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
REDUCED = 4  # features then have a cosine of 0.9998 with exact ones; 2: 0.9992
THIN = 8  # times the crop's area: what would be resized to more is cropped first
_Size = Side | dict[str, Side]
_Colours = tuple[float, float, float]


class _Processor(msgspec.Struct):
    """A CLIPImageProcessor or BitImageProcessor as transformers saves it."""

    do_resize: bool | None = True
    size: _Size = 224
    resample: Annotated[int, Meta(ge=0, le=5)] = 3  # of Pillow
    do_center_crop: bool | None = True
    crop_size: _Size = 224
    do_rescale: bool | None = True
    rescale_factor: Positive | None = 1 / 255
    do_normalize: bool | None = True
    image_mean: _Colours | None = None
    image_std: tuple[Positive, Positive, Positive] | None = None
    do_pad: bool | None = False


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop, rescale, normalise; the defaults are CLIP's.

    ``resize`` is the shortest edge, or (height, width), or None; ``crop`` is (height, width) or
    None; ``resample`` is PIL's number (3 = bicubic). With ``decoding`` "reduced" a photo is decoded
    no larger than it takes to leave the shorter side `REDUCED` times as long as what is resized to;
    "exact" decodes it whole, as published models are evaluated.
    """

    resize: int | tuple[int, int] | None = 224
    crop: tuple[int, int] | None = (224, 224)
    resample: int = 3
    rescale: float | None = 1 / 255
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    normalize: bool = True
    decoding: Decoding = field(default="exact", repr=False)  # not in earlier fingerprints

    @classmethod
    def open(cls, checkpoint: Checkpoint, decoding: Decoding = "exact") -> Preprocessing:
        """Read the checkpoint's processor; if it says nothing, CLIP's way at the tower's size."""
        if checkpoint.processor is None:
            side = checkpoint.image.image_size
            made = cls(resize=side, crop=(side, side))
        else:
            made = cls.parse(checkpoint.processor)
        if checkpoint.image_size is not None:
            made = made.at(checkpoint.image_size)
        return replace(made, decoding=decoding)

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Preprocessing:
        """Return the settings of a CLIPImageProcessor or BitImageProcessor.

        >>> Preprocessing.parse({"size": 336, "crop_size": 336}).size
        (336, 336)
        """
        found = convert(raw, _Processor, FILE)
        if found.do_pad:
            raise CheckpointError(f"{FILE} asks for padding, which is not done")
        resize = _edge(found.size) if found.do_resize else None
        crop = _edge(found.crop_size) if found.do_center_crop else None
        crop = (crop, crop) if isinstance(crop, int) else crop
        made = cls(
            resize=resize,
            crop=crop,
            resample=found.resample,
            rescale=found.rescale_factor if found.do_rescale else None,
            mean=found.image_mean or CLIP_MEAN,
            std=found.image_std or CLIP_STD,
            normalize=bool(found.do_normalize),
        )
        if crop is None and not isinstance(resize, tuple):
            raise CheckpointError(
                f"{FILE} leaves photos of different sizes: it needs a crop or a resize to a fixed "
                "height and width"
            )
        return made

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every processed photo."""
        if self.crop is not None:
            return self.crop
        assert isinstance(self.resize, tuple)
        return self.resize

    @property
    def least(self) -> int | None:
        """Length that the shorter side of a decoded photo must have; None: photos stay whole."""
        if self.decoding == "exact" or self.resize is None:
            return None
        return REDUCED * (max(self.resize) if isinstance(self.resize, tuple) else self.resize)

    def at(self, side: int) -> Preprocessing:
        """The same for photos of ``side`` x ``side`` pixels: the crop shows what it showed.

        >>> Preprocessing(resize=256).at(112)  # doctest: +ELLIPSIS
        Preprocessing(resize=128, crop=(112, 112), ...)
        """
        height, width = self.size
        if height != width or self.resize is None:
            raise InputError(
                f"image_size is {side}, but the model's preprocessing makes photos of "
                f"{height}x{width} pixels by {'resizing' if self.resize else 'cropping alone'}; "
                "only square ones are made at another size: leave it out"
            )

        def scaled(length: int) -> int:
            return round(length * side / height)

        resize = self.resize
        resize = (
            scaled(resize) if isinstance(resize, int) else (scaled(resize[0]), scaled(resize[1]))
        )
        return replace(self, resize=resize, crop=None if self.crop is None else (side, side))

    def apply(self, photo: Array | Image) -> Array:
        """Return uint8 (height, width, 3) or a PIL image of any mode as float32 (3, h, w)."""
        from PIL import Image

        image = photo if isinstance(photo, Image.Image) else Image.fromarray(_checked(photo))
        if image.mode != "RGB":
            image = image.convert("RGB")
        pixels = np.asarray(self._resized(image), dtype=np.uint8)
        if self.crop is not None:
            pixels = _crop(pixels, *self.crop)
        x = pixels.astype(np.float32)
        if self.rescale is not None:
            x *= np.float32(self.rescale)
        if self.normalize:
            x = (x - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(x.transpose(2, 0, 1))

    def _resized(self, image: Image) -> Image:
        """The image resized; of a thin one only the stretch that survives the crop, as all of it
        may take gigabytes: 1 x 65,000 pixels at 224 a side are 3 * 10**9.

        These are the same pixels but for the rounding between Pillow's two passes (along rows and
        columns), whose order it chooses by what is less work.
        """
        from PIL import Image

        if self.resize is None:
            return image
        height, width = _target(image.height, image.width, self.resize)
        filtered = Image.Resampling(self.resample)
        if self.crop is None or height * width <= THIN * self.crop[0] * self.crop[1]:
            return image.resize((width, height), resample=filtered)
        rows, columns = min(height, self.crop[0]), min(width, self.crop[1])
        top, left = (height - rows) // 2, (width - columns) // 2
        down, across = image.height / height, image.width / width
        box = left * across, top * down, (left + columns) * across, (top + rows) * down
        return image.resize((columns, rows), resample=filtered, box=box)


def stack(preprocessing: Preprocessing, photos: Iterable[Array | Image]) -> Array:
    """Return uint8 (height, width, 3) or PIL photos as float32 (N, 3, h, w)."""
    rows = list(map(preprocessing.apply, photos))  # no photo is kept while the next is decoded
    return np.stack(rows) if rows else np.zeros((0, 3, *preprocessing.size), np.float32)


def _checked(photo: Array) -> Array:
    photo = np.asarray(photo)
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
        raise InputError(
            f"a photo is {photo.dtype} {photo.shape}; uint8 (height, width, 3) is needed"
        )
    return photo


def _target(height: int, width: int, resize: int | tuple[int, int]) -> tuple[int, int]:
    if isinstance(resize, tuple):
        return resize
    # The longer side is cut to an integer, not rounded, as in torchvision and transformers.
    if width <= height:
        return int(resize * height / width), resize
    return resize, int(resize * width / height)


def _crop(pixels: Array, height: int, width: int) -> Array:
    """Return the centre; what a photo lacks is filled with zeros."""
    short = max(height - pixels.shape[0], 0), max(width - pixels.shape[1], 0)
    if any(short):  # transformers pads ceil on the left
        pads = [((s + 1) // 2, s // 2) for s in short]
        pixels = np.pad(pixels, (*pads, (0, 0)))
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def _edge(size: _Size) -> int | tuple[int, int]:
    match size:
        case int():
            return size
        case {"shortest_edge": edge} if len(size) == 1:
            return edge
        case {"height": height, "width": width} if len(size) == 2:
            return height, width
    raise CheckpointError(f"{FILE}: size {size} is neither shortest_edge nor height and width")
