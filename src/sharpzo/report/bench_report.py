"""The report of a bench: every method on the same photos, ranked, with what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sharpzo.bench.plots import draw, height
from sharpzo.bench.results import Results
from sharpzo.bench.summary import Line, Section, columns, summarise
from sharpzo.bench.table import Row, tabulate
from sharpzo.errors import ArtifactError
from sharpzo.report.charts import chart
from sharpzo.report.page import check_packages, render


def report_bench(folder: str | Path) -> str:
    """Return the page of a bench folder; ArtifactError if it is damaged or nothing is done."""
    check_packages(charts=True)
    folder = Path(folder)
    results = Results(folder)
    about = results.about()
    rows = tabulate(about.cells, results)
    if not rows:
        raise ArtifactError(f"no cell of {folder} is done yet; run the bench first")
    sections = [
        _section(section, [row for row in rows if row.section == section.of], about.baseline)
        for section in summarise(rows, about.baseline)
    ]
    content = {
        "title": about.title,
        "baseline": about.baseline,
        "done": len({row.key for row in rows}),
        "planned": len({cell.key for cell in about.cells}),
        "columns": tuple(columns(about.baseline)),
        "sections": sections,
        "folder": str(folder),
    }
    return render("bench.html", content)


def _section(section: Section, rows: list[Row], baseline: str | None) -> dict[str, Any]:
    ranked = sorted(section.lines, key=lambda one: -one.test.mean)

    def draw_tracks(axes: Any) -> None:
        draw(axes, rows, "forwards")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)

    title = f"Accuracy against forwards, {section.title}"
    searched = any(one.budget is not None for one in ranked)
    return {
        "title": section.title,
        "photos": section.test_photos,
        "best": _named(ranked[0]),
        "best_value": ranked[0].test.mean,
        "ranking": _ranking(ranked),
        "tracks": chart(draw_tracks, title, width=7.6, height=height(rows)) if searched else None,
        "table": [
            ([cell(one) for cell in columns(baseline).values()], one.method == baseline)
            for one in ranked
        ],
        "spread": any(one.test.half is not None for one in ranked),
    }


def _ranking(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Places of dots and whiskers in per cent of the axis from worst to best."""
    spans = [(one.test.mean, one.test.half or 0.0) for one in lines]
    low = max(0.0, min(mean - half for mean, half in spans) - 0.02)
    high = min(1.0, max(mean + half for mean, half in spans) + 0.02)

    def at(value: float) -> float:
        return round(100 * (min(max(value, low), high) - low) / (high - low), 2)

    return [
        {
            "name": _named(one),
            "value": mean,
            "searched": one.budget is not None,
            "at": at(mean),
            "whisker": (at(mean - half), at(mean + half)) if one.test.half is not None else None,
        }
        for one, (mean, half) in zip(lines, spans, strict=True)
    ]


def _named(one: Line) -> str:
    return one.method if one.budget is None else f"{one.method} at {one.budget:,}"
