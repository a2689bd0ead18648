"""Jinja2 templates to one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sharpzo.artifact import write_atomically
from sharpzo.errors import ArtifactError, InputError
from sharpzo.report.svg import percent
from sharpzo.wording import utf8


def render(template: str, content: Mapping[str, Any]) -> str:
    """Fill ``templates/<template>``; text is escaped, `safe` markup (our SVG) is not.

    Raises InputError with the command to install Jinja2 where it is missing.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError:
        raise InputError(
            "a report needs the package jinja2; install it with: pip install 'sharpzo[report]'"
        ) from None
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
