"""``sharpzo predict``: names for photos."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sharpzo.cli import options


def predict(
    run: options.Run,
    images: Annotated[
        list[Path],
        typer.Argument(
            help="Photos, folders of photos, zip files; - reads paths from standard input.",
            metavar="IMAGES…",
        ),
    ],
    top: Annotated[int, typer.Option(help="Classes to show for each photo.", min=1)] = 5,
    classes: options.Classes = None,
    model: options.Model = None,
    memory_limit: options.MemoryLimit = None,
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
    plugin: options.Plugin = [],  # noqa: B006
    as_json: options.Json = False,
) -> None:
    """Name the most probable classes of each photo.

    A photo that cannot be used has an error in place of classes, and the exit code is then 1.
    """
    from sharpzo.classifier import PromptClassifier
    from sharpzo.data.gather import gather
    from sharpzo.errors import PhotosError
    from sharpzo.wording import printable

    classifier = PromptClassifier.load(
        run,
        model=model,
        cache=options.feature_cache(cache, no_cache),
        memory_limit=memory_limit,
    )
    if classes is not None:
        classifier = classifier.rename(options.names(classes))
    photos = gather(images, getattr(sys.stdin, "buffer", None))
    reasons: dict[str, str] = {}
    try:
        probabilities = classifier.predict_proba(photos)
    except PhotosError as found:  # the others are answered
        reasons = {error.photo: error.reason for error in found.errors}
        probabilities = classifier.predict_proba([p for p in photos if p.name not in reasons])
    answers = iter(probabilities)
    rows: list[dict[str, Any]] = []
    for photo in photos:
        if photo.name in reasons:
            rows.append({"path": photo.name, "error": reasons[photo.name]})
            continue
        row = next(answers)
        order = row.argsort()[::-1][:top]
        best = [{"label": str(classifier.classes_[k]), "probability": float(row[k])} for k in order]
        rows.append({"path": photo.name, **best[0], "top": best})
    if as_json:
        print(json.dumps(rows))
    for found in [] if as_json else rows:
        if "error" in found:
            said = f"sharpzo: photo {found['path']} {found['error']}"
            print(printable(said), file=sys.stderr)
            continue
        guesses = ", ".join(f"{g['label']} {100 * g['probability']:.1f} %" for g in found["top"])
        print(printable(f"{found['path']}: {guesses}"))
    if reasons:
        raise typer.Exit(1)
