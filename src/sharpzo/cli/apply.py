"""``sharpzo predict`` and ``sharpzo evaluate``: a run on photos."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from sharpzo.cli import options

if TYPE_CHECKING:
    from sharpzo.errors import PhotoError
    from sharpzo.evaluate import Evaluation


def predict(
    run: options.Run,
    images: Annotated[
        list[Path],
        Argument(
            help="Photos, folders of photos, zip files; - reads paths from standard input.",
            metavar="IMAGES…",
        ),
    ],
    top: Annotated[int, Option(help="Classes to show for each photo.", min=1)] = 5,
    classes: options.Classes = None,
    model: options.Model = None,
    memory_limit: options.MemoryLimit = None,
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
    plugin: options.Plugin = [],  # noqa: B006
    as_json: options.Json = False,
) -> None:
    """Name the most probable classes of each photo.

    A photo that cannot be used has an error in place of classes, and the exit code is then 1.
    """
    from sharpzo.classifier import PromptClassifier
    from sharpzo.data.loading import gather
    from sharpzo.errors import PhotosError
    from sharpzo.wording import printable

    kept = options.feature_cache(cache, no_cache)
    classifier = PromptClassifier.load(run, model=model, cache=kept, memory_limit=memory_limit)
    if classes is not None:
        classifier = classifier.rename(options.names(classes))
    photos = gather(images, getattr(sys.stdin, "buffer", None))
    if not as_json and (seen := options.seen_through(classifier.record_)):
        print(seen, file=sys.stderr)
    errors: tuple[PhotoError, ...] = ()
    try:
        probabilities = classifier.predict_proba(photos)
    except PhotosError as found:  # the others are answered
        errors = found.errors
        bad = {error.photo for error in errors}
        probabilities = classifier.predict_proba([p for p in photos if p.name not in bad])
    reasons = {error.photo: error.reason for error in errors}
    answers = iter(probabilities)
    rows: list[dict[str, Any]] = []
    for photo in photos:
        if photo.name in reasons:
            rows.append({"path": photo.name, "error": reasons[photo.name]})
            continue
        row = next(answers)
        order = row.argsort()[::-1][:top]
        best = [{"label": str(classifier.classes_[k]), "probability": float(row[k])} for k in order]
        rows.append({"path": photo.name, **best[0], "top": best})
    if as_json:
        print(json.dumps(rows))
    else:
        for found in rows:
            if "error" in found:
                said = f"sharpzo: photo {found['path']} {found['error']}"
                print(printable(said), file=sys.stderr)
                continue
            guesses = (f"{g['label']} {100 * g['probability']:.1f} %" for g in found["top"])
            print(printable(f"{found['path']}: {', '.join(guesses)}"))
    if errors:
        raise typer.Exit(1)


def evaluate(
    run: options.Run,
    data: Annotated[Path, Argument(help="Labelled photos, as for 'fit'.", metavar="DATA")],
    split: Annotated[Literal["train", "val", "test"], Option(help="Which split of DATA.")] = "test",
    labels: options.Labels = None,
    dataset: options.Dataset = None,
    half: options.Half = None,
    own_classes: Annotated[
        bool,
        Option(
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
    from sharpzo.cli.progress import Display
    from sharpzo.data.few_shot import half_of
    from sharpzo.data.loading import read
    from sharpzo.errors import InputError, PhotosError
    from sharpzo.wording import printable

    kept = options.feature_cache(cache, no_cache)
    classifier = PromptClassifier.load(run, model=model, cache=kept, memory_limit=memory_limit)
    given = half_of(read(data, dataset, labels), half)
    whole = given.val is None and given.test is None
    photos = given.train if whole else getattr(given, split)
    if not photos:
        raise InputError(f"{data} has no {split} split; choose another one with --split")
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
    if as_json:
        print(json.dumps({
            "run": str(run),
            "split": "all" if whole else split,
            "accuracy": result.accuracy,
            "balanced_accuracy": result.balanced_accuracy,
            "n": result.n,
            "calibration_error": result.calibration_error,
            "per_class": result.per_class,
            "classes": [str(name) for name in result.per_class],
            "confusion": result.confusion.tolist(),
            "errors": [{"path": error.photo, "error": error.reason} for error in errors],
            **given.remarks(),
        }))  # fmt: skip
    else:
        for error in errors:
            print(printable(f"sharpzo: {error}"), file=sys.stderr)
        what = "all photos (no splits)" if whole else f"{split} split"
        _show(f"{run} on {data}, {what}", result, given.notes, len(errors))
    if errors:
        raise typer.Exit(1)


def _show(title: str, result: Evaluation, notes: tuple[str, ...], errors: int) -> None:
    """A row per class: its photos, how many are right, and what the others are taken for."""
    from sharpzo.cli.screen import Column, Screen, percent

    names = [str(name) for name in result.per_class]
    rows = []
    for k, (name, accuracy) in enumerate(result.per_class.items()):
        wrong = result.confusion[k].copy()
        wrong[k] = 0
        taken = f"{names[wrong.argmax()]} ({wrong.max()})" if wrong.any() else ""
        rows.append([str(name), f"{result.confusion[k].sum():,}", percent(accuracy), taken])
    screen = Screen()
    screen.show(
        title,
        [
            Column("class", wraps=True),
            Column("photos", right=True),
            Column("accuracy", right=True),
            Column("most often taken for", wraps=True),
        ],
        rows,
    )
    for note in notes:
        screen.say(f"note: {note}")
    screen.say(
        f"accuracy {percent(result.accuracy)} of {result.n:,} photos, balanced over the classes "
        f"{percent(result.balanced_accuracy)}; probabilities are off by "
        f"{percent(result.calibration_error)} on average (calibration error)"
    )
    if errors:
        screen.say(f"{errors:,} photos cannot be used and were left out")
