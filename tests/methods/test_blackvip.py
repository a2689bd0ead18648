import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

from sharpzo.budget import Budget
from sharpzo.classifier import PromptClassifier
from sharpzo.errors import InputError
from sharpzo.methods import find, fit
from sharpzo.methods.blackvip import BlackVipSettings, PixelObjective, steps_within
from sharpzo.methods.decoder import initial
from sharpzo.methods.zero_shot import zero_shot_head
from sharpzo.metrics import cross_entropy, normalise
from sharpzo.testing.methods import toy_task
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.tower import OnnxImageTower

sys.path.insert(0, str(Path(__file__).parents[1] / "towers"))
METHOD = find("blackvip")
SMALL = BlackVipSettings(batch=4, validate_every=10_000, image_passes=None)


def make_task(**more):
    task = toy_task(dataclasses.replace(METHOD, settings=SMALL))
    return dataclasses.replace(task, **more)


def make_objective(task, batch=4):
    return PixelObjective(
        task.images.open_tower(), zero_shot_head(task.tower), task.images.train, task.train,
        (task.images.validation, task.validation), many=len(task.train), batch=batch, epsilon=0.4,
    )  # fmt: skip


def test_a_forward_is_a_minibatch_and_every_photo_is_counted():
    task = make_task()
    objective = make_objective(task)
    objective.losses(np.stack([initial(1), initial(2), initial(3)]), step=5)
    assert (objective.forwards, objective.image_passes) == (3, 12)
    objective.evaluate(initial(1))
    held_out = len(task.validation)
    assert (objective.forwards, objective.image_passes) == (4, 12 + 4 + held_out)
    assert objective.passes_per_evaluation == 4 + held_out


def test_losses_are_those_of_prompted_photos():
    task = make_task()
    objective = make_objective(task, batch=len(task.train))
    numbers = initial(1)
    evaluated = objective.evaluate(numbers)
    tower, prompter = task.images.open_tower(), evaluated.head.detour
    for photos, features, found in (
        (task.images.train, task.train, evaluated.loss),
        (task.images.validation, task.validation, evaluated.validation_loss),
    ):
        pixels = prompter.prompt(tower.pixels(photos.decoded()), features.states)
        vectors = normalise(tower.forward(pixels) @ tower.projection.T)
        text = normalise(task.tower.forward(task.tower.start[None])[0])
        logits = task.tower.logit_scale * vectors @ text.T
        assert found == pytest.approx(float(cross_entropy(logits, features.labels)), rel=1e-4)


def test_training_uses_the_batch_s_statistics_and_moves_the_running_ones():
    task = make_task()
    objective = make_objective(task)
    before = objective.evaluate(initial(1)).head.detour.moments
    one = objective.losses(initial(1)[None])
    after = objective.evaluate(initial(1)).head.detour.moments
    assert (before[0] == 0).all()
    assert (before[1] == 1).all()
    assert (after[0] != 0).all()
    # The batch's own statistics: what ran before does not matter to the loss.
    assert objective.losses(initial(1)[None]) == pytest.approx(one, rel=1e-6)


def test_clip_bounds_of_clip_are_the_published_ones(tmp_path):
    models = pytest.importorskip("random_models")
    vision = {**models.VISION, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
    models.save_clip(tmp_path, models.TEXT, vision)
    tower = OnnxImageTower(Checkpoint.open(tmp_path), threads=1)
    task = make_task()
    objective = PixelObjective(
        tower, zero_shot_head(task.tower), task.images.train, task.train, None,
        many=4, batch=2, epsilon=1.0,
    )  # fmt: skip
    published = [[-1.79226, -1.75210, -1.48022], [1.93034, 2.07488, 2.14590]]
    np.testing.assert_allclose([objective.low, objective.high], published, atol=1e-5)


def test_a_fit_follows_its_budget_of_forwards():
    fitted = fit(METHOD, SMALL, make_task(budget=Budget(forwards=33)))
    assert (fitted.forwards, fitted.steps) == (32, 3)
    assert fitted.image_passes == 30 * 4 + 2 * (4 + 12)
    assert fitted.arrays == {}
    assert fitted.head.arrays()["prompter"].shape == (9920,)


@pytest.mark.parametrize(("passes", "validate_every"), [(120, 10), (200, 10_000)])
def test_image_passes_are_never_exceeded_and_well_used(passes, validate_every):
    how = dataclasses.replace(SMALL, image_passes=passes, validate_every=validate_every)
    fitted = fit(METHOD, how, make_task(budget=Budget()))
    assert fitted.image_passes <= passes
    assert fitted.image_passes + 10 * 4 + 2 * (4 + 12) > passes  # no room for another step
    assert fitted.steps >= 1


def test_too_few_image_passes_for_a_step():
    with pytest.raises(InputError, match=r"image_passes is 100, but one step .* take 424"):
        steps_within(100, calls=10, per_call=28, per_evaluation=72, validate_every=100)


def test_epochs_are_steps_of_whole_minibatches():
    one = dataclasses.replace(SMALL.search, directions=1)
    # 24 photos are two minibatches of 10 an epoch.
    how = dataclasses.replace(SMALL, epochs=2, batch=10, search=one)
    assert fit(METHOD, how, make_task(budget=Budget())).steps == 4


def test_features_alone_are_not_enough():
    with pytest.raises(InputError, match="needs the photos themselves"):
        fit(METHOD, SMALL, make_task(images=None))


def test_nothing_ends_it():
    with pytest.raises(InputError, match="nothing ends this search"):
        fit(METHOD, SMALL, make_task(budget=Budget()))


def test_what_published_settings_have_in_common():
    for how in METHOD.presets.values():
        search = how.search
        assert (search.a, search.alpha, search.o, search.directions) == (0.01, 0.4, 1.0, 5)
        assert (search.clip, how.batch, how.choose, how.image_passes) == (False, 128, False, None)
        assert how.view_scale == (0.08, 1.0)


def test_predictions_survive_the_artefact(tmp_path):
    models = pytest.importorskip("random_models")
    vision = {**models.VISION, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
    models.save_clip(tmp_path / "model", models.TEXT, vision)
    draws = np.random.default_rng(0)
    photos = draws.integers(0, 255, (12, 40, 40, 3)).astype(np.uint8)
    labels = ["cat", "dog"] * 6
    settings = {"batch": 2, "image_passes": 60, "views": 1}
    made = PromptClassifier(
        "blackvip", settings=settings, model=tmp_path / "model", threads=1, cache=tmp_path / "cache"
    ).fit(list(photos), labels, shots=2)
    assert made.fit_.image_passes <= 60
    before = made.predict_proba(photos)
    loaded = PromptClassifier.load(made.save(tmp_path / "run"))
    np.testing.assert_allclose(loaded.predict_proba(photos), before, rtol=1e-4, atol=1e-6)
    # The prompt matters: without it the same text gives other probabilities.
    plain = PromptClassifier("zero-shot", model=tmp_path / "model", threads=1)
    plain.fit(list(photos), labels, shots=2)
    assert np.abs(plain.predict_proba(photos) - before).max() > 1e-3
    # What is evaluated on the validation photos finds them prompted.
    assert made._trained.features["validation"].detours.keys() == {made.fit_.head.detour.digest}
