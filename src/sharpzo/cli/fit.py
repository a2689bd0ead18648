"""``sharpzo fit``: a classifier of your photos."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Context, Option

from sharpzo.cli import options
from sharpzo.process import stop_signals

if TYPE_CHECKING:
    from sharpzo.cli.progress import Display
    from sharpzo.cli.screen import Screen
    from sharpzo.data.dataset import Dataset
    from sharpzo.fitting.fitted import Fitted
    from sharpzo.fitting.fitter import Fitter
    from sharpzo.fitting.job import Job
    from sharpzo.storage.claim import Claim
    from sharpzo.storage.record import Row


def fit(
    ctx: Context,
    data: Annotated[
        Path | None,
        Argument(
            metavar="DATA",
            help="Folder with one subfolder per class, or with train/, val/, test/ of that shape; "
            "a zip file of one; or any folder with --labels.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, Option(help="Folder for the run; must not exist.", show_default=False)
    ] = None,
    resume: Annotated[
        Path | None,
        Option(
            help="Continue the stopped fit of this folder, with its own DATA and settings.",
            metavar="RUN",
            show_default=False,
        ),
    ] = None,
    model: options.Model = None,
    shots: Annotated[
        int | None, Option(help="Training photos per class.", show_default="all")
    ] = None,
    seed: options.Seed = 1,
    method: options.Method = options.DEFAULT,
    preset: options.Preset = None,
    change: options.Settings = [],  # noqa: B006  (Typer copies it)
    views: options.Views = None,
    budget_forwards: options.Forwards = None,
    budget_seconds: options.Seconds = None,
    budget_steps: options.Steps = None,
    labels: options.Labels = None,
    dataset: options.Dataset = None,
    half: options.Half = None,
    none: Annotated[
        Path | None,
        Option(
            help="Photos of no class (counter-examples), like those of a class folder 'none'.",
            metavar="FOLDER",
        ),
    ] = None,
    test_on: Annotated[
        Path | None,
        Option(
            help="A second test set: other photos of the same classes, or some.", metavar="DATA"
        ),
    ] = None,
    test_on_dataset: Annotated[
        str | None, Option(help="Name of that set, if it has CoOp's layout.")
    ] = None,
    template: options.Template = "a photo of a {}.",
    threads: options.Threads = None,
    engine: options.Engine = "onnxruntime",
    precision: options.Precision = "float32",
    decoding: options.Decoding = None,
    image_size: options.ImageSize = None,
    image_precision: options.ImagePrecision = "float32",
    memory_limit: options.MemoryLimit = None,
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
    skip_damaged: Annotated[
        bool, Option("--skip-damaged", help="Leave out photos that cannot be used, with a note.")
    ] = False,
    track: options.Track = None,
    plugin: options.Plugin = [],  # noqa: B006
    as_json: options.Json = False,
) -> None:
    """Tune the model on your photos and write a run folder that 'predict' uses.

    A fit that was stopped by Ctrl-C, SIGTERM or a crash continues with --resume RUN.
    """
    from sharpzo.cli.progress import Display
    from sharpzo.cli.screen import Screen
    from sharpzo.errors import InputError
    from sharpzo.fitting.fitter import Fitter
    from sharpzo.fitting.job import Job, absolute, passes
    from sharpzo.settings import parse_assignments
    from sharpzo.storage.claim import claim, take_up, written_to
    from sharpzo.trackers import open_tracker

    job = Job(
        data=absolute(data), dataset=dataset, shots=shots, labels=absolute(labels), half=half,
        none=absolute(none),
        test_on=absolute(test_on), test_on_dataset=test_on_dataset, skip_damaged=skip_damaged,
        plugin=tuple(map(str, map(Path.absolute, plugin))), method=method, preset=preset,
        settings=parse_assignments(change) | passes(views, method),
        model=absolute(model), template=template, seed=seed,
        budget_forwards=budget_forwards, budget_seconds=budget_seconds, budget_steps=budget_steps,
        threads=threads, engine=engine, precision=precision,  # type: ignore[arg-type]
        memory_limit=memory_limit, cache=absolute(options.feature_cache(cache, no_cache)),
        decoding=decoding,  # type: ignore[arg-type]
        image_size=image_size, image_precision=image_precision,  # type: ignore[arg-type]
    )  # fmt: skip
    if resume is not None:
        if out is not None:
            raise InputError(f"--out {out} and --resume {resume} contradict each other; give one")
        job = _as_begun(job, Job.of(resume), resume, ctx)
    elif data is None or out is None:
        raise InputError(
            "there is no DATA or no --out; give both, or --resume RUN for a fit that was stopped"
        )
    fitter = Fitter(**job.parameters())
    fitter.towers.fetch = resume is None or model is not None  # a document may name any hub id
    photos, shifted = job.photos()
    holding = take_up(resume) if resume is not None else claim(str(out), job.document())
    with (
        holding as claimed,
        Display(silent=as_json) as display,
        _stoppable(claimed, display),
        open_tracker(track, claimed.folder.name) as tracker,
    ):
        if claimed.note:
            display.console.say(f"note: {claimed.note}")
        photos, shifted = job.usable(photos, shifted, fitter, display.checking)
        _introduce(display.console, fitter, photos)
        fitted = fitter.fit(
            photos,
            journal=claimed.journal,
            listen=tracker.beside(display.search(fitter.method.name, fitter.planned)),
            progress=display.encoding,
            warn=display.warn,
        )
        baselines = []  # on the features that are there
        if fitter.method.name != options.DEFAULT:
            default = fitter.by(options.DEFAULT)
            quiet = default.fit(photos, encoded=fitted.features, warn=lambda sentence: None)
            baselines = [quiet]
        tests = {"test": photos.test, "shifted": shifted and (shifted.test or shifted.train)}
        rows = fitted.measure(tests, baselines, display.encoding)
        fitted.forecast()
        folder = claimed.write(fitted.arrays, fitted.record)
        report = report_of(fitted, fitter.memory_limit, folder, rows) | photos.remarks()
        tracker.finish(fitted.record)
    try:
        if as_json:
            print(json.dumps(report))
        else:
            _show(Screen(), fitted, fitter.memory_limit, photos, rows, folder)
    except KeyboardInterrupt as stop:
        stop.args = (written_to(folder),)
        raise
    claimed.check()


# What a fit that goes on may be given anew: where things are now. Contents are compared.
_PLACES = {"data": "data", "labels": "labels", "test_on": "test_on", "none": "none",
           "model": "model", "cache": "cache", "no_cache": "cache"}  # fmt: skip


def _as_begun(job: Job, begun: Job, run: Path, ctx: Context) -> Job:
    """The job that was begun; InputError for an option that asks for something else."""
    from sharpzo.errors import InputError
    from sharpzo.wording import quoted

    given = [name for name in ctx.params if _is_given(ctx, name)]
    moved = {_PLACES[name] for name in given if name in _PLACES}
    begun = replace(begun, **{name: getattr(job, name) for name in moved})
    if begun.data is None:
        raise InputError(
            f"the fit in {run} was begun with photos in memory; go on with it in Python: "
            "PromptClassifier.resume(RUN, photos, labels)"
        )
    if begun.plugin and "plugin" not in given:
        files = " ".join(f"--plugin {quoted(file)}" for file in begun.plugin)
        raise InputError(
            f"the fit in {run} was begun with a plugin, which is code; go on with {files}, if it "
            "is yours"
        )
    for option in given:
        name = {"change": "settings", "views": "settings"}.get(option, option)
        if name in _PLACES or not hasattr(begun, name):
            continue
        was, now = getattr(begun, name), getattr(job, name)
        if was != now:
            raise InputError(
                f"the fit in {run} was begun with {name.replace('_', ' ')} {was!r}, not {now!r}; "
                "leave the option out to go on, or fit into another folder"
            )
    return begun


def _is_given(ctx: Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


@contextmanager
def _stoppable(claimed: Claim, display: Display) -> Iterator[None]:
    """Ctrl-C and SIGTERM end a search after its next event, and at once anywhere else or twice."""
    journal = claimed.journal

    def stop(number: int, frame: object) -> None:
        if journal.stop or not journal.searching:
            raise KeyboardInterrupt
        journal.stop = True
        display.console.say("stopping after this step; once more stops at once")

    with stop_signals(stop):
        yield


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
        "none": record.get("none"),
        "more_photos": record.get("more_photos"),
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
    if seen := options.seen_through(fitted.record):
        screen.say(seen)
    screen.say(peak_of(fitted.record["peak_memory_mb"], memory_limit))
    best = max(rows, key=lambda row: row["validation"] or 0)
    if (best["validation"] or 0) > (rows[-1]["validation"] or 0):
        screen.say(
            f"On the validation photos {best['method']} did better "
            f"({percent(best['validation'])}): try  --method {best['method']}"
        )
    for sentence in (
        on_strangers(fitted.record.get("none", {})), on_more(fitted.record.get("more_photos", {}))
    ):  # fmt: skip
        if sentence:
            screen.say(sentence)
    run = quoted(folder)
    screen.say(f"The run is in {run}. Classify photos with it:  sharpzo predict {run} PHOTO.jpg")


def on_more(more: Mapping[str, Any]) -> str:
    """What twice the photos would bring, as a run's record has it; "" without a forecast."""
    if not more:
        return ""
    return (
        f"Twice as many photos per class would bring about {100 * more['gain']:.1f} points of "
        f"accuracy; the classes that need them most: {', '.join(more['classes'])}."
    )


def on_strangers(none: Mapping[str, Any]) -> str:
    """What is to be expected of photos of no class, as a run's record has it; "" without a rule."""
    from sharpzo.cli.screen import percent

    if not none:
        return ""
    said = (
        "Photos that fit no class get the answer 'none of these', and so do about "
        f"{percent(none['lost'])} of the photos of your classes."
    )
    if none.get("recognised") is not None:
        said += (
            f" With each class left out in turn, {percent(none['recognised'])} of its photos got "
            "this answer"
        )
        examples = none.get("counter_examples", 0)
        said += "; counter-examples in a folder 'none' raise that." if not examples else "."
    return said


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
