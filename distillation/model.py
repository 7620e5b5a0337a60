"""The Algorithm Distillation network: multi-episode streams in, action logits out.

Laskin et al. 2022 (arXiv 2210.14215), Algorithm 1 and appendix L. Beside the paper's three tokens a
step stands a one-token form, as in XLand-MiniGrid's baselines: the embeddings of the observation,
the previous action, the previous reward and the step in the episode are summed, which is three
times cheaper and as good on the dark rooms.
"""

import dataclasses
import math
from typing import Any, Literal, NamedTuple, cast

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs

from ..encoders import Cache, Transformer, TransformerConfig


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The distilled network.

    Attributes:
      transformer: the trunk. Its `window` is ours times `tokens_per_step` and is filled in here.
      window: how many environment steps back a layer sees, the present one included.
      tokens_per_step: 1 (summed embeddings) or 3 (previous action, previous reward, observation).
      coordinates: `per_axis` embeds each integer of an observation by its own table and sums them,
        `table` embeds each combination by a row of one table, `both` does both. Tables let the
        network memorise the training goals: held-out goals are learned sooner with `per_axis`.
      context: `cached` plays with a ring cache of keys and values, at constant cost per step;
        `recomputed` keeps the last `window` steps and runs the whole window at every step, which
        absolute positions need (the paper's form).
      token_mask: share of input embeddings (each of observation, previous action and previous
        reward by itself) that are blanked while training; the paper's random token masking.
      label_smoothing: share of the target's probability spread evenly over all actions.
    """

    transformer: TransformerConfig = TransformerConfig()
    window: int = 160
    tokens_per_step: Literal[1, 3] = 1
    coordinates: Literal["per_axis", "table", "both"] = "per_axis"
    context: Literal["cached", "recomputed"] = "cached"
    token_mask: float = 0.0
    label_smoothing: float = 0.0

    def __post_init__(self):
        if self.window < 1:
            raise ValueError(f"window must be at least one step, got {self.window}.")
        if self.tokens_per_step not in (1, 3):
            raise ValueError(f"tokens_per_step must be 1 or 3, got {self.tokens_per_step}.")
        for name in ("token_mask", "label_smoothing"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}.")
        if self.context == "cached" and self.transformer.positions == "learned":
            raise ValueError(
                "A ring cache cannot shift learned absolute positions: use context='recomputed' or rotary positions."
            )
        tokens = self.window * self.tokens_per_step
        changes: dict[str, Any] = {"causal": True, "window": tokens if self.context == "cached" else None}
        if self.transformer.positions == "learned":
            changes["max_positions"] = tokens
        object.__setattr__(self, "transformer", dataclasses.replace(self.transformer, **changes))

    @property
    def sequence_length(self) -> int:
        """Steps a training sequence should have at least, for every layer to see what it sees in play.

        A layer-L unit of a cached model depends on L (W - 1) + 1 steps; a recomputed one on W.
        """
        if self.context == "recomputed":
            return self.window
        return self.transformer.num_layers * (self.window - 1) + 1

    @property
    def burn_in(self) -> int:
        """Leading steps of a sequence from the middle of a history that are not scored.

        They lack the context that they would have in play. A recomputed model sees in play every
        length of context from one step to the window, so there all are scored.
        """
        return self.window - 1 if self.context == "cached" else 0


PRESETS: dict[str, ModelConfig] = {
    # Laskin et al. 2022, appendix L, Dark Room column; a context of 4 episodes of 20 steps is ours.
    "paper": ModelConfig(
        TransformerConfig(
            num_layers=4,
            d_model=64,
            num_heads=4,
            feed_forward=2048,
            activation="relu",
            norm_place="post",
            positions="learned",
            dropout=0.1,
            attention_dropout=0.5,
        ),
        window=80,
        tokens_per_step=3,
        coordinates="per_axis",
        context="recomputed",
        token_mask=0.3,
    ),
    "fast": ModelConfig(
        TransformerConfig(
            num_layers=3, d_model=64, num_heads=2, key_value_heads=1, feed_forward=256, activation="relu"
        ),
        window=160,
        coordinates="per_axis",
    ),
}


class Inputs(NamedTuple):
    """What the network reads of each step, `[..., T, …]`.

    Attributes:
      observation: o_t, as its spec says.
      previous_action: a_{t-1}, int32, the number of actions where there is none: at a stream's start
        only. At an episode's first step it is the last action of the episode before.
      previous_reward: r_t, float32, 0 at a stream's start; else like the action.
      step_in_episode: int32, 0 at an episode's first step.
    """

    observation: Any
    previous_action: jax.Array | np.ndarray
    previous_reward: jax.Array | np.ndarray
    step_in_episode: jax.Array | np.ndarray


class DistilledModel(hk.Module):
    """Embeds steps, runs the trunk, returns logits of the action at every step.

    Args:
      config: the network.
      observation_spec: a `specs.BoundedArray` of integers (embedded) or an array of floats
        (flattened and mapped linearly).
      num_actions: of the discrete action spec.
      max_steps: the horizon; later steps of an episode share the last embedding.
    """

    def __init__(
        self,
        config: ModelConfig,
        observation_spec: specs.Array,
        num_actions: int,
        max_steps: int,
        name: str = "distilled",
    ):
        super().__init__(name=name)
        self._config, self._spec = config, check_observation_spec(observation_spec)
        self._actions, self._max_steps = num_actions, max_steps
        self._trunk = Transformer(config.transformer, name="transformer")
        # Built here and not where they are used: Haiku names a module after the method that builds it.
        width = config.transformer.d_model
        self._reward = hk.Linear(width, w_init=hk.initializers.TruncatedNormal(1.0), name="previous_reward")
        self._observation = hk.Linear(width, name="observation")
        self._head = hk.Linear(num_actions, w_init=hk.initializers.VarianceScaling(0.01), name="action_head")

    def __call__(self, inputs: Inputs, training: bool = False) -> jax.Array:
        """Logits float32 `[..., T, num_actions]` of all steps of sequences of T steps."""
        parts = self._embed(inputs)
        if training and self._config.token_mask:
            parts = {name: self._blank(name, part) for name, part in parts.items()}
        tokens = self._tokens(parts)
        hidden = self._trunk(tokens, training=training)
        return self._logits(hidden[..., self._config.tokens_per_step - 1 :: self._config.tokens_per_step, :])

    def step(self, inputs: Inputs, cache: Cache) -> tuple[jax.Array, Cache]:
        """Logits `[num_actions]` of one step, unbatched, and the cache with that step in it."""
        parts = jax.tree.map(
            lambda x: x[0], self._embed(jax.tree.map(lambda x: jnp.asarray(x)[None], inputs))
        )
        tokens = self._tokens({name: part[None] for name, part in parts.items()})
        hidden = tokens[0]
        for i in range(self._config.tokens_per_step):
            hidden, cache = self._trunk.step(tokens[i], cache)
        return self._logits(hidden), cache

    def _logits(self, hidden):
        return self._head(hidden).astype(jnp.float32)

    def _embed(self, inputs: Inputs) -> dict[str, jax.Array]:
        width = self._config.transformer.d_model
        dtype = None

        def table(rows, name):
            nonlocal dtype
            weights = hk.get_parameter(name, (rows, width), init=hk.initializers.TruncatedNormal(0.5))
            dtype = weights.dtype
            return weights

        action = table(self._actions + 1, "previous_action")[inputs.previous_action]
        step = table(self._max_steps, "step")[jnp.minimum(inputs.step_in_episode, self._max_steps - 1)]
        reward = inputs.previous_reward.astype(dtype)[..., None]
        reward = self._reward(reward)
        return {
            "action": action,
            "reward": reward,
            "observation": self._embed_observation(inputs.observation, table, dtype) + step,
        }

    def _embed_observation(self, observation, table, dtype):
        shape = self._spec.shape
        flat = observation.reshape(*observation.shape[: observation.ndim - len(shape)], math.prod(shape))
        if not np.issubdtype(self._spec.dtype, np.integer):
            return self._observation(flat.astype(dtype))
        low, sizes = axis_sizes(cast(specs.BoundedArray, self._spec))  # as `check_observation_spec` saw
        flat = jnp.clip(flat - low, 0, sizes - 1)
        total = 0
        if self._config.coordinates in ("per_axis", "both"):
            for axis, size in enumerate(sizes):
                total = total + table(int(size), f"observation_axis_{axis}")[flat[..., axis]]
        if self._config.coordinates in ("table", "both"):
            strides = np.concatenate([[1], np.cumprod(sizes[:-1])]).astype(np.int32)
            total = total + table(int(np.prod(sizes)), "observation")[jnp.sum(flat * strides, axis=-1)]
        return total

    def _blank(self, name, part):
        blanked = jax.random.bernoulli(hk.next_rng_key(), self._config.token_mask, part.shape[:-1])
        blank = hk.get_parameter(f"blank_{name}", part.shape[-1:], init=hk.initializers.TruncatedNormal(0.5))
        return jnp.where(blanked[..., None], blank, part)

    def _tokens(self, parts):
        if self._config.tokens_per_step == 1:
            return parts["action"] + parts["reward"] + parts["observation"]
        stacked = jnp.stack([parts["action"], parts["reward"], parts["observation"]], axis=-2)
        return stacked.reshape(*stacked.shape[:-3], -1, stacked.shape[-1])


_LARGEST_TABLE = 1 << 16


def axis_sizes(spec: specs.BoundedArray) -> tuple[np.ndarray, np.ndarray]:
    """(lowest value, number of values) of each element of an integer spec, flattened."""
    low = np.broadcast_to(spec.minimum, spec.shape).reshape(-1).astype(np.int32)
    high = np.broadcast_to(spec.maximum, spec.shape).reshape(-1).astype(np.int32)
    return low, high - low + 1


def check_observation_spec(spec: Any) -> specs.Array:
    """The spec itself if the network can embed it, else a ValueError that says what it can embed."""
    if not isinstance(spec, specs.Array) or isinstance(spec, specs.StringArray):
        raise ValueError(
            f"The distilled network reads one array per step, got the observation spec {spec!r}."
        )
    if np.issubdtype(spec.dtype, np.integer):
        if not isinstance(spec, specs.BoundedArray):
            raise ValueError(f"Integer observations need bounds to be embedded, got {spec!r}.")
        if int(np.prod(axis_sizes(spec)[1].astype(np.int64))) > _LARGEST_TABLE:
            raise ValueError(
                f"Integer observations with more than {_LARGEST_TABLE} values need floats, got {spec!r}."
            )
    elif not np.issubdtype(spec.dtype, np.floating):
        raise ValueError(f"Observations must be integers or floats, got {spec!r}.")
    return spec


class Network(NamedTuple):
    """The pure functions of a distilled model.

    Attributes:
      init: `init(key) -> params`.
      logits: `logits(params, key, inputs, training) -> [..., T, A]`; key may be None outside training.
      step: `step(params, inputs, cache) -> (logits [A], cache)`, unbatched.
    """

    init: Any
    logits: Any
    step: Any


def make_network(
    config: ModelConfig, observation_spec: specs.Array, num_actions: int, max_steps: int
) -> Network:
    def model():
        return DistilledModel(config, observation_spec, num_actions, max_steps)

    full = hk.transform(lambda inputs, training: model()(inputs, training))
    step = hk.without_apply_rng(hk.transform(lambda inputs, cache: model().step(inputs, cache)))

    def init(key):
        one = Inputs(
            jnp.zeros((1, 1, *observation_spec.shape), observation_spec.dtype),
            jnp.zeros((1, 1), jnp.int32),
            jnp.zeros((1, 1), jnp.float32),
            jnp.zeros((1, 1), jnp.int32),
        )
        return full.init(key, one, True)

    def logits(params, key, inputs, training=False):
        return full.apply(params, key, inputs, training)

    return Network(init, logits, step.apply)
