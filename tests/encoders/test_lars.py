"""LARS: steps worked out by hand, and which parameters they are for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.encoders import TrainConfig, lars


PARAMS = {
    "linear": {"w": jnp.array([[3.0, 4.0]]), "b": jnp.array([3.0, 4.0])},
    "norm": {"scale": jnp.ones(2)},
}
GRADIENTS = {
    "linear": {"w": jnp.array([[0.0, 2.0]]), "b": jnp.array([0.0, 2.0])},
    "norm": {"scale": jnp.array([0.5, 0.0])},
}


def steps(optimiser, count):
    state, found = optimiser.init(PARAMS), []
    for _ in range(count):
        updates, state = optimiser.update(GRADIENTS, state, PARAMS)
        found.append(updates)
    return found


def test_weights_move_a_share_of_their_norm_and_vectors_by_their_gradient():
    (first,) = steps(lars(0.5, momentum=0.0, trust_coefficient=0.01), 1)
    # |w| = 5 and |g| = 2: the step is 0.01 * 5 / 2 * g at rate 1, of norm 0.05.
    np.testing.assert_allclose(first["linear"]["w"], [[0, -0.025]], rtol=1e-6)
    np.testing.assert_allclose(first["linear"]["b"], [0, -1.0], rtol=1e-6)
    np.testing.assert_allclose(first["norm"]["scale"], [-0.25, 0], rtol=1e-6)


def test_the_length_of_a_weights_gradient_does_not_matter_and_that_of_a_vectors_does():
    optimiser = lars(1.0)
    tenfold = jax.tree.map(lambda g: 10 * g, GRADIENTS)
    once, _ = optimiser.update(GRADIENTS, optimiser.init(PARAMS), PARAMS)
    ten, _ = optimiser.update(tenfold, optimiser.init(PARAMS), PARAMS)
    np.testing.assert_allclose(ten["linear"]["w"], once["linear"]["w"], rtol=1e-5)
    np.testing.assert_allclose(ten["linear"]["b"], 10 * once["linear"]["b"], rtol=1e-5)
    np.testing.assert_allclose(ten["norm"]["scale"], 10 * once["norm"]["scale"], rtol=1e-5)


def test_decay_is_part_of_a_weights_gradient_and_no_vectors():
    (first,) = steps(lars(1.0, momentum=0.0, weight_decay=0.1, trust_coefficient=0.01), 1)
    decayed = np.array([0.3, 2.4])
    np.testing.assert_allclose(
        first["linear"]["w"][0], -0.01 * 5 / np.linalg.norm(decayed) * decayed, rtol=1e-5
    )
    np.testing.assert_allclose(first["linear"]["b"], [0, -2.0], rtol=1e-6)


def test_momentum_is_nesterovs():
    found = steps(lars(1.0, momentum=0.9, trust_coefficient=1.0), 3)
    # The trace of a constant step s is s, 1.9 s, 2.71 s; Nesterov's update is s + 0.9 of it.
    factors = [1 + 0.9 * trace for trace in (1.0, 1.9, 2.71)]
    np.testing.assert_allclose([x["linear"]["b"][1] for x in found], [-2 * f for f in factors], rtol=1e-5)
    np.testing.assert_allclose([x["linear"]["w"][0, 1] for x in found], [-5 * f for f in factors], rtol=1e-5)


def test_the_loops_lars_is_this_one_after_clipping():
    config = TrainConfig(optimiser="lars", learning_rate=1.0, momentum=0.0, weight_decay=0.0, clip_norm=0.1)
    (first,) = steps(config.transformation(), 1)
    norm = np.sqrt(4 + 4 + 0.25)
    np.testing.assert_allclose(first["linear"]["b"], [0, -2 * 0.1 / norm], rtol=1e-5)
    np.testing.assert_allclose(first["linear"]["w"], [[0, -0.005]], rtol=1e-5)
    with pytest.raises(ValueError, match="'adamw' or 'lars', not 'sgd'"):
        TrainConfig(optimiser="sgd")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="momentum must be at least 0 and below 1"):
        TrainConfig(momentum=1.0)
