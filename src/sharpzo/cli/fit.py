"""``sharpzo fit``: a classifier of your photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from sharpzo.cli import options


def fit(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Folder with one subfolder per class, or with train/, val/, test/ of that shape; "
            "a zip file of one; or any folder with --labels.",
        ),
    ],
    out: options.Out,
    model: options.Model = None,
    shots: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Training photos per class.", show_default="all"),
    ] = None,
    seed: options.Seed = 1,
    method: options.Method = options.DEFAULT,
    preset: options.Preset = None,
    change: options.Settings = [],  # noqa: B006  (Typer copies it)
    budget_forwards: options.Forwards = None,
    budget_seconds: options.Seconds = None,
    budget_steps: options.Steps = None,
    labels: options.Labels = None,
    dataset: options.Dataset = None,
    half: options.Halved = None,
    test_on: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="A second test set: the same classes, or some, in other photos.", metavar="DATA"
        ),
    ] = None,
    test_on_dataset: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Name of that set, if it has CoOp's layout."),
    ] = None,
    template: options.Template = "a photo of a {}.",
    threads: options.Threads = None,
    engine: options.Engine = "onnxruntime",
    precision: options.Precision = "float32",
    memory_limit: options.MemoryLimit = None,
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
    skip_damaged: Annotated[
        bool,
        typer.Option("--skip-damaged", help="Leave out photos that cannot be used, with a note."),
    ] = False,
    plugin: options.Plugin = [],  # noqa: B006
    as_json: options.Json = False,
) -> None:
    """Tune the model on your photos and write a run folder that 'predict' uses."""
    from sharpzo.budget import Budget
    from sharpzo.cli.fitting import fit_and_write
    from sharpzo.data.loading import load, read
    from sharpzo.fitting import Fitter
    from sharpzo.settings import parse_assignments

    fitter = Fitter.of(
        method,
        preset=preset,
        settings=parse_assignments(change),
        model=model,
        template=template,
        seed=seed,
        budget=Budget(budget_forwards, budget_seconds, budget_steps),
        threads=threads,
        engine=engine,  # type: ignore[arg-type]  (checked there)
        precision=precision,  # type: ignore[arg-type]
        cache=options.feature_cache(cache, no_cache),
        memory_limit=memory_limit,
    )
    photos = load(data, dataset=dataset, shots=shots, seed=seed, labels=labels)
    if half is not None:
        photos = half.of(photos)
    shifted = None if test_on is None else read(test_on, test_on_dataset)
    fit_and_write(
        fitter,
        photos,
        out,
        yardstick=options.DEFAULT,
        shifted=shifted,
        skip_damaged=skip_damaged,
        as_json=as_json,
    )
