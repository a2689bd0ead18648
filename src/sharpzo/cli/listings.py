"""``sharpzo methods``, ``cache`` and ``data check``: lists."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from sharpzo.cli import options

if TYPE_CHECKING:
    from sharpzo.data.inventory import Inventory

EXIT = {"complete": 0, "partial": 1, "unusable": 2}

data = typer.Typer(help="Look at data sets in CoOp's layout.", no_args_is_help=True)


def methods(
    plugin: options.Plugin = [],  # noqa: B006
    as_json: options.Json = False,
) -> None:
    """List every method with its presets and its settings."""
    from sharpzo.cli.screen import Column, Screen
    from sharpzo.methods import METHODS
    from sharpzo.settings import as_dict

    if as_json:
        print(json.dumps([
            {
                "name": method.name,
                "summary": method.summary,
                "presets": list(method.presets),
                "unseen_classes": method.rename is not None,
                "settings": as_dict(method.settings),
            }
            for method in METHODS.values()
        ]))  # fmt: skip
        return
    screen = Screen()
    screen.show(
        "Methods",
        [
            Column("--method"),
            Column("what it is", wraps=True),
            Column("unseen classes"),
            Column("--preset", wraps=True),
        ],
        [
            [name, method.summary, "yes" if method.rename else "no", _short(method.presets)]
            for name, method in METHODS.items()
        ],
    )
    screen.say(
        "A preset with … has one for each of several data sets, such as paper/eurosat; "
        "--json names all of them, with the settings."
    )


def _short(presets: Iterable[str]) -> str:
    """Presets on one line; the many of one family as one.

    >>> _short(["published", "paper/pets", "paper/dtd", "paper/cars"])
    'published, paper/…'
    """
    families = Counter(name.partition("/")[0] for name in presets if "/" in name)
    shown = [
        f"{family}/…" if rest and families[family] > 2 else name
        for name in presets
        for family, _, rest in [name.partition("/")]
    ]
    return ", ".join(dict.fromkeys(shown))


def cache(
    cache: options.Cache = None,
    clear: Annotated[bool, Option("--clear", help="Remove all features and graphs.")] = False,
    as_json: options.Json = False,
) -> None:
    """Show or clear the cache: image features, so that no photo is encoded twice, and graphs of
    image towers, which open faster than models.

    Beyond the limit (1 GB, or the environment variable SHARPZO_CACHE_SIZE), what was unused for
    longest is deleted.
    """
    from sharpzo.cli.screen import Screen
    from sharpzo.errors import InputError
    from sharpzo.memory import MB
    from sharpzo.towers.feature_store import FeatureStore
    from sharpzo.towers.graph_store import GraphStore

    chosen = options.feature_cache(cache)
    if chosen is None:
        raise InputError("there is no home folder that could hold a cache; name one by --cache")
    store = FeatureStore(chosen)
    graphs = GraphStore(chosen, store.limit)
    before = store.usage()
    if clear:
        store.clear()
        graphs.clear()
    found = store.usage()
    if as_json:
        print(json.dumps({
            "folder": str(chosen), "photos": found.photos, "bytes": found.bytes,
            "graph_bytes": graphs.bytes(), "limit": found.limit,
            "removed": before.photos - found.photos,
        }))  # fmt: skip
        return
    if clear:
        Screen().print(f"Removed the features of {before.photos:,} photos.")
    Screen().print(
        f"{chosen}: features of {found.photos:,} photos, {found.bytes / MB:,.1f} MB of "
        f"{found.limit / MB:,.0f} MB allowed; graphs of {graphs.bytes() / MB:,.1f} MB"
    )


@data.command()
def check(
    dataset: Annotated[str, Argument(metavar="DATASET", help=options.DATASETS)],
    root: Annotated[Path, Argument(metavar="ROOT", help="Folder of the data set, or its parent.")],
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
        short = [draw for draw in found.draws if draw.missing]
        screen.say(
            f"{len(found.draws) - len(short)} of {len(found.draws)} draws complete (seeds 1-3, "
            "1, 2, 4, 8 and 16 shots)"
        )
        for draw in short:
            screen.say(f"  {draw.shots} shots, seed {draw.seed} lacks {draw.missing:,} photos")
    screen.say(f"data set: {found.home}")
    screen.say(f"CoOp's files and layout: {found.instructions}")
