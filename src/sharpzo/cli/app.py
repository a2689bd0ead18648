"""All commands under one name."""

from __future__ import annotations

from typing import Annotated

import typer

from sharpzo import __version__
from sharpzo.cli.bench import bench
from sharpzo.cli.data import data
from sharpzo.cli.demo import demo
from sharpzo.cli.evaluate import evaluate
from sharpzo.cli.fit import fit
from sharpzo.cli.methods import methods
from sharpzo.cli.predict import predict

app = typer.Typer(
    name="sharpzo",
    help="Adapt a frozen vision-language model to your own photos with forward passes only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"sharpzo {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    pass


for command in (demo, fit, predict, evaluate, methods, bench):
    app.command()(command)
app.add_typer(data, name="data")
