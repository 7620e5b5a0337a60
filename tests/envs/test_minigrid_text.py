"""Missions as tokens and back; the vocabulary covers what MiniGrid and BabyAI say."""

import re

import gymnasium
import numpy as np
import pytest
from limbeck.envs import (
    MISSION_LENGTH,
    MISSION_WORDS,
    NUM_MISSION_TOKENS,
    detokenize_mission,
    minigrid_ids,
    tokenize_mission,
)
from minigrid.core.constants import COLOR_NAMES


def test_missions_there_and_back():
    longest = ", then ".join(
        [" and ".join(["put the red ball in front of you next to the blue box in front of you"] * 2)] * 2
    )
    for mission in ("", "open the door", "get the red key from the grey room, unlock the red door", longest):
        tokens = tokenize_mission(mission)
        assert tokens.shape == (MISSION_LENGTH,) and tokens.dtype == np.int32
        assert detokenize_mission(tokens) == mission
    assert np.all(tokens > 0)
    assert tokenize_mission("Open, zebra!")[:5].tolist() == [tokenize_mission("open")[0], 2, 1, 1, 0]
    assert detokenize_mission(tokenize_mission("open zebra")) == "open <unknown>"
    with pytest.raises(ValueError, match="at most 72 words, got 73"):
        tokenize_mission("go " * 73)
    with pytest.raises(ValueError, match="Tokens are integers"):
        detokenize_mission(np.array([NUM_MISSION_TOKENS]))


# gymnasium says of some registered ids that there is a newer version.
@pytest.mark.filterwarnings("ignore:.*is out of date:DeprecationWarning")
def test_the_vocabulary_covers_every_mission_space_and_babyai_s_grammar():
    assert len(set(MISSION_WORDS)) == len(MISSION_WORDS) == NUM_MISSION_TOKENS - 2
    used = set()
    for id in minigrid_ids():
        entry = gymnasium.spec(id)
        # BabyAI's grammar and the mission of the WFC ids, which need packages of their own, stand below.
        if "babyai" in str(entry.entry_point) or "-WFC-" in id:
            continue
        space = gymnasium.make(id, disable_env_checker=True).observation_space["mission"]
        choices = space.ordered_placeholders or []
        for words in [[c[i % len(c)] for c in choices] for i in range(8)]:
            used |= set(re.findall(r"\w+|,", space.mission_func(*words)))
    grammar = (
        "go to pick up open put next to the a object box ball key door on your left right in front of you "
        "behind and , then after"
    )
    used |= set(grammar.split()) | set(COLOR_NAMES) | set("traverse the maze to get to the goal".split())
    assert used == set(MISSION_WORDS)
