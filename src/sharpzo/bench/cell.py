"""One cell of a bench: one run of one method on one draw of photos, named by its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sharpzo import __version__
from sharpzo.bench.recipe import Entry, Grid, Recipe
from sharpzo.bench.sources import Sources
from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.errors import InputError
from sharpzo.methods import find, load_plugin
from sharpzo.settings import as_dict
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.runtime import Runtime

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
        """How many forwards the cell will cost at most, as far as its settings tell: a guess."""
        method = find(self.method)
        if not method.milestones:  # no search
            return 1
        planned = method.plan(method.configure(self.preset, self.changes))
        return max(self.budgets, default=0) or planned.forwards or 0

    @property
    def name(self) -> str:
        """One line for people."""
        shots = "all photos" if self.shots is None else f"{self.shots} shots"
        model = "" if self.model is None else f", {self.model}"
        return f"{self.label} on {self.data_set}, {shots}, seed {self.seed}{model}"

    def as_job(self) -> dict[str, Any]:
        """The cell as JSON has it."""
        return json.loads(json.dumps(asdict(self)))

    def as_record(self) -> dict[str, Any]:
        """The cell without this machine's folders: what a result and a report say of it."""
        here = ("root", "beside", "plugins")
        return {name: value for name, value in self.as_job().items() if name not in here}

    @classmethod
    def from_job(cls, job: Mapping[str, Any]) -> Cell:
        """The inverse of `as_job`; of a record, a cell that can be told but not computed."""
        lists = ("budgets", "milestones", "test_on", "plugins")
        return cls(**{**job, **{name: tuple(job.get(name, ())) for name in lists}})


def expand(recipe: Recipe, data: Path | None = None) -> list[Cell]:
    """Every cell of a recipe, in its order, each with its key; ``data`` overrides its data root.

    Reads every photo once, to hash it. Raises `InputError` in one sentence for an unknown method,
    preset, setting or data set, a wrong root, missing photos or a data set without test photos.
    """
    for plugin in recipe.plugins:
        load_plugin(plugin)
    for grid in recipe.grids:
        for entry in grid.methods:
            _check(entry, recipe)
    root = data or recipe.data
    sources = Sources(root, recipe.path.resolve().parent)
    keys = _Keys(sources, recipe)
    cells: dict[tuple[str, str], Cell] = {}
    for grid in recipe.grids:
        for name in grid.data_sets:
            _check_shifted(sources, name, grid.test_on)
        for cell in _cells(grid, recipe, sources):
            keyed = replace(cell, key=keys.of(cell))
            cells.setdefault((keyed.label, keyed.key), keyed)
    return list(cells.values())


def _check(entry: Entry, recipe: Recipe) -> None:
    try:
        find(entry.method).configure(entry.preset, entry.changes)
        Runtime(precision=entry.precision or "float32")  # type: ignore[arg-type]  (checked there)
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


def _cells(grid: Grid, recipe: Recipe, sources: Sources) -> list[Cell]:
    """Seeds before methods: the first seed of everything is there early."""
    return [
        Cell(
            data_set,
            entry.method,
            entry.label,
            entry.preset,
            dict(entry.changes),
            shots,
            seed,
            model,
            grid.template,
            budgets := grid.budgets if entry.budgets is None else entry.budgets,
            tuple(m for m in grid.milestones if m < max(budgets, default=0)),
            entry.seconds,
            entry.steps,
            recipe.threads,
            grid.test_on,
            None if sources.root is None else str(sources.root),
            str(sources.beside),
            tuple(str(plugin) for plugin in recipe.plugins),
            entry.precision,
        )
        for data_set in grid.data_sets
        for model in grid.models
        for shots in grid.shots
        for seed in grid.seeds
        for entry in grid.methods
    ]


class _Keys:
    """Hashes of what cells depend on, each computed once."""

    def __init__(self, sources: Sources, recipe: Recipe) -> None:
        self._sources = sources
        self._plugins = [hashlib.sha256(file.read_bytes()).hexdigest() for file in recipe.plugins]
        self._known: dict[Any, str] = {}

    def of(self, cell: Cell) -> str:
        """The name of the cell's result."""
        settings = find(cell.method).configure(cell.preset, cell.changes)
        ours = getattr(find(cell.method).fit, "__module__", "").split(".")[0] == "sharpzo"
        content = {
            "format": FORMAT,
            "sharpzo": __version__,
            "method": cell.method,
            # Settings of a plugin's method do not tell what its file does.
            "plugins": [] if ours else self._plugins,
            "settings": _switched_on(as_dict(settings)),
            "template": cell.template,
            "seed": cell.seed,
            "budget": [cell.budgets, cell.milestones, cell.seconds, cell.steps, cell.threads],
            "photos": self._photos(cell),
            "shifted": [self._tested(name) for name in cell.test_on],
            "model": self._model(cell.model),
        }
        content |= {"precision": cell.precision} if cell.precision else {}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _photos(self, cell: Cell) -> list[str]:
        at = cell.data_set, cell.shots, cell.seed
        if at not in self._known:
            drawn = self._sources.drawn(*at)
            tuned = [_digest(split) for split in (drawn.train, drawn.val) if split]
            self._known[at] = " ".join([*tuned, json.dumps(drawn.class_names)])
        # The demo's photos are one file; the others' test split does not depend on the draw.
        return [self._known[at], self._tested(cell.data_set)]

    def _tested(self, name: str) -> str:
        if name not in self._known:
            whole = self._sources.whole(name)
            self._known[name] = _digest(tested(whole, name)) + json.dumps(whole.class_names)
        return self._known[name]

    def _model(self, model: str | None) -> str:
        if ("model", model) not in self._known:
            self._known["model", model] = Checkpoint.open(resolve(model)).fingerprint
        return self._known["model", model]


def _switched_on(settings: Any) -> Any:
    """Settings without those that are None or False: an option that is new, and off by default,
    leaves the results that are there their names.

    >>> _switched_on({"std": None, "search": {"inherit": False, "rho": 0.1}})
    {'search': {'rho': 0.1}}
    """
    if not isinstance(settings, dict):
        return settings
    on = {
        name: value for name, value in settings.items() if value is not None and value is not False
    }
    return {name: _switched_on(value) for name, value in on.items()}


def tested(data_set: Dataset, name: str) -> LabelledPhotos:
    """The test split, or an `InputError` where there is none."""
    if data_set.test is None:
        raise InputError(
            f"data set {name} has no test photos; put some into a folder test/ beside train/"
        )
    return data_set.test


def _digest(split: LabelledPhotos) -> str:
    labels = hashlib.sha256(split.labels.tobytes()).hexdigest()
    return hashlib.sha256((split.digest() + labels).encode()).hexdigest()
