"""Photos that arrive in a folder, once they are there whole."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sharpzo.data.entries import photos_below
from sharpzo.data.folder import check_folder
from sharpzo.data.photo import Photo


@dataclass(frozen=True)
class Arrival:
    """A photo by its path below the folder, its bytes, and when it was last written, in ns."""

    path: str
    size: int
    modified: int


class Arrivals:
    """Looks again and again at what is in ``folder`` and below; links to folders are not entered.

    Raises InputError if it is no folder, also when it is gone later.
    """

    def __init__(self, folder: Path) -> None:
        check_folder(folder)
        self.folder = folder
        self._before: set[Arrival] = set()

    def look(self, settled: bool = True) -> list[Arrival]:
        """Return what is there, sorted by path; with ``settled`` what has not changed since the
        last look, so that a photo that is still being written has to wait."""
        there: list[Arrival] = []
        for photo in photos_below(self.folder):
            with suppress(FileNotFoundError):  # it has just been taken away
                there.append(self._arrival(os.path.relpath(photo, self.folder)))
        before, self._before = self._before, set(there)
        return [one for one in there if one in before or not settled]

    def is_there(self, arrival: Arrival) -> bool:
        """Whether the photo is still the same, neither taken away nor written again."""
        try:
            return self._arrival(arrival.path) == arrival
        except FileNotFoundError:
            return False

    def _arrival(self, path: str) -> Arrival:
        found = (self.folder / path).stat()
        return Arrival(path, found.st_size, found.st_mtime_ns)

    def photo(self, arrival: Arrival) -> Photo:
        """The photo, named by its path below the folder."""
        return Photo(arrival.path, path=self.folder / arrival.path)
