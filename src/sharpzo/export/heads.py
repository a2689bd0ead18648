"""A classifier's head, and its rule for photos of no class, as ONNX nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from sharpzo.errors import InputError
from sharpzo.fitting.strangers import Distance, Margin, Strangers
from sharpzo.linear import LinearHead
from sharpzo.methods.image_ladder import TunedHead
from sharpzo.methods.kernel import KernelHead
from sharpzo.methods.prolip import ProjectedHead
from sharpzo.methods.token_ladder import Reading, TokenHead
from sharpzo.towers import blocks
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.families import image_family
from sharpzo.towers.image import write_block
from sharpzo.types import Array, Head

if TYPE_CHECKING:
    from sharpzo.towers.graph import Builder

# What the image tower's graph calls its outputs.
STATES, SUMMARY, TOKENS = "states", "summary", "tokens"


def write_logits(build: Builder, checkpoint: Checkpoint, head: Head, tokens: int) -> str:
    """Return logits (B, K) of the tower's outputs, ``tokens`` of each photo.

    Of a head that reads photos through several views, which are the rows of the batch, they are
    the logits (1, K) of the photo.

    Raises InputError for a head that cannot be written.
    """
    match head:
        case LinearHead():
            return _linear(build, _vectors(build, checkpoint), head)
        case ProjectedHead():
            vectors = _through(build, STATES, head.projection, "head.projection")
            return _gemm(build, vectors, head.scale * head.text, "head.text")
        case KernelHead():
            return _kernel(build, _vectors(build, checkpoint), head)
        case TokenHead():
            rows = _rows(build, checkpoint, head.reading, _vectors(build, checkpoint))
            return _linear(build, rows, head.linear)
        case TunedHead():
            plain = _vectors(build, checkpoint)
            if head.reading.views:
                plain = _mean_of_views(build, plain)
            tuned = _through(
                build,
                _tuned_states(build, checkpoint, head, tokens),
                image_family(checkpoint).projection(checkpoint),
                "image.projection",
            )
            rows = _rows(build, checkpoint, head.reading, tuned)
            logits = _gemm(build, rows, head.tuned, "head.tuned", head.bias)
            return build.op("Add", logits, _gemm(build, plain, head.plain, "head.plain"))
    detour = getattr(head, "detour", None)
    what = "it has an image tower of its own" if detour else f"{type(head).__name__} has no graph"
    raise InputError(
        f"this run's classifier cannot be exported ({what}); fit with ladder+tokens, a linear "
        "method or one that tunes a prompt of words"
    )


def write_familiarity(build: Builder, rule: Strangers) -> str:
    """Return how familiar photos are, (B,), as `Strangers.scores` does."""
    x, total = _unit(build, STATES), ""
    if rule.views:
        x = _mean_of_views(build, x)
    for number, (weight, (measure, middle, deviation)) in enumerate(rule.terms):
        name = f"strangers.{number}"
        if isinstance(measure, Distance):
            found = _distance(build, x, measure, name)
        else:
            found = _margin(build, x, measure, name)
        found = build.op("Sub", found, build.constant(np.float32(middle)))
        found = build.op("Mul", found, build.constant(np.float32(weight / deviation)))
        total = build.op("Add", total, found) if total else found
    return total


def _linear(build: Builder, vectors: str, head: LinearHead) -> str:
    return _gemm(build, vectors, head.scale * head.weight, "head.weight", head.bias)


def _kernel(build: Builder, vectors: str, head: KernelHead) -> str:
    near = _gemm(build, vectors, head.keys, "head.keys")
    near = build.op("Sub", near, build.constant(np.float32(1)))
    near = build.op("Exp", build.op("Mul", near, build.constant(np.float32(head.beta))))
    values = np.float32(head.strength) * head.values.astype(np.float32)
    near = _gemm(build, near, values.T, "head.values")
    return build.op("Add", near, _gemm(build, vectors, head.scale * head.text, "head.text"))


def _rows(build: Builder, checkpoint: Checkpoint, reading: Reading, vectors: str) -> str:
    """z of `methods/token_ladder.py` with these ``vectors`` (B, D), the mean over the views."""
    width = checkpoint.image.width
    if not reading.centre.size:  # of a tower whose tokens are not known
        return _mean_of_views(build, vectors) if reading.views else vectors
    places = [0, 1] if reading.field == "tokens" else [2, 3]
    read = build.op("Gather", SUMMARY, build.constant(places), axis=1)
    mean = build.op("ReduceMean", read, build.constant([-1]), keepdims=1)
    own = _unit(build, build.op("Sub", read, mean))
    own = _unit(build, build.op("Sub", own, build.constant(reading.centre, "head.centre")))
    own = build.reshape(own, [-1, 2 * width])
    shares = np.sqrt([1 - reading.share, reading.share / 2]).astype(np.float32)
    vectors = build.op("Mul", vectors, build.constant(shares[0]))
    own = build.op("Mul", own, build.constant(shares[1]))
    rows = build.op("Concat", vectors, own, axis=1)
    return _mean_of_views(build, rows) if reading.views else rows


def _tuned_states(build: Builder, checkpoint: Checkpoint, head: TunedHead, tokens: int) -> str:
    """States of the tokens by way of the tuned last block."""
    config = checkpoint.image
    changed = head.detour.change(image_family(checkpoint).last_block(checkpoint)).parts
    block = blocks.Block(**{one.name: changed[one.name] for one in fields(blocks.Block)})
    x = build.reshape(TOKENS, [-1, config.width])
    x = write_block(build, config, x, "head.block", block, tokens, last=True)
    return blocks.norm(build, x, "head.post", changed["norm"], config.norm_eps)


def _vectors(build: Builder, checkpoint: Checkpoint) -> str:
    """The photos' features (B, D), rows of length 1."""
    return _through(
        build, STATES, image_family(checkpoint).projection(checkpoint), "image.projection"
    )


def _through(build: Builder, states: str, projection: Array, name: str) -> str:
    return _unit(build, _gemm(build, states, projection, name))


def _distance(build: Builder, x: str, measure: Distance, name: str) -> str:
    """Equation 1 of `strangers.py` by the root of its matrix: squares of differences keep the
    digits that differences of squares lose in float32."""
    axes, ridge = measure.axes, measure.ridge
    along = ridge**-0.5 - (measure.latent + ridge) ** -0.5
    root = ridge**-0.5 * np.eye(axes.shape[1]) - (axes.T * along) @ axes  # symmetric
    divided = 1 + 1 / measure.counts[:, None]
    means = build.constant((measure.means @ root)[None], f"{name}.means")
    rows = build.op("Unsqueeze", _gemm(build, x, root, f"{name}.root"), build.constant([1]))
    away = build.op("Sub", rows, means)
    squares = build.op("ReduceSumSquare", away, build.constant([2]), keepdims=0)
    squares = build.op("Div", squares, build.constant(divided.T, f"{name}.counts"))
    return build.op("ReduceMin", squares, build.constant([1]), keepdims=0)


def _margin(build: Builder, x: str, measure: Margin, name: str) -> str:
    level = measure.level - measure.middle @ measure.slopes
    scores = _gemm(build, x, measure.slopes.T, f"{name}.slopes", level)
    first, last = (
        build.op("Slice", scores, *(build.constant([place]) for place in (begin, end, 1)))
        for begin, end in ((0, -1), (-1, 2**62))
    )
    most = build.op("ReduceMax", first, build.constant([1]), keepdims=0)
    return build.op("Sub", most, build.op("Squeeze", last, build.constant([1])))


def _mean_of_views(build: Builder, rows: str) -> str:
    """The mean (1, width) of rows of one photo through several views."""
    return build.op("ReduceMean", rows, build.constant([0]), keepdims=1)


def _gemm(
    build: Builder, rows: str, matrix: Array, name: str, bias: Array | Sequence[float] = ()
) -> str:
    """rows (B, in) @ matrix (out, in).T + bias (out,)."""
    more = [build.constant(np.asarray(bias, np.float32), f"{name}.bias")] if len(bias) else []
    return build.op("Gemm", rows, build.constant(matrix, name), *more, transB=1)


def _unit(build: Builder, rows: str) -> str:
    """Rows along the last axis scaled to length 1; rows of zeros stay zeros."""
    length = build.op("ReduceL2", rows, build.constant([-1]), keepdims=1)
    return build.op("Div", rows, build.op("Max", length, build.constant(np.float32(1e-20))))
