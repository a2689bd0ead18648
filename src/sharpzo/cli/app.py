"""All commands under one name."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sharpzo import __version__
from sharpzo.wording import printable

# Every command, and the file of this folder that holds the function of its name.
FILES = {
    "demo": "demo_run",
    "check": "check",
    "fit": "fit",
    "predict": "apply",
    "watch": "watch",
    "serve": "serve",
    "evaluate": "apply",
    "add": "update",
    "forget": "update",
    "report": "report",
    "export": "export",
    "ui": "ui",
    "bench": "bench",
    "methods": "listings",
    "cache": "listings",
    "doctor": "doctor",
    "data": "listings",
}


class Commands(TyperGroup):
    """Imports the file of the command that is run and no other, for their imports take time.

    Every command ends in the same way: output is flushed, an interrupt gets one sentence.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = dict.fromkeys(FILES)  # for the help, and for "Did you mean"

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of a name, or nothing."""
        if cmd_name not in FILES:
            return None
        held = getattr(import_module(f"sharpzo.cli.{FILES[cmd_name]}"), cmd_name)
        alone = _group()
        if isinstance(held, typer.Typer):  # commands of its own
            alone.add_typer(held, name=cmd_name)
        else:
            alone.command(cmd_name)(held)
        return typer.main.get_group(alone).commands[cmd_name]

    def invoke(self, ctx: Any) -> Any:
        """Run the command that ``ctx`` names."""
        try:
            result = super().invoke(ctx)
        except KeyboardInterrupt as stop:
            said = f"stopped: {stop}" if str(stop) else "stopped"
            print(f"sharpzo: {printable(said)}", file=sys.stderr)
            raise typer.Exit(130) from None
        sys.stdout.flush()  # a full disk is an error of this command, not of the interpreter's end
        return result


def _group(**settings: Any) -> typer.Typer:
    return typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # its imports and boxes take 0.1 s of each --help
        **settings,
    )


app = _group(
    cls=Commands,
    name="sharpzo",
    help="Adapt a frozen vision-language model to your own photos with forward passes only.",
    no_args_is_help=True,
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
