"""The tables of docs/closed-forms.md from the results beside this file.

python experiments/ladder/table.py            # on standard output
python experiments/ladder/table.py --write    # into the page, between its markers
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from harness import Lines, publish, table

from sharpzo.bench.summary import interval

SHOTS = (1, 2, 4, 8, 16)
BOTH = ("plain", "tuned")  # ladder+gda, ladder+image
Line = dict[str, Any]


def read(name: str) -> list[Line]:
    return Lines(__file__, name).read()


def show(values: Iterable[float], sign: str = "") -> str:
    """Mean in percent with half of the 95 % interval over seeds; a dash where nothing was run."""
    found = [100 * value for value in values]
    if not found:
        return "–"
    mean = interval(found)
    return f"{mean.mean:{sign}.1f}" + ("" if mean.half is None else f" ± {mean.half:.1f}")


def values(lines: list[Line], field: str, **where: Any) -> list[float]:
    return [
        line[field] for line in lines if all(line[name] == value for name, value in where.items())
    ]


def names(lines: list[Line], field: str) -> list[Any]:
    return list(dict.fromkeys(line[field] for line in lines))


def few_shots(lines: list[Line], field: str, validated: bool) -> str:
    lines = [x for x in lines if x["protocol"] == "all" and x["validated"] == validated]
    parts = []
    for dataset in names(lines, "dataset"):
        rows = []
        for method in names(lines, "method"):
            where = {"dataset": dataset, "method": method}
            found = [values(lines, field, shots=shots, **where) for shots in SHOTS]
            rows.append([method, *(show(one) for one in found)])
        parts.append(f"{dataset}:\n\n" + table(["method", *map(str, SHOTS)], rows))
    return "\n".join(parts)


def prior(lines: list[Line]) -> str:
    rows = []
    for dataset in names(lines, "dataset"):
        for classes in names([x for x in lines if x["dataset"] == dataset], "classes"):
            for shots in names(lines, "shots"):
                row = [dataset, str(classes), str(shots)]
                for validated in (True, False):
                    for field in ("calibration_error", "strangers"):
                        where = {"dataset": dataset, "classes": classes, "shots": shots,
                                 "validated": validated}  # fmt: skip
                        means = [
                            100 * statistics.mean(values(lines, field, rule=rule, **where))
                            for rule in ("flat", "prior")
                        ]
                        row.append(" → ".join(f"{mean:.1f}" for mean in means))
                rows.append(row)
    head = ["data set", "classes", "photos", "calibration error", "strangers", "no validation",
            "strangers"]  # fmt: skip
    return table(head, rows)


def cost(lines: list[Line]) -> str:
    lines = [x for x in lines if x["protocol"] == "all" and x["shots"] == 16 and x["validated"]]
    rows = []
    for method in names(lines, "method"):
        row = [method]
        for dataset in names(lines, "dataset"):
            where = {"dataset": dataset, "method": method}
            row += [
                f"{statistics.median(values(lines, 'seconds', **where)):.1f}",
                f"{statistics.median(values(lines, 'kilobytes', **where)):,.0f}",
            ]
        row.append(f"{max(values(lines, 'forwards', method=method))}")
        rows.append(row)
    head = ["method"]
    for dataset in names(lines, "dataset"):
        head += [f"{dataset}: s", "kB"]
    return table([*head, "forwards"], rows)


def halves(lines: list[Line]) -> str:
    lines = [x for x in lines if x["protocol"] == "base-to-new"]
    fields = ("base", "new", "base_among_all", "new_among_all")
    rows = [
        [dataset, method, *(show(values(lines, f, dataset=dataset, method=method)) for f in fields)]
        for dataset in names(lines, "dataset")
        for method in names(lines, "method")
    ]
    head = ["data set", "method", "base", "new", "base among all names", "new among all names"]
    return table(head, rows)


def unseen(lines: list[Line]) -> str:
    fields = ["projection", "norm", "kernel 0.2", "kernel 0.35", "kernel 0.5", "kernel 0.7"]
    fields.append("kernel by classes")
    rows = []
    for dataset in names(lines, "dataset"):
        for which in names(lines, "halves"):
            found = [x for x in lines if (x["dataset"], x["halves"]) == (dataset, which)]
            if not found:
                continue
            means = [100 * statistics.mean(values(found, field)) for field in fields]
            zero = 100 * statistics.mean(values(found, "zero_shot"))
            rows.append([dataset, which, f"{zero:.1f}", *(f"{mean:+.1f}" for mean in means)])
    return table(["data set", "half with photos", "zero-shot", *fields], rows)


def norm(lines: list[Line]) -> str:
    rows = []
    for dataset in names(lines, "dataset"):
        fields = ("zero_shot_base", "norm_base", "projection_base")
        rows.append([dataset, *(show(values(lines, field, dataset=dataset)) for field in fields)])
    return table(["data set", "zero-shot", "final norm", "projection"], rows)


def image_block(lines: list[Line]) -> str:
    rows = []
    for dataset in names(lines, "dataset"):
        for shots in names(lines, "shots"):
            for tuned in names(lines, "tuned"):
                found = [
                    x for x in lines
                    if (x["dataset"], x["shots"], x["tuned"]) == (dataset, shots, tuned)
                ]  # fmt: skip
                if found:
                    gains = [x["after"] - x["before"] for x in found]
                    rows.append([
                        dataset, str(shots), tuned, f"{found[0]['parameters']:,}",
                        show(x["before"] for x in found), show(x["after"] for x in found),
                        ", ".join(f"{100 * one:+.1f}" for one in gains),
                    ])  # fmt: skip
    head = ["data set", "shots", "tuned", "numbers", "before", "after", "change by seed"]
    return table(head, rows)


def image(lines: list[Line]) -> str:
    rows = []
    for dataset in names(lines, "dataset"):
        for shots in sorted(names(lines, "shots")):
            found = [
                x for x in lines
                if (x["protocol"], x["dataset"], x["shots"]) == ("all", dataset, shots)
            ]  # fmt: skip
            if not found:
                continue
            row = [dataset, str(shots)]
            row += [show(x["test"][name]["accuracy"] for x in found) for name in BOTH]
            for where in ("test", "others"):
                gains = [x[where]["tuned"]["accuracy"] - x[where]["plain"]["accuracy"]
                         for x in found]  # fmt: skip
                row.append(", ".join(f"{100 * one:+.1f}" for one in gains))
            row.append(", ".join(str(x["steps"]) for x in found))
            for field, factor, digits in (("cross_entropy", 1, 2), ("calibration_error", 100, 1)):
                means = [
                    factor * statistics.mean(x["test"][name][field] for x in found)
                    for name in BOTH
                ]  # fmt: skip
                row.append(" → ".join(f"{mean:.{digits}f}" for mean in means))
            row.append(f"{statistics.median(x['seconds'][1] for x in found):.0f}")
            rows.append(row)
    head = ["data set", "shots", "ladder+gda", "ladder+image", "change by seed",
            "change on development photos", "steps kept", "cross-entropy", "calibration error",
            "s"]  # fmt: skip
    return table(head, rows)


def image_halves(lines: list[Line]) -> str:
    lines = [x for x in lines if x["protocol"] == "base-to-new"]
    fields = ("base", "new", "base_among_all", "new_among_all")
    rows = [
        [dataset, method,
         *(show(x["test"][name][f] for x in lines if x["dataset"] == dataset) for f in fields)]
        for dataset in names(lines, "dataset")
        for method, name in (("ladder+gda", "plain"), ("ladder+image", "tuned"))
    ]  # fmt: skip
    head = ["data set", "method", "base", "new", "base among all names", "new among all names"]
    return table(head, rows)


def main() -> None:
    results, halved = read("results.jsonl"), read("unseen.jsonl")
    parts = {
        "accuracy": few_shots(results, "test_accuracy", True),
        "no-validation": few_shots(results, "test_accuracy", False),
        "calibration": few_shots(results, "calibration_error", True),
        "calibration-alone": few_shots(results, "calibration_error", False),
        "prior": prior(read("temperature.jsonl")),
        "cost": cost(results),
        "halves": halves(results),
        "unseen": unseen(halved),
        "norm": norm(halved),
        "image-block": image_block(read("image_block.jsonl")),
        "image": image(read("image.jsonl")),
        "image-halves": image_halves(read("image.jsonl")),
    }
    publish("closed-forms.md", parts, "--write" in sys.argv)


if __name__ == "__main__":
    main()
