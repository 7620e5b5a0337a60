"""LARS, the optimiser of contrastive batches of thousands of examples."""

import optax

from .optimisation import decays_matrices


def lars(
    schedule: optax.Schedule | float,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    trust_coefficient: float = 1e-3,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """LARS (You et al. 2017, arXiv 1708.03888, algorithm 1) with Nesterov momentum, as BYOL and BraVe use it.

    Weights (two axes or more) get weight decay, and then a step of `trust_coefficient * |w| / |g|` times the rate.
    Biases and the scales and offsets of norms get plain momentum steps. Optax's masks are True where a part applies;
    BraVe's published trainer passes them the other way round, which leaves the weights to plain momentum.

    Args:
      schedule: learning rate, or a function from the update's number to it.
      momentum: decay of the sum of past steps; the rate is already in them.
      weight_decay: times the weight, added to the gradient before the trust ratio.
      trust_coefficient: what share of its norm a weight moves at rate 1.
      clip_norm: largest global norm of the gradient; None leaves it as it is.
    """
    optimiser = optax.lars(
        schedule,
        weight_decay,
        weight_decay_mask=decays_matrices,
        trust_coefficient=trust_coefficient,
        trust_ratio_mask=decays_matrices,
        momentum=momentum,
        nesterov=True,
    )
    return optimiser if clip_norm is None else optax.chain(optax.clip_by_global_norm(clip_norm), optimiser)
