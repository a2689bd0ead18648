"""The report of a bench: every method on the same photos, ranked, with what it cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sharpzo.bench.results import Results
from sharpzo.bench.summary import Line, Section, columns, summarise
from sharpzo.bench.table import Row, tabulate
from sharpzo.errors import ArtifactError
from sharpzo.report.comparison import Entry, Track, ranking, tracks
from sharpzo.report.page import render


def report_bench(folder: str | Path) -> str:
    """Return the page of a bench folder; ArtifactError if it is damaged or nothing is done."""
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
    entries = [
        Entry(_named(one), one.test.mean, one.test.half, one.budget is not None)
        for one in section.lines
    ]
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
        "ranking": ranking(entries, title=f"Test accuracy, {section.title}"),
        "tracks": tracks(found, shown, title=f"Accuracy against forwards, {section.title}")
        if found
        else None,
        "table": [
            ([cell(one) for cell in columns(baseline).values()], one.method == baseline)
            for one in sorted(section.lines, key=lambda one: -one.test.mean)
        ],
        "spread": any(one.test.half is not None for one in section.lines),
    }


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
            found.append(Track(method, *map(list, zip(*points, strict=True))))
    return found
