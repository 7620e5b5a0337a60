"""MiniGrid's and BabyAI's missions as tokens: one word, one token."""

import re

import numpy as np


# Every word of every mission of the registered ids. A token is a place in this list plus 2, and networks
# are trained on them: new words go to the end.
# fmt: off
MISSION_WORDS = (
    ",", "a", "after", "and", "at", "avoid", "ball", "behind", "blue", "box", "door", "end", "fetch", "find",
    "from", "front", "get", "go", "goal", "green", "grey", "hallway", "in", "key", "lava", "left", "matching",
    "maze", "must", "near", "next", "object", "of", "on", "open", "opening", "pick", "purple", "put", "reach",
    "red", "right", "room", "rooms", "square", "the", "then", "to", "traverse", "unlock", "up", "use",
    "yellow", "you", "your",
)
# fmt: on
PADDING, UNKNOWN = 0, 1
# The longest sentence of BabyAI's grammar: two pairs of "put the red ball in front of you next to the blue
# box in front of you", 17 words each, joined by "and", and these joined by "after you" or ", then".
MISSION_LENGTH = 2 * (2 * 17 + 1) + 2
NUM_MISSION_TOKENS = len(MISSION_WORDS) + 2

_TOKENS = {word: token for token, word in enumerate(MISSION_WORDS, start=2)}
_PIECES = re.compile(r"\w+|[^\w\s]")


def tokenize_mission(mission: str) -> np.ndarray:
    """The tokens of a mission.

    Words are looked up in `MISSION_WORDS` in lower case; a word that is not there becomes 1.

    Args:
      mission: the sentence; the empty one is all padding.

    Returns:
      int32 `[MISSION_LENGTH]`, below `NUM_MISSION_TOKENS`, padded with 0 at the end.

    Raises:
      ValueError: for more than `MISSION_LENGTH` words; no registered id has such a mission.
    """
    pieces = _PIECES.findall(mission.lower())
    if len(pieces) > MISSION_LENGTH:
        raise ValueError(f"A mission has at most {MISSION_LENGTH} words, got {len(pieces)}: {mission!r}.")
    tokens = np.zeros(MISSION_LENGTH, np.int32)
    tokens[: len(pieces)] = [_TOKENS.get(piece, UNKNOWN) for piece in pieces]
    return tokens


def detokenize_mission(tokens: np.ndarray) -> str:
    """The mission of tokens `[…]`, the inverse of `tokenize_mission`; an unknown word is `<unknown>`.

    Raises:
      ValueError: for tokens that are not integers from 0 to `NUM_MISSION_TOKENS` - 1.
    """
    given = np.asarray(tokens)
    if not np.issubdtype(given.dtype, np.integer) or np.any((given < 0) | (given >= NUM_MISSION_TOKENS)):
        raise ValueError(f"Tokens are integers from 0 to {NUM_MISSION_TOKENS - 1}, got {given!r}.")
    words = ["<unknown>" if token == UNKNOWN else MISSION_WORDS[token - 2] for token in given if token]
    return " ".join(words).replace(" ,", ",")
