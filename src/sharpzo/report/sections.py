"""The sections of a run's page: records and figures as sentences, rows and SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from sharpzo.artifact import Artifact
from sharpzo.data.entries import HIDDEN
from sharpzo.evaluate import Evaluation
from sharpzo.methods.registry import Method
from sharpzo.report.charts import Line, line_chart, reliability, surface
from sharpzo.report.evidence import Evidence, Reliability
from sharpzo.report.landscape import RADIUS, Landscape, shared_range
from sharpzo.report.page import percent
from sharpzo.settings import as_dict, flat
from sharpzo.types import Array, Reason, Step

SHOWN = 40  # classes of bars and matrix; of more, those that moved most, and no matrix
LISTED = 30  # pairs of classes in the list of confusions
PLACES = {"before": "before tuning", "stage1": "at the end of stage 1", "after": "after tuning"}


def opening(record: Mapping[str, Any], evidence: Evidence | None) -> dict[str, Any]:
    """Title sentence, and the accuracies in it."""
    data, seconds = record["data"], record["seconds"]
    split = "test" if record["test"].get("accuracy") is not None else "validation"
    before = record[split].get("zero_shot_accuracy")
    after = record[split].get("accuracy")
    many = data.get(f"{split}_photos")
    if evidence is not None and evidence.split == split:
        before = evidence.before.accuracy if before is None else before
        many = len(evidence.photos)
    took = f"{seconds:.1f}\u00a0s" if seconds < 120 else f"{seconds / 60:.0f}\u00a0min"
    again = None
    if evidence is not None and evidence.split == split and after is not None:
        off = abs(evidence.after.accuracy - after)
        again = evidence.after.accuracy if off > 0.5 / len(evidence.photos) else None
    return {
        "n_classes": len(record["class_names"]),
        "n_training": data["training_photos"],
        "method": record["method"],
        "took": took,
        "split": split,
        "before": before,
        "after": after,
        "n_evaluated": many,
        "measured_again": again,
        "searched": record["stopped"] != Reason.CLOSED_FORM.value,
    }


def accuracy_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per method: untuned, what it was compared with, and the run itself last."""
    rows = record.get("methods")
    if rows:
        return [{"shifted": None, **row} for row in rows]
    shared = {"shifted": None, "forwards": None, "seconds": None}
    validation, test = record["validation"], record["test"]
    zero = {
        "method": "zero-shot",
        "test": test.get("zero_shot_accuracy"),
        "validation": validation.get("zero_shot_accuracy"),
    }
    own = {"method": record["method"], "test": test["accuracy"], **shared}
    own |= {"validation": validation["accuracy"], "forwards": record["forwards"]}
    return [shared | zero, own | {"seconds": record["seconds"]}]


def better_rival(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The row of the method that validated best, if it is not the run's own (the last)."""
    scored = [row for row in rows if row["validation"] is not None]
    if not scored or rows[-1]["validation"] is None:
        return None
    best = max(scored, key=lambda row: row["validation"])
    return best if best["validation"] > rows[-1]["validation"] else None


def search(record: Mapping[str, Any], steps: Sequence[Step]) -> dict[str, Any]:
    """Curves, and the stages with their steps and forwards."""
    if not steps:
        return {"curves": [], "stages": []}
    stages: dict[str, list[Step]] = {}
    for step in steps:
        stages.setdefault(step.stage, []).append(step)
    rows = [
        {
            "stage": stage,
            "first": some[0].forwards,
            "last": some[-1].forwards,
            "loss": some[-1].loss,
            "validation": max(
                (s.validation_accuracy for s in some if s.validation_accuracy is not None),
                default=None,
            ),
        }
        for stage, some in stages.items()
    ]
    choose = bool(record["settings"].get("choose", False))
    return {"curves": _curves(steps, choose), "stages": rows}


def switches(history: Sequence[Step]) -> list[tuple[float, str]]:
    """Forwards at which a new stage was first validated, and its name."""
    return [(new.forwards, new.stage) for old, new in pairwise(history) if new.stage != old.stage]


def kept(history: Sequence[Step], choose: bool) -> Step:
    """The step whose point the run kept: the rule of `run.run`, read off the journal."""
    if not choose or any(step.validation_accuracy is None for step in history):
        return history[-1]
    return max(
        history,
        key=lambda step: (step.validation_accuracy or 0.0, -(step.validation_loss or 0.0)),
    )


def _curves(history: Sequence[Step], choose: bool) -> list[str]:
    """Charts of a journal: of loss, and of validation accuracy if there is any."""
    xs = [step.forwards for step in history]
    marks = switches(history)
    lines = [Line("training loss", xs, [step.loss for step in history])]
    if any(step.validation_loss is not None for step in history):
        lines.append(
            Line("validation loss", xs, [step.validation_loss for step in history], "before")
        )
    charts = [
        line_chart(
            lines,
            title=f"Loss against forwards: from {history[0].loss:.3f} to {history[-1].loss:.3f}",
            marks=marks,
        )
    ]
    scored = [step for step in history if step.validation_accuracy is not None]
    if scored:
        accuracies = [step.validation_accuracy or 0.0 for step in scored]
        chosen = kept(scored, choose)
        charts.append(
            line_chart(
                [Line("validation accuracy", [step.forwards for step in scored], accuracies)],
                title="Validation accuracy against forwards: "
                f"from {accuracies[0]:.1%} to {max(accuracies):.1%} at best",
                fractions=True,
                marks=marks,
                dot=(chosen.forwards, chosen.validation_accuracy or 0.0, "kept"),
            )
        )
    return charts


def photos(evidence: Evidence | None) -> dict[str, Any]:
    """Classes, confusion and calibration."""
    if evidence is None:
        return {"evidence": None}
    names = list(evidence.photos.class_names)
    before, after = evidence.before, evidence.after
    pairs = [(name, before.per_class[name], after.per_class[name]) for name in names]
    shown = pairs
    if len(pairs) > SHOWN:
        shown = sorted(pairs, key=lambda row: (row[2] or 0) - (row[1] or 0), reverse=True)
        shown = shown[: SHOWN // 2] + shown[-SHOWN // 2 :]
    where = f"{after.n:,} {evidence.split} photos"
    confused = after.confusion.copy()
    confused[range(len(names)), range(len(names))] = 0
    order = (-confused).argsort(axis=None, kind="stable")[:LISTED]
    worst = [
        {"truth": names[i], "guess": names[j], "times": int(confused[i, j]),
         "of": int(after.confusion[i].sum())}
        for i, j in (divmod(int(place), len(names)) for place in order) if confused[i, j]
    ]  # fmt: skip
    diagrams = [
        _diagram("before", evidence.probabilities_before, evidence.labels, before),
        _diagram("after", evidence.probabilities, evidence.labels, after),
    ]
    return {
        "evidence": evidence,
        "where": where,
        "pairs": pairs,
        "shown": shown,
        "names": names,
        "matrix": after.confusion.tolist() if len(names) <= SHOWN else None,
        "confused": worst,
        "diagrams": diagrams,
    }


def _diagram(
    when: Literal["before", "after"], probabilities: Array, labels: Array, found: Evaluation
) -> str:
    bins = Reliability.of(probabilities, labels)
    off = percent(found.calibration_error)
    return reliability(
        bins.confidence,
        bins.accuracy,
        bins.counts,
        title=f"Reliability {when} tuning: probabilities are off by {off} on average",
        kind=when,
        words=f"{when}: off by {off}",
    )


def landscapes(found: Mapping[str, Landscape], n_photos: int) -> dict[str, Any]:
    """Surfaces over one range of losses, and their figures."""
    if not found:
        return {"surfaces": []}
    low, high = shared_range([one.losses for one in found.values()])
    side = len(next(iter(found.values())).losses)
    rows = [
        {"place": PLACES[name], "centre": one.centre, "lowest": one.lowest, "rise": one.rise}
        for name, one in found.items()
    ]
    drawn = [
        surface(
            one.losses,
            low=low,
            high=high,
            radius=RADIUS,
            title=f"Loss around the solution {PLACES[name]}: {one.centre:.3f} in the middle, "
            f"{one.rise:.3f} more on average within half the radius",
            words=f"{PLACES[name]}: {one.centre:.3f}",
        )
        for name, one in found.items()
    ]
    return {
        "surfaces": drawn,
        "surface_rows": rows,
        "landscape_forwards": sum(one.forwards for one in found.values()),
        "grid_points": len(found) * side * side,
        "side": side,
        "radius": RADIUS,
        "n_landscape_photos": n_photos,
        "of_context": all(one.forwards > 1 for one in found.values()),
    }


def cost(found: Artifact) -> list[tuple[str, str, str]]:
    """What, how much, and in a few words why."""
    record = found.record
    data, seconds = record["data"], record["seconds"]
    photos = data["training_photos"] + data["validation_photos"]
    rows = [("forwards of the text tower", f"{record['forwards']:,}", "one candidate prompt each")]
    if record["stopped"] != Reason.CLOSED_FORM.value and seconds > 0:
        rate = f"{record['forwards'] / seconds:,.1f}"
        rows.append(("forwards per second", rate, "tuning, validation included"))
    rows.append(
        ("image passes", f"{photos:,}", "training and validation photos, once, before tuning")
    )
    if more := record.get("image_passes"):
        why = "the method changes the photos themselves"
        rows.append(("further image passes", f"{more:,}", why))
    rows.append(("seconds of tuning", f"{seconds:,.1f}", "without the encoding of photos"))
    if record.get("steps"):
        rows.append(("steps", f"{record['steps']:,}", ""))
    if record.get("peak_memory_mb"):
        rows.append(("peak memory", f"{record['peak_memory_mb']:,.0f} MB", "of the whole process"))
    rows.append(("size of the result", f"{found.bytes / 1000:,.1f} kB", "its arrays"))
    return rows


def settings(record: Mapping[str, Any], method: Method) -> list[tuple[str, str, str | None]]:
    """Dotted name, value, and the default where it differs."""
    usual = dict(flat(as_dict(method.settings)))
    return [
        (name, _value(value), _value(usual[name]) if usual.get(name, value) != value else None)
        for name, value in flat(record["settings"])
    ]


def foot(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Versions and hashes."""
    model = record["model"]
    rows = [
        ("sharpzo", record["sharpzo_version"]),
        ("made", record["created"]),
        ("photos", record["data"]["source"]),
        ("seed", str(record["seed"])),
        ("shots", str(record["data"].get("shots") or "all photos of the data set's draw")),
        ("prompt template", record["template"]),
        ("model", model["id"] or "embedded"),
        ("model sha256", model["sha256"]),
        ("text tower sha256", model["text_sha256"]),
        ("training photos sha256", record["data"].get("training_sha256") or "not recorded"),
        ("result sha256", record["arrays_sha256"]),
    ]
    return [(name, str(value)) for name, value in rows]


def remarks(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Notes on the photos and what was left out of them, hidden files aside; None if nothing."""
    data = record["data"]
    skipped = [one for one in data.get("skipped", []) if one["reason"] != HIDDEN]
    notes = data.get("notes", [])
    return {"notes": notes, "skipped": skipped} if notes or skipped else None


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(_value(one) for one in value)
    return f"{value:,}" if isinstance(value, int) else str(value)
