"""``sharpzo predict`` and ``sharpzo evaluate``: a run on photos."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from sharpzo.cli import options

if TYPE_CHECKING:
    from sharpzo.cli.progress import Display
    from sharpzo.evaluate import Evaluation
    from sharpzo.towers.features import Progress

MOMENT = 1.0  # seconds


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
    multi: Annotated[
        bool,
        Option("--multi", help="Any number of classes for each photo; needs a model like SigLIP."),
    ] = False,
    lost: options.Lost = None,
    classes: options.Classes = None,
    model: options.Model = None,
    memory_limit: options.MemoryLimit = None,
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
    plugin: options.Plugin = [],  # noqa: B006
    as_json: options.Json = False,
    stream: Annotated[
        bool, Option("--stream", help="Print one JSON document per photo, each on a line.")
    ] = False,
) -> None:
    """Name the most probable classes of each photo, or none of these where it fits no class.

    With --multi, each class is decided on its own, and the labels are those of at least 50 %.
    A photo that cannot be used has an error in place of classes, and the exit code is then 1.
    Answers are printed as they come, so that any number of photos fits in memory.
    """
    from sharpzo.data.dataset import strange
    from sharpzo.data.loading import gather
    from sharpzo.fitting.documents import documents_of
    from sharpzo.fitting.trained import load

    kept = options.feature_cache(cache, no_cache)
    trained = load(run, model=model, cache=kept, memory_limit=memory_limit)
    if classes is not None:
        trained = trained.rename(options.names(classes))
    wanted = options.share(lost, trained)
    if multi:
        trained.logit_bias()  # raises where there is none
    photos = gather(images, getattr(sys.stdin, "buffer", None))
    if not (as_json or stream) and (seen := options.seen_through(trained.record)):
        print(seen, file=sys.stderr)
    documents: list[dict[str, Any]] = []
    bad = False
    # Answers that appear on a terminal are progress enough.
    with answering(silent=as_json or sys.stdout.isatty()) as progress:
        for part in trained.ask(strange(photos), progress):
            for document in documents_of(trained, part, wanted, top, multi):
                bad = bad or "error" in document
                if stream:
                    print(json.dumps(document))
                elif as_json:
                    documents.append(document)
                else:
                    say(document, multi)
            sys.stdout.flush()
    if as_json and not stream:
        print(json.dumps(documents))
    if bad:
        raise typer.Exit(1)


@contextmanager
def answering(silent: bool) -> Iterator[Progress]:
    """Progress of what takes longer than a moment; what draws it is loaded then."""
    with ExitStack() as shown:
        display: Display | None = None
        begun: float | None = None

        def show(what: str, done: int, total: int) -> None:
            nonlocal begun, display
            begun = begun or time.monotonic()
            if silent or time.monotonic() - begun <= MOMENT:
                return
            if display is None:
                from sharpzo.cli.progress import Display

                display = shown.enter_context(Display())
            display.answering(done, total)

        yield show


def say(document: Mapping[str, Any], multi: bool) -> None:
    """The same in a line for people."""
    from sharpzo.fitting.documents import EVEN
    from sharpzo.wording import printable

    if "error" in document:
        said = f"sharpzo: photo {document['path']} {document['error']}"
        print(printable(said), file=sys.stderr)
        return
    shown = document["top"]
    if multi:
        shown = [guess for guess in shown if guess["probability"] >= EVEN] or shown[:1]
    guesses = (f"{guess['label']} {100 * guess['probability']:.1f} %" for guess in shown)
    none = "none of these; nearest " if document["none"] else ""
    print(printable(f"{document['path']}: {none}{', '.join(guesses)}"))


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
    lost: options.Lost = None,
    model: options.Model = None,
    memory_limit: options.MemoryLimit = None,
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
    plugin: options.Plugin = [],  # noqa: B006
    as_json: options.Json = False,
) -> None:
    """Measure accuracy, per class and with the confusion matrix, on labelled photos.

    A folder without splits is evaluated whole. A class folder 'none' has photos of no class.
    Photos that cannot be used are left out and named, and the exit code is then 1.
    """
    from sharpzo.cli.progress import Display
    from sharpzo.data.few_shot import half_of
    from sharpzo.data.loading import read
    from sharpzo.errors import InputError
    from sharpzo.fitting.kept import seen_by_fit
    from sharpzo.fitting.trained import load
    from sharpzo.wording import printable

    kept = options.feature_cache(cache, no_cache)
    trained = load(run, model=model, cache=kept, memory_limit=memory_limit)
    given = half_of(read(data, dataset, labels), half)
    whole = given.val is None and given.test is None
    photos = given.train if whole else getattr(given, split)
    if not photos:
        raise InputError(f"{data} has no {split} split; choose another one with --split")
    photos, strangers = photos.apart()
    if own_classes:
        trained = trained.rename(photos.class_names)
    wanted = options.share(lost, trained)
    places = trained.places(photos.class_names)
    with Display(silent=as_json) as display:
        answers = trained.answer(photos, display.encoding)
        others = trained.answer(strangers, display.encoding) if strangers else None
    if not answers.rows:
        answers.complete()
    photos = photos.take(answers.rows)
    result = trained.evaluation(answers, places[photos.labels], others, wanted)
    found = _rejection(result)
    errors = (*answers.errors, *(others.errors if others else ()))
    seen = seen_by_fit(trained.splits, photos.photos)
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
            "none": found,
            "seen": seen,
            "errors": [{"path": error.photo, "error": error.reason} for error in errors],
            **given.remarks(),
        }))  # fmt: skip
    else:
        for error in errors:
            print(printable(f"sharpzo: {error}"), file=sys.stderr)
        what = "all photos (no splits)" if whole else f"{split} split"
        notes = (*given.notes, *_of_the_fit(seen, result.n))
        _show(f"{run} on {data}, {what}", result, notes, len(errors), found)
    if errors:
        raise typer.Exit(1)


def _rejection(result: Evaluation) -> dict[str, Any] | None:
    """What was measured of the rule for photos of no class, as JSON has it."""
    if result.none is None:
        return None
    found = {name: value for name, value in asdict(result.none).items() if value is not None}
    if not result.none.strangers:
        del found["strangers"]
    return {**found, "threshold": found["threshold"] if found["wanted"] else None}  # not infinite


def _of_the_fit(seen: int | None, photos: int) -> tuple[str, ...]:
    """A sentence about photos that the fit was given, too."""
    if not seen:
        return ()
    return (
        f"{seen:,} of these {photos:,} photos were given to the fit, too, so the accuracy is too "
        "high for new photos; evaluate on others",
    )


def _show(
    title: str, result: Evaluation, notes: tuple[str, ...], errors: int,
    none: Mapping[str, Any] | None,
) -> None:  # fmt: skip
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
    if none is not None:
        said = f"{percent(none['lost'])} of these photos are called none of these"
        if "auroc" in none:
            said += (
                f", and {percent(none['recognised'])} of {none['strangers']:,} photos of class "
                f"none (area under the ROC curve {none['auroc']:.3f})"
            )
        level = "none" if none["threshold"] is None else f"{none['threshold']:.2f}"
        screen.say(f"{said}; threshold {level}")
    if errors:
        screen.say(f"{errors:,} photos cannot be used and were left out")
