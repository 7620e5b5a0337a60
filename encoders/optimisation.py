"""The optimiser of the training loop: AdamW, warm-up and cosine decay, clipping by the global norm."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax


def warmup_cosine(
    peak: float, steps: int, warmup_steps: int = 0, initial: float = 0.0, final: float = 0.0
) -> optax.Schedule:
    """Learning rate per update: a straight line up to the peak, then half a cosine down.

    Update `i` (counted from 0) uses
    `initial + (peak - initial) * i / warmup_steps` for `i < warmup_steps`, and after that
    `final + (peak - final) * (1 + cos(pi * (i - warmup_steps) / (steps - warmup_steps))) / 2`.
    `final` would be reached at update `steps`, one after the last.

    Raises:
      ValueError: if the warm-up is not shorter than the run, or a rate is negative or not finite.
    """
    if not 0 <= warmup_steps < steps:
        raise ValueError(
            f"the warm-up must be shorter than the run: warmup_steps = {warmup_steps}, steps = {steps}"
        )
    for name, rate in (("peak", peak), ("initial", initial), ("final", final)):
        if not (math.isfinite(rate) and rate >= 0):
            raise ValueError(f"the {name} learning rate must be a number of at least 0, not {rate}")

    def schedule(count):
        count = jnp.asarray(count, jnp.float32)
        rising = initial + (peak - initial) * count / max(warmup_steps, 1)
        progress = jnp.clip((count - warmup_steps) / (steps - warmup_steps), 0.0, 1.0)
        falling = final + (peak - final) * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
        return jnp.where(count < warmup_steps, rising, falling)

    return schedule


def decays_matrices(params: Any) -> Any:
    """Mask of the parameters that weight decay applies to: those with two axes or more.

    Biases and the scales and offsets of norms are left alone; shrinking them towards zero helps nothing.
    """
    return jax.tree.map(lambda x: jnp.ndim(x) >= 2, params)


def adamw(
    schedule: optax.Schedule | float,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
    decay_mask: Callable[[Any], Any] = decays_matrices,
) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019, algorithm 2, in the form where the rate multiplies the decay).

    The order is: clip the gradient by its global norm, scale by Adam's moments, add `weight_decay` times
    the parameter, multiply all of it by minus the learning rate. So a decay of 0.01 at a rate of 1e-3
    shrinks a matrix by a factor 1 - 1e-5 at each update, and follows the schedule.

    Args:
      schedule: learning rate, or a function from the update's number to it.
      b1, b2: decay rates of the first and the second moment.
      eps: added to the square root of the second moment.
      weight_decay: 0 for plain Adam.
      clip_norm: largest global norm of the gradient; None leaves it as it is.
      decay_mask: from the parameters to a tree of booleans, true where decay applies.
    """
    parts = []
    if clip_norm is not None:
        parts.append(optax.clip_by_global_norm(clip_norm))
    parts.append(optax.scale_by_adam(b1=b1, b2=b2, eps=eps))
    if weight_decay:
        parts.append(optax.add_decayed_weights(weight_decay, mask=decay_mask))
    parts.append(optax.scale_by_learning_rate(schedule))
    return optax.chain(*parts)
