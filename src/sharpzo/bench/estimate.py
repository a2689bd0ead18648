"""What a bench will take, from a few measured forwards."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from sharpzo.bench.cell import Cell
from sharpzo.bench.sources import Sources
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.tower import OnnxTextTower

CANDIDATES = 40  # the usual population
OVERHEAD = 4.0  # seconds of a cell beside its forwards: a process, two graphs, reading features


@dataclass(frozen=True)
class Estimate:
    """``seconds`` of all cells one after the other, without encoding ``photos`` (at most)."""

    cells: int
    forwards: int
    seconds: float
    photos: int


def estimate(cells: list[Cell]) -> Estimate:
    """Count the cells' forwards, and time some for each set of class names and model."""
    speed: dict[tuple, float] = {}
    photos: dict[tuple, int] = {}
    seconds = 0.0
    opened: dict[tuple, Sources] = {}
    for cell in cells:
        at = cell.data_set, cell.model, cell.template
        folders = cell.root, cell.beside
        sources = opened.setdefault(folders, Sources(*folders))
        if at not in speed:
            speed[at] = seconds_per_forward(cell, sources.whole(cell.data_set).class_names)
        for name in (cell.data_set, *cell.test_on):
            photos.setdefault((name, cell.model), len(sources.whole(name).test or ()))
        draw = cell.data_set, cell.model, cell.shots, cell.seed
        if draw not in photos:
            drawn = sources.drawn(cell.data_set, cell.shots, cell.seed)
            photos[draw] = len(drawn.train) + len(drawn.val or ())
        fit = cell.forwards * speed[at]
        seconds += OVERHEAD + (fit if cell.seconds is None else min(fit, cell.seconds))
    return Estimate(len(cells), sum(cell.forwards for cell in cells), seconds, sum(photos.values()))


def seconds_per_forward(cell: Cell, class_names: tuple[str, ...]) -> float:
    """Measured on one batch of the text tower, after one to warm up."""
    tower = OnnxTextTower(
        Checkpoint.open(resolve(cell.model)),
        class_names,
        template=cell.template,
        threads=cell.threads,
    )
    try:
        contexts = np.repeat(tower.start[None], CANDIDATES, axis=0)
        tower.forward(contexts[:2])
        begin = time.perf_counter()
        tower.forward(contexts)
        return (time.perf_counter() - begin) / CANDIDATES
    finally:
        tower.close()
