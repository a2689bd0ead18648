"""Frozen settings as data: nested dataclasses to plain dictionaries, and changed by dotted names.

Command line, recipes and Python all go through ``override``, so they build the same object and
meet the same checks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

from sharpzo.errors import InputError

S = TypeVar("S")


def integer(name: str, value: Any) -> int:
    """Return an integer of any kind as Python's; InputError, with its ``name``, for others.

    >>> integer("shots", 16)
    16
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputError(f"{name} is {value!r}; give an integer")
    return int(value)


def check_path(name: str, value: Any) -> None:
    """Raise InputError, with its ``name``, for what is no path and not None."""
    if not isinstance(value, str | Path | None):
        raise InputError(f"{name} is {value!r}; give a path, or None")


def as_dict(settings: Any) -> dict[str, Any]:
    """Nested settings as JSON-ready dictionaries."""
    return json.loads(json.dumps(asdict(settings)))


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """``["zo.keep=0.1", "zo.score=z"]`` -> ``{"zo.keep": 0.1, "zo.score": "z"}``.

    Values are read as JSON (numbers, true, null, lists); anything else is a string.
    """
    values = {}
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator or not name:
            raise InputError(f"the setting '{assignment}' has no value; write NAME=VALUE")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return values


def override(settings: S, changes: Mapping[str, Any]) -> S:
    """Return the settings with dotted names changed; unknown names raise InputError.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Inner:
    ...     rho: float = 0.1
    >>> @dataclass(frozen=True)
    ... class Outer:
    ...     inner: Inner = Inner()
    >>> override(Outer(), {"inner.rho": 0.5})
    Outer(inner=Inner(rho=0.5))
    """
    for name, value in changes.items():
        settings = _change(settings, name, name, value)
    return settings


def changes(settings: Any, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """What `override` has to change to make settings those that `as_dict` recorded."""
    now = dict(flat(as_dict(settings)))
    return {
        name: value
        for name, value in flat(recorded)
        if name not in now or now[name] != value or type(now[name]) is not type(value)
    }


def flat(nested: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested dictionaries as dotted names and values.

    >>> flat({"views": 0, "search": {"rho": 0.5}})
    [('views', 0), ('search.rho', 0.5)]
    """
    rows: list[tuple[str, Any]] = []
    for name, value in nested.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, value))
    return rows


def _change(settings: S, name: str, whole: str, value: Any) -> S:
    head, _, rest = name.partition(".")
    if not is_dataclass(settings) or head not in {f.name for f in fields(settings)}:
        known = ", ".join(_names(settings)) or "none here"
        raise InputError(f"there is no setting '{whole}'; known: {known}")
    current = getattr(settings, head)
    if rest:
        return replace(settings, **{head: _change(current, rest, whole, value)})  # type: ignore[type-var]
    if is_dataclass(current):
        raise InputError(
            f"'{whole}' is a group; set one of its members: {', '.join(_names(current))}"
        )
    if isinstance(value, list):
        value = tuple(value)
    elif isinstance(value, Real) and not isinstance(value, bool):  # NumPy's as well
        value = int(value) if isinstance(value, Integral) else float(value)
    if not _fits(current, value):
        raise InputError(
            f"the setting '{whole}' is {value!r}; expected {_kind(current)} as in the default "
            f"{current!r}"
        )
    if isinstance(current, float) and isinstance(value, int):
        value = float(value)
    return replace(settings, **{head: value})  # type: ignore[type-var]


def _names(settings: Any) -> list[str]:
    return sorted(f.name for f in fields(settings)) if is_dataclass(settings) else []


def _fits(current: Any, value: Any) -> bool:
    if current is None or value is None:  # optional settings check themselves
        return True
    if isinstance(current, bool) or isinstance(value, bool):
        return isinstance(current, bool) and isinstance(value, bool)
    if isinstance(current, int | float):
        return isinstance(value, int | float) and value == value  # not NaN
    if isinstance(current, tuple) and isinstance(value, tuple):
        return not current or all(_fits(current[0], item) for item in value)
    return isinstance(value, type(current))


def _kind(current: Any) -> str:
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a word",
        tuple: "a list",
    }
    return names.get(type(current), "a list")
