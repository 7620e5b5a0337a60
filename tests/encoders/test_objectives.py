"""Objectives against closed forms, sums by hand, and Optax."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from limbeck.encoders import nt_xent, pairwise, regression


RNG = np.random.default_rng(0)
A, B, C = (RNG.normal(size=(4, 6)).astype(np.float32) for _ in range(3))


def by_hand(a, b, temperature, negatives):
    """Sums over rows in float64, one anchor after the other."""

    def cosine(x, y):
        return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))

    losses = []
    sides = [(a.astype(float), b.astype(float)), (b.astype(float), a.astype(float))]
    for here, there in sides:
        for i in range(len(here)):
            candidates = [cosine(here[i], y) for y in there]
            if negatives == "all":
                candidates += [cosine(here[i], y) for j, y in enumerate(here) if j != i]
            total = sum(np.exp(c / temperature) for c in candidates)
            losses.append(np.log(total) - cosine(here[i], there[i]) / temperature)
    return np.mean(losses)


@pytest.mark.parametrize("negatives", ["cross", "all"])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_nt_xent_is_the_sum_by_hand(negatives, temperature):
    expected = by_hand(A, B, temperature, negatives)
    np.testing.assert_allclose(nt_xent(A, B, temperature, negatives), expected, rtol=1e-5)
    np.testing.assert_allclose(nt_xent(B, A, temperature, negatives), expected, rtol=1e-5)
    np.testing.assert_allclose(nt_xent(3 * A, B, temperature, negatives), expected, rtol=1e-5)


def test_closed_forms_of_4_orthogonal_pairs():
    eye = np.eye(4, dtype=np.float32)
    e = np.exp(2.0)
    np.testing.assert_allclose(nt_xent(eye, eye, 0.5), np.log(e + 3) - 2, rtol=1e-5)
    # 7 candidates: the partner and 6 at right angles.
    np.testing.assert_allclose(nt_xent(eye, eye, 0.5, "all"), np.log(e + 6) - 2, rtol=1e-5)
    # All alike: chance.
    alike = np.ones((4, 4), np.float32)
    np.testing.assert_allclose(nt_xent(alike, alike), np.log(4), rtol=1e-5)
    np.testing.assert_allclose(nt_xent(alike, alike, negatives="all"), np.log(7), rtol=1e-5)
    # Every partner is the wrong one.
    np.testing.assert_allclose(nt_xent(eye, eye[::-1], 0.5), np.log(e + 3), rtol=1e-5)


def test_examples_that_are_not_there_are_as_if_not_in_the_batch():
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(6, 4)).astype(np.float32) for _ in range(2))
    there = np.array([True, False, True, True, False, True])
    for negatives in ("cross", "all"):
        found = nt_xent(a, b, 0.5, negatives, there=jnp.asarray(there))
        np.testing.assert_allclose(found, nt_xent(a[there], b[there], 0.5, negatives), rtol=1e-5)
        gradient = jax.grad(lambda a, n=negatives: nt_xent(a, b, 0.5, n, there=jnp.asarray(there)))(a)
        assert (np.asarray(gradient)[~there] == 0).all() and np.isfinite(gradient).all()
        # Nobody there: nothing to learn, and no NaN.
        nobody = jax.value_and_grad(lambda a, n=negatives: nt_xent(a, b, 0.5, n, there=jnp.zeros(6, bool)))(a)
        assert float(nobody[0]) == 0 and (np.asarray(nobody[1]) == 0).all()


def test_shapes_that_do_not_go_together_are_refused():
    for a, b, there, match in (
        (A, B[:3], None, r"\[4, 6\] and \[3, 6\]"),
        (A[0], B[0], None, r"\[6\] and \[6\]"),
        (A, B, jnp.ones(3, bool), r"bool \[4\], not bool \[3\]"),
        (A, B, jnp.ones(4, jnp.int32), r"bool \[4\], not int32 \[4\]"),
    ):
        with pytest.raises(ValueError, match=match):
            nt_xent(a, b, there=there)


def test_nt_xent_with_all_negatives_is_optaxs():
    unit = np.concatenate([x / np.linalg.norm(x, axis=1, keepdims=True) for x in (A, B)])
    theirs = optax.losses.ntxent(jnp.asarray(unit), jnp.tile(jnp.arange(4), 2), 0.2)
    np.testing.assert_allclose(nt_xent(A, B, 0.2, "all"), theirs, rtol=1e-4)


def test_gradients_are_finite_where_embeddings_are_zero():
    for loss in (nt_xent, regression):
        slope = jax.grad(loss)(jnp.zeros((4, 6)), B)
        assert np.isfinite(slope).all()


def test_pairwise_is_the_mean_over_unordered_pairs_in_any_order():
    views = {"video": A, "wave": B, "mel": C}
    expected = np.mean([by_hand(x, y, 0.1, "cross") for x, y in itertools.combinations((A, B, C), 2)])
    values = {
        float(pairwise(nt_xent, {name: views[name] for name in order}))
        for order in itertools.permutations(views)
    }
    assert len(values) == 1
    np.testing.assert_allclose(values.pop(), expected, rtol=1e-5)


def test_pairwise_of_chosen_pairs_keeps_their_order():
    views = {"a": np.float32(5), "b": np.float32(2), "c": np.float32(1)}
    found = pairwise(lambda x, y: x - y, views, [("b", "a"), ("c", "b")])
    assert found == ((2 - 5) + (1 - 2)) / 2
    with pytest.raises(ValueError, match=r"no views \['d'\]"):
        pairwise(nt_xent, views, [("a", "d")])
    with pytest.raises(ValueError, match="a pair needs two"):
        pairwise(nt_xent, {"a": A})


def test_regression_is_0_1_and_2_and_does_not_move_the_target():
    right = np.float32([[1, 0], [0, 3]])
    np.testing.assert_allclose(regression(right, 5 * right), 0, atol=1e-6)
    np.testing.assert_allclose(regression(right, right[:, ::-1]), 1, atol=1e-6)
    np.testing.assert_allclose(regression(right, -right), 2, atol=1e-6)
    cosines = np.sum(A * B, axis=1) / np.linalg.norm(A, axis=1) / np.linalg.norm(B, axis=1)
    np.testing.assert_allclose(regression(A, B), np.mean(1 - cosines), rtol=1e-5)
    slopes = jax.grad(regression, argnums=(0, 1))(A, B)
    assert np.abs(slopes[0]).max() > 0.01 and not np.any(slopes[1])


def test_bad_negatives_are_refused():
    with pytest.raises(ValueError, match="'cross' or 'all', not 'some'"):
        nt_xent(A, B, negatives="some")
