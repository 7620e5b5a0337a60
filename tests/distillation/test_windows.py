"""Windows: a hand-made stream decoded, borders, burn-in, purity."""

import types

import numpy as np
import pytest
from limbeck.distillation import WindowConfig, WindowSampler
from limbeck.distillation.windows import stream_inputs


MID, LAST = 1, 2


def streams(lengths=(40, 25, 40), episode=5):
    """Actions, rewards and observations say where they are: history h, row t is 100 h + t."""
    steps = max(lengths)
    place = 100 * np.arange(len(lengths))[:, None] + np.arange(steps)[None]
    inside = np.arange(steps)[None] < np.asarray(lengths)[:, None]
    kind = np.where(np.arange(steps) % episode == episode - 1, LAST, MID)
    return types.SimpleNamespace(
        observation=np.where(inside, place, 0)[..., None].astype(np.int32),
        action=np.where(inside, place, 0).astype(np.int32),
        reward=np.where(inside, place + 0.5, 0).astype(np.float32),
        step_type=np.where(inside, kind[None], 0).astype(np.int32),
        length=np.asarray(lengths, np.int32),
    )


def test_a_two_episode_stream_by_hand():
    # Two episodes, of three and of two steps. Row t: o_t, a_t, r_{t+1}, step_type_{t+1}.
    inputs = stream_inputs(
        np.array([[7, 8, 9, 7, 6]]),
        np.array([[1, 0, 2, 3, 1]]),
        np.array([[0.0, 0.5, 1.0, -1.0, 2.0]], np.float32),
        np.array([[MID, MID, LAST, MID, LAST]]),
        num_actions=4,
    )
    np.testing.assert_array_equal(inputs.observation, [[7, 8, 9, 7, 6]])
    # The second episode's first step sees action 2 and reward 1.0 of the episode before.
    np.testing.assert_array_equal(inputs.previous_action, [[4, 1, 0, 2, 3]])
    np.testing.assert_array_equal(inputs.previous_reward, [[0.0, 0.0, 0.5, 1.0, -1.0]])
    np.testing.assert_array_equal(inputs.step_in_episode, [[0, 1, 2, 0, 1]])


def test_no_window_straddles_two_histories_and_rows_go_together():
    sampler = WindowSampler(streams(), WindowConfig(batch=64, starts=0.3), 1000, length=12, burn_in=4)
    seen = set()
    for index in range(4):
        batch = sampler(index)
        time = batch.action % 100
        np.testing.assert_array_equal(batch.action - batch.action[:, :1], np.tile(np.arange(12), (64, 1)))
        np.testing.assert_array_equal(batch.inputs.observation[..., 0], batch.action)
        first = time == 0
        np.testing.assert_array_equal(batch.inputs.previous_action, np.where(first, 1000, batch.action - 1))
        np.testing.assert_array_equal(batch.inputs.previous_reward, np.where(first, 0, batch.action - 0.5))
        np.testing.assert_array_equal(batch.inputs.step_in_episode, time % 5)
        # Windows from a history's start score every step, others from the burn-in on.
        started = time[:, 0] == 0
        expected = np.where(started[:, None], 1.0, np.arange(12) >= 4)
        np.testing.assert_array_equal(batch.weight, expected)
        seen |= {(a // 100, a % 100) for a in batch.action[:, 0].tolist()}
    assert {history for history, _ in seen} == {0, 1, 2}
    # The last window of the short history begins at 13, of the long ones at 28.
    assert max(t for h, t in seen if h == 1) <= 13 < max(t for h, t in seen if h != 1) <= 28


def test_the_share_of_starts():
    sampler = WindowSampler(streams((500,)), WindowConfig(batch=4000, starts=0.25), 1000, length=4, burn_in=0)
    share = np.mean(sampler(0).action[:, 0] == 0)
    # A quarter, and one in 497 of the others; four standard errors.
    assert abs(share - (0.25 + 0.75 / 497)) < 4 * np.sqrt(0.25 * 0.75 / 4000)


def test_behind_a_short_history_s_end_nothing_is_scored():
    sampler = WindowSampler(streams((6, 30)), WindowConfig(batch=32), 1000, length=10, burn_in=3)
    batch = sampler(0)
    short = (batch.action[:, 0] == 0) & (batch.action[:, 9] == 0)
    assert short.any() and not short.all()
    np.testing.assert_array_equal(batch.weight[short], np.tile([1] * 6 + [0] * 4, (short.sum(), 1)))


def test_a_batch_is_a_function_of_its_index_and_the_seed():
    def sampler(seed=0):
        return WindowSampler(streams(), WindowConfig(batch=8, seed=seed), 1000, length=12, burn_in=4)

    one, other = sampler(), sampler()
    later = one(7)
    one(3)
    for a, b in ((one(7), later), (other(7), later)):
        np.testing.assert_array_equal(a.action, b.action)
        np.testing.assert_array_equal(a.weight, b.weight)
        np.testing.assert_array_equal(a.inputs.observation, b.inputs.observation)
    assert (one(8).action != later.action).any() and (sampler(1)(7).action != later.action).any()


def test_lengths():
    # The model's own length is cut to the histories; one that was asked for is not.
    sampler = WindowSampler(streams(), WindowConfig(), 1000, length=957, burn_in=239)
    assert (sampler.length, sampler.burn_in) == (40, 39)
    assert WindowSampler(streams(), WindowConfig(length=40), 1000, 957, 239).length == 40
    assert WindowSampler(streams(), WindowConfig(batch=3, burn_in=2), 1000, 9, 5).burn_in == 2
    with pytest.raises(ValueError, match="41 steps.*longest history has 40"):
        WindowSampler(streams(), WindowConfig(length=41), 1000, length=9, burn_in=5)
    with pytest.raises(ValueError, match="batch"):
        WindowConfig(batch=0)
    with pytest.raises(ValueError, match="share"):
        WindowConfig(starts=1.5)
