"""Labelled jobs: what is refused, what their programs are, and labellers that are really killed."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from limbeck.agents import Actor, signature
from limbeck.envs import LAST, make_hosted
from limbeck.launchers import FaultPlan, command_line
from limbeck.launchers.job_config import JobConfig, JobEvaluationConfig, job_config, job_from_settings
from limbeck.launchers.job_histories import history_manifest
from limbeck.launchers.job_labelling import check_reward, labelling_tables, unlabelled_table
from limbeck.launchers.jobs import TABLE, job_program, parts
from limbeck.launchers.nodes import actor
from limbeck.launchers.runs import as_settings
from limbeck.rewards import BundleCutter, goal_of, read_bundle


ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).parent
LIMIT_S = 120.0

needs_replay = pytest.mark.skipif(
    importlib.util.find_spec("reverb") is None, reason="Reverb, of the replay extra, is not installed"
)


@pytest.fixture(autouse=True)
def _toy_meadow_is_found(monkeypatch) -> None:
    monkeypatch.syspath_prepend(HERE)


def meadow(**fields) -> JobConfig:
    chosen = {
        "settings": {"hidden": (8,), "epochs": 1, "minibatches": 1},
        "replay": {"unroll": 8, "period": 8, "batch": 4, "max_size": 8},
        "actors": 1,
        "environments": 2,
        "reward": "toy_meadow:is_green",
        "evaluation": JobEvaluationConfig(episodes=4, environments=2),
    }
    return job_config("toy_meadow:Meadow", "ppo", **{**chosen, **fields})


def test_settings_there_and_back_and_the_program():
    config = meadow(actors=3, labellers=2, reward_arguments={"share": 0.5}, reward_threshold=0.75)
    assert job_from_settings(as_settings(config)) == config and config.labelled
    program = job_program(config, "x")
    names = [node.name for node in program.nodes]
    assert names == [
        "replay", "learner", "labeller_0", "labeller_1", "evaluator", "actor_0", "actor_1", "actor_2"
    ]  # fmt: skip
    assert program.node("labeller_1").settings == {"labeller": 1}
    inline = dataclasses.replace(config, reward_place="inline")
    assert "labeller_0" not in [node.name for node in job_program(inline, "x").nodes] and not inline.labelled
    assert labelling_tables(inline) == [] and parts(inline).table.signature == signature(parts(inline).spec)


def test_tables_and_histories_of_a_labelled_job():
    config = meadow(actors=2, history_steps=10)
    tables = labelling_tables(config)
    assert [table.name for table in tables] == ["unlabelled_0", "unlabelled_1"]
    assert {table.kind for table in tables} == {"held"} and tables[0].max_size == 4 + 2
    assert tables[0].signature["next_observation/image"] == ((2, 8, 8, 8, 3), "uint8")
    made = parts(config)
    beside = set(made.table.signature) - set(signature(made.spec))
    assert beside == {"extras/true_reward", "extras/true_success", "source"}
    # Actors record what the environment pays; inline there is only the label.
    assert {info.reward_model for info in history_manifest(config).histories} == {"environment"}
    inline = history_manifest(dataclasses.replace(config, reward_place="inline"))
    assert {info.reward_model for info in inline.histories} == {"toy_meadow:is_green"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reward": "toy_meadow"}, "A reward is|reward"),
        ({"reward": "toy_meadow:is_red"}, "is_red"),
        ({"reward": "no_such_module:x"}, "no_such_module"),
        ({"reward": "toy_meadow:HORIZON"}, "HORIZON"),
        ({"reward": "toy_meadow:is_green", "reward_arguments": {"shade": 1.0}}, "shade"),
        ({"reward": "toy_meadow:Meadow"}, "something else than a reward model"),
    ],
)
def test_rewards_that_cannot_work_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        check_reward(meadow(**fields))


def test_environments_and_agents_that_cannot_be_labelled_are_refused():
    with pytest.raises(ValueError, match="has no goal for a reward model"):
        check_reward(dataclasses.replace(meadow(), env="toy_meadow:Bare"))
    with pytest.raises(ValueError, match="CartPole-v1 does not have. MiniGrid's get it by --env-arguments"):
        parts(job_config("CartPole-v1", "ppo", reward="toy_meadow:is_green"))
    with pytest.raises(ValueError, match="CartPole-v1 does not have"):
        check_reward(job_config("CartPole-v1", "ppo", reward="toy_meadow:is_green"))
    r2d2 = {"agent": "r2d2", "reward": "toy_meadow:is_green"}
    with pytest.raises(ValueError, match="reads the reward before.*no-previous-reward"):
        parts(job_config("toy_meadow:Meadow", **r2d2))
    parts(job_config("toy_meadow:Meadow", **r2d2, settings={"previous_reward": False}))
    with pytest.raises(ValueError, match=r"labellers must be at most actors \(1\), got 2"):
        meadow(labellers=2)
    with pytest.raises(ValueError, match=r"reward_threshold must lie in \(0, 1\], got 0"):
        meadow(reward_threshold=0.0)
    with pytest.raises(ValueError, match="give reward too"):
        meadow(reward=None, reward_arguments={"share": 1.0})
    check_reward(meadow())


def test_minigrid_has_missions_and_pictures():
    environment = make_hosted("MiniGrid-Fetch-5x5-N2-v0", seed=1, image="agent")
    environment.reset()
    assert goal_of(environment) == environment.mission and len(goal_of(environment).split()) > 3
    parts(dataclasses.replace(meadow(), env="MiniGrid-Fetch-5x5-N2-v0", env_arguments={"image": "agent"}))
    with pytest.raises(ValueError, match="MiniGrid-Fetch-5x5-N2-v0 does not have"):
        parts(dataclasses.replace(meadow(), env="MiniGrid-Fetch-5x5-N2-v0"))


def test_actors_write_each_rows_own_goal_and_the_truth_of_the_episodes_that_end():
    """Goals change with episodes, of which `Meadow` plays two in these 24 steps: the second begins in the bundle."""
    import jax
    from toy_meadow import HORIZON, Meadow

    class Wandering(Meadow):
        episode = -1

        def reset(self):
            self.episode += 1
            return super().reset()

        def goal(self):
            return f"goal {self.episode}"

        def success(self):
            return self.episode == 1

    config = meadow(environments=1, replay={"unroll": 2 * HORIZON, "period": 2 * HORIZON})
    made = parts(config)
    acting = Actor(made.agent, [Wandering()], 0, rewards_shown=False)
    bundles, params = actor._Bundles(acting.streams, config, 4), made.agent.init(jax.random.key(0)).params
    for _ in range(2 * HORIZON):
        memory = acting.memory
        items = bundles.add(acting.step(params), memory, 5)
    (bundle,) = [read_bundle(0, item) for item in items]
    (segment,) = bundle.segments
    assert (bundle.incarnation, bundle.number) == (4, 0)
    assert segment.goals == ["goal 0"] * HORIZON + ["goal 1"] * HORIZON
    assert np.flatnonzero(segment.rows["extras/true_success"]).tolist() == [2 * HORIZON - 1]
    assert (segment.rows["policy_version"] == 5).all()


def test_an_actor_waits_for_the_learner_and_for_labels_only_at_its_bound():
    def waits(size: int, full: bool) -> str:
        status = {TABLE: {"waiting": "inserts" if full else None}, "unlabelled_0": {"size": size}}
        return actor.waits_for(status, "unlabelled_0", 4)

    assert [waits(size, full=False) for size in (0, 1, 3, 4, 5)] == ["", "", "", "labeller", "labeller"]
    # A learner that has its batch would learn what is made now later, from older variables.
    assert [waits(size, full=True) for size in (0, 1, 4)] == ["", "learner", "learner"]
    assert meadow().most_waiting == 4  # PPO's replay is a queue.
    dqn = job_config("toy_meadow:Meadow", "dqn", reward="toy_meadow:is_green")
    assert dqn.most_waiting == 64 and meadow(waiting_bundles=7).most_waiting == 7
    with pytest.raises(ValueError, match="waiting_bundles must be at least 1, got 0"):
        meadow(waiting_bundles=0)


def test_pictures_that_no_agent_reads_go_to_the_labeller_only():
    """Bundles have them once, items for the learner and the agent's own inputs do not."""
    import jax

    rooms = {"env_arguments": {"family": "lift", "max_steps": 5}, "reward": "toy_meadow:is_green"}
    reads = ("symbols", "text")
    config = job_config("rooms", "ppo", reads=reads, environments=2, actors=1, **rooms)
    assert job_from_settings(json.loads(json.dumps(as_settings(config)))) == config
    made = parts(config)
    assert made.frame == (56, 56, 3) and set(made.observation_spec) == set(reads)
    assert not any("image" in name for name in made.table.signature)
    (table,) = labelling_tables(config)
    assert [name for name in table.signature if "image" in name] == ["next_observation/image"]
    environments = [make_hosted("rooms", seed=i, family="lift", max_steps=5) for i in range(2)]
    acting = Actor(made.agent, environments, 0, rewards_shown=False, reads=reads)
    bundles, params = actor._Bundles(acting.streams, config, 0), made.agent.init(jax.random.key(0)).params
    pictures = []
    for _ in range(config.replay.unroll):
        memory = acting.memory
        rows = acting.step(params)
        pictures.append(rows.next_observation["image"])
        found = bundles.add(rows, memory, 0)
    (item,) = found
    assert {n: (a.shape, a.dtype.name) for n, a in item.items()} == dict(table.signature)
    np.testing.assert_array_equal(item["next_observation/image"], np.stack(pictures, axis=1))
    for wrong in (("symbols", "smell"), (), ("text", "text")):
        with pytest.raises(ValueError, match="reads names keys of the observations"):
            parts(dataclasses.replace(config, reads=wrong))
    with pytest.raises(ValueError, match="has one array"):
        parts(job_config("dark_room", "ppo", reads=("symbols",)))


@needs_replay
@pytest.mark.replay
def test_an_unknown_reward_is_one_line_and_starts_nothing(tmp_path, capsys):
    given = ["run", "gymnasium", "--runs-dir", str(tmp_path), "--name", "no", "--env", "toy_meadow:Meadow"]
    assert command_line.main([*given, "--reward", "toy_meadow:is_red"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and "is_red" in err
    assert not (tmp_path / "no").exists()


# A labeller in a process of its own, killed again and again, beside a real replay server.

LABELLER = """
import json, pathlib, sys, threading
root, here, told, directory, address = sys.argv[1:]
sys.path[:0] = [root, here]
from limbeck.launchers.nodes import labeller

class Context:
    name, settings, incarnation = "labeller_0", {"labeller": 0}, 0
    program_settings, run_directory = json.loads(told), pathlib.Path(directory)
    stopping = threading.Event()
    find = staticmethod(lambda node, key, deadline_s=0: address)
    report = staticmethod(lambda **facts: None)

labeller.run(Context())
"""


def start_labeller(config: JobConfig, directory: pathlib.Path, address: str) -> subprocess.Popen:
    command = [sys.executable, "-W", "ignore", "-c", LABELLER, str(ROOT), str(HERE)]
    return subprocess.Popen([*command, json.dumps(as_settings(config)), str(directory), address], cwd=ROOT)


def walk(config: JobConfig, steps: int) -> tuple[list[dict], list[tuple]]:
    """The bundles of random walks, and (stream, tick, hit) of the rows that a labeller must leave of them."""
    import jax

    made = parts(config)
    environments = [make_hosted(config.env, seed=i) for i in range(config.environments)]
    acting = Actor(made.agent, environments, 0, rewards_shown=False)
    cutter = BundleCutter(config.replay.unroll, 0)
    params = made.agent.init(jax.random.key(0)).params
    bundles, expected, over = [], [], [False] * len(environments)
    for tick in range(steps):
        memory, known = acting.memory, len(acting.streams.episodes)
        rows = acting.step(params)
        told = {episode.stream: episode.success for episode in acting.streams.episodes[known:]}
        success = np.array([told.get(i, False) for i in range(len(environments))])
        item = cutter.add(rows, memory, 0, [goal_of(e) for e in environments], success, time.time())
        if item is not None:
            bundles.append(item)
        for i, image in enumerate(rows.next_observation["image"]):
            hit = bool((image[..., 1] > 127).mean() >= 0.9)
            if not over[i]:
                expected.append((i, tick, hit))
            over[i] = (over[i] or hit) and rows.led_to.step_type[i] != LAST
    return bundles, expected


@needs_replay
@pytest.mark.replay
@pytest.mark.slow
def test_a_labeller_that_is_really_killed_loses_nothing(tmp_path):
    from limbeck.agents.replay import ReplayClient, ReplayServer
    from toy_meadow import ticks

    config, kills = meadow(), 2
    bundles, expected = walk(config, steps=20 * 8)
    tables = [parts(config).table, *labelling_tables(config)]
    copies: list[dict] = []
    with ReplayServer(tables) as server, ReplayClient(server.address) as client:

        def fill() -> None:
            with ReplayClient(server.address) as mine:
                for item in bundles:
                    while mine.status()[unlabelled_table(0)]["size"] >= config.most_waiting:
                        time.sleep(0.005)
                    mine.insert(unlabelled_table(0), item)

        writer = threading.Thread(target=fill, daemon=True)
        writer.start()
        starved = {i: sum(s == i for s, *_ in expected) // 8 for i in range(2)}
        whole = sum(starved.values())
        limit = time.monotonic() + LIMIT_S
        process = start_labeller(config, tmp_path, server.address)
        deaths = [round(whole * (i + 1) / (kills + 2)) for i in range(kills)]
        try:
            while len(copies) < whole or client.status()[unlabelled_table(0)]["size"] or writer.is_alive():
                assert time.monotonic() < limit and process.poll() is None
                if client.status()[TABLE]["size"]:
                    copies.append({n: a[0] for n, a in client.sample(TABLE, 1).data.items()})
                    time.sleep(0.02)  # So that the queue is full, as a learner's is.
                if deaths and len(copies) >= deaths[0]:
                    os.kill(process.pid, signal.SIGKILL)
                    process.wait()
                    deaths.pop(0)
                    process = start_labeller(config, tmp_path, server.address)
            while client.status()[TABLE]["size"]:
                copies.append({n: a[0] for n, a in client.sample(TABLE, 1).data.items()})
        finally:
            process.kill()
            process.wait()
    assert not deaths
    doubled = 0
    for i in range(2):
        rows = [(tick, hit) for stream, tick, hit in expected if stream == i][: 8 * starved[i]]
        found, before = [], None
        for copy in (copy for copy in copies if copy["source"][2] == i):
            shown = tuple(ticks(copy["observation/image"]).tolist())
            if shown == before:
                doubled += 1
                continue
            before = shown
            assert ((copy["reward"] == 1) == ((copy["step_type"] == LAST) & (copy["discount"] == 0))).all()
            found += list(zip(shown, (copy["reward"] == 1).tolist()))
        assert found == rows
    assert doubled <= kills  # A copy may be confirmed, and its labeller dead before it has noted that.


RUN = """
import json, pathlib, sys
sys.path.insert(0, sys.argv[2])
from limbeck.launchers import FaultPlan
from limbeck.launchers._job import run_job
from limbeck.launchers.job_config import job_from_settings
settings, runs_dir, faults = json.loads(sys.argv[1])
plan = FaultPlan(**faults) if faults else None
sys.exit(run_job("gymnasium", job_from_settings(settings), pathlib.Path(runs_dir), "job", faults=plan))
"""


@needs_replay
@pytest.mark.replay
@pytest.mark.slow
@pytest.mark.parametrize("place", ["labeller", "inline"])
def test_a_labelled_job_learns_from_labels_and_is_judged_by_the_truth(tmp_path, place):
    """The environment pays nothing: what the agent learns it has from the pictures. At random one in five succeeds."""
    config = meadow(
        env_arguments={"pause_s": 0.0005, "pays": 0.0, "needs": 8}, steps=6000, reward_place=place, environments=4,
        settings={"hidden": (16,), "learning_rate": 5e-3, "gamma": 0.9},
        replay={"unroll": 16, "period": 16, "batch": 8, "max_size": 16}, target_success=None,
        evaluation=JobEvaluationConfig(episodes=20, environments=4, mode="explore", every_s=0.0),
    )  # fmt: skip
    plan = FaultPlan(seed=0, kills=1, between_s=(1.0, 2.0), nodes=["labeller_0"], at_work=True)
    faults = vars(plan) if place == "labeller" else None
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    told = json.dumps([as_settings(config), str(tmp_path), faults])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN, told, str(ROOT)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    evaluated = json.loads((tmp_path / "job" / "evaluation.json").read_text())
    assert evaluated["return"] == 0.0 and evaluated["success"] >= 0.9
    if place == "labeller":
        state = json.loads((tmp_path / "job" / "nodes" / "labeller_0.json").read_text())
        assert state["incarnation"] == 1
