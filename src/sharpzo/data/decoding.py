"""Decode the file of a photo to pixels, within limits.

A file may be a decompression bomb: a few bytes that take gigabytes or minutes to decode. The size
of the file and its markers decide whether it is opened, before a pixel is decoded.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

import numpy as np

from sharpzo.errors import PhotoError
from sharpzo.memory import MB
from sharpzo.types import Array

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage
    from PIL.JpegImagePlugin import JpegImageFile

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
# Each scan of a JPEG goes through all of its pixels again, in about 3 ns each; usual are 10.
MAX_SCANS = 500
MAX_SCANNED = 12 * MAX_PIXELS
# Before the picture, where hundreds are usual in photos with depth maps and the like.
MAX_SEGMENTS, MAX_JUNK = 5000, 100_000
MANY_BITS = "has 32 bits per pixel; convert it to 8 bits per channel"

_HEVC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_AV1 = (b"avif", b"avis")
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in coded data 0xff is followed by 0 or RST
_START_OF_SCAN, _END_OF_IMAGE, _END_OF_FILE = 0xDA, 0xD9, 0
_CHUNK = 1 << 20
_log, _SILENT = logging.getLogger("PIL"), logging.NullHandler()  # its errors name no file
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
_GREY_BITS = {"1": 1, "L;2": 2, "L;4": 4}  # Pillow's names of the rows of a PNG


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
        return to_rgb(image)


@contextmanager
def opened(path: Path, name: str | None = None, *, smallest: bool = False) -> Iterator[PILImage]:
    """Open a photo file whose size, kind and header are within bounds; no pixel is decoded yet.

    With ``smallest`` a JPEG is decoded at 1/8, which reads all of the file in a third of the time.

    Raises `PhotoError` about ``name`` (None: the path), also for what the caller's decoding raises.
    """
    with _naming(name or path), _file(path) as file, _image(file) as image:
        if image.format == "JPEG":
            _bound_jpeg(image, _scans(image), smallest)
        else:
            _check_pixels(image, MAX_PIXELS)
        if has_32_bits(image):
            raise _Refused(MANY_BITS)
        yield image


def digest(path: Path, name: str | None = None) -> str:
    """Return the SHA-256 of a file, in hexadecimal; raises `PhotoError` like `opened`."""
    total = hashlib.sha256()
    with _naming(name or path), _file(path) as file:
        while part := file.read(_CHUNK):
            total.update(part)
    return total.hexdigest()


def bytes_to_decode(path: Path) -> int:
    """Return about how much memory decoding takes at most; 0 where `opened` will refuse the file.

    Pillow keeps 4 bytes of a pixel: the photo as read and upright. An array of it is made twice.
    """
    try:
        with opened(path) as image:
            held = 2 * 4 + 2 * 3 + (8 if image.has_transparency_data else 0)
            if image.format == "JPEG" and _scans(image) > 1:  # coefficients of all components
                held += 2 * 3
            return held * image.width * image.height
    except PhotoError:
        return 0


def has_32_bits(image: PILImage) -> bool:
    """Whether the range of a greyscale image's values is unknown; a PNG's has 16 bits."""
    return image.mode == "F" or (image.mode == "I" and image.format != "PNG")


def to_rgb(image: PILImage) -> Array:
    """Return the pixels of an open image as `decode` does; raises what Pillow's readers raise."""
    from PIL import Image

    key = _transparent_colour(image)
    image.load()
    try:
        with _quiet():
            turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata do not make a photo unusable
        turn = None
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        # Pillow would clip at 255 and show a white square.
        values = np.asarray(image)
        grey = np.where(values == key, 255.0, np.rint(values / 257.0))
        if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == 0:  # type: ignore[attr-defined]
            grey = 255.0 - grey  # 0 is white, which Pillow respects at 8 bits only
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


def _file(path: Path) -> BinaryIO:
    """Open a regular file of bounded size; anything else is not opened: a pipe would block."""
    try:
        found = path.stat()
    except ValueError as error:  # a NUL in the path
        raise FileNotFoundError(path) from error
    if not stat.S_ISREG(found.st_mode):
        kind = "folder" if stat.S_ISDIR(found.st_mode) else "device or pipe"
        raise _Refused(f"is a {kind}, not a file; give a photo")
    if found.st_size > MAX_BYTES:
        raise _Refused(
            f"is too large ({found.st_size / MB:,.0f} MB, the limit is {MAX_BYTES // MB} MB); "
            "make it smaller, or remove it"
        )
    if not found.st_size:
        raise _Refused("is empty; copy it again, or remove it")
    return path.open("rb")


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
    with _quiet():
        if kind == "JPEG":  # not Image.open: it refuses 200 megapixels, and takes MPO for an album
            return JpegImagePlugin.JpegImageFile(file)
        return Image.open(file, formats=FORMATS if kind is None else (kind,))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Pillow's warnings from the user: they name no file, and sizes are checked here."""
    with _FILTERS, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        yield


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


def _bound_jpeg(image: PILImage, scans: int, smallest: bool) -> None:
    """Bound the work and the memory of a JPEG, and choose the scale of what is large."""
    full = image.width * image.height
    _check_pixels(image, MAX_JPEG_PIXELS)
    if scans > 1:  # all coefficients are in memory, at whatever scale
        _check_pixels(image, MAX_PIXELS)
    if scans > MAX_SCANS or scans * full > MAX_SCANNED:
        raise _Refused(
            f"has {'more than ' if scans > MAX_SCANS else ''}{min(scans, MAX_SCANS)} scans of "
            f"{image.width} x {image.height} pixels, which take too long; save it anew"
        )
    scale = 1
    if full > MAX_PIXELS:
        scale = max(by for by in (1, 2, 4, 8) if by == 1 or min(image.size) >= by * REDUCED_SIDE)
        _check_pixels(image, MAX_PIXELS * scale**2)
    if smallest:
        scale = 8
    if scale > 1:
        image.draft(None, (max(image.width // scale, 1), max(image.height // scale, 1)))


def _check_segments(file: BinaryIO) -> None:
    """Bound what lies before the picture of a JPEG: Pillow reads it in Python, byte by byte where
    no segment begins."""
    junk = 0
    for segments, (kind, skipped, _) in enumerate(_segments(file), start=1):
        if kind == _END_OF_FILE and skipped > MAX_JUNK:
            raise _Refused("has no picture; copy it again, or remove it")
        junk += skipped
        if segments > MAX_SEGMENTS or junk > MAX_JUNK:
            raise _Refused("has too much before its picture; save it anew")
        if kind in (_START_OF_SCAN, _END_OF_IMAGE):
            return


def _scans(image: PILImage) -> int:
    """How often decoding goes through the pixels: 1 where the first scan holds all components."""
    jpeg: JpegImageFile = image  # type: ignore[assignment]
    assert jpeg.fp is not None
    scans = 0
    for kind, _, head in _segments(jpeg.fp):
        if kind == _END_OF_IMAGE or scans > MAX_SCANS:
            break
        if kind == _START_OF_SCAN:
            scans += 1
            if not jpeg.info.get("progressive") and int.from_bytes(head[2:], "big") >= jpeg.layers:
                break
    return max(scans, 1)


def _segments(file: IO[bytes]) -> Iterator[tuple[int, int, bytes]]:
    """Yield the kind of each segment of a JPEG, how many bytes lie between it and the one before,
    and its first three bytes (length, and the components of a scan); then the end of the file."""
    place = 2
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        while found := _MARKER.search(content, place):
            head = content[found.end() : found.end() + 3]
            yield content[found.start() + 1], found.start() - place, head
            place = found.end() + int.from_bytes(head[:2], "big")
        yield _END_OF_FILE, len(content) - place, b""


def _check_chunks(file: BinaryIO) -> None:
    """Bound the chunks of a PNG beside those of the picture, which Pillow reads one by one."""
    file.seek(8)
    others = 0
    while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        others += head[4:] not in (b"IDAT", b"fcTL", b"fdAT")
        if others > MAX_SEGMENTS:
            raise _Refused("has too much beside its picture; save it anew")
        file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
