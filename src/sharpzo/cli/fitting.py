"""From a data set to a written run: what ``demo`` and ``fit`` have in common."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sharpzo import artifact
from sharpzo.cli.checking import usable
from sharpzo.cli.progress import Display, percent
from sharpzo.cli.screen import Column, Screen
from sharpzo.data.dataset import Dataset
from sharpzo.fitting import Fitted, Fitter, Row
from sharpzo.journal import Journal
from sharpzo.memory import MB
from sharpzo.towers.session import cores
from sharpzo.types import Reason, Step
from sharpzo.wording import quoted


def fit_and_write(
    fitter: Fitter,
    dataset: Dataset,
    out: Path,
    *,
    yardstick: str | None = None,
    shifted: Dataset | None = None,
    skip_damaged: bool = False,
    as_json: bool = False,
) -> None:
    """Fit, read the test split once, write the run, print what a person or a program needs.

    ``yardstick`` names a second method, fitted on the same cached features for comparison;
    ``shifted`` is a second test set, of the same classes (or some of them) but other photos.
    Photos that cannot be used, of any split, end this before any work, or are left out.
    """
    folder = artifact.claim(out)
    try:
        with (
            Display(silent=as_json) as display,
            Journal(folder / artifact.HISTORY) as journal,
        ):
            dataset, shifted = usable(
                dataset,
                shifted,
                skip=skip_damaged,
                cache=fitter.cache,
                threads=1 if fitter.memory_limit else fitter.runtime.threads or cores(),
                display=display,
            )
            _introduce(display.console, fitter, dataset)

            show = display.search(fitter.method.name, fitter.planned)

            def listen(step: Step) -> None:
                journal.append(step)
                show(step)

            fitted = fitter.fit(
                dataset, listen=listen, progress=display.encoding, warn=display.warn
            )
            beside = []
            if yardstick and yardstick != fitter.method.name:
                beside = [fitter.by(yardstick).fit(dataset, encoded=fitted.features)]
            tests = {"test": dataset.test, "shifted": shifted and (shifted.test or shifted.train)}
            rows = fitted.measure(tests, beside, display.encoding)
        report = report_of(fitted, fitter.memory_limit, folder, rows) | dataset.remarks()
        fitted.write(folder)
    except BaseException as error:
        artifact.release(folder, error)
        raise
    if as_json:
        print(json.dumps(report))
    else:
        _show(Screen(), fitted, fitter.memory_limit, dataset, rows, folder)


def _introduce(screen: Screen, fitter: Fitter, dataset: Dataset) -> None:
    validation = len(dataset.val) if dataset.val else 0
    screen.say(
        f"{dataset.source}: {len(dataset.class_names)} classes, {len(dataset.train)} training and "
        f"{validation} validation photos; method {fitter.method.name}, seed {fitter.seed}"
    )
    for note in dataset.notes:
        screen.say(f"note: {note}")


def report_of(
    fitted: Fitted, memory_limit: int | None, folder: Path, rows: list[Row]
) -> dict[str, Any]:
    """The JSON document about a run, whose record has been measured, and its rows."""
    record = fitted.record
    test, validation = record["test"], record["validation"]
    judged = validation if test["accuracy"] is None else test
    return {
        "run": str(folder),
        "method": fitted.method.name,
        "seed": record["seed"],
        "forwards": fitted.fit.forwards,
        "seconds": round(fitted.fit.seconds, 3),
        "peak_memory_mb": record["peak_memory_mb"],
        "memory_limit_mb": memory_limit and memory_limit / MB,
        "zero_shot_accuracy": judged["zero_shot_accuracy"],
        "validation_accuracy": validation["accuracy"],
        "test_accuracy": test["accuracy"],
        "shifted_accuracy": record.get("shifted", {}).get("accuracy"),
        "stopped": fitted.fit.reason.value,
        "warnings": record["warnings"],
        "methods": rows,
    }


def _show(
    screen: Screen,
    fitted: Fitted,
    memory_limit: int | None,
    dataset: Dataset,
    rows: list[Row],
    folder: Path,
) -> None:
    accuracies = {"test": f"test ({len(dataset.test):,} photos)"} if dataset.test else {}
    accuracies |= {"shifted": "shifted test"} if rows[-1]["shifted"] is not None else {}
    accuracies |= {"validation": f"validation ({len(dataset.val):,})"} if dataset.val else {}
    screen.show(
        f"Accuracy, {dataset.source}",
        [
            Column("method"),
            *(Column(title, right=True) for title in accuracies.values()),
            Column("forwards", right=True),
            Column("seconds", right=True),
        ],
        [
            [
                row["method"],
                *(percent(row[split]) for split in accuracies),
                f"{row['forwards']:,}",
                f"{row['seconds']:.1f}",
            ]
            for row in rows
        ],
    )
    if fitted.fit.reason is not Reason.CLOSED_FORM:
        screen.say(f"Stopped because {fitted.fit.reason.value}.")
    screen.say(peak_of(fitted.record["peak_memory_mb"], memory_limit))
    better = [row for row in rows[:-1] if (row["validation"] or 0) > (rows[-1]["validation"] or 0)]
    if better:
        best = max(better, key=lambda row: row["validation"])
        screen.say(
            f"On the validation photos {best['method']} did better "
            f"({percent(best['validation'])}): try  --method {best['method']}"
        )
    run = quoted(folder)
    screen.say(f"The run is in {run}. Classify photos with it:  sharpzo predict {run} PHOTO.jpg")


def peak_of(peak: float | None, limit: int | None, of: str = "Peak memory") -> str:
    """A sentence about memory, also when it went past what was allowed."""
    if peak is None:
        return "This system does not say how much memory the run took."
    sentence = f"{of}: {peak:,.0f} MB"
    if limit is None:
        return f"{sentence}."
    allowed = f"{limit / MB:,.0f} MB"
    if peak * MB > limit:
        return f"{sentence}, more than the limit of {allowed}: please report this, with the model."
    return f"{sentence} of the {allowed} allowed."
