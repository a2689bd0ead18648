"""A zip file as a folder: unpacked within limits, removed when the process ends."""

from __future__ import annotations

import atexit
import io
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from sharpzo.data.decoding import SUFFIXES
from sharpzo.data.entries import holds_photos, split_name, subfolders
from sharpzo.errors import InputError

MOST_BYTES = 32 << 30  # unpacked
# Photos are compressed already: what grows more than this is no photo, or a bomb.
MOST_GROWTH, SMALL = 100, 100 << 20
MOST_LISTED = 32 << 20  # bytes of the list of files, which is read whole: some 400,000 photos
_SUFFIXES = SUFFIXES | {".csv", ".jsonl"}  # of what is unpacked; of the rest there is the name
_LINK, _LONGEST_PATH = 0o120000, 4096
_HEAD, _END = 30, 22  # bytes before a name in the file, and of the end of the list

_unpacked: dict[tuple[str, int, int], Path] = {}


def is_archive(file: str | os.PathLike[str]) -> bool:
    """Whether ``file`` is a file called .zip, in whatever state."""
    return os.path.isfile(file) and Path(file).suffix.lower() == ".zip"


def unpack(file: str | os.PathLike[str]) -> Path:
    """Return a folder with the photos and label files of a zip file, until the process ends.

    Files of other kinds are there by name, and empty; so are those that are damaged. Links, and
    names that lead out of the folder, are not unpacked.

    Raises `InputError` if it is no zip file, is encrypted, holds more than `MOST_BYTES` or than the
    disk has room for, or grows more than any photos would.
    """
    file = Path(file)
    found = file.stat()
    key = str(file.resolve()), found.st_mtime_ns, found.st_size
    if key not in _unpacked:
        try:
            _unpacked[key] = _extracted(file)
        except InputError:
            raise
        except OSError as error:
            raise InputError(
                f"{file} cannot be unpacked into a temporary folder ({error.strerror or error}); "
                "unpack it yourself and give the folder, or set TMPDIR to another one"
            ) from error
        except (zipfile.BadZipFile, NotImplementedError, UnicodeError, ValueError) as error:
            raise InputError(
                f"{file} is no zip file that can be read ({error}); unpack it yourself and give "
                "the folder"
            ) from error
    return _unpacked[key]


def innermost(root: Path) -> Path:
    """Return ``root`` without the folders around everything; a split is not one of them."""
    while len(inner := subfolders(root)) == 1 and not split_name(inner[0].name):
        if holds_photos(root):
            break
        root = inner[0]
    return root


class _Bounded(io.FileIO):
    """A file that is read in pieces of bounded size: zipfile reads the list of files whole."""

    def read(self, size: int | None = -1, /) -> bytes:
        left = os.fstat(self.fileno()).st_size - self.tell()
        size = left if size is None or size < 0 else min(size, left)
        if size > MOST_LISTED:
            raise zipfile.BadZipFile("it lists too many files")
        return super().read(size) or b""


def _extracted(file: Path) -> Path:
    around = Path(tempfile.mkdtemp(prefix="sharpzo-"))
    folder = around / file.name
    try:
        folder.mkdir()
        with _Bounded(file) as opened, zipfile.ZipFile(opened) as archive:
            _check_list(opened, archive)
            members = list(_members(archive))
            _check_size(file, folder, [info for info, _ in members])
            for info, place in members:
                _write(archive, info, folder / place)
    except BaseException:
        shutil.rmtree(around, ignore_errors=True)
        raise
    atexit.register(shutil.rmtree, around, ignore_errors=True)
    return folder


def _check_list(file: _Bounded, archive: zipfile.ZipFile) -> None:
    """Raise BadZipFile for a list of files that is not that of the files: it has no checksum, so a
    photo could move to another class, or disappear."""
    file.seek(-_END - len(archive.comment), os.SEEK_END)
    many = int.from_bytes(file.read(_END)[10:12], "little")
    if many not in (len(archive.infolist()), 0xFFFF):  # more are counted elsewhere
        raise zipfile.BadZipFile("its list of files is damaged")
    for info in archive.infolist():
        file.seek(info.header_offset)
        head = file.read(_HEAD)
        name = file.read(int.from_bytes(head[26:28], "little"))
        utf8 = info.flag_bits & 0x800
        if name != info.orig_filename.encode("utf-8" if utf8 else "cp437"):
            raise zipfile.BadZipFile(f"its list of files is damaged at {info.filename!r}")
        if _is_link(info) and info.file_size > _LONGEST_PATH:
            raise zipfile.BadZipFile(f"it calls {info.filename!r} a link, which it is not")


def _is_link(info: zipfile.ZipInfo) -> bool:
    return stat.S_IFMT(info.external_attr >> 16) == _LINK


def _members(archive: zipfile.ZipFile) -> Iterator[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """What may be unpacked, and where."""
    for info in archive.infolist():
        place = PurePosixPath(_name(info).replace("\\", "/"))
        if info.flag_bits & 0x1:
            raise zipfile.BadZipFile("it is encrypted")
        odd = place.is_absolute() or ".." in place.parts or re.match("[A-Za-z]:", str(place))
        if not odd and place.parts and not _is_link(info):
            yield info, place


def _name(info: zipfile.ZipInfo) -> str:
    """The name; a Mac writes UTF-8 without saying so, and zipfile takes it for DOS letters."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _check_size(file: Path, folder: Path, members: list[zipfile.ZipInfo]) -> None:
    need = sum(info.file_size for info in members)
    free = shutil.disk_usage(folder).free
    if need > MOST_BYTES or need > max(SMALL, MOST_GROWTH * file.stat().st_size):
        raise InputError(
            f"{file} would unpack to {need:,} bytes, more than photos do; it is refused"
        )
    if need > free:
        raise InputError(
            f"{file} unpacks to {need:,} bytes, and {tempfile.gettempdir()} has {free:,} left; "
            "free some, or set TMPDIR to a folder with more room"
        )


def _write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    if info.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as out:
        if target.suffix.lower() not in _SUFFIXES or target.name.startswith("."):
            return
        try:
            with archive.open(info) as content:
                shutil.copyfileobj(content, out)
        except (zipfile.BadZipFile, zlib.error, EOFError):
            out.seek(0)
            out.truncate()
