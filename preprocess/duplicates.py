"""Pictures that look alike but lie in different splits, found by their perceptual hashes. Pure.

A perceptual hash survives re-encoding and scaling, and other pictures of one person before one wall can share it too: what
is found here are candidates for a person to look at, not proof.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Bits by which two 64-bit hashes may differ; phash sets half of them, so that distances are even. Measured on 18,000 face
# crops of 224 px of DFDC: of 2,500 re-encodings (JPEG quality 30 to 75, scaled down to 0.38) 2,499 lie within 4 bits and one
# at 6. Of the pairs across splits, 10 of the 11 at 0 bits are the same file; of those looked at, nearly all at 2 and 4 bits
# are other moments of one person, and at 6 bits (270 more pairs) different people come in.
DISTANCE = 4
MOST_PAIRS = 1_000_000  # kept, nearest first; the others are only counted: 24 MB
HASH_ONES = 32  # of 64 bits: phash sets those above the median, so fewer means that values tie, as in flat pictures
_TILE = 2048  # hashes compared with as many others at once: 32 MB


@dataclass(frozen=True, eq=False)
class Pairs:
    """Candidates, nearest first."""

    first: NDArray[np.int64]  # positions in the list of hashes
    second: NDArray[np.int64]
    distance: NDArray[np.int64]  # differing bits
    by_distance: dict[int, int]  # bits -> all pairs that were found, also those not kept

    @property
    def found(self) -> int:
        """All pairs, also those not kept."""
        return sum(self.by_distance.values())


def near_pairs(hashes: Sequence[int], splits: Sequence[str], distance: int = DISTANCE, most: int = MOST_PAIRS) -> Pairs:
    """Finds the pairs of hashes that lie in different splits and differ by at most `distance` bits.

    All hashes of one split are compared with all of another, a tile at a time: memory stays bounded whatever their number.

    Args:
        hashes: 64 bits each, as whole numbers from 0.
        splits: Where each belongs.
        distance: Bits, 0 to 64.
        most: Pairs to keep.
    """
    codes, names = np.array(hashes, np.uint64), np.array(splits, dtype=object)
    kept, counts = np.empty((0, 3), np.int64), np.zeros(distance + 1, np.int64)
    for one, other in itertools.combinations(sorted(set(splits)), 2):
        for rows, columns in _tiles(np.flatnonzero(names == one), np.flatnonzero(names == other)):
            bits = np.bitwise_count(codes[rows][:, None] ^ codes[columns][None, :])
            i, j = np.nonzero(bits <= distance)
            counts += np.bincount(bits[i, j], minlength=distance + 1)
            kept = _nearest(np.vstack([kept, np.column_stack([rows[i], columns[j], bits[i, j]])]), most)
    order = np.lexsort((kept[:, 1], kept[:, 0], kept[:, 2]))
    first, second, bits_apart = kept[order].T
    return Pairs(first, second, bits_apart, {bits: int(count) for bits, count in enumerate(counts) if count})


def is_flat(code: int) -> bool:
    """Whether a picture has too little in it for its hash to tell it from others."""
    return code.bit_count() != HASH_ONES


def _tiles(
    rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    for top in range(0, len(rows), _TILE):
        for left in range(0, len(columns), _TILE):
            yield rows[top : top + _TILE], columns[left : left + _TILE]


def _nearest(pairs: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    if len(pairs) <= most:
        return pairs
    return pairs[np.argsort(pairs[:, 2], kind="stable")[:most]]
