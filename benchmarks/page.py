"""The tables of docs/performance.md from the results of the benchmarks.

python benchmarks/page.py            # on standard output
python benchmarks/page.py --write    # into the page, between its markers
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))
from harness import publish, table

RESULTS = Path(__file__).parent / "results"

WAYS = {
    "sharpzo": "`sharpzo` (ladder+tokens)",
    "sharpzo, ladder+gda": "`sharpzo --method ladder+gda`",
    "sharpzo, exact": "`sharpzo --decoding exact`",
    "sharpzo, 224 pixels": "`sharpzo --image-size 224`",
    "torch": "transformers, torch, scikit-learn",
    "onnxruntime": "ONNX Runtime by hand, scikit-learn",
}
PROBE = """`linear-probe` and scikit-learn's `LogisticRegression` minimise the same loss. At the
same tolerance (1e-6) the probe takes {} of its time; at its own it stops earlier, with a
higher loss."""
Line = dict[str, Any]


def read(name: str) -> Line:
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


def whole_path() -> str:
    ways: dict[str, Line] = read("whole-path")["ways"]
    unit = ways["sharpzo"]["processor_seconds"]
    rows = [
        [name, f"{way['processor_seconds']:.1f}", f"{way['processor_seconds'] / unit:.2f}",
         f"{way['peak_mb']:,.0f} MB", f"{100 * way['accuracy']:.0f} %"]
        for name, way in ((name, ways[key]) for key, name in WAYS.items())
    ]  # fmt: skip
    head = ["way", "processor s", "ratio", "peak memory", "accuracy"]
    return table(head, rows)


def cold_start() -> str:
    found: dict[str, Line] = read("cold-start")["commands"]
    rows = [
        [f"`{name}`", f"{line['processor_seconds']:.2f}", f"{line['least_processor_seconds']:.2f}",
         f"{line['least']:.2f}"]
        for name, line in found.items()
    ]  # fmt: skip
    return table(["command", "processor s, median", "least", "wall s, least"], rows)


def images() -> str:
    rows = [
        [str(line["size"]), line["way"], f"{line['photos_per_second']:.0f}",
         f"{line['ms_per_photo']:.1f}", f"{line['floor_ms_per_photo']:.1f}",
         f"{line['times_float32']:.2f}",
         f"{line['cosine_of_states']:.3f}, {line['cosine_of_tokens']:.3f}"]
        for line in read("image-precisions")["lines"]
    ]  # fmt: skip
    head = ["pixels a side", "image tower", "photos/s", "ms per photo", "floor", "times float32",
            "least cosine of states, tokens"]  # fmt: skip
    return table(head, rows)


def savings() -> str:
    rows = [
        [name, f"{line['ms']:.0f}", f"{line['times_faster']:.1f}", f"{line['relative_error']:.0e}"]
        for name, line in read("text-savings")["rows"].items()
    ]
    head = ["added to those above", "ms per forward", "times naive", "relative error"]
    return table(head, rows)


def engines() -> str:
    """Ten classes, 32 candidates: without bfloat16 units, and with them and a floor."""
    rows: dict[tuple[str, str], list[str]] = {}
    for name, place in (("text-engines", 0), ("text-engines-bfloat16", 2)):
        for line in read(name)["rows"]:
            if (line["classes"], line["candidates"]) == (10, 32):
                row = rows.setdefault((line["model"], line["how"]), ["–"] * 6)
                row[place : place + 2] = f"{line['ms']:.1f}", f"{line['times_faster']:.2f}"
                if place:
                    row[4] = f"{line['floor_ms']:.1f}"
                row[5] = f"{line['relative_error']:.0e}"
    ours = sorted(rows.items(), key=lambda row: row[0][0] == "embedded")
    head = ["text tower", "engine", "AVX2, 2 threads: ms", "times float32",
            "AVX512-BF16, 1 thread: ms", "times float32", "floor", "relative error"]  # fmt: skip
    return table(head, ([*names, *row] for names, row in ours))


def heads() -> str:
    lines: list[Line] = [line for line in read("heads")["lines"] if line["head"] != "nothing"]
    sizes = list(dict.fromkeys(line["size"] for line in lines))
    rows = []
    for head in dict.fromkeys(line["head"] for line in lines):
        own = {line["size"]: line for line in lines if line["head"] == head}
        row = [head]
        for size in sizes:
            line = own[size]
            row += [f"{line['fit_processor_s']:.1f}", f"{line['above_features_mb']:.0f}"]
        rows.append(row)
    head = ["head"]
    for size in sizes:
        classes, shots = size.split("x")
        head += [f"{int(classes):,} x {int(shots):,}: processor s", "MB"]
    seconds = {(line["head"], line["size"]): line["fit_processor_s"] for line in lines}
    ratios = [
        f"{seconds['linear-probe', size] / seconds['scikit-learn, 1e-6', size]:.2f}"
        for size in sizes
    ]
    return f"{table(head, rows)}\n{PROBE.format(' and '.join(ratios))}\n"


if __name__ == "__main__":
    parts = {
        "whole path": whole_path(), "cold start": cold_start(), "images": images(),
        "savings": savings(), "engines": engines(), "heads": heads(),
    }  # fmt: skip
    publish("performance.md", parts, "--write" in sys.argv)
