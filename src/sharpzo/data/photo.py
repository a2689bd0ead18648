"""A photo: where it comes from, and its pixels, decoded late; and augmented views of it."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sharpzo.data import decoding
from sharpzo.data.pixels import to_rgb
from sharpzo.errors import InputError
from sharpzo.rng import generator
from sharpzo.types import Array

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage


@dataclass(frozen=True, eq=False)
class Photo:
    """One photo: a file (``path``), what is in one (``content``), or pixels (uint8 (H, W, 3)).

    ``name`` is what messages and tables show; the file may lie elsewhere, as out of a zip file.
    A file with ``least`` is decoded small: a JPEG at 1/2, 1/4 or 1/8, others made smaller by a
    whole number once they are decoded, as long as the shorter side has at least so many pixels.
    Make one with `as_photo`.
    """

    name: str
    path: Path | None = None
    pixels: Array | None = None
    content: bytes | None = field(default=None, kw_only=True, repr=False)
    least: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if sum(source is not None for source in (self.path, self.pixels, self.content)) != 1:
            raise InputError(f"photo {self.name} needs a path, pixels or content; give one of them")

    def sized(self, least: int | None) -> Photo:
        """Return the same photo, decoded as small as ``least`` allows; None: whole."""
        return replace(self, least=least)

    def image(self) -> Array | PILImage:
        """Return the pixels, uint8 (H, W, 3), or of a file an RGB image; it is read anew at each
        call.

        Raises `PhotoError` as `sharpzo.data.decoding.decode` does.
        """
        if self.pixels is not None:
            return self.pixels
        with decoding.opened(self._file, self.name, self.least) as image:
            return to_rgb(image, self.least)

    def decode(self) -> Array:
        """Return what `image` does as pixels, uint8 (H, W, 3)."""
        return np.asarray(self.image(), dtype=np.uint8)

    def check(self) -> None:
        """Raise what `decode` raises, in less time."""
        if self.pixels is None:
            decoding.check(self._file, self.name, self.least)

    def shorter_side(self) -> int:
        """Return its length in pixels; of a file only the header is read, 0 if it is unreadable."""
        if self.pixels is not None:
            return min(self.pixels.shape[:2])
        return decoding.shorter_side(self._file)

    def memory(self) -> int:
        """Return how many bytes `image` takes at most; of a file only the header is read, 0 if it
        is unreadable."""
        if self.pixels is not None:
            return self.pixels.size
        return decoding.bytes_to_decode(self._file, self.least)

    def digest(self) -> str:
        """Return the SHA-256 of the content (file bytes, or shape and pixels), in hexadecimal."""
        if self.pixels is None:
            return decoding.digest(self._file, self.name)
        shape = repr(self.pixels.shape).encode()
        return hashlib.sha256(shape + self.pixels.tobytes()).hexdigest()

    @property
    def _file(self) -> decoding.File:
        file = self.content if self.path is None else self.path
        assert file is not None  # by __post_init__
        return file


@dataclass(frozen=True, eq=False)
class View(Photo):
    """A random crop of a photo, flipped or not, resized to ``side`` x ``side`` pixels.

    RandomResizedCrop and a horizontal flip, as torchvision defines them and the few-shot literature
    uses them: a crop of a share of the area drawn from ``scale`` and an aspect ratio drawn
    log-uniformly from 3/4 to 4/3, resized bicubically. The draw comes from a seed and the view's
    place (``row`` of the photo, ``number`` of the view), so it can be rebuilt and cached.
    """

    seed: int = 1
    row: int = 0
    number: int = 0
    side: int = 224
    scale: tuple[float, float] = (0.08, 1.0)

    def sized(self, least: int | None) -> View:
        """Return the same view; its smallest crop is as large as ``least`` wants a photo."""
        if least is not None:
            least = math.ceil(least / math.sqrt(self.scale[0]))
        return replace(self, least=least)

    def image(self) -> Array:
        """Return the pixels of the view, as `decode`."""
        return self.decode()

    def memory(self) -> int:
        """Return how many bytes `decode` takes at most: the photo is an array, and drawn from."""
        return 3 * super().memory()

    def decode(self) -> Array:
        """Return the pixels of the view, uint8 (side, side, 3)."""
        from PIL import Image

        pixels = np.asarray(super().image(), np.uint8)
        rng = generator(self.seed, "augment", step=self.row, direction=self.number)
        top, left, height, width = _crop(pixels.shape[0], pixels.shape[1], self.scale, rng)
        image = Image.fromarray(pixels[top : top + height, left : left + width])
        image = image.resize((self.side, self.side), Image.Resampling.BICUBIC)
        turned = np.asarray(image)
        return turned[:, ::-1].copy() if rng.random() < 0.5 else turned

    def digest(self) -> str:
        """Return the SHA-256 of the photo's content and the draw."""
        draw = (self.seed, self.row, self.number, self.side, self.scale)
        return hashlib.sha256(f"{super().digest()} {draw}".encode()).hexdigest()


# Which share of each side a view shows, and whether it is mirrored.
FIXED_VIEWS = {"mirror": (1.0, True), "middle": (0.8, False), "mirrored middle": (0.8, True)}


@dataclass(frozen=True, eq=False)
class FixedView(Photo):
    """A photo mirrored, or its middle; ``view`` is one of `FIXED_VIEWS`."""

    view: str = "mirror"

    def sized(self, least: int | None) -> FixedView:
        """Return the same view; what it shows is as large as ``least`` wants a photo."""
        if least is not None:
            least = math.ceil(least / FIXED_VIEWS[self.view][0])
        return replace(self, least=least)

    def image(self) -> Array:
        """Return the pixels of the view, uint8 (H, W, 3)."""
        pixels = np.asarray(super().image(), np.uint8)
        (height, width), (share, mirrored) = pixels.shape[:2], FIXED_VIEWS[self.view]
        rows, columns = (max(round(share * side), 1) for side in (height, width))
        top, left = (height - rows) // 2, (width - columns) // 2
        seen = pixels[top : top + rows, left : left + columns]
        return np.ascontiguousarray(seen[:, ::-1] if mirrored else seen)

    def memory(self) -> int:
        """Return how many bytes `image` takes at most: the photo is an array, and cut."""
        return 3 * super().memory()

    def digest(self) -> str:
        """Return the SHA-256 of the photo's content and the view."""
        return hashlib.sha256(f"{super().digest()} {self.view}".encode()).hexdigest()


def as_photo(source: Any, name: str = "photo") -> Photo:
    """Return ``source`` as a `Photo`; a path is not opened before it is decoded.

    Accepts a path, the bytes of a file, a `PIL.Image.Image`, or a NumPy array: uint8 (H, W, 3),
    (H, W, 1) or (H, W), or floats of these shapes within [0, 1] (the pixels are then rounded to 8
    bits). Floats from 0 to 255 and arrays with channels first or with alpha are refused: guessing
    wrong would go unnoticed. ``name`` is used for photos that have no path.

    Raises `InputError` for anything else.

    >>> as_photo(np.zeros((4, 6), np.uint8)).decode().shape
    (4, 6, 3)
    >>> as_photo("cats/tom.jpg").name
    'cats/tom.jpg'
    """
    if isinstance(source, Photo):
        return source
    if isinstance(source, str | os.PathLike):
        return Photo(str(source), path=Path(source))
    if isinstance(source, bytes):
        return Photo(name, content=source)
    if isinstance(source, np.ndarray):
        return Photo(name, pixels=_from_array(source, name))
    from PIL import Image

    if isinstance(source, Image.Image):
        if decoding.has_32_bits(source):
            raise InputError(f"{name} {decoding.MANY_BITS}")
        return Photo(name, pixels=np.asarray(to_rgb(source), np.uint8))
    raise InputError(
        f"{name} is a {type(source).__name__}; give a path, the bytes of a file, a PIL image or a "
        "uint8 array (H, W, 3)"
    )


def _from_array(array: Array, name: str) -> Array:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3) or 0 in array.shape:
        raise InputError(
            f"{name} is an array of shape {array.shape}; give (height, width, 3), RGB last"
        )
    if array.shape[0] * array.shape[1] > decoding.MAX_PIXELS:
        raise InputError(
            f"{name} is too large ({array.shape[1]} x {array.shape[0]} pixels, the limit is "
            f"{decoding.MAX_PIXELS:,}); make it smaller"
        )
    if np.issubdtype(array.dtype, np.floating):
        low, high = float(array.min()), float(array.max())
        if not 0.0 <= low <= high <= 1.0:
            raise InputError(
                f"{name} holds floats from {low:.17g} to {high:.17g}; give uint8, or floats "
                "from 0 to 1"
            )
        array = np.rint(array * 255.0).astype(np.uint8)
    if array.dtype != np.uint8:
        raise InputError(f"{name} is an array of {array.dtype}; give uint8, or floats from 0 to 1")
    return np.broadcast_to(array, (*array.shape[:2], 3))


def _crop(
    height: int, width: int, scale: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random crop; the centre if ten draws don't fit."""
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            return int(top), int(left), h, w
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    return (height - h) // 2, (width - w) // 2, h, w
