"""Nodes of heads and of the rule for photos of no class against what they stand for."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from sharpzo.errors import InputError
from sharpzo.export import heads
from sharpzo.fitting.strangers import find_strangers
from sharpzo.linear import LinearHead
from sharpzo.methods.factors import PARTS, Factors
from sharpzo.methods.image_ladder import TunedHead
from sharpzo.methods.kernel import KernelHead
from sharpzo.methods.last_block import Seen
from sharpzo.methods.prolip import ProjectedHead
from sharpzo.methods.token_ladder import Reading, TokenHead
from sharpzo.metrics import normalise
from sharpzo.towers.graph import Builder
from sharpzo.towers.runtime import Session
from sharpzo.types import Features, LastBlock

RNG = np.random.default_rng(3)
S, D, K, T, N = 8, 6, 4, 5, 7
PROJECTION = RNG.normal(size=(D, S)).astype(np.float32)


def single(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def square(out=S, into=S):
    return single(out, into) / into**0.5, 0.1 * single(out)


BLOCK = LastBlock(
    {"query": square(), "key": square(), "value": square(), "out": square(),
     "fc1": square(2 * S), "fc2": square(S, 2 * S), "norm1": (1 + single(S) / 5, single(S) / 5),
     "norm2": (1 + single(S) / 5, single(S) / 5), "norm": (1 + single(S) / 5, single(S) / 5)},
    2, "gelu", 1e-5,
)  # fmt: skip
CHECKPOINT = SimpleNamespace(
    image=SimpleNamespace(width=S, heads=2, activation="gelu", norm_eps=1e-5)
)


@pytest.fixture(autouse=True)
def tower(monkeypatch):
    family = SimpleNamespace(projection=lambda one: PROJECTION, last_block=lambda one: BLOCK)
    monkeypatch.setattr(heads, "image_family", lambda checkpoint: family)


def seen(rows=N):
    tokens, states = single(rows, T, S), single(rows, S)
    inputs = {
        "states": states,
        "tokens": tokens,
        "summary": single(rows, 4, S),
    }
    photos = Features(
        normalise(states @ PROJECTION.T), np.zeros(rows, np.int64), tuple("abcd"), "", states,
        tokens=inputs["summary"][:, :2], patches=inputs["summary"][:, 2:],
    )  # fmt: skip
    return inputs, photos


def compute(write, inputs, shape):
    build = Builder(prefix="x.")
    build.op("Identity", write(build), name="out")
    given = {name: ("B", *array.shape[1:]) for name, array in inputs.items()}
    return Session(build.finish(given, {"out": shape}, "test"), 1).run(["out"], inputs)[0]


def logits(head, inputs):
    return compute(lambda b: heads.write_logits(b, CHECKPOINT, head, T), inputs, ("B", K))


LINEAR = LinearHead(single(K, D), single(K), 7.0)
Z = D + 2 * S
HEADS = {
    "linear": LINEAR,
    "projected": ProjectedHead(single(D, S), single(K, D), 5.0),
    "kernel": KernelHead(
        single(K, D), normalise(single(9, D)), RNG.integers(0, 2, (9, K)).astype(np.uint8),
        3.0, 2.0, 1.5,
    ),
    "patches": TokenHead(LinearHead(single(K, Z), single(K), 4.0), Reading(single(2, S), 0.3)),
    "tokens": TokenHead(
        LinearHead(single(K, Z), single(K), 4.0), Reading(single(2, S), 0.3, (), "tokens")
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_logits_are_those_of_the_head(name):
    inputs, photos = seen()
    np.testing.assert_allclose(
        logits(HEADS[name], inputs), HEADS[name].scores(photos), rtol=1e-4, atol=1e-4
    )


def test_views_are_the_rows_of_the_batch():
    names = ("mirror", "middle")
    head = TokenHead(HEADS["patches"].linear, Reading(single(2, S), 0.3, names))
    inputs, photos = seen(3)
    views = {view: photos.take(np.array([row + 1])) for row, view in enumerate(names)}
    whole = replace(photos.take(np.array([0])), by_view=views)
    np.testing.assert_allclose(logits(head, inputs), head.scores(whole), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("views", [(), ("mirror",)])
def test_a_tuned_last_block_is_written_beside_the_plain_one(tokens, views):
    pairs = {}
    for part in PARTS:
        out, into = BLOCK.parts[part][0].shape
        pairs[part] = 0.3 * single(2, into), 0.3 * single(out, 2)
    reading = Reading(single(2, S if tokens else 0), 0.3, views)
    tuned = single(K, Z if tokens else D)
    head = TunedHead(tuned, single(K, D), single(K), Factors(pairs), reading)
    inputs, photos = seen(1 + len(views)) if views else seen()
    states = head.detour.states(BLOCK, Seen.of(inputs["tokens"], BLOCK.eps))
    photos = replace(photos, detours={head.detour.digest: normalise(states @ PROJECTION.T)})
    if views:
        photos = replace(photos.take(slice(1)), by_view={views[0]: photos.take(slice(1, 2))})
    found = logits(head, inputs)
    np.testing.assert_allclose(found, head.scores(photos), rtol=1e-4, atol=1e-4)


def test_what_changes_pixels_is_refused():
    with pytest.raises(InputError, match="an image tower of its own"):
        logits(SimpleNamespace(detour=object()), seen()[0])
    with pytest.raises(InputError, match="SimpleNamespace has no graph"):
        logits(SimpleNamespace(), seen()[0])


@pytest.mark.parametrize("many", [6, 30])  # fewer photos than numbers, and more
@pytest.mark.parametrize("strange", [False, True])
def test_familiarity_is_that_of_the_rule(many, strange):
    _, train = seen(many)
    train = replace(train, labels=np.arange(many) % 3)
    rule = find_strangers(train, seen(4)[1] if strange else None)
    inputs, photos = seen()
    found = compute(lambda b: heads.write_familiarity(b, rule), inputs, ("B",))
    np.testing.assert_allclose(found, rule.scores(photos), rtol=2e-4, atol=2e-4)


def test_familiarity_through_views_is_that_of_their_mean():
    train, views = seen(9)[1], {"mirror": seen(9)[1]}
    train = replace(train, labels=np.arange(9) % 3, by_view=views)
    rule = find_strangers(train, None, ("mirror",))
    inputs, photos = seen(2)
    whole = replace(photos.take(np.array([0])), by_view={"mirror": photos.take(np.array([1]))})
    found = compute(lambda b: heads.write_familiarity(b, rule), inputs, ("B",))
    np.testing.assert_allclose(found, rule.scores(whole), rtol=2e-4, atol=2e-4)
