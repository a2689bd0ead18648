"""``sharpzo demo``: the whole path on the photos inside the package."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from sharpzo.cli import options

if TYPE_CHECKING:
    from sharpzo.cli.progress import Display
    from sharpzo.cli.screen import Screen
    from sharpzo.data.dataset import Dataset
    from sharpzo.fitting import Fitted, Fitter, Row

SHOWN = ("sharpzo", "fgn-csc", options.DEFAULT)
# Of each search: equal for all, and together below 90 seconds on a slow machine, too.
FORWARDS, SECONDS = 5000, 40.0


@dataclass(frozen=True, eq=False)
class Measured:
    """A fit, and the most memory in MB of this process while it lasted (``alone``), or so far."""

    fitted: Fitted
    peak_mb: float | None
    alone: bool

    @property
    def name(self) -> str:
        """Of the method."""
        return self.fitted.method.name

    @property
    def rank(self) -> tuple[float, int]:
        """The higher the better: accuracy on validation photos, then fewer forwards."""
        fit = self.fitted.fit
        return fit.validation_accuracy or 0.0, -fit.forwards


def demo(
    seed: options.Seed = 1,
    method: Annotated[
        str | None, Option(help="Only this one.", show_default=", ".join(SHOWN))
    ] = None,
    out: Annotated[
        Path | None, Option(help="Folder for the run.", show_default="a new sharpzo-demo-N")
    ] = None,
    budget_forwards: Annotated[
        int | None,
        Option(
            help="Forwards of each search.",
            show_default=f"{FORWARDS:,}, or what {SECONDS:.0f} seconds allow",
        ),
    ] = None,
    threads: options.Threads = None,
    memory_limit: options.MemoryLimit = None,
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
    as_json: options.Json = False,
) -> None:
    """Tune the embedded model on 160 product photos by three methods and test them on 500.

    No download, no torch. The run that is kept is of the method with the best accuracy on the 40
    validation photos.
    """
    from sharpzo import artifact
    from sharpzo.budget import Budget
    from sharpzo.cli.fit import report_of, run_folder
    from sharpzo.cli.progress import Display
    from sharpzo.cli.screen import Screen
    from sharpzo.data.demo import load_demo
    from sharpzo.fitting import Fitter
    from sharpzo.journal import Journal

    budget = Budget(FORWARDS, SECONDS) if budget_forwards is None else Budget(budget_forwards)
    kept = options.feature_cache(cache, no_cache)
    fitters = [
        Fitter.of(
            name, seed=seed, budget=budget, threads=threads, cache=kept, memory_limit=memory_limit
        )
        for name in dict.fromkeys(("zero-shot", *(SHOWN if method is None else (method,))))
    ]
    limit = fitters[0].memory_limit
    photos = load_demo(seed)
    with run_folder(out or _free("sharpzo-demo")) as folder:
        with Display(silent=as_json) as display:
            measured = _fit(fitters, photos, display)
            best = max(measured[1:] or measured, key=lambda one: one.rank)
            rows = _rows(measured, best, photos, display)
        report = report_of(best.fitted, limit, folder, rows)
        with Journal(folder / artifact.HISTORY) as journal:
            for step in best.fitted.history:
                journal.append(step)
        best.fitted.write(folder)
    if as_json:
        print(json.dumps(report))
    else:
        _show(Screen(), photos, measured, best, rows, folder, limit)


def _fit(fitters: Sequence[Fitter], photos: Dataset, display: Display) -> list[Measured]:
    """Encode the photos once, then fit method by method, each from as little memory as can be."""
    from sharpzo.memory import MB, peak, trim, watch_anew

    display.console.say(
        f"{photos.source}: {len(photos.class_names)} classes, {len(photos.train)} training and "
        f"{len(photos.val or ())} validation photos"
    )
    for one in fitters:
        display.console.say(f"  {one.method.name:<10}  {one.method.summary}")
    features = fitters[0].fit(photos, progress=display.encoding).features
    measured = []
    for one in fitters:
        trim()
        alone = watch_anew()
        fitted = one.fit(
            photos,
            encoded=features,
            listen=display.search(one.method.name, one.budget),
            warn=display.warn,
        )
        most = peak()
        measured.append(Measured(fitted, None if most is None else most / MB, alone))
    return measured


def _rows(
    measured: Sequence[Measured], best: Measured, photos: Dataset, display: Display
) -> list[Row]:
    """A row per method in the order of the table; the test photos are read here."""
    others = [one.fitted for one in measured[1:] if one is not best]
    rows = best.fitted.measure({"test": photos.test}, others, display.encoding)
    order = {one.name: one for one in measured}
    rows.sort(key=lambda row: list(order).index(row["method"]))
    for row in rows:
        one = order[row["method"]]
        row |= {"seconds": one.fitted.fit.seconds, "peak_memory_mb": one.peak_mb}
    return rows


def _show(
    screen: Screen, photos: Dataset, measured: Sequence[Measured], best: Measured,
    rows: Sequence[Row], folder: Path, limit: int | None,
) -> None:  # fmt: skip
    from sharpzo.cli.fit import peak_of, show_rows
    from sharpzo.types import Reason
    from sharpzo.wording import quoted

    title = (
        f"Accuracy on {len(photos.test or ()):,} test and {len(photos.val or ()):,} validation "
        "photos; what tuning took"
    )
    show_rows(screen, title, rows, {"test": "test", "validation": "validation"})
    if not all(one.alone for one in measured):
        screen.say("Memory is that of the process so far: this system does not count it anew.")
    memory = best.fitted.record["peak_memory_mb"]
    screen.say(peak_of(memory, limit, "Peak memory, with the encoding of the photos"))
    for one in measured:
        if one.fitted.fit.reason is Reason.SECONDS:
            screen.say(
                f"{one.name} was stopped after the demo's {SECONDS:.0f} seconds; "
                "--budget-forwards N lets it go on."
            )
    name, run = _own_name(), quoted(folder)
    for line in (
        f"The best on the validation photos is {best.name}; its run is in {run}. Use it:",
        f"  {name} predict {run} PHOTO.jpg",
        "Your own photos, in one folder per class:",
        f"  {name} fit PHOTOS --out my-run",
        f"  {name} predict my-run NEW-PHOTO.jpg",
    ):
        screen.say(line)


def _own_name() -> str:
    """How this program was called, so that the next command can be called so, too."""
    called = sys.argv[0]
    if Path(called).name != "sharpzo" or shutil.which("sharpzo") == called:
        return "sharpzo"
    return called


def _free(name: str) -> Path:
    """The first of NAME-1, NAME-2, … that does not exist: a demo may be repeated."""
    number = 1
    while Path(f"{name}-{number}").exists():
        number += 1
    return Path(f"{name}-{number}")
