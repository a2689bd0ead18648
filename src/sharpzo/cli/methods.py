"""``sharpzo methods``: what can be chosen with --method."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

from sharpzo.cli import options


def methods(
    plugin: options.Plugin = [],  # noqa: B006
    as_json: options.Json = False,
) -> None:
    """List every method with its presets and its settings."""
    from rich.console import Console
    from rich.table import Table

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
    table = Table(title="Methods", title_justify="left")
    for column in ("--method", "what it is", "unseen classes", "--preset"):
        table.add_column(column)
    for method in METHODS.values():
        kept = "yes" if method.rename else "no"
        table.add_row(method.name, method.summary, kept, _short(method.presets))
    console = Console()
    console.print(table)
    console.print(
        "A preset with … has one for each of several data sets, such as paper/eurosat; "
        "--json names all of them, with the settings.",
        highlight=False,
        soft_wrap=True,
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
