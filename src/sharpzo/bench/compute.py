"""One cell from photos to numbers: what a worker does.

Validation chooses; the test photos are read once, after the fit, for all budgets together.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sharpzo import __version__
from sharpzo.bench.cell import FORMAT, Cell, tested
from sharpzo.bench.sources import Sources
from sharpzo.budget import Budget
from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.errors import SharpzoError
from sharpzo.evaluate import AmongSome, evaluate
from sharpzo.fitting import Fitted, Fitter
from sharpzo.memory import peak_memory_mb
from sharpzo.methods import load_plugin
from sharpzo.settings import as_dict
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode
from sharpzo.types import Head, Step

Heard = Callable[[int], None]  # forwards spent so far


def attempt(job: dict[str, Any], cache: str | None, heard: Heard = lambda done: None) -> dict:
    """`compute`, with an error as a result: what is wrong with a cell is no reason to stop others.

    Only a process that dies leaves nothing; that is worth a second try, an error is not.
    """
    try:
        return compute(Cell.from_job(job), None if cache is None else Path(cache), heard)
    except SharpzoError as error:
        return {"error": str(error)}
    except Exception as error:  # a plugin may raise anything
        return {"error": f"{type(error).__name__}: {error}"}


def compute(cell: Cell, cache: Path | None = None, heard: Heard = lambda done: None) -> dict:
    """Fit and test one cell; the result is JSON, see docs/bench.md for its fields."""
    for plugin in cell.plugins:
        load_plugin(plugin)
    sources = Sources(cell.root, cell.beside)
    photos = sources.drawn(cell.data_set, cell.shots, cell.seed)
    fitter = Fitter.of(
        cell.method,
        preset=cell.preset,
        settings=cell.changes,
        model=cell.model,
        template=cell.template,
        seed=cell.seed,
        budget=Budget(max(cell.budgets, default=None), cell.seconds, cell.steps),
        threads=cell.threads,
        precision=cell.precision or "float32",  # type: ignore[arg-type]  (checked by expand)
        cache=cache,
    )
    points = tuple(sorted({*cell.budgets, *cell.milestones}))
    fitted = fitter.fit(
        photos,
        milestones=points,
        listen=lambda step: heard(step.forwards),
        warn=lambda sentence: None,  # a bench is asked to compare
    )
    memory = peak_memory_mb()  # of the fit: the test photos are not its own
    rows = _rows(fitted, points)
    whole = {"": tested(sources.whole(cell.data_set), cell.data_set)}
    whole |= {name: tested(sources.whole(name), name) for name in cell.test_on}
    tests = {
        name: _test(fitted, split, [head for _, head in rows]) for name, split in whole.items()
    }
    return {
        "format": FORMAT,
        "key": cell.key,
        "cell": cell.as_record(),
        "sharpzo": __version__,
        "settings": as_dict(fitter.settings),
        "model_sha256": fitted.record["model"]["sha256"],
        "class_names": list(photos.class_names),
        "photos": {"train": len(photos.train), "val": len(photos.val or ())},
        "points": [row for row, _ in rows],
        "tests": tests,
        "peak_memory_mb": memory,
        "stopped": fitted.fit.reason.value,
        "notes": dict(fitted.fit.notes),
        "tuning": _tuning(fitter, photos),
        "curve": [_point(step) for step in fitted.history],
    }


def warm(jobs: list[dict[str, Any]], cache: str, heard: Heard = lambda done: None) -> dict:
    """Encode all photos of cells on one data set and model, so that their fits need not.

    Fits are then alike in memory, whether the cache was full or not, and no two workers encode
    the same photos.
    """
    try:
        total = 0
        for job in jobs:
            cell = Cell.from_job(job)
            sources = Sources(cell.root, cell.beside)
            drawn = sources.drawn(cell.data_set, cell.shots, cell.seed)
            splits = {"test": tested(sources.whole(cell.data_set), cell.data_set)}
            splits |= {name: tested(sources.whole(name), name) for name in cell.test_on}
            splits |= {"training": drawn.train} | ({"validation": drawn.val} if drawn.val else {})
            checkpoint = Checkpoint.open(resolve(cell.model))
            encode(
                checkpoint,
                splits,
                threads=cell.threads,
                cache=Path(cache),
                progress=lambda what, done, all_: heard(done),
            )
            total += sum(len(split) for split in splits.values())
        return {"photos": total}
    except SharpzoError as error:
        return {"error": str(error)}


def _rows(classifier: Fitted, points: tuple[int, ...]) -> list[tuple[dict[str, Any], Head]]:
    """What each point had cost and chosen, and its classifier; the last one is the whole run."""
    fitted = classifier.fit
    views = len(classifier.features["views"]) if "views" in classifier.features else 0
    # A method without a search has no milestones: it runs once and has one row.
    kept = {m: fitted.milestones[m] for m in points[:-1] if m in fitted.milestones}
    rows: list[tuple[dict[str, Any], Head]] = []
    for milestone, chosen in kept.items():
        spent = [s for s in classifier.history if s.forwards <= milestone]
        rows.append((
            {
                "budget": milestone,
                "forwards": spent[-1].forwards if spent else chosen.forwards,
                "seconds": spent[-1].seconds if spent else chosen.seconds,
                # Nobody knows how many of a method's own image passes came by then.
                "image_passes": None if fitted.image_passes else views,
                "validation_accuracy": chosen.judged.validation_accuracy,
            },
            chosen.judged.head,
        ))  # fmt: skip
    searched = bool(fitted.milestones)
    last = {
        "budget": points[-1] if searched else None,
        "forwards": fitted.forwards,
        "seconds": fitted.seconds,
        "image_passes": fitted.image_passes + views,
        "validation_accuracy": fitted.validation_accuracy,
    }
    return [*rows, (last, fitted.head)]


def _test(classifier: Fitted, split: LabelledPhotos, heads: list[Head]) -> dict[str, Any]:
    """Accuracies on one test split, whose photos are read here and nowhere else.

    Where it has some of the classes only, the choice is among these, as in CoOp's protocol.
    """
    photos, rows = classifier.encode(split)
    results = []
    for head in heads:
        found = evaluate(AmongSome(head, rows), photos)
        results.append(
            {
                "accuracy": found.accuracy,
                "ece": found.calibration_error,
                "per_class": found.per_class,
            }
        )
    zero_shot = evaluate(AmongSome(classifier.zero_shot, rows), photos).accuracy
    return {"n": len(photos), "zero_shot_accuracy": zero_shot, "points": results}


def _tuning(fitter: Fitter, photos: Dataset) -> str:
    """How the settings or the point of a method are chosen."""
    method, settings = fitter.method, fitter.settings
    if not method.validation(settings):
        return "last iterate" if method.milestones else "fixed settings"
    if photos.val is None:
        return "fixed settings"
    counts = photos.val.counts()
    each = f"{counts.min()}" if (counts == counts[0]).all() else f"up to {counts.max()}"
    return f"validation, {each} photos per class"


def _point(step: Step) -> dict[str, Any]:
    return {
        "forwards": step.forwards,
        "seconds": round(step.seconds, 3),
        "loss": _finite(step.loss),
        "validation_accuracy": step.validation_accuracy,
        "stage": step.stage,
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
