"""From rows to what a person reads: means over seeds, differences, costs, figures in print."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sharpzo.bench.published import BACKBONES, Figure, find_published, sources
from sharpzo.bench.statistics import Interval, interval, paired
from sharpzo.bench.table import Row


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
    def title(self) -> str:
        """One line for people."""
        shots = "all photos" if self.shots is None else f"{self.shots} shots"
        seeds = f"seed{'s' * (len(self.seeds) > 1)} {', '.join(map(str, self.seeds))}"
        shifted = "" if self.tested_on == self.data_set else f", tested on {self.tested_on}"
        return f"{self.data_set}{shifted}, {shots}, {seeds}, {self.model} model"


def summarise(rows: Iterable[Row], baseline: str | None = None) -> list[Section]:
    """Sections in the order of the rows; milestones that only curves want are left out."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        if row.wanted:
            at = row.data_set, row.tested_on, row.shots, row.model
            groups.setdefault(at, []).append(row)
    return [_section(at, group, baseline) for at, group in groups.items()]


def _section(at: tuple, rows: list[Row], baseline: str | None) -> Section:
    lines: dict[tuple[str, int | None], list[Row]] = {}
    for row in rows:
        lines.setdefault((row.method, row.budget), []).append(row)
    against = {
        budget: {row.seed: row.test_accuracy for row in group}
        for (method, budget), group in lines.items()
        if method == baseline
    }
    data_set, tested_on, shots, model = at
    return Section(
        data_set,
        tested_on,
        shots,
        model,
        tuple(sorted({row.seed for row in rows})),
        rows[0].test_photos,
        tuple(
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
    judged = [r.validation_accuracy for r in rows if r.validation_accuracy is not None]
    passes = [r.image_passes for r in rows if r.image_passes is not None]
    memory = [r.peak_memory_mb for r in rows if r.peak_memory_mb is not None]
    found = {
        backbone: figure
        for backbone in BACKBONES
        if first.tested_on == first.data_set
        and (figure := find_published(first.registered, first.data_set, first.shots, backbone))
    }
    return Line(
        first.method,
        first.budget,
        interval([r.test_accuracy for r in rows]),
        paired({r.seed: r.test_accuracy for r in rows}, partner),
        interval([r.ece for r in rows]),
        interval(judged) if judged else None,
        _mean([r.forwards for r in rows]),
        _mean(passes) if len(passes) == len(rows) else None,
        _mean([r.seconds for r in rows]),
        max(memory) if memory else None,
        "; ".join(dict.fromkeys(r.tuning for r in rows)),
        tuple(dict.fromkeys(r.stopped for r in rows)),
        found,
    )


def _mean(values: list[float] | list[int]) -> float:
    return sum(values) / len(values)


def show(value: Interval | None, signed: bool = False) -> str:
    """0.812 ± 0.01 of several seeds -> "81.2 ± 1.0", of one "81.2"; None -> "–"."""
    if value is None:
        return "–"
    mean = f"{100 * value.mean:{'+' if signed else ''}.1f}"
    return mean if value.half is None else f"{mean} ± {100 * value.half:.1f}"


def heading(baseline: str | None) -> tuple[str, ...]:
    """The columns of `cells_of`."""
    against = () if baseline is None else (f"minus {baseline}",)
    return (
        "method", "budget", "test %", *against, "ECE %", "validation %", "forwards",
        "image passes", "seconds", "peak MB", "tuning",
        *(f"published, {backbone}, not this model" for backbone in BACKBONES),
    )  # fmt: skip


def cells_of(line: Line, baseline: str | None) -> tuple[str, ...]:
    """One line as text, column by column of `heading`."""
    passes = line.image_passes
    return (
        line.method,
        "own" if line.budget is None else f"{line.budget:,}",
        show(line.test),
        *(() if baseline is None else (show(line.difference, signed=True),)),
        show(line.ece),
        show(line.validation),
        f"{line.forwards:,.0f}",
        "–" if passes is None else f"{passes:,.0f}",
        f"{line.seconds:,.1f}",
        "–" if line.peak_memory_mb is None else f"{line.peak_memory_mb:,.0f}",
        line.tuning,
        *(
            f"{figure.accuracy} ({figure.source})" if figure else "–"
            for figure in (line.published.get(backbone) for backbone in BACKBONES)
        ),
    )


def as_markdown(title: str, sections: list[Section], baseline: str | None) -> str:
    """The summary as a Markdown document."""
    many = [f"# {title}", ""]
    many += [
        "Test accuracy is read once, after the fit. ± is half of the 95 % interval of the mean "
        "over seeds (Student's t); one seed has none. Seconds are those of the fit, photos "
        "already encoded; peak memory is the largest of the seeds' processes until the end of the "
        "fit. Image passes are those beyond one a photo. A smaller budget's row is what the same "
        "run had chosen by then.",
        "",
    ]
    if baseline is not None:
        many += [
            f"Differences are paired: the same seeds, minus {baseline} at the same budget, or at "
            "its largest where it has not that one.",
            "",
        ]
    used: dict[str, None] = {}
    for section in sections:
        many += [f"## {section.title}", "", f"{section.test_photos:,} test photos.", ""]
        columns = heading(baseline)
        many += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        for line in section.lines:
            many.append("| " + " | ".join(cells_of(line, baseline)) + " |")
            used |= dict.fromkeys(figure.source for figure in line.published.values())
        many.append("")
    if used:
        many += [
            "## Published figures",
            "",
            "Printed by others, with the original CLIP weights: other models than the one measured "
            "here, and often another protocol.",
            "",
        ]  # fmt: skip
        for key in used:
            about = sources()[key]
            extra = "; ".join(about[name] for name in ("protocol", "caveat") if name in about)
            many.append(f"* {key}: {about['title']}" + (f" ({extra})" if extra else ""))
        many.append("")
    return "\n".join(many)
