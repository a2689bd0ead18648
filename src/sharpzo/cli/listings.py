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
