"""Photo files: what is opened, within which bounds, and what is said of the others.

A file of a stranger may be a bomb: a few bytes that ask for gigabytes or minutes. Everything here
is decided by the size of the file and its markers, before a pixel is decoded.
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
from typing import TYPE_CHECKING, BinaryIO

from sharpzo.errors import PhotoError
from sharpzo.memory import MB

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage
    from PIL.JpegImagePlugin import JpegImageFile

# An allow-list: Pillow reads some forty formats, and each parser is a door for files of strangers.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
READ = "JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or HEIC"
SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff",
    ".avif", ".heic", ".heif", ".hif",
})  # fmt: skip
MAX_BYTES = 500 * MB  # of a file: no photo of MAX_PIXELS takes more, at 8 bits a channel
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
MANY_BITS = "has 32 bits a pixel; convert it to 8 bits a channel"

_HEVC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_AV1 = (b"avif", b"avis")
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in coded data 0xff is followed by 0 or RST
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_CHUNK = 1 << 20
_log, _SILENT = logging.getLogger("PIL"), logging.NullHandler()  # its errors name no file
_FILTERS = threading.Lock()  # the warning filters of Python belong to the whole process


@contextmanager
def opened(path: Path, *, smallest: bool = False) -> Iterator[PILImage]:
    """Open a photo file whose size, kind and header are within bounds; no pixel is decoded yet.

    With ``smallest`` a JPEG is decoded at 1/8, which reads all of the file in a third of the time.

    Raises `PhotoError`, also for whatever the caller's decoding raises.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with _file(path) as file, _image(path, file) as image:
            if _is_jpeg(image):
                _bound_jpeg(path, image, _scans(image), smallest)
            else:
                _check_pixels(path, *image.size, MAX_PIXELS)
            if has_32_bits(image):
                raise PhotoError(path, MANY_BITS)
            yield image
    except PhotoError:
        raise
    except UnidentifiedImageError as error:
        raise PhotoError(
            path, f"is not a readable {READ} file; convert it to JPEG, or remove it"
        ) from error
    except Image.DecompressionBombError as error:
        raise PhotoError(
            path,
            f"is too large (more than {2 * MAX_PIXELS:,} pixels, the limit is {MAX_PIXELS:,}); "
            "make it smaller, or remove it",
        ) from error
    except MemoryError as error:
        raise PhotoError(path, "needs more memory than there is; make it smaller") from error
    # Pillow's readers raise nearly anything on damaged files: OSError, SyntaxError, struct.error
    except Exception as error:
        raise PhotoError(
            path,
            f"cannot be read ({str(error) or type(error).__name__}); "
            "it may be damaged or cut off: copy it again, or remove it",
        ) from error


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal; raises `PhotoError` like `opened`."""
    total = hashlib.sha256()
    with _file(path) as file:
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
            need = held * image.width * image.height
            if _is_jpeg(image) and _scans(image) > 1:  # coefficients of all components
                need += 2 * 3 * image.width * image.height
            return need
    except PhotoError:
        return 0


def has_32_bits(image: PILImage) -> bool:
    """Whether the range of a greyscale image's values is unknown; a PNG's has 16 bits."""
    return image.mode == "F" or (image.mode == "I" and image.format != "PNG")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Pillow's warnings from the user: they name no file, and sizes are checked here."""
    with _FILTERS, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        yield


@contextmanager
def _file(path: Path) -> Iterator[BinaryIO]:
    """A regular file of bounded size; what is no such file is not opened: a pipe would block."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            kind = "folder" if stat.S_ISDIR(found.st_mode) else "device or pipe"
            raise PhotoError(path, f"is a {kind}, not a file; give a photo")
        if found.st_size > MAX_BYTES:
            raise PhotoError(
                path,
                f"is too large ({found.st_size / MB:,.0f} MB, the limit is {MAX_BYTES // MB} MB); "
                "make it smaller, or remove it",
            )
        if not found.st_size:
            raise PhotoError(path, "is empty; copy it again, or remove it")
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        if isinstance(error, PhotoError):
            raise
        raise PhotoError(
            path, "does not exist; check the path, or unpack the data set completely"
        ) from error
    except PermissionError as error:
        raise PhotoError(
            path, "may not be read (permission denied); change its rights, or remove it"
        ) from error
    except OSError as error:
        raise PhotoError(
            path, f"cannot be opened ({error.strerror}); check the path, or remove it"
        ) from error
    with file:
        yield file


def _image(path: Path, file: BinaryIO) -> PILImage:
    from PIL import Image, JpegImagePlugin

    kind = _kind(file.read(64))
    file.seek(0)
    if kind == "JPEG":
        _check_segments(path, file)
    elif kind == "PNG":
        _check_chunks(path, file)
        file.seek(0)
    _log.addHandler(_SILENT)
    with quiet():
        if kind == "JPEG":  # not Image.open: it refuses 200 megapixels, and takes MPO for an album
            return JpegImagePlugin.JpegImageFile(file)
        if kind == "HEIF":
            _register_heif(path)
        elif kind == "AVIF":
            _require_avif(path)
        return Image.open(file, formats=FORMATS if kind is None else (kind,))


def _kind(head: bytes) -> str | None:
    """JPEG, PNG, HEIF or AVIF by the first bytes, as names often lie; None: one of the others."""
    if head[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if head[4:8] != b"ftyp":
        return None
    brands = [head[8:12], *(head[i : i + 4] for i in range(16, len(head) - 3, 4))]
    if any(brand in _AV1 for brand in brands):
        return "AVIF"
    return "HEIF" if any(brand in _HEVC for brand in brands) else None


def _register_heif(path: Path) -> None:
    try:
        from pi_heif import register_heif_opener
    except ImportError:
        raise PhotoError(
            path,
            "is a HEIC file, which needs the package pi-heif: pip install 'sharpzo[heic]', or "
            "convert it to JPEG",
        ) from None
    register_heif_opener(thumbnails=False)


def _require_avif(path: Path) -> None:
    from PIL import features

    if not features.check("avif"):
        raise PhotoError(
            path, "is an AVIF file, which this build of Pillow cannot read; convert it to JPEG"
        )


def _is_jpeg(image: PILImage) -> bool:
    return image.format == "JPEG"


def _check_pixels(path: Path, width: int, height: int, limit: int) -> None:
    if width * height > limit:
        raise PhotoError(
            path,
            f"is too large ({width} x {height} pixels, the limit is {limit:,}); "
            "make it smaller, or remove it",
        )


def _bound_jpeg(path: Path, image: PILImage, scans: int, smallest: bool) -> None:
    """Bound the work and the memory of a JPEG, and choose the scale of what is large."""
    full = image.width * image.height
    _check_pixels(path, *image.size, MAX_JPEG_PIXELS)
    if scans > 1:  # all coefficients are in memory, at whatever scale
        _check_pixels(path, *image.size, MAX_PIXELS)
    if scans > MAX_SCANS or scans * full > MAX_SCANNED:
        raise PhotoError(
            path,
            f"has {'more than ' if scans > MAX_SCANS else ''}{min(scans, MAX_SCANS)} scans of "
            f"{image.width} x {image.height} pixels, which take too long; save it anew",
        )
    scale = 1
    if full > MAX_PIXELS:
        scale = max(by for by in (1, 2, 4, 8) if by == 1 or min(image.size) >= by * REDUCED_SIDE)
        _check_pixels(path, *image.size, MAX_PIXELS * scale**2)
    if smallest:
        scale = 8
    if scale > 1:
        image.draft(None, (max(image.width // scale, 1), max(image.height // scale, 1)))


def _check_segments(path: Path, file: BinaryIO) -> None:
    """Bound what lies before the picture of a JPEG: Pillow reads it in Python, byte by byte where
    no segment begins."""
    segments, place, junk = 0, 2, 0
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        while found := _MARKER.search(content, place):
            junk += found.start() - place
            segments += 1
            if segments > MAX_SEGMENTS or junk > MAX_JUNK:
                raise PhotoError(path, "has too much before its picture; save it anew")
            if content[found.start() + 1] in (_START_OF_SCAN, _END_OF_IMAGE):
                return
            place = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")
        if len(content) - place > MAX_JUNK:
            raise PhotoError(path, "has no picture; copy it again, or remove it")


def _check_chunks(path: Path, file: BinaryIO) -> None:
    """Bound the chunks of a PNG beside those of the picture, which Pillow reads one by one."""
    file.seek(8)
    others = 0
    while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        others += head[4:] not in (b"IDAT", b"fcTL", b"fdAT")
        if others > MAX_SEGMENTS:
            raise PhotoError(path, "has too much beside its picture; save it anew")
        file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)


def _scans(image: PILImage) -> int:
    """How often decoding goes through the pixels: 1 where the first scan holds all components."""
    jpeg: JpegImageFile = image  # type: ignore[assignment]
    assert jpeg.fp is not None
    scans, place = 0, 2
    with mmap.mmap(jpeg.fp.fileno(), 0, access=mmap.ACCESS_READ) as content:
        while scans <= MAX_SCANS and (found := _MARKER.search(content, place)):
            kind, place = content[found.start() + 1], found.end()
            if kind == _END_OF_IMAGE:
                break
            if kind == _START_OF_SCAN:
                scans += 1
                components = int.from_bytes(content[place + 2 : place + 3], "big")
                if not jpeg.info.get("progressive") and components >= jpeg.layers:
                    break
            place += int.from_bytes(content[place : place + 2], "big")
    return max(scans, 1)
