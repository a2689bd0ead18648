"""The workspaces of all tabs: one each, below one folder, opened under a secret name."""

from __future__ import annotations

import secrets
import threading
import time
from pathlib import Path
from typing import Any

from sharpzo.data.entries import holds_photos, subfolders
from sharpzo.errors import InputError
from sharpzo.web.tab import Tab, numbered

MOST = 16  # tabs
GONE = 3600.0  # seconds after which a tab without a request leaves an empty workspace to others


class Tabs:
    """Opens workspaces ``1``, ``2``, … below ``home``; ``given`` is a folder of the person's own
    photos, from which classes may be copied. ``cache`` and ``model`` are those of a `Tab`."""

    def __init__(
        self, home: Path, cache: Path | None, given: Path | None = None, model: str | None = None
    ) -> None:
        self._home, self._cache, self._given, self._model = home, cache, given, model
        self._turn, self._lock = threading.Lock(), threading.Lock()
        self._tabs: dict[str, Tab] = {}  # by secret
        self._seen: dict[str, float] = {}  # when a tab asked last, by secret
        self.watching: dict[str, int] = {}  # streams of events, by secret

    def open(self, name: str | None) -> tuple[str, Tab]:
        """The secret of a workspace and itself: of the one with a name, else of an empty one;
        InputError if there are too many."""
        with self._lock:
            if name is not None:
                if all(place.name != name for place in self._places()):
                    raise InputError(f"there is no workspace {name!r} any more; begin a new one")
            else:
                name = self._unused()
            return self._open(name)

    def seen(self, secret: str, leaves: bool = False) -> None:
        """A tab is there now, or ``leaves``."""
        self._seen[secret] = time.monotonic() - GONE * leaves

    def find(self, secret: str) -> Tab | None:
        """The tab of a secret."""
        return self._tabs.get(secret)

    def earlier(self, secret: str) -> list[dict[str, Any]]:
        """Workspaces that have photos, and no tab."""
        mine, found = self._tabs[secret].workspace.folder, list[dict[str, Any]]()
        seen = {self._tabs[other].workspace.folder for other, n in self.watching.items() if n}
        for place in self._places():
            if place in seen or place == mine or not (place / "photos").is_dir():
                continue
            counts = [sum(1 for _ in one.iterdir()) for one in subfolders(place / "photos")]
            if sum(counts):
                found.append({"name": place.name, "classes": len(counts), "photos": sum(counts)})
        return found

    def folders(self) -> list[str]:
        """Folders of the person's own, with classes in them, by their names."""
        return list(self._own())

    def folder(self, name: str) -> Path:
        """One of `folders`; InputError for another one."""
        try:
            return self._own()[name]
        except KeyError:
            raise InputError(f"there is no folder {name!r} with classes here") from None

    def close(self, wait: float = 30.0) -> None:
        """Stop what runs; a search can go on from there another time."""
        tabs = list(self._tabs.values())
        for tab in tabs:
            tab.desk.stop()
        for tab in tabs:
            tab.desk.stop(wait)

    def _own(self) -> dict[str, Path]:
        if self._given is None:
            return {}
        places = {self._given.resolve().name: self._given}
        places |= {place.name: place for place in subfolders(self._given)}
        return {
            name: place for name, place in places.items()
            if sum(map(holds_photos, subfolders(place))) > 1
        }  # fmt: skip

    def _places(self) -> list[Path]:
        return numbered(self._home)

    def _unused(self) -> str:
        """The name of a workspace without photos and without a tab, or of a new one."""
        now = time.monotonic()
        taken = {tab.workspace.folder.name for secret, tab in self._tabs.items()
                 if self.watching.get(secret) or now - self._seen[secret] < GONE}  # fmt: skip
        names = [place.name for place in self._places()]
        for name in names:
            photos, runs = self._home / name / "photos", self._home / name / "runs"
            empty = not any(any(one.iterdir()) for one in (photos, runs) if one.is_dir())
            if name not in taken and empty:
                return name
        if len(taken) >= MOST:
            raise InputError(f"there are {MOST} tabs, which is the most; close one")
        return str(max(map(int, names), default=0) + 1)

    def _open(self, name: str) -> tuple[str, Tab]:
        for secret, tab in self._tabs.items():
            if tab.workspace.folder.name == name:
                self.seen(secret)
                return secret, tab
        secret = secrets.token_urlsafe(16)
        self._tabs[secret] = Tab(self._home / name, self._cache, self._turn, self._model)
        self.seen(secret)
        return secret, self._tabs[secret]
