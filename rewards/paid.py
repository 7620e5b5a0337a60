"""A pure-JAX environment that pays by a function of what its agent sees: a reward model inside a compiled loop."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import dm_env
import jax
import jax.numpy as jnp
import numpy as np

from ..envs import LAST
from ..envs.view_render import render
from ._single_flight import CacheStats, SingleFlight
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
    judge = _judge(model, "pay_by")

    def pay(observation: Any, goal: jax.Array, key: jax.Array) -> jax.Array:
        del key
        return judge(encode(render(_symbols(observation))[None]), goal)

    return pay


class HostPay:
    """`pay_by` with frames encoded on the host, each once: a `Pay` for encoders that take longer than a cache.

    A picture is a function of the observation's `symbols`, which are the key of what is remembered. All streams of a
    vmapped step are one call of the host. Head and threshold remain in the compiled loop. Rewards are those of the
    same encoder in `pay_by` but for rounding.

    The host's call must not use JAX, which would wait for the computation that waits for it: the encoder is
    PyTorch's or NumPy's (`OpenClip`, not `JaxClip`; a `JaxClip` under a `CachedEncoder` is refused too).
    """

    def __init__(
        self,
        model: Any,
        render: Callable[[jax.Array], jax.Array] = render,
        capacity: int = 500_000,
    ):
        """Encodes nothing yet.

        Args:
          model: as of `pay_by`; its encoder is used as it is.
          render: as of `pay_by`.
          capacity: embeddings that are remembered, the least recently used is forgotten first.

        Raises:
          RewardError: a model of another form, or whose encoder is in JAX.
        """
        self._judge = _judge(model, "HostPay")
        self._encoder, self._render = getattr(model, "model", model).encoder, render
        # Of a `CachedEncoder`, the one under it.
        if hasattr(getattr(self._encoder, "_encoder", self._encoder), "frames_fn"):
            raise RewardError(
                "HostPay encodes while a compiled loop waits, so its encoder must not be in JAX: give an OpenClip"
            )
        self._dimension = int(np.shape(self._encoder.encode_goals(list(model.goals[:1])))[-1])
        self._cache = SingleFlight(capacity)
        # What vmap makes of a host call has another name since JAX 0.4.35.
        vmapped = "vmap_method" in inspect.signature(jax.pure_callback).parameters
        self._batched: Any = {"vmap_method": "broadcast_all"} if vmapped else {"vectorized": True}

    def __call__(self, observation: Any, goal: jax.Array, key: jax.Array) -> jax.Array:
        """See `Pay`."""
        del key
        shape = jax.ShapeDtypeStruct((self._dimension,), jnp.float32)
        symbols = _symbols(observation)
        embedding = jax.pure_callback(self._embed, shape, symbols, self._render(symbols), **self._batched)
        return self._judge(embedding[None], goal)

    def stats(self) -> CacheStats:
        """How often an embedding was there."""
        return self._cache.stats()

    def _embed(self, symbols: Any, frames: Any) -> np.ndarray:
        """float32 `[..., D]` of symbols `[..., X, Y, C]` and their pictures `[..., H, W, 3]`."""
        symbols, frames = np.asarray(symbols), np.asarray(frames)
        leading = symbols.shape[:-3]
        rows, frames = symbols.reshape(-1, *symbols.shape[-3:]), frames.reshape(-1, *frames.shape[-3:])

        def make(places: list[int]) -> tuple[list[np.ndarray], int]:
            # Copies, or one embedding would hold all of its batch in memory.
            return [row.copy() for row in self._encoder.encode_frames(frames[places])], 0

        found = self._cache.fetch([row.tobytes() for row in rows], make)
        return np.asarray(found, np.float32).reshape(*leading, self._dimension)


def _judge(model: Any, asked_by: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """A model's head and thresholds: embeddings `[1, D]` and the number of a goal to the reward."""
    inner = getattr(model, "model", model)
    if not hasattr(inner, "parameters") or not hasattr(inner, "head"):
        raise RewardError(f"{asked_by} takes an EncoderReward, calibrated or not, got {type(model).__name__}")
    head, parameters = inner.head, inner.parameters
    thresholds = None if inner is model else jnp.asarray(model.card.levels(model.goals), jnp.float32)

    def judge(embeddings: jax.Array, goal: jax.Array) -> jax.Array:
        score = head(parameters, embeddings, goal[None])[0]
        return score if thresholds is None else (score >= thresholds[goal]).astype(jnp.float32)

    return judge


def _symbols(observation: Any) -> jax.Array:
    if not isinstance(observation, Mapping) or "symbols" not in observation:
        raise RewardError("the model sees pictures made from `symbols`, which the environment does not show")
    return observation["symbols"]
