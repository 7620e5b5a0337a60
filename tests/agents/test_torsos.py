import itertools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from dm_env import specs
from limbeck.agents import TORSOS, default_torso, make_agent_for, make_torso
from limbeck.envs import tokenize_app
from limbeck.envs.screen_goals import NUM_APP_TOKENS


SPEC = {
    "audio": specs.BoundedArray((600,), np.float32, -1, 1, "audio"),
    "direction": specs.BoundedArray((), np.int32, 0, 3, "direction"),
    "image": specs.BoundedArray((14, 21, 3), np.uint8, 0, 255, "image"),
    "labels": specs.BoundedArray((4, 2), np.int32, 0, 30, "labels"),
    "speed": specs.Array((2,), np.float32, "speed"),
    "symbols": specs.BoundedArray((7, 7, 3), np.uint8, 0, 255, "symbols"),
    "text": specs.BoundedArray((5,), np.int32, 0, 30, "text"),
}


def draw(spec, leading=(), seed=0):
    rng = np.random.default_rng(seed)

    def one(name):
        shape = (*leading, *spec[name].shape)
        if name == "symbols":
            return np.stack([rng.integers(0, n, shape[:-1]) for n in (11, 6, 3)], -1).astype(np.uint8)
        if spec[name].dtype == bool:
            return rng.random(shape) < 0.5
        if spec[name].dtype == np.float32:
            return rng.normal(size=shape).astype(np.float32)
        return rng.integers(0, int(np.max(spec[name].maximum)) + 1, shape).astype(spec[name].dtype)

    return {name: one(name) for name in spec}


def build(spec, name="dictionary", **settings):
    network = hk.without_apply_rng(hk.transform(make_torso(name, spec, **settings)))
    return jax.jit(network.init)(jax.random.key(0), draw(spec)), network.apply


@pytest.fixture(scope="module")
def whole():
    params, apply = build(SPEC, hidden=(16,))
    return params, jax.jit(apply)


def subsets():
    every = [keys for n in range(1, len(SPEC) + 1) for keys in itertools.combinations(SPEC, n)]
    return [keys for keys in every if "text" in keys or "labels" not in keys]


@pytest.mark.parametrize("keys", subsets(), ids="+".join)
def test_any_key_may_be_absent(keys):
    spec = {name: SPEC[name] for name in keys}
    network = hk.without_apply_rng(hk.transform(make_torso("dictionary", spec, hidden=(8, 16))))

    def features(key, observation):
        return network.apply(network.init(key, observation), observation)

    shape = jax.eval_shape(features, jax.random.key(0), draw(spec, (3, 2)))
    assert shape.shape == (3, 2, 16) and shape.dtype == jnp.float32


def test_leading_axes_equal_a_loop(whole):
    params, apply = whole
    observation = draw(SPEC, (3, 2))
    together = apply(params, observation)
    for t, b in itertools.product(range(3), range(2)):
        alone = apply(params, jax.tree.map(lambda x: x[t, b], observation))  # noqa: B023
        np.testing.assert_allclose(together[t, b], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("deep", [False, True])
def test_gradient_reaches_every_parameter(deep):
    params, apply = build(SPEC, hidden=(64,), deep=deep)
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(jnp.square(apply(p, draw(SPEC, (64,)))))))(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert float(jnp.max(jnp.abs(leaf))) > 0, path


def test_every_key_counts(whole):
    params, apply = whole
    observation, other = draw(SPEC, (4,)), draw(SPEC, (4,), seed=1)
    for name in SPEC:
        changed = apply(params, {**observation, name: other[name]})
        assert not np.allclose(changed, apply(params, observation)), name


def test_what_is_not_present_is_not_read():
    spec = {name: SPEC[name] for name in ("audio", "speed", "text")}
    spec["audio_present"] = specs.Array((), np.bool_, "audio_present")
    spec["speed_present"] = specs.Array((1,), np.bool_, "speed_present")  # no flag, for it is no scalar
    params, apply = build(spec, hidden=(16,))
    there = draw({name: SPEC[name] for name in ("audio", "speed", "text")}, (2, 3))
    there["speed_present"] = np.zeros((2, 3, 1), bool)
    other = {**there, "audio": there["audio"][::-1], "speed": there["speed"][::-1]}

    def features(observation, present):
        return np.asarray(apply(params, {**observation, "audio_present": np.array(present)}))

    flags = np.array([[True, False, True], [False, True, False]])
    mine, others = features(there, flags), features({**there, "audio": other["audio"]}, flags)
    assert np.array_equal((mine == others).all(-1), ~flags)
    every = np.ones_like(flags)
    assert not np.array_equal(mine[~flags], features({**there, "audio": 0 * there["audio"]}, every)[~flags])
    assert not np.array_equal(mine, features({**there, "speed": other["speed"]}, flags))

    def loss(params):
        return jnp.sum(apply(params, {**there, "audio_present": np.zeros_like(flags)}) ** 2)

    gradient = jax.grad(loss)(params)["audio"]
    assert not any(np.asarray(part).any() for part in gradient.values())


def test_padding_does_not_change_the_features_of_text():
    short, long = ({"text": specs.BoundedArray((n,), np.int32, 0, 30)} for n in (3, 6))
    params, apply = build(long, hidden=(8,))
    padded = apply(params, {"text": np.array([4, 9, 2, 0, 0, 0], np.int32)})
    _, apply_short = build(short, hidden=(8,))
    cut = {**params, "text_places": {"embeddings": params["text_places"]["embeddings"][:3]}}
    exact = apply_short(cut, {"text": np.array([4, 9, 2], np.int32)})
    np.testing.assert_allclose(padded, exact, rtol=1e-5, atol=1e-6)
    params["text_words"]["embeddings"] = params["text_words"]["embeddings"].at[0].add(100.0)
    np.testing.assert_array_equal(apply(params, {"text": np.array([4, 9, 2, 0, 0, 0], np.int32)}), padded)
    assert np.isfinite(apply(params, {"text": np.zeros(6, np.int32)})).all()


def test_the_order_of_words_counts():
    params, apply = build({"text": SPEC["text"]})
    one, two = (apply(params, {"text": np.array(t, np.int32)}) for t in ([1, 2, 3, 0, 0], [3, 2, 1, 0, 0]))
    assert float(np.max(np.abs(one - two))) > 1e-2


def cosines(labels, text):
    """The features of labels, seen through a layer that adds them to nothing else."""
    spec = {"labels": specs.BoundedArray(np.shape(labels), np.int32, 0, 40), "text": SPEC["text"]}
    torso = hk.without_apply_rng(hk.transform(make_torso("dictionary", spec, hidden=(len(labels),))))
    given = {"labels": np.array(labels, np.int32), "text": np.array(text, np.int32)}
    params = torso.init(jax.random.key(0), given)
    # The branches are laid end to end: 64 features of the text, then one a label.
    params["joint_0"]["w"] = np.concatenate([np.zeros((64, len(labels))), np.eye(len(labels))]).astype(
        np.float32
    )
    return np.asarray(torso.apply(params, given))


def test_labels_are_matched_with_the_text():
    """By hand: shared words over the root of the product of how many there are."""
    found = cosines([[7, 9], [9, 7], [7, 8], [8, 11], [0, 0], [7, 0]], [7, 9, 0, 0, 0])
    np.testing.assert_allclose(found, [1, 1, 0.5, 0, 0, 0.5**0.5], atol=1e-6)
    # A token that only labels have, and a text that says nothing.
    np.testing.assert_allclose(
        cosines([[7, 0], [7, 9], [35, 0]], [7, 0, 0, 0, 0]), [1, 0.5**0.5, 0], atol=1e-6
    )
    np.testing.assert_array_equal(cosines([[7, 0], [0, 0]], [0, 0, 0, 0, 0]), [0, 0])


def test_goals_that_were_never_trained_on_are_found_by_their_labels():
    apps = np.stack([tokenize_app(app) for app in range(60)])
    top = NUM_APP_TOKENS - 1
    spec = {
        "labels": specs.BoundedArray((12, 2), np.int32, 0, top),
        "text": specs.BoundedArray((2,), np.int32, 0, top),
    }

    def batch(key, goals, size=256):
        """Twelve different apps, a goal among them, and where it lies."""
        of_apps, of_place = jax.random.split(key)
        shown = jnp.argsort(jax.random.uniform(of_apps, (size, 60)), axis=1)[:, :12]
        goal = goals[jax.random.randint(of_apps, (size,), 0, len(goals))]
        place = jax.random.randint(of_place, (size,), 0, 12)
        shown = (
            jnp.where(shown == goal[:, None], shown[:, :1] * 0 + 59, shown)
            .at[jnp.arange(size), place]
            .set(goal)
        )
        return {"labels": jnp.asarray(apps)[shown], "text": jnp.asarray(apps)[goal]}, place

    @hk.without_apply_rng
    @hk.transform
    def tap(observation):
        return hk.Linear(12)(make_torso("dictionary", spec, hidden=(64,))(observation))

    known, unknown = jnp.arange(0, 58, 2), jnp.arange(1, 59, 2)
    optimiser = optax.adam(3e-3)

    def loss(params, key):
        observation, place = batch(key, known)
        return optax.softmax_cross_entropy_with_integer_labels(tap.apply(params, observation), place).mean()

    def train(state, key):
        params, moments = state
        steps, moments = optimiser.update(jax.grad(loss)(params, key), moments)
        return (optax.apply_updates(params, steps), moments), None

    params = tap.init(jax.random.key(0), batch(jax.random.key(0), known)[0])
    keys = jax.random.split(jax.random.key(1), 400)
    (params, _), _ = jax.jit(lambda state: jax.lax.scan(train, state, keys))((params, optimiser.init(params)))
    observation, place = batch(jax.random.key(2), unknown, 2000)
    assert (jnp.argmax(tap.apply(params, observation), -1) == place).mean() > 0.9


GOAL = {key: SPEC[key] for key in ("direction", "symbols", "text")}


def test_the_goal_torso_sees_the_goal_in_what_it_is_compared_with():
    """Other cells, words or directions are other features; with leading axes they are those of each alone."""
    params, apply = build(GOAL, "goal", hidden=(16, 8))
    seen, other = draw(GOAL, (3, 2)), draw(GOAL, (3, 2), seed=1)
    features = np.asarray(apply(params, seen))
    assert features.shape == (3, 2, 8)
    alone = apply(params, {name: value[1, 1] for name, value in seen.items()})
    np.testing.assert_allclose(features[1, 1], alone, rtol=1e-5, atol=1e-6)
    for key in GOAL:
        assert not np.allclose(apply(params, {**seen, key: other[key]}), features), key
    # Without a goal in words nothing of it is left: the comparisons are 0 whatever the words weigh.
    silent = {**seen, "text": np.zeros_like(seen["text"])}
    weights = {
        name: {k: v * 2 for k, v in of.items()} if "words" in name else of for name, of in params.items()
    }
    np.testing.assert_array_equal(apply(params, silent), apply(weights, silent))
    assert not np.allclose(apply(params, seen), apply(weights, seen))


def test_the_goal_torso_compares_labels_as_words():
    """The same features where every word is another one, in goal and labels alike; words count by being equal."""
    spec = {key: SPEC[key] for key in ("labels", "symbols", "text")}
    params, apply = build(spec, "goal", hidden=(16, 8))
    seen = draw(spec)
    seen["labels"] = np.array([[7, 9], [3, 0], [9, 4], [0, 0]], np.int32)
    seen["text"] = np.array([7, 9, 0, 0, 0], np.int32)
    renamed = np.concatenate([[0], np.random.default_rng(0).permutation(30) + 1])
    features = apply(params, seen)
    others = {**seen, "labels": renamed[seen["labels"]], "text": renamed[seen["text"]]}
    np.testing.assert_array_equal(apply(params, others), features)
    assert not np.allclose(apply(params, {**seen, "text": renamed[seen["text"]]}), features)


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ({"text": SPEC["text"]}, "reads symbols and text"),
        ({**GOAL, "image": SPEC["image"]}, "got direction, image, symbols, text"),
        ({**GOAL, "text": specs.Array((5,), np.int32)}, "last token of text"),
        (SPEC["symbols"], "got one array"),
    ],
)
def test_what_the_goal_torso_does_not_read(spec, match):
    with pytest.raises(ValueError, match=match):
        make_torso("goal", spec)


def test_symbols_take_their_sizes_from_the_bounds():
    bytes_, _ = build({"symbols": SPEC["symbols"]})
    assert bytes_["symbols_cells"]["w"].shape[0] == 11 + 6 + 3
    high = np.broadcast_to(np.array([14, 11]), (5, 5, 2))
    bounded = {"symbols": specs.BoundedArray((5, 5, 2), np.uint8, 0, high)}
    network = hk.transform(make_torso("dictionary", bounded))
    params = network.init(jax.random.key(0), {"symbols": np.zeros((5, 5, 2), np.uint8)})
    assert params["symbols_cells"]["w"].shape[0] == 15 + 12
    with pytest.raises(ValueError, match="3 channels"):
        make_torso("dictionary", {"symbols": specs.Array((7, 7, 2), np.uint8)})


def test_defaults():
    image = hk.transform(default_torso(SPEC["image"], (16,)))
    params = image.init(jax.random.key(0), np.zeros((14, 21, 3), np.uint8))
    assert "image_0" in params
    flat = hk.transform(default_torso(specs.BoundedArray((2,), np.int32, 0, 8), (16, 4)))
    params = flat.init(jax.random.key(0), np.zeros(2, np.int32))
    assert [layer["w"].shape for layer in params.values()] == [(18, 16), (16, 4)]


@pytest.mark.parametrize(
    "spec, settings, match",
    [
        ({}, {}, "at least one key"),
        ({"graph": SPEC["speed"]}, {}, "does not read graphs"),
        ({"image": SPEC["speed"]}, {}, "height, width, channels"),
        ({"text": specs.Array((4,), np.int32)}, {}, "bounded integers"),
        ({"audio": SPEC["image"]}, {}, "one waveform"),
        ({"symbols": SPEC["text"]}, {}, "symbols must be integers"),
        ({"labels": SPEC["labels"]}, {}, "needs `text` beside `labels`"),
        ({"labels": SPEC["text"], "text": SPEC["text"]}, {}, "labels must be bounded integers"),
        ({"speed": {"x": SPEC["speed"]}}, {}, "array specs"),
        (SPEC, {"hiden": (3,)}, "Did you mean 'hidden'"),
    ],
)
def test_what_cannot_be_read_is_refused(spec, settings, match):
    with pytest.raises(ValueError, match=match):
        make_torso("dictionary", spec, **settings)


def test_other_keys_than_the_specs_are_refused(whole):
    params, apply = whole
    observation = draw(SPEC)
    with pytest.raises(ValueError, match=r"built for the keys .*got .*'depth'"):
        apply(params, {**observation, "depth": np.zeros(3)})
    observation.pop("text")
    with pytest.raises(ValueError, match="built for the keys"):
        apply(params, observation)
    with pytest.raises(ValueError, match="Did you mean 'dictionary'"):
        make_torso("dictionry", SPEC)
    with pytest.raises(ValueError, match="spec of one array"):
        make_torso("mlp", SPEC)
    assert set(TORSOS) == {"dictionary", "goal", "mlp", "zorro"}


def test_an_agent_takes_a_torso_and_a_table_refuses_it():
    spec, actions = specs.BoundedArray((2,), np.int32, 0, 3), specs.DiscreteArray(3)
    torso = make_torso("mlp", spec, hidden=(5,))
    state = make_agent_for("a2c", spec, actions, torso).init(jax.random.key(0))
    assert state.params["mlp/~/linear_0"]["w"].shape == (8, 5)
    with pytest.raises(ValueError, match="takes no torso"):
        make_agent_for("q_learning", spec, actions, torso)
