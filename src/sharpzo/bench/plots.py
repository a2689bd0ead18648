"""Plots of test accuracy against forwards and against seconds (extra ``plots``)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sharpzo.bench.table import Row
from sharpzo.errors import optional

LINE = 0.18  # height of a line of the legend, inches


@contextmanager
def style(more: Mapping[str, Any] | None = None) -> Iterator[Callable[..., Any]]:
    """Matplotlib's ``Figure``, under settings of ours and ``more``; no global state is left.

    The same picture comes from the same numbers: no random ids, and names are no formulas. Raises
    `EngineError` without matplotlib.
    """
    figure_of = optional("matplotlib.figure", "plots", "a plot").Figure
    ours = {"svg.hashsalt": "sharpzo", "svg.fonttype": "none", "text.parse_math": False}
    context = optional("matplotlib", "plots", "a plot").rc_context(ours | dict(more or {}))
    with context, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # text of an SVG is drawn by who shows it
        yield figure_of


def plot(rows: list[Row], folder: Path) -> None:
    """Test accuracy at budgets and milestones against what it cost; SVG and PNG for each section.

    Raises `EngineError` without matplotlib.
    """
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.section, []).append(row)
    with style() as figure_of:
        for at, group in groups.items():
            figure = figure_of(figsize=(11, height(group)), layout="constrained")
            axes = figure.subplots(1, 2, sharey=True)
            for axis, cost in zip(axes, ("forwards", "seconds"), strict=True):
                draw(axis, group, cost)
            axes[1].label_outer()
            data_set, tested_on, shots, model = at
            shifted = "" if tested_on == data_set else f", tested on {tested_on}"
            figure.suptitle(f"{data_set}{shifted}, {shots or 'all'} shots, {model} model")
            handles, labels = axes[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
            stem = "-".join(str(part or "all") for part in dict.fromkeys(at))
            name = re.sub(r"[^\w.-]+", "_", f"curves-{stem}")
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
            figure.savefig(folder / f"{name}.png", dpi=150)


def height(rows: list[Row]) -> float:
    """Inches that a plot takes with its legend."""
    return max(4.6, LINE * len({row.method for row in rows}) + 0.6)


def draw(axis: Any, rows: list[Row], cost: str) -> None:
    """Test accuracy of each method against its ``cost``, "forwards" or "seconds": the mean over
    seeds, with their range; methods without a search are level lines."""
    methods = list(dict.fromkeys(row.method for row in rows))
    for number, method in enumerate(methods):
        # Ten colours, then the same ones dashed: forty methods can still be distinguished.
        style = {"color": f"C{number % 10}", "linestyle": ("-", "--", ":", "-.")[number // 10 % 4]}
        mine = [row for row in rows if row.method == method]
        budgets = sorted({row.budget for row in mine if row.budget is not None})
        if not budgets:
            level = 100 * sum(row.test_accuracy for row in mine) / len(mine)
            axis.axhline(level, linewidth=1, alpha=0.7, label=method, **style)
            continue
        points = []
        for budget in budgets:
            at = [row for row in mine if row.budget == budget]
            values = [100 * row.test_accuracy for row in at]
            spent = sum(getattr(row, cost) for row in at) / len(at)
            points.append((max(spent, 1e-3), sum(values) / len(values), min(values), max(values)))
        x, mean, low, high = zip(*points, strict=True)
        axis.plot(x, mean, marker="o", markersize=3, label=method, **style)
        axis.fill_between(x, low, high, color=style["color"], alpha=0.12, linewidth=0)
    if any(row.budget is not None for row in rows):
        axis.set_xscale("log")
        low, high = axis.get_xlim()
        # Matplotlib's own would be formulas, which are shown as they are written.
        axis.xaxis.set_major_formatter("{x:,g}")
        axis.xaxis.set_minor_formatter("{x:,g}" if high < 10 * low else "")
    axis.set_xlabel("forwards" if cost == "forwards" else "seconds of the fit")
    axis.set_ylabel("test accuracy, %")
    axis.grid(alpha=0.3)
