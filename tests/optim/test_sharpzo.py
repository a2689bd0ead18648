import dataclasses

import numpy as np
import pytest

from sharpzo.errors import InputError
from sharpzo.optim import (
    CmaSettings,
    SharpCma,
    SharpnessSettings,
    SharpZo,
    SharpZoSettings,
    SparseZo,
    SwitchSettings,
    ZoSettings,
)
from sharpzo.types import Reason

from .problems import assert_falls, drive, quadratic, sphere

CMA = CmaSettings(population_size=6, sigma=0.3)
PLAIN = SharpnessSettings(estimator="none")
ZO = ZoSettings(learning_rate=0.01, score="dense")
NEVER = SwitchSettings(generation=None, patience=None)


def settings(**changes):
    base = SharpZoSettings(cma=CMA, sharpness=PLAIN, switch=SwitchSettings(generation=3), zo=ZO)
    return dataclasses.replace(base, **changes)


def test_switch_by_generation():
    search = SharpZo(4, settings(), seed=1)
    seen = []
    for _ in range(6):
        seen.append((search.step, search.stage, len(search.ask().points)))
        drive(search, quadratic, 1)
    cma, zo = "sharp-cma", "sparse-zo"
    assert seen == [(0, cma, 6), (1, cma, 6), (2, cma, 6), (3, zo, 2), (4, zo, 2), (5, zo, 2)]


def test_switch_by_generation_counts_generations_not_tells():
    sharp = SharpnessSettings(estimator="cge", refresh_every=1)
    search = SharpZo(4, settings(sharpness=sharp), seed=1)
    drive(search, quadratic, 5)
    assert (search.stage, search.step) == ("sharp-cma", 2)
    drive(search, quadratic, 1)
    assert (search.stage, search.step) == ("sparse-zo", 3)


def test_switch_by_patience():
    switch = SwitchSettings(patience=3, min_gain=0.01)
    search = SharpZo(4, settings(switch=switch), seed=1)
    for accuracy, stage in [
        (0.50, "sharp-cma"),
        (0.505, "sharp-cma"),  # not more than 0.01 better: 1
        (0.509, "sharp-cma"),  # 2
        (0.52, "sharp-cma"),  # beats 0.50 by more than 0.01
        (0.53, "sharp-cma"),  # exactly 0.01 is not more: 1
        (0.51, "sharp-cma"),  # 2
        (0.52, "sparse-zo"),  # 3 in a row
    ]:
        drive(search, quadratic, 1)
        search.observe(accuracy)
        assert search.stage == stage, accuracy


def test_switch_waits_for_a_batch_that_is_out():
    search = SharpZo(4, settings(switch=SwitchSettings(patience=1)), seed=1)
    search.observe(0.5)
    candidates = search.ask().points
    search.observe(0.5)
    assert search.stage == "sharp-cma"
    assert search.ask().points.tobytes() == candidates.tobytes()
    search.tell(quadratic(candidates))
    assert search.stage == "sparse-zo"
    assert search.step == 1


def test_first_of_generation_and_patience_wins():
    both = SwitchSettings(generation=4, patience=2)
    early, late = (SharpZo(4, settings(switch=both), seed=1) for _ in range(2))
    for k in range(4):
        drive(early, quadratic, 1)
        early.observe(0.5)
        drive(late, quadratic, 1)
        late.observe(0.1 * k)
    assert early.step == 4
    assert early.state()["generations"] == 3
    assert late.state()["generations"] == 4


def test_no_switch_is_stage_one_alone():
    search = SharpZo(4, settings(switch=NEVER), seed=1)
    alone = SharpCma(4, CMA, PLAIN, seed=1)
    for _ in range(30):
        search.observe(0.5)
        assert search.ask().points.tobytes() == alone.ask().points.tobytes()
        drive(search, quadratic, 1)
        drive(alone, quadratic, 1)
    assert search.stage == "sharp-cma"


def test_switch_at_zero_is_stage_two_alone():
    start = np.array([3.0, -1.0, 0.5, 2.0])
    search = SharpZo(4, settings(switch=SwitchSettings(generation=0)), seed=1, start=start)
    alone = SparseZo(4, ZO, seed=1, start=start)
    for _ in range(5):
        assert search.ask().points.tobytes() == alone.ask().points.tobytes()
        drive(search, quadratic, 1)
        drive(alone, quadratic, 1)


def handed_over(hand_over, observations=()):
    search = SharpZo(4, settings(hand_over=hand_over), seed=1)
    alone = SharpCma(4, CMA, PLAIN, seed=1)
    points = []
    for k in range(3):
        drive(search, quadratic, 1)
        drive(alone, quadratic, 1)
        points.append(alone.point)
        if k < len(observations):
            search.observe(observations[k])
    assert search.stage == "sparse-zo"
    return search.point, alone, points


def test_hand_over_mean_is_theta():
    point, alone, _ = handed_over("mean")
    assert point.tobytes() == alone.cma.mean.tobytes()


def test_hand_over_population_is_the_mean_of_fresh_draws():
    point, alone, _ = handed_over("population")
    assert point.tobytes() == alone.cma.population_mean().tobytes()
    assert np.abs(point - alone.cma.mean).max() > 1e-3


def test_hand_over_best_is_the_lowest_loss():
    point, alone, _ = handed_over("best")
    assert point.tobytes() == alone.best[0].tobytes()


def test_hand_over_validated_is_the_best_observed_point():
    point, _, points = handed_over("validated", [0.6, 0.4])
    assert point.tobytes() == points[0].tobytes()
    point, alone, _ = handed_over("validated")
    assert point.tobytes() == alone.cma.mean.tobytes()


def test_release_second_stage_inherits_the_last_gradient():
    sharp = SharpnessSettings(
        estimator="cge", refresh_every=1, normalise="population", centre="population"
    )
    zo = ZoSettings(score="dense", momentum=1.0, rows=6, inherit=True)
    search = SharpZo(4, settings(sharpness=sharp, zo=zo, hand_over="population"), seed=1)
    drive(search, quadratic, 4)
    drive(search, quadratic, 1)
    assert search.stage == "sharp-cma"
    gradient = search._now.gradient
    drive(search, quadratic, 1)
    assert search.stage == "sparse-zo"
    state = search.state()
    assert state["now.velocity"].shape == (6, 4)
    assert (state["now.velocity"] == gradient).all()
    assert (state["now.rows"] == state["now.rows"][0]).all()


def test_otherwise_the_second_stage_starts_at_rest():
    sharp = SharpnessSettings(estimator="cge", refresh_every=1)
    zo = ZoSettings(score="dense", momentum=1.0)
    search = SharpZo(4, settings(sharpness=sharp, zo=zo), seed=1)
    drive(search, quadratic, 6)
    assert search.stage == "sparse-zo"
    assert (search.state()["now.velocity"] == 0).all()


def test_point_of_the_release_is_the_mean_of_fresh_draws():
    sharp = SharpnessSettings(estimator="cge", refresh_every=1, centre="population")
    search = SharpZo(4, settings(sharpness=sharp), seed=1)
    drive(search, quadratic, 2)
    assert search.point.tobytes() == search._now.cma.population_mean().tobytes()


def test_start():
    drawn = SharpZo(2000, settings(start_std=0.02), seed=3)
    assert drawn.point.std() == pytest.approx(0.02, rel=0.1)
    assert (SharpZo(5, settings(), seed=3).point == 0).all()
    given = SharpZo(3, settings(start_std=0.02), start=np.ones(3))
    assert (given.point == 1).all()


def test_best_spans_both_stages():
    search = SharpZo(4, settings(), seed=1)
    lowest = np.inf
    for _ in range(20):
        losses = sphere(search.ask().points - 1)
        lowest = min(lowest, losses.min())
        search.tell(losses)
        assert search.best[1] == lowest
    assert sphere(search.best[0][None] - 1)[0] == lowest


def test_best_of_equals_is_the_earliest():
    search = SharpZo(4, settings(), seed=1)
    first = search.ask().points[0]
    for _ in range(6):
        search.tell(np.ones(len(search.ask().points)))
    assert search.best[0].tobytes() == first.tobytes()


def test_a_converged_first_stage_hands_over_or_stops():
    def flat(candidates):
        return np.ones(len(candidates))

    late = SwitchSettings(generation=10_000, patience=None)
    search = SharpZo(4, settings(switch=late), seed=1)
    while search.stage == "sharp-cma":
        drive(search, flat, 1)
    assert search.step < 1000
    assert search.stopped is None
    alone = SharpZo(4, settings(switch=NEVER), seed=1)
    while alone.stopped is None:
        drive(alone, flat, 1)
    assert alone.stopped is Reason.CONVERGED


@pytest.mark.parametrize("tells", [0, 5])
def test_all_nan_stops_either_stage(tells):
    search = SharpZo(4, settings(), seed=1)
    drive(search, quadratic, tells)
    search.tell(np.full(len(search.ask().points), np.nan))
    assert search.stopped is Reason.DIVERGED


def test_second_stage_stops_by_patience():
    search = SharpZo(4, settings(zo=dataclasses.replace(ZO, patience=2)), seed=1)
    drive(search, quadratic, 4)
    for _ in range(3):
        search.observe(0.5)
    assert search.stopped is Reason.PATIENCE


def test_arguments_and_global_randomness_are_left_alone():
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].tobytes()  # noqa: NPY002
    start = np.ones(4)
    search = SharpZo(4, SharpZoSettings(cma=CMA, switch=SwitchSettings(generation=4)), start=start)
    for k in range(12):
        candidates = search.ask().points
        losses = quadratic(candidates)
        losses[0] = np.nan
        losses.flags.writeable = False
        search.tell(losses)
        search.observe(0.1 * k)
        search.point[:] = 99.0  # what was handed out is the caller's own
        candidates[:] = 99.0
        search.ask().points[:] = 99.0
        assert np.abs(search.ask().points).max() < 50
        assert np.abs(search.point).max() < 50
    assert (start == 1).all()
    assert np.random.get_state()[1].tobytes() == before  # noqa: NPY002


@pytest.mark.parametrize("sharp", [PLAIN, SharpnessSettings(refresh_every=2, directions=5)])
@pytest.mark.parametrize("score", ["z", "magnitude", "dense"])
def test_loss_falls_in_both_stages(sharp, score):
    """In stage 2 the part of the coordinates that its masks kept: the others stand still."""
    scales = np.linspace(0.2, 2, 20)

    def bowl(x, part=1.0):  # curved differently along each axis, minimum at 1
        return (x - 1) ** 2 @ (scales * part)

    cma = CmaSettings(population_size=12, sigma=0.2)
    zo = ZoSettings(learning_rate=0.03, score=score, refresh=20)
    how = settings(cma=cma, sharpness=sharp, zo=zo, switch=SwitchSettings(generation=15))
    losses = []
    for seed in range(6):
        search = SharpZo(20, how, seed=seed)
        first = search.point
        while search.stage == "sharp-cma":
            drive(search, bowl, 1)
        middle = search.point
        while search.step < 165:
            drive(search, bowl, 1)
        kept = search.point != middle
        losses.append([bowl(first), bowl(middle), bowl(middle, kept), bowl(search.point, kept)])
    first, middle, kept_before, kept_after = np.array(losses).T
    assert_falls(first, middle)
    assert_falls(kept_before, kept_after)


def test_settings_are_checked():
    with pytest.raises(InputError, match="hand_over is 'last'"):
        SharpZoSettings(hand_over="last")
    with pytest.raises(InputError, match="generation is -1"):
        SwitchSettings(generation=-1)
    with pytest.raises(InputError, match="patience is 0"):
        SwitchSettings(patience=0)
    with pytest.raises(InputError, match="start_std is nan"):
        SharpZoSettings(start_std=np.nan)
    with pytest.raises(InputError, match="dim is -3"):
        SharpZo(-3)
