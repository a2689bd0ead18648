"""What a forward and a photo cost here, and whether the engine computes what NumPy does.

In a process of its own: an engine that this processor cannot run ends that process alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from statistics import median
from typing import Any

import numpy as np

from sharpzo import memory
from sharpzo.errors import EngineError, InputError
from sharpzo.process import Channel, serve
from sharpzo.towers.families import image_family
from sharpzo.towers.open import Towers
from sharpzo.towers.preprocess import Preprocessing
from sharpzo.towers.runtime import Engine, Runtime
from sharpzo.types import Array, ImagePrecision

NAMES = ("cat", "dog", "bird", "fish", "tree", "house", "car", "boat", "cup", "book")
TEMPLATE = "a photo of a {}."
_PHOTOS = 2  # per call: more are hardly faster, and a large model takes a second for each
_SECONDS = 0.4  # of repetitions


def seconds(work: Callable[[], object]) -> float:
    """The median time of a call, after one that does not count."""
    work()
    taken: list[float] = []
    while sum(taken) < _SECONDS:
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return median(taken)


def text_cost(towers: Towers) -> tuple[float, Array]:
    """Seconds per forward with ten class names, and the untuned features (K, D)."""
    tower = towers.text(NAMES, TEMPLATE)
    try:
        contexts = np.repeat(tower.start[None], tower.batch, axis=0)
        return seconds(lambda: tower.forward(contexts)) / len(contexts), tower.untuned
    finally:
        tower.close()


def image_cost(towers: Towers, compared: bool = True) -> tuple[float, float | None]:
    """Seconds per photo, and how far the engine's features are from NumPy's, relative; None where
    NumPy has no such tower, and where it is not ``compared``."""
    size = Preprocessing.open(towers.checkpoint).size
    photos = np.random.default_rng(0).integers(0, 256, (_PHOTOS, *size, 3), np.uint8)
    tower = towers.image()
    try:
        pixels = tower.pixels(list(photos))
        cost = seconds(lambda: tower.summarise(pixels)) / len(pixels)
        found = tower.summarise(pixels[:1])
    finally:
        tower.close()
    if not compared:
        return cost, None
    try:
        layered = image_family(towers.checkpoint).layered(towers.checkpoint, *size)
        plain = layered.summaries(pixels[:1])
    except InputError:  # this family has no layers in NumPy
        return cost, None
    return cost, _apart(found, plain)


def photo_costs(model: str | None, threads: int | None, engines: list[Engine]) -> dict[str, float]:
    """Seconds per photo in the precisions, other than float32, that can be had here by engines."""
    found: dict[str, float] = {}
    precisions: dict[ImagePrecision, Engine] = {"bfloat16": "openvino", "int8": "onnxruntime"}
    for precision, engine in precisions.items():
        if engine not in engines:
            continue
        towers = Towers(model, Runtime(threads=threads), fetch=False, image_precision=precision)
        with suppress(InputError, EngineError):
            found[precision] = image_cost(towers, compared=False)[0]
    return found


def measure(model: str | None, threads: int | None, engines: list[Engine]) -> dict[str, Any]:
    """Costs in seconds and differences, by engine for the text tower, as JSON has them."""
    features: dict[str, Array] = {}
    forwards: dict[str, float] = {}
    for engine in engines:
        towers = Towers(model, Runtime(engine, threads=threads), fetch=False)
        try:
            forwards[engine], features[engine] = text_cost(towers)
        except InputError:  # this family is for the first engine alone
            if engine == engines[0]:
                raise
    towers = Towers(model, Runtime(threads=threads), fetch=False)
    photo, apart = image_cost(towers)
    first = features[engines[0]]
    return {
        "forward": forwards,
        "photo": photo,
        "photo_in": photo_costs(model, threads, engines),
        "image_apart": apart,
        "text_apart": {name: _apart(found, first) for name, found in features.items()},
        "peak": memory.peak(),
    }


def _apart(found: Array, expected: Array) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def _work(parent: Channel) -> None:
    parent.send(measure(**parent.receive()))


if __name__ == "__main__":
    serve(_work)
