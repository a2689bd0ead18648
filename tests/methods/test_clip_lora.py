"""clip-lora: both towers against transformers with merged matrices, what the descent does, and
what it leaves behind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from methods.coloured import NAMES, along, check_on, make_task, photos, save_models, save_photos
from sharpzo.classifier import PromptClassifier
from sharpzo.detour import PhotoBatch
from sharpzo.errors import InputError
from sharpzo.methods import clip_lora, find, fit
from sharpzo.methods.clip_lora import Lora, LoraDetour, steps_of
from sharpzo.metrics import cross_entropy
from sharpzo.testing import METHOD_CHECKS
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.torch_image import TorchImageTower
from sharpzo.towers.torch_text import TorchTextTower
from sharpzo.towers.tower import OnnxImageTower, OnnxTextTower
from towers.random_models import relative, torch, transformers

METHOD = find("clip-lora")
SETTINGS = replace(METHOD.settings, steps=12, batch=9, rate=0.01)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return save_models(tmp_path_factory.mktemp("lora"))


def test_untrained_it_is_zero_shot(folders):
    task = make_task(Checkpoint.open(folders / "quick_gelu"), held=0)
    found = fit(METHOD, replace(SETTINGS, steps=1, rate=1e-12, least_rate=1e-13), task).head
    plain = fit(find("zero-shot"), find("zero-shot").settings, task).head
    assert relative(found.scores(along(found, task)), plain.scores(task.train)) <= 1e-4


@pytest.fixture(params=["quick_gelu", "gelu"])
def both(request, folders):
    """A checkpoint, factors of its towers, both in torch with them, and transformers' model with
    the products of the factors added to its matrices."""
    checkpoint = Checkpoint.open(folders / request.param)
    model = transformers.CLIPModel.from_pretrained(checkpoint.folder).eval()
    lora = {
        which: Lora(replace(METHOD.settings, dropout=0.5), 1, which) for which in ("image", "text")
    }
    image = TorchImageTower(
        checkpoint, 32, 32, branches=lambda n: lora["image"].branches(n, checkpoint.image.width)
    )
    text = TorchTextTower(
        checkpoint,
        OnnxTextTower(checkpoint, NAMES, threads=1).prompts,
        branches=lambda n: lora["text"].branches(n, checkpoint.text.width),
    )
    draws = torch.Generator().manual_seed(1)
    encoders = {"image": model.vision_model.encoder, "text": model.text_model.encoder}
    with torch.no_grad():
        for which, found in lora.items():
            for _, high in found.pairs.values():
                high.normal_(generator=draws)
            for name, (low, high) in found.found().items():
                layer, part = name.split(".")
                attention = encoders[which].layers[int(layer)].self_attn
                matrix = getattr(
                    attention, {"query": "q_proj", "key": "k_proj", "value": "v_proj"}[part]
                )
                matrix.weight += torch.tensor(high @ low)
    return checkpoint, lora, image, text, model


def test_photos_equal_transformers_with_merged_matrices(both):
    checkpoint, lora, image, _, model = both
    tower = OnnxImageTower(checkpoint, threads=1)
    pixels = tower.pixels(photo.image() for photo in photos(3).photos)
    with torch.no_grad():
        reference = model.vision_model(torch.tensor(pixels)).pooler_output.numpy()
        ours = image.states(image.embed(torch.tensor(pixels))).numpy()
    assert relative(reference, tower.forward(pixels)) > 0.01
    assert relative(ours, reference) <= 1e-5
    way = LoraDetour(lora["image"].found())
    again = LoraDetour.from_arrays(way.arrays())
    assert again.digest == way.digest
    assert relative(again(PhotoBatch(tower, pixels)), reference) <= 1e-5


def test_names_equal_transformers_with_merged_matrices(both):
    checkpoint, _, _, text, model = both
    plain = OnnxTextTower(checkpoint, NAMES, threads=1)
    ids = [
        [plain.prompts.sos_id, *plain.prompts.prefix, *suffix] for suffix in plain.prompts.suffixes
    ]
    with torch.no_grad():
        reference = np.stack(
            [model.get_text_features(input_ids=torch.tensor([i])).pooler_output[0] for i in ids]
        )
        ours = text(torch.tensor(plain.start)).numpy()
    assert relative(ours, reference) <= 1e-5


def test_the_descent_lowers_the_loss(folders):
    task = make_task(Checkpoint.open(folders / "dinov2"))
    first, last = (fit(METHOD, replace(SETTINGS, steps=steps), task) for steps in (1, 24))
    assert last.forwards == 25
    assert last.notes["backward_passes"] == 24 * 9
    assert last.image_passes == 24 * 9 + len(task.validation)
    losses = [cross_entropy(one.head.scores(along(one.head, task)), task.train.labels)
              for one in (first, last)]  # fmt: skip
    assert losses[1] < losses[0]


def test_published_settings():
    """500 steps per photo of a class, in batches of 32."""
    published = METHOD.configure("published")
    assert (published.rank, published.alpha, published.dropout, published.rate) == (
        2,
        1,
        0.25,
        2e-4,
    )
    assert (published.steps, published.batch, published.view_scale) == (None, 32, (0.08, 1.0))
    assert steps_of(published, np.repeat(range(3), [2, 4, 3])) == 4 * 500


@pytest.mark.parametrize(("photos", "steps"), [(100, 120), (385, 121), (1600, 500)])
def test_our_steps_are_ten_passes_and_at_least_120(photos, steps):
    assert steps_of(METHOD.settings, np.arange(photos) % 100) == steps


def test_more_steps_than_a_counter_holds_are_begun(folders, monkeypatch):
    monkeypatch.setattr(clip_lora, "_crops", lambda *given: iter(()))
    task = make_task(Checkpoint.open(folders / "quick_gelu"), held=0)
    assert fit(METHOD, replace(METHOD.settings, per_shot=10**19), task).image_passes == 0


def test_dropout_leaves_the_mean():
    lora = Lora(replace(METHOD.settings, dropout=0.25), 1, "image")
    x = torch.ones(1000, 50)
    assert lora.drop(x) is x  # what is evaluated
    lora.noise = torch.Generator().manual_seed(1)
    seen = lora.drop(x)
    assert np.allclose(np.unique(seen.numpy()), [0, 4 / 3])
    assert abs(float(seen.mean()) - 1) < 0.02


def test_a_run_predicts_as_it_was_fitted(folders, tmp_path):
    some = save_photos(tmp_path / "photos")
    model = folders / "quick_gelu"
    made = PromptClassifier(method="clip-lora", model=model, settings={"steps": 3})
    made.fit(tmp_path / "photos")
    made.save(tmp_path / "run")
    again = PromptClassifier.load(tmp_path / "run", model=model)
    assert np.array_equal(again.predict_proba(some), made.predict_proba(some))


def test_a_descent_that_diverges_gives_no_run(folders):
    task = make_task(Checkpoint.open(folders / "dinov2"), held=0)
    with pytest.raises(InputError, match="the descent diverged"):
        fit(METHOD, replace(SETTINGS, rate=1e30), task)


@pytest.mark.parametrize("check", METHOD_CHECKS, ids=lambda check: check.__name__)
def test_it_passes_the_suite_for_methods(folders, monkeypatch, check):
    method = replace(METHOD, settings=replace(SETTINGS, steps=4))
    check_on(Checkpoint.open(folders / "dinov2"), method, check, monkeypatch)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dropout": 1.0}, "dropout is 1.0; give a number of at least 0 and below 1"),
        ({"view_scale": (0.9, 0.2)}, "give the lower share first"),
        ({"rate": 1e-7}, "least_rate is 1e-06, above rate 1e-07"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        replace(METHOD.settings, **changes)


def test_a_rank_above_the_width_is_refused(folders):
    tower = make_task(Checkpoint.open(folders / "quick_gelu"), held=0).tower
    with pytest.raises(InputError, match="rank is 999; give at most the towers' width"):
        METHOD.suits(replace(METHOD.settings, rank=999), tower)


def test_photos_that_are_no_longer_finite_make_no_run(folders, monkeypatch):
    """The texts may be finite when the image tower's states are not."""
    task = make_task(Checkpoint.open(folders / "quick_gelu"), held=0)
    whole = TorchImageTower.states

    def overflowing(tower, x, first=0):
        return whole(tower, x, first) * (1 if torch.is_grad_enabled() else np.inf)

    monkeypatch.setattr(TorchImageTower, "states", overflowing)
    with pytest.raises(InputError, match="diverged"):
        fit(METHOD, replace(SETTINGS, steps=1), task)
