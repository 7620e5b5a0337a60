"""Models on disk: trained, loaded, exported, loaded again; and what is not a model."""

import json
import types

import jax
import numpy as np
import pytest
from limbeck.distillation import Inputs, ModelConfig, WindowConfig, distil, environment_network, export, load
from limbeck.encoders import TrainConfig, TransformerConfig
from limbeck.envs import DarkRoom, to_dm_env


ROOM = DarkRoom(size=3, max_steps=5)
MODEL = ModelConfig(
    TransformerConfig(num_layers=1, d_model=16, num_heads=2, feed_forward=16), window=6, token_mask=0.1
)


def streams():
    rng = np.random.default_rng(0)
    return types.SimpleNamespace(
        observation=rng.integers(0, 3, (4, 20, 2)).astype(np.int32),
        action=rng.integers(0, 5, (4, 20)).astype(np.int32),
        reward=rng.random((4, 20)).astype(np.float32),
        step_type=np.tile(np.where(np.arange(20) % 5 == 4, 2, 1), (4, 1)).astype(np.int32),
        length=np.full(4, 20, np.int32),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's directory and the state that its training ended in."""
    place = tmp_path_factory.mktemp("run")
    config = TrainConfig(steps=20, checkpoint_every=10)
    return place, distil(streams(), ROOM, MODEL, WindowConfig(batch=4), config, place / "checkpoints")


def logits(loaded):
    rng = np.random.default_rng(1)
    timestep, memory = to_dm_env(ROOM, np.int32(0)).reset(), loaded.agent.initial_memory()
    out = []
    for t in range(9):
        shown = timestep._replace(
            step_type=np.int32(min(t, 1)),
            reward=np.float32(t),
            discount=np.float32(1),
            observation=rng.integers(0, 3, 2).astype(np.int32),
        )
        _, extras, memory = loaded.agent.act(loaded.params, memory, jax.random.key(t), shown, "evaluate")
        out.append(extras["logits"])
    return np.stack(out)


def test_train_load_export_load(run, tmp_path):
    place, state = run
    loaded = load(place)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, jax.tree.map(np.asarray, state.params))
    exported = export(place, tmp_path / "out")
    assert sorted(x.name for x in exported.iterdir()) == ["model.json", "model.safetensors"]
    again = load(exported)
    np.testing.assert_array_equal(logits(loaded), logits(again))
    assert again.description == loaded.description

    # And the loaded weights mean what the trained network's did.
    one = Inputs(*(np.asarray(x) for x in ([[1, 2]], [5], [0.0], [0])))
    one = one._replace(previous_reward=one.previous_reward.astype(np.float32))
    network = environment_network(MODEL, ROOM)
    expected = network.logits(state.params, None, one)
    step, _ = network.step(
        again.params, jax.tree.map(lambda x: x[0], one), again.agent.initial_memory().context
    )
    np.testing.assert_allclose(step, expected[0], atol=1e-5)


def test_the_description(run):
    description = json.loads((run[0] / "checkpoints" / "model.json").read_text())
    assert description["environment"] == "dark_room" and description["num_actions"] == 5
    assert description["observation"] == {
        "shape": [2],
        "dtype": "int32",
        "minimum": [0, 0],
        "maximum": [2, 2],
    }
    assert description["max_steps"] == 5 and description["model"]["window"] == 6


def test_the_checkpoints_themselves_load_and_greedy_play_repeats(run):
    player = load(run[0] / "checkpoints", temperature=0).player()
    room = to_dm_env(ROOM, np.int32(0))

    def play():
        player.reset()
        timestep, actions = room.reset(), []
        while not timestep.last():
            actions.append(player.step(timestep))
            timestep = room.step(actions[-1])
        return actions

    assert play() == play()


def test_what_is_no_model(run, tmp_path):
    with pytest.raises(ValueError, match="No distilled model"):
        load(tmp_path)
    with pytest.raises(ValueError, match="No distilled model"):
        load(tmp_path / "missing")
    (tmp_path / "seed_0").mkdir()
    with pytest.raises(ValueError, match="several seeds.*seed_0"):
        export(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()

    foreign = export(run[0], tmp_path / "foreign")
    description = json.loads((foreign / "model.json").read_text())

    def write(**changes):
        (foreign / "model.json").write_text(json.dumps({**description, **changes}))

    write(num_actions=4)
    with pytest.raises(ValueError, match="not those of the model"):
        load(foreign)
    write(format=99)
    with pytest.raises(ValueError, match="format 99"):
        load(foreign)
    write(model={**description["model"], "mixture": 3})
    with pytest.raises(ValueError, match="another version.*mixture"):
        load(foreign)
