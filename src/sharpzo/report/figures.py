"""Charts of a report, each a function from numbers to one SVG string.

``before`` is always the untuned model (grey), ``after`` the tuned one (the accent colour).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sharpzo.report.svg import element, figure, line, number, percent, polyline, short, text, ticks
from sharpzo.types import Array

Kind = Literal["before", "after", "second"]
WIDTH, HEIGHT = 380.0, 250.0  # of a chart that fits a telephone: text is read at its own size
NAMED = 60  # classes of a confusion matrix that still get names
COUNTED = 24  # classes of a confusion matrix that still get figures


@dataclass(frozen=True)
class Line:
    """One line of a chart: its name and equally many x and y."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    kind: Kind = "after"


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    fractions: bool = False,
    marks: Sequence[tuple[float, str]] = (),
    dot: tuple[float, float, str] | None = None,
) -> str:
    """Lines over a common x axis; points that are not finite are left out.

    ``fractions``: y is shown as per cent. ``marks`` are vertical lines with a word, ``dot`` a
    point (x, y) with a word.
    """
    drawn = [_finite(one) for one in lines]
    xs = [x for one in drawn for x in one.xs] + [x for x, _ in marks] or [0.0]
    ys = [y for one in drawn for y in one.ys] or [0.0]
    x_low, x_high = 0.0, max(xs) or 1.0
    y_low, y_high = _padded(min(ys), max(ys), floor=fractions)
    if dot is not None:
        y_high += 0.12 * (y_high - y_low)  # room for its word
    left, right, top, bottom = 46.0, WIDTH - 12, 34.0, HEIGHT - 40

    def at_x(x: float) -> float:
        return left + (x - x_low) / (x_high - x_low) * (right - left)

    def at_y(y: float) -> float:
        return bottom - (y - y_low) / (y_high - y_low) * (bottom - top)

    out = []
    for y in ticks(y_low, y_high, 4):
        out.append(line(left, at_y(y), right, at_y(y), class_="grid"))
        label = percent(y, 0) if fractions else _plain(y)
        out.append(text(left - 7, at_y(y) + 3.5, label, class_="tick", text_anchor="end"))
    for x in ticks(x_low, x_high, 4):
        out.append(text(at_x(x), bottom + 17, f"{x:,.0f}", class_="tick", text_anchor="middle"))
    out.append(line(left, bottom, right, bottom, class_="axis"))
    out.append(text(right, bottom + 34, x_label, class_="label", text_anchor="end"))
    for x, word in marks:
        out.append(line(at_x(x), top, at_x(x), bottom, class_="switch"))
        late = at_x(x) > (left + right) / 2
        place = at_x(x) + (-5 if late else 5)
        anchor = "end" if late else "start"
        out.append(text(place, bottom - 6, word, class_="note", text_anchor=anchor))
    for one in drawn:
        points = [(at_x(x), at_y(y)) for x, y in zip(one.xs, one.ys, strict=True)]
        if points:
            out.append(polyline(points, class_=f"line {one.kind}"))
    if dot is not None:
        x, y, word = dot
        out.append(element("circle", cx=at_x(x), cy=at_y(y), r=4.5, class_="dot"))
        near_end = at_x(x) > right - 30
        anchor = "end" if near_end else "middle"
        place = min(at_x(x) + 6, right) if near_end else at_x(x)
        out.append(text(place, at_y(y) - 10, word, class_="note", text_anchor=anchor))
    out += _legend([(one.name, one.kind) for one in lines], left)
    return figure(WIDTH, HEIGHT, title, out, "chart")


def class_bars(
    names: Sequence[str],
    before: Sequence[float | None],
    after: Sequence[float | None],
    *,
    title: str,
) -> str:
    """Two bars per class with their per cent; None where a class has no photo."""
    row, left, right = 34.0, 112.0, WIDTH - 48
    height = 30 + row * len(names) + 6
    out = _legend([("before", "before"), ("after", "after")], left)
    for i, (name, *values) in enumerate(zip(names, before, after, strict=True)):
        y = 34 + i * row
        out.append(
            text(left - 9, y + 15, short(name, 16), hint=name, class_="name", text_anchor="end")
        )
        out.append(line(left, y, left, y + 23, class_="axis"))
        for value, kind, below in zip(values, ("before", "after"), (0, 12), strict=True):
            wide = (value or 0.0) * (right - left)
            out.append(
                element("rect", x=left, y=y + below, width=wide, height=10, rx=1.5,
                        class_=f"bar {kind}")
            )  # fmt: skip
            label = "n/a" if value is None else percent(value, 0)
            out.append(text(left + wide + 6, y + below + 9, label, class_=f"tick {kind}"))
    return figure(WIDTH, height, title, out, "bars")


def heat_map(counts: Array, names: Sequence[str], *, title: str) -> str:
    """Confusion matrix: counts (K, K), rows are true classes; shade is the share of the row."""
    many = len(names)
    named = many <= NAMED
    cell = max(5.0, min(40.0, 620.0 / many)) if named else max(2.0, 620.0 / many)
    margin = 116.0 if named else 24.0
    top = margin * 0.72 if named else 24.0
    side = cell * many
    totals = np.maximum(counts.sum(axis=1), 1)
    size = number(min(11.5, cell * 0.8))
    out = [element("rect", x=margin, y=top, width=side, height=side, class_="field")]
    for i, j in zip(*np.nonzero(counts), strict=True):
        share = float(counts[i, j] / totals[i])
        x, y = margin + cell * float(j), top + cell * float(i)
        hint = f"{names[i]} taken for {names[j]}: {counts[i, j]} of {totals[i]}"
        box = element(
            "rect",
            element("title", _escaped(hint)),
            x=x + 0.5,
            y=y + 0.5,
            width=cell - 1,
            height=cell - 1,
            class_="right" if i == j else "wrong",
            fill_opacity=0.06 + 0.94 * share if i == j else 0.06 + 0.84 * share,
        )
        out.append(box)
        if many <= COUNTED:
            strong = "strong" if share > 0.5 else "weak"
            out.append(
                text(x + cell / 2, y + cell / 2 + 4, str(int(counts[i, j])),
                     class_=f"count {strong}", text_anchor="middle", style=f"font-size:{size}px")
            )  # fmt: skip
    if named:
        for k, name in enumerate(names):
            middle = cell * (k + 0.5)
            label = short(name, 16)
            out.append(
                text(margin - 8, top + middle + 4, label, hint=name, class_="name",
                     text_anchor="end", style=f"font-size:{size}px")
            )  # fmt: skip
            turn = f"rotate(-40 {number(margin + middle)} {number(top - 7)})"
            out.append(
                text(margin + middle, top - 7, label, hint=name, class_="name", transform=turn,
                     style=f"font-size:{size}px")
            )  # fmt: skip
    return figure(margin + side + (46 if named else 8), top + side + 6, title, out, "heat")


def reliability(
    confidence: Array, accuracy: Array, counts: Array, *, title: str, kind: Kind, words: str
) -> str:
    """Accuracy against mean probability of the bins that hold photos; area is their number."""
    left, right, top, bottom = 46.0, 296.0, 34.0, 284.0

    def at(x: float, y: float) -> tuple[float, float]:
        return left + x * (right - left), bottom - y * (bottom - top)

    out = []
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = at(value, value)
        out.append(line(left, y, right, y, class_="grid"))
        out.append(text(left - 7, y + 3.5, percent(value, 0), class_="tick", text_anchor="end"))
        out.append(text(x, bottom + 17, percent(value, 0), class_="tick", text_anchor="middle"))
    out.append(line(*at(0, 0), *at(1, 1), class_="ideal"))
    held = counts > 0
    most = counts.max() if len(counts) else 1
    for c, a, n in zip(confidence[held], accuracy[held], counts[held], strict=True):
        x, y = at(float(c), float(a))
        out.append(line(x, y, *at(float(c), float(c)), class_=f"gap {kind}"))
        radius = 2.5 + 9 * math.sqrt(float(n) / float(most))
        hint = f"{n} photos: probability {percent(float(c))}, right {percent(float(a))}"
        out.append(
            element("circle", element("title", _escaped(hint)), cx=x, cy=y, r=radius,
                    class_=f"bin {kind}")
        )  # fmt: skip
    out.append(text(left, 18, words, class_=f"legend {kind}"))
    out.append(text(right, bottom + 34, "probability", class_="label", text_anchor="end"))
    out.append(text(left + 6, top + 12, "share that was right", class_="label"))
    return figure(312, 324, title, out, "reliability")


def _escaped(words: str) -> str:
    return words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _legend(entries: Sequence[tuple[str, str]], x: float) -> list[str]:
    out = []
    for name, kind in entries:
        out.append(element("rect", x=x, y=11, width=14, height=4, rx=2, class_=f"swatch {kind}"))
        out.append(text(x + 20, 17, name, class_="legend"))
        x += 34 + 6.4 * len(name)
    return out


def _finite(one: Line) -> Line:
    kept = [
        (float(x), float(y))
        for x, y in zip(one.xs, one.ys, strict=True)
        if math.isfinite(x) and math.isfinite(y)
    ]
    return Line(one.name, [x for x, _ in kept], [y for _, y in kept], one.kind)


def _padded(low: float, high: float, *, floor: bool) -> tuple[float, float]:
    """An axis with some air; fractions stay within 0 and 1."""
    air = 0.08 * (high - low) or 0.1
    low, high = low - air, high + air
    return (max(0.0, low), min(1.0, high)) if floor else (low, high)


def _plain(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
