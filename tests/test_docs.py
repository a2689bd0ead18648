"""The examples in docstrings run."""

import doctest
import importlib

import pytest

from test_house import MODULES, SOURCE

NAMES = [
    ".".join(("sharpzo", *path.relative_to(SOURCE).with_suffix("").parts))
    for path in MODULES
    if path.name != "__init__.py" and ">>>" in path.read_text()
]


@pytest.mark.parametrize("name", NAMES)
def test_examples_run(name):
    # import_module returns the module even where a package hands on a function of its name.
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
