"""``sharpzo fit``: a classifier of your photos."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from sharpzo.cli import options

if TYPE_CHECKING:
    from sharpzo.cli.progress import Display
    from sharpzo.cli.screen import Screen
    from sharpzo.data.dataset import Dataset, LabelledPhotos
    from sharpzo.fitting import Fitted, Fitter, Row
    from sharpzo.types import Step


def fit(
    data: Annotated[
        Path,
        Argument(
            metavar="DATA",
            help="Folder with one subfolder per class, or with train/, val/, test/ of that shape; "
            "a zip file of one; or any folder with --labels.",
        ),
    ],
    out: options.Out,
    model: options.Model = None,
    shots: Annotated[
        int | None, Option(help="Training photos per class.", show_default="all")
    ] = None,
    seed: options.Seed = 1,
    method: options.Method = options.DEFAULT,
    preset: options.Preset = None,
    change: options.Settings = [],  # noqa: B006  (Typer copies it)
    budget_forwards: options.Forwards = None,
    budget_seconds: options.Seconds = None,
    budget_steps: options.Steps = None,
    labels: options.Labels = None,
    dataset: options.Dataset = None,
    half: options.Half = None,
    test_on: Annotated[
        Path | None,
        Option(
            help="A second test set: the same classes, or some, in other photos.", metavar="DATA"
        ),
    ] = None,
    test_on_dataset: Annotated[
        str | None, Option(help="Name of that set, if it has CoOp's layout.")
    ] = None,
    template: options.Template = "a photo of a {}.",
    threads: options.Threads = None,
    engine: options.Engine = "onnxruntime",
    precision: options.Precision = "float32",
    memory_limit: options.MemoryLimit = None,
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
    skip_damaged: Annotated[
        bool, Option("--skip-damaged", help="Leave out photos that cannot be used, with a note.")
    ] = False,
    plugin: options.Plugin = [],  # noqa: B006
    as_json: options.Json = False,
) -> None:
    """Tune the model on your photos and write a run folder that 'predict' uses."""
    from sharpzo import artifact
    from sharpzo.budget import Budget
    from sharpzo.cli.progress import Display
    from sharpzo.cli.screen import Screen
    from sharpzo.data.loading import load, read
    from sharpzo.fitting import Fitter
    from sharpzo.journal import Journal
    from sharpzo.settings import parse_assignments

    fitter = Fitter(
        method,
        preset=preset,
        settings=parse_assignments(change),
        model=model,
        template=template,
        seed=seed,
        budget=Budget(budget_forwards, budget_seconds, budget_steps),
        threads=threads,
        engine=engine,  # type: ignore[arg-type]  (checked there)
        precision=precision,  # type: ignore[arg-type]
        cache=options.feature_cache(cache, no_cache),
        memory_limit=memory_limit,
    )
    photos = load(data, dataset=dataset, shots=shots, seed=seed, labels=labels)
    photos = options.half_of(photos, half)
    shifted = None if test_on is None else read(test_on, test_on_dataset)
    with run_folder(out) as folder:
        with Display(silent=as_json) as display, Journal(folder / artifact.HISTORY) as journal:
            photos, shifted = _usable(photos, shifted, skip_damaged, fitter, display)
            _introduce(display.console, fitter, photos)
            show = display.search(fitter.method.name, fitter.planned)

            def listen(step: Step) -> None:
                journal.append(step)
                show(step)

            fitted = fitter.fit(photos, listen=listen, progress=display.encoding, warn=display.warn)
            baselines = []  # on the features that are there
            if fitter.method.name != options.DEFAULT:
                baselines = [fitter.by(options.DEFAULT).fit(photos, encoded=fitted.features)]
            tests = {"test": photos.test, "shifted": shifted and (shifted.test or shifted.train)}
            rows = fitted.measure(tests, baselines, display.encoding)
        report = report_of(fitted, fitter.memory_limit, folder, rows) | photos.remarks()
        fitted.write(folder)
    if as_json:
        print(json.dumps(report))
    else:
        _show(Screen(), fitted, fitter.memory_limit, photos, rows, folder)


@contextmanager
def run_folder(out: Path) -> Iterator[Path]:
    """The folder of a new run, which is given back if the run fails."""
    from sharpzo import artifact

    folder = artifact.claim(out)
    try:
        yield folder
    except BaseException as error:
        artifact.release(folder, error)
        raise


def _usable(
    photos: Dataset, shifted: Dataset | None, skip: bool, fitter: Fitter, display: Display
) -> tuple[Dataset, Dataset | None]:
    """Both data sets without the photos that cannot be used, if these may be skipped.

    Notes list them, and which photos are there twice. Raises `PhotosError` if there are some and
    they may not.
    """
    from sharpzo.data.photo_check import check, duplicates, without
    from sharpzo.errors import PhotosError
    from sharpzo.towers.feature_store import FeatureStore
    from sharpzo.towers.runtime import cores

    splits = _splits(photos, shifted)
    known = FeatureStore(fitter.cache).known if fitter.cache else lambda digests: set()
    threads = 1 if fitter.memory_limit else fitter.runtime.threads or cores()
    found = check(splits, known, threads, display.checking)
    if found.errors and not skip:
        raise PhotosError(
            found.errors,
            len({photo.name for split in splits.values() for photo in split.photos}),
            "Mend or remove them, or leave them out with --skip-damaged.",
        )
    photos = without(photos, found.errors)
    shifted = shifted and without(shifted, found.errors)
    notes = duplicates(_splits(photos, shifted), found.digests)
    return replace(photos, notes=photos.notes + notes), shifted


def _splits(photos: Dataset, shifted: Dataset | None) -> dict[str, LabelledPhotos]:
    splits = {"training": photos.train, "validation": photos.val, "test": photos.test}
    splits["shifted test"] = shifted and (shifted.test or shifted.train)
    return {name: split for name, split in splits.items() if split}


def _introduce(screen: Screen, fitter: Fitter, photos: Dataset) -> None:
    screen.say(
        f"{photos.source}: {len(photos.class_names)} classes, {len(photos.train)} training and "
        f"{len(photos.val or ())} validation photos; method {fitter.method.name}, "
        f"seed {fitter.seed}"
    )
    for note in photos.notes:
        screen.say(f"note: {note}")


def report_of(
    fitted: Fitted, memory_limit: int | None, folder: Path, rows: list[Row]
) -> dict[str, Any]:
    """The JSON document about a run, whose record has been measured, and its rows."""
    from sharpzo.memory import MB

    record = fitted.record
    test, validation = record["test"], record["validation"]
    evaluated = validation if test["accuracy"] is None else test
    return {
        "run": str(folder),
        "method": fitted.method.name,
        "seed": record["seed"],
        "forwards": fitted.fit.forwards,
        "seconds": round(fitted.fit.seconds, 3),
        "peak_memory_mb": record["peak_memory_mb"],
        "memory_limit_mb": memory_limit and memory_limit / MB,
        "zero_shot_accuracy": evaluated.get("zero_shot_accuracy"),
        "validation_accuracy": validation["accuracy"],
        "test_accuracy": test["accuracy"],
        "shifted_accuracy": record.get("shifted", {}).get("accuracy"),
        "stopped": fitted.fit.reason.value,
        "warnings": record.get("warnings", []),
        "methods": rows,
    }


def _show(
    screen: Screen, fitted: Fitted, memory_limit: int | None, photos: Dataset, rows: list[Row],
    folder: Path,
) -> None:  # fmt: skip
    from sharpzo.cli.screen import percent
    from sharpzo.types import Reason
    from sharpzo.wording import quoted

    accuracies = {"test": f"test ({len(photos.test):,} photos)"} if photos.test else {}
    accuracies |= {"shifted": "shifted test"} if rows[-1]["shifted"] is not None else {}
    accuracies |= {"validation": f"validation ({len(photos.val):,})"} if photos.val else {}
    show_rows(screen, f"Accuracy, {photos.source}", rows, accuracies)
    if fitted.fit.reason is not Reason.CLOSED_FORM:
        screen.say(f"Stopped because {fitted.fit.reason.value}.")
    screen.say(peak_of(fitted.record["peak_memory_mb"], memory_limit))
    best = max(rows, key=lambda row: row["validation"] or 0)
    if (best["validation"] or 0) > (rows[-1]["validation"] or 0):
        screen.say(
            f"On the validation photos {best['method']} did better "
            f"({percent(best['validation'])}): try  --method {best['method']}"
        )
    run = quoted(folder)
    screen.say(f"The run is in {run}. Classify photos with it:  sharpzo predict {run} PHOTO.jpg")


def show_rows(
    screen: Screen,
    title: str,
    rows: Sequence[Mapping[str, Any]],
    accuracies: Mapping[str, str],
) -> None:
    """A table of what `Fitted.measure` returns: ``accuracies`` (split -> title), then the cost."""
    from sharpzo.cli.screen import Column, percent

    memory = ["peak MB"] if "peak_memory_mb" in rows[0] else []
    numbers = (*accuracies.values(), "forwards", "seconds", *memory)
    screen.show(
        title,
        [Column("method"), *(Column(number, right=True) for number in numbers)],
        [
            [
                row["method"],
                *(percent(row[split]) for split in accuracies),
                f"{row['forwards']:,}",
                f"{row['seconds']:.1f}",
                *(_rounded(row["peak_memory_mb"]) for _ in memory),
            ]
            for row in rows
        ],
    )


def _rounded(value: float | None) -> str:
    return "n/a" if value is None else f"{value:,.0f}"


def peak_of(peak: float | None, limit: int | None, of: str = "Peak memory") -> str:
    """A sentence about memory, also when it went past what was allowed."""
    from sharpzo.memory import MB

    if peak is None:
        return "This system does not say how much memory the run took."
    sentence = f"{of}: {peak:,.0f} MB"
    if limit is None:
        return f"{sentence}."
    allowed = f"{limit / MB:,.0f} MB"
    if peak * MB > limit:
        return f"{sentence}, more than the limit of {allowed}: please report this, with the model."
    return f"{sentence} of the {allowed} allowed."
