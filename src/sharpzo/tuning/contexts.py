"""Fixed maps from the vectors of a search to contexts, the token vectors before a class name.

`ContextMap`: p0 + reshape(A w) with a random A, the template's own words as p0 (SharpZO section
3.1); `WholeContext`: every number of the context; `ZipContexts`: ZIP's low-rank prompt (ICLR 2025,
arXiv 2504.06838).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from sharpzo.errors import InputError
from sharpzo.rng import generator
from sharpzo.types import Array, TextTower


class Contexts(Protocol):
    """A fixed map, linear or not, from candidates (P, dim) to contexts float32 (P, n, m)."""

    @property
    def dim(self) -> int: ...

    def __call__(self, candidates: Array) -> Array: ...


class ContextMap:
    """Fixed random affine map from candidates (P, d) to contexts (P, n, m).

    ``A`` has independent entries N(0, std**2), is rebuilt from (seed, d, std) and never stored.

    >>> import numpy as np
    >>> contexts = ContextMap(np.zeros((4, 8), np.float32), dim=6, std=1.0, seed=1)
    >>> contexts(np.zeros((3, 6))).shape
    (3, 4, 8)
    """

    def __init__(self, start: Array, *, dim: int, std: float, seed: int) -> None:
        if start.ndim != 2 or not start.size:
            raise InputError(
                f"the context to tune has shape {start.shape}; give a template with words before "
                "the class name, such as 'a photo of a {}.', or set tokens if the method has them"
            )
        self.start = start
        self.dim = dim
        draws = generator(seed, "context-map")
        self.matrix = np.empty((start.size, dim), np.float32)
        for rows in np.array_split(self.matrix, max(1, start.size // 64)):  # views
            rows[:] = std * draws.standard_normal(rows.shape)

    def __call__(self, candidates: Array) -> Array:
        return self.start + self.move(candidates)

    def move(self, vectors: Array) -> Array:
        """What vectors (P, d) add to the context, (P, n, m)."""
        shift = vectors.astype(np.float32) @ self.matrix.T
        return shift.reshape(len(vectors), *self.start.shape)


class WholeContext(ContextMap):
    """All n * m numbers of the context, in units of ``scale``.

    With the typical token distance as scale, a w of length 1 moves the context by that much.

    >>> import numpy as np
    >>> contexts = WholeContext(np.zeros((4, 8), np.float32), scale=2.0)
    >>> contexts.dim, float(contexts(np.ones((1, 32))).max())
    (32, 2.0)
    """

    def __init__(self, start: Array, scale: float) -> None:
        super().__init__(start, dim=0, std=0.0, seed=0)
        self.dim = start.size
        self.scale = np.float32(scale)

    def move(self, vectors: Array) -> Array:
        return self.scale * vectors.astype(np.float32).reshape(len(vectors), *self.start.shape)


def unit_std(tower: TextTower) -> float:
    """Scale of A at which a w of length 1 moves a token by the typical token distance, so that one
    sigma suits every checkpoint."""
    return tower.token_distance / float(np.sqrt(tower.start.shape[1]))


def table_std(tower: TextTower) -> float:
    """Deviation of the token table's entries: rows lie sqrt(2 m) of them apart."""
    return tower.token_distance / float(np.sqrt(2 * tower.start.shape[1]))


def walsh_hadamard(rows: Array) -> Array:
    """Return rows (..., L) times the un-normalised Walsh-Hadamard matrix, in L log2 L sums.

    L must be a power of two; Sylvester's order: H_1 = 1, H_2n = [[H_n, H_n], [H_n, -H_n]].

    >>> walsh_hadamard(np.array([1.0, 2.0, 3.0, 4.0])).tolist()
    [10.0, -2.0, -4.0, 0.0]
    """
    shape, half = rows.shape, 1
    while half < shape[-1]:
        left, right = np.moveaxis(rows.reshape(*shape[:-1], -1, 2, half), -2, 0)
        rows = np.stack([left + right, left - right], axis=-2).reshape(shape)
        half *= 2
    return rows


class Fastfood:
    """Fixed random maps, one a token, from (..., n, q) to (..., n, width); lengths are kept on
    average.

    Row i, padded with zeros to L (the power of two that is not below ``width``), becomes
    H G_i P_i H B_i z / (sqrt(L sum_j G_ij**2) sqrt(width / L)), of which the first ``width``
    entries are taken: B random signs, P a permutation, G ~ N(0, 1). Rebuilt from the seed.

    >>> Fastfood(tokens=2, width=6, seed=1)(np.ones((2, 3))).shape
    (2, 6)
    """

    def __init__(self, *, tokens: int, width: int, seed: int) -> None:
        self.width = width
        self.length = 1 << (width - 1).bit_length()
        shape = (tokens, self.length)
        self.signs = np.where(generator(seed, "fastfood-signs").random(shape) < 0.5, -1.0, 1.0)
        orders = [generator(seed, "fastfood-order", direction=i) for i in range(tokens)]
        self.orders = np.stack([order.permutation(self.length) for order in orders])
        self.gains = generator(seed, "fastfood-gains").standard_normal(shape)
        lengths = np.sqrt(self.length * (self.gains**2).sum(axis=1, keepdims=True))
        self._scale = 1 / (lengths * np.sqrt(width / self.length))

    def __call__(self, small: Array) -> Array:
        """Small vectors (..., n, q), q at most ``width`` -> (..., n, width)."""
        padding = [(0, 0)] * (small.ndim - 1) + [(0, self.length - small.shape[-1])]
        mixed = walsh_hadamard(self.signs * np.pad(small, padding))
        orders = np.broadcast_to(self.orders, mixed.shape)
        mixed = self.gains * np.take_along_axis(mixed, orders, axis=-1)
        return (self._scale * walsh_hadamard(mixed))[..., : self.width]


class ZipContexts:
    """Candidates (P, dim) -> contexts (P, n, m), not linear.

    A candidate holds U (n, r), s (r), V (q, r) and v (q) one after the other, q = ``intrinsic`` //
    n, at most m; its contexts are ``start`` + ``scale`` Fastfood(U diag(s) V' + 1 v'). ``first``
    is where ZIP begins: U = 0, s = 1, V ~ N(0, 1), v = 0, so that nothing has moved.

    >>> contexts = ZipContexts(np.zeros((8, 512), np.float32), seed=1)
    >>> contexts.dim, contexts(contexts.first[None]).shape
    (417, (1, 8, 512))
    """

    def __init__(
        self,
        start: Array,
        *,
        seed: int,
        intrinsic: int = 500,
        rank: int = 5,
        scale: float = 1.0,
    ) -> None:
        tokens, width = start.shape
        if intrinsic < tokens:
            raise InputError(
                f"intrinsic size {intrinsic} leaves nothing for some of the {tokens} tokens; give "
                f"{tokens} or more"
            )
        small = min(intrinsic // tokens, width)
        self.start = start
        self.scale = scale
        self._shapes = ((tokens, rank), (rank,), (small, rank), (small,))
        self.dim = sum(int(np.prod(shape)) for shape in self._shapes)
        self._lift = Fastfood(tokens=tokens, width=width, seed=seed)
        factor = generator(seed, "zip-start").standard_normal((small, rank))
        parts = np.zeros((tokens, rank)), np.ones(rank), factor, np.zeros(small)
        self.first = np.concatenate([piece.ravel() for piece in parts])

    def small(self, candidates: Array) -> Array:
        """Candidates (P, dim) -> Z = U diag(s) V' + 1 v', (P, n, q)."""
        sizes = [int(np.prod(shape)) for shape in self._shapes]
        pieces = np.split(candidates, np.cumsum(sizes)[:-1], axis=1)
        left, middle, right, shared = (
            piece.reshape(-1, *shape) for piece, shape in zip(pieces, self._shapes, strict=True)
        )
        return (left * middle[:, None]) @ right.swapaxes(1, 2) + shared[:, None]

    def __call__(self, candidates: Array) -> Array:
        moved = self.scale * self._lift(self.small(candidates))
        return (self.start + moved).astype(np.float32)
