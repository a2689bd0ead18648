"""``sharpzo check``: what is wrong with photos, before they are used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from sharpzo.cli import options

if TYPE_CHECKING:
    from sharpzo.audit import Audit

SHOWN = 20  # rows of a table on the screen


def check(
    data: Annotated[Path, Argument(help="Labelled photos, as for 'fit'.", metavar="DATA")],
    html: Annotated[
        Path | None,
        Option(help="HTML file to write, with pictures.", show_default="none", metavar="FILE"),
    ] = None,
    labels: options.Labels = None,
    dataset: options.Dataset = None,
    model: options.Model = None,
    threads: options.Threads = None,
    memory_limit: options.MemoryLimit = None,
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
    as_json: options.Json = False,
) -> None:
    """Find labels that may be wrong, copies, photos that cannot be read and classes to watch.

    Nothing is changed. All splits are looked through.
    """
    from sharpzo.audit import audit
    from sharpzo.cli.progress import Display
    from sharpzo.data.loading import read
    from sharpzo.memory import parse_size
    from sharpzo.report.check_report import report_audit
    from sharpzo.report.page import check_packages, write
    from sharpzo.towers.open import Towers
    from sharpzo.towers.runtime import Runtime

    if html is not None:
        check_packages(charts=False)
    kept = options.feature_cache(cache, no_cache)
    limit = None if memory_limit is None else parse_size(memory_limit)
    towers = Towers(model, Runtime(threads=threads), limit, decoding="reduced")
    photos = read(data, dataset, labels)
    with Display(silent=as_json) as display:
        many = 1 if limit else threads
        found = audit(photos, towers, kept, many, display.checking, display.encoding)
    file = None if html is None else write(report_audit(found, photos.source), html)
    answer = _answer(found) | photos.remarks()
    if as_json:
        print(json.dumps(answer | {"html": file and str(file)}))
    else:
        _show(found, answer, photos.source, photos.notes, data, file)


def _answer(found: Audit) -> dict[str, Any]:
    names, labels = found.photos.class_names, found.photos.labels

    def place(row: int) -> dict[str, str]:
        return {"path": found.photos.photos[row].name, "class": names[labels[row]],
                "split": found.splits[row]}  # fmt: skip

    return {
        "photos": len(found.photos),
        "classes": dict(zip(names, found.photos.counts().tolist(), strict=True)),
        "recognised": found.accuracy,
        "suspects": [
            place(one.row) | {"likely": names[one.likely], "margin": round(one.margin, 3)}
            for one in found.suspects
        ],
        "copies": [
            {"exact": one.exact, "photos": [place(row) for row in one.rows]} for one in found.copies
        ],
        "mixed": [
            {"class": names[one.one], "taken_for": names[one.other], "photos": one.many}
            for one in found.mixed
        ],
        "errors": [{"path": error.photo, "error": error.reason} for error in found.errors],
    }


def _show(
    found: Audit, answer: dict[str, Any], source: str, notes: tuple[str, ...], data: Path,
    file: Path | None,
) -> None:  # fmt: skip
    from sharpzo.cli.screen import Column, Screen, percent
    from sharpzo.wording import quoted

    screen = Screen()
    counts = answer["classes"]
    screen.say(f"{source}: {answer['photos']:,} photos of {len(counts)} classes")
    for note in notes:
        screen.say(f"note: {note}")
    for error in found.errors:
        screen.say(f"cannot be read: photo {error.photo} {error.reason}")
    if suspects := answer["suspects"]:
        rows = [[one["path"], one["class"], one["likely"]] for one in suspects[:SHOWN]]
        columns = [Column("photo", wraps=True), Column("label"), Column("looks like")]
        many = "1 label" if len(suspects) == 1 else f"{len(suspects):,} labels"
        screen.show(f"{many} may be wrong, the worst first", columns, rows)
    for group in answer["copies"][:SHOWN]:
        kind = "the same file" if group["exact"] else "the same picture"
        places = [f"{one['path']} ({one['class']}, {one['split']})" for one in group["photos"]]
        classes, splits = ({one[what] for one in group["photos"]} for what in ("class", "split"))
        bad = ""
        if len(classes) > 1:
            bad = f"; it has {len(classes)} classes, and at most one is right"
        elif len(splits) > 1:
            bad = f"; it is in {len(splits)} splits, so accuracies are too high"
        screen.say(f"{kind}: {', '.join(places)}{bad}")
    for sentence in found.of_classes:
        screen.say(sentence)
    hidden = max(len(suspects), len(answer["copies"])) > SHOWN
    if found.accuracy is None:
        screen.say("too few photos per class to say more; two or more are compared with each other")
    else:
        screen.say(
            f"{percent(found.accuracy)} of the photos are classified correctly, each by the others"
        )
    if not (suspects or found.copies or found.errors or found.mixed or found.few):
        screen.say(f"Nothing to mend. Next:  sharpzo fit {quoted(data)} --out my-run")
    if file is not None:
        screen.say(f"The pictures are in {quoted(file)}.")
    elif suspects or found.copies:
        more = "all of them" if hidden else "the pictures"
        screen.say(f"See {more}:  sharpzo check {quoted(data)} --html check.html")
