"""``sharpzo data``: what is there of the data sets of the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpzo.cli import options

if TYPE_CHECKING:
    from sharpzo.data.inventory import Inventory

EXIT = {"complete": 0, "partial": 1, "unusable": 2}

data = typer.Typer(help="Look at data sets in CoOp's layout.", no_args_is_help=True)


@data.command()
def check(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help=options.DATASETS)],
    root: Annotated[
        Path, typer.Argument(metavar="ROOT", help="Folder of the data set, or its parent.")
    ],
    as_json: options.Json = False,
) -> None:
    """Say what there is of a data set, what is missing, and where its official source is.

    Nothing is fetched. Exit code 0: complete. 1: some of it is there, or it differs from the
    published one. 2: there are no photos or no index files, or the input is wrong.
    """
    from dataclasses import asdict

    from sharpzo.data.inventory import check as take

    found = take(root, dataset)
    if as_json:
        print(json.dumps(asdict(found)))
    else:
        _show(found)
    raise typer.Exit(EXIT[found.state])


def _show(found: Inventory) -> None:
    from sharpzo.cli.screen import Column, Screen

    screen = Screen()
    classes = "" if found.classes is None else f", {found.classes:,} classes"
    screen.say(f"{found.title} in {found.folder}: {found.state}{classes}")
    if found.splits:
        rows = []
        for split, count in found.splits.items():
            published = "" if count.published is None else f"{count.published:,}"
            rows.append([split, f"{count.listed:,}", f"{count.found:,}", published])
        numbers = [Column(title, right=True) for title in ("photos listed", "found", "published")]
        screen.show("Splits", [Column("split"), *numbers], rows)
    for missing in found.missing:
        rest = missing.count - len(missing.first)
        more = f" and {rest:,} more" if rest else ""
        screen.say(f"missing {missing.what} ({missing.count:,}): {', '.join(missing.first)}{more}")
    for note in found.notes:
        screen.say(f"note: {note}")
    if found.draws:
        for line in _draws(found):
            screen.say(line)
    screen.say(f"data set: {found.home}")
    screen.say(f"CoOp's files and layout: {found.instructions}")


def _draws(found: Inventory) -> list[str]:
    short = [
        f"{draw.shots} shots, seed {draw.seed} lacks {draw.missing:,} photos"
        for draw in found.draws
        if draw.missing
    ]
    counts = f"{len(found.draws) - len(short)} of {len(found.draws)} draws"
    which = "seeds 1-3, 1, 2, 4, 8 and 16 shots"
    return [f"{counts} complete ({which})", *(f"  {line}" for line in short)]
