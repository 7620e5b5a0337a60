"""The Transformer: cached steps are the full forward, counts by hand, clearing, batching."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.encoders import CACHE_AXES, Transformer, TransformerConfig, empty_cache


W = 5
T = 6 * W + 3


def small(**changes):
    values = {"num_layers": 2, "d_model": 16, "num_heads": 4, "feed_forward": 24, "window": W}
    return TransformerConfig(**{**values, **changes})


class Functions:
    """Jitted functions and random parameters: adaLN-Zero starts at the identity, which would test nothing."""

    def __init__(self, config):
        self.config = config
        self.kwargs = {}
        if config.cross_attention:
            self.kwargs["context"] = jax.random.normal(jax.random.key(5), (3, 7))
        if config.conditioning:
            self.kwargs["condition"] = jax.random.normal(jax.random.key(6), (4,))
        full = hk.transform(lambda x, **kwargs: Transformer(config, "t")(x, **kwargs))
        step = hk.without_apply_rng(
            hk.transform(lambda x, cache, **kw: Transformer(config, "t").step(x, cache, **kw))
        )
        self.x = jax.random.normal(jax.random.key(1), (T, config.d_model))
        params = full.init(jax.random.key(0), self.x, **self.kwargs)
        keys = jax.random.split(jax.random.key(2), len(jax.tree.leaves(params)))
        leaves = [
            0.3 * jax.random.normal(k, p.shape) + p
            for k, p in zip(keys, jax.tree.leaves(params), strict=True)
        ]
        self.params = jax.tree.unflatten(jax.tree.structure(params), leaves)
        self.apply, self.step = full.apply, step.apply

    def full(self, x=None, **kwargs):
        return self.apply(self.params, None, self.x if x is None else x, **{**self.kwargs, **kwargs})

    @functools.partial(jax.jit, static_argnums=0)
    def steps(self, cache, x):
        def body(cache, x):
            out, cache = self.step(self.params, x, cache, **self.kwargs)
            return cache, out

        cache, out = jax.lax.scan(body, cache, x)
        return out, cache


@pytest.fixture(scope="module")
def plain():
    return Functions(small())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm_place": "post", "norm_type": "rms", "bias": False, "activation": "swiglu"},
        {"key_value_heads": 1},
        {"key_value_heads": 2, "head_size": 6, "window": 1},
        {"positions": "none"},
        {"conditioning": True, "cross_attention": True, "key_value_heads": 2},
        {"conditioning": True, "norm_place": "post"},
    ],
    ids=lambda changes: "-".join(changes) or "plain",
)
def test_cached_steps_are_the_full_forward_long_after_the_ring_has_wrapped(changes):
    functions = Functions(small(**changes))
    expected = functions.full()
    out, cache = functions.steps(empty_cache(functions.config), functions.x)
    assert cache.keys.shape[1] == functions.config.window and int(cache.position) == T
    np.testing.assert_allclose(out, expected, atol=1e-5 * max(1.0, float(jnp.abs(expected).max())))


def test_a_cache_longer_than_the_window_changes_nothing(plain):
    out, _ = plain.steps(empty_cache(plain.config, W + 4), plain.x)
    np.testing.assert_allclose(out, plain.full(), atol=2e-5)


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_without_a_window_the_cache_holds_the_sequence(positions):
    functions = Functions(small(window=None, positions=positions))
    out, _ = functions.steps(empty_cache(functions.config, T), functions.x)
    np.testing.assert_allclose(out, functions.full(), atol=2e-5)


def test_two_layers_see_twice_as_far_and_nothing_ahead(plain):
    t = 20
    gradient = jax.grad(lambda x: jnp.sum(plain.full(x)[t] ** 2))(plain.x)
    reached = np.flatnonzero(np.abs(gradient).max(axis=1))
    # Two layers of W steps: t - 2 (W - 1) … t.
    np.testing.assert_array_equal(reached, np.arange(t - 2 * (W - 1), t + 1))


def test_raising_start_is_a_fresh_cache(plain):
    """Rotary scores depend on differences only, so one that begins at position 13 is like one from 0."""
    _, cache = plain.steps(empty_cache(plain.config), plain.x[:13])
    out, _ = plain.steps(cache._replace(start=cache.position), plain.x[13:])
    fresh, _ = plain.steps(empty_cache(plain.config), plain.x[13:])
    np.testing.assert_allclose(out, fresh, atol=2e-5)
    kept, _ = plain.steps(cache, plain.x[13:])
    assert np.abs(kept[0] - fresh[0]).max() > 1e-3


def test_sequences_that_share_a_position_are_single_ones(plain):
    x = jax.random.normal(jax.random.key(3), (3, T, 16))
    axes = CACHE_AXES
    step = jax.vmap(
        lambda x, cache: plain.step(plain.params, x, cache), in_axes=(0, axes), out_axes=(0, axes)
    )

    @jax.jit
    def run(x):
        cache = jax.vmap(lambda _: empty_cache(plain.config), out_axes=axes)(jnp.arange(3))

        def body(cache, at):
            # The second sequence alone is cleared, at step 11.
            x, t = at
            start = jnp.where((t == 11) & (jnp.arange(3) == 1), cache.position, cache.start)
            out, cache = step(x, cache._replace(start=start))
            return cache, out

        return jax.lax.scan(body, cache, (jnp.moveaxis(x, 0, 1), jnp.arange(T)))

    cache, out = run(x)
    assert cache.position.shape == () and cache.start.shape == (3,)
    for i in (0, 2):
        single, _ = plain.steps(empty_cache(plain.config), x[i])
        np.testing.assert_allclose(out[:, i], single, atol=2e-5)
    single, _ = plain.steps(empty_cache(plain.config), x[1, 11:])
    np.testing.assert_allclose(out[11:, 1], single, atol=2e-5)


def test_batches_are_singles_and_conditions_are_per_sequence():
    functions = Functions(small(conditioning=True, cross_attention=True))
    x = jax.random.normal(jax.random.key(3), (2, 9, 16))
    context = jax.random.normal(jax.random.key(4), (2, 3, 7))
    condition = jax.random.normal(jax.random.key(5), (2, 4))
    out = functions.full(x, context=context, condition=condition)
    for i in range(2):
        single = functions.full(x[i], context=context[i], condition=condition[i])
        np.testing.assert_allclose(out[i], single, atol=2e-5)
    assert np.abs(out[0] - functions.full(x[0], context=context[0], condition=condition[1])).max() > 1e-2


def test_adaptive_norms_begin_as_the_identity():
    config = small(conditioning=True, norm_place="pre")
    function = hk.without_apply_rng(hk.transform(lambda x, c: Transformer(config)(x, condition=c)))
    x, c = jax.random.normal(jax.random.key(0), (6, 16)), jnp.ones(4)
    out = np.asarray(function.apply(function.init(jax.random.key(1), x, c), x, c))
    # All gates are zero: only the final norm is left.
    mean, variance = np.mean(x, -1, keepdims=True), np.var(x, -1, keepdims=True)
    np.testing.assert_allclose(out, (x - mean) / np.sqrt(variance + 1e-5), atol=1e-5)


def test_dropout_only_in_training():
    config = small(dropout=0.5, attention_dropout=0.5)
    functions = Functions(config)
    np.testing.assert_array_equal(functions.full(), functions.full())
    one, two = (
        functions.apply(functions.params, jax.random.key(i), functions.x, training=True) for i in (0, 1)
    )
    assert np.abs(one - two).max() > 1e-2
    assert np.abs(one - functions.full()).max() > 1e-2


def count(config, final_norm=True, **kwargs):
    function = hk.transform(lambda x: Transformer(config, final_norm=final_norm)(x, **kwargs))
    shapes = jax.eval_shape(function.init, jax.random.key(0), jnp.zeros((2, config.d_model)))
    return sum(np.prod(x.shape, dtype=int) for x in jax.tree.leaves(shapes))


def test_parameter_counts_by_hand():
    # d 16, 4 query heads and 2 key/value heads of 4, gated feed-forward of 24, layer norms, 2 layers.
    block = (
        16 * (4 + 2 + 2) * 4
        + 32  # queries, keys, values
        + 16 * 16
        + 16  # out
        + 16 * 2 * 24
        + 48
        + 24 * 16
        + 16  # gate and up, down
        + 2 * 2 * 16  # two norms
    )
    config = small(key_value_heads=2, activation="swiglu")
    assert count(config) == 2 * block + 2 * 16
    # Post-norm has no final one; learned positions have a row each.
    post = small(
        key_value_heads=2, activation="swiglu", norm_place="post", positions="learned", max_positions=40
    )
    assert count(post) == 2 * block + 40 * 16
    # Nor has pre-norm where it is left to the caller.
    assert count(config, final_norm=False) == 2 * block
    # Without biases, RMS scales only.
    bare = small(norm_type="rms", bias=False)
    assert count(bare) == 2 * (16 * 48 + 16 * 16 + 2 * 16 * 24 + 2 * 16) + 16
    # Cross-attention to a context of 7, all heads 4: query, key and value, out, norm.
    cross = small(norm_type="rms", bias=False, cross_attention=True)
    assert count(cross, context=jnp.zeros((3, 7))) == count(bare) + 2 * (16 * 16 + 7 * 32 + 16 * 16 + 16)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_heads": 3}, "num_heads=3 must divide d_model=16"),
        ({"key_value_heads": 3}, "key_value_heads=3"),
        ({"window": 0}, "window=0"),
        ({"causal": False}, "causal=True"),
        ({"norm_place": "middle"}, "norm_place"),
        ({"positions": "sine"}, "positions"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        small(**changes)


def test_calls_that_do_not_fit_are_refused(plain):
    with pytest.raises(ValueError, match="without conditioning"):
        plain.full(condition=jnp.zeros(4))
    with pytest.raises(ValueError, match="without cross_attention"):
        plain.full(context=jnp.zeros((2, 4)))
    with pytest.raises(ValueError, match="smaller than the model's window"):
        empty_cache(plain.config, W - 1)
    with pytest.raises(ValueError, match="needs a causal model and a size"):
        empty_cache(small(window=None))
    with pytest.raises(ValueError, match="exceeds the 8 learned positions"):
        Functions(small(positions="learned", max_positions=8))
