"""One cell of a bench: one run of one method on one draw of photos, named by its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from sharpzo import __version__
from sharpzo.bench.recipe import Entry, Grid, Recipe, Sources
from sharpzo.budget import Budget
from sharpzo.data.dataset import LabelledPhotos
from sharpzo.errors import InputError
from sharpzo.fitting.fitter import Fitter
from sharpzo.methods import load_plugin

FORMAT = 1  # of a result; a new one makes every cell new


@dataclass(frozen=True)
class Cell:
    """What a worker has to know, and nothing else; all of it fits into JSON.

    ``label`` and ``data_set`` are what people call the method and the photos. ``budgets`` are the
    forwards whose accuracy is wanted, the largest is spent; ``milestones`` further ones, for the
    curves. ``key`` is the SHA-256 of everything that the result depends on.
    """

    data_set: str
    method: str
    label: str
    preset: str | None
    changes: Mapping[str, Any]
    shots: int | None
    seed: int
    model: str | None
    template: str
    budgets: tuple[int, ...]
    milestones: tuple[int, ...]
    seconds: float | None
    steps: int | None
    threads: int | None
    test_on: tuple[str, ...]
    root: str | None = None
    beside: str = "."
    plugins: tuple[str, ...] = ()
    precision: str | None = None
    key: str = ""

    @property
    def forwards(self) -> int:
        """How many forwards the cell will cost at most, estimated from its settings."""
        fitter = self.fitter()
        if not fitter.method.milestones:  # no search
            return 1
        planned = fitter.method.plan(fitter.settings)
        return max(self.budgets, default=0) or planned.forwards or 0

    @property
    def name(self) -> str:
        """One line for people."""
        shots = "all photos" if self.shots is None else f"{self.shots} shots"
        model = "" if self.model is None else f", {self.model}"
        return f"{self.label} on {self.data_set}, {shots}, seed {self.seed}{model}"

    def fitter(self, cache: Path | None = None) -> Fitter:
        """What fits the cell; its plugins are loaded. Raises `InputError` for what cannot be."""
        return Fitter(
            self.method,
            preset=self.preset,
            settings=self.changes,
            model=self.model,
            template=self.template,
            seed=self.seed,
            budget=Budget(max(self.budgets, default=None), self.seconds, self.steps),
            threads=self.threads,
            precision=self.precision or "float32",  # type: ignore[arg-type]  (checked there)
            cache=cache,
            decoding="exact",  # as published figures, and earlier versions' results, were measured
        )

    def as_record(self) -> dict[str, Any]:
        """The cell without this machine's folders: what a result and a report say of it."""
        here = ("root", "beside", "plugins")
        return {name: value for name, value in asdict(self).items() if name not in here}


def expand(recipe: Recipe, data: Path | None = None) -> list[Cell]:
    """Every cell of a recipe, in its order, each with its key; ``data`` overrides its data root.

    Reads every photo once, to hash it. Raises `InputError` in one sentence for an unknown method,
    preset, setting or data set, a wrong root, missing photos or a data set without test photos.
    """
    plugins = [recipe.folder / plugin for plugin in recipe.plugins]
    for plugin in plugins:
        load_plugin(plugin)
    for grid in recipe.grids:
        for entry in grid.methods:
            _check(entry, recipe)
    sources = Sources(data or (recipe.data and recipe.folder / recipe.data), recipe.folder)
    cells = []
    for grid in recipe.grids:
        for name in grid.data_sets:
            _check_shifted(sources, name, grid.test_on)
        cells += _cells(grid, recipe.threads, sources, tuple(map(str, plugins)))
    unique: dict[tuple[str, str], Cell] = {}
    for cell in _keyed(cells, sources, plugins):
        unique.setdefault((cell.label, cell.key), cell)
    return list(unique.values())


def _check(entry: Entry, recipe: Recipe) -> None:
    try:
        Fitter(
            entry.method,
            preset=entry.preset,
            settings=entry.settings,
            precision=entry.precision or "float32",  # type: ignore[arg-type]  (checked there)
        )
    except InputError as error:
        raise InputError(f"recipe {recipe.path}, method '{entry.label}': {error}") from None


def _check_shifted(sources: Sources, name: str, test_on: tuple[str, ...]) -> None:
    known = sources.whole(name).class_names
    for other in test_on:
        unknown = set(sources.whole(other).class_names) - set(known)
        if unknown:
            raise InputError(
                f"data set {other} cannot test what was tuned on {name}: its class "
                f"'{min(unknown)}' is not among the {len(known)} of {name}"
            )


def _cells(
    grid: Grid, threads: int | None, sources: Sources, plugins: tuple[str, ...]
) -> list[Cell]:
    """Seeds before methods: the first seed of everything is there early."""
    return [
        Cell(
            data_set=data_set,
            method=entry.method,
            label=entry.label,
            preset=entry.preset,
            changes=entry.settings,
            shots=shots,
            seed=seed,
            model=model,
            template=grid.template,
            budgets=(budgets := grid.budgets if entry.budgets is None else entry.budgets),
            milestones=tuple(m for m in grid.milestones if m < max(budgets, default=0)),
            seconds=entry.seconds,
            steps=entry.steps,
            threads=threads,
            test_on=grid.test_on,
            root=None if sources.root is None else str(sources.root),
            beside=str(sources.beside),
            plugins=plugins,
            precision=entry.precision,
        )
        for data_set in grid.data_sets
        for model in grid.models
        for shots in grid.shots
        for seed in grid.seeds
        for entry in grid.methods
    ]


def _keyed(cells: list[Cell], sources: Sources, plugins: list[Path]) -> Iterator[Cell]:
    """Cells with the hash of what their results depend on."""
    files = [hashlib.sha256(file.read_bytes()).hexdigest() for file in plugins]

    @cache
    def tuned(name: str, shots: int | None, seed: int) -> str:
        drawn = sources.drawn(name, shots, seed)
        splits = [_digest(split) for split in (drawn.train, drawn.val) if split]
        return " ".join([*splits, json.dumps(drawn.class_names)])

    @cache
    def tested(name: str) -> str:
        return _digest(sources.tested(name)) + json.dumps(sources.whole(name).class_names)

    models: dict[str | None, str] = {}
    for cell in cells:
        fitter = cell.fitter()
        method = fitter.method
        if cell.model not in models:
            models[cell.model] = fitter.towers.checkpoint.fingerprint
        ours = getattr(method.fit, "__module__", "").split(".")[0] == "sharpzo"
        content = {
            "format": FORMAT,
            "sharpzo": __version__,
            "method": cell.method,
            # The settings of a plugin's method do not determine what its file does.
            "plugins": [] if ours else files,
            "settings": switched_on(method.key(fitter.settings)),
            "template": cell.template,
            "seed": cell.seed,
            "budget": [cell.budgets, cell.milestones, cell.seconds, cell.steps, cell.threads],
            "photos": [tuned(cell.data_set, cell.shots, cell.seed), tested(cell.data_set)],
            "shifted": [tested(name) for name in cell.test_on],
            "model": models[cell.model],
        }
        content |= {"precision": cell.precision} if cell.precision else {}
        text = json.dumps(content, sort_keys=True)
        yield replace(cell, key=hashlib.sha256(text.encode()).hexdigest())


def switched_on(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those that are None or False: an option that is new, and off by default,
    leaves the results that are there their names.

    >>> switched_on({"std": None, "search": {"inherit": False, "rho": 0.1}})
    {'search': {'rho': 0.1}}
    """
    return {
        name: switched_on(value) if isinstance(value, Mapping) else value
        for name, value in settings.items()
        if value is not None and value is not False
    }


def _digest(split: LabelledPhotos) -> str:
    labels = hashlib.sha256(split.labels.tobytes()).hexdigest()
    return hashlib.sha256((split.digest() + labels).encode()).hexdigest()
