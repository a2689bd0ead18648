import doctest
import importlib
import pkgutil

import pytest

import sharpzo.search

MODULES = [f"sharpzo.search.{m.name}" for m in pkgutil.iter_modules(sharpzo.search.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
