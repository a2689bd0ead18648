"""The image tower in torch (extra ``torch``), for the methods that backpropagate through it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields

import torch
from torch import Tensor
from torch.nn import functional

from sharpzo.towers import image
from sharpzo.towers.blocks import Block
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.pooling import read_post
from sharpzo.towers.torch_block import Branch, TorchBlock, copied, copied_pair, norm


class TorchImageTower:
    """Preprocessed photos (N, 3, h, w) to states (N, S), with every block's parameters at hand.

    ``parameters`` are the tensors of the blocks from ``tuned`` on and of the final norm, by name;
    they are as the checkpoint has them, LayerScale and attention's 1/sqrt(d) apart. ``branches`` of
    a layer's number are added to what its parts make (see `TorchBlock`).
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        height: int,
        width: int,
        *,
        tuned: int = 0,
        branches: Callable[[int], Mapping[str, Branch]] = lambda layer: {},
    ) -> None:
        self._config = config = checkpoint.image
        pair, added = image.read_embedding(checkpoint, height, width)
        self._patch, self._added = copied_pair(pair), copied(added)
        pre = image.read_pre(checkpoint)
        self._pre = None if pre is None else copied_pair(pre)
        self._final = copied_pair(read_post(checkpoint))
        self.parameters: dict[str, Tensor] = {}
        self._blocks = [
            self._block(checkpoint, n, tuned, branches(n)) for n in range(config.layers)
        ]
        self._name("norm", self._final)

    @property
    def layers(self) -> int:
        """Return the number of blocks."""
        return len(self._blocks)

    def embed(self, pixels: Tensor) -> Tensor:
        """Return the tokens (N, T, S) that enter the first block."""
        p = self._config.patch
        rows, columns = pixels.shape[2] // p, pixels.shape[3] // p
        patches = functional.unfold(pixels[:, :, : rows * p, : columns * p], p, stride=p)
        x = functional.linear(patches.mT, *self._patch)
        x = torch.cat([x.new_zeros(len(x), 1, x.shape[-1]), x], dim=1) + self._added
        return norm(x, self._pre, self._config.norm_eps) if self._pre else x

    def through(self, x: Tensor, first: int, last: int) -> Tensor:
        """Return tokens (N, T, S) after the blocks from ``first`` up to, not with, ``last``."""
        for block in self._blocks[first:last]:
            x = block(x)
        return x

    def states(self, x: Tensor, first: int = 0) -> Tensor:
        """Return states (N, S) of tokens that enter the block ``first``."""
        x = self.through(x, first, len(self._blocks) - 1)
        return norm(self._blocks[-1](x, first=True)[:, 0], self._final, self._config.norm_eps)

    def _block(
        self, checkpoint: Checkpoint, layer: int, tuned: int, branches: Mapping[str, Branch]
    ) -> TorchBlock:
        config, parts = checkpoint.image, {}
        scales = {"query": torch.tensor((config.width // config.heads) ** -0.5)}
        for part in (field.name for field in fields(Block)):
            parts[part] = copied_pair(image.read_layer(checkpoint, layer, part, folded=False))
            factor = image.read_layer_scale(checkpoint, layer, part)
            if factor is not None:
                scales[part] = copied(factor)
            if layer >= tuned:
                self._name(f"{layer}.{part}", parts[part])
                if factor is not None:
                    self.parameters[f"{layer}.{part}.scale"] = scales[part]
        return TorchBlock(parts, config, causal=False, scales=scales, branches=branches)

    def _name(self, part: str, pair: tuple[Tensor, Tensor]) -> None:
        self.parameters |= {f"{part}.weight": pair[0], f"{part}.bias": pair[1]}
