"""Charts of a bench: methods ranked with their intervals, and accuracy against forwards."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sharpzo.report.svg import element, figure, line, percent, polyline, short, text, ticks

WIDTH = 720.0


@dataclass(frozen=True)
class Entry:
    """A method's accuracy (a fraction) with half an interval, if several seeds gave one."""

    name: str
    value: float
    half: float | None
    searched: bool


@dataclass(frozen=True)
class Track:
    """A search's accuracies at forwards, in rising order."""

    name: str
    forwards: Sequence[float]
    values: Sequence[float]


def ranking(entries: Sequence[Entry], *, title: str) -> str:
    """Dots with whiskers, the best above; searches are filled, closed forms open."""
    ordered = sorted(entries, key=lambda entry: -entry.value)
    row, left, right = 25.0, 236.0, WIDTH - 64
    high = min(1.0, max(e.value + (e.half or 0) for e in ordered) + 0.02)
    low = max(0.0, min(e.value - (e.half or 0) for e in ordered) - 0.02)
    bottom = 10 + row * len(ordered)

    def at(value: float) -> float:
        return left + (min(max(value, low), high) - low) / (high - low) * (right - left)

    out = []
    for value in ticks(low, high, 6):
        out.append(line(at(value), 4, at(value), bottom, class_="grid"))
        label = percent(value, 0)
        out.append(text(at(value), bottom + 16, label, class_="tick", text_anchor="middle"))
    for i, entry in enumerate(ordered):
        y = 10 + row * (i + 0.5)
        name = short(entry.name, 34)
        out.append(text(left - 12, y + 4, name, hint=entry.name, class_="name", text_anchor="end"))
        if entry.half is not None:
            ends = at(entry.value - entry.half), at(entry.value + entry.half)
            out.append(line(ends[0], y, ends[1], y, class_="whisker"))
        kind = "searched" if entry.searched else "closed"
        out.append(element("circle", cx=at(entry.value), cy=y, r=5, class_=f"rank {kind}"))
        label = percent(entry.value)
        out.append(text(right + 12, y + 4, label, class_="tick"))
    return figure(WIDTH, bottom + 24, title, out, "bars wide-chart")


def tracks(found: Sequence[Track], levels: Sequence[tuple[str, float]], *, title: str) -> str:
    """Accuracy against forwards (logarithmic), each line named at its end; levels are dotted."""
    xs = [x for track in found for x in track.forwards]
    ys = [y for track in found for y in track.values] + [y for _, y in levels]
    x_low, x_high = math.log10(min(xs)), math.log10(max(xs))
    x_high = x_high if x_high > x_low else x_low + 1
    y_low, y_high = max(0.0, min(ys) - 0.03), min(1.0, max(ys) + 0.03)
    left, right, top, bottom = 46.0, WIDTH - 190, 12.0, 330.0

    def at_x(x: float) -> float:
        return left + (math.log10(x) - x_low) / (x_high - x_low) * (right - left)

    def at_y(y: float) -> float:
        return bottom - (y - y_low) / (y_high - y_low) * (bottom - top)

    out = []
    for y in ticks(y_low, y_high, 5):
        out.append(line(left, at_y(y), right, at_y(y), class_="grid"))
        out.append(text(left - 7, at_y(y) + 3.5, percent(y, 0), class_="tick", text_anchor="end"))
    for x in sorted({*xs}):
        out.append(line(at_x(x), bottom, at_x(x), bottom + 4, class_="axis"))
    for x in _labelled(sorted({*xs}), at_x):
        out.append(text(at_x(x), bottom + 17, f"{x:,.0f}", class_="tick", text_anchor="middle"))
    out.append(line(left, bottom, right, bottom, class_="axis"))
    out.append(text(right, bottom + 34, "forwards", class_="label", text_anchor="end"))
    ends: list[tuple[float, str, str]] = []
    for name, y in levels:
        out.append(line(left, at_y(y), right, at_y(y), class_="ideal"))
        ends.append((at_y(y), f"{name} {percent(y)}", "label"))
    order = sorted(found, key=lambda track: -track.values[-1])
    for place, track in enumerate(order):
        points = [(at_x(x), at_y(y)) for x, y in zip(track.forwards, track.values, strict=True)]
        kind = "after" if place == 0 else "second"
        out.append(polyline(points, class_=f"line {kind}"))
        out += [element("circle", cx=x, cy=y, r=2.5, class_=f"mark {kind}") for x, y in points]
        ends.append((at_y(track.values[-1]), f"{track.name} {percent(track.values[-1])}", "note"))
    for y, (_, words, kind) in _apart(sorted(ends), 15.0):
        out.append(text(right + 10, y + 4, short(words, 32), hint=words, class_=kind))
    return figure(WIDTH, bottom + 44, title, out, "chart wide-chart")


def _labelled(xs: Sequence[float], at_x: Callable[[float], float]) -> list[float]:
    """Ticks with room for their figures, the last one first."""
    kept: list[float] = []
    for x in reversed(xs):
        if not kept or at_x(kept[-1]) - at_x(x) > 44:
            kept.append(x)
    return kept


def _apart(
    ends: Sequence[tuple[float, str, str]], room: float
) -> list[tuple[float, tuple[float, str, str]]]:
    """Labels moved apart by the least that keeps them in order and ``room`` from each other."""
    places = [y for y, _, _ in ends]
    for _ in range(200):  # relaxation: neighbours that touch push each other half the way
        for i in range(len(places) - 1):
            overlap = room - (places[i + 1] - places[i])
            if overlap > 1e-3:
                places[i] -= overlap / 2
                places[i + 1] += overlap / 2
    return list(zip(places, ends, strict=True))
