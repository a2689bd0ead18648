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
            help="Folder with one subfolder a class, or with train/, val/, test/ of that shape.",
        ),
    ],
    out: options.Out,
    model: options.Model = None,
    shots: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Training photos a class.", show_default="all"),
    ] = None,
    seed: options.Seed = 1,
    method: options.Method = "sharpzo",
    preset: options.Preset = None,
    change: options.Settings = [],  # noqa: B006  (Typer copies it)
    budget_forwards: options.Forwards = None,
    budget_seconds: options.Seconds = None,
    budget_steps: options.Steps = None,
    dataset: options.Dataset = None,
    template: options.Template = "a photo of a {}.",
    threads: options.Threads = None,
    plugin: options.Plugin = [],  # noqa: B006
    as_json: options.Json = False,
) -> None:
    """Tune the model on your photos and write a run folder that 'predict' uses."""
    from sharpzo.budget import Budget
    from sharpzo.classifier import PromptClassifier
    from sharpzo.cli.fitting import fit_and_write
    from sharpzo.data.intake import load
    from sharpzo.settings import parse_assignments

    classifier = PromptClassifier(
        method,
        preset=preset,
        settings=parse_assignments(change),
        model=model,
        template=template,
        seed=seed,
        budget=Budget(budget_forwards, budget_seconds, budget_steps),
        threads=threads,
    )
    photos = load(data, dataset=dataset, shots=shots, seed=seed)
    fit_and_write(classifier, photos, out, yardstick="projection", as_json=as_json)
