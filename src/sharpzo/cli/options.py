"""Options that several commands share, each written once."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Option

from sharpzo.data.layouts import LAYOUTS

if TYPE_CHECKING:
    from sharpzo.fitting.trained import Trained
    from sharpzo.storage.record import Record

DATASETS = f"{', '.join(LAYOUTS)}."

# What `PromptClassifier` does by default, too; docs/how-to-choose.md says why.
DEFAULT = "ladder+tokens"

Model = Annotated[
    str | None, Option(help="Checkpoint folder or hub id.", show_default="the embedded model")
]
Method = Annotated[str, Option(help="Name of a method; 'sharpzo methods' lists them.")]
Preset = Annotated[str | None, Option(help="Published settings, such as paper/eurosat or release.")]


def _load_plugins(files: Any) -> Any:  # a list of paths; Typer takes no list[Path] on Python 3.10
    from sharpzo.methods import load_plugin

    for file in files:
        load_plugin(file)
    return files


Plugin = Annotated[
    list[Path],
    Option(
        "--plugin",
        help="Python file that registers further methods; it is run.",
        metavar="FILE",
        callback=_load_plugins,
        is_eager=True,
    ),
]
Settings = Annotated[
    list[str],
    Option("--set", help="Change one setting, such as search.zo.keep=0.1.", metavar="N=V"),
]
Seed = Annotated[int, Option(help="Seed of the draw and of the search.")]
Forwards = Annotated[int | None, Option(help="Forwards to spend.", show_default="by method")]
Seconds = Annotated[
    float | None, Option(help="Seconds of tuning to spend.", show_default="no limit")
]
Steps = Annotated[
    int | None,
    Option(help="Steps (generations, then updates) to take.", show_default="no limit"),
]
Threads = Annotated[
    int | None, Option(help="Processor threads.", show_default="all this process may use")
]
Engine = Annotated[str, Option(help="What computes the text tower: onnxruntime, openvino or cuda.")]
Precision = Annotated[
    str,
    Option(
        help="Precision of the text tower in the fit: float32; float16, int8 or int4 (its matrices "
        "alone); bfloat16 (with openvino)."
    ),
]
MemoryLimit = Annotated[
    str | None,
    Option(
        help="Most memory for this process and its children, such as 600MB or 512MiB.",
        show_default="no limit",
        metavar="SIZE",
    ),
]
Decoding = Annotated[
    str | None,
    Option(
        help="How photos much larger than the image tower's input are decoded: reduced (JPEG at "
        "1/2, 1/4 or 1/8) or exact.",
        show_default="reduced; exact with published settings",
    ),
]
ImageSize = Annotated[
    int | None,
    Option(
        help="Pixels a side that photos are made to for the image tower: a multiple of its "
        "patches, such as 224; twice as many take four times the time.",
        show_default="the model's own; twice that for photos as large as that",
    ),
]
ImagePrecision = Annotated[
    str,
    Option(
        help="Precision of the image tower, in the fit and whenever the run is used: float32, "
        "bfloat16 (by OpenVINO, on a processor that has it) or int8."
    ),
]
Views = Annotated[
    str | None,
    Option(
        help="Most views of a photo (also mirrored, or cut to its middle) that pass the image "
        "tower: 1, 2, 4, or auto for 4; the fit chooses them by leave-one-out.",
        show_default="1",
    ),
]
Track = Annotated[
    str | None,
    Option(
        help="Log the steps of the search to tensorboard or mlflow; tensorboard:FOLDER or "
        "mlflow:URI say where.",
        show_default="no",
        metavar="TRACKER",
    ),
]
Cache = Annotated[
    Path | None,
    Option(
        help="Folder that keeps image features, so that photos are encoded once.",
        show_default="features in the user's cache folder",
    ),
]
NoCache = Annotated[bool, Option("--no-cache", help="Encode photos anew, keep no features.")]
Lost = Annotated[
    float | None,
    Option(
        help="Share of photos of known classes that may be called none of these; 0: no photo is.",
        show_default="0.05",
        min=0.0,
        max=0.5,
    ),
]


def share(lost: float | None, trained: Trained) -> float:
    """The share that was asked for, of a classifier that can keep to it; by default that of a
    fit."""
    from sharpzo.fitting.strangers import LOST, as_share

    if lost is None:
        return LOST
    trained.require_rule()
    return as_share(lost)  # typer's range lets nan through


Json = Annotated[bool, Option("--json", help="Print one JSON document and nothing else.")]
Template = Annotated[str, Option(help="Prompt; {} stands for the class name.")]
Dataset = Annotated[str | None, Option(help=f"DATA has CoOp's layout of this data set: {DATASETS}")]

Labels = Annotated[
    Path | None,
    Option(
        "--labels",
        help="File that says the class of each photo of DATA: CSV with columns path and label, or "
        "JSON Lines.",
        show_default="the folders' names, or DATA's metadata.csv or .jsonl",
        metavar="FILE",
    ),
]


Half = Annotated[
    Literal["base", "new"] | None,
    Option("--half", help="Only the first half of the classes, or the second."),
]
Classes = Annotated[
    str | None,
    Option(
        help="Class names to choose from, separated by commas; training need not have seen them. "
        "Put a name with a comma in double quotes: '\"salt, sea\",sugar'.",
        show_default="those of the run",
        metavar="NAMES",
    ),
]


def seen_through(record: Record) -> str:
    """A sentence about a run that reads photos through several views; nothing for one."""
    many = record.get("notes", {}).get("views")
    if not isinstance(many, int | float) or many <= 1:
        return ""
    return f"Each photo passes the image tower {many:.0f} times."


def names(classes: str) -> list[str]:
    """Split a list of class names, quoted as in a CSV file; InputError if none or one comes twice.

    >>> names('otter, hazel tree, "salt, sea"')
    ['otter', 'hazel tree', 'salt, sea']
    """
    from sharpzo.errors import InputError

    try:
        rows = list(csv.reader(classes.splitlines(), skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise InputError(
            f"--classes {classes} cannot be read ({error}); separate the names by commas, and put "
            "a name that holds a comma or a quote into double quotes"
        ) from None
    found = [name.strip() for row in rows for name in row if name.strip()]
    twice = next((name for k, name in enumerate(found) if name in found[:k]), None)
    if twice is not None:
        raise InputError(f"--classes names {twice!r} twice; give every class once")
    if len(found) < 2:
        raise InputError(
            f"--classes names {f'only {found[0]!r}' if found else 'no class'}; give two or more, "
            "separated by commas"
        )
    return found


def feature_cache(folder: Path | None, off: bool = False) -> Path | None:
    """The folder that keeps image features: the one named, none, or the user's own.

    The user's own may turn out to be unusable, which is then said, but is no reason to stop.
    """
    from sharpzo.errors import InputError
    from sharpzo.towers.feature_store import FILE

    if off:
        if folder is not None:
            raise InputError(f"--cache {folder} and --no-cache contradict each other; give one")
        return None
    if folder is None:
        own = user_cache()
        return own and own / "features"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        usable = os.access(folder, os.W_OK) or (folder / FILE).is_file()
    except OSError:
        usable = False
    if not usable:
        raise InputError(f"--cache {folder} is no folder that can be written to; give another one")
    return folder


def user_cache() -> Path | None:
    """The folder that sharpzo keeps things in; None for a user without a home."""
    try:
        return _system_cache() / "sharpzo"
    except RuntimeError:
        return None


def _system_cache() -> Path:
    if set_by_user := os.environ.get("XDG_CACHE_HOME"):
        return Path(set_by_user)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path.home() / ".cache"


Out = Annotated[Path, Option(help="Folder for the run; must not exist.")]
Run = Annotated[Path, Argument(help="Folder that 'sharpzo fit' wrote.", metavar="RUN")]
