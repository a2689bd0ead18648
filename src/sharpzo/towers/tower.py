"""The two towers of a checkpoint as black boxes on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from sharpzo.errors import InputError
from sharpzo.towers.checkpoint import TOKENIZER_FILES, Checkpoint
from sharpzo.towers.prompts import layout, start, token_moments
from sharpzo.towers.session import Session
from sharpzo.towers.text import build_text
from sharpzo.types import Array


class OnnxTextTower:
    """Contexts to text features for fixed class names; fulfils `types.TextTower`."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        class_names: Sequence[str],
        template: str = "a photo of a {}.",
        n_context: int | None = None,
        batch: int = 32,
        threads: int | None = None,
    ) -> None:
        if batch < 1:
            raise InputError(f"batch is {batch}; give 1 or more candidates")
        self._checkpoint = checkpoint
        self._prompts = layout(checkpoint, class_names, template, n_context)
        self._batch = batch
        self._session = Session(build_text(checkpoint, self._prompts), threads)

    def forward(self, contexts: Array) -> Array:
        return self._run("features", contexts)

    def states(self, contexts: Array) -> Array:
        return self._run("states", contexts)

    def _run(self, output: str, contexts: Array) -> Array:
        outs = [self._session.run(output, {"context": np.ascontiguousarray(contexts[i:i+self._batch], np.float32)}) for i in range(0, len(contexts), self._batch)]
        return np.concatenate(outs)
