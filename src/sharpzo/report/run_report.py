"""The report of a run: its record, its journal, and measures on its photos."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sharpzo.data import loading
from sharpzo.data.dataset import Dataset
from sharpzo.data.demo import SEEDS, load_demo
from sharpzo.data.photo_check import check, without
from sharpzo.errors import ArtifactError, PhotosError
from sharpzo.fitting.trained import Trained, load
from sharpzo.methods.zero_shot import zero_shot_head
from sharpzo.report import sections
from sharpzo.report.evidence import encoded, gather, of_run
from sharpzo.report.landscape import (
    SIDE,
    Landscape,
    context_landscapes,
    projection_landscapes,
)
from sharpzo.report.page import check_packages, render
from sharpzo.storage import artifact
from sharpzo.storage.journal import HISTORY, read_journal
from sharpzo.towers.tower import OnnxTextTower
from sharpzo.types import Features, TextTower
from sharpzo.wording import quoted

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Report:
    """A page, the forwards that it cost, and a sentence for each thing that is missing in it."""

    html: str
    forwards: int
    left_out: tuple[str, ...]


def demo_of(record: Mapping[str, Any]) -> Dataset | None:
    """The demo photos, if a run was made with them."""
    source = record.get("data", {}).get("source")
    if record.get("seed") in SEEDS and source == (demo := load_demo(record["seed"])).source:
        return demo
    return None


def report_run(
    run: str | Path,
    *,
    data: str | Path | None = None,
    dataset: str | None = None,
    labels: str | Path | None = None,
    model: str | None = None,
    landscape: bool = True,
    side: int = SIDE,
    progress: Progress = lambda what, done, total: None,
) -> Report:
    """Report of a run folder.

    Without ``data`` (a folder of photos, ``dataset`` and ``labels`` as in `data.loading.load`) a
    run of the demo is shown with its own photos and any other without them. The landscape, ``side``
    points per direction, needs the run's own training photos: others are recognised and refused in
    a sentence. Raises what `trained.load` and the readers of photos raise.
    """
    check_packages(charts=False)
    found = artifact.read(run)
    record, history = found.record, Path(run) / HISTORY
    steps = read_journal(history) if history.is_file() else []
    left_out: list[str] = []
    content: dict[str, Any] = {"name": Path(run).resolve().name, "record": record}
    content |= {"run": str(run), "run_literal": repr(str(run))}
    try:
        photos = demo_of(record)
        if data is not None:
            shots, seed = record["data"].get("shots"), record["seed"]
            photos = loading.load(data, dataset, shots=shots, seed=seed, labels=labels)
        check_packages(charts=bool(steps) or photos is not None)
        trained = load(run, model=model)
        evidence, spent = None, 0
        if photos is None:
            left_out.append(
                "Classes, mistakes, calibration and landscape need the photos: "
                f"sharpzo report {quoted(run)} --data FOLDER"
            )
        else:
            photos, left_out = _usable(photos)
            checkpoint = trained.towers.checkpoint
            names, template = trained.class_names, trained.template
            with closing(OnnxTextTower(checkpoint, names, template=template)) as tower:
                evidence = gather(trained, zero_shot_head(tower), photos, progress)
                spent, surfaces = 1, {}
                if landscape:
                    train, why = None, _no_solution(found.arrays, tower)
                    if not why:
                        train, why = _training(trained, record, photos, progress)
                    if train is not None:
                        surfaces = _landscapes(
                            found.arrays, tower, train, record["seed"], side, progress
                        )
                    left_out += [why] if why else []
            content |= sections.photos(evidence) if evidence else {}
            if surfaces:
                content |= sections.landscapes(surfaces) | {"n_landscape_photos": len(photos.train)}
                spent += content["landscape_forwards"]
        content |= {
            **sections.opening(record, evidence),
            "rows": (rows := sections.accuracy_rows(record)),
            "better": sections.better(rows),
            **(sections.search(record, steps) if steps else {}),
            **sections.strangers(trained),
            "array_bytes": found.bytes,
            "settings": sections.settings(record, trained.method),
            "left_out": left_out,
        }
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{run} has an incomplete record ({error}); fit again") from None
    return Report(render("run.html", content), spent, tuple(left_out))


def _usable(photos: Dataset) -> tuple[Dataset, list[str]]:
    """The photos that can be read, and a sentence if there are others: the run skipped them."""
    splits = photos.splits
    errors = check(splits).errors
    if not errors:
        return photos, []
    lines = PhotosError(errors, sum(map(len, splits.values()))).lines
    return without(photos, errors), [" ".join(lines)]


_PROJECTION = {"projection_left", "projection_right"}


def _no_solution(arrays: Mapping[str, Any], tower: TextTower) -> str:
    """Why there is no solution to look around; nothing if there is one."""
    context = arrays.get("context")
    tuned = context is not None and context.ndim == 2 and context.shape[1] == tower.start.shape[1]
    if tuned or set(arrays) >= _PROJECTION:
        return ""
    return (
        "The loss landscape is left out: this method tunes neither a context nor the text "
        "projection, so there is no solution in their space to look around"
    )


def _training(
    trained: Trained, record: Mapping[str, Any], photos: Dataset, progress: Progress
) -> tuple[Features | None, str]:
    """Features of the run's training photos; or None, and why these are not they."""
    expected = record["data"].get("training_sha256")
    if expected is None:
        return None, (
            "The loss landscape is left out: the run does not say which photos it was trained on; "
            "fit again"
        )
    photos_of_run = of_run(photos.train, trained.class_names, photos.source)
    train = encoded(trained, photos_of_run, progress)
    if train.fingerprint != expected:
        return None, (
            "The loss landscape is left out: a draw from these photos with the run's shots and "
            "seed does not give the photos that it was trained on"
        )
    return train, ""


def _landscapes(
    arrays: Mapping[str, Any],
    tower: TextTower,
    train: Features,
    seed: int,
    side: int,
    progress: Progress,
) -> dict[str, Landscape]:
    """Landscapes by name (before, stage1, after)."""
    if set(arrays) >= _PROJECTION:
        left, right = arrays["projection_left"], arrays["projection_right"]
        shape = tower.projection.shape
        if (*left.shape, *right.shape) != (shape[0], right.shape[0], right.shape[0], shape[1]):
            raise ArtifactError(
                f"the run's arrays projection_left {left.shape} and projection_right {right.shape} "
                f"are no factors of a text projection {shape}; fit the run again"
            )
        change = left.astype(np.float64) @ right
        return projection_landscapes(tower, train, change, side=side, seed=seed)
    context = arrays["context"]
    other = len(context) != len(tower.start)
    with closing(tower.variant(n_context=len(context))) if other else nullcontext(tower) as used:
        points = {"before": used.start, "stage1": arrays.get("context_stage1"), "after": context}
        return context_landscapes(
            used,
            train,
            {name: point for name, point in points.items() if point is not None},
            side=side,
            seed=seed,
            progress=lambda done, total: progress("landscape", done, total),
        )
