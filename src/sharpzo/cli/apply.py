"""``sharpzo evaluate``: how good a run is on labelled photos."""

from __future__ import annotations

import json
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from sharpzo.cli import options


class Split(str, Enum):
    """The splits that can be evaluated."""

    train = "train"
    val = "val"
    test = "test"


def evaluate(
    run: options.Run,
    data: Annotated[Path, typer.Argument(help="Labelled photos, as for 'fit'.", metavar="DATA")],
    split: Annotated[Split, typer.Option(help="Which split of DATA.")] = Split.test,
    labels: options.Labels = None,
    dataset: options.Dataset = None,
    half: options.Halved = None,
    own_classes: Annotated[
        bool,
        typer.Option(
            "--own-classes",
            help="Choose among DATA's class names; training need not have seen them.",
        ),
    ] = False,
    model: options.Model = None,
    memory_limit: options.MemoryLimit = None,
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
    plugin: options.Plugin = [],  # noqa: B006
    as_json: options.Json = False,
) -> None:
    """Measure accuracy, per class and with the confusion matrix, on labelled photos.

    A folder without splits is evaluated whole. Photos that cannot be used are left out and named,
    and the exit code is then 1.
    """
    from sharpzo.classifier import PromptClassifier
    from sharpzo.cli.progress import Display, percent
    from sharpzo.cli.screen import Column, Screen
    from sharpzo.data.loading import read
    from sharpzo.errors import InputError, PhotoError, PhotosError
    from sharpzo.wording import printable

    classifier = PromptClassifier.load(
        run,
        model=model,
        cache=options.feature_cache(cache, no_cache),
        memory_limit=memory_limit,
    )
    given = read(data, dataset, labels)
    if half is not None:
        given = half.of(given)
    whole = given.val is None and given.test is None
    photos = given.train if whole else getattr(given, split.value)
    if not photos:
        raise InputError(f"{data} has no {split.value} split; choose another one with --split")
    if own_classes:
        classifier = classifier.rename(photos.class_names)
    errors: tuple[PhotoError, ...] = ()
    with Display(silent=as_json) as display:
        try:
            result = classifier.evaluate(photos, progress=display.encoding)
        except PhotosError as found:
            errors = found.errors
            photos = photos.without({error.photo for error in errors})
            if not photos:
                raise
            result = classifier.evaluate(photos, progress=display.encoding)
    for error in [] if as_json else errors:
        print(printable(f"sharpzo: {error}"), file=sys.stderr)
    names = [str(name) for name in result.per_class]
    if as_json:
        print(json.dumps({
            "run": str(run),
            "split": "all" if whole else split.value,
            "accuracy": result.accuracy,
            "n": result.n,
            "calibration_error": result.calibration_error,
            "per_class": result.per_class,
            "classes": names,
            "confusion": result.confusion.tolist(),
            "errors": [{"path": error.photo, "error": error.reason} for error in errors],
            **given.remarks(),
        }))  # fmt: skip
        raise typer.Exit(1 if errors else 0)
    what = "all photos (no splits)" if whole else f"{split.value} split"
    rows = []
    for k, name in enumerate(names):
        wrong = result.confusion[k].copy()
        wrong[k] = 0
        taken = f"{names[wrong.argmax()]} ({wrong.max()})" if wrong.any() else ""
        rows.append(
            [name, f"{result.confusion[k].sum():,}", percent(result.per_class[name]), taken]
        )
    screen = Screen()
    screen.show(
        f"{run} on {data}, {what}",
        [
            Column("class", wraps=True),
            Column("photos", right=True),
            Column("accuracy", right=True),
            Column("most often taken for", wraps=True),
        ],
        rows,
    )
    for note in given.notes:
        screen.say(f"note: {note}")
    screen.say(
        f"accuracy {percent(result.accuracy)} of {result.n:,} photos; probabilities are off by "
        f"{percent(result.calibration_error)} on average (calibration error)"
    )
    if errors:
        screen.say(f"{len(errors):,} photos cannot be used and were left out")
        raise typer.Exit(1)
