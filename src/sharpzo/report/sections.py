"""The sections of a run's page: records and figures as sentences, rows and SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any, Literal

from sharpzo.evaluate import Evaluation
from sharpzo.fitting.strangers import unseen_scores
from sharpzo.fitting.trained import Trained
from sharpzo.methods.registry import Method
from sharpzo.report.charts import Line, line_chart, reliability, surface
from sharpzo.report.evidence import Evidence, reliability_bins, worst_mistakes
from sharpzo.report.landscape import RADIUS, Landscape, shared_range
from sharpzo.report.page import percent
from sharpzo.settings import as_dict, flat
from sharpzo.types import Array, Reason, Step

SHOWN = 40  # classes of bars and matrix; of more, those that moved most, and no matrix
DIAL = (0.01, 0.02, 0.05, 0.1, 0.2)  # shares of known photos that may be lost
LISTED = 30  # pairs of classes in the list of confusions
PLACES = {"before": "before tuning", "stage1": "at the end of stage 1", "after": "after tuning"}


def opening(record: Mapping[str, Any], evidence: Evidence | None) -> dict[str, Any]:
    """The accuracies in the title's sentence: recorded, or measured where nothing was recorded;
    ``measured_again`` where the photos give another one than the run recorded."""
    split = "test" if record["test"].get("accuracy") is not None else "validation"
    before, after = record[split].get("zero_shot_accuracy"), record[split].get("accuracy")
    many, again = record["data"].get(f"{split}_photos"), None
    if evidence is not None and evidence.split == split:
        many, measured = len(evidence.photos), evidence.after.accuracy
        before = evidence.before.accuracy if before is None else before
        again = measured if after is not None and abs(measured - after) > 0.5 / many else None
    return {
        "split": split,
        "before": before,
        "after": after,
        "n_evaluated": many,
        "measured_again": again,
        "searched": record["stopped"] != Reason.CLOSED_FORM.value,
    }


def accuracy_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per method: untuned, what it was compared with, and the run itself last."""
    splits = {split: record[split] for split in ("test", "validation")}
    untuned = {split: found.get("zero_shot_accuracy") for split, found in splits.items()}
    own = {split: found["accuracy"] for split, found in splits.items()}
    own |= {name: record[name] for name in ("method", "forwards", "seconds")}
    blank = dict.fromkeys(("shifted", "forwards", "seconds"))
    rows = record.get("methods") or ({"method": "zero-shot", **untuned}, own)
    return [{**blank, **row} for row in rows]


def better(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The row of the method that validated best, if it is not the run's own (the last)."""
    best = max(rows, key=lambda row: row["validation"] or 0.0)
    return best if (best["validation"] or 0.0) > (rows[-1]["validation"] or 0.0) else None


def search(record: Mapping[str, Any], steps: Sequence[Step]) -> dict[str, Any]:
    """Curves, and the stages with their steps and forwards."""
    rows = []
    for stage, found in groupby(steps, key=lambda step: step.stage):
        some = list(found)
        scored = [s.validation_accuracy for s in some if s.validation_accuracy is not None]
        rows.append({
            "stage": stage,
            "first": some[0].forwards,
            "last": some[-1].forwards,
            "loss": some[-1].loss,
            "validation": max(scored, default=None),
        })  # fmt: skip
    return {"curves": _curves(steps, record["settings"].get("choose", False)), "stages": rows}


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
    # Where a new stage was first validated.
    marks = [(new.forwards, new.stage) for old, new in pairwise(history) if new.stage != old.stage]
    lines = [Line("training loss", xs, [step.loss for step in history])]
    if any(step.validation_loss is not None for step in history):
        losses = [step.validation_loss for step in history]
        lines.append(Line("validation loss", xs, losses, "before"))
    title = f"Loss against forwards: from {history[0].loss:.3f} to {history[-1].loss:.3f}"
    charts = [line_chart(lines, title=title, marks=marks)]
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


def photos(evidence: Evidence) -> dict[str, Any]:
    """Classes, confusion and calibration."""
    names = list(evidence.photos.class_names)
    before, after = evidence.before, evidence.after
    shown = pairs = [(name, before.per_class[name], after.per_class[name]) for name in names]
    if len(pairs) > SHOWN:
        shown = sorted(pairs, key=lambda row: (row[2] or 0) - (row[1] or 0), reverse=True)
        shown = shown[: SHOWN // 2] + shown[-SHOWN // 2 :]
    confused = after.confusion.copy()
    confused[range(len(names)), range(len(names))] = 0
    order = (-confused).argsort(axis=None, kind="stable")[:LISTED]
    worst = [
        {"truth": names[i], "guess": names[j], "times": confused[i, j],
         "of": after.confusion[i].sum()}
        for i, j in (divmod(place, len(names)) for place in order.tolist()) if confused[i, j]
    ]  # fmt: skip
    diagrams = [
        _diagram("before", evidence.probabilities_before, evidence.labels, before),
        _diagram("after", evidence.probabilities, evidence.labels, after),
    ]
    return {
        "evidence": evidence,
        "where": f"{after.n:,} {evidence.split} photos",
        "pairs": pairs,
        "shown": shown,
        "names": names,
        "matrix": after.confusion.tolist() if len(names) <= SHOWN else None,
        "confused": worst,
        "mistakes": worst_mistakes(evidence),
        "diagrams": diagrams,
    }


def _diagram(
    when: Literal["before", "after"], probabilities: Array, labels: Array, found: Evaluation
) -> str:
    off = percent(found.calibration_error)
    return reliability(
        *reliability_bins(probabilities, labels),
        title=f"Reliability {when} tuning: probabilities are off by {off} on average",
        kind=when,
        words=f"{when}: off by {off}",
    )


def strangers(trained: Trained) -> dict[str, Any]:
    """Rows of the dial for photos of no class: the share of known photos lost, the threshold, and
    the share of photos recognised whose class is left out of training."""
    splits = trained.splits
    if trained.strangers is None:
        return {}
    none = splits["none"].features if "none" in splits else None
    unseen = unseen_scores(splits["training"].features, none, trained.strangers.views)
    rows = []
    for lost in DIAL:
        threshold = trained.strangers.threshold(lost)
        told = None if unseen is None else float((unseen < threshold).mean())
        rows.append({"lost": lost, "threshold": threshold, "told": told})
    return {"strange_rows": rows, "counter_examples": 0 if none is None else len(none)}


def landscapes(found: Mapping[str, Landscape]) -> dict[str, Any]:
    """Surfaces over one range of losses, and their figures."""
    low, high = shared_range([one.losses for one in found.values()])
    rows = [
        {"place": PLACES[name], "centre": one.centre, "lowest": one.losses.min(), "rise": one.rise}
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
        "side": len(next(iter(found.values())).losses),
        "of_context": all(one.forwards > 1 for one in found.values()),
    }


def settings(record: Mapping[str, Any], method: Method) -> list[tuple[str, str, str | None]]:
    """Dotted name, value, and the default where it differs."""
    usual = dict(flat(as_dict(method.settings)))
    return [
        (name, _value(value), _value(usual[name]) if usual.get(name, value) != value else None)
        for name, value in flat(record["settings"])
    ]


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
