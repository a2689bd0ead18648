"""What is wrong with labelled photos, before anything is tuned: labels, copies, classes.

**Labels.** Ridge regression from unit, centred image states x (N, S) to one-hot labels y, centred:

    score = X B,   B = (X'X + penalty I)^-1 X'Y

and leaving out photo i changes its score to y_i - (y_i - score_i) / (1 - H_ii), H = X (X'X +
penalty I)^-1 X': exact, at no cost. A photo is suspicious where another class scores `MARGIN` more
than its own. Both numbers were chosen on EuroSAT, Caltech-101 and Fashion-MNIST with 5 % of the
labels flipped (experiments/check).

**Copies.** The same bytes, or the same picture: small grey thumbnails that correlate, one of them
mirrored or not, so that another size, quality or brightness of a photo is still the same picture.
Photos with hardly any contrast are compared by larger thumbnails in colour, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.data.photo import Photo
from sharpzo.data.photo_check import check
from sharpzo.errors import InputError, PhotoError
from sharpzo.linear import left_out
from sharpzo.metrics import normalise
from sharpzo.towers.feature_store import FeatureStore
from sharpzo.towers.features import Progress
from sharpzo.towers.open import Towers
from sharpzo.towers.runtime import cores
from sharpzo.types import Array

PENALTY, MARGIN = 4.0, 0.2
APART = 0.2  # of its contrast: how far a thumbnail of the same picture may be, root mean square
NOISE = 0.3  # grey levels, of 255, that another encoding adds to that
SIDE = 16  # of a thumbnail
FLAT = 0.7  # contrast, the standard deviation of grey levels, that is too little to compare
# Up to this contrast colours are compared, too, at this side, and have to correlate by as much: of
# 7,140 pairs of flat photos of the sea the most alike had 0.69 (experiments/check/flat.py).
PALE, PALE_SIDE, PALE_LEAST = 2.0, 32, 0.75
FEW = 4  # photos per class: fewer say little about a class
MIXED = 0.3  # of a class that is taken for one other class
UNEVEN = 4  # times as many photos as the smallest class
_BLOCK = 1024  # photos whose correlations are in memory at a time


@dataclass(frozen=True)
class Suspect:
    """Photo ``row`` may not be of its class, but of class ``likely``, which scores ``margin`` more
    in one-hot labels: 0 is as much, 1 is all that can be expected."""

    row: int
    likely: int
    margin: float


@dataclass(frozen=True)
class Copies:
    """Photos of ``rows`` that show the same picture; ``exact``: their files are the same."""

    rows: tuple[int, ...]
    exact: bool


@dataclass(frozen=True)
class Mixed:
    """``many`` of the photos of class ``one`` are taken for class ``other``, when left out."""

    one: int
    other: int
    many: int


@dataclass(frozen=True, eq=False)
class Audit:
    """What was found, the worst first.

    ``photos`` (N,) are those that can be read, of all splits, ``splits`` (N,) the names of these;
    ``errors`` are about the others. ``accuracy`` is that of the photos left out one by one, None if
    there are too few.
    """

    photos: LabelledPhotos
    splits: tuple[str, ...]
    errors: tuple[PhotoError, ...]
    copies: list[Copies]
    suspects: list[Suspect]
    mixed: list[Mixed]
    accuracy: float | None

    @property
    def few(self) -> list[tuple[str, int]]:
        """Classes of fewer than `FEW` photos, and how many they have."""
        counts = zip(self.photos.class_names, self.photos.counts().tolist(), strict=True)
        return [(name, many) for name, many in counts if many < FEW]

    @property
    def of_classes(self) -> list[str]:
        """A sentence for each class that is taken for another one or has few photos, and one if
        classes differ much in size."""
        names, many = self.photos.class_names, self.photos.counts().tolist()
        counts: dict[str, int] = dict(zip(names, many, strict=True))
        said = [
            f"class {names[one.one]}: {one.many} of {many[one.one]} photos look like "
            f"{names[one.other]}; add photos that show the difference, or make them one class"
            for one in self.mixed
        ]
        said += [
            f"class {name} has {few} photo{'' if few == 1 else 's'}; add some"
            for name, few in self.few
        ]
        most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
        if counts[most] >= UNEVEN * max(counts[least], 1):
            said.append(
                f"classes differ much in size, from {counts[least]:,} ({least}) to "
                f"{counts[most]:,} photos ({most}); photos of the small ones help most"
            )
        return said


def audit(
    dataset: Dataset,
    towers: Towers,
    cache: Path | None = None,
    threads: int | None = None,
    checking: Callable[[int, int], object] = lambda done, total: None,
    encoding: Progress = lambda what, done, total: None,
) -> Audit:
    """Look through all photos of a data set; raises `InputError` if none can be read."""
    towers = towers.suited(dataset.train)  # a fit then finds the features in the cache
    splits = {name: towers.sized(split) for name, split in dataset.splits.items()}
    known: Callable[[Iterable[str]], set[str]] = (
        FeatureStore(cache).known if cache else lambda digests: set()
    )
    found = check(splits, known, threads or cores(), checking)
    lost = {error.photo for error in found.errors}
    rows = [
        (photo, label, name)
        for name, split in splits.items()
        for photo, label in zip(split.photos, split.labels, strict=True)
        if photo.name not in lost
    ]
    if not rows:
        raise InputError(f"{dataset.source} has no photo that can be read; add some")
    photos = LabelledPhotos(
        tuple(photo for photo, _, _ in rows),
        np.array([label for _, label, _ in rows], np.int64),
        dataset.class_names,
    )
    digests = [found.digests[photo.name] for photo in photos.photos]
    states = towers.encode({"all": photos}, encoding, cache, ())["all"].states
    assert states is not None
    copies = find_copies(photos.photos, digests)
    suspects, mixed, accuracy = find_suspects(states, photos.labels, photos.counts(), copies)
    return Audit(
        photos, tuple(name for _, _, name in rows), found.errors, copies, suspects, mixed, accuracy
    )


def find_suspects(
    states: Array, labels: Array, counts: Array, copies: Sequence[Copies] = ()
) -> tuple[list[Suspect], list[Mixed], float | None]:
    """Photos that may be of another class, classes that are taken for one another, and the share
    of photos that are recognised when they are left out; of a class of one photo nothing is said.

    A photo is left out together with its copies: they would vouch for each other.
    """
    if (counts > 1).sum() < 2:
        return [], [], None
    rows, place = np.arange(len(labels)), np.arange(len(labels))
    for group in copies:
        place[list(group.rows)] = group.rows[0]
    others = leave_one_out(states, labels, len(counts), place)
    own = others[rows, labels]
    others[rows, labels] = -np.inf
    others[:, counts == 0] = -np.inf
    likely, margins = others.argmax(axis=1), others.max(axis=1) - own
    known = counts[labels] > 1
    suspects = [
        Suspect(int(row), int(likely[row]), float(margins[row]))
        for row in np.argsort(-margins, kind="stable")
        if known[row] and margins[row] > MARGIN
    ]
    kept = known & (margins <= MARGIN)
    mixed: list[Mixed] = []
    for one in np.flatnonzero(counts):
        mine = kept & (labels == one)
        taken = np.bincount(likely[mine & (margins > 0)], minlength=len(counts))
        if taken.max() > 1 and taken.max() >= MIXED * mine.sum():
            mixed.append(Mixed(int(one), int(taken.argmax()), int(taken.max())))
    mixed.sort(key=lambda found: -found.many / counts[found.one])
    return suspects, mixed, float((margins[known] < 0).mean())


def leave_one_out(states: Array, labels: Array, classes: int, place: Array | None = None) -> Array:
    """Scores (N, K) of photos that are left out of the fit one by one, or with all others of the
    same ``place``.

    >>> states = np.array([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.1], [-1.0, 0.0]])
    >>> leave_one_out(states, np.array([0, 0, 1, 1]), 2).argmax(axis=1).tolist()
    [0, 0, 1, 1]
    """
    x = normalise((states - states.mean(axis=0)).astype(np.float64))
    wanted = np.eye(classes)[labels] - 1 / classes
    inverse = np.linalg.inv(x.T @ x + PENALTY * np.eye(x.shape[1]))
    scores = x @ (inverse @ (x.T @ wanted))
    hat = np.einsum("ns,st,nt->n", x, inverse, x, optimize=True)
    out = wanted - left_out(wanted - scores, hat)
    if place is not None:
        for first in np.flatnonzero(np.bincount(place) > 1):
            rows = np.flatnonzero(place == first)
            block = x[rows] @ inverse @ x[rows].T
            out[rows] = wanted[rows] - left_out(wanted[rows] - scores[rows], block[None])
    return out


def find_copies(photos: Sequence[Photo], digests: Sequence[str]) -> list[Copies]:
    """Groups of photos, of which ``digests`` are known, that show the same picture, exact first."""
    first: dict[str, int] = {}
    group = np.array([first.setdefault(digest, row) for row, digest in enumerate(digests)])
    rows = np.array(sorted(first.values()))
    made = [_thumbnails(photos[row]) for row in sorted(first.values())]
    thumbs = np.stack([grey for grey, _ in made])
    contrast = thumbs.std(axis=(1, 2, 3))
    clear = contrast > FLAT
    # Two thumbnails of one contrast that are r of it apart correlate by 1 - r**2 / 2.
    least = 1 - (APART + NOISE / contrast[clear]) ** 2 / 2
    pale = [k for k, (_, colours) in enumerate(made) if colours is not None]
    colours = np.array([made[k][1] for k in pale]).reshape(len(pale), PALE_SIDE, PALE_SIDE, 3)
    for places, pictures, wanted in (
        (rows[clear], thumbs[clear], least),
        (rows[pale], colours, np.full(len(pale), PALE_LEAST)),
    ):
        for i, j in _alike(pictures, wanted):
            one, other = sorted(group[places[[i, j]]])
            group[group == other] = one
    members: dict[int, list[int]] = {}
    for row, one in enumerate(group.tolist()):
        members.setdefault(one, []).append(row)
    found = [
        Copies(tuple(rows), len({digests[row] for row in rows}) == 1)
        for rows in members.values()
        if len(rows) > 1
    ]
    return sorted(found, key=lambda copies: not copies.exact)


def _alike(pictures: Array, least: Array) -> Iterator[tuple[int, int]]:
    """Pairs of pictures (N, S, S, C) that correlate by more than both's ``least`` (N,), one of them
    mirrored or not."""
    size = np.sqrt((pictures**2).sum(axis=(1, 2, 3), keepdims=True))
    unit = pictures / np.maximum(size, 1e-9)
    shape = (len(unit), unit[0].size if len(unit) else 0)
    flat, mirrored = unit.reshape(shape), unit[:, :, ::-1].reshape(shape)
    for begin in range(0, len(unit), _BLOCK):
        part, wanted = flat[begin : begin + _BLOCK].T, least[begin : begin + _BLOCK]
        same = np.maximum(flat @ part, mirrored @ part) > np.maximum(least[:, None], wanted)
        for j, i in np.argwhere(same):
            yield begin + int(i), int(j)


def _thumbnails(photo: Photo) -> tuple[Array, Array | None]:
    """Grey levels (SIDE, SIDE, 1) without their mean, zeros of what cannot be read any more, and of
    a pale photo colours (PALE_SIDE, PALE_SIDE, 3), each without its mean."""
    from PIL import Image

    try:
        whole = Image.fromarray(photo.sized(4 * SIDE).decode())
    except PhotoError:
        return np.zeros((SIDE, SIDE, 1), np.float32), None

    def small(image: Image.Image, side: int) -> Array:
        pixels = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR), np.float32)
        return (levels := pixels.reshape(side, side, -1)) - levels.mean(axis=(0, 1))

    grey = small(whole.convert("L"), SIDE)
    return grey, small(whole.convert("RGB"), PALE_SIDE) if grey.std() < PALE else None
