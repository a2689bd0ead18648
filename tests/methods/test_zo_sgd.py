import dataclasses

import pytest

from sharpzo.budget import Budget
from sharpzo.errors import InputError
from sharpzo.methods import Task, find, fit
from sharpzo.testing.toys import ToyTower, make_features

METHOD = find("zo-sgd")


def make_task(**more):
    tower = ToyTower()
    return Task(make_features(tower), make_features(tower, per_class=3, seed=5), tower, **more)


@pytest.mark.parametrize("variant", ["plain", "sign", "momentum", "conservative", "adam"])
def test_every_variant_lowers_the_loss_within_its_budget(variant):
    received = []
    task = make_task(budget=Budget(forwards=600), listen=received.append)
    rate = {"sign": 0.01, "momentum": 0.01}.get(variant, 0.03)
    changes = {"dim": 16, "choose": False, "search.variant": variant, "search.learning_rate": rate}
    fitted = fit(METHOD, METHOD.configure(None, changes), task)
    assert fitted.forwards <= 600
    assert received[-1].loss < received[0].loss


def test_forward_gradients_lower_the_loss_and_need_no_step_of_a_difference():
    received = []
    task = make_task(budget=Budget(forwards=600), listen=received.append)
    changes = {"dim": 16, "choose": False, "search.learning_rate": 0.1}
    fitted = fit(METHOD, METHOD.configure("forward-gradient", changes), task)
    assert fitted.forwards <= 600
    assert "mu" not in fitted.notes
    assert received[-1].loss < received[0].loss
    with pytest.raises(InputError, match="leave out batch and views"):
        METHOD.configure("forward-gradient", {"batch": 4})


def test_mu_is_measured_unless_told_or_too_dear():
    plenty, little = (make_task(budget=Budget(forwards=n)) for n in (520, 100))
    told = dataclasses.replace(METHOD.settings, measure_mu=False)
    assert fit(METHOD, METHOD.settings, plenty).notes["mu"] != METHOD.settings.search.mu
    assert fit(METHOD, METHOD.settings, little).notes["mu"] == METHOD.settings.search.mu
    assert fit(METHOD, told, plenty).notes["mu"] == METHOD.settings.search.mu


def test_a_batch_sees_fewer_photos_and_another_path():
    whole = dataclasses.replace(METHOD.settings, choose=False)
    part = dataclasses.replace(whole, batch=4)
    losses = [
        fit(METHOD, s, make_task(budget=Budget(forwards=60))).notes["training_loss"]
        for s in (whole, part)
    ]
    assert losses[0] != losses[1]


def test_views_that_nobody_encoded():
    views = dataclasses.replace(METHOD.settings, views=2)
    with pytest.raises(InputError, match="needs augmented views"):
        fit(METHOD, views, make_task())


def test_published_settings():
    opt, roberta = METHOD.presets["mezo/opt-13b"], METHOD.presets["mezo/roberta-large"]
    assert (opt.search.learning_rate, opt.search.mu, opt.batch, opt.steps) == (1e-2, 0.1, 16, 20000)
    assert (roberta.search.learning_rate, roberta.search.mu, roberta.batch) == (1e-2, 0.1, 64)
    assert roberta.steps == 100_000
    for name, preset in METHOD.presets.items():
        assert preset.choose
        assert preset.measure_mu == ("/" not in name)
        assert preset.search.exact == name.startswith("forward-gradient")
        if name.startswith("zo-bench/"):
            assert preset.search.variant == name.removeprefix("zo-bench/")
            conservative = name.endswith("conservative")
            assert preset.search.learning_rate == (1e-4 if conservative else 1e-3)
            assert preset.validate_every == 4000 * (5 if conservative else 2)
