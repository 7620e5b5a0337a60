"""The one Transformer: blocks on the one attention, run over whole sequences or a step at a time."""

import dataclasses
from typing import Literal, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from .attention import attend_to_cache, attention
from .layers import Activation, FeedForward, Norm, NormType, dropout
from .positions import rotary


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """The size and kind of a Transformer.

    Attributes:
      num_layers: blocks.
      d_model: width of the residual stream.
      num_heads: query heads.
      key_value_heads: heads of keys and values; divides num_heads; None means as many
        (Ainslie et al. 2023, grouped-query attention). Fewer make the cache smaller.
      head_size: features a head; None means d_model / num_heads.
      feed_forward: hidden features of the feed-forward network.
      activation: its activation; `swiglu` and `geglu` are gated; `gelu` is the tanh approximation, `exact_gelu` the
        function itself, `quick_gelu` the sigmoid one; `squared_relu` is the square of `relu`.
      norm_place: `pre` (norm inside the residual branch, one more at the end) or `post` (after the sum).
      norm_type: `layer` or `rms`.
      bias: whether linear maps and layer norms have one.
      positions: `rotary` (in every attention), `learned` (a table added to the input) or `none`.
      position_axes: axes that rotary positions have: 2 for images, 3 for video.
      max_positions: rows of the learned table.
      causal: whether position t sees positions up to t only.
      window: with `causal`, how many positions back a layer sees, itself included; None means all.
      cross_attention: whether each block also attends to a context.
      conditioning: whether each block's norms are scaled, shifted and its branches gated by a
        condition vector, from zero (adaLN-Zero: Peebles & Xie 2022).
      dropout: of residual branches and embeddings, while training.
      attention_dropout: of attention weights, while training.
    """

    num_layers: int = 4
    d_model: int = 64
    num_heads: int = 4
    key_value_heads: int | None = None
    head_size: int | None = None
    feed_forward: int = 256
    activation: Activation = "gelu"
    norm_place: Literal["pre", "post"] = "pre"
    norm_type: NormType = "layer"
    bias: bool = True
    positions: Literal["rotary", "learned", "none"] = "rotary"
    position_axes: int = 1
    max_positions: int = 1024
    causal: bool = True
    window: int | None = None
    cross_attention: bool = False
    conditioning: bool = False
    dropout: float = 0.0
    attention_dropout: float = 0.0

    def __post_init__(self):
        if self.head_size is None and self.d_model % self.num_heads:
            raise ValueError(
                f"num_heads={self.num_heads} must divide d_model={self.d_model}, or give head_size."
            )
        if self.num_heads % (self.key_value_heads or self.num_heads):
            raise ValueError(
                f"key_value_heads={self.key_value_heads} must divide num_heads={self.num_heads}."
            )
        if self.window is not None and (not self.causal or self.window < 1):
            raise ValueError(f"window={self.window} needs causal=True and at least one position.")
        for name, allowed in (("norm_place", ("pre", "post")), ("positions", ("rotary", "learned", "none"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}.")

    @property
    def heads(self) -> tuple[int, int, int]:
        """(query heads, key/value heads, features a head)."""
        return (
            self.num_heads,
            self.key_value_heads or self.num_heads,
            self.head_size or self.d_model // self.num_heads,
        )


class Cache(NamedTuple):
    """The last W keys and values of every layer, a ring.

    Attributes:
      keys: `[layers, W, K, D]`; position p is in slot p mod W.
      values: `[layers, W, K, D]`.
      position: int32, how many steps were taken: the next one's position.
      start: int32, the first position that may be seen. Raising it to `position` clears the cache
        of one sequence in a batch that shares a `position`.

    Under `vmap` leave `position` unbatched (`CACHE_AXES`): with one slot for the whole batch a write
    is a slice in place, with a slot each it is a scatter.
    """

    keys: jax.Array
    values: jax.Array
    position: jax.Array
    start: jax.Array


CACHE_AXES = Cache(keys=0, values=0, position=None, start=0)  # pyright: ignore[reportArgumentType]  # axes of arrays


def empty_cache(config: TransformerConfig, size: int | None = None, dtype=jnp.float32) -> Cache:
    """A cache of `size` steps, `config.window` of them where the model has a window."""
    size = size or config.window
    if size is None or not config.causal:
        raise ValueError("A cache needs a causal model and a size, its own or the model's window.")
    if config.window is not None and size < config.window:
        raise ValueError(f"A cache of {size} steps is smaller than the model's window of {config.window}.")
    _, key_heads, head_size = config.heads
    shape = (config.num_layers, size, key_heads, head_size)
    return Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.int32(0), jnp.int32(0))


class Transformer(hk.Module):
    """A stack of blocks over `[..., T, d_model]` (`__call__`) or one step with a `Cache` (`step`).

    Both compute the same function: with a window the cache may be as short as the window, and stays
    right long after the ring has wrapped. Without one the cache must hold the whole sequence. With
    `final_norm=False` the norm at the end of a pre-norm stack is left to the caller.
    """

    def __init__(self, config: TransformerConfig, name: str | None = None, *, final_norm: bool = True):
        super().__init__(name=name)
        self._config = config
        self._blocks = [_Block(config, name=f"block_{i}") for i in range(config.num_layers)]
        final = config.norm_place == "pre" and final_norm
        self._final_norm = _norm(config, "final_norm") if final else None

    def __call__(
        self,
        x: jax.Array,
        *,
        mask: jax.Array | None = None,
        positions: jax.Array | None = None,
        context: jax.Array | None = None,
        context_mask: jax.Array | None = None,
        condition: jax.Array | None = None,
        training: bool = False,
    ) -> jax.Array:
        """
        Args:
          x: `[..., T, d_model]`.
          mask: boolean `[..., T, T]`, True where attention is allowed, beside the causal one.
          positions: `[..., T]`, or `[..., T, A]` with A `position_axes`, where they must be given; 0 … T - 1 if None.
          context: `[..., S, C]`, what cross-attention reads.
          context_mask: boolean `[..., T, S]`.
          condition: `[..., d_condition]`, with `conditioning`.
          training: whether dropout is on; needs an rng.

        Returns:
          `[..., T, d_model]`.
        """
        if positions is None:
            positions = jnp.arange(x.shape[-2])
        x = dropout(self._embed_positions(x, positions), self._config.dropout, training)
        for block in self._blocks:
            x = block(x, mask, positions, context, context_mask, condition, training)
        return x if self._final_norm is None else self._final_norm(x)

    def step(
        self,
        x: jax.Array,
        cache: Cache,
        *,
        context: jax.Array | None = None,
        context_mask: jax.Array | None = None,
        condition: jax.Array | None = None,
    ) -> tuple[jax.Array, Cache]:
        """One position, unbatched: `x` `[d_model]`, `context` `[S, C]`, `context_mask` `[S]`."""
        size = cache.keys.shape[1]
        slots = jnp.arange(size)
        slot = cache.position % size
        # The position that each slot holds once this step is written; negative where none ever was.
        held = cache.position - (slot - slots) % size
        valid = held >= cache.start
        if self._config.window is not None:
            valid &= cache.position - held < self._config.window
        position = cache.position[None]
        x = self._embed_positions(x[None], position)
        keys, values = cache.keys, cache.values
        for layer, block in enumerate(self._blocks):
            x, keys, values = block.step(
                x, layer, keys, values, slot, valid, position, context, context_mask, condition
            )
        if self._final_norm is not None:
            x = self._final_norm(x)
        return x[0], Cache(keys, values, cache.position + 1, cache.start)

    def _embed_positions(self, x, positions):
        if self._config.positions != "learned":
            return x
        shape = (self._config.max_positions, self._config.d_model)
        if x.shape[-2] > shape[0]:
            raise ValueError(f"A sequence of {x.shape[-2]} exceeds the {shape[0]} learned positions.")
        table = hk.get_parameter("positions", shape, init=hk.initializers.TruncatedNormal(0.02))
        return x + table[positions].astype(x.dtype)


def _norm(config: TransformerConfig, name: str, affine: bool = True) -> Norm:
    return Norm(config.norm_type, shift=config.bias, affine=affine, name=name)


class _Block(hk.Module):
    """Self-attention, optional cross-attention and feed-forward, each a residual branch."""

    def __init__(self, config: TransformerConfig, name: str):
        super().__init__(name=name)
        self._config = config
        heads, key_heads, size = config.heads
        # Branch outputs start small in proportion to depth, so that the sum's variance does not grow with it.
        out = hk.initializers.VarianceScaling(1.0 / (2 * config.num_layers))
        init = hk.initializers.VarianceScaling(1.0)

        def linear(features, name, init=init):
            return hk.Linear(features, config.bias, init, name=name)

        self._qkv = linear((heads + 2 * key_heads) * size, "query_key_value")
        self._out = linear(config.d_model, "attention_out", out)
        self._feed_forward = FeedForward(
            config.feed_forward,
            config.d_model,
            config.activation,
            config.bias,
            1.0 / (2 * config.num_layers),
            name="feed_forward",
        )
        affine = not config.conditioning
        self._norms = {"attention": _norm(config, "attention_norm", affine)}
        if config.cross_attention:
            self._cross_query = linear(heads * size, "cross_query")
            self._cross_key_value = linear(2 * key_heads * size, "cross_key_value")
            self._cross_out = linear(config.d_model, "cross_out", out)
            self._norms["cross"] = _norm(config, "cross_norm", affine)
        self._norms["feed_forward"] = _norm(config, "feed_forward_norm", affine)
        if config.conditioning:
            zeros = hk.initializers.Constant(0.0)
            width = 3 * len(self._norms) * config.d_model
            self._modulation = hk.Linear(width, w_init=zeros, b_init=zeros, name="modulation")

    def __call__(self, x, mask, positions, context, context_mask, condition, training):
        rates = self._config

        def attend(y):
            query, key, value = self._project(y, positions)
            rate = rates.attention_dropout if training else 0.0
            out = attention(
                query,
                key,
                value,
                mask=mask,
                causal=rates.causal,
                window=rates.window,
                dropout=rate,
                dropout_key=hk.next_rng_key() if rate else None,
            )
            return self._out(out.reshape(*out.shape[:-2], -1))

        modulations = self._modulations(condition, x.ndim - 1)
        x = self._branch("attention", attend, x, modulations, training)
        x = self._cross(x, context, context_mask, modulations, training)
        return self._branch("feed_forward", self._feed_forward, x, modulations, training)

    def step(self, x, layer, keys, values, slot, valid, position, context, context_mask, condition):
        written = {}

        def attend(y):
            query, key, value = self._project(y, position)
            start = (layer, slot, 0, 0)
            written["keys"] = jax.lax.dynamic_update_slice(keys, key[None].astype(keys.dtype), start)
            written["values"] = jax.lax.dynamic_update_slice(values, value[None].astype(values.dtype), start)
            out = attend_to_cache(query[0], written["keys"][layer], written["values"][layer], valid)
            return self._out(out.reshape(1, -1))

        modulations = self._modulations(condition, 1)
        x = self._branch("attention", attend, x, modulations, False)
        mask = None if context_mask is None else context_mask[None]
        x = self._cross(x, context, mask, modulations, False)
        x = self._branch("feed_forward", self._feed_forward, x, modulations, False)
        return x, written["keys"], written["values"]

    def _project(self, y, positions):
        heads, key_heads, size = self._config.heads
        qkv = self._qkv(y)
        qkv = qkv.reshape(*qkv.shape[:-1], heads + 2 * key_heads, size)
        if self._config.positions == "rotary":
            # Queries and keys are turned together, then parted.
            turned = rotary(qkv[..., : heads + key_heads, :], positions, self._config.position_axes)
            return turned[..., :heads, :], turned[..., heads:, :], qkv[..., heads + key_heads :, :]
        return jnp.split(qkv, [heads, heads + key_heads], axis=-2)

    def _cross(self, x, context, context_mask, modulations, training):
        if not self._config.cross_attention:
            if context is not None:
                raise ValueError("A context was given to a Transformer without cross_attention.")
            return x
        if context is None:
            raise ValueError("A Transformer with cross_attention needs a context.")
        heads, key_heads, size = self._config.heads

        def attend(y):
            query = self._cross_query(y).reshape(*y.shape[:-1], heads, size)
            both = self._cross_key_value(context).reshape(*context.shape[:-1], 2 * key_heads, size)
            key, value = jnp.split(both, 2, axis=-2)
            out = attention(query, key, value, mask=context_mask)
            return self._cross_out(out.reshape(*out.shape[:-2], -1))

        return self._branch("cross", attend, x, modulations, training)

    def _modulations(self, condition, ndim):
        """For each branch (scale, shift, gate), broadcastable to the input; None without conditioning."""
        if not self._config.conditioning:
            if condition is not None:
                raise ValueError("A condition was given to a Transformer without conditioning.")
            return None
        if condition is None:
            raise ValueError("A Transformer with conditioning needs a condition.")
        parts = self._modulation(jax.nn.silu(condition))
        parts = parts.reshape(*parts.shape[:-1], *[1] * (ndim - parts.ndim + 1), len(self._norms), 3, -1)
        return {name: tuple(parts[..., i, j, :] for j in range(3)) for i, name in enumerate(self._norms)}

    def _branch(self, name, function, x, modulations, training):
        norm = self._norms[name]
        scale, shift, gate = modulations[name] if modulations else (None, None, None)

        def normed(y):
            y = norm(y)
            return y if scale is None else y * (1 + scale) + shift

        y = function(normed(x) if self._config.norm_place == "pre" else x)
        y = dropout(y if gate is None else y * gate, self._config.dropout, training)
        return x + y if self._config.norm_place == "pre" else normed(x + y)
