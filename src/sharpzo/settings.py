"""Frozen settings: the types of fields are their checks; dotted names change them.

Command line, recipes and Python all go through ``override``, so they build the same object and
meet the same checks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec
from msgspec import Meta

from sharpzo.errors import InputError
from sharpzo.wording import meant

S = TypeVar("S")

# The kinds of fields; the description is what an error asks for. All numbers are finite.
Positive = Annotated[float, Meta(gt=0, description="a finite number above 0")]
NotNegative = Annotated[float, Meta(ge=0, description="a finite number of at least 0")]
Length = Annotated[float, Meta(gt=0, le=1e6, description="a number above 0 and at most 1e6")]
LengthOrZero = Annotated[float, Meta(ge=0, le=1e6, description="a number from 0 to 1e6")]
Share = Annotated[float, Meta(gt=0, le=1, description="a number above 0 and at most 1")]
Fraction = Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]
Decay = Annotated[float, Meta(ge=0, lt=1, description="a number of at least 0 and below 1")]
Count = Annotated[int, Meta(ge=1, description="an integer of at least 1")]
AtLeastTwo = Annotated[int, Meta(ge=2, description="an integer of at least 2")]
CountOrZero = Annotated[int, Meta(ge=0, description="an integer of at least 0")]


@dataclass(frozen=True)
class Settings:
    """A frozen dataclass that checks its fields by their types when it is made.

    A number is read as its field's kind (1 as 1.0, a list as a tuple, NumPy's numbers as Python's);
    anything that does not fit raises InputError. What concerns several fields is checked by
    ``check``, which a subclass may define.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Descent(Settings):
    ...     rate: Positive = 0.1
    ...     steps: Count | None = None
    >>> Descent(rate=1)
    Descent(rate=1.0, steps=None)
    >>> Descent(steps=0)
    Traceback (most recent call last):
        ...
    sharpzo.errors.InputError: steps is 0; give an integer of at least 1, or null
    """

    def __post_init__(self) -> None:
        for name, kind in _kinds(type(self)):
            value = getattr(self, name)
            try:
                found = msgspec.convert(_plain(value), kind)
            except (msgspec.ValidationError, UnicodeError):  # text of bytes that are no UTF-8
                like = meant(value, _words(kind))
                raise InputError(f"{name} is {value!r}{like}; give {describe(kind)}") from None
            object.__setattr__(self, name, found)
        self.check()

    def check(self) -> None:
        """Raise InputError where fields do not fit each other."""


@dataclass(frozen=True)
class ViewSettings(Settings):
    """Augmented views of each training photo that a method wants, crops of a share ``view_scale``.

    What 0 views mean is the method's to say: the photos themselves.
    """

    views: CountOrZero = 0
    view_scale: tuple[Share, Share] = (0.5, 1.0)

    def check(self) -> None:
        if self.view_scale[0] > self.view_scale[1]:
            raise InputError(f"view_scale is {self.view_scale}; give the lower share first")


@cache
def _kinds(settings: type[Settings]) -> list[tuple[str, Any]]:
    """The fields that have a kind of their own; groups of settings have checked themselves."""
    hints = get_type_hints(settings, include_extras=True)
    kinds = [(field.name, hints[field.name]) for field in fields(settings)]
    return [(name, kind) for name, kind in kinds if not is_dataclass(kind)]


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, at any depth; ValidationError for one that is not finite."""
    if isinstance(value, list | tuple):
        return tuple(map(_plain, cast(Sequence[Any], value)))
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    if isinstance(value, Integral):
        return int(value)
    if not math.isfinite(value):
        raise msgspec.ValidationError
    return float(value)


def describe(kind: Any) -> str:
    """What a kind of field takes, in words.

    >>> describe(tuple[Positive, ...] | None)
    'a list, each a finite number above 0, or null'
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        found = next((m.description for m in inner[1:] if getattr(m, "description", None)), None)
        return found or describe(inner[0])
    if origin is Literal:
        return "one of " + ", ".join(map(repr, inner))
    if origin is tuple:
        many = "a list" if ... in inner else f"a list of {len(inner)}"
        return f"{many}, each {describe(inner[0])}"
    if type(None) in inner:
        return describe(Union[tuple(i for i in inner if i is not type(None))]) + ", or null"  # noqa: UP007
    names = {bool: "true or false", int: "an integer", float: "a finite number", str: "a word"}
    return names.get(kind, str(kind))


def _words(kind: Any) -> list[str]:
    """The words that a kind of field takes; none for other kinds."""
    inner = get_args(kind)
    if get_origin(kind) is Literal:
        return [word for word in inner if isinstance(word, str)]
    return [word for one in inner for word in _words(one)]


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
    values: dict[str, Any] = {}
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
    """Return the settings with dotted names changed.

    Raises InputError, with the whole name, for one that is unknown or whose value does not fit.

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
        group, _, member = name.rpartition(".")
        try:
            settings = _change(settings, name, name, value, settings)
        except InputError as error:
            if group and str(error).startswith(f"{member} is "):  # as the group itself calls it
                raise InputError(f"{group}.{error}") from None
            raise
    return settings


def changes(
    settings: Any, recorded: Mapping[str, Any], former: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What `override` has to change to make settings those that `as_dict` recorded.

    Names that the settings no longer have are left out where ``former``, the settings in the words
    of an earlier version, says the same, or where they are null.

    >>> changes(Settings(), {"alpha": None, "measure_mu": True, "rho": 1}, {"measure_mu": True})
    {'rho': 1}
    """
    now, before = dict(flat(as_dict(settings))), dict(flat(former or {}))
    found: dict[str, Any] = {}
    for name, value in flat(recorded):
        expected = now[name] if name in now else before.get(name)
        if expected != value or type(expected) is not type(value):
            found[name] = value
    return found


def flat(nested: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested dictionaries as dotted names and values.

    >>> flat({"views": 0, "search": {"rho": 0.5}})
    [('views', 0), ('search.rho', 0.5)]
    """
    rows: list[tuple[str, Any]] = []
    for name, value in nested.items():
        if isinstance(value, Mapping):
            rows += flat(cast(Mapping[str, Any], value), f"{prefix}{name}.")
        else:
            rows.append((prefix + name, value))
    return rows


def _change(settings: S, name: str, whole: str, value: Any, root: Any) -> S:
    head, _, rest = name.partition(".")
    if not is_dataclass(settings) or head not in {f.name for f in fields(settings)}:
        known = ", ".join(_names(settings)) or "none here"
        like = meant(whole, [dotted for dotted, _ in flat(as_dict(root))])
        raise InputError(f"there is no setting '{whole}'{like}; known: {known}")
    current = getattr(settings, head)
    if rest:
        value = _change(current, rest, whole, value, root)
    elif is_dataclass(current):
        raise InputError(
            f"'{whole}' is a group; set one of its members: {', '.join(_names(current))}"
        )
    return replace(settings, **{head: value})  # type: ignore[type-var]


def _names(settings: Any) -> list[str]:
    return sorted(f.name for f in fields(settings)) if is_dataclass(settings) else []
