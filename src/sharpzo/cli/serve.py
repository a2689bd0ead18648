"""``sharpzo serve``: runs over HTTP."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from typer import Argument, Option

from sharpzo.cli import options
from sharpzo.wording import printable

VARIABLE = "SHARPZO_TOKEN"
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,}")  # what a Bearer token may hold


def serve(
    runs: Annotated[
        list[Path],
        Argument(help="Folders that 'sharpzo fit' wrote, called by their names.", metavar="RUN…"),
    ],
    host: Annotated[
        str, Option(help="Address to listen on; others than 127.0.0.1 demand a token.")
    ] = "127.0.0.1",
    port: Annotated[int, Option(help="Port; 0: a free one.", min=0, max=65_535)] = 8000,
    token: Annotated[
        str | None,
        Option(
            help="Demand 'Authorization: Bearer TOKEN' of each request, at least 16 letters, "
            "digits and the like. Others can read it here: rather set the variable.",
            envvar=VARIABLE,
            show_default="none on 127.0.0.1; else one is made and printed",
        ),
    ] = None,
    top: Annotated[int, Option(help="Classes to name for each photo.", min=1)] = 5,
    multi: Annotated[
        bool,
        Option("--multi", help="Any number of classes for each photo; needs a model like SigLIP."),
    ] = False,
    lost: options.Lost = None,
    photo_limit: Annotated[
        str, Option(help="Most bytes of a photo, as it is sent.", metavar="SIZE")
    ] = "32MB",
    photo_memory: Annotated[
        str, Option(help="Most memory that decoding a photo may take.", metavar="SIZE")
    ] = "500MB",
    waiting: Annotated[
        int, Option(help="Most photos that wait; further ones are refused (503).", min=1)
    ] = 128,
    model: options.Model = None,
    plugin: options.Plugin = [],  # noqa: B006
) -> None:
    """Answer photos that are sent by HTTP, until Ctrl-C or SIGTERM (extra: web).

    POST a photo's bytes to /RUN, or to / if there is one run, for the JSON document that 'predict
    --json' gives. GET / names runs and classes, GET /health says that it is up. Nothing is kept
    of photos. Photos that arrive together are answered together.
    """
    from sharpzo.errors import InputError, optional
    from sharpzo.memory import parse_size

    for package in ("starlette", "uvicorn"):
        optional(package, "web", "sharpzo serve")
    from sharpzo.models import Models
    from sharpzo.web.guard import LOOPBACK, Guard
    from sharpzo.web.running import address, is_loopback, listen, run
    from sharpzo.web.service import Service
    from sharpzo.web.uploads import Uploads

    if token is not None and not _TOKEN.fullmatch(token):
        raise InputError(
            "the token has less than 16 characters, or others than letters, digits and ._~+/=-; "
            'make one:  python -c "import secrets; print(secrets.token_urlsafe())"'
        )
    most, memory = parse_size(photo_limit), parse_size(photo_memory)
    models = Models(runs, model=model)
    shares = {name: options.share(lost, models.trained(name)) for name in models.runs}
    if multi:
        for name in models.runs:
            models.trained(name).logit_bias()  # raises where there is none
    with listen(host, port) as listening:
        alone = is_loopback(listening)
        made = token is None and not alone
        token = secrets.token_urlsafe() if made else token
        uploads = Uploads(most, 4 * most)
        service = Service(
            models, uploads, lost=shares, top=top, multi=multi, memory=memory, waiting=waiting
        )
        # With a token, a name that leads here is of no use to others.
        hosts = {*LOOPBACK, host.lower()} if token is None else None
        try:
            service.warm()
            run(
                Guard(service.app(), hosts=hosts, token=token),
                listening,
                lambda stop: print(
                    _said(address(listening), models.runs, token), end="", flush=True
                ),
            )
        finally:
            service.close()


def _said(where: str, runs: tuple[str, ...], token: str | None) -> str:
    """Where the service is, and a command that asks it."""
    header = ""
    if token is not None:
        shown = f"${VARIABLE}" if token == os.environ.get(VARIABLE) else token
        header = f'-H "Authorization: Bearer {shown}" '
    path = "/" if len(runs) == 1 else f"/{quote(runs[0], safe='')}"
    return (
        f"serving {printable(', '.join(runs))} at {where}; Ctrl-C ends it\n"
        f"curl {header}--data-binary @photo.jpg {where}{path}\n"
    )
