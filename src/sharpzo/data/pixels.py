"""An open image to the pixels of a photo: RGB and upright, and what memory that takes."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from sharpzo.data import jpeg
from sharpzo.memory import MB
from sharpzo.types import Array

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.JpegImagePlugin import JpegImageFile

_FILTERS = threading.Lock()  # the warning filters of Python belong to the whole process
_ORIENTATION = 0x0112  # the EXIF tag
_UPRIGHT = {  # value of the tag -> the transposition that makes the photo upright
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_PHOTOMETRIC = 262  # the TIFF tag
# What decoding holds: bytes per pixel of Pillow's modes, else 4; bytes per pixel that decoders take
# besides, and of these later on, and how often they hold the file; buffers, and what the C library
# keeps.
_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
_DECODERS = {"WEBP": (13, 10, 2), "AVIF": (12, 0, 2), "HEIF": (12, 0, 2), "TIFF": (4, 0, 1)}
_BUFFERS = 4 * MB
_GREY_BITS = {"1": 1, "L;2": 2, "L;4": 4}  # Pillow's names of the rows of a PNG


def to_rgb(image: Image, least: int | None = None) -> Image:
    """Return an open image as `decode` does, RGB and upright; raises what Pillow's readers raise.

    With ``least`` it becomes smaller by a whole number, each pixel the mean of a square, if its
    shorter side stays at least so long.
    """
    import PIL.Image

    key = _transparent_colour(image)
    image.load()
    turn = _turn(image)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        # Pillow would clip at 255 and show a white square.
        image = PIL.Image.fromarray(_grey(image, key))
    elif image.has_transparency_data:
        if key is not None and key != image.info["transparency"]:
            image = image.copy()
            image.info = {**image.info, "transparency": key}
        image = _reduced(image if image.mode == "RGBA" else image.convert("RGBA"), least)
        image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, "white"), image)
    image = _reduced(image if image.mode == "RGB" else image.convert("RGB"), least)
    return image if turn is None else image.transpose(PIL.Image.Transpose[turn])


def _turn(image: Image) -> str | None:
    """The transposition that makes a photo upright; of a PNG once it is loaded."""
    try:
        with quiet():
            return _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata do not make a photo unusable
        return None


def _grey(image: Image, key: object) -> Array:
    """The 16 bits of a grey photo, rounded to 8."""
    values = np.asarray(image)
    grey = (values // 257).astype(np.uint8)
    grey += values % 257 > 128
    if key is not None:
        grey[values == key] = 255
    if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == 0:  # type: ignore[attr-defined]
        np.subtract(255, grey, out=grey)  # 0 is white, which Pillow respects at 8 bits only
    return grey


def _reduced(image: Image, least: int | None) -> Image:
    by = _by(image, least)
    return image.reduce(by) if by > 1 else image


def _transparent_colour(image: Image) -> int | tuple[int, ...] | bytes | None:
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


def memory(image: Image, least: int | None, size: int) -> int:
    """Return the bytes that `to_rgb` holds of an open image, and a resizing of what it returns.

    They were measured from outside, and are rounded up. ``size`` is that of the file.

    Pillow keeps 1, 2 or 4 bytes per pixel, each conversion is a copy, and the first image stays.
    """
    pixels = image.width * image.height
    later = pixels / max(_by(image, least), 1) ** 2  # once it is reduced
    decoder, kept = 0.0, 0.0
    if is_jpeg(image):
        scale = image.decoderconfig[0] if image.decoderconfig else 1
        if jpeg.count_scans(image) > 1:
            decoder = jpeg.coefficients(image) * pixels * scale**2
    elif image.format in _DECODERS and image.info.get("compression") != "raw":
        most, later_on, files = _DECODERS[image.format]
        decoder = most * pixels + files * size
        kept = later_on * pixels + (files * size if later_on else 0)
    converted = 0 if image.mode == "RGB" else 4 * pixels
    if image.mode.startswith("I"):
        converted = 7 * pixels
    elif image.has_transparency_data:
        converted = (0 if image.mode == "RGBA" else 8) * pixels + max(4 * pixels, 8 * later)
    if image.format == "PNG" or _turn(image):  # a PNG's may stand behind the picture
        converted = max(converted, (0 if image.mode == "RGB" else 4) * later + 4 * later)
    held = _STORED.get(image.mode, 4) * pixels + max(decoder, kept + converted)
    return round(held + pixels / 2 + min(_BUFFERS, held))


def _by(image: Image, least: int | None) -> int:
    return 1 if least is None else min(image.size) // least


def is_jpeg(image: Image) -> TypeGuard[JpegImageFile]:
    """Whether a JPEG's decoder reads the image."""
    return image.format == "JPEG"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Pillow's warnings from the user: they name no file, and sizes are checked here."""
    with _FILTERS, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        yield
