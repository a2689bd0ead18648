"""``sharpzo-fast``, ``sep-cma-es`` and ``lm-ma-es`` from end to end on a toy tower."""

import dataclasses

import numpy as np
import pytest

from sharpzo.budget import Budget
from sharpzo.errors import InputError
from sharpzo.methods import Task, find, fit
from sharpzo.settings import changes
from sharpzo.testing.toys import ToyTower, make_features
from sharpzo.tuning.objective import TANGENT_COST

FAST = find("sharpzo-fast")


def make_task(**more):
    tower = ToyTower()
    return Task(make_features(tower), make_features(tower, per_class=3, seed=5), tower, **more)


def test_both_stages_lower_the_loss_within_the_budget():
    received = []
    task = make_task(budget=Budget(forwards=900), listen=received.append)
    few = {"dim": 32, "choose": False, "search.switch.generation": 6,
               "search.zo.learning_rate": 0.1}  # fmt: skip
    fitted = fit(FAST, FAST.configure(None, few), task)
    assert fitted.forwards <= 900
    by_stage = {stage: [s.loss for s in received if s.stage == stage]
                for stage in ("sharp-cma", "sparse-zo")}  # fmt: skip
    assert by_stage["sharp-cma"][-1] < by_stage["sharp-cma"][0]
    assert by_stage["sparse-zo"][-1] < by_stage["sharp-cma"][-1]
    assert fitted.arrays["context_stage1"].shape == task.tower.start.shape


@pytest.mark.parametrize("data_set", ["eurosat", "imagenet"])
def test_a_published_generation_costs_a_fifth_at_most(data_set):
    """SharpZO's: 1,024 forwards for eps* and 40 for the population."""
    name = f"paper/{data_set}"
    task = make_task(budget=Budget(steps=4))
    task = dataclasses.replace(task, views=task.train)
    fast = fit(FAST, FAST.configure(name), task)
    published = fit(find("sharpzo"), find("sharpzo").configure(name), task)
    validations = 5
    assert published.forwards == 4 * 1064 + validations
    assert 5 * (fast.forwards - validations) <= published.forwards - validations
    assert fast.steps == published.steps == 4


def test_presets_say_what_the_published_ones_say():
    published = find("sharpzo")
    assert set(FAST.presets) == {name for name in published.presets if name.startswith("paper/")}
    for name, ours in FAST.presets.items():
        theirs = published.presets[name]
        for field in ("dim", "std", "views", "view_scale", "steps", "choose", "validate_every"):
            assert getattr(ours, field) == getattr(theirs, field), (name, field)
        assert ours.search.cma == theirs.search.cma
        assert ours.search.switch == theirs.search.switch
        assert ours.search.start_std == theirs.search.start_std
        for stage, fields in {"sharpness": ("rho", "recorded"),
                              "zo": ("learning_rate", "queries", "keep", "score", "refresh")}.items():  # fmt: skip  # noqa: E501
            for field in fields:
                mine, other = (getattr(s.search, stage) for s in (ours, theirs))
                assert getattr(mine, field) == getattr(other, field), (name, field)


def test_wrong_settings_are_refused():
    for wrong in ({"dim": 0}, {"std": -1.0}, {"views": -1}, {"tangent_cost": 0.0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            fit(FAST, FAST.configure(None, wrong), make_task())
    with pytest.raises(InputError, match="needs augmented views"):
        fit(FAST, FAST.configure(None, {"views": 1}), make_task())


@pytest.mark.parametrize("name", ["sep-cma-es", "lm-ma-es"])
def test_every_number_of_the_context_is_moved(name):
    received = []
    task = make_task(budget=Budget(forwards=1200), listen=received.append)
    method = find(name)
    fitted = fit(method, method.configure(None, {"choose": False}), task)
    assert fitted.forwards <= 1200
    assert received[-1].loss < received[0].loss
    assert (fitted.arrays["context"] != task.tower.start).all()
    few = fit(method, method.configure(None, {"dim": 3, "choose": False}), task)
    moved = (few.arrays["context"] - task.tower.start).ravel()
    assert np.isfinite(moved).all()
    assert moved.any()


def test_sharpzo_fast_is_a_preset_of_sharpzo_and_reads_what_earlier_versions_recorded():
    assert FAST.settings == find("sharpzo").presets["jvp"]
    for preset in (None, "paper/eurosat"):
        now = FAST.configure(preset)
        again = FAST.configure(preset, changes(now, FAST.key(now)))
        assert again == dataclasses.replace(now, tangent_cost=TANGENT_COST)


@pytest.mark.parametrize("name", ["cma-es", "sep-cma-es", "lm-ma-es", "sharp-cma-es"])
def test_the_journal_names_the_strategy(name):
    received = []
    fit(find(name), find(name).settings, make_task(budget=Budget(steps=1), listen=received.append))
    assert {step.stage for step in received} == {name.removesuffix("-es")}
