"""Photos and labels as arguments in Python: one or many, in lists, arrays or columns."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence, Set
from enum import Enum
from typing import Any

import numpy as np

from sharpzo.data.dataset import NONE, Dataset, LabelledPhotos, class_name
from sharpzo.data.few_shot import draw
from sharpzo.data.loading import load
from sharpzo.data.photo import Photo, as_photo
from sharpzo.errors import InputError
from sharpzo.types import Array

_PHOTOS = (
    "give a path, the bytes of a file, a PIL image or an array (height, width, 3), or a list of "
    "these, or an array (N, height, width, 3)"
)
_LABELS = "give one class name, a string or an integer, for each photo"


def dataset(source: Any, labels: Any, shots: int | None, seed: int) -> tuple[Dataset, Array | None]:
    """What to fit, and the labels (K,) that stand for its class names, if labels were given."""
    folder = path(source)
    if folder is not None or isinstance(source, Dataset | LabelledPhotos):
        what = "a data set" if folder is None else f"the folder {folder}"
        if labels is not None:
            raise InputError(f"there are labels beside {what}, which has its own; leave them out")
        if isinstance(source, LabelledPhotos):
            whole = Dataset(source.class_names, source, None, None, source="photos in memory")
            return draw(whole, shots, seed), None
        if folder is not None:
            return load(folder, shots=shots, seed=seed), None
        if shots is not None:
            raise InputError(f"shots is {shots}, but {what} is taken as it is; draw from it before")
        return source, None
    whole, classes = labelled(photos(source), labels)
    named = zip(classes.tolist(), whole.class_names, strict=True)
    known = [label for label, name in named if name != NONE]
    return draw(whole, shots, seed), as_array(known)


def path(source: Any) -> str | None:
    """The path that was given, if it is one."""
    return os.fspath(source) if isinstance(source, str | os.PathLike) else None


def photos(source: Any) -> tuple[Photo, ...]:
    """Return N photos; one photo (a path, the bytes of a file, a PIL image, an array (H, W, 3)) is
    a list of one.

    An array of uint8, or of floats from 0 to 1, is a photo if it is (H, W, 3) or (H, W, 1), and N
    photos if it is (N, H, W, 3) or (N, H, W, 1). Iterables and whatever NumPy understands as an
    array of paths (a column of a table) hold many; what has no order or is no photo raises
    InputError. No file is opened.

    >>> [len(photos(some)) for some in ("a.jpg", ["a.jpg", "b.jpg"], np.zeros((4, 6, 3), "u1"))]
    [1, 2, 1]
    """
    if isinstance(source, LabelledPhotos):
        return source.photos
    if isinstance(source, str | os.PathLike) and os.path.isdir(source):
        raise InputError(f"'{source}' is a folder; give a list of the photos in it")
    if isinstance(source, str | bytes | os.PathLike | Photo) or _is_image(source):
        return (_photo(source, "photo"),)
    if isinstance(source, Dataset):
        raise InputError("a data set has several splits; give the photos of one, such as its test")
    many = source
    if hasattr(source, "__array__"):
        array = _array(source, "the photos")
        if array.ndim == 0:
            return photos(array.item())
        if array.dtype.kind in "OUT" and array.ndim > 1:
            raise InputError(f"the photos are a table of shape {array.shape}; give one column")
        if array.dtype.kind not in "OUT":
            if array.ndim == 3 and array.shape[2] in (1, 3):
                return (as_photo(array),)
            if array.ndim != 4:
                raise InputError(
                    f"an array of shape {array.shape} is no photo and no row of photos; {_PHOTOS}"
                )
        many = list(array)
    elif isinstance(source, bytearray | memoryview | Mapping | Set) or hasattr(source, "read"):
        raise InputError(f"the photos are of type {type(source).__name__}; {_PHOTOS}")
    elif not isinstance(source, Iterable):
        raise InputError(f"the photos are {source!r}; {_PHOTOS}")
    return tuple(_photo(one, f"photo {i}") for i, one in enumerate(many))


def labelled(many: Sequence[Photo], given: Any) -> tuple[Dataset, Array]:
    """Return the data set of photos with one label each, all of them for training, and the labels
    (K,) that stand for its class names.

    Labels are all strings or all integers or all booleans. A class is read as its label is written,
    with spaces for underscores. Raises `InputError` for missing labels, labels of mixed or other
    types, two that are read alike, and fewer than two classes.

    >>> found, classes = labelled(photos(["a.jpg", "b.jpg"]), ["leaf", "green_tomato"])
    >>> found.class_names, found.train.labels.tolist(), classes.tolist()
    (('green tomato', 'leaf'), [1, 0], ['green_tomato', 'leaf'])
    """
    values = label_list(given)
    if len(values) != len(many):
        raise InputError(f"there are {len(many)} photos and {len(values)} labels; {_LABELS}")
    classes = sorted(set(values))
    names = tuple(class_name(str(label), f"the label {label!r}") for label in classes)
    alike: dict[str, Any] = {}
    for label, name in zip(classes, names, strict=True):
        other = alike.setdefault(name, label)
        if other is not label:
            raise InputError(
                f"the labels {other!r} and {label!r} are both read as {name!r}; write them "
                "alike, or give them different names"
            )
    if len(names) < 2:
        raise InputError(f"the labels name {len(names)} class; give photos of at least two")
    index = {label: k for k, label in enumerate(classes)}
    rows = np.array([index[label] for label in values], np.int64)
    train = LabelledPhotos(tuple(many), rows, names)
    return Dataset(names, train, None, None, source="photos in memory"), as_array(classes)


def as_array(labels: Sequence[Any]) -> Array:
    """Return labels of one type as an array (K,), of objects where NumPy would change a label.

    >>> as_array(["a", "b"]).dtype.kind, as_array([-1, 2**63]).tolist()
    ('U', [-1, 9223372036854775808])
    """
    found = np.array(labels)
    kept = [(type(one), one) for one in found.tolist()] == [(type(one), one) for one in labels]
    return found if kept else np.array(labels, object)


def label_list(source: Any, what: str = "label", hint: str = _LABELS) -> list[Any]:
    """Return labels of one type, in order; `InputError` for anything else.

    Messages call them ``what`` and end with ``hint``.
    """
    if source is None:
        raise InputError(f"there are no {what}s; {hint}")
    if hasattr(source, "__array__"):
        array = _array(source, f"the {what}s")
        if array.ndim != 1:
            raise InputError(f"the {what}s have shape {array.shape}; {hint}")
        source = array.tolist()
    elif isinstance(source, str | bytes | Mapping | Set) or not isinstance(source, Iterable):
        raise InputError(f"the {what}s are of type {type(source).__name__}; {hint}, in a list")
    values = [_plain(one) for one in source]
    for i, value in enumerate(values):
        missing = value is None or value != value or str(value) in ("<NA>", "NaT")
        if missing or (isinstance(value, str) and not value.strip()):
            raise InputError(f"{what} {i} is missing ({value!r}); {hint}")
        if not isinstance(value, str | int):
            raise InputError(f"{what} {i} is {value!r}, a {type(value).__name__}; {hint}")
        if type(value) is not type(values[0]):
            raise InputError(
                f"{what} 0 is {values[0]!r} and {what} {i} is {value!r}: types are mixed; give all "
                "as strings, or all as integers"
            )
    return values


def _plain(label: Any) -> Any:
    """A scalar of NumPy, or a member of an enumeration, as Python's own type."""
    if isinstance(label, np.generic):
        return label.item()
    return label.value if isinstance(label, Enum) else label


def _photo(source: Any, name: str) -> Photo:
    if hasattr(source, "__array__") and not _is_image(source):
        array = _array(source, name)
        source = array.item() if array.ndim == 0 else array
    try:
        return as_photo(source, name)
    except InputError:
        raise
    except Exception as error:  # a PIL image whose file is closed or cut off
        raise InputError(f"{name} cannot be read ({error}); give its path, or load it") from None


def _array(source: Any, name: str) -> Array:
    if np.ma.is_masked(source):  # NumPy would take what lies under the mask
        raise InputError(f"{name} have masked entries; leave these out, or fill them")
    try:
        return np.asarray(source)
    except Exception as error:  # a tensor on another device, a lazy array that fails
        raise InputError(
            f"{name} are of type {type(source).__name__}, which NumPy cannot read ({error}); "
            f"{_PHOTOS}"
        ) from None


def _is_image(source: Any) -> bool:
    from PIL import Image

    return isinstance(source, Image.Image)
