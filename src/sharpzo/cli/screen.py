"""Sentences and tables on the terminal: names as they are, important columns never cut."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sharpzo.wording import printable

FILE_WIDTH = 120  # of a table that goes into a file or a pipe, where its columns need no more


def percent(fraction: float | None) -> str:
    """0.8123 -> '81.2 %'; None -> 'n/a'.

    >>> percent(0.8123)
    '81.2 %'
    """
    return "n/a" if fraction is None else f"{100 * fraction:.1f} %"


@dataclass(frozen=True)
class Column:
    """A column of a table; only one that ``wraps`` is broken into lines where room is scarce."""

    title: str
    right: bool = False
    wraps: bool = False


class Screen(Console):
    """A console that reads no markup in a text, and escapes control characters.

    Without a terminal (and without COLUMNS) a table is as wide as it needs to be.
    """

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        self._elastic = False
        super().__init__(stderr=stderr, quiet=quiet, markup=False, emoji=False, highlight=False)
        columns = os.environ.get("COLUMNS", "")
        if columns.isdigit() and int(columns):
            return
        if not self.is_terminal:
            self.width, self._elastic = FILE_WIDTH, True
        elif columns:  # 0 would show nothing
            self.width = shutil.get_terminal_size().columns

    def render_str(self, text: str, **options: Any) -> Text:
        """Every text that is printed passes here."""
        return super().render_str(printable(text), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; progress that cannot be written does not stop the work."""
        try:
            super().print(*objects, **options)
        except OSError:
            if not self.stderr:
                raise
            self.quiet = True

    def say(self, sentence: str) -> None:
        """Print a sentence on a line of its own, however long."""
        self.print(sentence, soft_wrap=True)

    def show(self, title: str, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
        """Print a table; where the screen is too narrow for it, a few lines for each row."""
        shown = [[printable(cell) for cell in row] for row in rows]
        widths = [_width(column, k, shown) for k, column in enumerate(columns)]
        self.say(title)
        least = sum(widths) + 3 * len(columns) + 1
        if self._elastic:
            self.width = max(self.width, least)
        if least > self.width:
            self._show_rows(columns, shown)
            return
        table = Table()
        for column, width in zip(columns, widths, strict=True):
            table.add_column(
                column.title,
                justify="right" if column.right else "left",
                width=None if column.wraps else width,
                overflow="fold",
            )
        for row in shown:
            table.add_row(*row)
        self.print(table)

    def _show_rows(self, columns: Sequence[Column], rows: list[list[str]]) -> None:
        margin = max(cell_len(column.title) for column in columns)
        for first, *rest in rows:
            self.say(first)
            for column, cell in zip(columns[1:], rest, strict=True):
                self.say(f"  {column.title.ljust(margin)}  {cell}".rstrip())


def _width(column: Column, k: int, rows: list[list[str]]) -> int:
    """The least width that breaks no word of the title, and no cell unless the column wraps."""
    cells = [row[k] for row in rows]
    pieces = [word for cell in cells for word in cell.split()] if column.wraps else cells
    return max((cell_len(piece) for piece in (*column.title.split(), *pieces)), default=0)
