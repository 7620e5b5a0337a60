"""Goals and facts: words and back, truth by hand, and the split of objects."""

import itertools

import numpy as np
import pytest
from limbeck.envs import (
    OBJECTS,
    Facts,
    Goal,
    facts_of,
    is_true,
    make,
    minigrid,
    parse_goal,
    split_goals,
    split_tasks,
    tokenize_goal,
)
from limbeck.envs.goals import GOAL_WORDS
from minigrid.core.world_object import Ball, Box, Door, Key


RED_KEY, BLUE_BALL, GREY_BOX = ("red", "key"), ("blue", "ball"), ("grey", "box")
ONE = [Goal(predicate, *thing) for predicate in ("face", "hold") for thing in OBJECTS]
TWO = [Goal("next_to", *a, *b) for a, b in itertools.permutations(OBJECTS, 2)]


def test_texts():
    goal = Goal("next_to", "red", "ball", "blue", "box")
    assert goal.text() == "a red ball next to a blue box"
    assert goal.text("imperative") == "put a red ball next to a blue box"
    assert Goal("face", "red", "ball").text("imperative") == "go to a red ball"
    assert Goal("hold", "red", "key").text("state") == "holding a red key"
    with pytest.raises(ValueError, match="style is one of state, imperative, got 'loud'"):
        goal.text("loud")


@pytest.mark.parametrize("style", ["state", "imperative"])
def test_texts_are_read_back(style):
    texts = [goal.text(style) for goal in ONE + TWO]
    assert len(set(texts)) == len(texts) == 36 + 306
    assert [parse_goal(text) for text in texts] == ONE + TWO


def test_missions_are_read_and_other_texts_are_not():
    assert parse_goal(" Pick up the  grey box. ") == Goal("hold", "grey", "box")
    for text in ("holding nothing", "facing a pink ball", "holding a red key and facing a blue ball", ""):
        with pytest.raises(ValueError, match="is not a goal. Goals read 'facing a red key'"):
            parse_goal(text)
    with pytest.raises(ValueError, match="two different objects"):
        parse_goal("a red key next to a red key")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("near", "red", "key"), "one of face, hold, next_to, got 'near'"),
        (("hold", "pink", "key"), r"got \('pink', 'key'\)"),
        (("hold", "red", "door"), r"got \('red', 'door'\)"),
        (("next_to", "red", "key"), r"got \('', ''\)"),
        (("face", "red", "key", "red", "ball"), "about one object"),
    ],
)
def test_goals_that_cannot_be(fields, message):
    with pytest.raises(ValueError, match=message):
        Goal(*fields)


def test_truth_by_hand():
    facts = Facts(
        RED_KEY, BLUE_BALL, frozenset({(BLUE_BALL, GREY_BOX)}), frozenset({RED_KEY, BLUE_BALL, GREY_BOX})
    )
    true = {goal for goal in ONE + TWO if is_true(goal, facts)}
    assert true == {
        Goal("hold", *RED_KEY),
        Goal("face", *BLUE_BALL),
        Goal("next_to", *BLUE_BALL, *GREY_BOX),
        Goal("next_to", *GREY_BOX, *BLUE_BALL),
    }


def empty_world():
    """An empty 8x8 room with the agent in its middle that looks up."""
    environment = minigrid("MiniGrid-Empty-8x8-v0", seed=0, views="symbols")
    environment.reset()
    world = environment._grid_world
    world.agent_pos, world.agent_dir, world.see_through_walls = (3, 4), 3, False
    return environment, world


def test_facts_of_a_world_made_by_hand():
    environment, world = empty_world()
    assert facts_of(environment) == Facts(None, None, frozenset(), frozenset())
    world.grid.set(3, 3, Key("red"))
    world.grid.set(2, 3, Ball("blue"))
    world.grid.set(2, 2, Box("grey"))
    world.grid.set(4, 2, Ball("green"))  # a diagonal is not beside
    world.grid.set(1, 5, Ball("yellow"))  # behind the agent
    world.grid.set(2, 5, Box("yellow"))
    world.grid.set(2, 4, Key("purple"))  # beside the agent, and below the blue ball
    world.carrying = Box("red")
    facts = facts_of(environment)
    assert (facts.holding, facts.facing) == (("red", "box"), RED_KEY)
    assert facts.pairs == {(RED_KEY, BLUE_BALL), (BLUE_BALL, GREY_BOX), (BLUE_BALL, ("purple", "key"))}
    seen = {RED_KEY, BLUE_BALL, GREY_BOX, ("green", "ball"), ("purple", "key"), ("red", "box")}
    assert facts.visible == seen
    assert facts == facts_of(world)


def test_what_is_faced_may_be_no_object():
    environment, world = empty_world()
    world.grid.set(3, 3, Door("red", is_locked=True))
    assert facts_of(environment).facing == ("grey", "thing")
    world.agent_pos = (1, 1)
    assert facts_of(environment).facing == ("grey", "wall")
    # A closed door hides what is behind it.
    world.agent_pos, world.agent_dir = (1, 1), 0
    for y in range(1, 7):
        world.grid.set(2, y, Door("red"))
    world.grid.set(3, 1, Ball("blue"))
    assert not facts_of(environment).visible


def test_facts_need_a_world():
    with pytest.raises(ValueError, match="read from a MiniGrid environment, got <limbeck"):
        facts_of(make("dark_room"))
    with pytest.raises(ValueError, match="before the first reset"):
        facts_of(minigrid("MiniGrid-Empty-8x8-v0"))


def test_the_split_is_that_of_task_ids_and_nested():
    train, held_out = split_goals(0, 4)
    assert len(held_out) == 4 and train | held_out == set(OBJECTS) and not train & held_out
    assert held_out == {OBJECTS[i] for i in split_tasks(18, 4, 0).held_out}
    assert split_goals(0, 3)[1] < held_out and split_goals(1, 4)[1] != held_out
    with pytest.raises(ValueError, match="can be held out"):
        split_goals(0, 18)


def test_tokens_are_the_words():
    goal = TWO[100]
    assert " ".join(GOAL_WORDS[token - 1] for token in tokenize_goal(goal)) == goal.text()
    assert tokenize_goal(ONE[20]).tolist()[4:] == [0] * 4
    assert np.array_equal(tokenize_goal(Goal("hold", "red", "box")), [3, 1, 6, 14, 0, 0, 0, 0])
