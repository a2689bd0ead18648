"""The text tower in torch (extra ``torch``), for the methods that backpropagate.

All prompts of all classes, padded to the longest, every token through every block. The weights are
frozen, so torch keeps for the backward pass only what the context's gradient needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from sharpzo.errors import CheckpointError
from sharpzo.towers import blocks
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.prompts import Prompts, token_table
from sharpzo.towers.torch_block import Branch, TorchBlock, copied, copied_pair, norm


class TorchTextTower:
    """A context (n, m) to raw text features (K, D), differentiable in the context; contexts
    (K * n, m), one class after the other, if the prompts are ``specific``.

    ``checkpointing`` keeps the input of each block alone and computes its inside again in the
    backward pass: less memory for one more forward. ``dtype`` is float32 unless a finite
    difference is to be taken. ``branches`` of a layer's number are added to what its parts make, as
    in `TorchImageTower`. Raises `CheckpointError` for a tower that is not causal.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        prompts: Prompts,
        *,
        checkpointing: bool = False,
        dtype: torch.dtype = torch.float32,
        branches: Callable[[int], Mapping[str, Branch]] = lambda layer: {},
    ) -> None:
        self._config = config = checkpoint.text
        if not config.causal:
            raise CheckpointError("the text tower is bidirectional; only a causal one can be read")
        self._checkpointing, self.dtype = checkpointing, dtype
        self._blocks = [
            _block(checkpoint, layer, dtype, branches(layer)) for layer in range(config.layers)
        ]
        self._final = copied_pair(
            checkpoint.pair("text_model.final_layer_norm", config.width), dtype
        )
        shape = (config.projection, config.width)
        self._projection = copied(checkpoint.tensor("text_projection.weight", shape), dtype)
        n, lengths = prompts.n_context, [len(suffix) for suffix in prompts.suffixes]
        # No token attends to a later one, so any token will do behind EOS.
        padded = [[*s, *[prompts.eos_id] * (max(lengths) - len(s))] for s in prompts.suffixes]
        ids = np.array([prompts.sos_id, *(token for row in padded for token in row)])
        rows = copied(checkpoint.weights.rows(token_table(checkpoint), ids), dtype)
        name = "text_model.embeddings.position_embedding.weight"
        places = checkpoint.tensor(name, (config.context_length, config.width))
        self._positions = copied(places[: 1 + n + max(lengths)], dtype)
        self._sos = rows[:1].expand(len(lengths), 1, config.width)
        self._suffixes = rows[1:].reshape(len(lengths), max(lengths), config.width)
        self._contexts = len(lengths) if prompts.specific else 1
        self._ends = torch.tensor([n + length for length in lengths])

    def __call__(self, context: Tensor) -> Tensor:
        """Return raw text features (K, D) of a context."""
        many, width = len(self._suffixes), context.shape[-1]
        contexts = context.to(self.dtype).reshape(self._contexts, -1, width).expand(many, -1, -1)
        x = torch.cat([self._sos, contexts, self._suffixes], dim=1) + self._positions
        for block in self._blocks:
            x = cast(Tensor, _Recomputed.apply(x, block)) if self._checkpointing else block(x)
        x = norm(x[torch.arange(many), self._ends], self._final, self._config.norm_eps)
        return x @ self._projection.T


def _block(
    checkpoint: Checkpoint, layer: int, dtype: torch.dtype, branches: Mapping[str, Branch]
) -> TorchBlock:
    config, name = checkpoint.text, f"text_model.encoder.layers.{layer}"
    arrays = blocks.clip_block(checkpoint, name, config.width, config.mlp_width, config.heads)
    parts = {name: copied_pair(pair, dtype) for name, pair in vars(arrays).items()}
    if "query" in branches:  # the query has attention's scale in it, what is added to it has not
        query, scale = branches["query"], (config.width // config.heads) ** -0.5
        branches = {**branches, "query": lambda x: scale * query(x)}
    return TorchBlock(parts, config, causal=True, branches=branches)


class _Recomputed(torch.autograd.Function):
    """A block of which only the input is kept; the backward pass computes its inside again.

    torch.utils.checkpoint does the same and loads torch's compiler on first use: 80 MB and seconds
    that this saving is there to spare. Nothing random is inside a block, so no generator is kept.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, block: TorchBlock) -> Tensor:
        ctx.save_for_backward(x)
        ctx.block = block
        return block(x)  # autograd records nothing in here

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(ctx.block(x), x, grad_outputs)
        return gradient, None
