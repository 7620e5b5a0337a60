"""Heads: published parameter counts, and numbers against NumPy."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.encoders import Mlp


X = np.random.default_rng(0).normal(1.0, 3.0, size=(8, 5)).astype(np.float32)


def built(*args, **kwargs):
    return hk.without_apply_rng(
        hk.transform_with_state(lambda x, is_training: Mlp(*args, **kwargs)(x, is_training))
    )


def counted(network, features):
    params, _ = jax.eval_shape(
        lambda key: network.init(key, jnp.zeros((2, features)), True), jax.random.key(0)
    )
    return sum(x.size for x in jax.tree.leaves(params))


def test_braves_projector_and_predictor_have_9_986_560_parameters():
    projector = built((4096, 128), norm="batch", final_norm=True)
    predictor = built((4096, 128), norm="batch")
    assert counted(projector, 2048) + counted(predictor, 128) == 9_986_560


def test_an_mlp_is_what_numpy_says():
    network = built((4, 3, 2), norm="layer")
    params, state = network.init(jax.random.key(0), X, True)
    out, _ = network.apply(params, state, X, True)
    x = X
    for i in range(3):
        x = x @ params[f"mlp/linear_{i}"]["w"] + params[f"mlp/linear_{i}"]["b"]
        if i < 2:
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
            x = np.maximum(x, 0)
    np.testing.assert_allclose(out, x, atol=1e-4)
    assert set(params) == {*(f"mlp/linear_{i}" for i in range(3)), "mlp/norm_0", "mlp/norm_1"}


def test_batch_norm_uses_the_batch_and_then_its_running_means():
    network = built((3,), norm="batch", final_norm=True)
    params, state = network.init(jax.random.key(0), X, True)
    linear = X @ params["mlp/linear_0"]["w"] + params["mlp/linear_0"]["b"]
    out, state = network.apply(params, state, X, True)
    expected = (linear - linear.mean(0)) / np.sqrt(linear.var(0) + 1e-5)
    np.testing.assert_allclose(out, expected, atol=1e-4)
    # One update: the debiased mean is the batch's own. A second one at decay 0.9 weighs them 0.09 to 0.1.
    out, _ = network.apply(params, state, X, False)
    np.testing.assert_allclose(out, expected, atol=1e-3)
    _, state = network.apply(params, state, X + 1, True)
    shifted = (X + 1) @ params["mlp/linear_0"]["w"] + params["mlp/linear_0"]["b"]
    mean = (0.09 * linear.mean(0) + 0.1 * shifted.mean(0)) / 0.19
    np.testing.assert_allclose(state["mlp/norm_0/~/mean_ema"]["average"], mean[None], atol=1e-4)


def test_bad_sizes_and_norms_are_refused():
    for settings, message in (
        (((),), "one layer or more"),
        (((4, 0),), "one layer or more"),
        (((4,), None, True), "None has no last norm"),
        (((4,), "group"), "'batch', 'layer' or None"),
    ):
        with pytest.raises(ValueError, match=message):
            built(*settings).init(jax.random.key(0), X, True)
