"""The methods of docs/methods.md are short; tests/test_pages.py runs them and their tests."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from sharpzo import Method, register
from sharpzo.errors import InputError
from sharpzo.methods import METHODS

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"
HEAD, SEARCH, _ = re.findall(r"```python .*?\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("code", [HEAD, SEARCH], ids=["head", "search"])
def test_a_method_is_one_short_file_that_imports_sharpzo_alone(code):
    assert code.count("\n") <= 80
    known = {"sharpzo", "dataclasses", "numpy"}
    assert {
        line.split()[1] for line in code.splitlines() if line.startswith(("from", "import"))
    } <= known


def test_settings_that_check_nothing_are_refused():
    @dataclass(frozen=True)
    class Loose:
        share: float = 0.5

    with pytest.raises(InputError, match=r"are of type Loose; derive it from sharpzo\.Settings"):
        register(Method("loose", "settings of its own", Loose(), lambda settings, task: None))
    assert "loose" not in METHODS
