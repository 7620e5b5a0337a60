"""Norms and feed-forward networks against numpy."""

import math

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.encoders import FeedForward, Norm


X = np.random.default_rng(0).normal(2.0, 3.0, size=(4, 6)).astype(np.float32)


def randomised(params, seed=1):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), params)


def apply(make, x=X):
    function = hk.without_apply_rng(hk.transform(lambda x: make()(x)))
    params = randomised(function.init(jax.random.key(0), x))
    return np.asarray(function.apply(params, x)), params


def test_layer_norm():
    out, params = apply(lambda: Norm("layer", name="norm"))
    expected = (X - X.mean(-1, keepdims=True)) / np.sqrt(X.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(
        out, expected * params["norm"]["scale"] + params["norm"]["offset"], rtol=1e-4, atol=1e-5
    )


def test_rms_norm_has_no_offset():
    out, params = apply(lambda: Norm("rms", name="norm"))
    assert set(params["norm"]) == {"scale"}
    expected = X / np.sqrt((X**2).mean(-1, keepdims=True) + 1e-5) * params["norm"]["scale"]
    np.testing.assert_allclose(out, expected, rtol=1e-4)


def test_a_norm_without_parameters_and_in_half_precision():
    out, params = apply(lambda: Norm("layer", affine=False, name="norm"), jnp.asarray(X, jnp.bfloat16))
    assert params == {} and out.dtype == jnp.bfloat16
    np.testing.assert_allclose(out.astype(np.float32).mean(-1), 0.0, atol=0.02)
    np.testing.assert_allclose(out.astype(np.float32).std(-1), 1.0, atol=0.02)


PLAIN = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "exact_gelu": lambda x: 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "quick_gelu": lambda x: x / (1 + np.exp(-1.702 * x)),
    "swish": lambda x: x / (1 + np.exp(-x)),
}
GATED = {"swiglu": PLAIN["swish"], "geglu": PLAIN["gelu"]}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", [*PLAIN, *GATED])
def test_feed_forward(activation, bias):
    out, params = apply(lambda: FeedForward(5, 3, activation, bias, name="ff"))
    up, down = params["ff/up"], params["ff/down"]
    assert ("b" in up) == ("b" in down) == bias
    hidden = X @ up["w"] + up.get("b", 0)
    if activation in PLAIN:
        assert up["w"].shape == (6, 5)
        hidden = PLAIN[activation](hidden)
    else:
        assert up["w"].shape == (6, 10)
        hidden = GATED[activation](hidden[:, :5]) * hidden[:, 5:]
    np.testing.assert_allclose(out, hidden @ down["w"] + down.get("b", 0), rtol=1e-4, atol=1e-4)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="'batch'"):
        apply(lambda: Norm("batch"))
    with pytest.raises(ValueError, match="'tanh'"):
        apply(lambda: FeedForward(2, 2, "tanh"))
