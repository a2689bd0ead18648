"""``sharpzo demo``: the whole path on the photos inside the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from sharpzo.cli import options


def demo(
    seed: options.Seed = 1,
    method: options.Method = options.DEFAULT,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Folder for the run.", show_default="a new sharpzo-demo-N"),
    ] = None,
    budget_forwards: options.Forwards = None,
    threads: options.Threads = None,
    memory_limit: options.MemoryLimit = None,
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
    as_json: options.Json = False,
) -> None:
    """Tune the embedded model on 160 product photos and test it on 500: no download, no torch."""
    from sharpzo.budget import Budget
    from sharpzo.classifier import PromptClassifier
    from sharpzo.cli.fitting import fit_and_write
    from sharpzo.data.demo import load_demo

    classifier = PromptClassifier(
        method,
        seed=seed,
        budget=Budget(forwards=budget_forwards),
        threads=threads,
        cache=options.feature_cache(cache, no_cache),
        memory_limit=memory_limit,
    )
    fit_and_write(
        classifier,
        load_demo(seed),
        out or _free("sharpzo-demo"),
        yardstick=options.DEFAULT,
        as_json=as_json,
    )


def _free(name: str) -> Path:
    """The first of NAME-1, NAME-2, … that does not exist: a demo may be repeated."""
    number = 1
    while Path(f"{name}-{number}").exists():
        number += 1
    return Path(f"{name}-{number}")
