"""Every method here passes the suite that is shipped for others'."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from sharpzo.linear import LinearHead
from sharpzo.methods import METHODS, Fit, Method
from sharpzo.methods.zero_shot import ZeroShotSettings
from sharpzo.testing import METHOD_CHECKS, check_method
from sharpzo.types import Reason


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The text tower of a checkpoint: a toy has no weights to give to torch."""
    pytest.importorskip("torch")
    from sharpzo.towers.checkpoint import Checkpoint
    from sharpzo.towers.tower import OnnxTextTower
    from towers.random_models import TEXT, VISION, save_clip

    folder = tmp_path_factory.mktemp("checkpoint")
    save_clip(folder, TEXT, VISION)
    return OnnxTextTower(Checkpoint.open(folder), ["cat", "dog", "tench", "river"], threads=1)


# Methods that need other settings than their defaults.
CHANGES = {
    # Two steps: every photo of every loss is decoded at 224 x 224.
    "blackvip": {"batch": 2, "image_passes": 70},
    "coop": {"epochs": 2, "batch": 12, "validate_every": 10},
    "coop-csc": {"epochs": 2, "batch": 12, "validate_every": 10},
    "ladder+image": {"evidence": 4},
}


OF_TOYS = [name for name in METHODS if name not in ("clip-lora", "tune-blocks")]


@pytest.mark.parametrize("check", METHOD_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", OF_TOYS)
def test_method(name, check, request):
    """All but clip-lora and tune-blocks, whose tests run the suite on a checkpoint."""
    method = METHODS[name]
    tower = request.getfixturevalue("small") if name.startswith("coop") else None
    check(replace(method, settings=method.configure(None, CHANGES.get(name))), tower)


def careless(fault):
    def fit(settings, task):
        draws = np.random if fault == "random" else np.random.default_rng(0)
        weight = draws.normal(size=(len(task.tower.class_names), task.train.vectors.shape[1]))
        counts = np.bincount(task.train.labels, minlength=len(weight))
        if fault == "peeks" and task.validation is not None:
            weight[0] = task.validation.vectors[0]
        if fault == "divides":
            weight = weight / np.where(counts > 0, 1.0, np.nan)[:, None]
        head = LinearHead(weight.astype(np.float32), np.zeros(len(weight), np.float32), 1.0)
        return Fit(head, Reason.CLOSED_FORM, forwards=0)

    def load(arrays):
        return LinearHead(arrays["weight"][::-1], arrays["bias"], 1.0)

    more = {"load": load} if fault == "loads" else {}
    more |= {"validation": lambda settings: False} if fault == "peeks" else {}
    return Method("careless", "a fault", ZeroShotSettings(), fit, **more)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("random", "a global generator was used"),
        ("divides", "not finite"),
        ("loads", "loaded head"),
        ("peeks", "changes with validation photos"),
    ],
)
def test_the_suite_finds_faults(fault, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_method(careless(fault))


def test_a_run_imports_its_own_method_alone():
    code = """
import json, sys
from sharpzo.methods import find
FIRST = "sharpzo.methods.", "sharpzo.optim", "PIL"
find("ladder+gda")
print(json.dumps([m for m in sys.modules if m.startswith(FIRST)]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    own = ("registry", "cached", "choose", "gda", "ladder", "moments")
    assert {*json.loads(done.stdout)} == {f"sharpzo.methods.{name}" for name in own}


def test_the_table_of_modules_is_what_they_register():
    code = """
import json
from importlib import import_module
from pkgutil import iter_modules
from sharpzo import methods
for module in iter_modules(methods.__path__):
    import_module(f"sharpzo.methods.{module.name}")
print(json.dumps([sorted(methods.METHODS._known), sorted(methods.registry.HOMES)]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    registered, listed = json.loads(done.stdout)
    assert registered == listed


def test_a_name_of_ours_is_taken_before_its_module_is_imported():
    code = """
from dataclasses import dataclass
from sharpzo.methods import Method, register
from sharpzo.settings import Settings
register(Method("gda", "", Settings(), lambda settings, task: None))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "a method called 'gda' exists already" in done.stderr
