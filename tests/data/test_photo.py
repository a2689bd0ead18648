from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.data.decoding import MAX_PIXELS, decode
from sharpzo.data.photo import FIXED_VIEWS, FixedView, Photo, as_photo
from sharpzo.errors import InputError, PhotoError

from .trees import photo

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff"])
def test_lossless_formats_come_back_exactly(tmp_path: Path, suffix: str):
    Image.fromarray(PIXELS).save(tmp_path / f"a.{suffix}")
    out = decode(tmp_path / f"a.{suffix}")
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, PIXELS)


@pytest.mark.parametrize("suffix", ["jpg", "webp", "gif"])
def test_lossy_formats_come_back_roughly(tmp_path: Path, suffix: str):
    out = decode(photo(tmp_path / f"a.{suffix}", (200, 30, 90)))
    assert out.shape == (6, 8, 3)
    assert np.abs(out.astype(int) - (200, 30, 90)).max() <= 8


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "tiff", "avif"])
def test_the_bytes_of_a_file_are_a_photo(tmp_path: Path, suffix: str):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RNG.integers(0, 256, (90, 120, 3), np.uint8)).save(path)
    blob = path.read_bytes()
    for least in (None, 20):
        there, here = as_photo(path).sized(least), as_photo(blob, "sent").sized(least)
        assert here.name == "sent"
        assert here.memory() == there.memory() > 0
        assert here.digest() == there.digest()
        here.check()
        np.testing.assert_array_equal(here.decode(), there.decode())
        one, two = (LabelledPhotos((p,), np.zeros(1, int), ("a",)) for p in (there, here))
        for seen in (lambda split: split.seen("middle"), lambda split: split.views(1, 16)):
            (view,), (other,) = seen(one).photos, seen(two).photos
            np.testing.assert_array_equal(view.decode(), other.decode())
            assert view.digest() == other.digest()


@pytest.mark.parametrize(
    ("blob", "sentence"),
    [
        (b"", "sent is empty"),
        (b"text", "sent is not a readable"),
        (b"\xff\xd8\xff\xe0 cut off", "sent "),
        (b"GIF89a", "sent "),
    ],
)
def test_bytes_that_are_no_photo_are_refused(blob: bytes, sentence: str):
    for read in (Photo.decode, Photo.check):
        with pytest.raises(PhotoError, match=sentence):
            read(as_photo(blob, "sent"))
    assert as_photo(blob).memory() == 0


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_every_colour_mode_becomes_rgb(mode: str):
    grey = Image.new("RGB", (4, 3), (255, 255, 255)).convert(mode)
    out = as_photo(grey).decode()
    assert out.shape == (3, 4, 3)
    assert out.dtype == np.uint8
    assert out.min() >= 254


def test_transparent_parts_are_laid_on_white(tmp_path: Path):
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (10, 20, 30, 255))
    image.save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png").tolist() == [[[255] * 3, [10, 20, 30]]]


def test_transparent_palette_entries_are_laid_on_white(tmp_path: Path):
    image = Image.new("P", (2, 1), 0)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=0)
    assert decode(tmp_path / "a.png").tolist() == [[[255] * 3, [10, 20, 30]]]


@pytest.mark.parametrize(
    ("bits", "colour", "rows", "second"),
    [
        (1, 0, [0b01000000], [1]),
        (2, 1, [0b01100000], [2]),
        (4, 5, [0x59], [9]),
        (8, 5, [5, 9], [9]),
        (16, 5 * 257, [5, 5, 9, 9], [9]),
        (8, (5, 6, 7), [5, 6, 7, 5, 6, 8], [5, 6, 8]),
        (16, (1285, 6, 7), [5, 5, 0, 6, 0, 7, 9, 9, 0, 6, 0, 7], [9, 0, 0]),
    ],
)
def test_a_transparent_colour_of_any_depth_is_laid_on_white(
    tmp_path: Path, bits: int, colour: int | tuple, rows: list[int], second: list[int]
):
    """Two pixels, of which the first has the colour that the PNG calls transparent."""
    kind, parts = (2, colour) if isinstance(colour, tuple) else (0, (colour,))
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", 2, 1, bits, kind, 0, 0, 0),
        b"tRNS": b"".join(struct.pack(">H", part) for part in parts),
        b"IDAT": zlib.compress(bytes([0, *rows])),
        b"IEND": b"",
    }
    blob = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks.items():
        blob += struct.pack(">I", len(data)) + name + data
        blob += struct.pack(">I", zlib.crc32(name + data))
    (tmp_path / "a.png").write_bytes(blob)
    top = 1 if bits in (8, 16) else 255 // (2**bits - 1)
    wanted = [[[255] * 3, np.broadcast_to(np.array(second) * top, 3).tolist()]]
    assert decode(tmp_path / "a.png").tolist() == wanted
    with Image.open(tmp_path / "a.png") as image:
        before = dict(image.info)
        assert as_photo(image).decode().tolist() == wanted
        assert image.info == before


def test_16_bit_greyscale_is_scaled_not_clipped(tmp_path: Path):
    grey = np.array([[0, 257 * 100, 65535]], np.uint16)
    for name in ("a.png", "a.tiff"):
        Image.fromarray(grey).save(tmp_path / name)
        assert decode(tmp_path / name)[0, :, 0].tolist() == [0, 100, 255]


def test_16_bit_greyscale_whose_zero_is_white_is_no_negative(tmp_path: Path):
    grey = np.array([[0, 257 * 100, 65535]], np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.tif")
    blob = (tmp_path / "a.tif").read_bytes()
    entry = struct.pack("<HHIHH", 262, 3, 1, 1, 0)
    assert entry in blob
    (tmp_path / "a.tif").write_bytes(blob.replace(entry, struct.pack("<HHIHH", 262, 3, 1, 0, 0)))
    assert decode(tmp_path / "a.tif")[0, :, 0].tolist() == [255, 155, 0]


def test_a_look_finds_what_decoding_finds(tmp_path: Path):
    """A palette PNG without its palette can be loaded, and not be shown."""
    Image.new("P", (4, 4), 1).save(tmp_path / "a.png")
    blob = (tmp_path / "a.png").read_bytes()
    start = blob.index(b"PLTE") - 4
    end = start + 12 + int.from_bytes(blob[start : start + 4], "big")
    (tmp_path / "a.png").write_bytes(blob[:start] + blob[end:])
    for look in (Photo.decode, Photo.check):
        with pytest.raises(InputError, match=r"a\.png cannot be read"):
            look(as_photo(tmp_path / "a.png"))


def test_32_bit_photos_are_refused(tmp_path: Path):
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(InputError, match=r"a\.tiff has 32 bits per pixel; convert"):
        decode(tmp_path / "a.tiff")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str):
    # What a camera held in this way stores, by the definition of the tag: row 0 of the file is
    # the top, top, bottom, bottom, left, right, right, left side of the scene.
    stored = {
        1: PIXELS,
        2: PIXELS[:, ::-1],
        3: PIXELS[::-1, ::-1],
        4: PIXELS[::-1],
        5: PIXELS.transpose(1, 0, 2),
        6: PIXELS.transpose(1, 0, 2)[::-1],
        7: PIXELS.transpose(1, 0, 2)[::-1, ::-1],
        8: PIXELS.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(np.ascontiguousarray(stored)).save(file, exif=exif)
    np.testing.assert_array_equal(decode(file), PIXELS)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_unknown_orientations_are_ignored(tmp_path: Path, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(decode(tmp_path / "a.png"), PIXELS)


def test_damaged_exif_does_not_cost_the_photo(tmp_path: Path):
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode(tmp_path / "a.jpg").shape == PIXELS.shape


def test_first_frame_of_an_animation(tmp_path: Path):
    frames = [Image.new("RGB", (3, 3), c) for c in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert decode(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif", "tiff"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_cut_off_files_name_the_file(tmp_path: Path, suffix: str, kept: float):
    file = tmp_path / f"cut.{suffix}"
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError, match=rf"cut\.{suffix}.*(remove it|damaged)"):
        decode(file)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif", "tiff"])
def test_damaged_files_decode_or_raise_input_error(tmp_path: Path, suffix: str):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, {"jpg": "jpeg"}.get(suffix, suffix))
    file = tmp_path / "damaged"
    for _ in range(60):
        content = np.frombuffer(buffer.getvalue(), np.uint8).copy()
        where = RNG.integers(0, len(content), 4)
        content[where] = RNG.integers(0, 256, 4)
        file.write_bytes(content.tobytes())
        with suppress(InputError):  # anything else is a failure
            assert decode(file).dtype == np.uint8


@pytest.mark.parametrize("side", [9_460, 60_000])
def test_a_bomb_is_refused_by_its_header(tmp_path: Path, side: int):
    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    with pytest.raises(InputError, match=r"bomb\.png is too large.*make it smaller"):
        decode(tmp_path / "bomb.png")


def test_large_arrays_are_bounded_too():
    with pytest.raises(InputError, match="too large"):
        as_photo(np.broadcast_to(np.uint8(0), (MAX_PIXELS + 1, 1)))


def test_other_files_and_formats_are_refused(tmp_path: Path):
    (tmp_path / "text.jpg").write_text("not a photo")
    Image.new("RGB", (2, 2)).save(tmp_path / "a.ppm")
    for name in ("text.jpg", "a.ppm"):
        with pytest.raises(InputError, match=f"{name} is not a readable JPEG.*HEIC.*convert"):
            decode(tmp_path / name)
    with pytest.raises(InputError, match="does not exist; check the path"):
        decode(tmp_path / "missing.jpg")


def test_arrays():
    np.testing.assert_array_equal(as_photo(PIXELS).decode(), PIXELS)
    np.testing.assert_array_equal(as_photo(PIXELS / 255.0).decode(), PIXELS)
    np.testing.assert_array_equal(as_photo(PIXELS[:, :, 0]).decode()[:, :, 2], PIXELS[:, :, 0])
    assert as_photo(PIXELS[:, :, :1]).decode().shape == PIXELS.shape


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (PIXELS.astype(np.float32), r"floats from 0 to 249; give uint8"),
        (np.full((2, 2, 3), np.nan), "floats from nan"),
        (PIXELS.astype(np.int64), "array of int64"),
        (np.zeros((3, 5, 5), np.uint8), r"shape \(3, 5, 5\); give \(height, width, 3\)"),
        (np.zeros((5, 5, 4), np.uint8), r"shape \(5, 5, 4\)"),
        (np.zeros((0, 5, 3), np.uint8), r"shape \(0, 5, 3\)"),
        (np.zeros(5, np.uint8), r"shape \(5,\)"),
    ],
)
def test_arrays_that_could_be_misread_are_refused(array: np.ndarray, message: str):
    with pytest.raises(InputError, match=message):
        as_photo(array, "photo 7")


def test_as_photo_of_other_things(tmp_path: Path):
    file = photo(tmp_path / "a.png")
    assert as_photo(file).path == file
    assert as_photo(str(file)).path == file
    ours = as_photo(file)
    assert as_photo(ours) is ours
    with pytest.raises(InputError, match="photo is a int; give a path"):
        as_photo(3)
    with pytest.raises(InputError, match="needs a path, pixels or content"):
        Photo("neither")


def test_digest_follows_the_content(tmp_path: Path):
    a, b = photo(tmp_path / "a.png"), photo(tmp_path / "b.png")
    c = photo(tmp_path / "c.png", (1, 2, 3))
    assert as_photo(a).digest() == as_photo(b).digest() != as_photo(c).digest()
    zeros = np.zeros((2, 3), np.uint8)
    assert as_photo(zeros).digest() == as_photo(zeros.copy()).digest()
    assert as_photo(zeros).digest() != as_photo(zeros.T).digest()
    with pytest.raises(InputError, match=r"missing\.png does not exist"):
        as_photo(tmp_path / "missing.png").digest()


def test_no_image_library_before_a_photo_is_decoded():
    code = (
        "import sys, sharpzo.data; sys.exit('PIL' in sys.modules or 'safetensors' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_fixed_views_are_mirrored_or_cut_to_the_middle():
    pixels = RNG.integers(0, 256, (10, 20, 3), dtype=np.uint8)
    views = {name: FixedView("a", pixels=pixels, view=name) for name in FIXED_VIEWS}
    np.testing.assert_array_equal(views["mirror"].decode(), pixels[:, ::-1])
    np.testing.assert_array_equal(views["middle"].decode(), pixels[1:9, 2:18])
    np.testing.assert_array_equal(views["mirrored middle"].decode(), pixels[1:9, 2:18][:, ::-1])
    digests = {view.digest() for view in (as_photo(pixels), *views.values())}
    assert len(digests) == 4
    assert FixedView("a", pixels=pixels[:1, :1], view="middle").decode().shape == (1, 1, 3)
    assert views["middle"].sized(80).least == 100
