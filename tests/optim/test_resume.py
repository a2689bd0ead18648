"""ask -> state -> files -> restore -> tell goes on bit for bit, wherever it is interrupted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharpzo.optim import (
    Cma,
    CmaSettings,
    SharpCma,
    SharpnessSettings,
    SharpZo,
    SharpZoSettings,
    SparseZo,
    SwitchSettings,
    ZoSettings,
)

from .problems import assert_same, ellipsoid, through_files

cma_settings = st.builds(
    CmaSettings,
    population_size=st.sampled_from([None, 2, 5]),
    sigma=st.sampled_from([0.1, 1.0]),
    bound=st.sampled_from([None, 1.0]),
    active=st.booleans(),
    laziness=st.sampled_from([1.0, 20.0]),
)
sharpness_settings = st.builds(
    SharpnessSettings,
    estimator=st.sampled_from(["cge", "rge", "none"]),
    refresh_every=st.integers(1, 3),
    directions=st.integers(1, 3),
    normalise=st.sampled_from(["mean", "population"]),
    centre=st.sampled_from(["mean", "population"]),
    recorded=st.sampled_from(["samples", "shifted"]),
)
zo_settings = st.builds(
    ZoSettings,
    learning_rate=st.just(1e-3),
    queries=st.integers(1, 2),
    score=st.sampled_from(["z", "magnitude", "dense", "release"]),
    refresh=st.integers(1, 3),
    momentum=st.sampled_from([0.0, 1.0]),
    rows=st.integers(1, 3),
    inherit=st.booleans(),
    patience=st.sampled_from([None, 4]),
)
sharpzo_settings = st.builds(
    SharpZoSettings,
    cma=cma_settings,
    sharpness=sharpness_settings,
    switch=st.builds(
        SwitchSettings,
        generation=st.sampled_from([None, 0, 2, 5]),
        patience=st.sampled_from([None, 2]),
    ),
    zo=zo_settings,
    hand_over=st.sampled_from(["mean", "population", "best", "validated"]),
    start_std=st.sampled_from([0.0, 0.1]),
)


def noisy(candidates, call):
    """A loss with a few non-finite values, equal for equal candidates and call."""
    losses = ellipsoid(candidates - 0.3)
    if call % 4 == 3:
        losses[call % len(losses)] = [np.nan, np.inf, -np.inf][call % 3]
    return losses


def same_history(make, seed, interruptions, calls=12):
    """Drive one search straight on and one through files at the given moments."""
    straight, resumed = make(seed), make(seed)

    def rebuild(state):
        return make(seed + 1).restore(state)

    for call in range(calls):
        moments = {(call, when) for when in ("ask", "tell", "observe")} & interruptions
        if (call, "ask") in moments:
            resumed = rebuild(through_files(resumed.state()))
        left, right = straight.ask().points, resumed.ask().points
        assert left.tobytes() == right.tobytes()
        if (call, "tell") in moments:
            resumed = rebuild(through_files(resumed.state()))
        if call % 3 == 0:  # idempotent, and not needed before tell
            assert resumed.ask().points.tobytes() == left.tobytes()
        if call % 4 == 2:  # validation may come while a batch is out
            straight.observe(0.2)
            resumed.observe(0.2)
            if (call, "observe") in moments:
                resumed = rebuild(through_files(resumed.state()))
        losses = noisy(left, call + seed)
        straight.tell(losses)
        resumed.tell(losses)
        if (call, "observe") in moments:
            resumed = rebuild(through_files(resumed.state()))
        accuracy = [0.3, 0.5, 0.4][call % 3]
        straight.observe(accuracy)
        resumed.observe(accuracy)
        assert straight.point.tobytes() == resumed.point.tobytes()
        assert straight.best[0].tobytes() == resumed.best[0].tobytes()
        assert (straight.step, straight.stage, straight.stopped, straight.best[1]) == (
            resumed.step,
            resumed.stage,
            resumed.stopped,
            resumed.best[1],
        )
        assert dict(straight.notes) == dict(resumed.notes)
        assert_same(straight.state(), resumed.state())
        if straight.stopped is not None:
            return


moments = st.sets(
    st.tuples(st.integers(0, 11), st.sampled_from(["ask", "tell", "observe"])), max_size=36
)


@given(sharpzo_settings, st.integers(1, 6), st.integers(0, 2**63 - 1), moments)
def test_sharpzo(how, dim, seed, interruptions):
    same_history(lambda seed: SharpZo(dim, how, seed), seed, interruptions)


@given(cma_settings, st.integers(1, 6), st.integers(0, 2**63 - 1), moments)
def test_cma(how, dim, seed, interruptions):
    same_history(lambda seed: Cma(dim, how, seed), seed, interruptions)


@given(cma_settings, sharpness_settings, st.integers(1, 6), st.integers(0, 99), moments)
def test_sharp_cma(cma, sharp, dim, seed, interruptions):
    same_history(lambda seed: SharpCma(dim, cma, sharp, seed), seed, interruptions)


@given(zo_settings, st.integers(1, 6), st.integers(0, 99), moments)
def test_sparse_zo(how, dim, seed, interruptions):
    same_history(lambda seed: SparseZo(dim, how, seed), seed, interruptions)


@pytest.mark.parametrize("dim", [64, 150])
def test_larger_cma_resumes_around_every_decomposition(dim):
    how = CmaSettings(population_size=16)
    every = {(call, when) for call in range(12) for when in ("ask", "tell", "observe")}
    same_history(lambda seed: Cma(dim, how, seed), 1, every)


def test_a_batch_that_is_out_survives_the_files_and_the_switch():
    how = SharpZoSettings(switch=SwitchSettings(patience=1))
    search = SharpZo(3, how)
    search.observe(0.5)
    candidates = search.ask().points
    search = SharpZo(3, how).restore(through_files(search.state()))
    search.observe(0.5)
    assert search.ask().points.tobytes() == candidates.tobytes()
    search.tell(np.arange(float(len(candidates))))
    assert search.stage == "sparse-zo"


def test_a_state_is_a_snapshot():
    search = SharpZo(3, SharpZoSettings(switch=SwitchSettings(generation=1)))
    for _ in range(4):
        search.ask()
        state = search.state()
        before = through_files(state)
        search.tell(np.arange(float(len(search.ask().points))))
        assert_same(before, state)
        assert all(isinstance(v, (np.ndarray, int, float, str, bool)) for v in state.values())


def test_another_seed_is_another_run():
    one, other = SharpZo(3, seed=1), SharpZo(3, seed=2)
    assert (one.ask().points != other.ask().points).any()
