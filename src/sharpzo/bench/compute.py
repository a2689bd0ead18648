"""Compute one cell in its own process: ``python -m sharpzo.bench.compute``.

Validation chooses; the test photos are read once, after the fit, for all budgets together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from sharpzo import __version__
from sharpzo.bench.cell import FORMAT, Cell
from sharpzo.bench.engines import Work
from sharpzo.bench.recipe import Sources
from sharpzo.bench.results import Accuracy, Point, Result, Test, Validated
from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.errors import SharpzoError
from sharpzo.evaluate import evaluate
from sharpzo.fitting.fitted import Fitted
from sharpzo.fitting.fitter import Fitter
from sharpzo.memory import peak_memory_mb
from sharpzo.methods import load_plugin
from sharpzo.process import Channel, serve
from sharpzo.types import Head

Listen = Callable[[int], None]  # forwards or photos so far
SEND_EVERY = 500  # of them


def attempt(
    work: Work, cells: list[Cell], cache: Path, listen: Listen = lambda done: None
) -> dict[str, Any]:
    """Answer in JSON: nothing, a `Result`, or ``{"error": sentence}``.

    A process that is killed leaves no result and is tried again; an error is not.
    """
    try:
        for plugin in dict.fromkeys(plugin for cell in cells for plugin in cell.plugins):
            load_plugin(plugin)
        if work == "fit":
            return asdict(fit(cells[0], cache, listen))
        encode_photos(cells, cache, listen)
        return {}
    except SharpzoError as error:
        return {"error": str(error)}
    except Exception as error:  # a plugin may raise anything
        return {"error": f"{type(error).__name__}: {error}"}


def fit(cell: Cell, cache: Path, listen: Listen = lambda done: None) -> Result:
    """Fit and test one cell, whose plugins are loaded."""
    fitter, sources = cell.fitter(cache), Sources(cell.root, cell.beside)
    photos = sources.drawn(cell.data_set, cell.shots, cell.seed)
    points = tuple(sorted({*cell.budgets, *cell.milestones}))
    fitted = fitter.fit(
        photos,
        milestones=points,
        listen=lambda step: listen(step.forwards),
        warn=lambda sentence: None,  # a bench is asked to compare
    )
    memory = peak_memory_mb()  # of the fit: the test photos are not its own
    chosen = _chosen(fitted, points)
    heads = [head for _, head in chosen]
    return Result(
        format=FORMAT,
        key=cell.key,
        cell=cell.as_record(),
        sharpzo=__version__,
        settings=dict(fitter.method.key(fitter.settings)),
        model_sha256=fitted.record["model"]["sha256"],
        class_names=list(photos.class_names),
        photos={"train": len(photos.train), "val": len(photos.val or ())},
        points=[point for point, _ in chosen],
        tests={
            name: _test(fitted, sources.tested(name or cell.data_set), heads)
            for name in ("", *cell.test_on)
        },
        peak_memory_mb=memory,
        stopped=fitted.fit.reason.value,
        notes=dict(fitted.fit.notes),
        tuning=_tuning(fitter, photos),
        curve=[
            Validated(
                step.forwards,
                round(step.seconds, 3),
                step.loss,
                step.validation_accuracy,
                step.stage,
            )
            for step in fitted.history
        ],
    )


def encode_photos(cells: Iterable[Cell], cache: Path, listen: Listen) -> None:
    """Encode all photos of cells on one data set and model, so that their fits need not.

    Fits are then alike in memory, whether the cache was full or not, and no two workers encode
    the same photos.
    """
    for cell in cells:
        sources = Sources(cell.root, cell.beside)
        drawn = sources.drawn(cell.data_set, cell.shots, cell.seed)
        splits = {
            "test": sources.tested(cell.data_set),
            **{name: sources.tested(name) for name in cell.test_on},
            "training": drawn.train,
            **({"validation": drawn.val} if drawn.val else {}),
        }
        towers = cell.fitter(cache).towers
        towers.encode(splits, lambda what, done, all_: listen(done), cache, ())


def _chosen(classifier: Fitted, points: tuple[int, ...]) -> list[tuple[Point, Head]]:
    """What each point had cost and chosen, and its classifier; the last one is the whole run."""
    fitted = classifier.fit
    views = len(classifier.features["views"]) if "views" in classifier.features else 0
    found: list[tuple[Point, Head]] = []
    # A method without a search has no milestones: it runs once and has one row.
    for milestone in points[:-1]:
        if milestone in fitted.milestones:
            chosen = fitted.milestones[milestone]
            spent = [s for s in classifier.history if s.forwards <= milestone]
            last = spent[-1] if spent else chosen
            point = Point(
                milestone,
                last.forwards,
                last.seconds,
                # How many image passes a method had made by then is not recorded.
                None if fitted.image_passes else views,
                chosen.evaluated.validation_accuracy,
            )
            found.append((point, chosen.evaluated.head))
    whole = Point(
        points[-1] if fitted.milestones else None,
        fitted.forwards,
        fitted.seconds,
        fitted.image_passes + views,
        fitted.validation_accuracy,
    )
    return [*found, (whole, fitted.head)]


def _test(classifier: Fitted, split: LabelledPhotos, heads: list[Head]) -> Test:
    """Accuracies on one test split, whose photos are read here and nowhere else.

    Where it has some of the classes only, the choice is among these, as in CoOp's protocol.
    """
    photos, rows = classifier.encode(split, heads=heads)
    found = [evaluate(head, photos, rows) for head in (classifier.zero_shot, *heads)]
    points = [Accuracy(one.accuracy, one.calibration_error, one.per_class) for one in found[1:]]
    return Test(len(photos), found[0].accuracy, points)


def _tuning(fitter: Fitter, photos: Dataset) -> str:
    """How the settings or the point of a method are chosen."""
    method = fitter.method
    if not method.validation(fitter.settings):
        return "last iterate" if method.milestones else "fixed settings"
    if photos.val is None:
        return "fixed settings"
    counts = photos.val.counts()
    each = f"{counts.min()}" if (counts == counts[0]).all() else f"up to {counts.max()}"
    return f"validation, {each} photos per class"


def _work(parent: Channel) -> None:
    """Do the work that `engines.ask` sends; ``{"done": forwards or photos}`` now and then before
    the answer."""
    request = parent.receive()
    parent.end_with_parent()
    sent = 0

    def listen(done: int) -> None:
        nonlocal sent
        if done - sent >= SEND_EVERY or done < sent:
            sent = done
            parent.send({"done": done})

    cells = msgspec.convert(request["cells"], list[Cell])
    parent.send(attempt(request["work"], cells, Path(request["cache"]), listen))


if __name__ == "__main__":
    serve(_work)
