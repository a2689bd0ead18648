"""Results of earlier versions keep their names: the committed comparison is found again, unrun."""

import json
from pathlib import Path

from sharpzo.bench.cell import expand, switched_on
from sharpzo.bench.recipe import read_recipe
from sharpzo.bench.results import Results
from sharpzo.methods import find

COMPARISON = Path(__file__).parents[2] / "experiments" / "comparison"
RESULTS = Results(COMPARISON / "out")


def test_every_committed_result_can_be_read():
    files = [file.stem for file in (COMPARISON / "out" / "cells").glob("*.json")]
    assert len(files) > 300
    for key in files:
        RESULTS.read(key)


def test_cells_on_the_photos_in_the_package_have_the_names_they_had(tmp_path):
    """Those of the other data sets need their photos; the next test compares all but these."""
    text = (COMPARISON / "recipe.toml").read_text()
    head, *grids = text.split("[[grid]]")
    demo = [grid for grid in grids if 'data_sets = ["demo"]' in grid]
    (tmp_path / "recipe.toml").write_text("[[grid]]".join([head.replace("baseline", "#"), *demo]))
    now = {cell.name: cell.key for cell in expand(read_recipe(tmp_path / "recipe.toml"))}
    known = {cell.name: cell.key for cell in RESULTS.about().cells if cell.data_set == "demo"}
    assert now == known
    assert len(now) > 40


def test_settings_are_written_as_they_were():
    done = [cell for cell in RESULTS.about().cells if cell.key in RESULTS]
    assert len(done) >= 310
    for cell in done:
        method = find(cell.method)
        now = method.key(method.configure(cell.preset, cell.changes))
        then = RESULTS.read(cell.key).settings
        assert json.dumps(switched_on(now), sort_keys=True) == json.dumps(
            switched_on(then), sort_keys=True
        ), cell.name
