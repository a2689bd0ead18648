"""BlackVIP's decoder (CVPR 2023, arXiv 2303.14773) in NumPy, and the head of photos it prompts.

Four blocks of [transposed convolution 2x2 with stride 2, grouped by input channel; convolution
1x1; BatchNorm; GELU] and a last transposed convolution take 32x7x7 to 3x224x224. A transposed
convolution whose stride is its size mixes no neighbours, so that it and the 1x1 convolution after
it are one matrix product on the small image (``_fused``).

The prompt depends on the photo, so a photo passes the image tower twice: untouched for the
encoder's state, then prompted, which is the `detour.Detour` of the head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from sharpzo.detour import PhotoBatch, digest_of, vectors_by
from sharpzo.linear import LinearHead, keep, take
from sharpzo.rng import generator
from sharpzo.types import Array, Features

CODE = (32, 7, 7)  # 1,568 places: 768 of the encoder, 800 of the trigger
ENCODER, TRIGGER = 768, 800
SIDE = 224
# Channels in, after the transposed convolution, after the 1x1 convolution.
BLOCKS = ((32, 64, 64), (64, 64, 32), (32, 32, 32), (32, 32, 16))
CHANNELS = tuple(out for _, _, out in BLOCKS)  # of the BatchNorms, 144 together
LAST = (BLOCKS[-1][2], 3, 2, 2)
BATCH_NORM_EPSILON = 1e-5
# Moments of new BatchNorms: means, variances.
FRESH = np.stack([np.zeros(sum(CHANNELS), np.float32), np.ones(sum(CHANNELS), np.float32)])


def shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the 9,920 numbers in order, as PyTorch's modules have them.

    >>> sum(math.prod(shape) for _, shape in shapes())
    9920
    """
    for i, (inner, wide, outer) in enumerate(BLOCKS):
        yield f"{i}.up.weight", (inner, wide // inner, 2, 2)
        yield f"{i}.up.bias", (wide,)
        yield f"{i}.mix.weight", (outer, wide)
        yield f"{i}.norm.weight", (outer,)
        yield f"{i}.norm.bias", (outer,)
    yield "last.weight", LAST
    yield "trigger", (TRIGGER,)


PARAMETERS = sum(math.prod(shape) for _, shape in shapes())


def unflatten(numbers: Array) -> dict[str, Array]:
    """The 9,920 numbers (9920,) by name, float32."""
    parts, first = {}, 0
    for name, shape in shapes():
        last = first + math.prod(shape)
        parts[name] = numbers[first:last].reshape(shape).astype(np.float32)
        first = last
    return parts


def initial(seed: int) -> Array:
    """Where BlackVIP begins (9920,): PyTorch's initialisation, a trigger U(0, 0.1).

    Weights and biases of a convolution are U(-b, b) with b = 1 / sqrt(fan in); PyTorch counts a
    transposed convolution's fan in over its second axis.
    """
    parts, bound = [], 0.0
    for place, (name, shape) in enumerate(shapes()):
        draw = generator(seed, "decoder", direction=place)
        if name == "trigger":
            part = draw.uniform(0, 0.1, shape)
        elif ".norm." in name:
            part = np.full(shape, float(name.endswith("weight")))
        else:
            if name.endswith("weight"):
                bound = 1 / math.sqrt(math.prod(shape[1:]))
            part = draw.uniform(-bound, bound, shape)
        parts.append(part.ravel())
    return np.concatenate(parts)


def decode(numbers: Array, states: Array, moments: Array | None = None) -> tuple[Array, Array]:
    """Prompts float32 (B, 3, 224, 224) of the encoder's states (B, H), and the batch's moments.

    Moments (2, 144) are means and variances of the BatchNorms' inputs. With ``moments`` these use
    them (test), without the batch's own (training). The state fills the first 768 places of the
    code, cut or followed by zeros; then the trigger.
    """
    parts = unflatten(numbers)
    code = np.zeros((len(states), ENCODER + TRIGGER), np.float32)
    width = min(states.shape[1], ENCODER)
    code[:, :width] = states[:, :width]
    code[:, ENCODER:] = parts["trigger"]
    image = code.reshape(-1, *CODE)
    seen: list[Array] = []
    ends = np.cumsum(CHANNELS)
    for i, end in enumerate(ends):
        image = _fused(image, parts, i)
        batch = image.mean(axis=(0, 1, 3)), image.var(axis=(0, 1, 3))
        count = image.size // image.shape[2]
        seen.append(np.stack([batch[0], batch[1] * (count / max(count - 1, 1))]))
        mean, variance = batch if moments is None else moments[:, end - CHANNELS[i] : end]
        factor = parts[f"{i}.norm.weight"] / np.sqrt(variance + BATCH_NORM_EPSILON)
        shift = parts[f"{i}.norm.bias"] - factor * mean
        image *= factor[:, None]
        image += shift[:, None]
        image = _spread(gelu(image))
    weight = parts["last.weight"].transpose(2, 3, 1, 0).reshape(12, -1)
    flat = weight @ image.reshape(len(image), len(weight.T), -1)
    return _spread(flat.reshape(len(image), 4, 3, -1)), np.concatenate(seen, axis=1)


def _fused(image: Array, parts: dict[str, Array], i: int) -> Array:
    """Up and mix of block i: (B, C, h, w) -> (B, 4, O, h w), the 4 places of each new 2x2."""
    up, mix = parts[f"{i}.up.weight"], parts[f"{i}.mix.weight"]
    inner, times = up.shape[:2]
    grouped = mix.reshape(len(mix), inner, times)
    weight = np.einsum("ocj,cjab->aboc", grouped, up).reshape(4 * len(mix), inner)
    flat = weight @ image.reshape(len(image), inner, -1)
    return flat.reshape(len(image), 4, len(mix), -1) + (mix @ parts[f"{i}.up.bias"])[:, None]


def _spread(flat: Array) -> Array:
    """(B, 4, C, s s) -> (B, C, 2s, 2s): the four values of a place become its 2x2 pixels."""
    side = math.isqrt(flat.shape[3])
    grid = flat.reshape(len(flat), 2, 2, flat.shape[2], side, side).transpose(0, 3, 4, 1, 5, 2)
    return np.ascontiguousarray(grid).reshape(len(flat), flat.shape[2], 2 * side, 2 * side)


_STEPS, _END = 1024, 6.0  # linear between 1/1024: the normal distribution function to 3e-8
_KNOTS = range(int(-_END * _STEPS), int(_END * _STEPS) + 2)
_GRID = np.array([0.5 + 0.5 * math.erf(k / _STEPS / math.sqrt(2)) for k in _KNOTS], np.float32)
_RISE = np.diff(_GRID)


def gelu(values: Array) -> Array:
    """x times the normal distribution function of x, from a table: NumPy has no erf.

    >>> gelu(np.array([-1.0, 0.0, 2.0], np.float32)).round(4).tolist() == [
    ...     float(np.float32(v)) for v in (-0.1587, 0.0, 1.9545)]
    True
    """
    places = (np.clip(values, -_END, _END) + np.float32(_END)) * np.float32(_STEPS)
    left = places.astype(np.int32)
    places -= left
    places *= np.take(_RISE, left, mode="clip")
    places += np.take(_GRID, left, mode="clip")
    places *= values
    return places


def resampling(size: int) -> Array:
    """Matrix (size, 224) that takes a row of a prompt to the tower's pixels.

    Linear interpolation between the centres of the pixels, as PyTorch's ``bilinear``.
    """
    centres = np.clip((np.arange(size) + 0.5) * SIDE / size - 0.5, 0, SIDE - 1)
    left = np.minimum(centres.astype(int), SIDE - 2)
    matrix = np.zeros((size, SIDE), np.float32)
    rows = np.arange(size)
    matrix[rows, left] = 1 - (centres - left)
    matrix[rows, left + 1] = centres - left
    return matrix


def resize(prompts: Array, height: int, width: int) -> Array:
    """Prompts (B, 3, 224, 224) -> (B, 3, height, width): means of blocks where the sides divide
    224, else interpolated.
    """
    if (height, width) == (SIDE, SIDE):
        return prompts
    if SIDE % height == 0 and SIDE % width == 0:
        tall, wide = SIDE // height, SIDE // width
        return prompts.reshape(len(prompts), 3, height, tall, width, wide).mean(axis=(3, 5))
    return resampling(height) @ prompts @ resampling(width).T


def add_prompts(pixels: Array, prompts: Array, epsilon: float, low: Array, high: Array) -> Array:
    """Pixels (B, 3, h, w) + epsilon prompts (B, 3, 224, 224), clipped to [low, high] by channel."""
    small = resize(prompts, *pixels.shape[2:])
    prompted = pixels + np.float32(epsilon) * small
    return np.clip(prompted, low[:, None, None], high[:, None, None])


@dataclass(frozen=True, eq=False)
class Coordinator:
    """A tuned prompter of photos; fulfils `detour.Detour`.

    ``numbers`` (9920,) of decoder and trigger, running ``moments`` (2, 144) of its BatchNorms,
    ``epsilon`` the prompt's strength, ``low`` and ``high`` (3,) the preprocessed black and white.
    """

    numbers: Array
    moments: Array
    epsilon: float
    low: Array
    high: Array
    projected: ClassVar[bool] = True

    def __call__(self, batch: PhotoBatch) -> Array:
        return batch.tower.forward(self.prompt(batch.pixels, batch.states))

    def prompt(self, pixels: Array, states: Array) -> Array:
        """Preprocessed pixels (B, 3, h, w) and their states (B, S) -> prompted pixels."""
        prompts, _ = decode(self.numbers, states, self.moments)
        return add_prompts(pixels, prompts, self.epsilon, self.low, self.high)

    @property
    def digest(self) -> str:
        return digest_of(self.arrays())

    def arrays(self) -> dict[str, Array]:
        return keep(
            prompter=self.numbers,
            prompter_mean=self.moments[0],
            prompter_variance=self.moments[1],
            prompter_epsilon=self.epsilon,
            pixel_low=self.low,
            pixel_high=self.high,
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Coordinator:
        numbers, mean, variance, epsilon, low, high = take(
            arrays,
            prompter=(PARAMETERS,),
            prompter_mean=(sum(CHANNELS),),
            prompter_variance=(sum(CHANNELS),),
            prompter_epsilon=(1,),
            pixel_low=(3,),
            pixel_high=(3,),
        )
        return cls(numbers, np.stack([mean, variance]), float(epsilon[0]), low, high)


@dataclass(frozen=True, eq=False)
class PromptedHead:
    """``linear`` on the vectors of photos by way of ``detour``, which prompts them."""

    linear: LinearHead
    detour: Coordinator

    def scores(self, photos: Features) -> Array:
        return self.linear.scores(replace(photos, vectors=vectors_by(self.detour, photos)))

    def arrays(self) -> dict[str, Array]:
        return {**self.linear.arrays(), **self.detour.arrays()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> PromptedHead:
        return cls(LinearHead.from_arrays(arrays), Coordinator.from_arrays(arrays))
