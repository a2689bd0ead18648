"""Charts of a report: numbers to one SVG string each, by matplotlib (extra ``report``).

Grey is the untuned model, the accent colour the tuned one. Colours become those of the page, which
may be dark, and text stays text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from sharpzo.bench.plots import style
from sharpzo.types import Array

Kind = Literal["before", "after"]
INK, QUIET, ACCENT, GREY, RULE, PAPER = (
    "#1c2226", "#667076", "#14626f", "#b3b6b5", "#e3e0d8", "#fcfbf8",
)  # fmt: skip
_THEME = {INK: "ink", QUIET: "quiet", ACCENT: "accent", GREY: "grey", RULE: "rule", PAPER: "paper"}
_PERCENT = "{x:.0%}"
_COLOURS = {"before": GREY, "after": ACCENT}
_STYLE = {
    "font.size": 9, "font.family": "sans-serif", "text.color": INK, "axes.labelcolor": QUIET,
    "axes.edgecolor": QUIET, "axes.spines.top": False, "axes.spines.right": False,
    "axes.spines.left": False, "axes.grid": True, "axes.axisbelow": True, "grid.color": RULE,
    "xtick.color": QUIET, "ytick.color": QUIET, "ytick.left": False, "legend.frameon": False,
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A line of a chart: its name and equally many x and y; None is left out."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float | None]
    kind: Kind = "after"


def chart(
    draw: Callable[[Any], None], title: str, *, width: float = 4.6, height: float = 3.1
) -> str:
    """SVG of what ``draw`` puts on axes of ``width`` x ``height`` inches; ``title`` tells it."""
    with style(_STYLE) as figure_of:
        figure = figure_of(figsize=(width, height), layout="constrained")
        draw(figure.subplots())
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for colour, name in _THEME.items():
        svg = svg.replace(colour, f"var(--{name})")
    described = f'<svg class="figure" role="img" aria-label={quoteattr(title)}'
    opened, content = svg[4:].split(">", 1)
    return f"{described}{opened}><title>{escape(title)}</title>{content}"


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    fractions: bool = False,
    marks: Sequence[tuple[float, str]] = (),
    dot: tuple[float, float, str] | None = None,
) -> str:
    """Lines against forwards; points that are not finite are left out.

    ``fractions``: y is shown as per cent. ``marks`` are vertical lines with a word, ``dot`` a
    point (x, y) with a word.
    """

    def draw(axes: Any) -> None:
        for one in lines:
            ys = np.array(one.ys, float)  # None becomes NaN
            kept = np.isfinite(ys)
            axes.plot(np.array(one.xs, float)[kept], ys[kept], color=_COLOURS[one.kind],
                      label=one.name, marker="o" if kept.sum() == 1 else None)  # fmt: skip
        for x, word in marks:
            axes.axvline(x, color=INK, linestyle=":", linewidth=1)
            axes.annotate(word, (x, 0.02), xycoords=("data", "axes fraction"),
                          xytext=(4, 0), textcoords="offset points")  # fmt: skip
        if dot is not None:
            axes.plot(*dot[:2], "o", color=ACCENT, markerfacecolor=PAPER, markersize=7)
            axes.annotate(dot[2], dot[:2], xytext=(0, 8), textcoords="offset points", ha="center")
        axes.margins(y=0.12)
        axes.set_xlabel("forwards")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        if fractions:
            axes.yaxis.set_major_formatter(_PERCENT)
        axes.legend()

    return chart(draw, title)


def reliability(
    confidence: Array, accuracy: Array, counts: Array, *, title: str, kind: Kind, words: str
) -> str:
    """Accuracy against mean probability of the bins that hold photos; area is their number."""

    def draw(axes: Any) -> None:
        held = counts > 0
        axes.plot([0, 1], [0, 1], ":", color=QUIET, linewidth=1)
        axes.vlines(confidence[held], confidence[held], accuracy[held], color=_COLOURS[kind])
        axes.scatter(confidence[held], accuracy[held], color=_COLOURS[kind], zorder=3,
                     s=10 + 250 * counts[held] / max(counts.max(initial=1), 1))  # fmt: skip
        axes.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), aspect="equal")
        axes.set_xlabel("probability")
        axes.set_ylabel("share that was right")
        axes.set_title(words, loc="left", fontsize=10)
        axes.xaxis.set_major_formatter(_PERCENT)
        axes.yaxis.set_major_formatter(_PERCENT)

    return chart(draw, title, width=4, height=4.2)


def surface(
    losses: Array, *, low: float, high: float, radius: float, title: str, words: str
) -> str:
    """Losses (S, S) over a square grid as filled contours; the cross is the solution.

    ``low`` and ``high`` are the ends of the colours; what is above, or not finite, is drawn at
    ``high``.
    """
    high = high if high > low else low + 1.0
    shown = np.clip(np.nan_to_num(losses, nan=high, posinf=high), low, high)

    def draw(axes: Any) -> None:
        axis = np.linspace(-radius, radius, len(losses))
        found = axes.contourf(axis, axis, shown.T, np.linspace(low, high, 13), cmap="GnBu_r")
        axes.figure.colorbar(found, ax=axes, label="loss", shrink=0.8, format="%.3g")
        axes.plot(0, 0, "+", color="black", markersize=11, markeredgewidth=1.5)
        axes.set(aspect="equal", xlabel="direction 1", ylabel="direction 2")
        axes.set_title(words, loc="left", fontsize=10)
        axes.grid(visible=False)

    return chart(draw, title, width=4.4, height=3.7)
