"""What a recipe may say, and the one sentence for everything else."""

import json
from dataclasses import asdict
from pathlib import Path

import msgspec
import pytest

from command import refused
from sharpzo.bench.cell import Cell, expand
from sharpzo.bench.published import find_published
from sharpzo.bench.recipe import Entry, read_recipe
from sharpzo.errors import InputError
from sharpzo.methods import find


def test_what_stands_above_the_grids_holds_for_all_that_do_not_say_otherwise(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text("""
seeds = [1, 2]
budgets = [200, 100]
methods = ["zero-shot", { method = "sharpzo", preset = "paper/eurosat", settings = { search.zo.keep = 0.1, "dim" = 64 } }]
[[grid]]
data_sets = ["demo"]
[[grid]]
data_sets = ["demo"]
seeds = [3]
shots = [4]
methods = [{ method = "projection", budgets = [], seconds = 2 }, { method = "fgn", precision = "int8" }]
""")  # noqa: E501
    recipe = read_recipe(path)
    first, second = recipe.grids
    assert (recipe.title, first.seeds, second.seeds) == ("r", (1, 2), (3,))
    assert (first.shots, second.shots) == ((None,), (4,))
    assert first.budgets == second.budgets == (100, 200)
    assert first.methods[1] == Entry(
        "sharpzo",
        "sharpzo paper/eurosat search.zo.keep=0.1 dim=64",
        "paper/eurosat",
        {"search.zo.keep": 0.1, "dim": 64},
    )
    assert second.methods == (
        Entry("projection", "projection", budgets=(), seconds=2.0),
        Entry("fgn", "fgn int8", precision="int8"),
    )
    assert recipe.labels == (*(entry.label for entry in first.methods), "projection", "fgn int8")


def test_a_cell_is_named_by_its_content(recipe, photos, tmp_path):
    def keys(**lines):
        return {cell.name: cell.key for cell in expand(read_recipe(recipe(**lines)))}

    usual = keys()
    assert len(set(usual.values())) == len(usual) == 6
    assert keys(title='"Another"', baseline="") == usual  # nothing that a cell depends on
    again = keys(data="", data_sets=json.dumps([str(photos / "few")]))
    assert list(again.values()) == list(usual.values())  # the same photos by another name
    for lines in (
        {"shots": "[1]"},
        {"seeds": "[3, 4]"},
        {"budgets": "[30, 61]"},
        {"threads": "2"},
        {"template": '"a picture of a {}."'},
        {"methods": '[{ method = "cma-es", label = "search", precision = "int8" }]',
         "baseline": ""},
        {"methods": '[{ method = "cma-es", label = "search", settings = { dim = 16 } }]',
         "baseline": ""},
    ):  # fmt: skip
        assert not set(keys(**lines).values()) & set(usual.values()), lines


def test_other_photos_or_names_make_another_cell(recipe, photos, tmp_path):
    import shutil

    def key():
        cells = expand(read_recipe(recipe(methods='["zero-shot"]', seeds="[1]", shots="")), other)
        return cells[0].key

    other = tmp_path / "photos"
    shutil.copytree(photos, other)
    keys = [key()]
    test = other / "few" / "test"
    photo = next((test / "bag").iterdir())
    photo.rename(test / "dress" / "new.png")  # the photos are the same ones, a label is not
    keys.append(key())
    for split in ("train", "test"):
        (other / "few" / split / "bag").rename(other / "few" / split / "backpack")
    keys.append(key())
    assert len(set(keys)) == 3


def test_a_cell_passes_through_json(recipe):
    cell = expand(read_recipe(recipe()))[-1]
    assert not {"root", "beside", "plugins"} & set(cell.as_record())
    assert msgspec.convert(cell.as_record(), Cell).key == cell.key
    assert msgspec.convert(json.loads(json.dumps(asdict(cell))), Cell) == cell


BAD = {
    "not TOML": ({}, "methods = [", "is not TOML"),
    "nested": ({}, "x = " + 5000 * "[", "in too many others"),
    "unknown key": ({}, "shot = 4", "'shot' (did you mean 'shots'?) that means nothing"),
    "unknown key in a grid": ({"seeds": ""}, "[[grid]]\nseed = [1]", "grid 1 has a key 'seed'"),
    "wrong type": ({"seeds": "1"}, "", "seeds is 1; give a list, each an integer of at least 0"),
    "wrong item": (
        {"shots": "[0]"},
        "",
        "shots is [0]; give a list, each an integer of at least 1",
    ),
    "boolean seed": ({"seeds": "[true]"}, "", "seeds is [True]"),
    "twice": ({"seeds": "[1, 1]"}, "", "seeds has 1 twice"),
    "plugin twice": ({"plugins": '["a.py", "a.py"]'}, "", "plugins has 'a.py' twice"),
    "title": ({"title": "3"}, "", "title is 3; give a string"),
    "grid": ({}, "grid = 3", "grid is 3; write it as a table [[grid]]"),
    "settings that are no table": (
        {"methods": '["zero-shot", { method = "sharpzo", settings = 3 }]'},
        "",
        "method 2: settings is 3; give a table { name = value }",
    ),
    "no methods": (
        {"methods": "[]", "baseline": ""},
        "",
        "methods is (); give a list of one or more methods",
    ),
    "no data sets": ({"data_sets": ""}, "", "data_sets is (); give a list of one or more strings"),
    "two labels": (
        {"methods": '["zero-shot", "zero-shot"]'},
        "",
        "two methods are called 'zero-shot'",
    ),
    "method of no kind": ({"methods": "[3]", "baseline": ""}, "", "method 1 is 3"),
    "time without an end": (
        {"methods": "[{ method = 'cma-es', seconds = inf }]", "baseline": ""},
        "",
        "seconds is inf; give a finite number above 0",
    ),
    "nameless method": (
        {"methods": "[{ label = 'x' }]"},
        "",
        "method 1: method is ''; give a name of 'sharpzo methods'",
    ),
    "unknown method": ({"methods": '["zero-shto"]', "baseline": ""}, "", "no method 'zero-shto'"),
    "unknown preset": (
        {"methods": '["zero-shot", { method = "sharpzo", preset = "paper/mars" }]'},
        "",
        "has no preset 'paper/mars'",
    ),
    "unknown setting": (
        {"methods": '["zero-shot", { method = "sharpzo", settings = { search.rho = 1 } }]'},
        "",
        "no setting 'search.rho'",
    ),
    "bad setting": (
        {"methods": '["zero-shot", { method = "sharpzo", settings = { dim = "wide" } }]'},
        "",
        "dim is 'wide'; give an integer",
    ),
    "unknown precision": (
        {"methods": '["zero-shot", { method = "fgn", precision = "int2" }]'},
        "",
        "precision is 'int2' (did you mean 'int8'?); give one of 'float32'",
    ),
    "unknown baseline": ({"baseline": '"coop"'}, "", "baseline 'coop' is no method of the recipe"),
    "unknown data set": ({"data_sets": '["eurosta"]'}, "", "there is no data set 'eurosta'"),
    "wrong root": ({"data_sets": '["eurosat"]', "data": '"nowhere"'}, "", "no data folder"),
    "no root": ({"data_sets": '["eurosat"]', "data": ""}, "", "eurosat needs its photos"),
    "missing split file": ({"data_sets": '["eurosat"]'}, "", "holds split_zhou_EuroSAT.json"),
    "no test photos": ({"data_sets": '["few/train"]'}, "", "few/train has no test photos"),
    "demo draw": ({"data_sets": '["demo"]', "seeds": "[4]"}, "", "no draw of seed 4"),
    "unknown model": ({"models": '["nowhere"]'}, "", "'nowhere' is neither a folder nor a hub id"),
    "missing plugin": ({"plugins": '["mine.py"]'}, "", "there is no plugin file"),
    "template": ({"template": '"a photo"'}, "", "template is 'a photo'; put {}"),
    "shifted classes": ({"test_on": '["demo"]'}, "", "demo cannot test what was tuned on few"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_recipe_is_one_sentence_and_leaves_nothing(case, recipe, capsys, tmp_path):
    lines, more, sentence = BAD[case]
    path = recipe(more=more, **lines)
    assert sentence in refused(capsys, "bench", path, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_recipe_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_recipe(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--workers", "0"), "workers is 0"),
        (("--address", "127.0.0.1:1"), "add --engine ray"),
    ],
)
def test_bad_options_are_one_sentence(options, sentence, recipe, capsys):
    assert sentence in refused(capsys, "bench", recipe(), *options)


def test_the_recipes_of_the_paper_s_table_name_presets_and_published_figures():
    folder = Path(__file__).parents[2] / "experiments" / "paper"
    for name, backbone in (("vit-b16.toml", "ViT-B/16"), ("rn50.toml", "RN50")):
        recipe = read_recipe(folder / name)
        assert len(recipe.grids) == 11
        for grid in recipe.grids:
            for entry in grid.methods:
                find(entry.method).configure(entry.preset, entry.settings)
            for method in ("zero-shot", "sharpzo"):
                assert find_published(method, grid.data_sets[0], 16, backbone)
