"""A table of a TOML file, read key by key; whatever is wrong is one sentence."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sharpzo.errors import InputError

T = TypeVar("T")
LARGEST = sys.float_info.max


class Fields:
    """The keys of one table. ``where`` opens every complaint; ``known`` are the keys allowed.

    >>> Fields({"seeds": [1, 2]}, "recipe.toml", ("seeds",)).integers("seeds", ())
    (1, 2)
    """

    def __init__(self, table: Mapping[str, Any], where: str, known: tuple[str, ...]) -> None:
        self._table = table
        self._where = where
        unknown = [key for key in table if key not in known]
        if unknown:
            raise InputError(
                f"{where} has a key '{unknown[0]}' that means nothing; known: {', '.join(known)}"
            )

    def __contains__(self, key: str) -> bool:
        return key in self._table

    def get(self, key: str) -> Any:
        """The value as TOML has it, None if it is not there."""
        return self._table.get(key)

    def text(self, key: str, default: T) -> str | T:
        """A string."""
        return self._one(key, default, lambda v: isinstance(v, str) and bool(v), "a string")

    def number(self, key: str, default: T) -> float | T:
        """A finite number above 0."""
        kind = "a finite number above 0"
        found = self._one(key, default, lambda v: _is_number(v) and 0 < v <= LARGEST, kind)
        return float(found) if _is_number(found) else found  # type: ignore[arg-type]

    def integer(self, key: str, default: T) -> int | T:
        """A whole number of at least 1."""
        return self._one(key, default, _is_positive, "a whole number of at least 1")

    def table(self, key: str) -> dict[str, Any]:
        """A table, empty if it is not there."""
        return self._one(key, {}, lambda v: isinstance(v, dict), "a table { name = value }")

    def texts(self, key: str, default: T) -> tuple[str, ...] | T:
        """A list of strings, none of them twice."""
        return self._many(key, default, lambda v: isinstance(v, str) and bool(v), "strings")

    def integers(self, key: str, default: T, least: int = 1) -> tuple[int, ...] | T:
        """A list of whole numbers of at least ``least``, none of them twice."""
        kind = f"whole numbers of at least {least}"
        return self._many(key, default, lambda v: _is_integer(v) and v >= least, kind)

    def tables(self, key: str) -> list[Any]:
        """A list whose items the caller checks."""
        return self._one(key, [], lambda v: isinstance(v, list), "a list")

    def _one(self, key: str, default: Any, fits: Callable[[Any], bool], kind: str) -> Any:
        if key not in self._table:
            return default
        value = self._table[key]
        if not fits(value):
            raise InputError(f"{self._where}: {key} is {value!r}; give {kind}")
        return value

    def _many(self, key: str, default: Any, fits: Callable[[Any], bool], kind: str) -> Any:
        if key not in self._table:
            return default
        values = self._one(key, [], lambda v: isinstance(v, list), f"a list of {kind}")
        for value in values:
            if not fits(value):
                raise InputError(f"{self._where}: {key} has {value!r}; give a list of {kind}")
            if values.count(value) > 1:
                raise InputError(f"{self._where}: {key} has {value!r} twice; name it once")
        return tuple(values)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_positive(value: Any) -> bool:
    return _is_integer(value) and value >= 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
