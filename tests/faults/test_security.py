"""What SECURITY.md promises: each line names a test, and here are those that had none."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from sharpzo.bench.table import Row, write_table
from sharpzo.errors import CheckpointError
from sharpzo.towers.weights import files

ROOT = Path(__file__).parents[2]
NAMED = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "SECURITY.md").read_text("utf-8"))


def test_every_promise_has_its_test():
    assert len(NAMED) > 20
    for file, name in NAMED:
        text = (ROOT / file).read_text("utf-8")
        assert f"def {name or 'test_'}" in text, f"{file} has no {name}"


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "", ".", "x" * 5000, "a\0b"])
def test_an_index_stays_in_its_folder(tmp_path, name):
    (tmp_path / "secret").touch()
    (tmp_path / "model").mkdir()
    index = {"weight_map": {"a": name}}
    (tmp_path / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="which is not a file in that folder"):
        files(tmp_path / "model")


@pytest.mark.parametrize("name", ["=cmd|'/c calc'!A1", "+1", "-1+2", "@SUM(A1)"])
def test_a_name_is_no_formula_in_a_table(tmp_path, name):
    write_table([replace(ROW, data_set=name, method=f"{name}\x1b[2J\nx")], tmp_path / "table.csv")
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert len(lines) == 2
    assert not re.search(r"(^|,)\"?[=+@-][^0-9]", lines[1])
    assert "\x1b" not in lines[1]


NUMBERS = {"int": 1, "float": 0.5, "bool": True, "str": "x"}
ROW = Row(
    **{name: NUMBERS[str(kind).split(" ", 1)[0]] for name, kind in Row.__annotations__.items()}
)
