"""From a data set to a written run: what ``demo`` and ``fit`` have in common."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sharpzo import artifact
from sharpzo.budget import Budget
from sharpzo.classifier import PromptClassifier
from sharpzo.cli.checking import usable
from sharpzo.cli.console import Display, percent
from sharpzo.cli.screen import Column, Screen
from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.evaluate import AmongSome, evaluate
from sharpzo.journal import Journal
from sharpzo.memory import MB, peak_memory_mb
from sharpzo.towers.session import cores
from sharpzo.types import Head, Reason, Step
from sharpzo.wording import quoted


def fit_and_write(
    classifier: PromptClassifier,
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
                cache=classifier.cache,
                threads=1 if classifier.memory_limit else classifier.runtime.threads or cores(),
                display=display,
            )
            _introduce(display.console, classifier, dataset)

            show = display.search(classifier.method.name, _planned(classifier))

            def listen(step: Step) -> None:
                journal.append(step)
                show(step)

            classifier.fit(dataset, listen=listen, progress=display.encoding, warn=display.warn)
            beside = []
            if yardstick and yardstick != classifier.method.name:
                beside = [classifier.sibling(yardstick)]
                beside[0].fit(dataset, encoded=classifier.encoded_)
            tests = {"test": dataset.test, "shifted": shifted and (shifted.test or shifted.train)}
            rows = measure(classifier, tests, beside, display)
        report = report_of(classifier, folder, rows[-1], rows) | dataset.remarks()
        classifier.save(folder, claimed=True)
    except BaseException as error:
        artifact.release(folder, error)
        raise
    if as_json:
        print(json.dumps(report))
    else:
        _show(Screen(), classifier, dataset, rows, folder)


def _introduce(screen: Screen, classifier: PromptClassifier, dataset: Dataset) -> None:
    validation = len(dataset.val) if dataset.val else 0
    screen.say(
        f"{dataset.source}: {len(dataset.class_names)} classes, {len(dataset.train)} training and "
        f"{validation} validation photos; method {classifier.method.name}, seed {classifier.seed}"
    )
    for note in dataset.notes:
        screen.say(f"note: {note}")


def _planned(classifier: PromptClassifier) -> Budget:
    """What a search will spend: the caller's budget, else its settings'."""
    if classifier.budget != Budget():
        return classifier.budget
    return Budget(getattr(classifier.settings, "forwards", None))


def measure(
    classifier: PromptClassifier,
    tests: dict[str, LabelledPhotos | None],
    beside: list[PromptClassifier],
    display: Display,
) -> list[dict[str, Any]]:
    """One row per method: zero-shot, those beside, the fitted one (last); the only test reading.

    A test set of some of the classes is classified among these, as is the custom for ImageNet-A.
    """
    fitted: list[tuple[str, Head, int, float]] = [("zero-shot", classifier.zero_shot_, 1, 0.0)]
    if classifier.method.name == "zero-shot" and classifier.settings == classifier.method.settings:
        fitted = []  # the fitted one is this row
    for one in (*beside, classifier):
        fitted.append((one.method.name, one.fit_.head, one.fit_.forwards, one.fit_.seconds))
    validation = classifier.encoded_.get("validation")
    found = {
        split: classifier.encode(photos, progress=display.encoding)
        for split, photos in tests.items()
        if photos is not None
    }
    rows = []
    for name, head, forwards, seconds in fitted:
        row: dict[str, Any] = {"method": name, "forwards": forwards, "seconds": seconds}
        row["validation"] = validation and evaluate(head, validation).accuracy
        row |= dict.fromkeys(tests)
        for split, (photos, places) in found.items():
            row[split] = evaluate(AmongSome(head, places), photos).accuracy
        rows.append(row)
    return rows


def report_of(
    classifier: PromptClassifier,
    folder: Path,
    tuned: dict[str, Any],
    rows: list[dict[str, Any]],
) -> dict[str, Any]:
    """The JSON document about a run, its row and the others; its record learns its test figures."""
    zero_shot = next(row for row in rows if row["method"] == "zero-shot")
    split = "validation" if tuned["test"] is None else "test"
    record = classifier.record_
    record["validation"]["zero_shot_accuracy"] = zero_shot["validation"]
    record["test"] = {"accuracy": tuned["test"], "zero_shot_accuracy": zero_shot["test"]}
    record["methods"] = rows
    if tuned["shifted"] is not None:
        record["shifted"] = {
            "accuracy": tuned["shifted"], "zero_shot_accuracy": zero_shot["shifted"],
        }  # fmt: skip
    record["peak_memory_mb"] = peak_memory_mb()
    return {
        "run": str(folder),
        "method": classifier.method.name,
        "seed": classifier.seed,
        "forwards": classifier.fit_.forwards,
        "seconds": round(classifier.fit_.seconds, 3),
        "peak_memory_mb": record["peak_memory_mb"],
        "memory_limit_mb": classifier.memory_limit and classifier.memory_limit / MB,
        "zero_shot_accuracy": zero_shot[split],
        "validation_accuracy": tuned["validation"],
        "test_accuracy": tuned["test"],
        "shifted_accuracy": tuned["shifted"],
        "stopped": classifier.fit_.reason.value,
        "warnings": classifier.warnings_,
        "methods": rows,
    }


def _show(
    screen: Screen,
    classifier: PromptClassifier,
    dataset: Dataset,
    rows: list[dict[str, Any]],
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
    if classifier.fit_.reason is not Reason.CLOSED_FORM:
        screen.say(f"Stopped because {classifier.fit_.reason.value}.")
    screen.say(peak_of(classifier))
    better = [row for row in rows[:-1] if (row["validation"] or 0) > (rows[-1]["validation"] or 0)]
    if better:
        best = max(better, key=lambda row: row["validation"])
        screen.say(
            f"On the validation photos {best['method']} did better "
            f"({percent(best['validation'])}): try  --method {best['method']}"
        )
    run = quoted(folder)
    screen.say(f"The run is in {run}. Classify photos with it:  sharpzo predict {run} PHOTO.jpg")


def peak_of(classifier: PromptClassifier, of: str = "Peak memory") -> str:
    """A sentence about memory, also when it went past what was allowed."""
    peak, limit = classifier.record_["peak_memory_mb"], classifier.memory_limit
    if peak is None:
        return "This system does not say how much memory the run took."
    sentence = f"{of}: {peak:,.0f} MB"
    if limit is None:
        return f"{sentence}."
    allowed = f"{limit / MB:,.0f} MB"
    if peak * MB > limit:
        return f"{sentence}, more than the limit of {allowed}: please report this, with the model."
    return f"{sentence} of the {allowed} allowed."
