"""A loss surface as SVG: quads in isometric projection, far ones first, shaded by a lamp."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sharpzo.report.svg import element, figure, line, number, polygon, polyline, text, ticks
from sharpzo.types import Array

# From low to high loss, dark to light: readable in grey and to the colour-blind.
RAMP = ((11, 52, 76), (20, 98, 116), (66, 148, 138), (150, 194, 148), (226, 224, 168),
        (250, 240, 205))  # fmt: skip
SLANT = math.radians(30)
HALF, TALL = 128.0, 132.0  # half the width of the floor and the height of the z axis, in pixels
LAMP = np.array([-0.45, -0.35, 0.82]) / np.linalg.norm([-0.45, -0.35, 0.82])


def colour(share: float, light: float = 1.0) -> str:
    """Colour of the ramp at ``share`` in [0, 1], made darker by ``light`` below 1.

    >>> colour(0.0), colour(1.0)
    ('#0b344c', '#faf0cd')
    """
    place = min(max(share, 0.0), 1.0) * (len(RAMP) - 1)
    low = min(int(place), len(RAMP) - 2)
    part = place - low
    mixed = [(1 - part) * a + part * b for a, b in zip(RAMP[low], RAMP[low + 1], strict=True)]
    return "#" + "".join(f"{round(min(max(c * light, 0), 255)):02x}" for c in mixed)


def surface(
    losses: Array,
    *,
    low: float,
    high: float,
    title: str,
    words: str,
    radius: float = 1.0,
) -> str:
    """Losses (S, S) over a square grid; ``low`` and ``high`` are the ends of height and colour.

    Losses above ``high``, or not numbers, are drawn at ``high``. The pin stands at the centre.
    """
    side = len(losses)
    span = high - low if high > low else 1.0
    shares = np.clip((np.nan_to_num(losses, nan=high, posinf=high) - low) / span, 0.0, 1.0)
    axis = np.linspace(-1.0, 1.0, side)
    middle, floor = 212.0, 260.0

    def at(x: float, y: float, z: float) -> tuple[float, float]:
        return (
            middle + (x - y) * math.cos(SLANT) * HALF * 0.76,
            floor + (x + y) * math.sin(SLANT) * HALF * 0.66 - z * TALL,
        )

    out = [
        polygon([at(-1, -1, 0), at(1, -1, 0), at(1, 1, 0), at(-1, 1, 0)], class_="floor"),
        polygon([at(-1, -1, 0), at(1, -1, 0), at(1, -1, 1), at(-1, -1, 1)], class_="wall"),
        polygon([at(-1, -1, 0), at(-1, 1, 0), at(-1, 1, 1), at(-1, -1, 1)], class_="wall"),
    ]
    for z in ticks(low, high, 5):
        share = (z - low) / span
        out.append(polyline([at(-1, 1, share), at(-1, -1, share), at(1, -1, share)], class_="grid"))
        x, y = at(-1, 1, share)
        out.append(text(x - 7, y + 3.5, f"{z:.3g}", class_="tick", text_anchor="end"))
    slope_x, slope_y = (np.gradient(shares * TALL / HALF, axis, axis=k) for k in (0, 1))
    centre = side // 2
    quads: list[str] = []
    for i, j in sorted(np.ndindex(side - 1, side - 1), key=sum):  # the eye is at +x, +y
        corners = ((i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1))
        level = float(np.mean([shares[c] for c in corners]))
        normal = np.array([-slope_x[i, j], -slope_y[i, j], 1.0])
        light = 0.80 + 0.26 * float(LAMP @ (normal / np.linalg.norm(normal)))
        quads.append(
            polygon(
                [at(float(axis[a]), float(axis[b]), float(shares[a, b])) for a, b in corners],
                fill=colour(level, light),
                stroke=colour(level, light * 0.9),
            )
        )
    out.append(element("g", "".join(quads), class_="mesh"))
    foot = at(0, 0, float(shares[centre, centre]))
    head = (foot[0], foot[1] - 34)
    out += [
        line(*foot, *head, class_="pin halo"),
        line(*foot, *head, class_="pin"),
        element("circle", cx=head[0], cy=head[1], r=4.5, class_="dot"),
    ]
    reach = number(radius)
    for x, y, label in (
        (0.0, 1.42, f"direction 1, ±{reach}"),
        (1.42, 0.0, f"direction 2, ±{reach}"),
    ):
        out.append(text(*at(x, y, 0), label, class_="label", text_anchor="middle"))
    out.append(text(16, 18, words, class_="legend"))
    return figure(392, 372, title, out, "surface")


def colour_bar(low: float, high: float, *, title: str) -> str:
    """What the colours of surfaces mean."""
    left, wide, steps = 10.0, 320.0, 64
    out = [
        element(
            "rect", x=left + wide * k / steps, y=8, width=wide / steps + 0.6, height=12,
            fill=colour((k + 0.5) / steps),
        )
        for k in range(steps)
    ]  # fmt: skip
    span = high - low if high > low else 1.0
    for value in ticks(low, high, 5):
        x = left + (value - low) / span * wide
        out.append(text(x, 36, f"{value:.3g}", class_="tick", text_anchor="middle"))
    out.append(text(left + wide + 10, 18.5, "loss", class_="label"))
    return figure(380, 42, title, out, "colours")


def shared_range(surfaces: Sequence[Array]) -> tuple[float, float]:
    """Lowest and highest finite loss of several surfaces, so that they can be compared."""
    values = np.concatenate([np.ravel(one) for one in surfaces])
    values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
