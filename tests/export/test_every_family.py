"""Exports of runs on other models than the embedded one, held against `predict`."""

import json

import numpy as np
import pytest
from PIL import Image

from command import call, document, refused
from families import save_families

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    from towers.pair_models import save_pair

    root = tmp_path_factory.mktemp("checkpoints")
    save_families(root)
    save_pair(root / "pair", logit_bias=-3.0)
    save_pair(root / "one at a time", batch=1)
    return root


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    draws, root = np.random.default_rng(0), tmp_path_factory.mktemp("photos") / "few"
    for name, shade in (("dark cat", 60), ("bright dog", 190)):
        (root / name).mkdir(parents=True)
        for i in range(6):
            pixels = np.clip(shade + 40 * draws.normal(size=(40, 50, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{i}.png")
    return root


def fitted(photos, out, model, method):
    options = ("--method", method, "--budget-forwards", 20, "--no-cache", "--threads", 1)
    assert call("fit", photos, "--out", out, "--model", model, *options) == 0
    return out


def asked(folder, photo):
    """The probabilities of a file that is asked without sharpzo."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx")
    names = [one.name for one in session.get_outputs()]
    found = session.run(None, {"photo": np.asarray(Image.open(photo))})
    return dict(zip(names, found, strict=True))["probabilities"][0]


@pytest.mark.parametrize(
    ("family", "method"),
    [
        ("siglip", "ladder+tokens"),
        ("siglip", "zo-sgd"),
        ("resnet", "ladder+tokens"),
        ("avg", "ladder+tokens"),
        ("pair", "ladder+tokens"),
        ("pair", "zero-shot"),
        ("one at a time", "projection"),
    ],
)
def test_the_file_gives_the_answers_of_predict(
    checkpoints, photos, tmp_path, capsys, family, method
):
    run, out = fitted(photos, tmp_path / "run", checkpoints / family, method), tmp_path / "out"
    capsys.readouterr()
    found = document(capsys, "export", run, out, "--photos", photos, "--no-cache")
    assert found["agreement"]["top1"] == 1
    assert found["agreement"]["largest_difference"] < 0.01
    shown = photos / "dark cat" / "3.png"
    (row,) = document(capsys, "predict", run, shown, "--no-cache")
    wanted = {one["label"]: one["probability"] for one in row["top"]}
    classes = json.loads((run / "run.json").read_text())["class_names"]
    for name, probability in zip(classes, asked(out, shown), strict=True):
        assert abs(probability - wanted[name]) < 0.01


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_fewer_bits_of_an_encoder_that_is_not_ours(
    checkpoints, photos, tmp_path, capsys, precision
):
    """Its matrices are small here, and stay; the larger ones of another one are narrowed."""
    import onnx

    from sharpzo.export.precision import lighter
    from sharpzo.towers.checkpoint import Checkpoint
    from sharpzo.towers.pair_graph import build_image
    from towers.pair_models import IMAGE

    graph = build_image(Checkpoint.open(checkpoints / "pair"), 16, 16)
    wide = np.random.default_rng(0).normal(size=(256, 128)).astype(np.float32)
    graph.weights["image.wide"] = wide
    tensor = onnx.TensorProto(name="image.wide", dims=wide.shape, data_type=1, data_location=1)
    graph.model.graph.initializer.append(tensor)
    node = onnx.helper.make_node
    graph.model.graph.node.append(node("MatMul", ["x", "image.wide"], ["y"]))
    assert "image.wide" not in lighter(graph, precision).weights
    graph.model.graph.node.append(node("Gather", ["image.wide", "places"], ["z"]))
    assert "image.wide" in lighter(graph, precision).weights  # another node reads it
    run = fitted(photos, tmp_path / "run", checkpoints / "pair", "zero-shot")
    capsys.readouterr()
    found = document(capsys, "export", run, tmp_path / "out", "--photos", photos, "--precision",
                     precision, "--no-cache")  # fmt: skip
    assert found["agreement"]["top1"] == 1
    assert (checkpoints / "pair" / IMAGE).is_file()


@pytest.mark.parametrize("family", ["siglip", "pair"])
def test_each_class_on_its_own(checkpoints, photos, tmp_path, capsys, family):
    run, out = fitted(photos, tmp_path / "run", checkpoints / family, "zero-shot"), tmp_path / "out"
    capsys.readouterr()
    found = document(capsys, "export", run, out, "--multi", "--photos", photos, "--no-cache")
    assert found["agreement"]["named"] == 1
    shown = photos / "bright dog" / "0.png"
    (row,) = document(capsys, "predict", run, shown, "--multi", "--no-cache")
    wanted = {one["label"]: one["probability"] for one in row["top"]}
    classes = json.loads((run / "run.json").read_text())["class_names"]
    for name, probability in zip(classes, asked(out, shown), strict=True):
        assert abs(probability - wanted[name]) < 0.01
    assert "leave out --multi" in refused(
        capsys, "export", run, tmp_path / "page", "--multi", "--format", "web"
    )


def test_what_cannot_be_exported_is_one_sentence(checkpoints, photos, tmp_path, capsys):
    run = fitted(photos, tmp_path / "run", checkpoints / "pair", "ladder+tokens")
    capsys.readouterr()
    given = ("export", run, tmp_path / "out", "--photos", photos, "--no-cache")
    assert "fits logits for one class" in refused(capsys, *given, "--multi")
    assert not (tmp_path / "out").exists()
    run = fitted(photos, tmp_path / "clip", checkpoints / "clip", "zero-shot")
    capsys.readouterr()
    given = ("export", run, tmp_path / "out", "--photos", photos, "--no-cache")
    assert "no logit bias" in refused(capsys, *given, "--multi")


@pytest.mark.parametrize("family", ["siglip", "pair"])
def test_openvino(checkpoints, photos, tmp_path, capsys, family):
    pytest.importorskip("openvino")
    run, out = fitted(photos, tmp_path / "run", checkpoints / family, "zero-shot"), tmp_path / "out"
    capsys.readouterr()
    given = ("--format", "openvino", "--photos", photos, "--no-cache")
    found = document(capsys, "export", run, out, *given)
    assert found["agreement"]["top1"] == 1
    assert found["agreement"]["largest_difference"] < 0.01
    assert sorted(one.name for one in out.iterdir()) == ["agreement.json", "model.bin", "model.xml"]
