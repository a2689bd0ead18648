"""What a ResNet of OpenAI's CLIP is made of: convolutions, blocks, shapes of its tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sharpzo.towers.config import ResNetConfig

EXPANSION = 4  # a block's output is so many times as wide as its inside
NORM = "weight", "bias", "running_mean", "running_var"


@dataclass(frozen=True)
class Convolution:
    """A convolution with its batch norm: ``into`` -> ``out`` channels, ``size`` a side."""

    name: str
    norm: str
    into: int
    out: int
    size: int = 1
    stride: int = 1


@dataclass(frozen=True)
class Bottleneck:
    """A block: three convolutions beside an identity, which has a convolution of its own (``way``)
    where shapes differ. With a ``stride``, averages of so many places a side replace them, behind
    the second convolution and before ``way``."""

    convolutions: tuple[Convolution, Convolution, Convolution]
    way: Convolution | None
    stride: int


def stem(config: ResNetConfig) -> list[Convolution]:
    """Return the first convolutions; an average of 2 x 2 places follows them."""
    half, full = config.stem // 2, config.stem
    sizes = [(3, half, 2), (half, half, 1), (half, full, 1)]
    return [Convolution(f"conv{i}", f"bn{i}", into, out, 3, stride)
            for i, (into, out, stride) in enumerate(sizes, 1)]  # fmt: skip


def bottlenecks(config: ResNetConfig) -> Iterator[Bottleneck]:
    """Yield the blocks of all stages."""
    into = config.stem
    for stage, many in enumerate(config.stages):
        inside = config.stem * 2**stage
        out = inside * EXPANSION
        for i in range(many):
            name, stride = f"layer{stage + 1}.{i}", 2 if stage and not i else 1
            sizes = (into, inside, 1), (inside, inside, 3), (inside, out, 1)
            first, second, third = (
                Convolution(f"{name}.conv{j}", f"{name}.bn{j}", *size)
                for j, size in enumerate(sizes, 1)
            )
            way = f"{name}.downsample.0", f"{name}.downsample.1", into, out
            yield Bottleneck(
                (first, second, third),
                Convolution(*way) if stride > 1 or into != out else None,
                stride,
            )
            into = out


def shapes(config: ResNetConfig) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors, under the names that OpenAI's model has for them."""
    found: dict[str, tuple[int, ...]] = {}
    for block in (None, *bottlenecks(config)):
        group = stem(config) if block is None else [*block.convolutions, block.way]
        for one in filter(None, group):
            found[f"{one.name}.weight"] = one.out, one.into, one.size, one.size
            found |= {f"{one.norm}.{kind}": (one.out,) for kind in NORM}
    m = config.channels
    found["attnpool.positional_embedding"] = 1 + config.side**2, m
    for name, out in (("q", m), ("k", m), ("v", m), ("c", config.projection)):
        found[f"attnpool.{name}_proj.weight"] = out, m
        found[f"attnpool.{name}_proj.bias"] = (out,)
    return found
