"""What a fit leaves: the classifier, its cost, and the untuned model that it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.detour import fixed_views
from sharpzo.evaluate import Evaluation, evaluate
from sharpzo.fitting.answers import Answers
from sharpzo.fitting.forecast import forecast
from sharpzo.fitting.strangers import LOST
from sharpzo.fitting.trained import Trained, silent
from sharpzo.memory import peak_memory_mb
from sharpzo.methods import Fit, find
from sharpzo.settings import as_dict
from sharpzo.storage.record import More, Row
from sharpzo.towers.features import Progress
from sharpzo.types import Array, Features, Head


@dataclass(frozen=True, eq=False)
class Fitted(Trained):
    """What a fit leaves beside the classifier: its cost, the untuned head, features by split."""

    fit: Fit = field(kw_only=True)
    zero_shot: Head = field(kw_only=True)
    features: Mapping[str, Features] = field(kw_only=True)
    test: LabelledPhotos | None = field(kw_only=True)

    def measure(
        self,
        tests: Mapping[str, LabelledPhotos | None] | None = None,
        beside: Sequence[Fitted] = (),
        progress: Progress = silent,
    ) -> list[Row]:
        """Return a row per method (zero-shot, those ``beside``, this one) and record them.

        A row has the accuracy on the validation photos and on each of ``tests``, which is read
        here and nowhere else; a test set of some of the classes is classified among these, as is
        the custom for ImageNet-A.
        """
        heads = [one.head for one in (self, *beside)]
        return self._record_rows({
            name: self.encode(photos, progress=progress, heads=heads)
            for name, photos in (tests or {}).items()
            if photos is not None
        }, beside)  # fmt: skip

    def forecast(self) -> dict[str, Any] | None:
        """What twice the photos would bring, by `forecast`, which the record learns; None where
        there is no forecast."""
        if not self.method.grows or fixed_views([self.head]):
            return None
        tower = self.towers.text(self.class_names, self.template)
        method, record, train = self.method, self.record, self.features["training"]
        try:
            settings = method.restored(record["preset"], record["settings"])
            found = forecast(method, settings, train, tower, record["seed"])
        finally:
            tower.close()
        if found is not None:
            self.record["more_photos"] = cast(More, found)
        return found

    def evaluate(
        self, split: LabelledPhotos, *, lost: float = LOST, progress: Progress = silent
    ) -> Evaluation:
        """Evaluate on labelled photos; the record learns the accuracy if it is the test split."""
        known, others = split.apart()
        if self.test is None or not _same(known, self.test):
            return super().evaluate(split, lost=lost, progress=progress)
        photos, places = self.encode(known, progress=progress)
        self._record_rows({"test": (photos, places)})
        strange = self.answer(others, progress).complete() if others else None
        found = Answers.of(self.head, self.strangers, known.photos, photos)
        return self.evaluation(found, places[known.labels], strange, lost)

    def _record_rows(
        self, read: Mapping[str, tuple[Features, Array]], beside: Sequence[Fitted] = ()
    ) -> list[Row]:
        rows = [one._row(one.method.name, one.head, one.fit, read) for one in (*beside, self)]
        if (self.method.name, self.record["settings"]) != _ZERO_SHOT:
            rows.insert(0, self._row("zero-shot", self.zero_shot, None, read))
        untuned, tuned = next(row for row in rows if row["method"] == "zero-shot"), rows[-1]
        self.record["methods"] = rows
        self.record["validation"]["zero_shot_accuracy"] = untuned["validation"]
        for split in ("test", "shifted"):
            if split == "test" or tuned[split] is not None:
                self.record[split] = {
                    "accuracy": tuned[split], "zero_shot_accuracy": untuned[split],
                }  # fmt: skip
        self.record["peak_memory_mb"] = peak_memory_mb()
        return rows

    def _row(
        self, name: str, head: Head, fit: Fit | None, read: Mapping[str, tuple[Features, Array]]
    ) -> Row:
        validation = self.features.get("validation")
        row: Row = {
            "method": name,
            "forwards": fit.forwards if fit else 1,
            "seconds": fit.seconds if fit else 0.0,
            "validation": evaluate(head, validation).accuracy if validation else None,
            "test": None,
            "shifted": None,
        }
        for split, (photos, places) in read.items():
            row[split] = evaluate(head, photos, places).accuracy
        return row

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "features": {}, "test": None}  # photos stay here


_ZERO_SHOT = "zero-shot", as_dict(find("zero-shot").settings)


def _same(split: LabelledPhotos, other: LabelledPhotos) -> bool:
    """Whether both are the same photos with the same labels; no file is read."""
    return (
        len(split) == len(other)
        and split.class_names == other.class_names
        and bool((split.labels == other.labels).all())
        and all(
            one.path == two.path and one.pixels is two.pixels
            for one, two in zip(split.photos, other.photos, strict=True)
        )
    )
