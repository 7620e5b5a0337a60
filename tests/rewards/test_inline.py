"""Rewards by a model in the environment loop: of one environment, and of many whose frames it sees together."""

from typing import Any

import dm_env
import jax
import numpy as np
import pytest
from limbeck.envs import HostStreams, make_hosted
from limbeck.rewards import InlineReward, InlineStreams, goal_of

from .toy_corridor import Corridor, Counting, green


def play(environment: InlineReward) -> tuple[int, dm_env.TimeStep]:
    """The steps of an episode, and its last time-step."""
    environment.reset()
    steps = 1
    while not (timestep := environment.step(0)).last():
        assert (timestep.reward, timestep.discount) == (0.0, 1.0)
        steps += 1
    return steps, timestep


def test_inline_rewards_end_the_episode_and_keep_the_truth():
    environment = InlineReward(Corridor(), green)
    assert environment.goal == "see green" and environment.reward_spec().maximum == 1.0
    # The green frame of episode k comes after 2 + 3 k % 11 steps, the environment's end after 7.
    for length, reward in ((2, 1.0), (5, 1.0), (7, 0.0), (7, 0.0), (3, 1.0)):
        steps, last = play(environment)
        assert (steps, last.reward, last.discount) == (length, reward, 1.0 - reward)
        assert environment.true_return == 0.125 * length
        # Before its own end the environment's fact is of an earlier episode.
        assert environment.success() == (length == 7 and environment.episode % 2 == 0)
    assert environment.step(0).first()  # As any environment after its last step.


def follow(streams: HostStreams, steps: int, actions: int) -> list:
    rng, shown = np.random.default_rng(0), []
    for _ in range(steps):
        shown.append((streams.step(rng.integers(0, actions, len(streams))), streams.next_observation))
    return [shown, streams.take_episodes()]


ROOM: dict[str, Any] = {"family": "find", "size": 5, "objects": 3, "max_steps": 9}


def drawn(frames: np.ndarray, goals: Any) -> np.ndarray:
    """1 for some frames and goals, as good as drawn."""
    return np.array([(int(f.sum()) + len(goal)) % 7 == 0 for f, goal in zip(frames, goals)], np.float32)


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: Corridor(),
        # Those step together, draw a goal for each episode, and know at any time whether it was reached.
        lambda seed: make_hosted("rooms", seed, task="sampled", reward="none", **ROOM),
    ],
)
def test_streams_that_are_paid_together_are_those_paid_one_by_one(make):
    """Time-steps, final observations and episodes with their successes: all the same, to the type."""
    model = green if isinstance(make(0), Corridor) else drawn
    one = HostStreams([InlineReward(make(seed), model) for seed in range(3)])
    calls = Counting(model)
    together = InlineStreams([make(seed) for seed in range(3)], calls)
    expected, found = follow(one, 60, 3), follow(together, 60, 3)
    jax.tree.map(np.testing.assert_array_equal, expected[0], found[0])
    assert jax.tree.map(lambda leaf: leaf.dtype, expected[0]) == jax.tree.map(
        lambda leaf: leaf.dtype, found[0]
    )
    assert found[1] == expected[1] and len(found[1]) > 20 and len(calls.frames) == 180
    assert {step.discount[0] for step, _ in found[0]} == {0.0, 1.0}
    assert {episode.success for episode in found[1]} == {True, False}


def test_inline_streams_tell_success_by_the_true_return_where_nothing_else_does():
    class Silent(Corridor):
        success = None

        def step(self, action):
            return super().step(action)._replace(reward=0.125 if self.episode == 0 else 0.0)

    # Two episodes, hit after 2 and 5 steps, of which the first truly pays.
    streams = InlineStreams([Silent()], green)
    for _ in range(7):
        streams.step(np.zeros(1, int))
    assert streams.take_episodes() == [(0, 1.0, 2, True), (0, 1.0, 5, False)]
    with pytest.raises(ValueError, match="threshold must lie"):
        InlineStreams([Silent()], green, threshold=2.0)


def test_an_environment_without_a_goal_is_refused():
    class Aimless(Corridor):
        goal = None

    with pytest.raises(ValueError, match="has no goal for a reward model"):
        goal_of(Aimless())
    with pytest.raises(ValueError, match="goal is a int"):
        goal_of(type("Odd", (Corridor,), {"goal": 3})())
    assert goal_of(type("Told", (Corridor,), {"goal": lambda self: "told"})()) == "told"
    assert goal_of(type("Minded", (Corridor,), {"goal": None, "mission": "go"})()) == "go"
