"""Answers about photos by runs that stay open: the camera of a page asks many times a second."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sharpzo.data.dataset import strange
from sharpzo.data.photo import Photo
from sharpzo.detour import detours, fixed_views
from sharpzo.errors import PhotoError
from sharpzo.fitting.answers import ask
from sharpzo.fitting.strangers import LOST
from sharpzo.fitting.trained import Trained, load, silent
from sharpzo.towers.features import Encoder

TOP = 5  # classes that are named


class Answering:
    """Keeps the run that was asked last, and its image tower."""

    def __init__(self) -> None:
        self._lock, self._kept = threading.Lock(), ExitStack()
        self._run: Path | None = None

    def answer(self, run: Path, file: Path) -> dict[str, Any]:
        """What a run says of a photo: ``label``, whether it is of ``none`` of the classes, the
        ``top`` classes, milliseconds; raises PhotoError for a file that is no photo."""
        with self._lock:
            trained, encoder = self._open(run)
            begin = time.perf_counter()
            split = strange([Photo("this file", path=file)])
            (part,) = ask(trained.head, trained.strangers, encoder, split, silent)
            if part.errors:
                raise PhotoError("that was given", part.errors[0].reason)
            ms = 1000 * (time.perf_counter() - begin)
        rule = trained.strangers
        (known,) = part.known(rule.threshold(LOST) if rule else 0.0)
        (row,) = part.probabilities
        best = [
            {"label": str(trained.classes[k]), "probability": float(row[k])}
            for k in row.argsort()[::-1][:TOP]
        ]
        return {"label": best[0]["label"], "none": known is False, "top": best, "ms": round(ms)}

    def _open(self, run: Path) -> tuple[Trained, Encoder]:
        if self._run != run:
            self._kept.close()
            self._run = None
            trained = load(run)
            ways = detours([trained.head]), fixed_views([trained.head])
            self._found = trained, self._kept.enter_context(trained.towers.encoder([], None, *ways))
            self._run = run
        return self._found
