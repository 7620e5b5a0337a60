import importlib.util
import json

import jax
import pytest
from limbeck.envs import describe, environment_names, make


def test_names_are_those_of_the_paper_s_environments_and_of_the_installed_extras():
    extras = ["xland"] if importlib.util.find_spec("xminigrid") else []
    assert environment_names() == [
        "adversarial_bandit", "beeping_box", "dark_key_to_door", "dark_room", "dark_room_hard", "rooms", "screens",
        *extras,
    ]  # fmt: skip
    assert all(make(name).name == name for name in environment_names())


def test_the_hard_room_has_17_by_17_cells_and_pays_once():
    hard = make("dark_room_hard")
    assert (hard.size, hard.once, hard.max_steps, hard.num_tasks) == (17, True, 20, 289)


def test_environments_with_the_same_settings_are_equal_and_share_what_was_compiled():
    assert make("dark_room") == make("dark_room") and hash(make("dark_room")) == hash(make("dark_room"))
    assert make("dark_room") != make("dark_room", max_steps=5)
    assert make("dark_room") != make("dark_key_to_door")
    assert make("adversarial_bandit") != make("adversarial_bandit", split="held_out")


def test_arguments_replace_defaults():
    assert make("dark_room_hard", size=5).num_tasks == 25
    assert make("dark_key_to_door", max_steps=7).max_steps == 7


@pytest.mark.parametrize("name", ["adversarial_bandit", "dark_key_to_door", "dark_room", "dark_room_hard"])
def test_descriptions_are_json_and_say_what_the_environment_is(name):
    fields = json.loads(json.dumps(describe(name)))
    environment = make(name)
    assert fields["name"] == name and fields["description"]
    assert fields["max_steps"] == environment.max_steps and fields["num_tasks"] == environment.num_tasks
    assert fields["specs"]["action"]["num_values"] == environment.action_spec().num_values
    assert fields["specs"]["observation"]["shape"] == list(environment.observation_spec().shape)
    assert make(name, **fields["arguments"]).max_steps == environment.max_steps


@pytest.mark.parametrize("name", ["adversarial_bandit", "dark_key_to_door", "dark_room", "dark_room_hard"])
def test_everything_runs_vmapped_under_jit_and_meets_its_specs(name):
    environment = make(name)
    keys = jax.random.split(jax.random.key(0), 3)

    @jax.jit
    def run(keys):
        tasks = jax.vmap(environment.sample_task)(keys)
        states, _ = jax.vmap(environment.reset)(keys, tasks)
        actions = jax.numpy.arange(3)
        states, timesteps = jax.vmap(environment.step)(keys, tasks, states, actions)
        return (
            tasks,
            timesteps,
            jax.vmap(environment.markov_observation)(states),
            jax.vmap(environment.bounds)(tasks),
        )

    tasks, timesteps, markov, bounds = jax.device_get(run(keys))
    for i in range(3):
        environment.task_spec().validate(tasks[i])
        environment.observation_spec().validate(timesteps.observation[i])
        environment.markov_spec().validate(markov[i])
        environment.reward_spec().validate(timesteps.reward[i])
        environment.discount_spec().validate(timesteps.discount[i])
        assert bounds[0][i] <= bounds[1][i]


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(
        ValueError, match=r"no environment 'dark_rom'; did you mean dark_room .*Known: adversarial_bandit"
    ):
        make("dark_rom")
    with pytest.raises(ValueError, match="no environment 'x'; Known"):
        describe("x")


def test_an_unknown_argument_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="dark_room has no argument 'sise'; did you mean size"):
        make("dark_room", sise=9)
