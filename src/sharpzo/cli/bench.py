"""``sharpzo bench``: many methods, data sets and seeds into one table."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from sharpzo.cli import options


class EngineName(str, Enum):
    """Where cells run."""

    local = "local"
    ray = "ray"


def bench(
    recipe: Annotated[Path, typer.Argument(help="TOML file; see docs/bench.md.", metavar="RECIPE")],
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Folder that holds the data sets.", show_default="the recipe's"),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="Folder for results; one that has some is gone on with.",
            show_default="RECIPE's name with -bench",
        ),
    ] = None,
    cache: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Folder that keeps image features.", show_default="features/ in OUT"),
    ] = None,
    engine: Annotated[EngineName, typer.Option(help="Where cells run.")] = EngineName.local,
    address: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Ray cluster, such as 10.0.0.1:6379.", show_default="one started here"),
    ] = None,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Cells at a time.", show_default="1; with ray as many as cores"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the cells and what they will take; run none.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Run methods x data sets x shots x seeds x models, and compare them in one table.

    Each finished cell is kept: the same command after an interruption computes what is missing.
    """
    from sharpzo.bench.cell import expand
    from sharpzo.bench.driver import missing, run_bench
    from sharpzo.bench.recipe import read_recipe
    from sharpzo.bench.results import Store
    from sharpzo.cli.benching import Bars, show, show_plan
    from sharpzo.errors import EngineError

    chosen = _engine(engine, address, workers)
    wanted = read_recipe(recipe)
    cells = expand(wanted, data)
    store = Store(out or Path(f"{recipe.stem}-bench"))
    todo = missing(cells, store)
    if dry_run:
        show_plan(cells, todo, store, as_json)
        return
    with Bars(cells, todo, silent=as_json) as bars:
        try:
            outcome = run_bench(
                wanted.title, cells, store, chosen, (cache or store.folder / "features").resolve(),
                baseline=wanted.baseline, heard=bars.heard, ended=bars.ended,
            )  # fmt: skip
        except KeyboardInterrupt:
            done = sum(cell.key in store for cell in cells)
            bars.say(
                f"stopped: {done} of {len(cells)} cells are in {store.folder}; the same command "
                "goes on from there"
            )
            raise typer.Exit(130) from None
    if as_json:
        print(json.dumps(_document(store.folder, len(cells), outcome)))
    else:
        show(outcome, wanted.title, wanted.baseline, store.folder)
    if outcome.failed:
        cell, error = outcome.failed[0]
        raise EngineError(
            f"{len(outcome.failed)} of {len(cells)} cells failed, the first: {cell.name}: {error}"
        )


def _engine(engine: EngineName, address: str | None, workers: int | None) -> Any:
    from sharpzo.bench.engines import LocalEngine
    from sharpzo.bench.ray import RayEngine
    from sharpzo.errors import InputError

    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}; give 1 or more")
    if engine is EngineName.ray:
        return RayEngine(address, workers)
    if address is not None:
        raise InputError(f"address {address} is a Ray cluster's; add --engine ray")
    return LocalEngine(workers or 1)


def _document(folder: Path, cells: int, outcome: Any) -> dict[str, Any]:
    return {
        "out": str(folder),
        "cells": cells,
        "computed": outcome.computed,
        "failed": [{"cell": cell.name, "error": error} for cell, error in outcome.failed],
        "notes": outcome.notes,
        "rows": [asdict(row) for row in outcome.rows],
        "sections": [asdict(section) for section in outcome.sections],
    }
