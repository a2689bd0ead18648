"""What ``run.json`` holds: the type of every field, checked when it is read."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypedDict, cast

import msgspec
from msgspec import Meta

from sharpzo.errors import ArtifactError

_LARGEST = 2.0**63
Finite = Annotated[float, Meta(gt=-_LARGEST, lt=_LARGEST)]
Accuracy = Annotated[float, Meta(ge=0, le=1)]
Name = Annotated[str, Meta(pattern=r"\S")]
_MISSING, _PLACE = r"missing required field `(\w+)`", r"`\$\.([\w.]*)"  # in msgspec's sentences


class _Model(TypedDict):
    id: str | None
    sha256: str


class ModelRecord(_Model, total=False):
    """Which model a run was made with; ``text_sha256``: its text tower with the template."""

    text_sha256: str


class Skipped(TypedDict):
    """A file that was left out, and why."""

    path: str
    reason: str


class _Data(TypedDict):
    source: str
    training_photos: int
    validation_photos: int


class DataRecord(_Data, total=False):
    """Which photos a run was made with."""

    shots: int | None
    training_sha256: str
    test_photos: int
    notes: list[str]
    skipped: list[Skipped]


class _Accuracy(TypedDict):
    accuracy: Accuracy | None


class Accuracies(_Accuracy, total=False):
    """Of a split, as fractions; None where there is no photo, or before it was read."""

    zero_shot_accuracy: Accuracy | None


class Limits(TypedDict, total=False):
    """A `Budget`."""

    forwards: Annotated[int, Meta(gt=0)] | None
    seconds: Annotated[float, Meta(gt=0, lt=_LARGEST)] | None
    steps: Annotated[int, Meta(gt=0)] | None


class Strange(TypedDict, total=False):
    """The rule for photos of no class: counter-examples, the share of known photos that the
    threshold loses, and the share of photos of a class left out that it recognises."""

    counter_examples: int
    lost: Finite
    threshold: Finite
    recognised: Finite | None


class More(TypedDict, total=False):
    """What twice the photos would bring: see `forecast`."""

    photos_per_class: Finite
    gain: Finite
    classes: list[str]


class Machine(TypedDict, total=False):
    """What decides about the last bit of a sum: docs/reproducibility.md."""

    processor: str | None
    blas_kernel: str | None


class Row(TypedDict):
    """A method's cost, and its accuracies by split."""

    method: str
    forwards: int
    seconds: Finite
    validation: Accuracy | None
    test: Accuracy | None
    shifted: Accuracy | None


class Inputs(TypedDict):
    """What a fit is made of, as every version has written it."""

    sharpzo_version: str
    model: ModelRecord
    class_names: Annotated[list[Name], Meta(min_length=1)]
    template: Annotated[str, Meta(pattern=r"\{\}")]
    preprocessing: dict[str, Any]
    method: str
    preset: str | None
    settings: dict[str, Any]
    seed: int
    data: DataRecord


class Outcome(TypedDict):
    """What a fit has cost and found, as every version has written it."""

    created: str
    stopped: str
    forwards: int
    steps: int
    seconds: Finite
    peak_memory_mb: Finite | None
    notes: dict[str, str | float | int | bool | None]  # a search may note an infinite number
    validation: Accuracies
    test: Accuracies


class Record(Inputs, Outcome, total=False):
    """A run's record. ``labels`` stand for the class names in Python, one each; ``image_size`` is
    there if it was asked for, ``image_precision`` if it is not float32."""

    format: int
    image_size: Annotated[int, Meta(gt=0)]
    image_precision: str
    arrays_sha256: str
    record_sha256: str
    history_sha256: str
    labels: Annotated[list[str | int | bool], Meta(min_length=1)]
    trained_class_names: Annotated[list[Name], Meta(min_length=1)]
    budget: Limits
    threads: int | None
    machine: Machine
    engine: str
    precision: str
    image_passes: int | None
    warnings: list[str]
    methods: list[Row]
    shifted: Accuracies
    none: Strange
    more_photos: More


def as_record(found: Any) -> Record:
    """Return what a file holds, whole, if it can be a run's record; ArtifactError, whose sentence
    goes on after the file's name, if not. Unknown fields may be a later version's.

    >>> as_record({"method": "gda", "seed": "1"})
    Traceback (most recent call last):
        ...
    sharpzo.errors.ArtifactError: has something in 'seed' that no run writes; fit the run again
    """
    try:
        record = msgspec.convert(found, Record)
    except (msgspec.ValidationError, UnicodeError) as error:  # or text that is no UTF-8
        missing, place = (re.search(pattern, str(error)) for pattern in (_MISSING, _PLACE))
        if missing is None:
            raise _odd(place[1] if place else "it") from None
        name = f"{place[1]}.{missing[1]}" if place else missing[1]
        raise ArtifactError(f"is an incomplete record ({name}); fit the run again") from None
    for name in ("class_names", "trained_class_names", "labels"):
        values: list[Any] = record.get(name, [])
        kinds = set(map(type, values))
        if len({*values}) < len(values) or len(kinds) > 1:
            raise _odd(name)
    return cast(Record, found)


def _odd(name: str) -> ArtifactError:
    return ArtifactError(f"has something in '{name}' that no run writes; fit the run again")
