"""The image tower in whole numbers: products, the turn that spreads channels, and whole towers."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from sharpzo.data.demo import load_demo
from sharpzo.errors import CheckpointError, EngineError, InputError
from sharpzo.metrics import normalise
from sharpzo.towers import image, image_precision, integers
from sharpzo.towers.checkpoint import EMBEDDED, Checkpoint
from sharpzo.towers.families import image_family
from sharpzo.towers.graph import Builder
from sharpzo.towers.graph_store import GraphStore
from sharpzo.towers.runtime import Session
from sharpzo.towers.tower import OnnxImageTower

needs_bytes = pytest.mark.skipif(
    not image_precision.multiplies_bytes(), reason="no products of 8 bits"
)


def product(rows, pair, kind):
    """What the graph of one product makes of rows."""
    build = Builder()
    quantise = {
        "norm": integers.normed,
        "any": integers.by_row,
        "activated": lambda build, x: integers.by_row(build, x, activated=True),
    }[kind]
    y = integers.product(build, quantise(build, "x"), "layer", pair)
    build.op("Identity", y, name="y")
    width, out = pair[0].shape[::-1]
    graph = build.finish({"x": ("N", width)}, {"y": ("N", out)}, "product")
    return Session(graph, 1).run(["y"], {"x": rows})[0]


@pytest.mark.parametrize("kind", ["norm", "any", "activated"])
@needs_bytes
def test_a_product_is_off_by_its_steps_at_most(kind):
    draws = np.random.default_rng(0)
    weight, bias = draws.normal(size=(24, 64)), draws.normal(size=24)
    pair = weight.astype(np.float32), bias.astype(np.float32)
    rows = draws.normal(size=(9, 64)).clip(-4.9, 4.9).astype(np.float32)
    if kind == "activated":
        rows = np.maximum(rows, -integers.LEAST)
    if kind != "norm":
        rows *= 10.0 ** np.arange(-4, 5)[:, None]  # each has its own step
        rows = np.maximum(rows, -integers.LEAST) if kind == "activated" else rows
    found = product(rows, pair, kind)
    # Half a step of each number, times what it is multiplied with, summed in absolute values.
    largest = np.abs(rows).max(axis=1, keepdims=True)
    above = rows.max(axis=1, keepdims=True) + integers.LEAST
    step = {"norm": integers.REACH / 127, "any": largest / 127, "activated": above / 255}[kind]
    matrix_step = np.abs(weight).max(axis=1) / 127
    bound = 0.5 * step * (np.abs(weight) + matrix_step[:, None]).sum(axis=1)
    bound = bound + 0.5 * matrix_step * np.abs(rows).sum(axis=1, keepdims=True)
    assert (np.abs(found - (rows @ weight.T + bias)) <= 1.01 * bound + 1e-4).all()


def layer_norm(x, gain=1.0, shift=0.0):
    centred = x - x.mean(axis=1, keepdims=True)
    return gain * centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-6) + shift


def test_a_turn_changes_no_norm_and_spreads_channels():
    turn = integers.orthogonal(48).astype(np.float64)
    np.testing.assert_allclose(turn @ turn.T, np.eye(48), atol=1e-6)
    x = np.random.default_rng(1).normal(size=(5, 48))
    x[:, 7] *= 1000
    np.testing.assert_allclose(layer_norm(x @ turn.T), layer_norm(x) @ turn.T, atol=1e-5)
    assert np.abs(layer_norm(x)).max() > 6
    assert np.abs(layer_norm(x @ turn.T)).max() < 4


def test_a_turned_block_is_the_same_block(models):
    """Each layer makes of turned tokens what it made of the tokens, or that turned."""
    block = image.read_block(Checkpoint.open(models["clip-gelu"][0]), 0)
    turn = integers.orthogonal(48)
    found = integers.turned(block, turn)
    x = np.random.default_rng(2).normal(size=(4, 48))
    for part, norm in (("query", block.norm1), ("value", block.norm1), ("fc1", block.norm2)):
        (weight, bias), (other, shift) = getattr(block, part), getattr(found, part)
        wanted = layer_norm(x, *norm) @ weight.T + bias
        np.testing.assert_allclose(layer_norm(x @ turn.T) @ other.T + shift, wanted, atol=1e-5)
    for part in ("out", "fc2"):
        (weight, bias), (other, shift) = getattr(block, part), getattr(found, part)
        h = np.random.default_rng(3).normal(size=(4, weight.shape[1]))
        np.testing.assert_allclose(h @ other.T + shift, (h @ weight.T + bias) @ turn.T, atol=1e-5)
    assert {field.name for field in fields(found)} == {field.name for field in fields(block)}


def summaries(checkpoint, precision, photos, **options):
    tower = OnnxImageTower(checkpoint, threads=1, precision=precision, **options)
    try:
        return tower.summaries(photos)
    finally:
        tower.close()


def cosine(a, b):
    return float((normalise(a.reshape(-1, a.shape[-1])) * normalise(b.reshape(-1, b.shape[-1])))
                 .sum(axis=1).min())  # fmt: skip


def noise(many=3):
    return list(np.random.default_rng(4).integers(0, 256, (many, 40, 40, 3), np.uint8))


@pytest.mark.parametrize("name", ["clip-quick", "clip-gelu", "dual"])
@needs_bytes
def test_small_towers_keep_their_features(models, name):
    checkpoint = Checkpoint.open(models[name][0])
    exact, found = (summaries(checkpoint, p, noise()) for p in ("float32", "int8"))
    assert cosine(exact, found) > 0.99
    assert not np.array_equal(exact, found)


@needs_bytes
def test_the_embedded_tower_keeps_its_features():
    """Its largest channels are 30 times the others: rounded as they are, 0.90 was left."""
    checkpoint = Checkpoint.open(EMBEDDED, 56)
    photos = [photo.image() for photo in load_demo(1).train.photos[::40]]
    exact, found = (summaries(checkpoint, p, photos) for p in ("float32", "int8"))
    assert 0.98 < cosine(exact, found) < 0.99999


@needs_bytes
def test_graphs_of_each_precision_are_kept_apart(models, tmp_path):
    checkpoint, store = Checkpoint.open(models["dual"][0]), GraphStore(tmp_path)
    first = summaries(checkpoint, "int8", noise(), graphs=store)
    exact = summaries(checkpoint, "float32", noise(), graphs=store)
    assert len(list(tmp_path.glob("graph-*"))) == 2
    np.testing.assert_array_equal(summaries(checkpoint, "int8", noise(), graphs=store), first)
    np.testing.assert_array_equal(exact, summaries(checkpoint, "float32", noise()))


def test_bfloat16_is_close_or_refused(models, tmp_path):
    openvino = pytest.importorskip("openvino")
    checkpoint, store = Checkpoint.open(models["dual"][0]), GraphStore(tmp_path)
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(EngineError, match="no bfloat16 arithmetic"):
            summaries(checkpoint, "bfloat16", noise(), graphs=store)
        return
    exact, found = (
        summaries(checkpoint, p, noise(), graphs=store) for p in ("float32", "bfloat16")
    )
    assert 0.99 < cosine(exact, found) < 1 - 1e-7
    assert len(list(tmp_path.glob("graph-*"))) == 1  # OpenVINO reads the same


def test_a_processor_that_cuts_sums_off_is_refused(monkeypatch, models):
    monkeypatch.setattr(image_precision, "multiplies_bytes", lambda: False)
    with pytest.raises(EngineError, match=r"no products of 8 bits .* use image_precision float32"):
        summaries(Checkpoint.open(models["dual"][0]), "int8", noise())


def test_a_damaged_weight_is_found_before_it_is_rounded(models, monkeypatch):
    """Whole numbers have no NaN: a product of damaged gains came out as finite features."""
    read = image.read_block

    def damaged(checkpoint, layer):
        block = read(checkpoint, layer)
        gain = block.norm1[0].copy()
        gain[5] = np.nan
        return replace(block, norm1=(gain, block.norm1[1]))

    monkeypatch.setattr(image, "read_block", damaged)
    checkpoint = Checkpoint.open(models["clip-gelu"][0])
    with pytest.raises(CheckpointError, match="weights of block 0 are not finite"):
        image.build_image(checkpoint, 32, 32, integers=True)


def test_families_without_integers_are_refused(models, tmp_path):
    from open_clip_models import from_transformers, save_resnet
    from pair_models import save_pair
    from siglip_models import save_siglip

    save_siglip(tmp_path / "siglip")
    save_resnet(from_transformers(models["clip-quick"][0], tmp_path / "clip"), tmp_path / "resnet")
    for name in ("siglip", "resnet"):
        checkpoint = Checkpoint.open(tmp_path / name)
        with pytest.raises(InputError, match=rf"family '{name}'\) is not computed in int8"):
            image_precision.check_family(checkpoint, "int8")
        image_precision.check_family(checkpoint, "bfloat16")
    pair = Checkpoint.open(save_pair(tmp_path / "pair"))
    assert image_family(pair).open is not None
    for precision in ("bfloat16", "int8"):
        with pytest.raises(InputError, match="an ONNX file, which is run as it is"):
            image_precision.check_family(pair, precision)
    image_precision.check_family(pair, "float32")
