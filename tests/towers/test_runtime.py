"""Engines and precisions against float32 on ONNX Runtime and against NumPy."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pytest
from random_models import relative
from test_text import NAMES, TEMPLATE, candidates

from sharpzo.errors import EngineError, InputError
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.graph import Builder, Quantised, compress
from sharpzo.towers.runtime import OpenVinoSession, Runtime, Session
from sharpzo.towers.text import build_text
from sharpzo.towers.tower import OnnxTextTower


def open_tower(folder, **how) -> OnnxTextTower:
    return OnnxTextTower(Checkpoint.open(folder), NAMES, TEMPLATE, threads=1, **how)


def rounded(matrix: np.ndarray, precision) -> np.ndarray:
    """The matrix as the graph will see it, computed without a runtime."""
    stored = compress(matrix, precision)
    if not isinstance(stored, Quantised):
        return matrix if stored is None else stored.astype(np.float32)
    blocks = stored.values.astype(np.float32).reshape(*stored.scale.shape, -1)
    return (blocks * stored.scale[..., None]).reshape(matrix.shape)


@pytest.mark.parametrize(
    ("precision", "worst"), [("float16", 1e-3), ("int8", 0.5 / 127), ("int4", 0.5 / 7)]
)
def test_compression_error_is_at_most_half_a_step(precision, worst):
    """Of the largest weight that shares the scale; rows of zeros stay zeros."""
    matrix = np.random.default_rng(0).normal(size=(6, 96)).astype(np.float32)
    matrix[2] = 0
    error = np.abs(rounded(matrix, precision) - matrix)
    assert error.max() <= worst * np.abs(matrix).max()
    assert not error[2].any()
    assert error.max() > 0


@pytest.mark.parametrize("precision", ["float16", "int8", "int4"])
@pytest.mark.parametrize("name", ["clip-quick", "dual"])
def test_weight_only_precisions_are_float32_with_rounded_matrices(
    models, name, precision, monkeypatch
):
    folder, _ = models[name]
    tower = open_tower(folder, precision=precision)
    contexts = candidates(tower, 3)
    directions = np.random.default_rng(1).normal(size=(3, *tower.start.shape)).astype(np.float32)

    def answers(tower):
        return tower.forward(contexts), *tower.jvp(contexts[0], directions)

    with monkeypatch.context() as patch:  # the same rounding, in float32 storage
        plain = Builder.matrix
        patch.setattr(
            Builder,
            "matrix",
            lambda build, name, array, after: plain(build, name, rounded(array, precision), after),
        )
        wanted = answers(open_tower(folder))
    for found, right in zip(answers(tower), wanted, strict=True):
        assert relative(found, right) <= 1e-5
    exact = open_tower(folder).forward(contexts)
    assert 1e-5 < relative(tower.forward(contexts), exact) < 0.5


@pytest.mark.parametrize("precision", ["float32", "float16", "int8", "int4"])
def test_a_candidate_does_not_see_its_neighbours(models, precision):
    """Neither who they are (bit for bit) nor how many (3e-6)."""
    folder, _ = models["clip-quick"]
    contexts = candidates(open_tower(folder), 6)
    tower = open_tower(folder, precision=precision, batch=6)
    together = tower.forward(contexts)
    others = contexts.copy()
    others[1:] *= 100
    assert np.array_equal(tower.forward(others)[0], together[0])
    for batch in (1, 2, 4, 5):
        apart = open_tower(folder, precision=precision, batch=batch).forward(contexts)
        assert relative(apart, together) <= 3e-6


def test_weights_wait_for_their_layer(models):
    """No matrix is made float32 before the value that it will be multiplied with is known."""
    folder, _ = models["clip-quick"]
    checkpoint = Checkpoint.open(folder)
    tower = open_tower(folder)
    nodes = build_text(checkpoint, tower.prompts, "int8").model.graph.node
    known: dict[str, set[str]] = {}
    for node in nodes:
        known[node.output[0]] = set(node.input).union(*(known.get(x, set()) for x in node.input))
    late = [node for node in nodes if node.op_type == "DequantizeLinear"]
    assert len(late) >= 2 * checkpoint.text.layers
    assert all("context" in known[node.output[0]] for node in late)


def test_compressed_weights_are_held_compressed(models):
    folder, _ = models["clip-quick"]
    checkpoint, prompts = Checkpoint.open(folder), open_tower(folder).prompts
    many = {p: build_text(checkpoint, prompts, p).weights for p in ("float32", "float16", "int8")}
    size = {
        precision: sum(a.nbytes for name, a in weights.items() if ".fc1.weight" in name)
        for precision, weights in many.items()
    }
    assert size["float32"] == 2 * size["float16"]
    assert size["int8"] < 0.3 * size["float32"]


def test_openvino_gives_the_same_features(models):
    pytest.importorskip("openvino")
    folder, _ = models["clip-quick"]
    here, there = open_tower(folder), open_tower(folder, engine="openvino", batch=4)
    contexts = candidates(here, 6)
    for some in (contexts[:1], contexts, contexts[:2]):  # growing, and filled up
        assert relative(there.forward(some), here.forward(some)) <= 1e-5
        assert relative(there.states(some), here.states(some)) <= 1e-5
    directions = np.random.default_rng(1).normal(size=(5, *here.start.shape)).astype(np.float32)
    for some in (directions, directions[:2]):
        pairs = zip(here.jvp(contexts[0], some), there.jvp(contexts[0], some), strict=True)
        assert all(relative(found, wanted) <= 1e-5 for wanted, found in pairs)
    there.close()
    with pytest.raises(EngineError, match="closed"):
        there.forward(contexts)


def test_openvino_computes_one_row_alone(models):
    pytest.importorskip("openvino")
    from sharpzo.towers.image import build_image

    graph = build_image(Checkpoint.open(models["clip-quick"][0]), 32, 32)
    pixels = np.random.default_rng(0).normal(size=(5, 3, 32, 32)).astype(np.float32)
    session = OpenVinoSession(graph, 1, alone=True)
    (many,) = session.run(["states"], {"pixels": pixels})
    for size, kept in ((1, {1, 5}), (2, {1, 5})):
        (found,) = session.run(["states"], {"pixels": pixels[:size]})
        np.testing.assert_allclose(found, many[:size], atol=1e-5)
        assert session._requests.keys() == kept
    session.close()


def test_openvino_refuses_bfloat16_where_the_processor_has_none(models):
    openvino = pytest.importorskip("openvino")
    folder, _ = models["clip-quick"]
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        tower, exact = open_tower(folder, engine="openvino", precision="bfloat16"), None
        exact = open_tower(folder)
        contexts = candidates(exact, 3)
        assert 1e-5 < relative(tower.forward(contexts), exact.forward(contexts)) < 0.1
        return
    with pytest.raises(EngineError, match="no bfloat16 arithmetic"):
        open_tower(folder, engine="openvino", precision="bfloat16")


def test_cuda_is_refused_without_it(models):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has CUDA")
    with pytest.raises(EngineError, match="onnxruntime-gpu"):
        open_tower(models["clip-quick"][0], engine="cuda")


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"engine": "torch"}, "engine is 'torch'; give one of 'onnxruntime', 'openvino', 'cuda'"),
        (
            {"precision": "int2"},
            r"precision is 'int2' \(did you mean 'int8'\?\); give one of 'float32'",
        ),
        ({"precision": "bfloat16"}, "bfloat16 needs engine openvino"),
        ({"engine": "openvino", "precision": "int8"}, "int8 needs engine onnxruntime"),
        ({"threads": 0}, "threads is 0"),
        ({"threads": 2**31}, "threads is 2147483648; give a number of cores from 1 to 1024"),
    ],
)
def test_what_an_engine_cannot_do(how, sentence):
    with pytest.raises(InputError, match=sentence):
        Runtime(**how)


def test_a_missing_openvino_is_named(models, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineError, match=r"pip install 'sharpzo\[openvino\]'"):
        open_tower(models["clip-quick"][0], engine="openvino")


def test_sessions_may_be_closed_twice(models):
    folder, _ = models["clip-quick"]
    checkpoint = Checkpoint.open(folder)
    session = Session(build_text(checkpoint, open_tower(folder).prompts), 1)
    session.close()
    session.close()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows does not send SIGINT so")
def test_ctrl_c_is_answered_after_two_towers_have_closed_in_order(models):
    pytest.importorskip("openvino")
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from sharpzo.towers.checkpoint import Checkpoint\n"
        "from sharpzo.towers.image import build_image\n"
        "from sharpzo.towers.runtime import OpenVinoSession\n"
        "graph = build_image(Checkpoint.open(Path(sys.argv[1])), 32, 32)\n"
        "first, second = (OpenVinoSession(graph, 1) for _ in range(2))\n"
        "first.close(), second.close()\n"
        "del first, second\n"
        "signal.signal(signal.SIGINT, lambda number, frame: print('answered'))\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
    )
    command = [sys.executable, "-c", code, str(models["clip-quick"][0])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "answered\n"), done.stderr
