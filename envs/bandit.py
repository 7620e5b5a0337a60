"""The adversarial bandit (Laskin et al. 2022, arXiv 2210.14215, section 4.1)."""

from typing import NamedTuple

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs

from ._by_value import ByValue
from ._types import restart, transition


class BanditState(NamedTuple):
    """time: int32 trials taken."""

    time: jax.Array


class AdversarialBandit(ByValue):
    """A Bernoulli bandit whose good arms change sides between training and test.

    Task: payout probabilities of the arms, float32 [num_arms]. Actions: arms. A pull pays 1 with its
    arm's probability, else 0. An episode is `max_steps` trials, then cut (truncation: discount stays 1).
    Observation: the constant int32 [1] = 0; only rewards tell tasks apart.

    In a fraction `bias` of the tasks that `sample_task` draws, the favoured arms are the odd ones in
    the training distribution (`split="train"`) and the even ones in the out-of-distribution test
    (`split="held_out"`); in the others it is the reverse.

    What the paper leaves open, and what holds here:
      - Arms are counted from 0, so the odd ones are 1, 3, 5, 7, 9.
      - Favoured arms draw their probability uniformly from [0.5, 1), the others from [0, 0.5).
      - Payouts are Bernoulli, and probabilities are fixed for as long as the task lasts.

    Tasks are uncountable: `num_tasks` is None and `tasks()` raises.

    Raises:
      ValueError: for fewer than 2 arms, a horizon below 1, a bias outside [0, 1] or an unknown split.
    """

    num_tasks = None

    def __init__(
        self,
        name: str = "adversarial_bandit",
        num_arms: int = 10,
        max_steps: int = 100,
        bias: float = 0.95,
        split: str = "train",
    ):
        if num_arms < 2:
            raise ValueError(f"The adversarial bandit needs at least 2 arms, got {num_arms}.")
        if max_steps < 1:
            raise ValueError(f"The adversarial bandit needs max_steps of at least 1, got {max_steps}.")
        if not 0 <= bias <= 1:
            raise ValueError(f"The adversarial bandit's bias is a probability, got {bias}.")
        if split not in ("train", "held_out"):
            raise ValueError(f"The adversarial bandit's split is 'train' or 'held_out', got {split!r}.")
        self.name, self.num_arms, self.max_steps, self.bias, self.split = (
            name,
            num_arms,
            max_steps,
            bias,
            split,
        )
        self._settings = (name, num_arms, max_steps, bias, split)

    def tasks(self) -> jax.Array:
        raise ValueError(
            f"The tasks of {self.name} cannot be listed: they are continuous. Use sample_task(key)."
        )

    def sample_task(self, key: jax.Array) -> jax.Array:
        side_key, payout_key = jax.random.split(key)
        usual = jax.random.bernoulli(side_key, self.bias)
        odd_is_good = usual if self.split == "train" else ~usual
        good = (jnp.arange(self.num_arms) % 2 == 1) == odd_is_good
        return 0.5 * jax.random.uniform(payout_key, (self.num_arms,)) + jnp.where(good, 0.5, 0.0)

    def reset(self, key: jax.Array, task: jax.Array) -> tuple[BanditState, dm_env.TimeStep]:
        del key, task
        return BanditState(jnp.int32(0)), restart(self._observation())

    def step(
        self, key: jax.Array, task: jax.Array, state: BanditState, action: jax.Array
    ) -> tuple[BanditState, dm_env.TimeStep]:
        state = BanditState(state.time + 1)
        reward = jax.random.bernoulli(key, task[action])
        return state, transition(self._observation(), reward, False, state.time >= self.max_steps)

    def bounds(self, task: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Exact mean episode returns of (the uniform-random policy, the optimal policy), float32."""
        return jnp.mean(task) * self.max_steps, jnp.max(task) * self.max_steps

    def task_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((self.num_arms,), np.float32, 0.0, 1.0, "payout_probabilities")

    def observation_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((1,), np.int32, 0, 0, "constant")

    def action_spec(self) -> specs.DiscreteArray:
        return specs.DiscreteArray(self.num_arms, name="arm")

    def reward_spec(self) -> specs.Array:
        return specs.Array((), np.float32, "reward")

    def discount_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((), np.float32, 0.0, 1.0, "discount")

    def markov_spec(self) -> specs.BoundedArray:
        return self.observation_spec()

    def markov_observation(self, state: BanditState) -> jax.Array:
        del state
        return self._observation()

    def _observation(self) -> jax.Array:
        return jnp.zeros((1,), jnp.int32)
