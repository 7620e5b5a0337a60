"""The full view there and back, and what it shows that MiniGrid's own hides."""

import itertools

import numpy as np
import pytest
from limbeck.envs import GridState, minigrid, parse_tiles, render_state
from minigrid.core.constants import OBJECT_TO_IDX
from minigrid.core.world_object import Ball, Key


def same(one, two):
    np.testing.assert_array_equal(one.symbols, two.symbols)
    assert one[1:] == two[1:]


def test_parsing_is_the_inverse_of_rendering():
    """Grids of everything that a full view may show, at several tile sizes."""
    rng = np.random.default_rng(0)
    kinds = {OBJECT_TO_IDX[k]: k for k in ("wall", "floor", "door", "key", "ball", "box", "goal", "lava")}
    on = ("floor", "goal", "lava")
    for tile_size in (5, 8, 13):
        for direction in range(4):
            symbols = np.zeros((6, 7, 3), np.uint8)
            symbols[..., 0] = 1
            for x, y in itertools.product(range(6), range(7)):
                kind = int(rng.choice([1, *kinds]))
                colour = {"goal": 1, "lava": 0, "wall": 5}.get(kinds.get(kind, ""), int(rng.integers(6)))
                state = int(rng.integers(3)) if kinds.get(kind) == "door" else 0
                symbols[x, y] = (kind, colour, state) if kind > 1 else (1, 0, 0)
            under = (OBJECT_TO_IDX[on[direction]], 1 - direction // 2, 0) if direction < 3 else (4, 2, 0)
            symbols[3, 2] = under
            state = GridState(
                symbols, (3, 2), direction, [(1, 0, 0), (5, 3, 0), (6, 0, 0), (7, 4, 0)][direction]
            )
            image = render_state(state, tile_size)
            assert image.shape == (8 * tile_size, 6 * tile_size, 3) and image.dtype == np.uint8
            same(parse_tiles(image, tile_size), state)


def test_two_states_that_differ_in_what_is_carried_look_different():
    ours = minigrid("MiniGrid-Empty-5x5-v0", seed=0, image="full")
    picture = ours.reset().observation["image"]
    seen = [picture]
    for carried in (Key("red"), Key("blue"), Ball("red")):
        ours._grid_world.carrying = carried
        seen.append(ours.step(6).observation["image"])
        np.testing.assert_array_equal(seen[-1][:-8], picture[:-8])
    assert len({image.tobytes() for image in seen}) == 4
    assert [parse_tiles(image).carried for image in seen] == [(1, 0, 0), (5, 0, 0), (5, 2, 0), (6, 0, 0)]


def test_pictures_that_are_no_full_view_are_refused():
    image = minigrid("MiniGrid-Empty-5x5-v0", image="full", seed=0).reset().observation["image"]
    parse_tiles(image)
    for wrong, match in (
        (image[:-1], "A full view is uint8"),
        (image.astype(np.float32), "A full view is uint8"),
        (image[:-8], "not an inventory"),
        (np.zeros_like(image), "none of MiniGrid's"),
    ):
        with pytest.raises(ValueError, match=match):
            parse_tiles(wrong)
    lonely = image.copy()
    lonely[8:16, 8:16] = image[16:24, 8:16]
    with pytest.raises(ValueError, match="shows 0"):
        parse_tiles(lonely)
    with pytest.raises(ValueError, match="larger"):
        parse_tiles(image, 2)
