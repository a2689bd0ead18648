"""A photo: where it comes from, and its pixels, decoded late."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sharpzo.data import decoding
from sharpzo.errors import InputError
from sharpzo.types import Array


@dataclass(frozen=True, eq=False)
class Photo:
    """One photo, either a file (``path``) or pixels in memory (uint8 (H, W, 3)).

    ``name`` is what messages and tables show; the file may lie elsewhere, as out of a zip file.
    Make one with `as_photo`.
    """

    name: str
    path: Path | None = None
    pixels: Array | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.pixels is None):
            raise InputError(f"photo {self.name} needs either a path or pixels; give one of them")

    def decode(self) -> Array:
        """Return the pixels, uint8 (H, W, 3); a file is read anew at each call.

        Raises `PhotoError` as `sharpzo.data.decoding.decode` does.
        """
        if self.pixels is not None:
            return self.pixels
        with decoding.opened(self._file, self.name) as image:
            return decoding.to_rgb(image)

    def check(self) -> None:
        """Read the photo without keeping it, faster than `decode`; raises what that raises."""
        if self.pixels is None:
            with decoding.opened(self._file, self.name, smallest=True) as image:
                decoding.to_rgb(image)

    def memory(self) -> int:
        """Return about how many bytes decoding takes at most; of a file only the header is read,
        0 if it is unreadable."""
        if self.pixels is not None:
            return self.pixels.size
        return decoding.bytes_to_decode(self._file)

    def digest(self) -> str:
        """Return the SHA-256 of the content (file bytes, or shape and pixels), in hexadecimal."""
        if self.pixels is None:
            return decoding.digest(self._file, self.name)
        shape = repr(self.pixels.shape).encode()
        return hashlib.sha256(shape + self.pixels.tobytes()).hexdigest()

    @property
    def _file(self) -> Path:
        assert self.path is not None  # by __post_init__
        return self.path


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
        return Photo(name, pixels=decoding.to_rgb(source))
    raise InputError(
        f"{name} is a {type(source).__name__}; give a path, a PIL image or a uint8 array (H, W, 3)"
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
