"""What ``run.json`` may hold: the kind of every field, so that nobody trips over another's file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _template(value: Any) -> bool:
    return _text(value) and "{}" in value


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return (_whole(value) and abs(value) < 2**63) or (
        isinstance(value, float) and math.isfinite(value)
    )


def _fraction(value: Any) -> bool:
    return _number(value) and 0 <= value <= 1


def _table(value: Any) -> bool:
    return isinstance(value, dict)


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _names(value: Any) -> bool:
    """Class names: texts, none empty, none twice."""
    if not isinstance(value, list) or not value:
        return False
    return all(map(_text, value)) and all(map(str.strip, value)) and len({*value}) == len(value)


def _labels(value: Any) -> bool:
    """What stands for the class names in Python: texts, or numbers, or truths, none twice."""
    if not isinstance(value, list) or not value or len({type(label) for label in value}) > 1:
        return False
    return isinstance(value[0], str | int) and len({*value}) == len(value)


def _budget(value: Any) -> bool:
    """Limits by name, all above 0."""
    return _table(value) and all(
        limit is None or (_number(limit) and limit > 0) for limit in value.values()
    )


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _skipped(value: Any) -> bool:
    """Files that were left out, each with why."""
    return isinstance(value, list) and all(
        _table(one) and _text(one.get("path")) and _text(one.get("reason")) for one in value
    )


def _scalars(value: Any) -> bool:
    """Numbers (a search may note an infinite one), texts and the like by name."""
    return _table(value) and not any(isinstance(one, dict | list) for one in value.values())


def _rows(value: Any) -> bool:
    """A row for each method: its name, accuracies by split, and its cost."""
    numbers = ("forwards", "seconds", "validation", "test", "shifted")
    return isinstance(value, list) and all(
        _table(row)
        and _text(row.get("method"))
        and all(_or_none(_number)(row.get(name)) for name in numbers)
        for row in value
    )


_ACCURACIES = ("accuracy", "zero_shot_accuracy")
_FIELDS: Mapping[str, Check] = {
    "sharpzo_version": _text,
    "created": _text,
    "arrays_sha256": _text,
    "method": _text,
    "preset": _or_none(_text),
    "settings": _table,
    "template": _template,
    "seed": _whole,
    "class_names": _names,
    "trained_class_names": _names,
    "labels": _labels,
    "budget": _budget,
    "threads": _or_none(_whole),
    "engine": _text,
    "precision": _text,
    "model": _table,
    "model.id": _or_none(_text),
    "model.sha256": _text,
    "model.text_sha256": _text,
    "preprocessing": _table,
    "data": _table,
    "data.source": _text,
    "data.shots": _or_none(_whole),
    "data.notes": _texts,
    "data.skipped": _skipped,
    "data.training_sha256": _text,
    **{f"data.{split}_photos": _whole for split in ("training", "validation", "test")},
    "stopped": _text,
    "forwards": _whole,
    "image_passes": _or_none(_whole),
    "steps": _whole,
    "seconds": _number,
    "peak_memory_mb": _or_none(_number),
    "notes": _scalars,
    "methods": _rows,
    **dict.fromkeys(("validation", "test", "shifted"), _table),
    **{
        f"{split}.{name}": _or_none(_fraction)
        for split in ("validation", "test", "shifted")
        for name in _ACCURACIES
    },
}


def odd_field(record: Mapping[str, Any]) -> str | None:
    """Return the name of a field that cannot be what a run wrote; None if all may be.

    Fields that are missing or unknown are no matter here.

    >>> odd_field({"seed": 1, "model": {"id": None}})
    >>> odd_field({"seed": 1, "model": {"id": 7}})
    'model.id'
    """
    for name, check in _FIELDS.items():
        group, _, member = name.rpartition(".")
        holder = record.get(group) if group else record
        if isinstance(holder, Mapping) and member in holder and not check(holder[member]):
            return name
    return None
