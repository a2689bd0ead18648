"""Which photo files are opened, and what is said of the others."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from sharpzo.data import decoding, jpeg
from sharpzo.data.decoding import decode
from sharpzo.data.photo import Photo
from sharpzo.errors import PhotoError
from sharpzo.memory import resident

from .trees import photo

# 16 x 8 pixels, the left half green and the right half red, written by pillow-heif: an encoder of
# HEIC is not among the packages of the tests.
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAXxtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAA"
    "AAAAAAAAACJpbG9jAAAAAERAAAEAAQAAAAABoAABAAAAAAAAAD4AAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABo"
    "dmMxAAAAAA5waXRtAAAAAAABAAAA/GlwcnAAAADcaXBjbwAAAHVodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEA"
    "GEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQApQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbqrprm4CGgwIAAAAyAAAAD"
    "AIRiAAEABkQBwXPBiQAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAQAAAAChjbGFwAAAAEAAAAAEA"
    "AAAIAAAAAf///9AAAAAC////yAAAAAIAAAAQcGl4aQAAAAADCAgIAAAAGGlwbWEAAAAAAAAAAQABBYECAwWEAAAARm1k"
    "YXQAAAA6KAGvEyF0c8DlNVP6aF6MXyeTPQD2Ryym8Ner+2/1WYdCsDry3gWqapSY0OTbtfHaj41ApWO6TuuCHg=="
)


def refused(path: Path) -> str:
    """What is said by all that may meet the file first, and it is the same."""
    said = set()
    for use in (Photo.decode, Photo.check):
        with pytest.raises(PhotoError) as caught:
            use(Photo(str(path), path=path))
        said.add(caught.value.reason)
    assert len(said) == 1
    assert Photo(str(path), path=path).memory() == 0
    return said.pop()


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def test_what_is_no_file(tmp_path: Path):
    assert "does not exist" in refused(tmp_path / "missing.jpg")
    assert "does not exist" in refused(photo(tmp_path / "a.png") / "b.png")
    (tmp_path / "folder.jpg").mkdir()
    assert "is a folder, not a file" in refused(tmp_path / "folder.jpg")
    (tmp_path / "empty.jpg").touch()
    assert "is empty" in refused(tmp_path / "empty.jpg")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")
        assert "is a device or pipe" in refused(tmp_path / "pipe.jpg")  # and does not wait for it
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    assert "cannot be opened" in refused(tmp_path / "loop.jpg")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert "does not exist" in refused(tmp_path / "dangling.jpg")


def test_a_file_that_may_not_be_read_is_not_damaged(tmp_path: Path, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    file = photo(tmp_path / "a.png")
    monkeypatch.setattr(Path, "open", refuse)  # root may read everything
    said = refused(file)
    assert "may not be read (permission denied)" in said
    assert "damaged" not in said


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path):
    file = tmp_path / "film.jpg"
    with file.open("wb") as sparse:
        sparse.truncate(2 * 10**9)
    for use in (decode, decoding.digest):
        with pytest.raises(PhotoError, match=r"film\.jpg is too large \(2,000 MB, the limit"):
            use(file)


def test_a_digest_reads_chunks(tmp_path: Path, monkeypatch):
    file = photo(tmp_path / "a.png", size=(50, 60))
    whole = decoding.digest(file)
    monkeypatch.setattr(decoding, "_CHUNK", 7)
    assert decoding.digest(file) == whole


def test_a_jpeg_above_the_limit_is_decoded_at_a_smaller_scale(tmp_path: Path, monkeypatch):
    file, small = tmp_path / "large.jpg", tmp_path / "small.jpg"
    noise(1600, 1200).save(file, quality=90)
    noise(400, 300).save(small, quality=90)
    full = decode(file)
    kept = decode(small)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 500_000)
    monkeypatch.setattr(decoding, "MAX_JPEG_PIXELS", 2_000_000)
    monkeypatch.setattr(decoding, "REDUCED_SIDE", 300)
    reduced = decode(file)
    assert reduced.shape == (300, 400, 3)  # 1/4; 1/8 would leave the shorter side with 150
    means = full.reshape(300, 4, 400, 4, 3).mean(axis=(1, 3))
    assert np.abs(reduced - means).mean() < 4
    assert Photo("", path=file).memory() < 40 * 300 * 400
    np.testing.assert_array_equal(decode(small), kept)  # those below it are as they were
    monkeypatch.setattr(decoding, "MAX_JPEG_PIXELS", 1_000_000)
    assert "is too large (1600 x 1200 pixels, the limit is 1,000,000)" in refused(file)


def test_a_thin_jpeg_above_the_limit_is_refused(tmp_path: Path, monkeypatch):
    noise(4000, 16).save(tmp_path / "thin.jpg")
    monkeypatch.setattr(decoding, "MAX_PIXELS", 50_000)
    monkeypatch.setattr(decoding, "REDUCED_SIDE", 300)
    assert "is too large (4000 x 16 pixels" in refused(tmp_path / "thin.jpg")


def test_a_progressive_jpeg_is_never_reduced(tmp_path: Path, monkeypatch):
    """All of its coefficients would be in memory, at any scale."""
    noise(800, 600).save(tmp_path / "a.jpg", progressive=True)
    assert Photo("", path=tmp_path / "a.jpg").memory() > (3 + 4) * 800 * 600
    monkeypatch.setattr(decoding, "MAX_PIXELS", 100_000)
    assert "is too large (800 x 600 pixels, the limit is 100,000)" in refused(tmp_path / "a.jpg")


def scanned(image: Image.Image, further: int) -> bytes:
    """A progressive JPEG whose last scan is there so many times more."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", progressive=True)
    content = buffer.getvalue()
    last = [found.start() for found in re.finditer(rb"\xff\xda", content)][-1]
    return content[:-2] + content[last:-2] * further + content[-2:]


def test_scans_are_bounded(tmp_path: Path, monkeypatch):
    file = tmp_path / "a.jpg"
    usual = noise(80, 64)
    file.write_bytes(scanned(usual, 0))
    assert decode(file).shape == (64, 80, 3)
    file.write_bytes(scanned(usual, jpeg.MAX_SCANS))
    assert "has more than 500 scans of 80 x 64 pixels, which take too long" in refused(file)
    file.write_bytes(scanned(usual, 90))
    assert decode(file).shape == (64, 80, 3)
    monkeypatch.setattr(decoding, "MAX_SCANNED", 50 * 80 * 64)
    assert "has 100 scans of 80 x 64 pixels" in refused(file)


def test_what_surrounds_a_picture_is_bounded(tmp_path: Path):
    buffer = io.BytesIO()
    noise(80, 64).save(buffer, "JPEG")
    jpeg, file = buffer.getvalue(), tmp_path / "a.jpg"
    for between in (b"\xff\xfe\x00\x04ab" * 4000, b"\xff" * 90_000, b"\x00" * 90_000):
        file.write_bytes(jpeg[:20] + between + jpeg[20:])
        assert decode(file).shape == (64, 80, 3)
    for between in (b"\xff\xfe\x00\x04ab" * 6000, b"\x00" * 110_000):
        file.write_bytes(jpeg[:20] + between + jpeg[20:])
        assert "has too much before its picture" in refused(file)
    file.write_bytes(jpeg[:20] + bytes(200_000))
    assert "remove it" in refused(file)
    buffer = io.BytesIO()
    noise(80, 64).save(buffer, "PNG")
    png, file = buffer.getvalue(), tmp_path / "a.png"
    chunk = struct.pack(">I", 0) + b"abCd" + struct.pack(">I", zlib.crc32(b"abCd"))
    file.write_bytes(png[:33] + chunk * 4000 + png[33:])
    assert decode(file).shape == (64, 80, 3)
    file.write_bytes(png[:33] + chunk * 6000 + png[33:])
    assert "has too much beside its picture" in refused(file)


def test_a_header_that_asks_for_more_than_any_telephone(tmp_path: Path):
    buffer = io.BytesIO()
    noise(80, 64).save(buffer, "JPEG")
    content = bytearray(buffer.getvalue())
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", 65535, 65535)
    (tmp_path / "a.jpg").write_bytes(content)
    assert "is too large (65535 x 65535 pixels" in refused(tmp_path / "a.jpg")


def test_the_library_says_nothing_by_itself(tmp_path: Path):
    file = tmp_path / "a.tif"
    tags = [(256, 4, 10), (257, 4, 10), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8),
            (277, 3, 60000), (279, 4, 100)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    file.write_bytes(b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(1000))
    code = "import sys; from sharpzo.data.decoding import decode; decode(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, check=False)
    said = done.stderr.decode()
    assert "PhotoError" in said
    assert "More samples" not in said


def test_a_baseline_jpeg_has_one_scan_whatever_its_thumbnail_has(tmp_path: Path):
    exif = Image.Exif()
    exif[0x927C] = scanned(noise(16, 16), 30)  # a maker's note with a preview
    noise(80, 64).save(tmp_path / "a.jpg", exif=exif)
    with decoding.opened(tmp_path / "a.jpg") as image:
        assert jpeg.count_scans(image) == 1


def test_avif(tmp_path: Path, monkeypatch):
    file = photo(tmp_path / "a.avif", (200, 30, 90), size=(16, 8))
    assert np.abs(decode(file).astype(int) - (200, 30, 90)).max() <= 8
    monkeypatch.setattr(features, "check", lambda name: False)
    assert "is an AVIF file, which this build of Pillow cannot read" in refused(file)


@pytest.mark.parametrize("name", ["a.heic", "really_heic.jpg"])
def test_heic_by_its_content(tmp_path: Path, name: str, monkeypatch):
    (tmp_path / name).write_bytes(HEIC)
    found = decode(tmp_path / name).astype(int)
    assert found.shape == (8, 16, 3)
    assert np.abs(found[:, 2] - (20, 160, 40)).max() <= 12
    assert np.abs(found[:, 13] - (200, 30, 90)).max() <= 12
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    said = refused(tmp_path / name)
    assert "needs the package pi-heif: pip install 'sharpzo[heic]'" in said


def test_names_lie(tmp_path: Path):
    noise(16, 8).save(tmp_path / "a.png", "JPEG")
    noise(16, 8).save(tmp_path / "b.jpg", "WEBP", lossless=True)
    assert decode(tmp_path / "a.png").shape == (8, 16, 3)
    np.testing.assert_array_equal(decode(tmp_path / "b.jpg"), noise(16, 8))


def test_both_pictures_of_a_stereo_file_are_one_photo(tmp_path: Path):
    first, second = noise(16, 8), Image.new("RGB", (16, 8))
    first.save(tmp_path / "a.mpo", save_all=True, append_images=[second], quality=95)
    (tmp_path / "a.mpo").rename(tmp_path / "a.jpg")
    assert np.abs(decode(tmp_path / "a.jpg").astype(int) - np.asarray(first)).mean() < 8


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif", "tiff", "avif"])
@pytest.mark.parametrize("kept", [0.3, 0.7])
def test_a_check_sees_what_decoding_sees(tmp_path: Path, suffix: str, kept: float):
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(file)
    Photo("", path=file).check()
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * kept)])
    with pytest.raises(PhotoError, match=r"(remove it|damaged)"):
        Photo("", path=file).check()


def write_all_formats(folder: Path, width: int, height: int) -> None:
    photo, exif = noise(width, height), Image.Exif()
    exif[0x0112] = 6  # lies on its side
    clear = photo.copy()
    clear.putalpha(noise(width, height).convert("L"))
    wide = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    folder.mkdir()
    photo.save(folder / "usual.jpg", exif=exif)
    photo.save(folder / "progressive.jpg", progressive=True, subsampling=0)
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    photo.save(folder / "rotated.png", exif=exif, compress_level=1)
    clear.save(folder / "clear.png", compress_level=1)
    palette = photo.quantize(8, method=Image.Quantize.FASTOCTREE)  # the usual one takes seconds
    palette.save(folder / "palette.png", transparency=3)
    palette.save(folder / "a.gif")
    wide.save(folder / "wide.png", compress_level=1)
    photo.save(folder / "lossy.webp", method=0, exif=exif)
    clear.save(folder / "clear.webp", method=0, lossless=True, quality=0)
    photo.save(folder / "a.bmp")
    photo.save(folder / "a.tiff", compression="tiff_lzw")
    photo.save(folder / "a.avif", speed=10)


@pytest.mark.skipif(resident() is None, reason="this system does not say what a process takes")
def test_memory_is_no_less_than_what_decoding_takes(tmp_path: Path):
    write_all_formats(tmp_path / "photos", 1400, 1120)
    # What the C library keeps is released before each photo; pages of libraries are not, for how
    # many of them a system maps at once is its own affair, and they are no part of a photo. One
    # core: AVIF is decoded by as many threads as there are, and the system counts pages by core.
    code = """
import ctypes, json, os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from pathlib import Path
from sharpzo.data.photo import Photo
from sharpzo.memory import peak, resident, watch_anew
found = {}
for file in sys.argv[1:]:
    for least in (None, 300):
        photo = Photo("", path=Path(file)).sized(least)
        planned = photo.memory()
        photo.image()  # what it calls is loaded now
        ctypes.CDLL(None).malloc_trim(0)
        before = resident() if watch_anew() else float("inf")
        photo.image()
        found[f"{Path(file).name}, {least}"] = planned, peak() - before
print(json.dumps(found))
"""
    command = [sys.executable, "-c", code, *map(str, (tmp_path / "photos").iterdir())]
    done = subprocess.run(command, capture_output=True, check=True)
    found = json.loads(done.stdout)
    assert len(found) == 2 * 13
    batches = 1 << 20  # bytes: the system counts pages in batches
    assert not {name: both for name, both in found.items() if both[1] > both[0] + batches}
    assert not {name: both for name, both in found.items() if both[1] < both[0] / 3}


def test_photos_are_decoded_as_small_as_is_asked(tmp_path: Path):
    """Whatever the format, the shorter side has what was asked for, or is whole."""
    photo = noise(1600, 1200)
    for name in ("a.jpg", "a.png", "a.webp"):
        photo.save(tmp_path / name)
        whole = Photo("", path=tmp_path / name)
        for least, shapes in (
            (300, {(300, 400)}), (200, {(200, 267), (300, 400)}), (601, {(1200, 1600)}),
            (1201, {(1200, 1600)}), (None, {(1200, 1600)}),
        ):  # fmt: skip
            found = whole.sized(least).decode()
            assert found.shape[:2] in shapes
            means = np.asarray(photo.resize(found.shape[1::-1], Image.Resampling.BOX)).astype(int)
            assert np.abs(found - means).mean() < 12
    large = Photo("", path=tmp_path / "a.jpg").sized(300)
    assert large.memory() < 0.2 * Photo("", path=tmp_path / "a.jpg").memory()
