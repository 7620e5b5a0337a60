import gymnasium
import numpy as np
import pytest
from dm_env import specs
from gymnasium import spaces
from limbeck.envs import space_from_spec, spec_from_space


@pytest.mark.parametrize(
    "spec",
    [
        specs.DiscreteArray(5, name="a"),
        specs.DiscreteArray(3, np.int64, "a"),
        specs.BoundedArray((2,), np.int32, 0, 8, "a"),
        specs.BoundedArray((2,), np.float32, [-1, 0], [1, 2], "a"),
        specs.BoundedArray((4, 4, 3), np.uint8, 0, 255, "a"),
        specs.Array((3,), np.float32, "a"),
    ],
)
def test_specs_survive_the_way_there_and_back(spec):
    space = space_from_spec(spec)
    back = spec_from_space(space, "a")
    assert type(back) is type(spec)
    assert (back.shape, back.dtype) == (spec.shape, spec.dtype)
    if isinstance(spec, specs.BoundedArray):
        np.testing.assert_array_equal(back.minimum, np.broadcast_to(spec.minimum, spec.shape))
        np.testing.assert_array_equal(back.maximum, np.broadcast_to(spec.maximum, spec.shape))
    assert space.contains(spec.generate_value() if spec.shape else spec.dtype.type(0))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(4),
        spaces.Discrete(4, start=2),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(3),
        spaces.Box(-1, 1, (2,), np.float64),
        spaces.Box(-np.inf, np.inf, (2,)),
        spaces.Dict({"image": spaces.Box(0, 255, (2, 2, 3), np.uint8), "direction": spaces.Discrete(4)}),
        spaces.Tuple([spaces.Discrete(2), spaces.Box(0, 1)]),
    ],
)
def test_samples_of_a_space_fit_its_spec(space):
    space.seed(0)
    spec = spec_from_space(space, "a")

    def check(spec, value):
        if isinstance(spec, dict):
            return [check(spec[k], value[k]) for k in spec]
        if isinstance(spec, tuple):
            return [check(s, v) for s, v in zip(spec, value, strict=True)]
        return spec.validate(value)

    for _ in range(20):
        check(spec, space.sample())


def test_text_becomes_strings():
    assert isinstance(spec_from_space(spaces.Text(10)), specs.StringArray)


def test_unbounded_integers_span_their_type():
    assert space_from_spec(specs.Array((), np.int8)) == spaces.Box(-128, 127, (), np.int8)


def test_what_cannot_be_described_is_refused():
    with pytest.raises(ValueError, match="No gymnasium space"):
        space_from_spec(specs.StringArray(()))
    with pytest.raises(ValueError, match="No dm_env spec"):
        spec_from_space(gymnasium.spaces.Sequence(spaces.Discrete(2)))
