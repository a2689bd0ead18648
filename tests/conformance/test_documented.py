"""The methods of docs/methods.md, run as the page tells its reader to."""

import re
from pathlib import Path

import pytest

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


def test_the_documented_tests_name_the_suite(plugins):
    exec(TESTS, {})  # its imports and names exist
