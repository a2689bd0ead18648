"""Suffixes of many classes on one axis without padding, cut into attention tiles.

Linear layers treat every token alone, so all suffixes lie one after another on one axis of T
tokens. Attention does not: the axis is cut into tiles of a few classes each, and a
mask inside a tile keeps classes apart. Small tiles waste nothing but make many tiny matrix
products; large ones compute scores only to mask them.

Where there are many, neighbouring tiles pass a block in chunks, so that what the block computes is
as large as a chunk, not as all classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from sharpzo.types import Array

MASKED = np.float32(-1e30)  # not -inf: a row of nothing but -inf would give NaN


@dataclass(frozen=True, eq=False)
class Group:
    """Neighbouring tiles with equally many tokens and classes.

    ``first_token`` and ``first_class`` are places in their chunk; ``mask`` (tiles, width, before +
    width) is added to the scores and ``ends`` (tiles, classes) says which tokens of a tile are EOS.
    """

    first_token: int
    first_class: int
    tiles: int
    width: int
    classes: int
    mask: Array
    ends: Array


@dataclass(frozen=True, eq=False)
class Chunk:
    """Neighbouring tiles that pass a block together: ``tokens`` of the packed axis from ``first``
    on, of which ``ends`` (classes,) are EOS."""

    first: int
    tokens: int
    ends: Array
    groups: tuple[Group, ...]


@dataclass(frozen=True, eq=False)
class Packing:
    """``order`` (K,) is the class at each packed place."""

    order: Array
    chunks: tuple[Chunk, ...]


def pack(
    lengths: Sequence[int], before: int, width: int, most: int, *, blind: bool = False
) -> Packing:
    """Pack suffixes of these lengths that all see ``before`` shared tokens.

    ``blind``: the last token of a suffix does not see itself.

    Tiles hold whole classes and at most ``width`` tokens; a longer class has a tile of its own.
    Chunks hold whole tiles and are about equally large, at most ``most`` tokens and a part of a
    tile.
    """
    by_length = sorted(range(len(lengths)), key=lambda k: lengths[k])
    tiles: list[list[int]] = []
    room = 0
    for k in by_length:
        if lengths[k] > room:
            tiles.append([])
            room = max(width, lengths[k])
        tiles[-1].append(k)
        room -= lengths[k]

    def size(tile: list[int]) -> tuple[int, int]:
        return sum(lengths[k] for k in tile), len(tile)

    tiles.sort(key=size)
    total = sum(lengths)
    count = -(-total // most)
    firsts = np.cumsum([0, *(size(tile)[0] for tile in tiles)]).tolist()
    chunks = []
    for _, members in groupby(range(len(tiles)), lambda i: firsts[i] * count // total):
        places = list(members)
        inner = [[lengths[k] for k in tiles[i]] for i in places]
        ends = np.cumsum([length for tile in inner for length in tile]) - 1
        first, after = firsts[places[0]], firsts[places[-1] + 1]
        chunks.append(Chunk(first, after - first, ends, _groups(inner, before, blind)))
    return Packing(np.array([k for tile in tiles for k in tile]), tuple(chunks))


def _groups(tiles: list[list[int]], before: int, blind: bool) -> tuple[Group, ...]:
    """Return the groups of neighbouring tiles, each given by the lengths of its classes."""
    groups, token, place = [], 0, 0
    for (tokens, classes), members in groupby(tiles, lambda tile: (sum(tile), len(tile))):
        inner = list(members)
        groups.append(
            Group(
                first_token=token,
                first_class=place,
                tiles=len(inner),
                width=tokens,
                classes=classes,
                mask=np.stack([_mask(tile, before, blind) for tile in inner]),
                ends=np.stack([np.cumsum(tile) - 1 for tile in inner]),
            )
        )
        token += tokens * len(inner)
        place += classes * len(inner)
    return tuple(groups)


def _mask(lengths: list[int], before: int, blind: bool) -> Array:
    """Return 0 where a token of a tile may look and a huge negative number elsewhere."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    causal = np.tri(len(owner), dtype=bool)
    if blind:
        ends = np.cumsum(lengths) - 1
        causal[ends, ends] = False
    sees = np.concatenate(
        [np.ones((len(owner), before), bool), causal & (owner[:, None] == owner)], axis=1
    )
    return np.where(sees, np.float32(0), MASKED)
