"""Every preset of every method lowers the loss that it claims to minimise, at its own step sizes.

Published deviations and rates suit their own checkpoints, so the toy's tokens are as long as each
preset needs; numbers of steps, which no toy can wait for, are cut. Presets that differ in nothing
else are run once. `test_coop.py`, `test_clip_lora.py` and
`test_tune_blocks.py` have those
whose towers are no toys.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sharpzo.budget import Budget
from sharpzo.linear import LinearHead
from sharpzo.methods import METHODS, fit, lp_plus_plus
from sharpzo.methods.blackvip import PixelObjective
from sharpzo.methods.cached import every_view, mean_views, read_text
from sharpzo.methods.choose import rank
from sharpzo.methods.decoder import initial
from sharpzo.methods.kernel import KernelHead
from sharpzo.methods.searching import SearchingSettings
from sharpzo.methods.zero_shot import zero_shot_head
from sharpzo.metrics import cross_entropy
from sharpzo.optim.sharpzo import SwitchSettings
from sharpzo.testing.methods import toy_task
from sharpzo.testing.toys import ToyTower

TWO_STAGES = ("sharpzo", "sharpzo-fast")
GENERATIONS, UPDATES = 10, 100


class SoftTower(ToyTower):
    """Tokens ``grain`` times as long, and logits that do not saturate."""

    logit_scale = 4.0

    def __init__(self, grain: float) -> None:
        super().__init__()
        self.start = self.start * np.float32(grain)
        self.mix = self.mix / np.float32(grain)


def tower_for(name, settings):
    """The toy on whose contexts a preset's deviation or rate is a step of a sensible length."""
    std, search = getattr(settings, "std", None), getattr(settings, "search", None)
    if std is not None and hasattr(search, "cma"):
        # The first population moves each number by half of the deviation that it has.
        return SoftTower(2 * std * search.cma.sigma * settings.dim**0.5)
    if name in TWO_STAGES:
        # A step along a random direction is stable while rate * trace(Hessian) stays below 1.
        return SoftTower(max(1.0, (300 * search.zo.learning_rate) ** 0.5))
    return ToyTower()


def shortened(name, settings):
    """The same search for a few steps."""
    if not isinstance(settings, SearchingSettings):
        return settings
    changes = {"choose": False, "forwards": None, "steps": None}
    if hasattr(settings, "view_scale"):
        changes["view_scale"] = (0.5, 1.0)
    if name in TWO_STAGES:
        switch = SwitchSettings(generation=GENERATIONS, patience=None)
        changes["search"] = replace(settings.search, switch=switch)
    return replace(settings, validate_every=1, **changes)


def cases(wanted):
    """Distinct settings of the methods, under the names of the presets that have them."""
    found = []
    for name, method in METHODS.items():
        if not wanted(name, method.settings):
            continue
        distinct = {}
        for preset in (None, *method.presets):
            settings = shortened(name, method.configure(preset))
            distinct.setdefault(settings, []).append(preset or "default")
        for settings, presets in distinct.items():
            found.append(pytest.param(name, settings, id=f"{name}-{'='.join(presets)}"))
    return found


def searches(name, settings):
    own = ("coop", "coop-csc", "blackvip", *TWO_STAGES)
    return isinstance(settings, SearchingSettings) and name not in own


def listened(name, settings, budget, seed=1):
    """The journal of a search without validation photos."""
    received, method = [], METHODS[name]
    tower = tower_for(name, settings)
    task = toy_task(replace(method, settings=settings), tower, seed=seed)
    fit(method, settings, replace(task, validation=None, budget=budget, listen=received.append))
    return received


@pytest.mark.parametrize(("name", "settings"), cases(searches))
def test_a_search_ends_below_its_start(name, settings):
    received = listened(name, settings, Budget(forwards=600))
    assert received[-1].loss < 0.9 * received[0].loss


@pytest.mark.parametrize(("name", "settings"), cases(lambda name, _: name in TWO_STAGES))
def test_either_stage_ends_below_its_start(name, settings):
    # Velocity that is never lost swings around the minimum before it settles.
    updates = 4 * UPDATES if getattr(settings.search.zo, "momentum", 0) == 1 else UPDATES
    received = listened(name, settings, Budget(steps=GENERATIONS + updates))
    first, middle, last = (
        [step.loss for step in received if step.step == at][-1]
        for at in (0, GENERATIONS, GENERATIONS + updates)
    )
    # Told the shifted points, theta climbs by rho in every generation.
    most = 0.8 if settings.search.sharpness.recorded == "samples" else 1.0
    assert middle < most * first
    assert last < middle


@pytest.mark.parametrize(("name", "settings"), cases(lambda name, _: name == "blackvip"))
def test_prompts_of_pixels_lower_their_loss(name, settings):
    """In training mode, whose statistics are the minibatch's own."""
    method, few = METHODS[name], replace(settings, views=0, validate_every=10_000)
    task = toy_task(replace(method, settings=few))
    rows = np.arange(0, len(task.train), 12)  # a photo of two of the classes
    images = replace(task.images, train=task.images.train.take(rows))
    task = replace(task, train=task.train.take(rows), images=images, validation=None)
    found = fit(method, few, replace(task, budget=Budget(steps=2))).head.detour.numbers
    objective = PixelObjective(
        images.open_tower(), zero_shot_head(task.tower), images.train, task.train, None,
        many=len(rows), batch=len(rows), epsilon=settings.epsilon,
    )  # fmt: skip
    before, after = objective.losses(np.stack([initial(task.seed), found]))
    assert after < before


def heads(name, settings):
    return not isinstance(settings, SearchingSettings) and name not in (
        "zero-shot", "clip-lora", "tune-blocks"
    )  # fmt: skip


def squared_error(head, photos):
    return ((head.scores(photos) - np.eye(len(photos.class_names))[photos.labels]) ** 2).sum()


def error(head, photos):
    return float(cross_entropy(head.scores(photos), photos.labels))


def beginning(name, settings, task):
    """The head that a method's descent begins with, for the others that of the text alone."""
    templates, scale = getattr(settings, "templates", "run"), task.tower.logit_scale
    text = read_text(task.tower, templates).features
    if name == "lp++":
        photos = every_view(task)
        at = lp_plus_plus.start(photos.vectors, photos.labels, text, settings, task.seed)
        both = at.weight + at.alpha[:, None] * text
        return LinearHead(both, at.bias, 1.0)
    if name == "tip-adapter-f":
        keys = mean_views(task, settings.key_views)
        values = np.eye(len(text), dtype=np.uint8)[task.train.labels]
        return KernelHead(text, keys, values, scale, settings.alpha, settings.beta)
    return LinearHead.of_text(text, 1.0 if name == "proker" else scale)


@pytest.mark.parametrize(("name", "settings"), cases(heads))
def test_a_head_explains_its_photos_better_than_what_it_begins_with(name, settings):
    method = METHODS[name]
    task = toy_task(replace(method, settings=settings))
    alone = replace(task, validation=None)
    start, head = beginning(name, settings, task), fit(method, settings, alone).head
    loss = squared_error if name == "proker" else error
    assert loss(head, task.train) < loss(start, task.train)
    # What validation photos choose serves them better, too.
    chosen = fit(method, settings, task).head
    after, before = (
        rank(one.scores(task.validation), task.validation.labels) for one in (chosen, start)
    )
    assert after < before
