"""tune-blocks: the torch image tower against the graph, what the descent changes, and what it
leaves behind."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from methods.coloured import along, check_on, make_task, photos, save_models, save_photos
from sharpzo.classifier import PromptClassifier
from sharpzo.detour import PhotoBatch, vectors_by
from sharpzo.errors import ArtifactError, InputError
from sharpzo.methods import find, fit
from sharpzo.methods.tune_blocks import BlocksHead, TunedBlocks
from sharpzo.metrics import cross_entropy
from sharpzo.testing import METHOD_CHECKS
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.features import encode
from sharpzo.towers.torch_image import TorchImageTower
from sharpzo.towers.tower import OnnxImageTower
from towers.random_models import relative, torch

METHOD = find("tune-blocks")
SETTINGS = replace(METHOD.settings, blocks=1, epochs=6, batch=8, rate=1e-3, head_rate=0.1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return save_models(tmp_path_factory.mktemp("blocks"))


@pytest.mark.parametrize("name", ["quick_gelu", "gelu", "dinov2"])
def test_states_equal_the_graph_s(folders, name):
    tower = OnnxImageTower(Checkpoint.open(folders / name), threads=1)
    pixels = tower.pixels(photo.image() for photo in photos(3).photos)
    ours = TorchImageTower(tower.checkpoint, *pixels.shape[2:])
    with torch.no_grad():
        tokens = ours.embed(torch.tensor(pixels))
        found = ours.states(ours.through(tokens, 0, 1), 1)
    assert relative(found.numpy(), tower.forward(pixels)) <= 1e-5


def test_untuned_parameters_are_a_detour_straight_through(folders):
    tower = OnnxImageTower(Checkpoint.open(folders / "dinov2"), threads=1)
    pixels = tower.pixels(photo.image() for photo in photos(3).photos)
    opened = TorchImageTower(tower.checkpoint, *pixels.shape[2:], tuned=1)
    assert {name.split(".")[0] for name in opened.parameters} == {"1", "norm"}
    way = TunedBlocks({name: one.numpy() for name, one in opened.parameters.items()})
    again = TunedBlocks.from_arrays(way.arrays())
    assert again.digest == way.digest
    assert relative(again(PhotoBatch(tower, pixels)), tower.forward(pixels)) <= 1e-5


def test_the_descent_lowers_the_loss_and_changes_the_last_block_alone(folders):
    task = make_task(Checkpoint.open(folders / "dinov2"))
    alone = replace(SETTINGS, share=1.0, smoothing=0.0)
    first, last = (fit(METHOD, replace(alone, epochs=epochs), task) for epochs in (1, 12))
    assert {name.split(".")[0] for name in last.head.detour.tuned} == {"1", "norm"}
    assert last.notes["block_passes"] == 12 * 2 * len(task.train)
    assert last.image_passes == 2 * len(task.train)
    losses = [cross_entropy(one.head.scores(along(one.head, task)), task.train.labels)
              for one in (first, last)]  # fmt: skip
    assert losses[1] < losses[0]


def test_a_share_of_nothing_is_the_untuned_method(folders):
    task = make_task(Checkpoint.open(folders / "dinov2"), held=0)
    fitted = fit(METHOD, replace(SETTINGS, share=0.0), task)
    plain = fit(find("ladder+tokens"), find("ladder+tokens").settings, task)
    assert np.allclose(
        fitted.head.scores(along(fitted.head, task)), plain.head.scores(task.train), atol=1e-5
    )
    assert fit(METHOD, SETTINGS, task).notes["share"] == 0.5


@pytest.mark.parametrize("name", ["quick_gelu", "dinov2"])
def test_a_run_predicts_as_it_was_fitted(folders, tmp_path, name):
    some = save_photos(tmp_path / "photos")
    made = PromptClassifier(
        method="tune-blocks", model=folders / name, settings={"blocks": 1, "epochs": 2}
    )
    made.fit(tmp_path / "photos")
    made.save(tmp_path / "run")
    again = PromptClassifier.load(tmp_path / "run", model=folders / name)
    assert np.array_equal(again.predict_proba(some), made.predict_proba(some))


def test_with_views_the_tuned_part_scores_the_mean_over_them(folders):
    checkpoint = Checkpoint.open(folders / "dinov2")
    task = make_task(checkpoint, held=0)
    head = fit(METHOD, replace(SETTINGS, epochs=1, share=1.0), task).head
    images, mirror = task.images.train, ["mirror"]
    way = {"detours": [head.detour], "fixed_views": mirror}
    shown = encode(checkpoint, {"train": images}, threads=1, **way)["train"]
    apart = [head.scores(one) for one in (shown, shown.by_view["mirror"])]
    reading = replace(head.plain.reading, views=("mirror",))
    both = replace(head, plain=replace(head.plain, reading=reading)).scores(shown)
    assert np.allclose(both, np.mean(apart, axis=0), atol=1e-5)
    assert not np.allclose(both, apart[0], atol=1e-3)
    plain = encode(checkpoint, {"train": images}, threads=1, fixed_views=mirror)["train"]
    made = head.detour.seen(plain, task.images.open_tower(), images, mirror)
    for one, other in ((made, shown), (made.by_view["mirror"], shown.by_view["mirror"])):
        assert np.allclose(vectors_by(head.detour, one), vectors_by(head.detour, other), atol=1e-5)


def test_arrays_of_another_tower_are_refused(folders):
    task = make_task(Checkpoint.open(folders / "dinov2"), held=0)
    head = fit(METHOD, replace(SETTINGS, epochs=1), task).head
    arrays = {**head.arrays(), "image.9.fc1.weight": np.zeros((2, 2), np.float32)}
    wrong = BlocksHead.from_arrays(arrays)
    with pytest.raises(ArtifactError, match=r"no '9\.fc1\.weight' as the run tuned it"):
        along(wrong, task)


def test_without_torch_or_a_checkpoint_it_says_what_is_missing():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from sharpzo.methods import find, fit\n"
        "from sharpzo.testing.methods import toy_task\n"
        "method = find('tune-blocks')\n"
        "try: fit(method, method.settings, toy_task(method))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("InputError the tuned image blocks need torch")


def test_a_descent_that_diverges_gives_no_run(folders):
    task = make_task(Checkpoint.open(folders / "dinov2"), held=0)
    with pytest.raises(InputError, match="the descent diverged"):
        fit(METHOD, replace(SETTINGS, epochs=2, rate=1e30), task)


def test_a_run_without_torch_says_what_is_missing(folders, monkeypatch):
    tower = OnnxImageTower(Checkpoint.open(folders / "dinov2"), threads=1)
    pixels = tower.pixels([photo.decode() for photo in photos(1).photos])
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match="need torch, which is not installed"):
        TunedBlocks({})(PhotoBatch(tower, pixels))


@pytest.mark.parametrize("check", METHOD_CHECKS, ids=lambda check: check.__name__)
def test_it_passes_the_suite_for_methods(folders, monkeypatch, check):
    method = replace(METHOD, settings=replace(SETTINGS, epochs=2))
    check_on(Checkpoint.open(folders / "dinov2"), method, check, monkeypatch)
