"""The ladder on tokens: against dense algebra on z, and what it shares with the ladder on x."""

from dataclasses import replace

import numpy as np
import pytest

from sharpzo.data.demo import CLASS_NAMES
from sharpzo.errors import InputError
from sharpzo.methods.gda import gaussian
from sharpzo.methods.ladder import LadderSettings, fit_ladder, other_names
from sharpzo.methods.token_ladder import Reading, TokenHead, TokenLadderSettings, fit_tokens
from sharpzo.metrics import normalise
from sharpzo.types import Features

K, D, S = 4, 6, 5
NAMES = CLASS_NAMES[:K]
TEXT = normalise(np.random.default_rng(0).normal(size=(K, D)))
ONE = TokenLadderSettings(penalties=(0.7,), penalty=0.7, temperatures=(1.0,))


def photos(shots, seed=1, classes=range(K)):
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(9)
    labels = np.repeat(list(classes), shots)
    middles = 2 * TEXT + fixed.normal(size=(K, D))
    tokens = fixed.normal(size=(K, 2, S)) + fixed.normal(size=S)
    vectors = normalise(middles[labels] + rng.normal(size=(len(labels), D)))
    own = 7 * (tokens[labels] + rng.normal(size=(len(labels), 2, S)) / 2) + 3
    return Features(
        vectors.astype(np.float32), labels, NAMES, tokens=own.astype(np.float32)
    )  # fmt: skip


def fitted(train, validation=None, settings=ONE):
    ladder, reading = fit_tokens(train, TEXT, validation, settings)
    return ladder, TokenHead(ladder.head, reading)


def test_what_is_read_is_what_the_page_says():
    train, shown = photos(3), photos(2, 5)

    def unit(token):
        token = token - token.mean()
        return token / np.linalg.norm(token)

    middle = np.mean([[unit(t) for t in two] for two in train.tokens], axis=0)
    found = Reading.of(train, 0.4)(shown)
    for photo, row in enumerate(found):
        parts = [np.sqrt(0.6) * shown.vectors[photo]]
        for token in range(2):
            moved = unit(shown.tokens[photo, token]) - middle[token]
            parts.append(np.sqrt(0.2) * moved / np.linalg.norm(moved))
        np.testing.assert_allclose(row, np.concatenate(parts), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("shots", [1, 2, 30])  # fewer photos than numbers of z, and more
def test_the_fit_is_the_dense_one_on_z(shots):
    train, shown = photos(shots), photos(5, 3)
    _, head = fitted(train)
    z, names = head.reading(train).astype(float), head.reading.text(TEXT)
    one_hot, width = np.eye(K)[train.labels], D + 2 * S
    factor, shift = np.polyfit((z @ names.T).ravel(), one_hot.ravel(), 1)
    left = one_hot - factor * z @ names.T - shift
    offsets = np.linalg.solve(z.T @ z + 0.7 * np.eye(width), z.T @ left).T
    weight, bias = gaussian(z, train.labels, K, len(z))
    share = 0.25 * (1 - K / len(z))
    seen = head.reading(shown).astype(float)
    wanted = 20 * (seen @ (factor * names + offsets).T + shift) + share * (seen @ weight.T + bias)
    found = head.scores(shown)
    np.testing.assert_allclose(
        found - found.mean(axis=1, keepdims=True), wanted - wanted.mean(axis=1, keepdims=True),
        rtol=1e-3, atol=1e-3,
    )  # fmt: skip


def test_without_a_share_it_is_the_ladder_on_the_projection():
    train, held, shown = photos(4), photos(2, 3), photos(5, 5)
    settings = TokenLadderSettings(tokens=0.0)
    _, head = fitted(train, held, settings)
    plain = fit_ladder(train, TEXT, held, LadderSettings(gaussian=0.25)).head
    wanted, found = plain.scores(shown), head.scores(shown)
    assert np.array_equal(found.argmax(axis=1), wanted.argmax(axis=1))


def test_names_without_photos_keep_the_order_of_their_texts():
    ladder, head = fitted(photos(4), photos(2, 5), TokenLadderSettings())
    kept = {**ladder.arrays(), **head.arrays()}
    text = normalise(np.random.default_rng(3).normal(size=(5, D)))
    shown = photos(20, 7)
    found = other_names(kept, head.reading.text(text), np.full(5, -1))
    logits = TokenHead(found, head.reading).scores(shown)
    assert np.array_equal(logits.argsort(axis=1), (shown.vectors @ text.T).argsort(axis=1))
    again = TokenHead(other_names(kept, head.reading.text(TEXT), np.arange(K)), head.reading)
    np.testing.assert_allclose(again.scores(shown), head.scores(shown), rtol=1e-4, atol=1e-4)


def test_tokens_tell_apart_what_the_projection_cannot():
    train, shown = photos(8), photos(20, 7)
    blind = np.tile(normalise(np.ones(D)), (len(train), 1))
    train = replace(train, vectors=blind)
    shown = replace(shown, vectors=np.tile(blind[:1], (len(shown), 1)))
    _, head = fitted(train, settings=TokenLadderSettings())
    assert (head.scores(shown).argmax(axis=1) == shown.labels).mean() > 0.8


def test_features_without_tokens_are_told():
    train = replace(photos(2), tokens=None)
    with pytest.raises(InputError, match="without tokens; encode the photos again"):
        fit_tokens(train, TEXT, None, ONE)
