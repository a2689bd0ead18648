"""The ladder on patches: against dense algebra on z, and what it shares with the ladder on x."""

from dataclasses import replace

import numpy as np
import pytest

from sharpzo.data.demo import CLASS_NAMES
from sharpzo.data.photo import FIXED_VIEWS
from sharpzo.errors import ArtifactError, InputError
from sharpzo.methods.gda import gaussian
from sharpzo.methods.ladder import LadderSettings, fit_ladder, other_names
from sharpzo.methods.moments import Moments
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
        vectors.astype(np.float32), labels, NAMES, patches=own.astype(np.float32)
    )  # fmt: skip


def through_views(photos, seed=4, noise=0.3):
    """The same photos through every fixed view."""
    rng, by_view = np.random.default_rng(seed), {}
    for view in FIXED_VIEWS:
        moved = photos.vectors + noise * rng.normal(size=photos.vectors.shape)
        patches = photos.patches + 7 * noise * rng.normal(size=photos.patches.shape)
        by_view[view] = replace(photos, vectors=normalise(moved), patches=patches)
    return replace(photos, by_view=by_view)


def fitted(train, validation=None, settings=ONE):
    ladder, reading = fit_tokens(train, TEXT, validation, settings)
    return ladder, TokenHead(ladder.head, reading)


def test_what_is_read_is_what_the_page_says():
    train, shown = photos(3), photos(2, 5)

    def unit(token):
        token = token - token.mean()
        return token / np.linalg.norm(token)

    middle = np.mean([[unit(t) for t in two] for two in train.patches], axis=0)
    found = Reading.of(train, 0.4)(shown)
    for photo, row in enumerate(found):
        parts = [np.sqrt(0.6) * shown.vectors[photo]]
        for token in range(2):
            moved = unit(shown.patches[photo, token]) - middle[token]
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
    weight, bias, _ = gaussian(Moments.of(replace(train, vectors=z), K), len(z))
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


def test_patches_tell_apart_what_the_projection_cannot():
    train, shown = photos(8), photos(20, 7)
    blind = np.tile(normalise(np.ones(D)), (len(train), 1))
    train = replace(train, vectors=blind)
    shown = replace(shown, vectors=np.tile(blind[:1], (len(shown), 1)))
    _, head = fitted(train, settings=TokenLadderSettings())
    assert (head.scores(shown).argmax(axis=1) == shown.labels).mean() > 0.8


def test_a_share_that_rounds_to_one_leaves_room_for_the_text():
    _, head = fitted(photos(2), settings=replace(ONE, tokens=1 - 1e-9))
    assert np.isfinite(head.scores(photos(2, 5))).all()
    assert TokenHead.from_arrays(head.arrays()).reading.share < 1


def test_features_without_patches_are_told():
    _, head = fitted(photos(2))
    with pytest.raises(InputError, match="without patches; encode the photos again"):
        head.scores(replace(photos(2), patches=None))


def test_without_patches_tokens_are_read_as_by_runs_that_do_not_say_what_they_read():
    def as_tokens(some):
        return replace(some, tokens=some.patches, patches=None)

    train, shown = photos(3), photos(4, 5)
    wide = replace(ONE, temperatures=TokenLadderSettings().temperatures)
    ladder, head = fitted(as_tokens(train), settings=wide)
    other, patches = fitted(train, settings=wide)
    wanted = head.scores(as_tokens(shown))
    assert ladder.temperature / other.temperature == pytest.approx(0.32 / 0.28)
    np.testing.assert_allclose(wanted * 0.32 / 0.28, patches.scores(shown), rtol=1e-4)
    arrays = head.arrays()
    del arrays["read"]
    both = replace(shown, tokens=shown.patches, patches=shown.patches[::-1])
    assert np.array_equal(TokenHead.from_arrays(arrays).scores(both), wanted)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("read", b"edges", "reads 'edges' of photos; update sharpzo"),
        ("read", b"\xff\xfe", "array 'read' is no text; fit the run again"),
        ("views", b"mirror\x00\xff", "array 'views' is no text; fit the run again"),
        ("views", b"edges", "the view 'edges'; update sharpzo"),
        ("share", b"\2", "share is 2, not from 0 to 1; fit again"),
    ],
)
def test_a_run_that_reads_what_is_not_known_is_refused(name, text, sentence):
    arrays = {**fitted(photos(2))[1].arrays(), name: np.frombuffer(text, np.uint8)}
    with pytest.raises(ArtifactError, match=sentence):
        TokenHead.from_arrays(arrays)


def test_a_tower_without_tokens_leaves_the_ladder_on_its_features():
    train, shown = (replace(photos(*args), patches=None) for args in ((3,), (2, 5)))
    _, head = fitted(train)
    plain = fit_ladder(train, TEXT, None, ONE, calibrated=0.32).head
    assert np.allclose(head.scores(shown), plain.scores(shown), atol=1e-5)
    again = TokenHead.from_arrays(head.arrays())
    assert np.array_equal(again.scores(shown), head.scores(shown))


def test_a_photo_is_left_out_with_all_of_its_views():
    """The error that chooses views is that of fits without the photo, each view of it."""
    train, settings = through_views(photos(3)), replace(ONE, views=4)
    ladder, reading = fit_tokens(train, TEXT, None, _Only(**vars(settings)))
    names, rows = reading.text(TEXT), reading.rows(train).astype(float)
    one_hot = np.eye(K)[train.labels]
    cosines = rows.reshape(-1, names.shape[1]) @ names.T
    factor, shift = np.polyfit(cosines.ravel(), np.repeat(one_hot, 4, axis=0).ravel(), 1)
    left = one_hot[:, None] - factor * rows @ names.T - shift
    total = 0.0
    for i in range(len(train)):
        rest = np.arange(len(train)) != i
        z, y = (part[rest].reshape(-1, part.shape[2]) for part in (rows, left))
        offsets = np.linalg.solve(z.T @ z + 4 * 0.7 * np.eye(z.shape[1]), z.T @ y)
        total += ((left[i] - rows[i] @ offsets).mean(axis=0) ** 2).sum()
    assert reading.views == tuple(FIXED_VIEWS)
    assert ladder.left_out == pytest.approx(total / len(train), rel=1e-5)
    assert fit_tokens(train, TEXT, None, settings)[0].left_out <= ladder.left_out


class _Only(TokenLadderSettings):
    """No choice: all views."""

    @property
    def choices(self):
        return [tuple(FIXED_VIEWS)]


def test_views_that_mislead_are_not_chosen_and_good_ones_are():
    settings, train = TokenLadderSettings(views=4), photos(8)
    nonsense = through_views(train, noise=20.0)
    assert fit_tokens(nonsense, TEXT, None, settings)[1].views == ()
    _, reading = fit_tokens(through_views(train, noise=0.5), TEXT, None, settings)
    assert reading.views == tuple(FIXED_VIEWS)
    lonely = through_views(photos(1))  # nothing can be left out
    for views in (2, 4):
        reading = fit_tokens(lonely, TEXT, None, TokenLadderSettings(views=views))[1]
        assert reading.views == ("middle",)
    assert fit_tokens(lonely, TEXT, None, TokenLadderSettings())[1].views == ()


def test_a_photo_is_scored_by_the_mean_over_its_views():
    train, shown = through_views(photos(4)), through_views(photos(3, 5), seed=6)
    ladder, reading = fit_tokens(train, TEXT, None, replace(ONE, views=4))
    head = TokenHead(ladder.head, reading)
    alone = replace(reading, views=())
    each = [TokenHead(ladder.head, alone).scores(v) for v in (shown, *shown.by_view.values())]
    assert head.fixed_views == tuple(FIXED_VIEWS)
    np.testing.assert_allclose(head.scores(shown), np.mean(each, axis=0), rtol=1e-4, atol=1e-4)
    again = TokenHead.from_arrays(head.arrays())
    np.testing.assert_allclose(again.scores(shown), head.scores(shown), rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="without the view 'mirror'"):
        head.scores(photos(2))


def test_equal_views_are_one_view():
    """A view that shows the photo again changes nothing in the least squares."""
    train, shown, plain = photos(5), photos(6, 5), replace(ONE, gaussian=0.0)
    same = replace(train, by_view=dict.fromkeys(FIXED_VIEWS, train))
    again = replace(shown, by_view=dict.fromkeys(FIXED_VIEWS, shown))
    ladder, reading = fit_tokens(same, TEXT, None, _Only(**vars(replace(plain, views=4))))
    wanted = fitted(train, settings=plain)[1].scores(shown)
    np.testing.assert_allclose(
        TokenHead(ladder.head, reading).scores(again), wanted, rtol=1e-4, atol=1e-3
    )


def test_few_photos_of_wide_features_take_little_memory():
    """No square matrix of D + 2 S numbers a side: of a ResNet's 5,000 that is 200 MB."""
    import tracemalloc

    wide, draws = 1_500, np.random.default_rng(0)
    vectors = normalise(draws.normal(size=(8, D)))
    tokens = draws.normal(size=(8, 2, wide)).astype(np.float32)
    few = Features(vectors.astype(np.float32), np.repeat(range(K), 2), NAMES, patches=tokens)
    tracemalloc.start()
    try:
        fit_tokens(few, TEXT, None, ONE)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 8 * (2 * wide) ** 2 / 4
