"""Worlds of pictures: what both have in common."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.envs.facts import read_facts
from limbeck.envs.screen_facts import read_screen_facts
from limbeck.rewards import CosineHead, EncoderReward
from limbeck.rewards.bpe import learn_merges, vocabulary_size
from limbeck.rewards.clip_reward import clip_reward, family_goals
from limbeck.rewards.contract import RewardError
from limbeck.rewards.paid import Paid, pay_by
from limbeck.rewards.worlds import FAMILIES, WORLDS, world, world_of


@pytest.mark.parametrize("name", WORLDS)
def test_a_world(name) -> None:
    """Walks are whole episodes; pictures are the environment's own; goals are true as the environment says."""
    seen = world(name)
    captions = seen.captions(episodes=3, steps=8)
    walked = seen.walks(captions, captions.episodes, 0)
    episodes = len(walked.episode) // 8
    assert (walked.episode == np.repeat(np.arange(episodes), 8)).all()
    assert (walked.time == np.tile(np.arange(8), episodes)).all()
    np.testing.assert_array_equal(seen.walks(captions, captions.episodes, 0).symbols, walked.symbols)
    assert (seen.walks(captions, captions.episodes, 1).symbols != walked.symbols).any()
    pictures = seen.pictures(walked.symbols)
    assert pictures.shape == (len(walked.time), seen.image, seen.image, 3) and pictures.dtype == np.uint8
    assert seen.image % seen.patch == 0
    batch = seen.batches(walked, captions, 8)(0)
    assert batch.frames.shape == (8, *pictures.shape[1:]) and batch.truth.diagonal().all()
    for family in seen.families:
        goals = seen.goals(family)
        assert world_of(family) is seen and list(goals) == family_goals(family)
        texts = [goal.text(style) for style in seen.styles for goal in goals]
        assert len(set(texts)) == len(texts)
        assert 0 < sum(map(seen.named(captions.seed, captions.held_out), goals)) < len(goals)
        assert all(map(seen.named(captions.seed, 0), goals))
        assert seen.truth(goals, walked.facts).shape == (len(walked.time), len(goals))


@pytest.mark.parametrize("family", FAMILIES)
def test_goals_are_true_where_the_environment_pays(family) -> None:
    """A demonstration: its last frame is paid, and of its frames the goal is true of the last alone."""
    seen = world_of(family)
    environment = seen.environment(family, views=("symbols", "image"))
    step = jax.jit(environment.step)
    for task in range(0, 18, 7) if len(seen.goals(family)) > 10 else range(3):
        state, timestep = environment.reset(jax.random.key(task), np.int32(task))
        observed = [timestep.observation]
        for action in environment.demonstrate(state, task):
            state, timestep = step(jax.random.key(0), np.int32(task), state, action)
            observed.append(timestep.observation)
        symbols = np.stack([np.asarray(o["symbols"]) for o in observed])
        np.testing.assert_array_equal(
            seen.pictures(symbols), np.stack([np.asarray(o["image"]) for o in observed])
        )
        facts = (read_facts if seen.name == "rooms" else read_screen_facts)(symbols)
        truth = seen.truth([seen.goals(family)[task]], facts)[:, 0]
        assert float(timestep.reward) == 1.0
        assert truth.tolist() == [False] * (len(symbols) - 1) + [True]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(RewardError, match="rooms, screens, got 'streets'"):
        world("streets")
    with pytest.raises(RewardError, match="open_diverse, got 'fetch'"):
        world_of("fetch")
    with pytest.raises(RewardError, match="a style of lift is one of state, imperative, got 'screenshot'"):
        clip_reward("local-dir:nowhere", "lift", style="screenshot")


def test_vocabularies_are_small() -> None:
    """A word is a token: as many merges as the letters of the words at most."""
    sizes = {name: vocabulary_size(learn_merges(seen.words())) for name, seen in WORLDS.items()}
    assert 514 < sizes["rooms"] < 800 and 514 < sizes["screens"] < 1200, sizes


def means(frames):
    """Mean colours as embeddings."""
    found = frames.astype(jnp.float32).mean((1, 2)) / 255 - 0.3
    return found / jnp.linalg.norm(found, axis=1, keepdims=True)


class Colours:
    fingerprint = name = "colours"

    def encode_frames(self, frames):
        return np.asarray(means(jnp.asarray(frames)))

    def encode_goals(self, texts):
        vectors = np.random.default_rng(0).normal(size=(len(texts), 3)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("family", ["lift", "open_common"])
def test_compiled_rewards_are_by_the_worlds_pictures(family) -> None:
    seen = world_of(family)
    goals = [goal.text() for goal in seen.goals(family)]
    model = EncoderReward(Colours(), CosineHead(), goals)
    environment = Paid(
        seen.environment(family, views=("symbols",), reward="none"), pay_by(model, means, seen.render)
    )
    task, step = np.int32(3), jax.jit(environment.step)
    state, _ = environment.reset(jax.random.key(0), task)
    rewards, symbols = [], []
    for i in range(6):
        state, timestep = step(jax.random.key(i), task, state, np.int32(i))
        rewards.append(float(timestep.reward))
        symbols.append(np.asarray(timestep.observation["symbols"]))
    expected = model(seen.pictures(np.stack(symbols)), [goals[3]] * 6)
    np.testing.assert_allclose(rewards, expected, atol=1e-6)
    assert expected.std() > 0
