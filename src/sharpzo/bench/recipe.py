"""A recipe: methods, data sets and seeds, read from a TOML file and checked before any work.

docs/bench.md has an example. Several ``[[grid]]`` tables have keys of their own; what stands above
them holds for all grids that do not say otherwise.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

from msgspec import Meta

from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.data.demo import SEEDS, load_demo
from sharpzo.data.few_shot import draw
from sharpzo.data.layouts import LAYOUTS, TEMPLATE
from sharpzo.data.loading import read
from sharpzo.errors import InputError
from sharpzo.settings import Count, CountOrZero, Positive, Settings, flat
from sharpzo.wording import meant

DEMO = "demo"
S = TypeVar("S", bound=Settings)
Word = Annotated[str, Meta(min_length=1, description="a string")]
Table = Annotated[Mapping[str, Any], Meta(description="a table { name = value }")]


class _Lists(Settings):
    """Lists name nothing twice, and forwards are sorted."""

    def check(self) -> None:
        for one in fields(self):  # type: ignore[arg-type]  (subclasses are dataclasses)
            values = getattr(self, one.name)
            if isinstance(values, tuple):
                _check_once(one.name, values)
                if one.name in ("budgets", "milestones"):
                    object.__setattr__(self, one.name, tuple(sorted(values)))


def _check_once(name: str, values: tuple[Any, ...]) -> None:
    twice = [value for value in values if values.count(value) > 1]
    if twice:
        raise InputError(f"{name} has {twice[0]!r} twice; name it once")


@dataclass(frozen=True)
class Entry(_Lists):
    """A method in a recipe; ``settings`` are changes by dotted name.

    ``budgets`` in forwards, None: the grid's, (): none but the method's own settings. ``seconds``
    and ``steps`` limit the run as well. ``precision`` of the text tower, None: float32. ``label``
    is what tables call the method; without one it is made of the rest.
    """

    method: Annotated[str, Meta(min_length=1, description="a name of 'sharpzo methods'")] = ""
    label: str = ""
    preset: Word | None = None
    settings: Table = field(default_factory=dict)
    budgets: tuple[Count, ...] | None = None
    seconds: Positive | None = None
    steps: Count | None = None
    precision: Word | None = None

    def check(self) -> None:
        super().check()
        # TOML reads ``search.zo.keep = 0.1`` as nested tables.
        object.__setattr__(self, "settings", dict(flat(self.settings)))
        changes = [f"{name}={value}" for name, value in self.settings.items()]
        parts = [self.method, self.preset, *changes, self.precision]
        object.__setattr__(self, "label", self.label or " ".join(filter(None, parts)))


@dataclass(frozen=True)
class Grid(_Lists):
    """Data sets x shots x seeds x models x methods; None: all photos, the embedded model.

    ``milestones`` are forwards at which the test accuracy is looked up, too, for the curves.
    ``test_on``: other data sets of the same class names that the same classifier is tested on.
    """

    data_sets: Annotated[
        tuple[Word, ...], Meta(min_length=1, description="a list of one or more strings")
    ] = ()
    methods: Annotated[
        tuple[Entry, ...], Meta(min_length=1, description="a list of one or more methods")
    ] = ()
    shots: tuple[Count | None, ...] = (None,)
    seeds: tuple[CountOrZero, ...] = (1,)
    models: tuple[Word | None, ...] = (None,)
    budgets: tuple[Count, ...] = ()
    milestones: tuple[Count, ...] = ()
    template: str = TEMPLATE
    test_on: tuple[Word, ...] = ()

    def check(self) -> None:
        labels = [entry.label for entry in self.methods]
        for label in labels:
            if labels.count(label) > 1:
                raise InputError(f"two methods are called '{label}'; give one a label")
        super().check()
        if self.template.count("{}") != 1:
            raise InputError(f"template is {self.template!r}; put {{}} where the class name goes")


@dataclass(frozen=True)
class Recipe(Settings):
    """A checked recipe; ``data`` and ``plugins`` are relative to its ``folder``."""

    path: Path
    grids: tuple[Grid, ...]
    title: Word
    data: Word | None = None
    baseline: Word | None = None
    plugins: tuple[Word, ...] = ()
    threads: Count | None = None

    @property
    def folder(self) -> Path:
        """Where the recipe lies."""
        return self.path.resolve().parent

    @property
    def labels(self) -> tuple[str, ...]:
        """Every method's label, in the order of the recipe."""
        return tuple(dict.fromkeys(e.label for grid in self.grids for e in grid.methods))

    def check(self) -> None:
        _check_once("plugins", self.plugins)
        if self.baseline is not None and self.baseline not in self.labels:
            raise InputError(
                f"baseline '{self.baseline}' is no method of the recipe; its methods: "
                f"{', '.join(self.labels)}"
            )


def read_recipe(path: str | Path) -> Recipe:
    """Read a TOML file; raises `InputError` naming the file, the place and the value.

    Names of methods, presets, settings and data sets are checked later, by `cell.expand`: plugins
    and photos are needed for that.
    """
    path = Path(path)
    where = f"recipe {path}"
    document = _load(path)
    shared = {f.name: document.pop(f.name) for f in fields(Grid) if f.name in document}
    tables = document.pop("grid", None)
    if not isinstance(tables, list | None):
        raise InputError(f"{where}: grid is {tables!r}; write it as a table [[grid]]")
    grids = tuple(
        _grid(shared, table, where if tables is None else f"{where}, grid {number}")
        for number, table in enumerate(tables or [{}], start=1)
    )
    document.setdefault("title", path.stem)
    others = (*(f.name for f in fields(Grid)), "grid")
    return _made(Recipe, document, where, others, path=path, grids=grids)


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


def _grid(shared: Mapping[str, Any], table: Any, where: str) -> Grid:
    if not isinstance(table, dict):
        raise InputError(f"{where} is {table!r}; write it as a table [[grid]]")
    # An empty list is a default: all photos, seed 1, the embedded model.
    lines = {name: value for name, value in {**shared, **table}.items() if value != []}
    methods = lines.get("methods")
    if isinstance(methods, list):
        lines["methods"] = entries = []
        for number, item in enumerate(methods, start=1):
            item = {"method": item} if isinstance(item, str) else item
            at = f"{where}, method {number}"
            if not isinstance(item, dict):
                raise InputError(f'{at} is {item!r}; give a name or a table {{ method = "…" }}')
            entries.append(_made(Entry, item, at))
    return _made(Grid, lines, where)


def _made(
    kind: type[S], table: Mapping[str, Any], where: str, others: tuple[str, ...] = (), **made: Any
) -> S:
    """Settings from a table of the file, whose ``others`` were read before, into ``made``."""
    known = [one.name for one in fields(kind) if one.name not in made]  # type: ignore[arg-type]
    unknown = [key for key in table if key not in known]
    if unknown:
        raise InputError(
            f"{where} has a key '{unknown[0]}'{meant(unknown[0], (*known, *others))} that means "
            f"nothing; known: "
            f"{', '.join((*known, *others))}"
        )
    try:
        return kind(**table, **made)
    except InputError as error:
        raise InputError(f"{where}: {str(error).removesuffix(', or null')}") from None


class Sources:
    """Data sets by name: "demo", a name of CoOp's layout below ``root``, or a folder of photos.

    Folders are looked for below ``root``, then below ``beside`` (the recipe's folder).
    """

    def __init__(self, root: str | Path | None, beside: str | Path) -> None:
        self.root = None if root is None else Path(root).resolve()
        self.beside = Path(beside).resolve()
        self._read: dict[str, Dataset] = {}

    def whole(self, name: str) -> Dataset:
        """The data set before any draw."""
        if name not in self._read:
            self._read[name] = load_demo() if name == DEMO else self._open(name)
        return self._read[name]

    def drawn(self, name: str, shots: int | None, seed: int) -> Dataset:
        """The few-shot draw of ``seed``; the demo has draws of its own, fewer shots from these."""
        if name != DEMO:
            return draw(self.whole(name), shots, seed)
        if seed not in SEEDS:
            raise InputError(f"data set demo has no draw of seed {seed}; give seeds 1, 2 or 3")
        return draw(load_demo(seed), shots, seed)

    def tested(self, name: str) -> LabelledPhotos:
        """The test split; raises `InputError` where there is none."""
        found = self.whole(name).test
        if found is None:
            raise InputError(
                f"data set {name} has no test photos; put some into a folder test/ beside train/"
            )
        return found

    def _open(self, name: str) -> Dataset:
        if name in LAYOUTS:
            if self.root is None:
                raise InputError(
                    f"data set {name} needs its photos; give the folder that holds them as --data "
                    "or as data in the recipe"
                )
            if not os.path.isdir(self.root):
                raise InputError(f"there is no data folder {self.root}; give another as --data")
            return read(self.root, name)
        folders = [base / name for base in (self.root, self.beside) if base is not None]
        for folder in folders:
            if os.path.isdir(folder):  # a name may be too long for a path
                return read(folder)
        raise InputError(
            f"there is no data set '{name}'{meant(name, LAYOUTS)}: it is no folder "
            f"({folders[0]}) and none of {DEMO}, {', '.join(LAYOUTS)}"
        )
