"""The settings of jobs: there and back, what is refused before anything starts, and the arithmetic of steps."""

import dataclasses
import importlib.util
import json
import pathlib

import jax
import pytest
from limbeck.agents import ALGORITHMS, ReplayPlan
from limbeck.agents.dqn import DQNConfig
from limbeck.launchers import command_line
from limbeck.launchers.job_config import (
    JobConfig,
    JobEvaluationConfig,
    find_algorithm,
    job_config,
    job_from_settings,
)
from limbeck.launchers.jobs import experience_table, job_program, parts
from limbeck.launchers.runs import as_settings


HOSTED = [name for name, algorithm in ALGORITHMS.items() if algorithm.replay is not None]

OWN = """
from limbeck.agents import Algorithm, ReplayPlan, a2c, A2CConfig

def algorithm():
    return Algorithm(a2c, A2CConfig, "A2C of one's own.", ReplayPlan("queue", 8, 8, 4, max_size=8))

def compiled():
    return Algorithm(a2c, A2CConfig, "Learns only compiled.")

def number():
    return 7
"""


@pytest.fixture
def own(tmp_path, monkeypatch) -> pathlib.Path:
    """A module of the user's own in the current directory."""
    (tmp_path / "limbeck_test_own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


# There and back.


@pytest.mark.parametrize("agent", HOSTED)
def test_settings_there_and_back(agent):
    config = job_config(
        "MiniGrid-DoorKey-5x5-v0",
        agent,
        replay={"batch": 8},
        env_arguments={"max_steps": 70, "x": 0.5, "views": "symbols", "flag": True},
        torso="dictionary",
        torso_arguments={"deep": True},
        dropped={"symbols": 0.25},
        target_success=0.9,
        evaluation=JobEvaluationConfig(episodes=3, mode="explore"),
        history_steps=100,
        seed=3,
    )
    settings = as_settings(config)
    assert json.loads(json.dumps(settings)) == settings
    again = job_from_settings(settings)
    assert again == config
    assert type(again.settings) is ALGORITHMS[agent].config and type(again.replay) is ReplayPlan
    assert job_from_settings(as_settings(job_config("CartPole-v1", agent))) == job_config(
        "CartPole-v1", agent
    )


def test_the_algorithm_says_what_its_settings_are_in_jobs():
    config = job_config("CartPole-v1", "dqn", settings={"gamma": 0.5}, replay={"min_size": 7})
    # Not the compiled learner's, where the two differ: many actors explore on a ladder.
    assert ALGORITHMS["dqn"].hosted == {"epsilon_end": 0.4, "ladder": 7.0}
    assert config.settings == DQNConfig(gamma=0.5, epsilon_end=0.4, ladder=7.0)
    plan = ALGORITHMS["dqn"].replay
    assert plan is not None and config.replay == dataclasses.replace(plan, min_size=7)
    assert job_config("CartPole-v1", "dqn", settings={"ladder": 0.0}).settings.ladder == 0.0


def test_settings_of_another_version_are_told():
    settings = as_settings(job_config("CartPole-v1", "ppo"))
    for change in ({"unheard_of": 1}, {"settings": {**settings["settings"], "unheard_of": 1}}):
        with pytest.raises(ValueError, match="not of this version of Limbeck: .*unheard_of"):
            job_from_settings({**settings, **change})
    del settings["agent"]
    with pytest.raises(ValueError, match="not of this version of Limbeck: 'agent'"):
        job_from_settings(settings)


# Agents of one's own.


def test_an_algorithm_of_ones_own(own):
    name = "limbeck_test_own:algorithm"
    config = job_config("CartPole-v1", name, settings={"gamma": 0.5})
    assert config.settings.gamma == 0.5 and config.replay.batch == 4
    assert job_from_settings(as_settings(config)) == config
    assert parts(config).table.signature["action"] == ((8,), "int32")
    with pytest.raises(ValueError, match="says nothing of replay: it learns only compiled"):
        find_algorithm("limbeck_test_own:compiled")
    with pytest.raises(ValueError, match=r"returned a int; expected a limbeck.agents.Algorithm"):
        find_algorithm("limbeck_test_own:number")


# What is refused, in one line and before anything is begun.


@pytest.mark.replay
@pytest.mark.skipif(importlib.util.find_spec("reverb") is None, reason="Without Reverb no job is begun")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--agent", "pqo"], "There is no agent 'pqo'; known for jobs: a2c, dqn, impala, muesli, ppo, r2d2, or"),
        (["--agent", "q_learning"], "q_learning says nothing of replay: it learns only compiled, not in jobs"),
        (["--agent", "no_such_module:x"], "there is no module no_such_module"),
        (["--agent", "limbeck_test_own:nothing"], "limbeck_test_own has no function nothing"),
        (["--agent", "limbeck_test_own:number"], "expected a limbeck.agents.Algorithm"),
        (["--env", "MiniGrid-DorKey-5x5-v0"], "MiniGrid-DoorKey-5x5-v0"),
        (["--env", "CartPool-v1"], "There is no environment 'CartPool-v1'. Did you mean CartPole-v1"),
        (["--env", "no_such_module:make"], "No module named 'no_such_module'"),
        (["--torso", "mlq"], "Did you mean 'mlp'"),
        (["--torso-arguments", "deep", "True"], "torso_arguments are of a torso: give torso too"),
        (["--env", "beeping_box", "--dropped", "audio", "1.5"], "probability in [0, 1], got 1.5"),
        (["--torso", "dictionary", "--torso-arguments", "dep", "True"], "Did you mean 'deep'"),
        (["--actors", "0"], "actors must be at least 1, got 0"),
        (["--target-success", "1.5"], "target_success must lie in (0, 1], got 1.5"),
        (["--replay.batch", "17"], "A queue of 16 items never holds a batch of 17"),
        (["--agent", "dqn", "--replay.min-size", "2"], "error_buffer = 16"),
        (["--agent", "dqn", "--replay.max-size", "50"], "min_size must be at most max_size (50), got 100"),
        (["--settings.unheard-of", "1"], "--settings.unheard-of"),
        (["--launcher", "slurm"], "slurm"),
        (["--name", "../elsewhere"], "expected letters, digits"),
    ],
)  # fmt: skip
def test_one_line_for_what_the_user_can_mend(own, capsys, arguments, message):
    given = ["run", "minigrid", "--runs-dir", str(own / "runs"), "--name", "refused", *arguments]
    assert command_line.main(given) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1, err
    assert message in err
    assert not (own / "runs").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"environments": 0}, "environments must be at least 1"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"history_steps": -1}, "history_steps must be at least 0"),
        ({"checkpoint_every_s": 0.5}, "checkpoint_every_s must be at least 1"),
        ({"evaluation": JobEvaluationConfig(episodes=0)}, "evaluation.episodes must be at least 1"),
        ({"evaluation": JobEvaluationConfig(every_s=-1.0)}, "evaluation.every_s must be at least 0"),
        ({"target_success": 0.0}, r"target_success must lie in \(0, 1\]"),
        ({"reward": "goal_phrase", "dropped": {"image": 0.5}}, "judges image, so image cannot be dropped"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        job_config("CartPole-v1", "ppo", **fields)


def test_a_plan_that_would_deadlock_is_refused():
    """Twice the buffer of a ratio must be a batch and the samples of an insert: 2 * 8 * 2 < 32 + 8."""
    spec = parts(job_config("CartPole-v1", "dqn")).spec
    plan = ReplayPlan("uniform", 10, 10, batch=32, samples_per_insert=8, min_size=2)
    with pytest.raises(ValueError, match="fewer than 32 samples, one batch, once inserts wait"):
        experience_table(plan, spec)
    table = experience_table(dataclasses.replace(plan, min_size=3), spec)
    assert (table.limiter.min_diff, table.limiter.max_diff) == (0.0, 48.0)


# Arithmetic, and the program.


def steps_config(steps: int, **replay) -> JobConfig:
    return job_config("CartPole-v1", "dqn", replay=replay, steps=steps)


@pytest.mark.parametrize(
    ("config", "steps_per_update", "updates"),
    [
        # A queue gives each row once: 16 items of 64 rows.
        (job_config("CartPole-v1", "ppo", steps=10_240), 1024.0, 10),
        # 32 items of 10 rows, each of which is sampled 8 times.
        (steps_config(4_000), 40.0, 100),
        # Items overlap: only `period` of the rows of each are new.
        (steps_config(4_000, unroll=10, period=5, samples_per_insert=4.0), 40.0, 100),
        (steps_config(1), 40.0, 1),
        (steps_config(59), 40.0, 1),
        (steps_config(61), 40.0, 2),
    ],
)
def test_steps_and_updates(config, steps_per_update, updates):
    assert config.steps_per_update == steps_per_update
    assert config.updates == updates


def test_the_program_of_a_job():
    config = job_config("CartPole-v1", "ppo", actors=3, history_steps=10, restarts=7)
    program = job_program(config, "x")
    names = [node.name for node in program.nodes]
    assert names == ["replay", "learner", "sink", "evaluator", "actor_0", "actor_1", "actor_2"]
    assert {node.restarts for node in program.nodes} == {7}
    assert program.awaited == ("learner", "evaluator")
    assert program.machines()[0] == ["replay", "learner", "sink", "evaluator"]
    assert job_from_settings(program.settings) == config
    without = job_program(dataclasses.replace(config, history_steps=0), "x")
    assert "sink" not in [node.name for node in without.nodes]


def test_parts_fit_each_other():
    config = job_config("CartPole-v1", "ppo", settings={"hidden": (8,)})
    made = parts(config)
    assert made.spec.observation.shape == (64, 4)
    assert made.table.signature["observation"] == ((64, 4), "float32")
    assert made.table.signature["extras/log_prob"] == ((64,), "float32")
    pictures = {"env_arguments": {"image": "agent"}, "reads": ("image",), "torso": "dictionary"}
    deep = job_config("MiniGrid-Empty-5x5-v0", "ppo", **pictures, torso_arguments={"deep": True})
    names = parts(deep).agent.init(jax.random.key(0)).params
    assert "image_2_1_0" in names and "image_2" in names
    deaf = {"dropped": {"audio": 0.5}, "torso": "zorro", "torso_arguments": {"width": 16, "layers": 1}}
    seen = parts(job_config("beeping_box", "r2d2", **deaf)).observation_spec
    assert sorted(seen) == ["audio", "audio_present", "direction", "symbols"]
    with pytest.raises(
        ValueError, match="There is no key 'sound' to drop; the observation has the keys symbols"
    ):
        parts(job_config("beeping_box", "ppo", dropped={"sound": 0.5}))
    with pytest.raises(ValueError, match="Expected the spec of one array"):
        parts(job_config("MiniGrid-Empty-5x5-v0", "ppo", torso="mlp"))
