"""Evaluation and play on the host are the compiled evaluation."""

import dm_env
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.agents import Agent
from limbeck.distillation import ModelConfig, Player, evaluate, evaluate_hosted, in_context_agent
from limbeck.encoders import TransformerConfig
from limbeck.envs import DarkRoom, gymnasium_to_dm_env, task_at, to_dm_env, to_gymnasium


ROOM = DarkRoom(size=3, max_steps=5)
IDS = np.array([4, 1])
SEEDS, EPISODES = 2, 4


@pytest.fixture(scope="module")
def model():
    trunk = TransformerConfig(num_layers=1, d_model=16, num_heads=2, feed_forward=16)
    config = ModelConfig(trunk, window=7)
    agent = in_context_agent(config, ROOM.observation_spec(), ROOM.action_spec(), ROOM.max_steps)
    params = agent.init(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), len(jax.tree.leaves(params)))
    leaves = [
        p + 0.5 * jax.random.normal(k, p.shape) for p, k in zip(jax.tree.leaves(params), keys, strict=True)
    ]
    return agent, jax.tree.unflatten(jax.tree.structure(params), leaves)


@pytest.fixture(scope="module")
def compiled(model):
    return evaluate(*model, ROOM, task_at(ROOM, IDS), IDS, jax.random.key(3), EPISODES, SEEDS)


def rooms():
    return [[to_dm_env(ROOM, jnp.int32(task), seed) for seed in range(SEEDS)] for task in IDS]


@pytest.mark.parametrize("control", [None, "rewards_zeroed", "context_cleared"])
def test_the_host_is_the_scan(model, compiled, control):
    if control is not None:
        compiled = evaluate(
            *model, ROOM, task_at(ROOM, IDS), IDS, jax.random.key(3), EPISODES, SEEDS, control
        )
    steps = []
    out = evaluate_hosted(
        *model,
        rooms(),
        jax.random.key(3),
        EPISODES,
        task_ids=IDS,
        optimal=[1, 2],
        control=control,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert len(np.unique(compiled.returns)) > 1
    np.testing.assert_array_equal(out.returns, compiled.returns)
    np.testing.assert_array_equal(out.task_ids, IDS)
    assert np.isnan(out.random).all() and out.optimal.tolist() == [1, 2]
    assert steps == [(i + 1, EPISODES) for i in range(EPISODES)]


def test_a_player_in_a_dm_env_loop_is_stream_0(model, compiled):
    player, room = Player(*model, seed=3), to_dm_env(ROOM, jnp.int32(IDS[0]))
    for again in range(2):
        returns = []
        for _ in range(EPISODES):
            timestep, total = room.reset(), 0.0
            while True:
                action = player.step(timestep)
                if timestep.last():
                    break
                timestep = room.step(action)
                total += timestep.reward
            assert action is None
            returns.append(total)
        np.testing.assert_array_equal(returns, compiled.returns[0, 0], err_msg=f"play {again}")
        player.reset()


def test_a_player_in_a_gymnasium_loop_is_stream_0(model, compiled):
    player, room = Player(*model, seed=3), to_gymnasium(ROOM, jnp.int32(IDS[0]))
    returns = []
    for _ in range(EPISODES):
        observation, _ = room.reset()
        total, done = 0.0, False
        while not done:
            observation, reward, terminated, truncated, _ = room.step(player.action(observation))
            player.observe(reward, terminated, truncated)
            total, done = total + reward, terminated or truncated
        returns.append(total)
    np.testing.assert_array_equal(returns, compiled.returns[0, 0])


class Countdown(gymnasium.Env):
    """Its n-th episode has n steps, pays its number on each, and terminates where n is odd."""

    observation_space = gymnasium.spaces.Discrete(50)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self):
        self.episode = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.time = self.episode + 1, 0
        return 0, {}

    def step(self, action):
        self.time += 1
        over = self.time == self.episode
        odd = self.episode % 2 == 1
        return self.time, float(self.episode), over and odd, over and not odd, {}


def recorder(seen):
    """Acts 0 and keeps what it was shown."""

    def act(params, memory, key, timestep, mode):
        jax.debug.callback(lambda *x: seen.append([float(v) for v in x]), *timestep, ordered=False)
        return jnp.int32(0), (), memory

    return Agent(lambda key: (), lambda: (), act, lambda *_: None)


def test_episodes_of_unequal_length():
    seen = []
    out = evaluate_hosted(recorder(seen), (), [[gymnasium_to_dm_env(Countdown())]], jax.random.key(0), 3)
    jax.effects_barrier()
    np.testing.assert_array_equal(out.returns, [[[1, 4, 9]]])
    np.testing.assert_array_equal(out.task_ids, [0])
    # step_type, reward, discount, observation: the merged stream, as the compiled one.
    assert seen == [[0, 0, 1, 0], [2, 1, 0, 0], [1, 2, 1, 1], [2, 2, 1, 0], [1, 3, 1, 1], [1, 3, 1, 2]]


def test_a_gymnasium_id():
    gymnasium.register("LimbeckCountdown-v0", Countdown, disable_env_checker=True)
    try:
        agent = recorder([])
        out = evaluate_hosted(agent, (), "LimbeckCountdown-v0", jax.random.key(0), 2, seeds=3)
        np.testing.assert_array_equal(out.returns, np.tile([1, 4], (1, 3, 1)))
        with pytest.raises(ValueError, match="how many"):
            evaluate_hosted(agent, (), "LimbeckCountdown-v0", jax.random.key(0), 2)
    finally:
        gymnasium.registry.pop("LimbeckCountdown-v0")


def test_wrong_groups_are_refused(model):
    room: dm_env.Environment = to_dm_env(ROOM, jnp.int32(0))
    with pytest.raises(ValueError, match="given twice"):
        evaluate_hosted(*model, [[room, room]], jax.random.key(0), 1)
    with pytest.raises(ValueError, match="same number"):
        evaluate_hosted(*model, [[room], []], jax.random.key(0), 1)
