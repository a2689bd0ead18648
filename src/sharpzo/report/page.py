"""One self-contained HTML file, by Jinja2: fill the template and write the page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from sharpzo.errors import ArtifactError, InputError, optional
from sharpzo.storage.artifact import RECORD
from sharpzo.storage.files import write_atomically
from sharpzo.storage.journal import HISTORY
from sharpzo.wording import utf8


def percent(fraction: float | None, digits: int = 1) -> str:
    """0.8123 -> '81.2 %' (with a space that does not break); None -> 'n/a'."""
    return "n/a" if fraction is None else f"{100 * fraction:.{digits}f}\u00a0%"


def kind_of(folder: str | Path) -> Literal["run", "bench"]:
    """``run`` or ``bench``; ArtifactError for anything else."""
    folder = Path(folder)
    if (folder / RECORD).is_file() or (folder / HISTORY).is_file():
        return "run"
    if (folder / "cells").is_dir():
        return "bench"
    if not folder.is_dir():
        raise ArtifactError(f"there is no folder {folder}; give one that 'sharpzo fit' wrote")
    raise ArtifactError(
        f"{folder} is neither a run (it has no {RECORD}) nor a bench (it has no cells/); give a "
        "folder that 'sharpzo fit' or 'sharpzo bench' wrote"
    )


def check_packages(charts: bool) -> None:
    """Raise EngineError, with the command to install it, if a package that draws is missing.

    To be called before anything is computed: a landscape can take minutes.
    """
    for package in ("jinja2", "matplotlib") if charts else ("jinja2",):
        optional(package, "report", "a report")


def render(template: str, content: Mapping[str, Any]) -> str:
    """Fill ``templates/<template>``; text is escaped, `safe` markup (our SVG) is not."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("sharpzo.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment.get_template(template).render(content)


def write(html: str, out: Path) -> Path:
    """Write the page whole or not at all."""
    if out.is_dir():
        raise InputError(f"{out} is a folder; give a file such as {out / 'report.html'} as --out")
    try:
        write_atomically(out, utf8(html))
    except OSError as error:
        raise ArtifactError(f"cannot write the report {out}: {error.strerror}") from None
    return out
