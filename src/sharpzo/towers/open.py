"""Both towers of a checkpoint, opened as the memory allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.detour import Detour
from sharpzo.memory import Need, map_large_blocks, trim
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import Encoder, Progress, Summaries
from sharpzo.towers.image_precision import check_family
from sharpzo.towers.image_size import check_image_size, suited_size
from sharpzo.towers.preprocess import Preprocessing
from sharpzo.towers.runtime import Runtime
from sharpzo.types import Decoding, Features, ImagePrecision, ImageTower

if TYPE_CHECKING:
    from sharpzo.towers.lowmem.plan import MemoryLimit, Plan
    from sharpzo.towers.tower import OnnxImageTower, OnnxTextTower


class Towers:
    """What a classifier opens of a ``model`` (see `checkpoint.resolve`, for ``fetch``, too).

    With a ``limit``, bytes of this process and its children, both towers are computed block by
    block, photos in a process of its own, as many at a time as `plan` finds room for
    (`lowmem/plan.py`). ``decoding`` is that of the photos (see `Preprocessing`), ``image_size`` the
    pixels a side that they are made to (None: the model's own), ``image_precision`` that of the
    image tower, without a limit (see `image_precision`). The checkpoint is opened on first use;
    pickles hold where it is, not what is in it.
    """

    def __init__(
        self,
        model: str | Path | None,
        runtime: Runtime,
        limit: int | None = None,
        *,
        fetch: bool = True,
        decoding: Decoding = "exact",
        image_size: int | None = None,
        image_precision: ImagePrecision = "float32",
    ) -> None:
        self.model, self.fetch, self.image_size = model, fetch, image_size
        self.image_precision: ImagePrecision = image_precision
        self.decoding: Decoding = decoding
        self._runtime = runtime
        self._threads = runtime.threads
        self._bytes = limit
        if limit is not None:
            map_large_blocks()  # before photos are looked at
        self._plan: Plan | None = None

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The model's files, opened; raises what `resolve` and `Checkpoint.open` raise."""
        found = Checkpoint.open(resolve(self.model, fetch=self.fetch), self.image_size)
        check_image_size(found)
        check_family(found, self.image_precision)
        return found

    def plain(self) -> Towers:
        """The same model in float32 by the default engine: no search reads its text tower."""
        other = copy(self)
        other._runtime, other._plan = Runtime(threads=self._threads), None
        return other

    def exact(self) -> Towers:
        """The same with the image tower in float32, as exported files have it."""
        other = copy(self)
        other.image_precision = "float32"
        return other

    def at(self, size: int | None) -> Towers:
        """The same for photos of another size; None: the model's own."""
        other = copy(self)
        other.image_size = size
        vars(other)["checkpoint"] = replace(self.checkpoint, image_size=size)
        return other

    def suited(self, photos: LabelledPhotos) -> Towers:
        """The same for photos of the size that suits these; see `suited_size`."""
        return self.at(suited_size(self.checkpoint, photos))

    def __getstate__(self) -> dict[str, Any]:
        here = {name: value for name, value in vars(self).items() if name != "checkpoint"}
        return {**here, "_plan": None}

    def text(self, class_names: Sequence[str], template: str) -> OnnxTextTower:
        """Return the text tower for class names.

        With a limit it computes one candidate at a time, until it is planned for.
        """
        from sharpzo.towers.tower import OnnxTextTower

        limited = self._bytes is not None
        return OnnxTextTower(
            self.checkpoint, class_names, template,
            batch=1 if limited else None, streamed=limited, **vars(self._runtime),
        )  # fmt: skip

    def plan(
        self,
        tower: OnnxTextTower,
        need: Need,
        before: Iterable[LabelledPhotos] = (),
        after: Iterable[LabelledPhotos] = (),
    ) -> None:
        """Plan what a fit with a text tower does at a time; without a limit there is nothing to do.

        ``need`` is what the method takes; photos of ``before`` and ``after`` are encoded before and
        after it. The first plan holds for all that follows, for other text towers, too. Raises
        BudgetError, with the least that would do, where the limit cannot be met.
        """
        if self._bytes is None:
            return
        if self._plan is None:
            before = list(before)
            rows = sum(map(len, before)) + len(tower.class_names)
            self._plan = self._limit().plan(
                tower.prompts,
                self._runtime.weights,
                need,
                largest(map(self.sized, before)),
                largest(map(self.sized, after)),
                rows,
            )
        tower.batch = self._plan.batch

    def sized(self, split: LabelledPhotos) -> LabelledPhotos:
        """Return the photos as they are decoded for the image tower."""
        return split.sized(Preprocessing.open(self.checkpoint, self.decoding).least)

    def searched(self) -> ImageTower:
        """Return the image tower for methods that need it while they fit; with a limit, after
        `plan`, in a process of its own."""
        return self.image() if self._plan is None else self._limit().open(0, self._plan.chunk)

    def image(self) -> OnnxImageTower:
        """Return the image tower in this process, whatever the limit."""
        from sharpzo.towers.tower import OnnxImageTower

        return OnnxImageTower(
            self.checkpoint, threads=self._threads, precision=self.image_precision
        )

    def encode(
        self,
        splits: Mapping[str, LabelledPhotos],
        progress: Progress,
        cache: Path | None,
        detours: Sequence[Detour],
        fixed_views: Sequence[str] = (),
    ) -> dict[str, Features]:
        """Return the features of photos; see `features.Encoder`."""
        if not splits:
            return {}
        with self.encoder(splits.values(), cache, detours, fixed_views) as encoder:
            found = encoder(splits, progress)
        trim()  # the image tower's weights, before there are others
        return found

    def encoder(
        self,
        splits: Iterable[LabelledPhotos],
        cache: Path | None,
        detours: Sequence[Detour],
        fixed_views: Sequence[str] = (),
    ) -> Encoder:
        """Return what encodes these photos, or parts of them."""
        splits = list(splits)

        def open_tower() -> Summaries:
            seen = (one.seen(view) for one in splits for view in fixed_views)
            most = largest(map(self.sized, [*splits, *seen]))
            changed = sum(getattr(one, "changed_bytes", 0) for one in detours)
            return self._limit().open(most, self._plan and self._plan.chunk, changed)

        return Encoder(
            self.checkpoint,
            self._threads,
            cache,
            detours,
            None if self._bytes is None else open_tower,
            self.decoding,
            fixed_views,
            self.image_precision,
        )

    def _limit(self) -> MemoryLimit:
        from sharpzo.towers.lowmem.plan import MemoryLimit

        assert self._bytes is not None
        return MemoryLimit(self._bytes, self.checkpoint, self._threads)


def largest(splits: Iterable[LabelledPhotos]) -> int:
    """Bytes that decoding the largest photo takes."""
    return max((photo.memory() for split in splits for photo in split.photos), default=0)
