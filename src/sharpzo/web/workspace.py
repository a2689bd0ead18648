"""A folder of photos that a page fills: one subfolder per class, within limits."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import threading
import unicodedata
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from io import BytesIO
from itertools import count
from pathlib import Path

from sharpzo.data.dataset import class_name
from sharpzo.data.decoding import SUFFIXES, opened
from sharpzo.data.demo import load_demo
from sharpzo.data.entries import passed_over, photos_in, split_name, subfolders
from sharpzo.data.photo import Photo
from sharpzo.errors import InputError, PhotoError
from sharpzo.memory import MB

MOST_CLASSES, MOST_PHOTOS = 200, 5000
MOST_BYTES = 30 * MB  # of a photo
MOST_TOGETHER = 4096 * MB
LONGEST = 120  # bytes of a name: file systems take 255, and a number may follow
_NO_NAME = re.compile(r'[\\/:*?"<>|\x00-\x1f\x7f]')  # what some system refuses in a name
_SUFFIX = {"JPEG": ".jpg", "TIFF": ".tif", "HEIF": ".heic"}  # others are called like their kind


class Workspace:
    """The photos of a tab of the browser, below ``folder``; ``version`` changes with them.

    Names that a page sends are looked up among what is there, never joined to a path.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.photos, self.version = folder, folder / "photos", 1
        self._incoming = folder / "incoming"
        self.photos.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._incoming, ignore_errors=True)  # of an earlier process
        self._incoming.mkdir()
        self._listed: tuple[int, dict[str, list[Path]]] = (0, {})
        held = [photo.stat().st_size for held in self.classes().values() for photo in held]
        self._many, self._bytes = len(held), sum(held)
        self._lock = threading.RLock()  # photos arrive several at a time

    def classes(self) -> dict[str, list[Path]]:
        """The classes and their photos, both sorted by name."""
        version, found = self._listed
        if version != self.version:
            version = self.version
            found = {folder.name: photos_in(folder) for folder in subfolders(self.photos)}
            self._listed = version, found
        return found

    def digest(self) -> str:
        """What tells these photos from others: names, sizes and times, not contents."""
        held = [(p.parent.name, p.name, p.stat()) for ps in self.classes().values() for p in ps]
        text = repr([(*names, stat.st_size, stat.st_mtime_ns) for *names, stat in held])
        return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()

    def add_class(self, name: str) -> str:
        """Make a class, unless it is there, and return its name as the model reads it."""
        plain = unicodedata.normalize("NFC", _NO_NAME.sub(" ", name))
        plain = class_name(plain, f"the class {name!r}").strip(". ")
        with self._lock:
            return self._class_of(plain) or self._new_class(plain, name)

    def _class_of(self, plain: str) -> str | None:
        known = (folder.name for folder in subfolders(self.photos))
        return next((name for name in known if name.casefold() == plain.casefold()), None)

    def _new_class(self, plain: str, name: str) -> str:
        if not plain or len(plain.encode()) > LONGEST:
            raise InputError(f"a class name has 1 to {LONGEST} letters; {name[:200]!r} has not")
        if len(subfolders(self.photos)) >= MOST_CLASSES:
            raise InputError(f"there are {MOST_CLASSES} classes, which is the most; remove one")
        if split_name(plain) in ("train", "val", "test", "eval"):
            raise InputError(
                f"{plain!r} is the name of a part of a data set, not of a class; name what is on "
                "the photos"
            )
        folder = self.photos / plain
        folder.mkdir()
        if why := passed_over(folder):
            folder.rmdir()
            raise InputError(f"a class cannot be called {plain!r} ({why}); choose another name")
        self.version += 1
        return plain

    def remove_class(self, name: str) -> None:
        """Remove a class and its photos; InputError if there is none."""
        folder = self._class(name)
        with self._lock:
            for photo in photos_in(folder):
                self.remove(name, photo.name)
            shutil.rmtree(folder)
            self.version += 1

    @contextmanager
    def incoming(self) -> Generator[Path]:
        """A new place for a file that arrives, which is gone at the end if it was not added."""
        place = self._incoming / secrets.token_hex(8)
        try:
            yield place
        finally:
            place.unlink(missing_ok=True)

    def check_room(self) -> None:
        """Raise InputError if no further photo may come."""
        if self._many >= MOST_PHOTOS:
            raise InputError(f"there are {MOST_PHOTOS:,} photos, which is the most; remove some")
        if self._bytes > MOST_TOGETHER:
            raise InputError(
                f"the photos have {MOST_TOGETHER / MB:,.0f} MB together, which is the most; remove "
                "some"
            )

    def add(self, label: str, name: str, file: Path) -> str:
        """Move a file that arrived among the photos of a class, and return its name there.

        InputError, and the file stays where it is, if it is no photo by its first bytes. A photo
        that the class has under this name stays.
        """
        self.check_room()
        name = _safe(name)
        with opened(file, name) as image:
            kind = image.format or ""
        place = self.photos / self.add_class(label)
        stem, suffix = os.path.splitext(name)
        if suffix.lower() not in SUFFIXES:
            stem, suffix = name, _SUFFIX.get(kind, f".{kind.lower()}")
        with self._lock:
            for number in count(1):
                name = f"{stem}{f'-{number}' if number > 1 else ''}{suffix}"
                if not os.path.lexists(place / name):
                    size = file.stat().st_size
                    os.replace(file, place / name)
                    self._many, self._bytes = self._many + 1, self._bytes + size
                    self.version += 1
                    break
                if _same(place / name, file):
                    break
        return name

    def remove(self, label: str, name: str) -> None:
        """Remove a photo; InputError if there is none."""
        photo = self.find(label, name)
        with self._lock:
            size = photo.stat().st_size
            photo.unlink()
            self._many, self._bytes = self._many - 1, self._bytes - size
            self.version += 1

    def find(self, label: str, name: str) -> Path:
        """The file of a photo, InputError if there is none."""
        found = next((p for p in photos_in(self._class(label)) if p.name == name), None)
        if found is None or found.is_symlink():
            raise InputError(f"there is no photo {name!r} of class {label!r}")
        return found

    def picture(self, label: str, name: str, side: int) -> bytes:
        """A photo as a small JPEG; raises PhotoError if it cannot be read."""
        from PIL import Image

        photo = Photo(name, path=self.find(label, name), least=side)
        image = Image.fromarray(photo.decode())
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        image.save(file := BytesIO(), "JPEG", quality=85)
        return file.getvalue()

    def add_demo(self, tell: Callable[[int], object]) -> None:
        """Add the demo's photos, as files; ``tell`` is called with how many there are so far."""
        from PIL import Image

        demo = load_demo()
        for split in filter(None, (demo.train, demo.val)):
            for photo, label in zip(split.photos, split.labels, strict=True):
                with self.incoming() as file:
                    Image.fromarray(photo.decode()).convert("L").save(file, "PNG")
                    row = photo.name.rpartition(" ")[2]
                    self.add(demo.class_names[int(label)], f"{row}.png", file)
                tell(self._many)

    def add_folder(self, folder: Path, tell: Callable[[int], object]) -> None:
        """Add copies of the photos of a folder with one subfolder per class, as far as they are
        photos; ``tell`` as above. InputError where there is no more room."""
        for inner in subfolders(folder):
            for photo in photos_in(inner):
                with suppress(PhotoError), self.incoming() as file:
                    shutil.copy2(photo, file)
                    self.add(inner.name, photo.name, file)
                tell(self._many)

    def _class(self, name: str) -> Path:
        found = next((one for one in subfolders(self.photos) if one.name == name), None)
        if found is None:
            raise InputError(f"there is no class {name!r}")
        return found


def _safe(name: str) -> str:
    """A file name that every system takes: the last part of what was sent."""
    last = unicodedata.normalize("NFC", re.split(r"[\\/]", name)[-1])
    stem, suffix = os.path.splitext(_NO_NAME.sub("_", last).strip(". "))
    short = stem.encode("utf-8", "replace")[:LONGEST].decode("utf-8", "ignore")
    return f"{short}{suffix[:10].encode('utf-8', 'replace').decode()}".lstrip(".") or "photo"


def _same(one: Path, other: Path) -> bool:
    same = one.is_file() and one.stat().st_size == other.stat().st_size
    return same and one.read_bytes() == other.read_bytes()
