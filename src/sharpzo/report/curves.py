"""The two curves of a search: loss and validation accuracy against forwards."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from sharpzo.report.figures import Line, line_chart
from sharpzo.types import Step


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


def curves(history: Sequence[Step], choose: bool) -> list[str]:
    """Charts of a journal: of loss, and of validation accuracy if there is any."""
    xs = [step.forwards for step in history]
    marks = switches(history)
    lines = [Line("training loss", xs, [step.loss for step in history])]
    judged = [step for step in history if step.validation_loss is not None]
    if judged:
        lines.append(
            Line(
                "validation loss",
                [step.forwards for step in judged],
                [step.validation_loss or 0.0 for step in judged],
                "second",
            )
        )
    charts = [
        line_chart(
            lines,
            title=f"Loss against forwards: from {history[0].loss:.3f} to {history[-1].loss:.3f}",
            x_label="forwards",
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
                x_label="forwards",
                fractions=True,
                marks=marks,
                dot=(chosen.forwards, chosen.validation_accuracy or 0.0, "kept"),
            )
        )
    return charts
