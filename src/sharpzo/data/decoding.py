"""Decode the file of a photo to pixels, within limits.

A file may be a decompression bomb: a few bytes that take gigabytes or minutes to decode. The size
of the file and its markers decide whether it is opened, before a pixel is decoded.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from sharpzo.data import jpeg, pixels
from sharpzo.data.pixels import quiet
from sharpzo.errors import PhotoError
from sharpzo.memory import MB
from sharpzo.types import Array

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

# An allow-list: Pillow reads some forty formats, and each parser may have holes.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
READ = "JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or HEIC"
SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff",
    ".avif", ".heic", ".heif", ".hif",
})  # fmt: skip
MAX_BYTES = 500 * MB  # of a file: no photo of MAX_PIXELS takes more, at 8 bits per channel
MAX_PIXELS = 89_478_485  # Pillow's own limit: 256 MiB of RGB
# A larger JPEG is decoded at 1/2, 1/4 or 1/8: the smallest that leaves the shorter side so long,
# four times what the largest towers see (518). Telephones make up to 200 megapixels.
MAX_JPEG_PIXELS = 4 * MAX_PIXELS
REDUCED_SIDE = 4 * 518
MAX_SCANNED = 12 * MAX_PIXELS
# What takes more than this, and whose pixels are so many times larger than the file, is a bomb: of
# zeros in 260 kB PNG makes 90 megapixels. Real photos are 3 to 50 times larger, AVIF up to 200.
MOST_MEMORY, MOST_GROWTH = 300 * MB, 300
# Before the picture, where hundreds are usual in photos with depth maps and the like.
MAX_SEGMENTS, MAX_JUNK = 5000, 100_000
MANY_BITS = "has 32 bits per pixel; convert it to 8 bits per channel"

_HEVC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_AV1 = (b"avif", b"avis")
_CHUNK = 1 << 20
File = Path | bytes  # a file, or what is in one
_log, _SILENT = logging.getLogger("PIL"), logging.NullHandler()  # its errors name no file


class _Refused(Exception):
    """Why a photo is not read, without its name."""


def decode(path: str | os.PathLike[str]) -> Array:
    """Read a photo file: uint8 (H, W, 3), upright, RGB.

    EXIF orientation is applied; palettes, greyscale, CMYK and 16-bit greyscale are converted;
    transparent parts are laid on white, as in the web photos that CLIP models were trained on; of
    an animation the first frame is taken. Colour profiles are ignored, as CLIP models do. A JPEG of
    more than `MAX_PIXELS` is decoded at 1/2, 1/4 or 1/8.

    Raises `PhotoError`, naming the file, if it is missing, damaged, cut off, of another format,
    too large in pixels or bytes, or may not be read; sizes are checked before any pixel is decoded.
    """
    with opened(Path(path)) as image:
        return np.asarray(pixels.to_rgb(image), dtype=np.uint8)


@contextmanager
def opened(file: File, name: str | None = None, least: int | None = None) -> Iterator[PILImage]:
    """Open a photo whose size, kind and header are within bounds; no pixel is decoded yet.

    With ``least`` a JPEG is decoded at the smallest of 1, 1/2, 1/4 and 1/8 that leaves its shorter
    side at least so long.

    Raises `PhotoError` about ``name`` (None: the path), also for what the caller's decoding raises.
    """
    with _naming(name or file), _open(file) as stream, _image(stream) as image:
        if pixels.is_jpeg(image):
            _bound_jpeg(image, jpeg.count_scans(image), least)
        else:
            _check_pixels(image, MAX_PIXELS)
        _check_growth(image, least, _size(file))
        if has_32_bits(image):
            raise _Refused(MANY_BITS)
        yield image


def digest(file: File, name: str | None = None) -> str:
    """Return the SHA-256 of a file, in hexadecimal; raises `PhotoError` like `opened`."""
    total = hashlib.sha256()
    with _naming(name or file), _open(file) as stream:
        while part := stream.read(_CHUNK):
            total.update(part)
    return total.hexdigest()


def check(file: File, name: str | None = None, least: int | None = None) -> None:
    """Raise what `opened` and `to_rgb` would raise, in less time.

    A JPEG that goes on to its end marker is not decoded: of what is damaged before it, decoders
    make what they can.
    """
    with opened(file, name, least) as image:
        if not pixels.is_jpeg(image) or not jpeg.is_complete(image):
            pixels.to_rgb(image, least)


def bytes_to_decode(file: File, least: int | None = None) -> int:
    """Return how much memory decoding takes at most; 0 where `opened` will refuse the file."""
    try:
        with opened(file, least=least) as image:
            return pixels.memory(image, least, _size(file))
    except PhotoError:
        return 0


def shorter_side(path: File) -> int:
    """Return the shorter side in pixels; 0 where `opened` will refuse the file."""
    try:
        with opened(path) as image:
            return min(image.size)
    except PhotoError:
        return 0


def has_32_bits(image: PILImage) -> bool:
    """Whether the range of a greyscale image's values is unknown; a PNG's has 16 bits."""
    return image.mode == "F" or (image.mode == "I" and image.format != "PNG")


@contextmanager
def _naming(name: object) -> Iterator[None]:
    """Make a `PhotoError` about ``name`` of whatever opening and decoding raise."""
    try:
        yield
    except Exception as error:
        raise PhotoError(name, _reason(error)) from error


def _reason(error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, _Refused):
        return str(error)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "does not exist; check the path, or unpack the data set completely"
    if isinstance(error, PermissionError):
        return "may not be read (permission denied); change its rights, or remove it"
    if isinstance(error, UnidentifiedImageError):
        return f"is not a readable {READ} file; convert it to JPEG, or remove it"
    if isinstance(error, OSError) and error.errno is not None:  # Pillow's own have no number
        return f"cannot be opened ({error.strerror}); check the path, or remove it"
    if isinstance(error, Image.DecompressionBombError):
        return (
            f"is too large (more than {2 * MAX_PIXELS:,} pixels, the limit is {MAX_PIXELS:,}); "
            "make it smaller, or remove it"
        )
    if isinstance(error, MemoryError):
        return "needs more memory than there is; make it smaller"
    # Pillow's readers raise nearly anything on damaged files: OSError, SyntaxError, struct.error
    return (
        f"cannot be read ({str(error) or type(error).__name__}); "
        "it may be damaged or cut off: copy it again, or remove it"
    )


def _open(file: File) -> BinaryIO:
    """Open a regular file of bounded size; anything else is not opened: a pipe would block."""
    if isinstance(file, Path):
        try:
            mode = file.stat().st_mode
        except ValueError as error:  # a NUL in the path
            raise FileNotFoundError(file) from error
        if not stat.S_ISREG(mode):
            kind = "folder" if stat.S_ISDIR(mode) else "device or pipe"
            raise _Refused(f"is a {kind}, not a file; give a photo")
    size = _size(file)
    if size > MAX_BYTES:
        raise _Refused(
            f"is too large ({size / MB:,.0f} MB, the limit is {MAX_BYTES // MB} MB); "
            "make it smaller, or remove it"
        )
    if not size:
        raise _Refused("is empty; copy it again, or remove it")
    return io.BytesIO(file) if isinstance(file, bytes) else file.open("rb")


def _size(file: File) -> int:
    return len(file) if isinstance(file, bytes) else file.stat().st_size


def _image(file: BinaryIO) -> PILImage:
    from PIL import Image, JpegImagePlugin, features

    kind = _kind(file.read(64))
    if kind == "JPEG":
        _check_segments(file)
    elif kind == "PNG":
        _check_chunks(file)
    elif kind == "HEIF":
        _register_heif()
    elif kind == "AVIF" and not features.check("avif"):
        raise _Refused(
            "is an AVIF file, which this build of Pillow cannot read; convert it to JPEG"
        )
    file.seek(0)
    _log.addHandler(_SILENT)
    with quiet():
        if kind == "JPEG":  # not Image.open: it refuses 200 megapixels, and takes MPO for an album
            return JpegImagePlugin.JpegImageFile(file)
        return Image.open(file, formats=FORMATS if kind is None else (kind,))


def _kind(head: bytes) -> str | None:
    """JPEG, PNG, HEIF or AVIF by the first bytes, as names often lie; None: one of the others."""
    if head[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if head[4:8] != b"ftyp":
        return None
    brands = {head[8:12], *(head[i : i + 4] for i in range(16, len(head) - 3, 4))}
    return "AVIF" if brands.intersection(_AV1) else "HEIF" if brands.intersection(_HEVC) else None


def _register_heif() -> None:
    try:
        from pi_heif import register_heif_opener
    except ImportError:
        raise _Refused(
            "is a HEIC file, which needs the package pi-heif: pip install 'sharpzo[heic]', or "
            "convert it to JPEG"
        ) from None
    register_heif_opener(thumbnails=False)


def _check_pixels(image: PILImage, limit: int) -> None:
    if image.width * image.height > limit:
        raise _Refused(
            f"is too large ({image.width} x {image.height} pixels, the limit is {limit:,}); "
            "make it smaller, or remove it"
        )


def _check_growth(image: PILImage, least: int | None, size: int) -> None:
    grown = 3 * image.width * image.height
    if grown > MOST_GROWTH * size and pixels.memory(image, least, size) > MOST_MEMORY:
        raise _Refused(
            f"unpacks to {image.width} x {image.height} pixels from {size:,} bytes, as no photo "
            "does; save it anew, or remove it"
        )


def _bound_jpeg(image: PILImage, scans: int, least: int | None) -> None:
    """Bound the work and the memory of a JPEG, and choose the scale of what is large."""
    full = image.width * image.height
    _check_pixels(image, MAX_JPEG_PIXELS)
    if scans > 1:  # all coefficients are in memory, at whatever scale
        _check_pixels(image, MAX_PIXELS)
    if scans > jpeg.MAX_SCANS or scans * full > MAX_SCANNED:
        raise _Refused(
            f"has {'more than ' if scans > jpeg.MAX_SCANS else ''}{min(scans, jpeg.MAX_SCANS)} "
            f"scans of {image.width} x {image.height} pixels, which take too long; save it anew"
        )
    scale = 1
    if full > MAX_PIXELS or least is not None:
        side = min(image.size) / (least or REDUCED_SIDE)
        scale = max(by for by in (1, 2, 4, 8) if by == 1 or side >= by)
        _check_pixels(image, MAX_PIXELS * scale**2)
    if scale > 1:
        image.draft(None, (max(image.width // scale, 1), max(image.height // scale, 1)))


def _check_segments(file: BinaryIO) -> None:
    """Bound what lies before the picture of a JPEG: Pillow reads it in Python, byte by byte where
    no segment begins."""
    junk = 0
    for segments, (kind, skipped, _) in enumerate(jpeg.segments(file), start=1):
        if kind == jpeg.END_OF_FILE and skipped > MAX_JUNK:
            raise _Refused("has no picture; copy it again, or remove it")
        junk += skipped
        if segments > MAX_SEGMENTS or junk > MAX_JUNK:
            raise _Refused("has too much before its picture; save it anew")
        if kind in (jpeg.START_OF_SCAN, jpeg.END_OF_IMAGE):
            return


def _check_chunks(file: BinaryIO) -> None:
    """Bound the chunks of a PNG beside those of the picture, which Pillow reads one by one."""
    file.seek(8)
    others = 0
    while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        others += head[4:] not in (b"IDAT", b"fcTL", b"fdAT")
        if others > MAX_SEGMENTS:
            raise _Refused("has too much beside its picture; save it anew")
        file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
