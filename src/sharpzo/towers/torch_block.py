"""A transformer block in torch (extra ``torch``), for the methods that backpropagate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from sharpzo.towers.config import ImageConfig, TextConfig
from sharpzo.types import Array

TorchPair = tuple[Tensor, Tensor]  # a matrix (out, in) or a gain, and a bias
Branch = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class TorchBlock:
    """A block over tokens (N, T, H).

    ``parts`` are named as the fields of `blocks.Block`. What a part makes has a ``branches``'
    result added, (N, T, in) -> (N, T, out), and is then multiplied by its ``scales``. Attention
    itself scales nothing: the query or its scale has 1/sqrt(width of a head) in it.
    """

    parts: Mapping[str, TorchPair]
    config: TextConfig | ImageConfig
    causal: bool
    scales: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    branches: Mapping[str, Branch] = field(default_factory=dict[str, Branch])

    def __call__(self, x: Tensor, first: bool = False) -> Tensor:
        """Tokens (N, T, H) after the block; with ``first`` the first alone (N, 1, H)."""
        h = self._norm(x, "norm1")
        if first:
            x = x[:, :1]
        query, key, value = (
            self._linear(part, h[:, :1] if first and part == "query" else h)
            .unflatten(-1, (self.config.heads, -1))
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )
        mixed = functional.scaled_dot_product_attention(
            query, key, value, is_causal=self.causal, scale=1.0
        )
        x = x + self._linear("out", mixed.transpose(1, 2).flatten(-2))
        h = self._linear("fc1", self._norm(x, "norm2"))
        return x + self._linear("fc2", _activate(h, self.config.activation))

    def _norm(self, x: Tensor, part: str) -> Tensor:
        return norm(x, self.parts[part], self.config.norm_eps)

    def _linear(self, part: str, x: Tensor) -> Tensor:
        y = functional.linear(x, *self.parts[part])
        if part in self.branches:
            y = y + self.branches[part](x)
        return y * self.scales[part] if part in self.scales else y


def norm(x: Tensor, pair: TorchPair, eps: float) -> Tensor:
    """Return the layer norm of x along its last axis."""
    return functional.layer_norm(x, x.shape[-1:], *pair, eps)


def copied(array: Array, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return an array of the checkpoint, which is a read-only memory map, in memory of its own."""
    return torch.tensor(array, dtype=dtype)


def copied_pair(pair: tuple[Array, Array], dtype: torch.dtype = torch.float32) -> TorchPair:
    """Return a weight and a bias as `copied` does."""
    return copied(pair[0], dtype), copied(pair[1], dtype)


@contextmanager
def cores(threads: int | None) -> Iterator[None]:
    """Let torch use so many cores inside, and as many as before outside; None: leave it alone."""
    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        yield
    finally:
        torch.set_num_threads(before)


def _activate(x: Tensor, kind: str) -> Tensor:
    return functional.gelu(x) if kind == "gelu" else x * torch.sigmoid(1.702 * x)
