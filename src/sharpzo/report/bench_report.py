"""The report of a bench: every method on the same photos, ranked, with what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sharpzo.bench.results import Results
from sharpzo.bench.summary import Line, Section, columns, summarise
from sharpzo.bench.table import Row, tabulate
from sharpzo.errors import ArtifactError
from sharpzo.report.charts import Line as Track
from sharpzo.report.charts import tracks
from sharpzo.report.page import check_packages, render


def report_bench(folder: str | Path) -> str:
    """Return the page of a bench folder; ArtifactError if it is damaged or nothing is done."""
    check_packages()
    folder = Path(folder)
    results = Results(folder)
    about = results.about()
    baseline = about.baseline
    rows = tabulate(about.cells, results)
    if not rows:
        raise ArtifactError(f"no cell of {folder} is done yet; run the bench first")
    done = len({row.key for row in rows})
    sections = [
        _section(section, [row for row in rows if row.section == section.of], baseline)
        for section in summarise(rows, baseline)
    ]
    content = {
        "title": about.title,
        "baseline": baseline,
        "done": done,
        "planned": len({cell.key for cell in about.cells}),
        "columns": tuple(columns(baseline)),
        "sections": sections,
        "folder": str(folder),
    }
    return render("bench.html", content)


def _section(section: Section, rows: list[Row], baseline: str | None) -> dict[str, Any]:
    best = max(section.lines, key=lambda one: one.test.mean)
    found = _tracks(rows)
    levels = [(one.method, one.test.mean) for one in section.lines if one.budget is None]
    levels = sorted(levels, key=lambda level: -level[1])
    # The best closed form and the lowest level say what the searches lie between.
    shown = [levels[0], levels[-1]] if len(levels) > 1 else levels
    return {
        "title": section.title,
        "photos": section.test_photos,
        "best": _named(best),
        "best_value": best.test.mean,
        "ranking": _ranking(section.lines),
        "tracks": tracks(found, shown, title=f"Accuracy against forwards, {section.title}")
        if found
        else None,
        "table": [
            ([cell(one) for cell in columns(baseline).values()], one.method == baseline)
            for one in sorted(section.lines, key=lambda one: -one.test.mean)
        ],
        "spread": any(one.test.half is not None for one in section.lines),
    }


def _ranking(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """The best first; places of dots and whiskers in per cent of the axis from worst to best."""
    ends = [one.test.mean + sign * (one.test.half or 0.0) for one in lines for sign in (-1, 1)]
    low, high = max(0.0, min(ends) - 0.02), min(1.0, max(ends) + 0.02)

    def at(value: float) -> float:
        return round(100 * (min(max(value, low), high) - low) / (high - low), 2)

    return [
        {
            "name": _named(one),
            "value": one.test.mean,
            "searched": one.budget is not None,
            "at": at(one.test.mean),
            "whisker": (at(one.test.mean - half), at(one.test.mean + half))
            if (half := one.test.half) is not None
            else None,
        }
        for one in sorted(lines, key=lambda one: -one.test.mean)
    ]


def _named(one: Line) -> str:
    return one.method if one.budget is None else f"{one.method} at {one.budget:,}"


def _tracks(rows: list[Row]) -> list[Track]:
    """Mean test accuracy over seeds at each milestone that all seeds of a search have reached."""
    found = []
    for method in dict.fromkeys(row.method for row in rows if row.budget is not None):
        mine = [row for row in rows if row.method == method and row.budget is not None]
        seeds = {row.seed for row in mine}
        points = []
        for budget in sorted({row.budget for row in mine if row.budget is not None}):
            at = [row.test_accuracy for row in mine if row.budget == budget]
            if len(at) == len(seeds):
                points.append((float(budget), sum(at) / len(at)))
        if points:
            found.append(Track(method, [x for x, _ in points], [y for _, y in points]))
    return found
