"""A hundred files that a decoder of photos may choke on, each made by code and named by a sentence.

`python tools/faults.py photos` reads each of them in a process of its own, and says what it took.
"""

from __future__ import annotations

import io
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Make = Callable[[Path], object]
GREY = np.random.default_rng(0).integers(0, 256, (64, 80), np.uint8)
HEIC = bytes.fromhex("0000001c66747970686569630000000061766966")[:12] + b"heicmif1" + bytes(40)


def noise(width: int = 80, height: int = 64, mode: str = "RGB") -> Image.Image:
    """A photo."""
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def saved(image: Image.Image, format_: str, **options: Any) -> bytes:
    """A file of Pillow's."""
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def jpeg(**options: Any) -> bytes:
    return saved(noise(), "JPEG", **options)


def segment(kind: int, content: bytes) -> bytes:
    return b"\xff" + bytes([kind]) + struct.pack(">H", len(content) + 2) + content


def sized_jpeg(width: int, height: int, **options: Any) -> bytes:
    """A JPEG that says to be of another size."""
    content = bytearray(jpeg(**options))
    place = re.search(rb"\xff[\xc0\xc2]", content)
    assert place
    content[place.start() + 5 : place.start() + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def after(content: bytes, at: int, more: bytes) -> bytes:
    return content[:at] + more + content[at:]


def scans(further: int) -> bytes:
    """A progressive JPEG with its last scan so many times more."""
    content = jpeg(progressive=True)
    last = [found.start() for found in re.finditer(rb"\xff\xda", content)][-1]
    return content[:-2] + content[last:-2] * further + content[-2:]


def chunk(kind: bytes, content: bytes, crc: int | None = None) -> bytes:
    made = zlib.crc32(kind + content) if crc is None else crc
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", made)


def png(
    width: int, height: int, bits: int = 8, colour: int = 2, rows: bytes | None = None,
    before: bytes = b"", interlace: int = 0,
) -> bytes:  # fmt: skip
    """A PNG of zeros, whatever its size, or of the compressed ``rows``."""
    if rows is None:
        channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
        row = bytes(1 + (width * bits * channels + 7) // 8)
        packer = zlib.compressobj(9)
        step = max(1, (1 << 22) // len(row))
        parts = [packer.compress(row * min(step, height - i)) for i in range(0, height, step)]
        rows = b"".join(parts) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    palette = chunk(b"PLTE", bytes(3)) if colour == 3 else b""
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + palette + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )  # fmt: skip


def animated_png(frames: int) -> bytes:
    """An APNG that says to have so many frames."""
    return png(80, 64, before=chunk(b"acTL", struct.pack(">II", frames, 0)))


def gif(width: int, height: int, data: bytes, frame: tuple[int, int] | None = None) -> bytes:
    """A GIF of LZW ``data``; the frame may be larger than the screen."""
    blocks = b"".join(bytes([len(data[i : i + 255])]) + data[i : i + 255]
                      for i in range(0, len(data), 255))  # fmt: skip
    size = frame or (width, height)
    return (b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
            + b"," + struct.pack("<HHHHB", 0, 0, *size, 0) + b"\x02" + blocks + b"\0;")  # fmt: skip


def tiff(tags: list[tuple[int, int, int, int]], after_: bytes = b"", follow: int = 0) -> bytes:
    """A little-endian TIFF of one directory, which leads on to the place ``follow``."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", follow)
    return b"II*\0\x08\0\0\0" + directory + after_


def tiff_of(width: int, height: int, compression: int = 1, **more: int) -> bytes:
    """A TIFF of grey zeros that says to be of this size."""
    samples, bits = more.get("samples", 1), more.get("bits", 8)
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, compression),
            (262, 3, 1, more.get("photometric", 1)), (273, 4, 1, more.get("offset", 200)),
            (277, 3, 1, samples), (278, 4, 1, more.get("rows", height)),
            (279, 4, 1, more.get("count", 1000))]  # fmt: skip
    return tiff(tags, bytes(2000), more.get("follow", 0))


def many_directories(number: int) -> bytes:
    """A TIFF of so many directories, each of which leads to the next."""
    size = 2 + 12 + 4
    parts = [struct.pack("<HHHIII", 1, 256, 4, 1, 8, 8 + size * (i + 1) if i + 1 < number else 0)
             for i in range(number)]  # fmt: skip
    return b"II*\0\x08\0\0\0" + b"".join(parts)


def bmp(width: int, height: int, bits: int = 24, data: bytes = b"", **more: int) -> bytes:
    """A BMP that says to be of this size."""
    head = struct.pack(
        "<IiiHHIIiiII",
        more.get("header", 40),
        width,
        height,
        1,
        bits,
        more.get("compression", 0),
        len(data),
        0,
        0,
        more.get("colours", 0),
        0,
    )
    return b"BM" + struct.pack("<IHHI", 54 + len(data), 0, 0, more.get("offset", 54)) + head + data


def webp(content: bytes, kind: bytes = b"VP8L") -> bytes:
    body = b"WEBP" + kind + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", len(body)) + body


def box(kind: bytes, content: bytes, length: int | None = None) -> bytes:
    return struct.pack(">I", len(content) + 8 if length is None else length) + kind + content


def avif(*parts: bytes) -> bytes:
    return box(b"ftyp", b"avif\0\0\0\0avifmif1") + b"".join(parts)


def exif(value: bytes) -> bytes:
    """A JPEG with this after "Exif"."""
    return after(jpeg(), 2, segment(0xE1, b"Exif\0\0" + value))


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "a" * 1000)
    return buffer.getvalue()


def files(only: set[str] | None = None) -> Iterator[tuple[str, str, Make]]:
    """What each file is, its suffix, and what makes it, one at a time: some are large."""
    written = ((what, suffix, _writer(content)) for what, suffix, content in _contents())
    return (one for one in chain(_places(), written) if only is None or one[0] in only)


def _writer(content: Callable[[], bytes]) -> Make:
    return lambda path: path.write_bytes(content())


def _places() -> Iterator[tuple[str, str, Make]]:
    """What stands in place of a photo, and is not written as its content."""
    yield "a folder called photo", "jpg", lambda path: path.mkdir()
    yield "a pipe without a writer", "jpg", os.mkfifo
    yield "a link to itself", "jpg", lambda path: path.symlink_to(path)
    yield "a link to nothing", "jpg", lambda path: path.symlink_to(path.with_name("nowhere"))
    yield "a link to /dev/zero", "jpg", lambda path: path.symlink_to("/dev/zero")
    yield "a link to /dev/random", "png", lambda path: path.symlink_to("/dev/random")
    yield "a link to a terminal", "png", lambda path: path.symlink_to("/dev/tty")
    yield "a link to the memory of the process", "png", lambda p: p.symlink_to("/proc/self/mem")
    yield (
        "a link to a file of the kernel without a size",
        "jpg",
        lambda p: p.symlink_to("/proc/self/maps"),
    )
    yield "2 GB of holes", "jpg", lambda path: os.truncate(_touched(path), 2 * 10**9)
    yield "499 MB of holes", "png", lambda path: os.truncate(_touched(path), 499_000_000)


def _contents() -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    """The content of the others."""
    png_, gif_, webp_ = (saved(noise(), kind) for kind in ("PNG", "GIF", "WEBP"))
    tiff_, avif_, bmp_ = (saved(noise(), kind) for kind in ("TIFF", "AVIF", "BMP"))
    # --- not a photo at all
    yield "an empty file", "jpg", lambda: b""
    yield "one byte", "png", lambda: b"\x89"
    yield "HTML", "jpg", lambda: b"<!DOCTYPE html><html>404</html>" * 30
    yield "a Git LFS pointer", "png", lambda: b"version https://git-lfs.github.com/spec/v1\n"
    yield (
        "an SVG that reads a file",
        "png",
        lambda: b'<svg><image href="file:///etc/passwd"/></svg>',
    )
    yield "PostScript", "jpg", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/) run\n"
    yield "a PDF", "jpg", lambda: b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n%%EOF"
    yield "a zip", "jpg", lambda: zipped()
    yield "a pickle", "png", lambda: b"\x80\x04cos\nsystem\n(S'true'\ntR."
    yield "random bytes", "webp", lambda: np.random.default_rng(3).bytes(100_000)
    # --- JPEG
    yield "a JPEG of its first marker", "jpg", lambda: b"\xff\xd8\xff"
    yield "a JPEG that ends in its header", "jpg", lambda: jpeg()[:150]
    yield "a JPEG that ends in the middle", "jpg", lambda: jpeg()[:2000]
    yield "a JPEG of 65,535 x 65,535", "jpg", lambda: sized_jpeg(65535, 65535)
    yield "a JPEG of 65,535 x 1", "jpg", lambda: sized_jpeg(65535, 1)
    yield "a JPEG of 18,900 x 18,900 that has 80 x 64", "jpg", lambda: sized_jpeg(18_900, 18_900)
    yield (
        "a progressive JPEG of 9,400 x 9,400 that has 80 x 64",
        "jpg",
        lambda: sized_jpeg(9400, 9400, progressive=True),
    )
    yield "a JPEG of width 0", "jpg", lambda: sized_jpeg(0, 64)
    yield "a JPEG of height 0", "jpg", lambda: sized_jpeg(80, 0)
    yield "a JPEG of 10,000 scans", "jpg", lambda: scans(10_000)
    yield "a JPEG of 400 scans", "jpg", lambda: scans(400)
    yield "a JPEG of 100,000 comments", "jpg", lambda: after(jpeg(), 20, b"\xff\xfe\0\2" * 100_000)
    yield "a JPEG of 10 MB of filling", "jpg", lambda: after(jpeg(), 20, b"\xff" * 10_000_000)
    yield (
        "a JPEG of 10 MB of zeros before its picture",
        "jpg",
        lambda: after(jpeg(), 20, bytes(10_000_000)),
    )
    yield (
        "a JPEG without tables",
        "jpg",
        lambda: re.sub(rb"\xff\xdb\0\x43.{65}", b"", jpeg(), flags=re.DOTALL),
    )
    yield (
        "a JPEG of two headers of other sizes",
        "jpg",
        lambda: after(sized_jpeg(8000, 8000), 2, jpeg()[20:]),
    )
    yield "a JPEG of 9 components", "jpg", lambda: jpeg().replace(b"\x03\x01\x22", b"\x09\x01\x22")
    yield (
        "a JPEG of 12 bits",
        "jpg",
        lambda: jpeg().replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"),
    )
    yield "an arithmetic JPEG", "jpg", lambda: jpeg().replace(b"\xff\xc0", b"\xff\xc9")
    yield "a lossless JPEG", "jpg", lambda: jpeg().replace(b"\xff\xc0", b"\xff\xc3")
    yield "a CMYK JPEG", "jpg", lambda: saved(noise(mode="CMYK"), "JPEG")
    yield (
        "a CMYK JPEG without Adobe's marker",
        "jpg",
        lambda: re.sub(
            rb"\xff\xee\0\x0eAdobe.{7}", b"", saved(noise(mode="CMYK"), "JPEG"), flags=re.DOTALL
        ),
    )
    yield (
        "an MPO with a picture that is not there",
        "jpg",
        lambda: after(
            jpeg(),
            2,
            segment(0xE2, b"MPF\0II*\0\x08\0\0\0\1\0\2\xb0\x07\0\x20\0\0\0\xff\xff\xff\x7f"),
        ),
    )
    yield "restart markers alone", "jpg", lambda: jpeg()[:-1000] + b"\xff\xd0" * 200_000
    yield "a JPEG in a zip in a JPEG", "jpg", lambda: jpeg() + zipped() + jpeg()
    # --- EXIF and profiles
    yield "EXIF of 65,000 bytes of nothing", "jpg", lambda: exif(bytes(65_000))
    yield (
        "EXIF whose directory is itself",
        "jpg",
        lambda: exif(b"II*\0\x08\0\0\0\1\0\x69\x87\4\0\1\0\0\0\x08\0\0\0\x08\0\0\0"),
    )
    yield "EXIF of 65,535 entries", "jpg", lambda: exif(b"II*\0\x08\0\0\0\xff\xff" + bytes(60_000))
    yield (
        "EXIF of an entry of 4 GB",
        "jpg",
        lambda: exif(b"II*\0\x08\0\0\0\1\0\x12\1\7\0\xff\xff\xff\xff\0\0\0\0\0\0\0\0"),
    )
    yield "orientation 99", "jpg", lambda: jpeg(exif=_oriented(99))
    yield (
        "a profile that says to be 4 GB",
        "jpg",
        lambda: after(jpeg(), 2, segment(0xE2, b"ICC_PROFILE\0\1\1" + b"\xff" * 4 + bytes(200))),
    )
    yield (
        "255 parts of a profile that are one",
        "jpg",
        lambda: after(
            jpeg(),
            2,
            b"".join(
                segment(0xE2, b"ICC_PROFILE\0" + bytes([one, 255]) + bytes(60_000))
                for one in range(255)
            ),
        ),
    )
    yield (
        "XMP of 5 MB",
        "jpg",
        lambda: after(
            jpeg(), 2, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"<a>" * 20_000) * 80
        ),
    )
    # --- PNG
    yield "a PNG that ends in its picture", "png", lambda: png_[: len(png_) // 2]
    yield "a PNG of 9,400 x 9,400 in 260 kB", "png", lambda: png(9400, 9400)
    yield "a PNG with transparency of 9,400 x 9,400", "png", lambda: png(9400, 9400, colour=6)
    yield (
        "a PNG of 16 bits with transparency of 9,400 x 9,400",
        "png",
        lambda: png(9400, 9400, 16, 6),
    )
    yield "a grey PNG of 16 bits of 9,400 x 9,400", "png", lambda: png(9400, 9400, 16, 0)
    yield "a PNG of 1 bit of 9,400 x 9,400", "png", lambda: png(9400, 9400, 1, 0)
    yield "an interlaced PNG of 9,400 x 9,400", "png", lambda: png(9400, 9400, interlace=1)
    yield "a palette PNG of 9,400 x 9,400", "png", lambda: png(9400, 9400, 8, 3)
    yield "a PNG of 65,535 x 65,535", "png", lambda: png(65535, 65535, rows=zlib.compress(b""))
    yield "a PNG of 2,147,483,647 x 1", "png", lambda: png(2**31 - 1, 1, rows=zlib.compress(b""))
    yield "a PNG of 65,535 x 1", "png", lambda: png(65535, 1)
    yield "a PNG of 0 x 0", "png", lambda: png(0, 0, rows=zlib.compress(b""))
    yield (
        "a PNG of more rows than it says",
        "png",
        lambda: png(80, 64, rows=zlib.compress(bytes(300 << 20), 9)),
    )
    yield (
        "a PNG whose text unpacks to 1 GB",
        "png",
        lambda: png(80, 64, before=chunk(b"zTXt", b"a\0\0" + _packed_zeros(1 << 30))),
    )
    yield (
        "a PNG whose profile unpacks to 1 GB",
        "png",
        lambda: png(80, 64, before=chunk(b"iCCP", b"a\0\0" + _packed_zeros(1 << 30))),
    )
    yield (
        "a PNG of 10,000 texts",
        "png",
        lambda: png(80, 64, before=chunk(b"tEXt", b"a\0b") * 10_000),
    )
    yield (
        "a PNG whose chunk is 2 GB long",
        "png",
        lambda: png_[:33] + b"\x7f\xff\xff\xfftEXt" + png_[33:],
    )
    yield "a PNG of wrong checksums", "png", lambda: png_.replace(png_[29:33], b"\0\0\0\0")
    yield "a PNG without its header", "png", lambda: png_[:8] + png_[33:]
    yield (
        "a PNG without a palette",
        "png",
        lambda: png(80, 64, 8, 3).replace(chunk(b"PLTE", bytes(3)), b""),
    )
    yield "an APNG of a million frames", "png", lambda: animated_png(10**6)
    yield "an APNG of 4 billion frames", "png", lambda: animated_png(2**32 - 1)
    yield "a zip behind a PNG", "png", lambda: png_ + zipped()
    yield "a zip in a chunk of a PNG", "png", lambda: after(png_, 33, chunk(b"zzZz", zipped()))
    yield "a JPEG called a PNG called a GIF", "gif", lambda: png_[:8] + jpeg()
    # --- GIF, WebP, AVIF
    yield "a GIF of 65,535 x 65,535", "gif", lambda: gif(65535, 65535, b"\x84\x51")
    yield "a GIF of 9,400 x 9,400 without data", "gif", lambda: gif(9400, 9400, b"\x84\x51")
    yield "a GIF of 9,400 x 9,400 in LZW", "gif", lambda: saved(Image.new("P", (9400, 9400)), "GIF")
    yield (
        "a GIF whose frame is larger than its screen",
        "gif",
        lambda: gif(10, 10, b"\x84\x51", (9400, 9400)),
    )
    yield "a GIF of codes that are not there", "gif", lambda: gif(80, 64, b"\xff" * 5000)
    yield "a GIF of 10,000 frames", "gif", lambda: gif_[:-1] + gif_[gif_.index(b",") : -1] * 10_000
    yield "a GIF that ends in its palette", "gif", lambda: gif_[:100]
    yield (
        "a WebP of 16,383 x 16,383",
        "webp",
        lambda: webp(b"\x2f" + b"\xff" * 3 + b"\x0f" + bytes(50)),
    )
    yield (
        "a WebP of 9,400 x 9,400",
        "webp",
        lambda: saved(Image.new("RGB", (9400, 9400)), "WEBP", lossless=True, quality=0, method=0),
    )
    yield "a fragment of a WebP", "webp", lambda: webp_[: len(webp_) // 2]
    yield "a WebP whose RIFF says 4 GB", "webp", lambda: b"RIFF\xff\xff\xff\xff" + webp_[8:]
    yield (
        "an animated WebP of one frame that is not there",
        "webp",
        lambda: webp(b"\x02" + bytes(9) + bytes(10), b"VP8X"),
    )
    yield "a fragment of an AVIF", "avif", lambda: avif_[: len(avif_) // 2]
    yield "an AVIF of boxes in boxes", "avif", lambda: avif(_nested(2000))
    yield "an AVIF of a box of length 0", "avif", lambda: avif(box(b"meta", bytes(4), 0))
    yield (
        "an AVIF of 65,535 x 65,535",
        "avif",
        lambda: re.sub(
            rb"ispe(.{4}).{8}",
            rb"ispe\1" + struct.pack(">II", 65535, 65535),
            avif_,
            flags=re.DOTALL,
        ),
    )
    yield "the beginning of a HEIC", "heic", lambda: HEIC
    # --- TIFF and BMP
    yield "a TIFF whose directory leads to itself", "tif", lambda: tiff_of(80, 64, follow=8)
    yield "a TIFF of 100,000 directories", "tif", lambda: many_directories(100_000)
    yield "a TIFF of 9,400 x 9,400 without data", "tif", lambda: tiff_of(9400, 9400)
    yield "a TIFF of 4 billion columns", "tif", lambda: tiff_of(2**32 - 1, 1)
    yield "a TIFF of 60,000 samples", "tif", lambda: tiff_of(10, 10, samples=60_000)
    yield "a TIFF of 64 bits", "tif", lambda: tiff_of(80, 64, bits=64)
    yield "a TIFF whose strip is elsewhere", "tif", lambda: tiff_of(80, 64, offset=2**32 - 1)
    yield "a TIFF in LZW of nothing", "tif", lambda: tiff_of(8000, 8000, 5)
    yield (
        "a TIFF in Deflate of 9,400 x 9,400",
        "tif",
        lambda: saved(Image.new("RGB", (9400, 9400)), "TIFF", compression="tiff_adobe_deflate"),
    )
    yield "a TIFF in a fax's code", "tif", lambda: tiff_of(9400, 9400, 4, bits=1)
    yield "a TIFF of an unknown compression", "tif", lambda: tiff_of(80, 64, 60_000)
    yield "half of a TIFF", "tif", lambda: tiff_[: len(tiff_) // 2]
    yield "a BMP of 30,000 x -30,000", "bmp", lambda: bmp(30_000, -30_000)
    yield "a BMP of 9,400 x 9,400 without data", "bmp", lambda: bmp(9400, 9400)
    yield (
        "a BMP of runs beyond its rows",
        "bmp",
        lambda: bmp(9000, 9000, 8, b"\xff\1" * 5000 + b"\0\1", compression=1, colours=2, offset=62),
    )
    yield (
        "a BMP of 4 billion colours",
        "bmp",
        lambda: bmp(80, 64, 8, bytes(6000), colours=2**32 - 1),
    )
    yield "a BMP whose header is 4 GB", "bmp", lambda: bmp(80, 64, header=2**32 - 1)
    yield "half of a BMP", "bmp", lambda: bmp_[: len(bmp_) // 2]


def _touched(path: Path) -> Path:
    path.touch()
    return path


def _packed_zeros(size: int) -> bytes:
    packer, block = zlib.compressobj(9), bytes(1 << 22)
    return b"".join(packer.compress(block) for _ in range(size >> 22)) + packer.flush()


def _oriented(value: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = value
    return found


def _nested(depth: int) -> bytes:
    content = b""
    for _ in range(depth):
        content = box(b"meta", bytes(4) + content)
    return content
