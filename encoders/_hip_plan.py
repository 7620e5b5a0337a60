"""Which latent of a Hierarchical Perceiver has which type and stands in which group: worked out once, in NumPy.

Groups of the first block hold tokens of one type. A block's latents are laid out in a row, group after group; where
the next block has other groups, the row is cut anew into equal pieces. A new latent takes the type of the latent at the
same relative place of the row before, so that pieces of the row keep their types, and the decoder's latents have the
types of the encoder's that their skip connections come from.
"""

import math
from typing import NamedTuple

import numpy as np

from .masks import FUSION


class Level(NamedTuple):
    """A block's latents, or the tokens that go into the first block, in a row.

    Attributes:
      types: int32 `[L]`.
      place: int32 `[L]`, in the whole row; some are missing where a modality is.
      length: of the whole row.
    """

    types: np.ndarray
    place: np.ndarray
    length: int

    def groups(self, number: int) -> np.ndarray:
        """int `[L]`: the group of each, when the row is cut into `number` pieces."""
        return self.place // (self.length // number)

    def only(self, types: set[int]) -> "Level":
        """Without the others."""
        kept = np.isin(self.types, list(types))
        return Level(self.types[kept], self.place[kept], self.length)


class Cells(NamedTuple):
    """An attention in cells: each query reads the keys of its own cell.

    Attributes:
      query: int `[cells, N]`, which queries a cell has; 0 where that is padding.
      key: int `[cells, M]`, which keys it has.
      key_is: bool `[cells, M]`, False where that is padding.
      place: int `[Q]`, where each query's result is among cells x N.
    """

    query: np.ndarray
    key: np.ndarray
    key_is: np.ndarray
    place: np.ndarray


def assign_groups(groups: int, counts: dict[int, int], minimum: int = 1) -> dict[int, int]:
    """Shares groups out by numbers of tokens: each next group to the type whose groups are fullest."""
    shares = dict.fromkeys(counts, minimum)
    if sum(shares.values()) > groups:
        raise ValueError(
            f"{groups} groups are too few for {len(counts)} modalities with at least {minimum} each."
        )
    for _ in range(groups - sum(shares.values())):
        shares[max(counts, key=lambda t: counts[t] / shares[t])] += 1
    return shares


def input_level(counts: dict[int, int], shares: dict[int, int]) -> Level:
    """The tokens, each type's spread evenly over its groups; a group has room for the largest."""
    room = max(math.ceil(counts[t] / shares[t]) for t in counts)
    types, places, first = [], [], 0
    for t, count in counts.items():
        each = math.ceil(count / shares[t])
        token = np.arange(count)
        types.append(np.full(count, t, np.int32))
        places.append((first + token // each) * room + token % each)
        first += shares[t]
    return Level(np.concatenate(types), np.concatenate(places), first * room)


def latent_levels(groups: tuple[int, ...], latents: tuple[int, ...], shares: dict[int, int]) -> list[Level]:
    """The latents of every block."""
    rows = [np.repeat([t for t, n in shares.items() for _ in range(n)], latents[0])]
    for i in range(1, len(groups)):
        if i <= len(groups) // 2:
            length = groups[i] * latents[i]
            rows.append(rows[-1][((np.arange(length) + 0.5) * len(rows[-1]) / length).astype(int)])
        else:
            rows.append(rows[len(groups) - 1 - i])
    return [Level(row.astype(np.int32), np.arange(len(row)), len(row)) for row in rows]


def cells(queries: Level, keys: Level, groups: int, by_type: bool) -> tuple[Cells, np.ndarray]:
    """Cells of one group each, or of one group and one type each.

    Args:
      queries: L of them.
      keys: S of them.
      groups: into how many pieces both rows are cut.
      by_type: whether a cell has one type only; fusion queries are then in no cell.

    Returns:
      The cells, and int `[F]`, which queries are in none.
    """

    kinds = 1 + max(*queries.types, *keys.types)

    def labels(level: Level) -> np.ndarray:
        return level.groups(groups) * kinds + (level.types if by_type else 0)

    apart = np.flatnonzero(by_type & (queries.types == FUSION))
    inside = np.setdiff1d(np.arange(len(queries.types)), apart)
    query_labels, key_labels = labels(queries), labels(keys)
    wanted = np.unique(query_labels[inside])
    query_rows = [inside[query_labels[inside] == label] for label in wanted]
    key_rows = [np.flatnonzero(key_labels == label) for label in wanted]
    query, _ = _stack(query_rows)
    key, key_is = _stack(key_rows)
    place = np.zeros(len(queries.types), int)
    for cell, row in enumerate(query_rows):
        place[row] = cell * query.shape[1] + np.arange(len(row))
    return Cells(query, key, key_is, place), apart


def _stack(rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of unequal lengths as one array, padded, and which entries are not padding."""
    longest = max([1, *map(len, rows)])
    filled = [np.pad(row, (0, longest - len(row))) for row in rows]
    exists = [np.arange(longest) < len(row) for row in rows]
    return np.stack(filled), np.stack(exists)
