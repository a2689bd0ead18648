"""A person's own checkpoint instead of the embedded model, from fit to predict, by family."""

import json

import numpy as np
import pytest
from PIL import Image

from command import call, document, refused
from families import save_families

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    from towers.open_clip_models import with_options
    from towers.pair_models import save_pair
    from towers.siglip_models import save_siglip2

    root = tmp_path_factory.mktemp("checkpoints")
    made = save_families(root)
    with_options(made, root / "coca", "text", {"embed_cls": True})
    with_options(made, root / "both-ways", "text", {"no_causal_mask": True})
    save_siglip2(root / "siglip2")
    save_pair(root / "pair")
    return root


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    draws, root = np.random.default_rng(0), tmp_path_factory.mktemp("photos") / "few"
    for name, shade in (("dark cat", 60), ("bright dog", 190)):
        for split, many in (("train", 8), ("test", 4)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(many):
                pixels = np.clip(shade + 40 * draws.normal(size=(40, 50, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return root


CASES = {
    "clip": ("projection", "sharpzo"),
    "pair": ("zero-shot", "ladder+tokens", "projection", "sharpzo", "zo-sgd", "cma-es", "fgn-csc"),
    "open_clip": ("ladder+tokens", "fgn"),
    "resnet": ("ladder+tokens", "projection"),
    "siglip": ("ladder+tokens", "sharpzo", "fgn"),
    "siglip2": ("ladder+tokens",),
    "coca": ("sharpzo",),
    "both-ways": ("fgn",),
    "avg": ("ladder+tokens",),
}


@pytest.mark.parametrize(
    ("family", "method"), [(family, one) for family, methods in CASES.items() for one in methods]
)
def test_fit_and_predict(checkpoints, photos, tmp_path, capsys, family, method):
    out = tmp_path / "run"
    options = ("--model", checkpoints / family, "--method", method, "--budget-forwards", 100)
    report = document(capsys, "fit", photos, "--out", out, *options)
    assert report["method"] == method
    assert 0 < report["forwards"] <= 100
    # The run remembers its model.
    (row,) = document(capsys, "predict", out, photos / "test" / "dark cat" / "0.png")
    assert row["label"] in ("dark cat", "bright dog")
    found = document(capsys, "evaluate", out, photos)
    assert found["n"] == 8


def test_bench(checkpoints, photos, tmp_path, monkeypatch):
    from bench.bench_engines import Here

    monkeypatch.setattr("sharpzo.bench.engines.LocalEngine", lambda workers: Here())
    monkeypatch.setattr("sharpzo.bench.driver.plot", lambda rows, folder: None)
    models = [str(checkpoints / family) for family in ("pair", "siglip", "open_clip", "resnet")]
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'title = "four families"\ndata = {json.dumps(str(photos.parent))}\n'
        f'data_sets = ["{photos.name}"]\nmethods = ["zero-shot", "ladder+tokens"]\n'
        f"shots = [2]\nseeds = [1]\nmodels = {json.dumps(models)}\n"
    )
    assert call("bench", recipe, "--out", tmp_path / "bench") == 0
    rows = (tmp_path / "bench" / "summary.md").read_text()
    assert rows.count("ladder+tokens") >= 4


@pytest.mark.parametrize("family", ["pair", "siglip"])
def test_other_names(checkpoints, photos, tmp_path, capsys, family):
    out = tmp_path / "run"
    document(capsys, "fit", photos, "--out", out, "--model", checkpoints / family)
    names = ("--classes", "dark cat,bright dog,the cat")
    (row,) = document(capsys, "predict", out, photos / "test" / "dark cat" / "0.png", *names)
    assert {one["label"] for one in row["top"]} == {"dark cat", "bright dog", "the cat"}


@pytest.mark.parametrize(
    ("family", "options", "sentence"),
    [
        ("pair", ("--method", "coop"), "backpropagates through CLIP's text transformer"),
        ("siglip", ("--method", "coop"), "backpropagates through CLIP's text transformer"),
        ("pair", ("--method", "tune-blocks"), "read at a class token"),
        ("siglip", ("--method", "tune-blocks"), "read at a class token"),
        ("resnet", ("--method", "tune-blocks"), "read at a class token"),
        ("siglip", ("--method", "clip-lora"), "read at a class token"),
        ("resnet", ("--memory-limit", "20MB"), "need at least"),
        ("pair", ("--memory-limit", "900MB"), "leave out the memory limit"),
        ("siglip", ("--memory-limit", "20MB"), "need at least"),
        ("both-ways", ("--memory-limit", "20MB"), "need at least"),
        ("pair", ("--precision", "int8"), "leave out engine and precision"),
    ],
)
def test_what_a_family_cannot_do_is_one_sentence(
    checkpoints, photos, tmp_path, capsys, family, options, sentence
):
    out = tmp_path / "run"
    given = ("--model", checkpoints / family, "--out", out, *options)
    assert sentence in refused(capsys, "fit", photos, *given)
    assert not out.exists()


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("clip", ("--method", "fgn", "--set", "sigmoid=true")),
        ("resnet", ("--method", "ladder+image")),
        ("siglip", ("--method", "ladder+image")),
        ("siglip", ("--method", "coop")),
        ("pair", ("--method", "tune-blocks")),
    ],
)
def test_what_a_family_cannot_do_is_refused_before_photos_are_encoded(
    checkpoints, photos, tmp_path, capsys, monkeypatch, family, options
):
    def encode(*given, **more):
        raise AssertionError("a photo was encoded")

    monkeypatch.setattr("sharpzo.towers.features.Encoder.__call__", encode)
    given = ("--model", checkpoints / family, "--out", tmp_path / "run", *options)
    refused(capsys, "fit", photos, *given)


def test_a_tuned_image_tower_of_few_photos_is_none_and_says_so(
    checkpoints, photos, tmp_path, capsys
):
    given = ("--model", checkpoints / "clip", "--method", "ladder+image")
    report = document(capsys, "fit", photos, "--out", tmp_path / "run", *given)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert any("ladder+image is ladder+tokens here" in one for one in record["warnings"])
    assert "and there are 2" in " ".join(report["warnings"])


@pytest.mark.parametrize("family", ["resnet", "siglip", "siglip2", "coca", "both-ways", "avg"])
def test_a_memory_limit_by_layers(checkpoints, photos, tmp_path, capsys, family):
    """Above what the tests' own process takes: any limit is kept by layers."""
    given = ("--model", checkpoints / family, "--memory-limit", "4GB")
    report = document(capsys, "fit", photos, "--out", tmp_path / "run", *given)
    assert report["validation_accuracy"] >= report["zero_shot_accuracy"]


def test_several_classes_of_a_photo(checkpoints, photos, tmp_path, capsys):
    """Each class on its own: SigLIP's probabilities, from zero-shot and a search by its loss."""
    from sharpzo.data.dataset import strange
    from sharpzo.data.photo import as_photo
    from sharpzo.fitting.trained import load

    shown, out = photos / "test" / "dark cat" / "0.png", tmp_path / "zero"
    given = ("--model", checkpoints / "siglip")
    document(capsys, "fit", photos, "--out", out, *given, "--method", "zero-shot")
    (row,) = document(capsys, "predict", out, shown, "--multi")
    trained = load(out)
    checkpoint = trained.towers.checkpoint
    head, scale = trained.head, checkpoint.logit_scale
    features = trained.encoded(strange([as_photo(shown)]))
    logits = scale * features.vectors @ head.weight.T + checkpoint.logit_bias
    wanted = np.sort(1 / (1 + np.exp(-logits[0].astype(float))))[::-1]
    assert np.allclose([one["probability"] for one in row["top"]], wanted, atol=1e-5)
    assert len(row["labels"]) == (wanted >= 0.5).sum()
    assert row["none"] == (not row["labels"])

    for method in ("zo-sgd", "fgn", "cma-es", "sharpzo"):
        options = ("--method", method, "--set", "sigmoid=true", "--budget-forwards", 60)
        document(capsys, "fit", photos, "--out", tmp_path / method, *given, *options)
        (tuned,) = document(capsys, "predict", tmp_path / method, shown, "--multi")
        assert 0 <= tuned["probability"] <= 1
    sentence = refused(capsys, "fit", photos, "--out", tmp_path / "x", "--method", "fgn",
                       "--set", "sigmoid=true", "--model", checkpoints / "clip")  # fmt: skip
    assert "no logit bias" in sentence
    document(capsys, "fit", photos, "--out", tmp_path / "closed", *given)
    assert "fits logits for one class" in refused(
        capsys, "predict", tmp_path / "closed", shown, "--multi"
    )
    document(capsys, "fit", photos, "--out", tmp_path / "clip", "--model", checkpoints / "clip")
    assert "leave out --multi" in refused(capsys, "predict", tmp_path / "clip", shown, "--multi")
