"""The summary of a bench: means over seeds, differences, costs, published figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from sharpzo.bench.published import BACKBONES, Figure, find_published, published
from sharpzo.bench.table import Row

# 97.5 % quantiles of Student's t for 1 to 9 degrees of freedom.
_QUANTILES = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622)
_NORMAL = 1.959963985


@dataclass(frozen=True)
class Interval:
    """``mean`` of ``n`` values, and half the width of its 95 % interval; None from one value."""

    mean: float
    half: float | None
    n: int


@dataclass(frozen=True)
class Line:
    """One method at one budget over its seeds; accuracies are fractions.

    ``difference``: to the baseline on the same seeds, at the same budget (else at the baseline's
    largest). ``published``: by backbone, of other models than the one measured.
    """

    method: str
    budget: int | None
    test: Interval
    difference: Interval | None
    ece: Interval
    validation: Interval | None
    forwards: float
    image_passes: float | None
    seconds: float
    peak_memory_mb: float | None
    tuning: str
    stopped: tuple[str, ...]
    published: dict[str, Figure]


@dataclass(frozen=True)
class Section:
    """All methods that met the same photos and model."""

    data_set: str
    tested_on: str
    shots: int | None
    model: str
    seeds: tuple[int, ...]
    test_photos: int
    lines: tuple[Line, ...]

    @property
    def of(self) -> tuple[str, str, int | None, str]:
        """What its rows have in common, as `Row.section` has it."""
        return self.data_set, self.tested_on, self.shots, self.model

    @property
    def title(self) -> str:
        """One line for people."""
        shots = "all photos" if self.shots is None else f"{self.shots} shots"
        seeds = f"seed{'s' * (len(self.seeds) > 1)} {', '.join(map(str, self.seeds))}"
        shifted = "" if self.tested_on == self.data_set else f", tested on {self.tested_on}"
        return f"{self.data_set}{shifted}, {shots}, {seeds}, {self.model} model"


def summarise(rows: Iterable[Row], baseline: str | None = None) -> list[Section]:
    """Sections in the order of the rows; milestones that only curves need are left out."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        if row.wanted:
            groups.setdefault(row.section, []).append(row)
    return [_section(group, baseline) for group in groups.values()]


def _section(rows: list[Row], baseline: str | None) -> Section:
    lines: dict[tuple[str, int | None], list[Row]] = {}
    for row in rows:
        lines.setdefault((row.method, row.budget), []).append(row)
    against = {
        budget: {row.seed: row.test_accuracy for row in group}
        for (method, budget), group in lines.items()
        if method == baseline
    }
    return Section(
        *rows[0].section,
        seeds=tuple(sorted({row.seed for row in rows})),
        test_photos=rows[0].test_photos,
        lines=tuple(
            _line(group, _partner(against, budget) if method != baseline else {})
            for (method, budget), group in lines.items()
        ),
    )


def _partner(against: dict[int | None, dict[int, float]], budget: int | None) -> dict[int, float]:
    """The baseline at the same budget, else at its largest, else as it is."""
    if budget in against or not against:
        return against.get(budget, {})
    return against[max(against, key=lambda b: -1 if b is None else b)]


def _line(rows: list[Row], partner: dict[int, float]) -> Line:
    first = rows[0]

    def known(name: str) -> list[float]:
        return [value for row in rows if (value := getattr(row, name)) is not None]

    validation, passes = known("validation_accuracy"), known("image_passes")
    figures = {
        backbone: figure
        for backbone in BACKBONES
        if first.tested_on == first.data_set
        and (figure := find_published(first.registered, first.data_set, first.shots, backbone))
    }
    return Line(
        method=first.method,
        budget=first.budget,
        test=interval([row.test_accuracy for row in rows]),
        difference=paired({row.seed: row.test_accuracy for row in rows}, partner),
        ece=interval([row.ece for row in rows]),
        validation=interval(validation) if validation else None,
        forwards=fmean(known("forwards")),
        image_passes=fmean(passes) if len(passes) == len(rows) else None,
        seconds=fmean(known("seconds")),
        peak_memory_mb=max(known("peak_memory_mb"), default=None),
        tuning="; ".join(dict.fromkeys(row.tuning for row in rows)),
        stopped=tuple(dict.fromkeys(row.stopped for row in rows)),
        published=figures,
    )


def t_quantile(freedom: int) -> float:
    """97.5 % quantile of Student's t; beyond the table Fisher's expansion (A & S 26.7.5).

    >>> round(t_quantile(2), 2), round(t_quantile(30), 3)
    (4.3, 2.042)
    """
    if freedom < 1:
        raise ValueError(f"degrees of freedom are {freedom}; at least 1 is needed")
    if freedom <= len(_QUANTILES):
        return _QUANTILES[freedom - 1]
    z, v = _NORMAL, freedom
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )


def interval(values: Sequence[float]) -> Interval:
    """Mean ± t * s / sqrt(n) of at least one value.

    >>> interval([0.5, 0.6, 0.7])
    Interval(mean=0.6, half=0.24842, n=3)
    """
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(round(mean, 6), None, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    half = t_quantile(n - 1) * math.sqrt(variance / n)
    return Interval(round(mean, 6), round(half, 5), n)


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Interval | None:
    """Interval of the differences of what both have measured on the same seeds; None if nothing."""
    both = sorted(ours.keys() & theirs.keys())
    return interval([ours[seed] - theirs[seed] for seed in both]) if both else None


def show(value: Interval | None, signed: bool = False) -> str:
    """0.812 ± 0.01 of several seeds -> "81.2 ± 1.0", of one "81.2"; None -> "–"."""
    if value is None:
        return "–"
    mean = f"{100 * value.mean:{'+' if signed else ''}.1f}"
    return mean if value.half is None else f"{mean} ± {100 * value.half:.1f}"


def columns(baseline: str | None) -> dict[str, Callable[[Line], str]]:
    """The titles of a section's table, each with what it shows of a line."""
    against = {f"minus {baseline}": lambda line: show(line.difference, signed=True)}
    return {
        "method": lambda line: line.method,
        "budget": lambda line: "own" if line.budget is None else f"{line.budget:,}",
        "test %": lambda line: show(line.test),
        **({} if baseline is None else against),
        "ECE %": lambda line: show(line.ece),
        "validation %": lambda line: show(line.validation),
        "forwards": lambda line: f"{line.forwards:,.0f}",
        "image passes": lambda line: _rounded(line.image_passes),
        "seconds": lambda line: f"{line.seconds:,.1f}",
        "peak MB": lambda line: _rounded(line.peak_memory_mb),
        "tuning": lambda line: line.tuning,
        **{f"published, {one}, not this model": partial(_published, one) for one in BACKBONES},
    }


def _rounded(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _published(backbone: str, line: Line) -> str:
    figure = line.published.get(backbone)
    return f"{figure.accuracy} ({figure.source})" if figure else "–"


def as_markdown(title: str, sections: list[Section], baseline: str | None) -> str:
    """The summary as a Markdown document."""
    many = [f"# {title}", ""]
    many += [
        "Test accuracy is read once, after the fit. ± is half of the 95 % interval of the mean "
        "over seeds (Student's t); one seed has none. Seconds are those of the fit, photos "
        "already encoded; peak memory is the largest of the seeds' processes until the end of the "
        "fit. Image passes are those beyond one per photo. A smaller budget's row is what the same "
        "run had chosen by then.",
        "",
    ]
    if baseline is not None:
        many += [
            f"Differences are paired: the same seeds, minus {baseline} at the same budget, or at "
            "its largest where it has not that one.",
            "",
        ]
    table = columns(baseline)
    used: dict[str, None] = {}
    for section in sections:
        many += [f"## {section.title}", "", f"{section.test_photos:,} test photos.", ""]
        many += ["| " + " | ".join(table) + " |", "|" + "---|" * len(table)]
        for line in section.lines:
            many.append("| " + " | ".join(cell(line) for cell in table.values()) + " |")
            used |= dict.fromkeys(figure.source for figure in line.published.values())
        many.append("")
    if used:
        many += [
            "## Published figures",
            "",
            "Printed by others, with the original CLIP weights: other models than the one measured "
            "here, and often another protocol.",
            "",
        ]
        for key in used:
            about = published().sources[key]
            extra = "; ".join(about[name] for name in ("protocol", "caveat") if name in about)
            many.append(f"* {key}: {about['title']}" + (f" ({extra})" if extra else ""))
        many.append("")
    return "\n".join(many)
