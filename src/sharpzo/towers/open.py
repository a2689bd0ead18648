"""Both towers of a checkpoint, opened as the memory allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.memory import Need
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import Progress, States, encode
from sharpzo.towers.runtime import Runtime
from sharpzo.types import Detour, Features, TextTower

if TYPE_CHECKING:
    from sharpzo.towers.lowmem.plan import MemoryLimit, Plan
    from sharpzo.towers.tower import OnnxImageTower, OnnxTextTower


class Towers:
    """What a classifier opens of a ``model`` (see `checkpoint.resolve`).

    With a ``limit``, bytes of this process and its children, both towers are computed block by
    block, photos in a process of its own, and the first text tower makes a plan for all that
    follows (`lowmem/plan.py`); a limit that is too small raises BudgetError there. The checkpoint
    is opened on first use; pickles hold where it is, not what is in it.
    """

    def __init__(
        self, model: str | Path | None, runtime: Runtime, limit: int | None = None
    ) -> None:
        self.model = model
        self._runtime = runtime
        self._threads = runtime.threads
        self._bytes = limit
        self._plan: Plan | None = None

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The model's files, opened; raises what `resolve` and `Checkpoint.open` raise."""
        return Checkpoint.open(resolve(self.model))

    def plain(self) -> Towers:
        """The same model in float32 by the default engine: no search reads its text tower."""
        return Towers(self.model, Runtime(threads=self._threads), self._bytes)

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model, "_runtime": self._runtime, "_threads": self._threads,
                "_bytes": self._bytes, "_plan": None}  # fmt: skip

    def text(
        self,
        class_names: Sequence[str],
        template: str,
        before: Sequence[LabelledPhotos] = (),
        after: Sequence[LabelledPhotos] = (),
        need: Callable[[TextTower], Need] | None = None,
    ) -> OnnxTextTower:
        """Return the text tower for class names.

        For the plan: photos that are to be encoded ``before`` a search and ``after`` it, and what
        it takes with a tower, ``need``.
        """
        from sharpzo.towers.tower import OnnxTextTower

        tower = OnnxTextTower(
            self.checkpoint, class_names, template,
            streamed=self._bytes is not None, **vars(self._runtime),
        )  # fmt: skip
        if self._bytes is None:
            return tower
        if self._plan is None:
            needed = need(tower) if need else Need()
            weights = self._runtime.weights
            self._plan = self._limit().plan(tower.prompts, weights, needed, before, after)
        tower.batch = self._plan.batch
        return tower

    def image(self) -> OnnxImageTower:
        """Return the image tower in this process, for methods that need it in their search."""
        from sharpzo.towers.tower import OnnxImageTower

        return OnnxImageTower(self.checkpoint, threads=self._threads)

    def encode(
        self,
        splits: Mapping[str, LabelledPhotos],
        progress: Progress,
        cache: Path | None,
        detours: Sequence[Detour],
    ) -> dict[str, Features]:
        """Return the features of photos; see `features.encode`."""

        def open_tower() -> States:
            limit = self._limit()
            return limit.open(splits.values(), self._plan and self._plan.chunk)

        return encode(
            self.checkpoint,
            splits,
            threads=self._threads,
            progress=progress,
            cache=cache,
            detours=detours,
            open_tower=None if self._bytes is None else open_tower,
        )

    def _limit(self) -> MemoryLimit:
        from sharpzo.towers.lowmem.plan import MemoryLimit

        assert self._bytes is not None
        return MemoryLimit(self._bytes, self.checkpoint, self._threads)
