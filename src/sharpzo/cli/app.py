"""All commands under one name."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sharpzo import __version__
from sharpzo.cli.apply import evaluate, predict
from sharpzo.cli.bench import bench
from sharpzo.cli.check import check
from sharpzo.cli.demo_run import demo
from sharpzo.cli.fit import fit
from sharpzo.cli.listings import cache, data, methods
from sharpzo.cli.report import report
from sharpzo.cli.update import add, forget
from sharpzo.wording import printable


class Commands(TyperGroup):
    """Ends every command in the same way: output is flushed, an interrupt gets one sentence."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that ``ctx`` names."""
        try:
            result = super().invoke(ctx)
        except KeyboardInterrupt as stop:
            said = f"stopped: {stop}" if str(stop) else "stopped; nothing was written"
            print(f"sharpzo: {printable(said)}", file=sys.stderr)
            raise typer.Exit(130) from None
        sys.stdout.flush()  # a full disk is an error of this command, not of the interpreter's end
        return result


app = typer.Typer(
    cls=Commands,
    name="sharpzo",
    help="Adapt a frozen vision-language model to your own photos with forward passes only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its imports and boxes take 0.1 s of each --help
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


for command in (
    demo, check, fit, predict, evaluate, add, forget, report, bench, methods, cache,
):  # fmt: skip
    app.command()(command)
app.add_typer(data, name="data")
