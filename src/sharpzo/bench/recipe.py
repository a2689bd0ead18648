"""A recipe: which methods meet which photos, read from a TOML file and checked before any work.

.. code-block:: toml

    title = "Two heads and a search on EuroSAT"
    data = "../datasets"            # holds eurosat/; or give --data
    baseline = "zero-shot"          # paired differences are taken against this label
    data_sets = ["eurosat"]
    shots = [16]
    seeds = [1, 2, 3]
    budgets = [5000, 40000]         # forwards; a search runs once, to the largest
    methods = ["zero-shot", { method = "cma-es", settings = { "search.cma.sigma" = 0.1 } }]

Several ``[[grid]]`` tables have such keys of their own; what stands above them holds for all grids
that do not say otherwise. A data set is "demo", a name of CoOp's layout, or a folder of photos.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sharpzo.bench.fields import Fields
from sharpzo.data.dataset import TEMPLATE
from sharpzo.errors import InputError

_GRID = (
    "data_sets", "shots", "seeds", "models", "budgets", "milestones", "methods", "template",
    "test_on",
)  # fmt: skip
_RECIPE = ("title", "data", "baseline", "plugins", "threads", *_GRID, "grid")
_ENTRY = (
    "method", "preset", "settings", "label", "budgets", "seconds", "steps", "precision",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A method as a recipe wants it; ``changes`` are settings by dotted name.

    ``budgets`` in forwards, None: the grid's, (): none but the method's own settings. ``seconds``
    and ``steps`` limit the run as well. ``precision`` of the text tower, None: float32.
    """

    method: str
    label: str
    preset: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    budgets: tuple[int, ...] | None = None
    seconds: float | None = None
    steps: int | None = None
    precision: str | None = None


@dataclass(frozen=True)
class Grid:
    """Data sets x shots x seeds x models x methods; None: all photos, the embedded model.

    ``milestones`` are forwards at which the test accuracy is looked up, too, for the curves.
    ``test_on``: other data sets of the same class names that the same classifier is tested on.
    """

    data_sets: tuple[str, ...]
    methods: tuple[Entry, ...]
    shots: tuple[int | None, ...] = (None,)
    seeds: tuple[int, ...] = (1,)
    models: tuple[str | None, ...] = (None,)
    budgets: tuple[int, ...] = ()
    milestones: tuple[int, ...] = ()
    template: str = TEMPLATE
    test_on: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """A checked recipe. Relative paths in it were relative to ``path``'s folder."""

    path: Path
    title: str
    grids: tuple[Grid, ...]
    data: Path | None = None
    baseline: str | None = None
    plugins: tuple[Path, ...] = ()
    threads: int | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Every method's label, in the order of the recipe."""
        return tuple(dict.fromkeys(e.label for grid in self.grids for e in grid.methods))


def read_recipe(path: str | Path) -> Recipe:
    """Read a TOML file; raises `InputError` naming the file, the place and the value.

    Names of methods, presets, settings and data sets are checked later, by `cell.expand`: plugins
    and photos are needed for that.
    """
    path = Path(path)
    document = _load(path)
    top = Fields(document, f"recipe {path}", _RECIPE)
    common = {key: value for key, value in document.items() if key in _GRID}
    grids = []
    tables = top.tables("grid") or [{}]
    for number, table in enumerate(tables, start=1):
        where = f"recipe {path}" + (f", grid {number}" if "grid" in top else "")
        if not isinstance(table, dict):
            raise InputError(f"{where} is {table!r}; write it as a table [[grid]]")
        grids.append(_grid(Fields({**common, **table}, where, _GRID), where))
    folder = path.resolve().parent
    data = top.text("data", None)
    recipe = Recipe(
        path,
        top.text("title", path.stem),
        tuple(grids),
        None if data is None else folder / data,
        top.text("baseline", None),
        tuple(folder / name for name in top.texts("plugins", ())),
        top.integer("threads", None),
    )
    if recipe.baseline is not None and recipe.baseline not in recipe.labels:
        raise InputError(
            f"recipe {path}: baseline '{recipe.baseline}' is no method of the recipe; its methods: "
            f"{', '.join(recipe.labels)}"
        )
    return recipe


def _load(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"recipe {path} cannot be read ({reason}); give a TOML file") from None
    except RecursionError:
        raise InputError(f"recipe {path} has tables or lists in too many others") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"recipe {path} is not TOML: {error}; mend that line") from None


def _grid(fields: Fields, where: str) -> Grid:
    data_sets = fields.texts("data_sets", ())
    entries = tuple(
        _entry(item, f"{where}, method {number}")
        for number, item in enumerate(fields.tables("methods"), start=1)
    )
    for key, value in (("data_sets", data_sets), ("methods", entries)):
        if not value:
            raise InputError(f"{where} names no {key}; give a list with at least one")
    labels = [entry.label for entry in entries]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f"{where} has two methods called '{label}'; give one a label")
    template = fields.text("template", TEMPLATE)
    if template.count("{}") != 1:
        raise InputError(f"{where}: template is {template!r}; put {{}} where the class name goes")
    return Grid(
        data_sets,
        entries,
        fields.integers("shots", ()) or (None,),
        fields.integers("seeds", (), least=0) or (1,),
        fields.texts("models", ()) or (None,),
        tuple(sorted(fields.integers("budgets", ()))),
        tuple(sorted(fields.integers("milestones", ()))),
        template,
        fields.texts("test_on", ()),
    )


def _entry(item: Any, where: str) -> Entry:
    if isinstance(item, str):
        item = {"method": item}
    if not isinstance(item, dict):
        raise InputError(f'{where} is {item!r}; give a name or a table {{ method = "…" }}')
    fields = Fields(item, where, _ENTRY)
    method = fields.text("method", None)
    if method is None:
        raise InputError(f"{where} has no method; give its name, as 'sharpzo methods' lists it")
    preset = fields.text("preset", None)
    changes = _dotted(fields.table("settings"))
    budgets = fields.integers("budgets", None)
    parts = [f"{name}={value}" for name, value in changes.items()]
    parts += [fields.text("precision", "")] if "precision" in fields else []
    label = " ".join([method, *([preset] if preset else []), *parts])
    return Entry(
        method,
        fields.text("label", label),
        preset,
        changes,
        None if budgets is None else tuple(sorted(budgets)),
        fields.number("seconds", None),
        fields.integer("steps", None),
        fields.text("precision", None),
    )


def _dotted(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted names: TOML reads ``search.zo.keep = 0.1`` as nested, too."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            flat |= _dotted(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
