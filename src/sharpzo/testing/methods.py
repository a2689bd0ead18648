"""The contract of methods (`methods.Method`) as checks that raise AssertionError.

from sharpzo.testing import METHOD_CHECKS

@pytest.mark.parametrize("check", METHOD_CHECKS, ids=lambda check: check.__name__)
def test_my_method(check):
    check(MY_METHOD)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from sharpzo.budget import Budget
from sharpzo.data.dataset import LabelledPhotos
from sharpzo.data.photo import as_photo
from sharpzo.detour import PhotoBatch, vectors_of
from sharpzo.methods import Fit, Images, Method, Task, fit
from sharpzo.metrics import normalise
from sharpzo.storage.journal import Journal, read_journal
from sharpzo.testing.searches import demand, untouched_randomness
from sharpzo.testing.toys import ToyImageTower, ToyTower
from sharpzo.types import Array, Features, Head, State, Step, TextTower

FORWARDS = 60  # of the searches here
SIDE = 8  # pixels


def toy_task(method: Method, tower: TextTower | None = None, *, seed: int = 1) -> Task:
    """Six training and three validation photos of each class, encoded by a toy image tower.

    They are what the method's settings need; the text tower is a toy of four classes if not given.
    """
    tower = tower or ToyTower()
    photos = _photos(tower.class_names, 6, 1)
    held_out = _photos(tower.class_names, 3, 2)
    wide = len(tower.projection)
    image = ToyImageTower(SIDE, features=wide)
    views = None
    if wanted := method.views(method.settings):
        views = _encoded(_photos(tower.class_names, 6, 1, jitter=0.1, times=wanted.views), image)
    return Task(
        _encoded(photos, image),
        _encoded(held_out, image),
        tower,
        seed,
        Budget(forwards=FORWARDS),
        views=views,
        images=Images(photos, held_out, lambda: ToyImageTower(SIDE, features=wide))
        if method.images
        else None,
    )


def equal_tasks_give_equal_fits(method: Method, tower: TextTower | None = None) -> None:
    """Two fits of one seed agree to the bit; global randomness is neither used nor moved."""
    with untouched_randomness(3):
        one = _fit(method, tower)
    with untouched_randomness(4):
        two = _fit(method, tower)
    for name, array in _kept(one).items():
        demand(np.array_equal(array, _kept(two)[name]), f"'{name}' differs between equal fits")


def scores_are_logits_of_every_class(method: Method, tower: TextTower | None = None) -> None:
    """scores (N, K) are finite, for any number of photos, and do not depend on neighbours."""
    fitted, task = _fit(method, tower), toy_task(method, tower)
    photos, classes = _shown(fitted.head, task, "validation"), len(task.tower.class_names)
    scores = fitted.head.scores(photos)
    demand(scores.shape == (len(photos), classes), f"scores have shape {scores.shape}")
    demand(bool(np.isfinite(scores).all()), "scores are not finite")
    alone = np.concatenate(
        [fitted.head.scores(photos.take(np.array([i]))) for i in range(len(photos))]
    )
    demand(np.allclose(scores, alone, rtol=1e-4, atol=1e-4), "a photo's scores depend on others")


def artefacts_give_the_head_back(method: Method, tower: TextTower | None = None) -> None:
    """What is kept fits into safetensors, and ``load`` makes the same scores of it."""
    from safetensors.numpy import load, save

    fitted, task = _fit(method, tower), toy_task(method, tower)
    loaded = method.load(load(save(_kept(fitted))))
    before, after = (head.scores(_shown(head, task)) for head in (fitted.head, loaded))
    demand(np.allclose(before, after, rtol=1e-4, atol=1e-4), "a loaded head scores otherwise")


def budgets_are_respected(method: Method, tower: TextTower | None = None) -> None:
    """A search spends at most its forwards, counts them all, and keeps its milestones."""
    fitted = _fit(method, tower, milestones=(20, FORWARDS))
    if not method.milestones:
        return  # no search: what it costs is its own
    demand(0 < fitted.forwards <= FORWARDS, f"{fitted.forwards} forwards of {FORWARDS}")
    demand(set(fitted.milestones) == {20, FORWARDS}, f"milestones {sorted(fitted.milestones)}")


def few_photos_are_enough(method: Method, tower: TextTower | None = None) -> None:
    """One photo per class, duplicated photos, a class without a photo, no validation photos."""
    task = toy_task(method, tower)
    labels = task.train.labels
    cases = {
        "one photo per class": np.flatnonzero(np.diff(labels, prepend=-1)),
        "photos that all stand there twice": np.repeat(np.arange(len(labels)), 2),
        "a class without a photo": np.flatnonzero(labels != 1),
    }
    for case, rows in cases.items():
        for validation in (task.validation, None):
            changed = replace(_task_of(task, rows), validation=validation)
            fitted = fit(method, method.settings, changed)
            scores = fitted.head.scores(_shown(fitted.head, task))
            demand(bool(np.isfinite(scores).all()), f"{case}: scores are not finite")
            demand(scores.shape[1] == len(task.tower.class_names), f"{case}: {scores.shape}")


def validation_chooses_only_if_declared(method: Method, tower: TextTower | None = None) -> None:
    """Where validation photos are declared to choose nothing, a fit without them is the same."""
    if method.validation(method.settings):
        return
    one, two = _fit(method, tower), _fit(method, tower, validation=None)
    for name, array in _kept(one).items():
        demand(np.array_equal(array, _kept(two)[name]), f"'{name}' changes with validation photos")


def unseen_names_get_a_classifier(method: Method, tower: TextTower | None = None) -> None:
    """Where ``rename`` is offered: other names work, and the known ones score as they did."""
    if method.rename is None:
        return
    fitted, task = _fit(method, tower), toy_task(method, tower)
    kept = _kept(fitted)
    same = method.rename(kept, task.tower)
    before, after = (head.scores(_shown(head, task)) for head in (fitted.head, same))
    demand(np.allclose(before, after, rtol=1e-3, atol=1e-3), "known names score otherwise")
    other = task.tower.variant(class_names=("otter", "hazel", "steam"))
    renamed = method.rename(kept, other)
    scores = renamed.scores(_shown(renamed, task))
    demand(scores.shape == (len(task.train), 3), f"three new names gave {scores.shape}")
    demand(bool(np.isfinite(scores).all()), "scores of new names are not finite")


def interrupted_searches_go_on(method: Method, tower: TextTower | None = None) -> None:
    """A search that is stopped after its first event, and again after every third, leaves the same
    fit and the same steps to the bit as one that is not; only seconds differ."""
    if not method.milestones:
        return  # no search: it begins anew
    whole: list[Step] = []
    straight = _fit(method, tower, listen=whole.append, milestones=(20, FORWARDS))
    with TemporaryDirectory() as folder:
        for stops in range(1000):
            journal = _Stopping(Path(folder), 3 if stops else 1)
            try:
                resumed = _fit(
                    method, tower, listen=journal.append, milestones=(20, FORWARDS),
                    journal=journal,
                )  # fmt: skip
                break
            except KeyboardInterrupt:
                continue
            finally:
                journal.close()
        else:
            raise AssertionError("a search that goes on never ends")
        demand(stops > 0, "the search took no snapshot: its objective needs a state (optim.Kept)")
        steps = read_journal(journal.path)
    demand(_timeless(steps) == _timeless(whole), "the steps differ after interruptions")
    for what in ("forwards", "steps", "reason", "image_passes", "validation_accuracy", "notes"):
        demand(getattr(straight, what) == getattr(resumed, what), f"{what} differs when resumed")
    for one, other in zip(_points(straight), _points(resumed), strict=True):
        for name, array in one.items():
            demand(np.array_equal(array, other[name]), f"'{name}' differs when resumed")


class _Stopping(Journal):
    """Stops after some events."""

    def __init__(self, folder: Path, events: int) -> None:
        super().__init__(folder)
        self._left = events

    def after(self, state: Callable[[], State], seconds: float) -> None:
        self._left -= 1
        self.stop = self._left == 0
        super().after(state, seconds)


def _timeless(steps: list[Step]) -> list[Step]:
    return [replace(step, seconds=0.0) for step in steps]


def _points(fitted: Fit) -> list[dict[str, Array]]:
    """What was chosen, and what at each milestone."""
    points = [{"point": one.point, **one.evaluated.head.arrays()}
              for _, one in sorted(fitted.milestones.items())]  # fmt: skip
    return [_kept(fitted), *points]


METHOD_CHECKS = (
    equal_tasks_give_equal_fits,
    scores_are_logits_of_every_class,
    artefacts_give_the_head_back,
    budgets_are_respected,
    few_photos_are_enough,
    validation_chooses_only_if_declared,
    unseen_names_get_a_classifier,
    interrupted_searches_go_on,
)


def check_method(method: Method, tower: TextTower | None = None) -> None:
    """Run every check.

    >>> from sharpzo.methods import find
    >>> check_method(find("zero-shot"))
    """
    for check in METHOD_CHECKS:
        check(method, tower)


def _fit(method: Method, tower: TextTower | None, **changes: Any) -> Fit:
    return fit(method, method.settings, replace(toy_task(method, tower), **changes))


def _shown(head: Head, task: Task, split: str = "train") -> Features:
    """The features that a head reads: with the vectors by its detour, if it has one."""
    photos, detour = getattr(task, split), getattr(head, "detour", None)
    if detour is None:
        return photos
    assert task.images is not None
    tower = task.images.open_tower()
    pixels = tower.pixels(getattr(task.images, split).decoded())
    vectors = vectors_of(detour, detour(PhotoBatch(tower, pixels)), tower.projection)
    return replace(photos, detours={detour.digest: vectors})


def _kept(fitted: Fit) -> dict[str, Array]:
    return {**fitted.arrays, **fitted.head.arrays()}


def _photos(
    names: tuple[str, ...], per_class: int, draw: int, jitter: float = 0.0, times: int = 1
) -> LabelledPhotos:
    """Noisy photos around one picture per class; ``times`` jittered copies, one after another."""
    pictures = np.random.default_rng(7).uniform(60, 190, (len(names), SIDE, SIDE, 3))
    labels = np.repeat(np.arange(len(names)), per_class)
    noise = np.random.default_rng(draw).normal(0, 25, (len(labels), SIDE, SIDE, 3))
    shaken = np.random.default_rng([draw, 1]).normal(0, 25 * jitter, (times, *noise.shape))
    pixels = np.clip(pictures[labels] + noise + shaken, 0, 255).astype(np.uint8)
    photos = tuple(as_photo(one) for one in pixels.reshape(-1, SIDE, SIDE, 3))
    return LabelledPhotos(photos, np.tile(labels, times), names)


def _encoded(photos: LabelledPhotos, tower: ToyImageTower) -> Features:
    found = PhotoBatch(tower, tower.pixels(photos.decoded())).summaries
    states, tokens, patches = found[:, 0], found[:, 1:3], found[:, 3:]
    vectors = normalise(states @ tower.projection.T)
    return Features(
        vectors,
        photos.labels,
        photos.class_names,
        photos.digest(),
        states,
        tokens=tokens,
        patches=patches,
    )


def _task_of(task: Task, rows: Array) -> Task:
    """The task of these training photos, with their views and images."""
    views, images, many = task.views, task.images, len(task.train)
    if views is not None:
        views = views.take((many * np.arange(len(views) // many)[:, None] + rows).ravel())
    if images is not None:
        images = replace(images, train=images.train.take(list(rows)))
    return replace(task, train=task.train.take(rows), views=views, images=images)
