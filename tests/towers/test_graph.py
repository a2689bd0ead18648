"""Graphs as files, sessions, and the packing of suffixes."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from random_models import relative

from sharpzo.errors import EngineError
from sharpzo.towers import runtime as sessions
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.graph import Builder
from sharpzo.towers.image import build_image
from sharpzo.towers.packing import pack
from sharpzo.towers.prompts import layout
from sharpzo.towers.runtime import Session, cores
from sharpzo.towers.text import build_text


def test_saved_graph_gives_the_same_features(models, tmp_path):
    checkpoint = Checkpoint.open(models["dual"][0])
    graph = build_text(checkpoint, layout(checkpoint, ["cat", "dog", "qwertz"]))
    path = graph.save(tmp_path / "text")
    onnx.checker.check_model(path, full_check=True)
    context = np.random.default_rng(0).normal(size=(2, 4, 32)).astype(np.float32)
    context = context[:, : graph.model.graph.input[0].type.tensor_type.shape.dim[1].dim_value]
    saved = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    with closing(Session(graph, threads=1)) as session:
        (found,) = session.run(["features"], {"context": context})
    assert relative(saved.run(["features"], {"context": context})[0], found) <= 3e-6
    loaded = onnx.load(path, load_external_data=False).graph.initializer
    offsets = [int(e.value) for t in loaded for e in t.external_data if e.key == "offset"]
    assert offsets
    assert all(offset % 4096 == 0 for offset in offsets)


def test_weights_stay_out_of_the_proto(models):
    checkpoint = Checkpoint.open(models["clip-quick"][0])
    graph = build_image(checkpoint, 32, 32)
    inline = sum(len(t.raw_data) for t in graph.model.graph.initializer)
    assert inline < 20_000 < sum(a.nbytes for a in graph.weights.values())
    on_disk = next(checkpoint.weights.slices("vision_model.encoder.layers.0.mlp.fc1.weight"))
    assert np.shares_memory(graph.weights["image.0.fc1.weight"], on_disk)


@pytest.mark.parametrize(
    "level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"]
)
def test_every_optimisation_level_agrees(models, level):
    checkpoint = Checkpoint.open(models["clip-gelu"][0])
    prompts = layout(checkpoint, ["cat", "dog", "qwertz"])
    graph = build_text(checkpoint, prompts)
    context = np.random.default_rng(0).normal(size=(2, prompts.n_context, 32)).astype(np.float32)
    with closing(Session(graph, threads=1)) as session:
        (wanted,) = session.run(["features"], {"context": context})
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    kept = [ort.OrtValue.ortvalue_from_numpy(a) for a in graph.weights.values()]
    options.add_external_initializers(list(graph.weights), kept)
    other = ort.InferenceSession(graph.model.SerializeToString(), options)
    assert relative(other.run(["features"], {"context": context})[0], wanted) <= 5e-6


@pytest.mark.parametrize("most", [1, 12, 1000])
def test_packing_keeps_every_token_once(most):
    lengths = [3, 1, 7, 3, 40, 2, 3, 3, 5]
    packing = pack(lengths, before=2, width=8, most=most)
    chunks = packing.chunks
    groups = [group for chunk in chunks for group in chunk.groups]
    assert sorted(packing.order) == list(range(len(lengths)))
    assert sum(g.tiles * g.width for g in groups) == sum(lengths)
    assert sum(g.tiles * g.classes for g in groups) == len(lengths)
    assert max((g.width for g in groups if g.classes > 1), default=0) <= 8
    assert [c.first for c in chunks] == np.cumsum([0, *(c.tokens for c in chunks)]).tolist()[:-1]
    assert all(c.tokens < most + 8 or len(c.ends) == 1 for c in chunks)
    assert len(chunks) == 1 or most < 1000
    ends = [chunk.first + end for chunk in chunks for end in chunk.ends]
    assert np.array_equal(np.diff(ends, prepend=-1), [lengths[k] for k in packing.order])
    for group in groups:
        assert group.mask.shape == (group.tiles, group.width, 2 + group.width)
        assert (group.mask[:, :, :2] == 0).all()
        sees = group.mask[:, :, 2:] == 0
        assert np.array_equal(sees, sees & np.tri(group.width, dtype=bool))
        rows = np.take_along_axis(sees, group.ends[:, :, None], axis=1)
        assert (rows.sum(axis=1) == 1).all()  # each token is seen by exactly one EOS


def test_cores_respects_affinity_and_quota(tmp_path, monkeypatch):
    monkeypatch.setattr(sessions.os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr(sessions, "_CGROUP", tmp_path)
    assert cores() == 6
    (tmp_path / "cpu.max").write_text("max 100000")
    assert cores() == 6
    (tmp_path / "cpu.max").write_text("150000 100000")
    assert cores() == 2
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000")
    assert cores() == 6
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("50000")
    assert cores() == 1


def test_engine_errors():
    build = Builder()
    build.op("NoSuchOp", "x", name="y")
    graph = build.finish({"x": ("N",)}, {"y": ("N",)}, "broken")
    with pytest.raises(EngineError, match="refused the graph"):
        Session(graph)
    build = Builder()
    build.op("Neg", "x", name="y")
    graph = build.finish({"x": ("N", 2)}, {"y": ("N", 2)}, "neg")
    with closing(Session(graph)) as session:
        with pytest.raises(EngineError, match=r"\(1, 3\)"):
            session.run(["y"], {"x": np.zeros((1, 3), np.float32)})
        assert session.run(["y"], {"x": np.ones((1, 2), np.float32)})[0].sum() == -2
