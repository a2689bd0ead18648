"""``sharpzo add`` and ``sharpzo forget``: a run that changes with its photos."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from sharpzo.cli import options

if TYPE_CHECKING:
    from sharpzo.cli.progress import Display
    from sharpzo.data.photo import Photo
    from sharpzo.fitting.growth import Grown
    from sharpzo.fitting.trained import Trained


def add(
    run: options.Run,
    data: Annotated[
        list[Path],
        Argument(
            help="Folder with one subfolder per class, old or new ('none' for counter-examples); "
            "with --label: photos, folders of photos, zip files.",
            metavar="PHOTOS…",
        ),
    ],
    label: Annotated[
        str | None, Option(help="Class of all PHOTOS.", show_default="the subfolders' names")
    ] = None,
    model: options.Model = None,
    memory_limit: options.MemoryLimit = None,
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
    plugin: options.Plugin = [],  # noqa: B006
    as_json: options.Json = False,
) -> None:
    """Add photos or classes to a run, in place, without the photos that it was fitted to.

    The run is then what a fit to all of these photos gives. Photos that it has are passed over.
    """
    from sharpzo.data.loading import gather
    from sharpzo.fitting.growth import add as added

    if label is not None:
        photos = gather(data, getattr(sys.stdin, "buffer", None))
        labels = [label] * len(photos)
    else:
        photos, labels = _by_folder(data)

    def change(trained: Trained, display: Display) -> Grown:
        return added(trained, photos, labels, progress=display.encoding)

    _update(run, model, memory_limit, options.feature_cache(cache, no_cache), as_json, change)


def forget(
    run: options.Run,
    photo: Annotated[
        list[Path],
        Option(
            "--photo",
            help="Photo of the fit, or folder of some, known by their content; may be repeated.",
            metavar="PHOTO",
        ),
    ],
    model: options.Model = None,
    memory_limit: options.MemoryLimit = None,
    plugin: options.Plugin = [],  # noqa: B006
    as_json: options.Json = False,
) -> None:
    """Take photos out of a run, in place, as if it had been fitted without them.

    A class that is left without a photo is gone. Nothing of a forgotten photo stays in the run.
    """
    from sharpzo.data.loading import gather
    from sharpzo.fitting.growth import forget as forgotten

    photos = gather(photo)
    _update(
        run, model, memory_limit, None, as_json, lambda trained, display: forgotten(trained, photos)
    )


def _by_folder(folders: list[Path]) -> tuple[list[Photo], list[str]]:
    """Photos, and the class that the subfolder of each is."""
    from sharpzo.data.entries import subfolders
    from sharpzo.data.folder import read_classes
    from sharpzo.errors import InputError

    photos: list[Photo] = []
    labels: list[str] = []
    for folder in folders:
        if os.path.exists(folder) and not (folder.is_dir() and subfolders(folder)):
            raise InputError(f"{folder} has no subfolder per class; say the class with --label")
        found, names = read_classes(folder)
        photos += found
        labels += names
    return photos, labels


def _update(
    run: Path,
    model: str | None,
    memory_limit: str | None,
    cache: Path | None,
    as_json: bool,
    change: Callable[[Trained, Display], Grown],
) -> None:
    from sharpzo.cli.progress import Display
    from sharpzo.errors import ArtifactError
    from sharpzo.fitting.trained import load
    from sharpzo.storage import artifact
    from sharpzo.storage.files import Hold

    folder = artifact.as_folder(run)
    if not artifact.is_finished(folder):
        artifact.read(folder)  # says what is wrong
    try:
        hold = Hold(folder, f"the run folder {folder}")
    except OSError as error:
        raise ArtifactError(f"{folder} cannot be written: {error.strerror or error}") from None
    before = b""
    try:
        artifact.settle(folder)  # a change that was stopped
        before = (folder / artifact.RECORD).read_bytes()
        trained = load(folder, model=model, cache=cache, memory_limit=memory_limit)
        with Display(silent=as_json) as display:
            grown = change(trained, display)
        if grown.photos:
            artifact.rewrite(folder, grown.trained.arrays, grown.trained.record)
        _tell(run, grown, as_json)
    except KeyboardInterrupt as stop:
        artifact.settle(folder)
        changed = before not in (b"", (folder / artifact.RECORD).read_bytes())
        stop.args = (f"{folder} {'was changed already' if changed else 'is as it was'}",)
        raise
    finally:
        hold.release()


def _tell(run: Path, grown: Grown, as_json: bool) -> None:
    """Print what was done."""
    from sharpzo.cli.screen import Screen

    record = grown.trained.record
    said: dict[str, Any] = {
        "run": str(run),
        "photos": grown.photos,
        "training_photos": record["data"]["training_photos"],
        "classes": list(grown.trained.class_names),
        "seconds": record["seconds"] if grown.photos else 0.0,
        "notes": list(grown.notes),
    }
    if as_json:
        print(json.dumps(said))
        return
    screen = Screen()
    for note in grown.notes:
        screen.say(f"note: {note}")
    if not grown.photos:
        screen.say("The run is as it was.")
        return
    what = "photo" if grown.photos == 1 else "photos"
    screen.say(
        f"{grown.photos:,} {what}: the run now has {said['training_photos']:,} training photos of "
        f"{len(said['classes']):,} classes; fitted again in {said['seconds']:.1f} s."
    )
