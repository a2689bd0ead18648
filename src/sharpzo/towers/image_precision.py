"""The precision of the image tower: what can compute it here, and what it is told apart by.

Features of training photos and of new ones are made in the same precision, which a run records.
Where it cannot be, as on a board without the instructions, new photos are encoded in float32, which
the other precisions approximate: `experiments/image_precision` says what that costs.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import cast, get_args

import numpy as np

from sharpzo.errors import ArtifactError, EngineError, InputError
from sharpzo.storage.record import Record
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.families import image_family
from sharpzo.towers.graph_store import GraphStore
from sharpzo.towers.runtime import OpenVinoSession, Running, Session, cores, open_core
from sharpzo.types import ImagePrecision

_WAY = 1  # of computing in fewer bits: a number for each that gives other features
_log = logging.getLogger("sharpzo")


def parse_precision(value: str) -> ImagePrecision:
    """Return a precision of the image tower; InputError for another word."""
    if value not in get_args(ImagePrecision):
        raise InputError(
            f"image_precision is {value!r}; choose one of {', '.join(get_args(ImagePrecision))}"
        )
    return cast(ImagePrecision, value)


def check_family(checkpoint: Checkpoint, precision: ImagePrecision) -> None:
    """Raise `InputError` for an image tower that is not computed in that precision."""
    family, what = image_family(checkpoint), f"the image tower of {checkpoint.folder}"
    if precision != "float32" and family.open is not None:
        raise InputError(
            f"{what} is an ONNX file, which is run as it is; leave out image_precision {precision}"
        )
    if precision == "int8" and family.build_integers is None:
        raise InputError(
            f"{what} (family {checkpoint.image.family!r}) is not computed in int8; use bfloat16, "
            "or leave out the image_precision"
        )


def require(precision: ImagePrecision) -> None:
    """Raise `EngineError` if this machine does not compute in that precision."""
    if precision == "bfloat16":
        open_core(bfloat16=True, what="image precision bfloat16")
    elif precision == "int8" and not multiplies_bytes():
        raise EngineError(
            "this processor has no products of 8 bits with sums of 32 (VNNI), so int8 would be "
            "wrong and save little; use image_precision float32"
        )


@cache
def multiplies_bytes() -> bool:
    """Whether ONNX Runtime multiplies whole numbers here without cutting sums off."""
    from sharpzo.towers.integers import largest_product  # loads the graphs' library

    most = np.full((8, 64), 255, np.float32)
    with closing(Session(largest_product(), 1)) as session:
        (found,) = session.run(["y"], {"x": most})
    return bool((found == 255 * 127 * 64).all())


def open_image(
    checkpoint: Checkpoint,
    precision: ImagePrecision,
    size: tuple[int, int],
    threads: int | None,
    graphs: GraphStore,
    fingerprint: Callable[[], str],
) -> Running:
    """Compile an image tower for photos of a ``size`` (height, width); ``fingerprint`` is asked
    for that of the tower in float32 where its graph is kept. Raises what `check_family` and
    `require` raise."""
    check_family(checkpoint, precision)
    family = image_family(checkpoint)
    if family.open is not None:
        return family.open(checkpoint, *size, threads)
    require(precision)
    if precision == "bfloat16":
        return graphs.open(
            fingerprint(),
            lambda: family.build(checkpoint, *size),
            lambda file: OpenVinoSession(file, threads or cores(), bfloat16=True, alone=True),
        )
    build, made_of = family.build, fingerprint()
    if precision == "int8":
        assert family.build_integers is not None  # as `check_family` has found
        build, made_of = family.build_integers, with_precision(made_of, precision)
    return graphs.open(
        made_of, lambda: build(checkpoint, *size), lambda file: Session(file, threads)
    )


def with_precision(fingerprint: str, precision: ImagePrecision) -> str:
    """Return the fingerprint of an image tower in another precision than float32."""
    if precision == "float32":
        return fingerprint
    return hashlib.sha256(f"{fingerprint} {precision} {_WAY}".encode()).hexdigest()


def followed(record: Record, run: str | Path, limited: bool) -> ImagePrecision:
    """Return the precision of a run's image tower where it can be had here, else float32, and
    log why; ``limited``: under a memory limit, where towers are computed in float32."""
    found = record.get("image_precision", "float32")
    try:
        wanted = parse_precision(found)
    except InputError:
        raise ArtifactError(
            f"{run} was made with image precision {found!r}; update sharpzo"
        ) from None
    if wanted == "float32":
        return wanted
    try:
        if not limited:
            require(wanted)
            return wanted
        why = "under a memory limit the image tower is computed in float32"
    except EngineError as error:
        why = str(error)
    _log.warning(
        f"{run} was fitted to photos encoded in {wanted}, and new photos are encoded in float32, "
        f"so answers differ a little: {why}"
    )
    return "float32"
