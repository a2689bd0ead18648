"""``sharpzo bench``: many methods, data sets and seeds into one table."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Argument, Option

from sharpzo.cli import options

if TYPE_CHECKING:
    from sharpzo.bench.cell import Cell
    from sharpzo.bench.engines import Engine
    from sharpzo.bench.results import Results
    from sharpzo.bench.summary import Section
    from sharpzo.cli.screen import Screen


def bench(
    recipe: Annotated[Path, Argument(help="TOML file; see docs/bench.md.", metavar="RECIPE")],
    data: Annotated[
        Path | None, Option(help="Folder that holds the data sets.", show_default="the recipe's")
    ] = None,
    out: Annotated[
        Path | None,
        Option(
            help="Folder for results; a bench that is there continues.",
            show_default="RECIPE's name with -bench",
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        Option(help="Folder that keeps image features.", show_default="features/ in OUT"),
    ] = None,
    engine: Annotated[Literal["local", "ray"], Option(help="Where cells run.")] = "local",
    address: Annotated[
        str | None,
        Option(help="Ray cluster, such as 10.0.0.1:6379.", show_default="one started here"),
    ] = None,
    workers: Annotated[
        int | None, Option(help="Cells at a time.", show_default="1; with ray as many as cores")
    ] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Show the cells and what they will take; run none.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Run methods x data sets x shots x seeds x models, and compare them in one table.

    Each finished cell is kept: the same command after an interruption computes what is missing.
    """
    from sharpzo.bench.cell import expand
    from sharpzo.bench.driver import missing, run_bench
    from sharpzo.bench.recipe import read_recipe
    from sharpzo.bench.results import About, Results
    from sharpzo.cli.progress import Bars
    from sharpzo.cli.screen import Screen
    from sharpzo.errors import EngineError

    chosen = _engine(engine, address, workers)
    wanted = read_recipe(recipe)
    about = About(wanted.title, wanted.baseline, expand(wanted, data))
    results = Results(out or Path(f"{recipe.stem}-bench"))
    todo = missing(about.cells, results)
    if dry_run:
        _show_plan(about.cells, todo, results, as_json)
        return
    features = (cache or results.folder / "features").resolve()
    with Bars(about.cells, todo, silent=as_json) as bars:
        try:
            outcome = run_bench(
                about, results, chosen, features, listen=bars.listen, ended=bars.ended
            )
        except KeyboardInterrupt:
            done = sum(cell.key in results for cell in about.cells)
            bars.console.say(
                f"stopped: {done} of {len(about.cells)} cells are in {results.folder}; the same "
                "command goes on from there"
            )
            raise typer.Exit(130) from None
    if as_json:
        print(json.dumps({
            "out": str(results.folder),
            "cells": len(about.cells),
            **asdict(outcome),
            "failed": [{"cell": cell.name, "error": error} for cell, error in outcome.failed],
        }))  # fmt: skip
    else:
        screen = Screen()
        for section in outcome.sections:
            show_section(screen, section, about.baseline)
        for note in outcome.notes:
            screen.say(f"note: {note}")
        screen.say(
            f"{about.title}: {results.folder / 'summary.md'} adds tuning, calibration and "
            f"published figures, {results.folder / 'table.csv'} has every run"
        )
    if outcome.failed:
        cell, error = outcome.failed[0]
        raise EngineError(
            f"{len(outcome.failed)} of {len(about.cells)} cells failed, the first: {cell.name}: "
            f"{error}"
        )


def _engine(engine: str, address: str | None, workers: int | None) -> Engine:
    from sharpzo.bench import engines
    from sharpzo.errors import InputError

    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}; give 1 or more")
    if engine == "ray":
        return engines.RayEngine(address, workers)
    if address is not None:
        raise InputError(f"address {address} is a Ray cluster's; add --engine ray")
    return engines.LocalEngine(workers or 1)


def _show_plan(cells: list[Cell], todo: list[Cell], results: Results, as_json: bool) -> None:
    """Every cell, whether it is done, and what the others will take."""
    from sharpzo.bench.driver import estimate
    from sharpzo.cli.progress import clock
    from sharpzo.cli.screen import Column, Screen

    (seconds, photos), forwards = estimate(todo), sum(cell.forwards for cell in todo)
    if as_json:
        print(json.dumps({
            "out": str(results.folder),
            "cells": [{"cell": c.name, "key": c.key, "done": c.key in results} for c in cells],
            "missing": len(todo),
            "forwards": forwards,
            "seconds": round(seconds, 1),
            "photos": photos,
        }))  # fmt: skip
        return
    screen = Screen()
    screen.show(
        f"Cells of {results.folder}",
        [Column("cell", wraps=True), Column("forwards", right=True), Column("done")],
        [[cell.name, f"{cell.forwards:,}", "yes" if cell.key in results else ""] for cell in cells],
    )
    screen.say(
        f"{len(todo)} cells are missing: {forwards:,} forwards, about {clock(seconds)} one after "
        f"the other, after encoding at most {photos:,} photos"
    )


def show_section(screen: Screen, section: Section, baseline: str | None) -> None:
    """Accuracy and cost of each method on the same photos."""
    from sharpzo.bench.summary import columns
    from sharpzo.cli.screen import Column

    shown = ("method", "budget", "test %", f"minus {baseline}", "forwards", "seconds", "peak MB")
    cells = {title: cell for title, cell in columns(baseline).items() if title in shown}
    screen.show(
        f"{section.title}, {section.test_photos:,} test photos",
        [Column(title, right=title != "method") for title in cells],
        [[cell(line) for cell in cells.values()] for line in section.lines],
    )
