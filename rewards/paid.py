"""A pure-JAX environment that pays by a function of what its agent sees: a reward model inside a compiled loop."""

from collections.abc import Callable, Mapping
from typing import Any

import dm_env
import jax
import jax.numpy as jnp

from ..envs import LAST
from ..envs.view_render import render
from .contract import RewardError


# (observation after the action, number of the goal, a random key) -> reward, float32 in [0, 1]. Unbatched.
Pay = Callable[[Any, jax.Array, jax.Array], jax.Array]


class Paid:
    """Pays `pay(observation, goal, key)` in place of the environment's reward, and ends the episode at reward 1.

    Source of the ending: Baumli et al. 2024 (arXiv 2312.09187), section 3. The true reward is not lost: the
    state of the environment has it.

    Args:
      environment: whose task is the number of a goal, and which neither pays nor ends by itself, such as
        `make("rooms", reward="none")`.
      pay: pure JAX.
    """

    def __init__(self, environment: Any, pay: Pay):
        self._environment, self._pay = environment, pay

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # Not yet set while being unpickled or copied.
            raise AttributeError(name)
        return getattr(self._environment, name)

    def reset(self, key: jax.Array, task: jax.Array) -> tuple[Any, dm_env.TimeStep]:
        return self._environment.reset(key, task)

    def step(
        self, key: jax.Array, task: jax.Array, state: Any, action: jax.Array
    ) -> tuple[Any, dm_env.TimeStep]:
        state, timestep = self._environment.step(key, task, state, action)
        reward = self._pay(timestep.observation, task, jax.random.fold_in(key, 1)).astype(jnp.float32)
        hit = reward >= 1
        return state, timestep._replace(
            reward=reward,
            discount=jnp.where(hit, jnp.zeros_like(timestep.discount), timestep.discount),
            step_type=jnp.where(hit, jnp.full_like(timestep.step_type, LAST), timestep.step_type),
        )


def pay_by(
    model: Any,
    encode: Callable[[jax.Array], jax.Array],
    render: Callable[[jax.Array], jax.Array] = render,
) -> Pay:
    """The pure function of an `EncoderReward`, or of a `CalibratedReward` of one, on observations with `symbols`.

    Args:
      model: its goals are those of the environment, in the order of its tasks.
      encode: frames uint8 `[N, H, W, 3]` to embeddings `[N, D]`, pure JAX, such as `partial(clip.frames_fn, params)`
        of the `JaxClip` whose rewards they are.
      render: symbols to the picture; without it MiniGrid's. `worlds.world(name).render` is a world's.

    Raises:
      RewardError: a model of another form.
    """
    inner = getattr(model, "model", model)
    if not hasattr(inner, "parameters") or not hasattr(inner, "head"):
        raise RewardError(f"pay_by takes an EncoderReward, calibrated or not, got {type(model).__name__}")
    head, parameters = inner.head, inner.parameters
    thresholds = None if inner is model else jnp.asarray(model.card.levels(model.goals), jnp.float32)

    def pay(observation: Any, goal: jax.Array, key: jax.Array) -> jax.Array:
        del key
        if not isinstance(observation, Mapping) or "symbols" not in observation:
            raise RewardError(
                "the model sees pictures made from `symbols`, which the environment does not show"
            )
        score = head(parameters, encode(render(observation["symbols"])[None]), goal[None])[0]
        return score if thresholds is None else (score >= thresholds[goal]).astype(jnp.float32)

    return pay
