"""Tables of what the comparison has so far, for docs/comparison.md.

    python experiments/comparison/report.py --data DATASETS            # tables on standard output
    python experiments/comparison/report.py --data DATASETS --write    # table, summary, curves, too

The bench writes the same files when it ends; this does it while cells are still missing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sharpzo.bench.cell import expand
from sharpzo.bench.driver import write_outcome
from sharpzo.bench.recipe import read_recipe
from sharpzo.bench.results import About, Results
from sharpzo.bench.summary import show, summarise
from sharpzo.bench.table import tabulate

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    recipe = read_recipe(HERE / "recipe.toml")
    cells = expand(recipe, args.data)
    results = Results(HERE / "out")
    if args.write:
        write_outcome(About(recipe.title, recipe.baseline, cells), results)
    rows = tabulate(cells, results)
    done = len({row.key for row in rows})
    print(f"{done} of {len({cell.key for cell in cells})} runs are done.\n")
    for section in summarise(rows, recipe.baseline):
        print(f"### {section.title}\n\n{section.test_photos:,} test photos.\n")
        print("| method | budget | seeds | test % | minus sharpzo | ECE % | forwards | seconds |")
        print("|---|---|---|---|---|---|---|---|")
        for line in sorted(section.lines, key=lambda one: -one.test.mean):
            mine = [r for r in rows if (r.method, r.budget) == (line.method, line.budget)]
            at = (section.data_set, section.tested_on, section.shots, section.model)
            seeds = sorted(
                {r.seed for r in mine if (r.data_set, r.tested_on, r.shots, r.model) == at}
            )
            print(
                f"| {line.method} | {'own' if line.budget is None else f'{line.budget:,}'} | "
                f"{', '.join(map(str, seeds))} | {show(line.test)} | "
                f"{show(line.difference, signed=True)} | {show(line.ece)} | "
                f"{line.forwards:,.0f} | {line.seconds:,.1f} |"
            )
        print()


if __name__ == "__main__":
    main()
