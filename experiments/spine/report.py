"""Tables and curves of ``results.jsonl``.

    python experiments/spine/report.py            # Markdown tables on standard output
    python experiments/spine/report.py --plot docs/curves.svg

Mean ± standard deviation over seeds, in per cent of the full test split; a single seed has no ±.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
ORDER = (
    "zero-shot", "linear-probe", "projection", "cma-es", "sharp-cma-es",
    "sharpzo-dense", "sharpzo", "sharpzo-magnitude", "sharpzo-paper",
)  # fmt: skip
NAMES = {
    "sharpzo-dense": "sharpzo, dense stage 2",
    "sharpzo": "sharpzo, Z-pruned (default)",
    "sharpzo-magnitude": "sharpzo, magnitude-pruned",
    "sharpzo-paper": "sharpzo, settings as published",
}
TICKS = (500, 2000, 8000, 40_000)
TITLES = {"eurosat": "EuroSAT", "caltech101": "Caltech-101"}


def cell(values: list[float]) -> str:
    if not values:
        return "–"
    spread = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.1f}{spread}"


def at(line: dict, forwards: int) -> float | None:
    for point in line.get("curve", ()):
        if point["forwards"] == forwards:
            return point["test_accuracy"]
    return None


def read(path: Path) -> list[dict]:
    """Results, of several runs of one cell the longest."""
    longest: dict[tuple, dict] = {}
    for text in path.read_text().splitlines():
        line = json.loads(text)
        key = line["dataset"], line["method"], line["seed"]
        if key not in longest or line["forwards"] >= longest[key]["forwards"]:
            longest[key] = line
    return list(longest.values())


def tables(lines: list[dict]) -> str:
    out = []
    for dataset, title in TITLES.items():
        groups = defaultdict(list)
        for line in lines:
            if line["dataset"] == dataset:
                groups[line["method"]].append(line)
        if not groups:
            continue
        seeds = sorted({line["seed"] for group in groups.values() for line in group})
        out += [
            f"### {title}, 16 shots, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}",
            "",
            "| method | at most one forward | 8,000 forwards | 40,000 forwards | stage 2 from |",
            "|---|---|---|---|---|",
        ]
        for method in ORDER:
            group = groups.get(method)
            if not group:
                continue
            label = NAMES.get(method, method)
            if "curve" in group[0]:
                marks = [
                    cell([a for line in group if (a := at(line, m)) is not None])
                    for m in (8000, 40_000)
                ]
                switch = sorted({line["switched_at_forwards"] or 0 for line in group})
                moved = ", ".join(f"{s:,}" for s in switch if s) or "never"
                out.append(f"| {label} | | {marks[0]} | {marks[1]} | {moved} |")
            else:
                test = cell([line["test_accuracy"] for line in group])
                out.append(f"| {label} | {test} | | | |")
        out.append("")
    return "\n".join(out)


def plot(lines: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "sharpzo"
    import matplotlib.pyplot as plt

    shown = [d for d in TITLES if any(line["dataset"] == d for line in lines)]
    figure, axes = plt.subplots(1, len(shown), figsize=(5.6 * len(shown), 4.2), squeeze=False)
    for axis, dataset in zip(axes[0], shown, strict=True):
        for i, method in enumerate(ORDER):
            group = [x for x in lines if x["dataset"] == dataset and x["method"] == method]
            if not group:
                continue
            label, colour = NAMES.get(method, method), f"C{i}"
            if "curve" not in group[0]:
                mean = 100 * np.mean([x["test_accuracy"] for x in group])
                axis.axhline(mean, linestyle=":", color=colour, label=label)
                continue
            shortest = min(len(x["curve"]) for x in group)
            forwards = [point["forwards"] for point in group[0]["curve"][:shortest]]
            values = 100 * np.array(
                [[p["test_accuracy"] for p in x["curve"][:shortest]] for x in group]
            )
            axis.plot(forwards, values.mean(0), color=colour, label=label)
            if len(group) > 1:
                spread = values.std(0, ddof=1)
                mean = values.mean(0)
                axis.fill_between(forwards, mean - spread, mean + spread, color=colour, alpha=0.12)
        axis.set(xscale="log", xlabel="forwards", title=f"{TITLES[dataset]}, 16 shots")
        axis.set_xticks(TICKS, [f"{tick:,}" for tick in TICKS], minor=False)
        axis.set_xticks([], minor=True)
        axis.set_ylabel("test accuracy (%)")
        axis.grid(alpha=0.3)
    # The first data set has every method.
    axes[0][-1].legend(
        *axes[0][0].get_legend_handles_labels(),
        fontsize=7,
        loc="center left",
        bbox_to_anchor=(1.02, 0.5),
    )
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    lines = read(args.results)
    if args.plot:
        plot(lines, args.plot)
    else:
        print(tables(lines))


if __name__ == "__main__":
    main()
