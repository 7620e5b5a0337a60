"""A byte-pair vocabulary of a small language, in the file form that open_clip's tokenizer reads.

CLIP's own vocabulary has 49,408 entries: at a text width of 64 its embedding alone would be 3.2 million
parameters. A language of a few hundred words needs as many merges as make each word one token.
"""

import collections
import gzip
import pathlib
import re
from collections.abc import Iterable


Merge = tuple[str, str]


def learn_merges(texts: Iterable[str], most: int = 48_894) -> list[Merge]:
    """Merges that make every word of the texts one token (Sennrich et al. 2016, arXiv 1508.07909, algorithm 1).

    The most frequent pair first; of equally frequent ones the first in alphabetical order, so that the same texts
    give the same vocabulary.

    Args:
      texts: the language; words are runs of letters, as CLIP's tokenizer splits them.
      most: as many merges as CLIP's tokenizer takes.
    """
    counts = collections.Counter(word for text in texts for word in re.findall(r"[^\W\d_]+", text.lower()))
    words = {word: (*word[:-1], f"{word[-1]}</w>") for word in counts}
    merges: list[Merge] = []
    while len(merges) < most:
        pairs: collections.Counter[Merge] = collections.Counter()
        for word, parts in words.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {word: _merged(parts, best) for word, parts in words.items()}
    return merges


def vocabulary_size(merges: list[Merge]) -> int:
    """Entries of the tokenizer's vocabulary: bytes, bytes that end a word, merges, start and end of text."""
    return 2 * 256 + len(merges) + 2


def save_merges(path: pathlib.Path, merges: list[Merge]) -> None:
    """Writes them as open_clip's `SimpleTokenizer(bpe_path)` reads them; the same merges give the same bytes."""
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    with path.open("wb") as file, gzip.GzipFile(fileobj=file, mode="wb", mtime=0, filename="") as packed:
        packed.write("\n".join(lines).encode())


def _merged(parts: tuple[str, ...], pair: Merge) -> tuple[str, ...]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return tuple(merged)
