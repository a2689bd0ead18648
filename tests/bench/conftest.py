"""A few demo photos in a folder, and recipes on them."""

from __future__ import annotations

import json

import pytest

from command import demo_folder

METHODS = """[
  "zero-shot",
  "projection",
  { method = "cma-es", label = "search", settings = { validate_every = 10, search.cma.population_size = 8 } },
]"""  # noqa: E501


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder with few/train (7 per class) and few/test (4 per class)."""
    root = tmp_path_factory.mktemp("bench-photos")
    demo_folder(root / "few", train=7, test=4)
    return root


@pytest.fixture
def recipe(tmp_path, photos):
    """Write a recipe on these photos; keywords are lines of TOML that replace the usual ones."""

    def write(name: str = "recipe.toml", more: str = "", **lines: str):
        usual = {
            "title": '"A few photos"',
            "data": json.dumps(str(photos)),
            "baseline": '"zero-shot"',
            "threads": "1",
            "data_sets": '["few"]',
            "shots": "[2]",
            "seeds": "[1, 2]",
            "budgets": "[30, 60]",
            "milestones": "[20]",
            "methods": METHODS,
        }
        text = "\n".join(f"{key} = {value}" for key, value in (usual | lines).items() if value)
        path = tmp_path / name
        path.write_text(f"{text}\n{more}")
        return path

    return write
