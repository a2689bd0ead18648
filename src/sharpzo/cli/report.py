"""``sharpzo report``: one HTML page about a run or a bench."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from sharpzo.cli import options


def report(
    run: Annotated[
        Path,
        Argument(help="Folder that 'sharpzo fit' or 'sharpzo bench' wrote.", metavar="RUN|BENCH"),
    ],
    data: Annotated[
        Path | None,
        Option(
            help="The photos that the run was made with: classes, mistakes, landscape.",
            show_default="those of the demo, if it was made with them",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        Option(help="HTML file to write.", show_default="report.html in the run's folder"),
    ] = None,
    landscape: Annotated[
        bool, Option(help="Compute the loss around the solution: 441 forwards per surface.")
    ] = True,
    labels: options.Labels = None,
    dataset: options.Dataset = None,
    model: options.Model = None,
    plugin: options.Plugin = [],  # noqa: B006
    as_json: options.Json = False,
) -> None:
    """Write one HTML file about a run or a bench.

    Of a run: accuracy, curves, classes, mistakes, cost, landscape. Of a bench: ranks and curves.

    The file needs no network and no other file.
    """
    from sharpzo.cli.progress import Display
    from sharpzo.cli.screen import Screen
    from sharpzo.report.bench_report import report_bench
    from sharpzo.report.page import kind_of, write
    from sharpzo.report.run_report import report_run
    from sharpzo.wording import quoted

    if kind_of(run) == "bench":
        file = write(report_bench(run), out or run / "report.html")
        if as_json:
            print(json.dumps({"bench": str(run), "report": str(file)}))
        else:
            Screen().say(f"The report is in {quoted(file)}.")
        return
    with Display(silent=as_json) as display:
        made = report_run(
            run,
            data=data,
            dataset=dataset,
            labels=labels,
            model=model,
            landscape=landscape,
            progress=display.working,
        )
    file = write(made.html, out or run / "report.html")
    if as_json:
        print(json.dumps({
            "run": str(run),
            "report": str(file),
            "bytes": file.stat().st_size,
            "forwards": made.forwards,
            "left_out": list(made.left_out),
        }))  # fmt: skip
        return
    screen = Screen()
    for sentence in made.left_out:
        screen.say(sentence)
    screen.say(f"The report is in {quoted(file)}.")
