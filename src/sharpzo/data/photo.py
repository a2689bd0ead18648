"""A photo: where it comes from, and its pixels, decoded late and within bounds."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sharpzo.data import decoding
from sharpzo.errors import InputError, PhotoError
from sharpzo.types import Array

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

_ORIENTATION = 0x0112  # the EXIF tag
_UNDO = {  # value of the tag -> the transposition that makes the photo upright
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_PHOTOMETRIC = 262  # the TIFF tag
_GREY_BITS = {"1": 1, "L;2": 2, "L;4": 4}  # Pillow's names of the rows of a PNG


@dataclass(frozen=True, eq=False)
class Photo:
    """One photo, either a file (``path``) or pixels in memory (uint8 (H, W, 3)).

    ``name`` is what messages and tables show. Make one with `as_photo`.
    """

    name: str
    path: Path | None = None
    pixels: Array | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.pixels is None):
            raise InputError(f"photo {self.name} needs either a path or pixels; give one of them")

    def decode(self) -> Array:
        """Return the pixels, uint8 (H, W, 3); a file is read anew at each call."""
        if self.pixels is not None:
            return self.pixels
        assert self.path is not None  # by __post_init__
        with self._named():
            return decode(self.path)

    def check(self) -> None:
        """Read the photo without keeping it, faster than `decode`; raises what that raises."""
        if self.path is not None:
            with self._named(), decoding.opened(self.path, smallest=True) as image:
                _to_rgb(image)

    def memory(self) -> int:
        """Return about how many bytes decoding takes at most; of a file only the header is read,
        0 if it is unreadable."""
        if self.pixels is not None:
            return self.pixels.size
        assert self.path is not None
        return decoding.bytes_to_decode(self.path)

    def digest(self) -> str:
        """Return the SHA-256 of the content (file bytes, or shape and pixels), in hexadecimal."""
        if self.pixels is not None:
            shape = repr(self.pixels.shape).encode()
            return hashlib.sha256(shape + self.pixels.tobytes()).hexdigest()
        assert self.path is not None
        with self._named():
            return decoding.digest(self.path)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors name the photo, whose file may lie elsewhere: out of a zip file, for example."""
        try:
            yield
        except PhotoError as error:
            raise PhotoError(self.name, error.reason) from error


def as_photo(source: Any, name: str = "photo") -> Photo:
    """Return ``source`` as a `Photo`; a path is not opened before it is decoded.

    Accepts a path, a `PIL.Image.Image`, or a NumPy array: uint8 (H, W, 3), (H, W, 1) or (H, W),
    or floats of these shapes within [0, 1] (the pixels are then rounded to 8 bits). Floats from 0
    to 255 and arrays with channels first or with alpha are refused: guessing wrong would go
    unnoticed. ``name`` is used for photos that have no path.

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
    if isinstance(source, np.ndarray):
        return Photo(name, pixels=_from_array(source, name))
    from PIL import Image

    if isinstance(source, Image.Image):
        if decoding.has_32_bits(source):
            raise InputError(f"{name} {decoding.MANY_BITS}")
        return Photo(name, pixels=_to_rgb(source))
    raise InputError(
        f"{name} is a {type(source).__name__}; give a path, a PIL image or a uint8 array (H, W, 3)"
    )


def decode(path: str | os.PathLike[str]) -> Array:
    """Read a photo file: uint8 (H, W, 3), upright, RGB.

    EXIF orientation is applied; palettes, greyscale, CMYK and 16-bit greyscale are converted;
    transparent parts are laid on white, as in the web photos that CLIP models were trained on; of
    an animation the first frame is taken. Colour profiles are ignored, as CLIP models do. A JPEG of
    more than `MAX_PIXELS` is decoded at 1/2, 1/4 or 1/8.

    Raises `PhotoError`, naming the file, if it is missing, damaged, cut off, of another format,
    too large in pixels or bytes, or may not be read; sizes are checked before any pixel is decoded.
    """
    with decoding.opened(Path(path)) as image:
        return _to_rgb(image)


def _to_rgb(image: PILImage) -> Array:
    from PIL import Image

    key = _transparent_colour(image)
    image.load()
    try:
        with decoding.quiet():
            turn = _UNDO.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata do not make a photo unusable
        turn = None
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        # Pillow would clip at 255 and show a white square.
        values = np.asarray(image)
        grey = np.where(values == key, 255.0, np.rint(values / 257.0))
        if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == 0:  # type: ignore[attr-defined]
            grey = 255.0 - grey  # 0 is white, which Pillow minds at 8 bits only
        image = Image.fromarray(grey.astype(np.uint8))
    elif image.has_transparency_data:
        if key is not None:
            image = image.copy()
            image.info = {**image.info, "transparency": key}
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode != "RGB":
        image = image.convert("RGB")
    if turn is not None:
        image = image.transpose(Image.Transpose[turn])
    return np.asarray(image, dtype=np.uint8)


def _transparent_colour(image: PILImage) -> int | tuple[int, ...] | bytes | None:
    """The colour that a file calls transparent, if it does, as it will be among the pixels: Pillow
    brings those of a PNG to 8 bits, and leaves this colour as it is in the file."""
    key = image.info.get("transparency")
    tiles = getattr(image, "tile", ()) if image.format == "PNG" else ()
    raw = tiles[0].args if tiles else None  # a picture that was loaded has none left
    if isinstance(key, int) and raw in _GREY_BITS:
        top = 2 ** _GREY_BITS[raw] - 1
        return (key & top) * (255 // top)
    if isinstance(key, tuple) and raw == "RGB;16B":
        return tuple(value >> 8 for value in key)
    return key


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
