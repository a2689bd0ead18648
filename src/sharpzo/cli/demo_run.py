"""``sharpzo demo``: fit and test on the photos inside the package."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from sharpzo.cli import options

if TYPE_CHECKING:
    from sharpzo.cli.progress import Display
    from sharpzo.data.dataset import Dataset
    from sharpzo.fitting.fitted import Fitted
    from sharpzo.fitting.fitter import Fitter

SHOWN = ("sharpzo", "fgn-csc", options.DEFAULT)
# Of each search: equal for all, and together below 90 seconds on a slow machine, too.
FORWARDS, SECONDS = 5000, 40.0


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
    from sharpzo.budget import Budget
    from sharpzo.cli.fit import peak_of, report_of, show_rows
    from sharpzo.cli.progress import Display
    from sharpzo.cli.screen import Screen
    from sharpzo.data.demo import load_demo
    from sharpzo.fitting.fitter import Fitter
    from sharpzo.storage.claim import claim
    from sharpzo.types import Reason
    from sharpzo.wording import quoted

    budget = Budget(FORWARDS, SECONDS) if budget_forwards is None else Budget(budget_forwards)
    kept = options.feature_cache(cache, no_cache)
    fitters = [
        Fitter(
            name, seed=seed, budget=budget, threads=threads, cache=kept, memory_limit=memory_limit
        )
        for name in dict.fromkeys(("zero-shot", *(SHOWN if method is None else (method,))))
    ]
    limit = fitters[0].memory_limit
    photos = load_demo(seed)
    with claim(out or _free("sharpzo-demo")) as claimed:
        with Display(silent=as_json) as display:
            fitted, peaks, alone = _fit(fitters, photos, display)
            best = max(
                fitted[1:] or fitted,
                key=lambda one: (one.fit.validation_accuracy or 0.0, -one.fit.forwards),
            )
            others = [one for one in fitted[1:] if one is not best]
            rows = best.measure({"test": photos.test}, others, display.encoding)
        names = [one.method.name for one in fitted]
        rows.sort(key=lambda row: names.index(row["method"]))
        for row, one, most in zip(rows, fitted, peaks, strict=True):
            row |= {"seconds": one.fit.seconds, "peak_memory_mb": most}
        for step in best.history:
            claimed.journal.append(step)
        folder = claimed.write(best.arrays, best.record)
        report = report_of(best, limit, folder, rows)
    if as_json:
        print(json.dumps(report))
        claimed.check()
        return
    screen = Screen()
    title = (
        f"Accuracy on {len(photos.test or ()):,} test and {len(photos.val or ()):,} validation "
        "photos; what tuning took"
    )
    show_rows(screen, title, rows, {"test": "test", "validation": "validation"})
    if not alone:
        screen.say("Peaks include the methods above: this system cannot reset the count.")
    memory = best.record["peak_memory_mb"]
    screen.say(peak_of(memory, limit, "Peak memory, with the encoding of the photos"))
    for one in fitted:
        if one.fit.reason is Reason.SECONDS:
            screen.say(
                f"{one.method.name} was stopped after the demo's {SECONDS:.0f} seconds; "
                "--budget-forwards N lets it go on."
            )
    name, run = _own_name(), quoted(folder)
    for line in (
        f"The best on the validation photos is {best.method.name}; its run is in {run}. Use it:",
        f"  {name} predict {run} PHOTO.jpg",
        "Your own photos, in one folder per class:",
        f"  {name} fit PHOTOS --out my-run",
        f"  {name} predict my-run NEW-PHOTO.jpg",
    ):
        screen.say(line)
    claimed.check()


def _fit(
    fitters: Sequence[Fitter], photos: Dataset, display: Display
) -> tuple[list[Fitted], list[float | None], bool]:
    """Encode the photos once, then fit method by method, each from as little memory as can be.

    Beside the fits: the most memory in MB while each lasted, or so far where the system cannot
    count it anew (False).
    """
    from sharpzo.memory import MB, peak, trim, watch_anew

    display.console.say(
        f"{photos.source}: {len(photos.class_names)} classes, {len(photos.train)} training and "
        f"{len(photos.val or ())} validation photos"
    )
    wide = max(len(one.method.name) for one in fitters)
    for one in fitters:
        display.console.say(f"  {one.method.name:<{wide}}  {one.method.summary}")
    features = fitters[0].fit(photos, progress=display.encoding).features
    fitted: list[Fitted] = []
    peaks: list[float | None] = []
    alone = True
    for one in fitters:
        trim()
        alone = watch_anew() and alone
        show = display.search(one.method.name, one.budget)
        fitted.append(one.fit(photos, encoded=features, listen=show, warn=display.warn))
        most = peak()
        peaks.append(None if most is None else most / MB)
    return fitted, peaks, alone


def _own_name() -> str:
    """How this program was called, so that the next command can be called so, too."""
    called = sys.argv[0]
    if Path(called).name != "sharpzo" or shutil.which("sharpzo") == called:
        return "sharpzo"
    return called


def _free(name: str) -> Path:
    """The first of NAME-1, NAME-2, … that does not exist: a demo may be repeated."""
    names = (Path(f"{name}-{number}") for number in count(1))
    return next(path for path in names if not path.exists())
