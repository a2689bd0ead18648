"""The methods of docs/methods.md, run as the page tells its reader to."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from sharpzo import Method, register
from sharpzo.errors import InputError
from sharpzo.methods import METHODS, load_plugin
from sharpzo.testing import check_method, check_search

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"
HEAD, SEARCH, TESTS = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.fixture
def plugins(tmp_path):
    for name, code in (("mean_photo", HEAD), ("random_search", SEARCH)):
        file = tmp_path / f"{name}.py"
        file.write_text(code)
        load_plugin(file)
    yield
    for name in ("mean-photo", "random-search"):
        METHODS.pop(name)


@pytest.mark.parametrize("name", ["mean-photo", "random-search"])
def test_documented_methods_pass_the_suite(plugins, name):
    check_method(METHODS[name])


def test_the_documented_search_passes_the_suite():
    page = {}
    exec(SEARCH.split("@dataclass")[0], page)
    search = page["RandomSearch"]
    check_search(search)


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


def test_the_documented_tests_name_the_suite(plugins):
    exec(TESTS, {})  # its imports and names exist
