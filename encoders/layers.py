"""Norms and feed-forward networks that every Transformer-like block shares."""

from typing import Literal

import haiku as hk
import jax
import jax.numpy as jnp


Activation = Literal["relu", "squared_relu", "gelu", "exact_gelu", "quick_gelu", "swish", "swiglu", "geglu"]
NormType = Literal["layer", "rms"]


def _exact_gelu(x: jax.Array) -> jax.Array:
    return jax.nn.gelu(x, approximate=False)


def _quick_gelu(x: jax.Array) -> jax.Array:
    """The sigmoid approximation of Hendrycks & Gimpel 2016 (arXiv 1606.08415, section 2), OpenAI's CLIP's."""
    return x * jax.nn.sigmoid(1.702 * x)


def _squared_relu(x: jax.Array) -> jax.Array:
    """So et al. 2021 (arXiv 2109.08668, section 3)."""
    return jnp.square(jax.nn.relu(x))


_GATES = {"swiglu": jax.nn.silu, "geglu": jax.nn.gelu}
_PLAIN = {
    "relu": jax.nn.relu,
    "squared_relu": _squared_relu,
    "gelu": jax.nn.gelu,
    "exact_gelu": _exact_gelu,
    "quick_gelu": _quick_gelu,
    "swish": jax.nn.silu,
}


class Norm(hk.Module):
    """Layer norm or RMS norm over the last axis, computed in float32, with a learned scale.

    `shift` adds a learned offset (layer norm only); `affine=False` learns nothing, for norms whose
    scale and shift come from a condition.
    """

    def __init__(self, norm_type: NormType, shift: bool = True, affine: bool = True, name: str | None = None):
        super().__init__(name=name)
        if norm_type not in ("layer", "rms"):
            raise ValueError(f"norm_type must be 'layer' or 'rms', got {norm_type!r}.")
        self._type, self._shift, self._affine = norm_type, shift, affine

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x.astype(jnp.float32)
        if self._type == "layer":
            y = y - jnp.mean(y, axis=-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + 1e-5)
        if self._affine:
            y = y * hk.get_parameter("scale", x.shape[-1:], init=jnp.ones)
            if self._shift and self._type == "layer":
                y = y + hk.get_parameter("offset", x.shape[-1:], init=jnp.zeros)
        return y.astype(x.dtype)


class FeedForward(hk.Module):
    """Two linear maps with an activation between; the gated ones (Shazeer 2020) hold a third."""

    def __init__(
        self,
        hidden: int,
        output: int,
        activation: Activation = "gelu",
        bias: bool = True,
        output_scale: float = 1.0,
        name: str | None = None,
    ):
        super().__init__(name=name)
        if activation not in _GATES and activation not in _PLAIN:
            raise ValueError(f"activation must be one of {[*_PLAIN, *_GATES]}, got {activation!r}.")
        self._hidden, self._output, self._activation = hidden, output, activation
        self._bias, self._output_scale = bias, output_scale

    def __call__(self, x: jax.Array) -> jax.Array:
        gated = self._activation in _GATES
        width = 2 * self._hidden if gated else self._hidden
        x = hk.Linear(width, self._bias, hk.initializers.VarianceScaling(1.0), name="up")(x)
        if gated:
            gate, x = jnp.split(x, 2, axis=-1)
            x = _GATES[self._activation](gate) * x
        else:
            x = _PLAIN[self._activation](x)
        init = hk.initializers.VarianceScaling(self._output_scale)
        return hk.Linear(self._output, self._bias, init, name="down")(x)


def dropout(x: jax.Array, rate: float, training: bool) -> jax.Array:
    return hk.dropout(hk.next_rng_key(), rate, x) if training and rate else x
