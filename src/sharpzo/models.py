"""`Models`: several runs that are loaded once, and chosen per call."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sharpzo.data import arguments
from sharpzo.data.dataset import strange
from sharpzo.detour import detours
from sharpzo.errors import InputError
from sharpzo.fitting.answers import Answers, ask
from sharpzo.fitting.strangers import LOST
from sharpzo.fitting.trained import Trained, load, silent
from sharpzo.types import Array
from sharpzo.wording import meant, printable, some

if TYPE_CHECKING:
    from sharpzo.data.photo import Photo
    from sharpzo.towers.features import Encoder

Folder = str | os.PathLike[str]


class Models:
    """Several run folders, loaded once; each call names the ``run`` that answers.

    ``runs`` are folders, which are called by their last part, or folders by a name of yours. Runs
    of the same model whose photos are decoded alike share one image tower. Those with an image
    side of their own (``blackvip``, ``clip-lora``, ``ladder+image``, ``tune-blocks``) have a tower
    of their own.
    ``model`` says where the checkpoint of all of them lies now, if it has moved; ``cache`` is a
    folder that keeps image features (None: none are kept).

    Photos are what `PromptClassifier` takes, the bytes of a file among them. Answers are those of
    ``PromptClassifier.load(run)``: to the bit for the same photos in one call, and within rounding
    (about 1e-6) where they come in other batches. Calls of several threads wait for one another.

    Raises InputError for runs of the same name and for an unknown one, ArtifactError for a folder
    that is no run.

    >>> import tempfile
    >>> from sharpzo import PromptClassifier
    >>> from sharpzo.data.demo import load_demo
    >>> photos, folder = load_demo(seed=1), tempfile.mkdtemp()
    >>> classifier = PromptClassifier("gda").fit(photos)
    >>> models = Models([classifier.save(f"{folder}/{name}") for name in ("summer", "winter")])
    >>> models.runs
    ('summer', 'winter')
    >>> models.predict(photos.test.photos[0].decode(), run="winter").shape
    (1,)
    """

    def __init__(
        self,
        runs: Folder | Iterable[Folder] | Mapping[str, Folder],
        *,
        model: str | Path | None = None,
        cache: str | Path | None = None,
    ) -> None:
        folders = _named(runs)
        self._trained = {
            name: load(Path(folder), model=model, cache=cache) for name, folder in folders.items()
        }
        self._encoders: dict[object, Encoder] = {}
        self._lock = Lock()

    @property
    def runs(self) -> tuple[str, ...]:
        """The names of the runs."""
        return tuple(self._trained)

    def trained(self, run: str | None = None) -> Trained:
        """The classifier of a run; None: of the only one."""
        if run is None and len(self._trained) == 1:
            (run,) = self._trained
        if run is None:
            raise InputError(f"there are several runs; name one as run: {some(self.runs)}")
        if run not in self._trained:
            raise InputError(
                f"there is no run {run!r}{meant(run, self.runs)}; there are: {some(self.runs)}"
            )
        return self._trained[run]

    def classes(self, run: str | None = None) -> Array:
        """The labels (K,) of a run."""
        return self.trained(run).classes

    def predict(self, photos: Any, *, run: str | None = None) -> Array:
        """Most probable labels (N,)."""
        return self.classes(run)[self.predict_proba(photos, run=run).argmax(axis=1)]

    def predict_proba(self, photos: Any, *, run: str | None = None) -> Array:
        """Class probabilities (N, K), columns in the order of ``classes(run)``."""
        trained, many = self.trained(run), arguments.photos(photos)
        if not many:
            return np.zeros((0, len(trained.class_names)))
        return self.answer(many, run=run).complete().probabilities

    def is_known(self, photos: Any, *, run: str | None = None, lost: float = LOST) -> Array:
        """Whether photos are of any class (N,), losing a share of those that are; InputError for a
        run that cannot tell."""
        threshold = self.trained(run).require_rule().threshold(lost)
        found = self.answer(arguments.photos(photos), run=run).complete()
        return np.array(found.known(threshold), bool)

    def answer(self, photos: Sequence[Photo], *, run: str | None = None) -> Answers:
        """What a run says of photos, also of those that cannot be used."""
        trained = self.trained(run)
        with self._lock:
            encoder = self._encoder(trained)
            parts = ask(trained.head, trained.strangers, encoder, strange(photos), silent)
            return Answers.joined(list(parts))

    def _encoder(self, trained: Trained) -> Encoder:
        """What encodes the photos of a run, and of those that can share it."""
        ways = detours([trained.head])
        record, towers = trained.record, trained.towers
        key = (
            record["model"]["sha256"], record.get("threads"), towers.decoding, towers.image_size,
            towers.image_precision,
            tuple(way.digest for way in ways),
        )  # fmt: skip
        if key not in self._encoders:
            self._encoders[key] = towers.encoder((), trained.cache, ways)
        return self._encoders[key]

    def close(self) -> None:
        """Release the image towers; a later call opens them again."""
        with self._lock:
            for encoder in self._encoders.values():
                encoder.close()

    def __enter__(self) -> Models:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _named(runs: Folder | Iterable[Folder] | Mapping[str, Folder]) -> dict[str, Folder]:
    """Folders by the names of their runs."""
    if isinstance(runs, Mapping):
        found = dict(cast("Mapping[str, Folder]", runs))
    else:
        found: dict[str, Folder] = {}
        folders = [runs] if isinstance(runs, str | os.PathLike) else list(runs)
        for folder in folders:
            name = printable(os.path.basename(os.path.abspath(folder)))
            if name in found:
                raise InputError(
                    f"{found[name]} and {folder} are both called {name!r}; rename one, or give "
                    "Models {name: folder, …}"
                )
            found[name] = folder
    if not found:
        raise InputError("there are no runs; give at least one folder")
    return found
