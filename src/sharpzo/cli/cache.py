"""``sharpzo cache``: the image features that are kept."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from sharpzo.cli import options


def cache(
    cache: options.Cache = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove all features.")] = False,
    as_json: options.Json = False,
) -> None:
    """Show or clear the image features that are kept, so that no photo is encoded twice.

    Beyond the limit, 1 GB or what the environment variable SHARPZO_CACHE_SIZE says, those go that
    were not used for longest.
    """
    from sharpzo.cli.screen import Screen
    from sharpzo.memory import MB
    from sharpzo.towers.feature_store import FeatureStore

    chosen = options.feature_cache(cache)
    assert chosen is not None  # it is not off
    store = FeatureStore(chosen)
    before = store.usage()
    if clear:
        store.clear()
    found = store.usage()
    if as_json:
        print(json.dumps({
            "folder": str(chosen), "photos": found.photos, "bytes": found.bytes,
            "limit": found.limit, "removed": before.photos - found.photos,
        }))  # fmt: skip
        return
    if clear:
        Screen().print(f"Removed the features of {before.photos:,} photos.")
    Screen().print(
        f"{chosen}: features of {found.photos:,} photos, {found.bytes / MB:,.1f} MB of "
        f"{found.limit / MB:,.0f} MB allowed"
    )
