"""Fewer bits: what is kept in them, and what stays as it was."""

import numpy as np
import pytest

from sharpzo.export.precision import lighter
from sharpzo.towers.graph import Builder
from sharpzo.towers.runtime import Session

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("precision", "bits", "error"), [("float16", 16, 1e-3), ("int8", 8, 2e-2)])
def test_matrices_take_fewer_bits_wherever_they_stand(precision, bits, error):
    wide = RNG.normal(size=(160, 128)).astype(np.float32)
    wide[7] *= 1000  # no other row suffers
    tall, narrow = RNG.normal(size=(160, 192)), RNG.normal(size=(3, 192))
    build = Builder()
    x = build.op("Gemm", "x", build.weight("wide", wide), transB=1)
    again = build.op("Gemm", "x", build.weight("wide", wide), transB=1)
    x = build.op("MatMul", x, build.weight("tall", tall.astype(np.float32)))
    x = build.op("Gemm", x, build.weight("narrow", narrow.astype(np.float32)), transB=1)
    build.op("Concat", x, again, axis=1, name="out")
    graph = build.finish({"x": ("B", 128)}, {"out": ("B", 163)}, "test")
    small = lighter(graph, precision)
    assert small.bytes < graph.bytes * bits / 32 * 1.13 + 5_000
    assert small.weights["narrow"].dtype == np.float32
    x = RNG.normal(size=(5, 128)).astype(np.float32)
    [before], [after] = (Session(one, 1).run(["out"], {"x": x}) for one in (graph, small))
    away = np.abs(after - before).max(axis=0) / np.abs(before).max(axis=0)
    assert 0 < away.max() < 10 * error
    assert np.median(away) < error


def test_float32_is_the_graph_itself():
    build = Builder()
    build.op("Identity", "x", name="out")
    graph = build.finish({"x": (1,)}, {"out": (1,)}, "test")
    assert lighter(graph, "float32") is graph
