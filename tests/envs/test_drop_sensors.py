"""Sensors that are missing for whole episodes: how often, what is left, and the same for every kind of environment."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dm_env import specs
from gymnasium.utils.env_checker import check_env
from limbeck.envs import (
    AutoReset,
    DropSensors,
    Hosted,
    HostStreams,
    SampledTasks,
    make,
    make_hosted,
    restart,
    to_dm_env,
    to_gymnasium,
    to_gymnasium_vector,
    transition,
)


class Noise:
    """A pure-JAX environment of four steps, of which nothing is heard or seen but noise."""

    name, max_steps, num_tasks = "noise", 4, 2

    def sample_task(self, key):
        return jax.random.randint(key, (), 0, 2, jnp.int32)

    def reset(self, key, task):
        return jnp.int32(0), restart(self._observe(key, task))

    def step(self, key, task, state, action):
        return state + 1, transition(self._observe(key, task), 1.0, False, state == 3)

    def _observe(self, key, task):
        audio = 1 + jax.random.uniform(key, (5,))
        return {"audio": audio, "direction": task + 1, "symbols": (9 * audio).astype(jnp.uint8)}

    def markov_observation(self, state):
        return state

    def task_spec(self):
        return specs.BoundedArray((), np.int32, 0, 1, "task")

    def observation_spec(self):
        return {
            "symbols": specs.BoundedArray((5,), np.uint8, 1, 20, "symbols"),
            "direction": specs.DiscreteArray(3, name="direction"),
            "audio": specs.Array((5,), np.float32, "audio"),
            "label": specs.StringArray(()),
        }


ROOM = Noise()
PROBABILITIES = {"audio": 0.3, "direction": 0.6, "symbols": 0.0}
BOX = {"size": 6, "boxes": 2, "max_steps": 3}
TURNS = 0  # turns left end no episode


def stream(environment, copies, steps):
    """Time-steps `[steps, copies, …]` of turns, the first ones included."""
    wrapped = AutoReset(environment)

    @jax.jit
    def run(key):
        keys = jax.random.split(key, copies)
        tasks = jax.vmap(environment.sample_task)(keys)
        states, first = jax.vmap(wrapped.reset)(keys, tasks)

        def step(states, key):
            actions = jnp.zeros(copies, jnp.int32)
            return jax.vmap(wrapped.step)(jax.random.split(key, copies), tasks, states, actions)

        timesteps = jax.lax.scan(step, states, jax.random.split(key, steps))[1]
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, timesteps)

    return jax.device_get(run(jax.random.key(0)))


@pytest.fixture(scope="module")
def streams():
    """With and without dropping, from the same keys."""
    return stream(DropSensors(ROOM, PROBABILITIES), 300, 39), stream(ROOM, 300, 39)


def test_each_sensor_is_dropped_with_its_probability_for_whole_episodes(streams):
    dropped, _ = streams
    flags = {name: dropped.observation[f"{name}_present"] for name in PROBABILITIES}
    episodes = {name: flag.reshape(10, 4, 300) for name, flag in flags.items()}
    for name, probability in PROBABILITIES.items():
        assert np.all(episodes[name] == episodes[name][:, :1])
        share = 1 - episodes[name][:, 0].mean()
        assert abs(share - probability) <= 4 * np.sqrt(probability * (1 - probability) / 3000)
    both = (~episodes["audio"] & ~episodes["direction"])[:, 0].mean()
    assert abs(both - 0.18) < 4 * np.sqrt(0.18 * 0.82 / 3000)
    # From one episode to the next too.
    repeated = (episodes["audio"][1:, 0] == episodes["audio"][:-1, 0]).mean()
    assert abs(repeated - (0.3**2 + 0.7**2)) < 4 * np.sqrt(0.58 * 0.42 / 2700)


def test_what_is_dropped_is_zeros_and_all_else_is_as_without(streams):
    dropped, plain = streams
    for name in PROBABILITIES:
        there = dropped.observation[f"{name}_present"]
        shown, whole = dropped.observation[name], plain.observation[name]
        assert shown.dtype == whole.dtype
        assert np.array_equal(shown[there], whole[there]) and not shown[~there].any()
    for name in ("reward", "discount", "step_type"):
        assert np.array_equal(getattr(dropped, name), getattr(plain, name))


def test_a_dead_sensor_and_one_that_never_fails():
    played = stream(DropSensors(ROOM, {"audio": 1, "symbols": 0}), 40, 11).observation
    assert not played["audio"].any() and not played["audio_present"].any()
    assert played["symbols_present"].all() and played["symbols"].any() and "direction_present" not in played


def test_specs_are_the_same_whatever_is_dropped():
    environment = DropSensors(ROOM, {"audio": 0.5, "direction": 0.5})
    spec = environment.observation_spec()
    assert list(spec) == ["symbols", "direction", "audio", "label", "audio_present", "direction_present"]
    assert spec["audio_present"] == specs.Array((), np.bool_, "audio_present")
    bounds = DropSensors(ROOM, {"symbols": 0.5}).observation_spec()["symbols"]
    assert np.all(bounds.minimum == 0) and np.all(bounds.maximum == 20)  # so that zeros lie within
    state, timestep = environment.reset(jax.random.key(0), jnp.int32(0))
    for name in timestep.observation:
        spec[name].validate(np.asarray(timestep.observation[name]))
    assert environment.name == "noise" and environment.num_tasks == 2
    assert environment.markov_observation(state) == state.inner
    assert (
        DropSensors(ROOM, {"audio": 0.5})
        == DropSensors(ROOM, {"audio": 0.5})
        != DropSensors(ROOM, {"audio": 1})
    )


def test_tasks_that_are_drawn_and_success_are_still_told():
    room = make("rooms", size=5, objects=1, max_steps=2, views=("symbols", "text"))
    for environment in (
        SampledTasks(DropSensors(room, {"text": 1})),
        DropSensors(SampledTasks(room), {"text": 1}),
    ):
        hosted = to_dm_env(environment, seed=4)
        assert not hosted.reset().observation["text"].any()
        assert hosted.goal.startswith("facing a")
        hosted.step(6)
        hosted.step(6)
        assert hosted.success() is False


def test_hosted_is_the_same_as_pure_jax_one_by_one_and_together():
    dropped = {"audio": 0.5, "symbols": 0.5}
    together = HostStreams([make_hosted("beeping_box", seed, dropped=dropped, **BOX) for seed in range(4)])
    room = DropSensors(make("beeping_box", **BOX), dropped)
    alone = [to_dm_env(room, seed=seed) for seed in range(4)]
    plain = [make_hosted("beeping_box", seed, **BOX) for seed in range(4)]
    seen = [[environment.reset() for environment in group] for group in (alone, plain)]
    shown = set()
    for _ in range(12):
        for i in range(4):
            mine, bare = seen[0][i].observation, seen[1][i].observation
            for name, value in mine.items():
                np.testing.assert_allclose(together.timestep.observation[name][i], value, atol=1e-6)
            for name in dropped:
                there = bool(mine[f"{name}_present"])
                np.testing.assert_allclose(mine[name], bare[name] * there, atol=1e-6)
                shown.add((name, there))
        together.step(np.zeros(4, np.int32))
        seen = [[begin(e, e.step(TURNS)) for e in group] for group in (alone, plain)]
    assert len(shown) == 4


def begin(environment, timestep):
    """The first time-step of the next episode where one has ended."""
    return environment.reset() if timestep.last() else timestep


def test_hosted_minigrid_drops_the_same_way():
    name, views = "MiniGrid-DoorKey-5x5-v0", ("symbols", "direction", "text", "audio")
    make_one = {"views": views, "max_steps": 2}
    dropping = make_hosted(name, 7, dropped={"audio": 0.3, "direction": 1.0}, **make_one)
    plain = make_hosted(name, 7, **make_one)
    spec, flags, rng = dropping.observation_spec(), [], np.random.default_rng(0)
    assert set(spec) == {*views, "audio_present", "direction_present"}
    for _ in range(400):
        mine, theirs = dropping.reset(), plain.reset()
        flags.append(bool(mine.observation["audio_present"]))
        while True:
            for key, part in spec.items():
                part.validate(mine.observation[key])
            assert (
                mine.observation["audio_present"] == flags[-1] and not mine.observation["direction_present"]
            )
            assert np.array_equal(mine.observation["audio"], theirs.observation["audio"] * flags[-1])
            assert mine.observation["direction"] == 0
            assert np.array_equal(mine.observation["symbols"], theirs.observation["symbols"])
            if mine.last():
                break
            action = int(rng.integers(7))
            mine, theirs = dropping.step(action), plain.step(action)
    assert abs(np.mean(flags) - 0.7) < 4 * np.sqrt(0.21 / 400)
    assert dropping.success() == plain.success() and dropping.mission == plain.mission

    def drawn(environment):  # by steps alone: one after a last one begins an episode
        return [bool(environment.step(0).observation["audio_present"]) for _ in range(60)]

    again = make_hosted(name, 7, dropped={"audio": 0.3, "direction": 1.0}, **make_one)
    assert drawn(again)[::3] == flags[:20]
    again.reseed(7)
    assert drawn(again)[::3] == flags[:20]
    other = make_hosted(name, 8, dropped={"audio": 0.3, "direction": 1.0}, **make_one)
    assert drawn(other)[::3] != flags[:20]
    assert isinstance(again, Hosted)
    assert not hasattr(make_hosted("CartPole-v1"), "mission")


# gymnasium wants Discrete observations to be int64; `direction` is int32 like every integer that JAX is given.
@pytest.mark.filterwarnings("ignore:.*environment not having a spec")
@pytest.mark.filterwarnings("ignore:.*should be an int or np.int64")
def test_gymnasium_takes_flags():
    environment = DropSensors(make("beeping_box", **BOX), {"audio": 0.5})
    check_env(to_gymnasium(environment, task=0), skip_render_check=True)
    vector = to_gymnasium_vector(environment, 3)
    observations, _ = vector.reset(seed=0)
    assert vector.observation_space.contains(observations)


@pytest.mark.parametrize(
    ("probabilities", "match"),
    [
        ({"smell": 0.5}, "no key 'smell' to drop; the observation has the keys symbols, direction, audio"),
        ({"audio": 1.5}, r"'audio' is dropped with a probability in \[0, 1\], got 1.5"),
        ({"audio": -0.1}, "got -0.1"),
        ({"audio": float("nan")}, "got nan"),
        ({"audio": "often"}, "got 'often'"),
        ({}, "Which sensors are dropped"),
    ],
)
def test_what_cannot_be_dropped_is_refused(probabilities, match):
    with pytest.raises(ValueError, match=match):
        DropSensors(make("beeping_box"), probabilities)
    with pytest.raises(ValueError, match=match):
        make_hosted("MiniGrid-Empty-5x5-v0", views=("symbols", "direction", "audio"), dropped=probabilities)


def test_other_mistakes_are_refused():
    with pytest.raises(ValueError, match="observation has no keys: BoundedArray"):
        DropSensors(make("dark_room"), {"position": 0.5})
    with pytest.raises(ValueError, match="'label' holds no array of numbers"):
        DropSensors(ROOM, {"label": 0.5})
    with pytest.raises(ValueError, match="has 'audio_present' already"):
        DropSensors(DropSensors(ROOM, {"audio": 0.5}), {"audio": 0.5})
    with pytest.raises(ValueError, match="put AutoReset around DropSensors"):
        DropSensors(AutoReset(ROOM), {"audio": 0.5})
