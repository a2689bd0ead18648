"""Answers about photos by a run that stays open: the camera of a page asks several times a
second."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from sharpzo.data.photo import as_photo
from sharpzo.errors import InputError
from sharpzo.fitting.documents import documents_of
from sharpzo.fitting.strangers import LOST
from sharpzo.models import Models

TOP = 5  # classes that are named


class Answering:
    """Keeps the run that was asked last, and its image tower."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: tuple[Path, Models] | None = None

    def answer(self, run: Path, file: bytes) -> dict[str, Any]:
        """What a run says of the bytes of a photo: ``label``, whether it is of ``none`` of the
        classes, the ``top`` classes, and the milliseconds (``ms``) that it took.

        Raises InputError for what is no photo, ArtifactError for a run that cannot be read.
        """
        with self._lock:
            models = self._open(run)
            begin = time.perf_counter()
            found = models.answer([as_photo(file)])
            (document,) = documents_of(models.trained(), found, LOST, TOP)
            ms = 1000 * (time.perf_counter() - begin)
        if "error" in document:
            raise InputError(f"this photo {document['error']}")
        return {**document, "ms": round(ms)}

    def _open(self, run: Path) -> Models:
        if self._models is None or self._models[0] != run:
            if self._models is not None:
                self._models[1].close()
                self._models = None
            self._models = run, Models(run)
        return self._models[1]
