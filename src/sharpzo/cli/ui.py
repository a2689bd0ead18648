"""``sharpzo ui``: the page in the browser for whoever would rather look than type."""

from __future__ import annotations

import secrets
import tempfile
import threading
import webbrowser
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from sharpzo.cli import options


def ui(
    folder: Annotated[
        Path | None,
        Argument(
            help="Folder to keep photos and runs in; classes of photos that are there can be "
            "taken.",
            show_default="a new one among the temporary files",
            metavar="FOLDER",
        ),
    ] = None,
    port: Annotated[int, Option(help="Port of 127.0.0.1; 0: a free one.", min=0, max=65535)] = 0,
    no_browser: Annotated[
        bool, Option("--no-browser", help="Print the address, and open no browser.")
    ] = False,
    model: options.Model = None,
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
) -> None:
    """Open a page on which photos are dropped, tuned on, tried and exported (extra: web).

    Nothing leaves this machine. Ctrl-C ends it; a search that runs can go on another time.
    """
    from importlib.util import find_spec

    from sharpzo.errors import InputError, optional
    from sharpzo.export.browser_runtime import find_runtime
    from sharpzo.fitting.job import absolute
    from sharpzo.storage.files import Hold
    from sharpzo.towers.checkpoint import resolve
    from sharpzo.wording import quoted

    for package in ("starlette", "uvicorn"):
        optional(package, "web", "the page")
    from sharpzo.web.guard import LOOPBACK, Guard
    from sharpzo.web.live_page import LivePage
    from sharpzo.web.running import address, listen, run
    from sharpzo.web.tabs import Tabs

    kept = options.feature_cache(cache, no_cache)
    resolve(model)  # raises where there is none
    if folder is None:
        home = Path(tempfile.mkdtemp(prefix="sharpzo-ui-"))
    else:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file; give a folder")
        home = folder / ".sharpzo-ui"  # hidden: it is none of the classes beside it
        home.mkdir(0o700, parents=True, exist_ok=True)
    try:
        find_runtime(None, options.user_cache())
        web = True
    except InputError:
        web = False
    can = {"web": web, "report": all(map(find_spec, ("jinja2", "matplotlib")))}
    hold = Hold(home, f"the folder {home}")
    tabs = Tabs(home.absolute(), kept, folder, absolute(model))
    token, once = (secrets.token_urlsafe(16) for _ in range(2))
    page = LivePage(tabs, token, can, once)
    try:
        listening = listen("127.0.0.1", port)
        where = f"{address(listening)}/#"

        def ready(stop: object) -> None:
            print(f"The page is at  {where}{token}", flush=True)
            print(f"Photos and runs are kept in {quoted(home)}. Ctrl-C ends it.", flush=True)
            if not no_browser:
                # A browser of the terminal would let us wait.
                threading.Thread(target=webbrowser.open, args=(where + once,), daemon=True).start()

        run(Guard(page.app(), hosts=LOOPBACK), listening, ready, page.close)
    finally:
        tabs.close()
        hold.release()
