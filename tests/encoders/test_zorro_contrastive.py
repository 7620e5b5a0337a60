"""Zorro without labels."""

import dataclasses

import jax
import numpy as np
import pytest
from limbeck.encoders import NETWORKS, RECIPES, Symbols, both_ways, cosines, pretrain, shuffled
from limbeck.encoders.patches import Picture, Tokens
from limbeck.encoders.vit import ViTTrunk
from limbeck.encoders.zorro import ZorroConfig
from limbeck.encoders.zorro_contrastive import film_recipe, init, recipe


def test_paper_sizes_are_listed() -> None:
    zorro = NETWORKS["zorro"]
    assert zorro.count("ViT-B") == 88_555_776 and zorro.count("HiP-16") == 99_401_312
    assert RECIPES["zorro"].inputs["audio"].shape == (128_000,)
    words = ZorroConfig(
        {"text": Tokens(3, 10), "cells": Symbols(2, 2, (3,))}, ViTTrunk(1, 8, 2, 8), readout_heads=2
    )
    assert jax.eval_shape(lambda key: init(key, words), jax.random.key(0))


def test_sound_finds_film() -> None:
    """Eight kinds of films, each with a colour and a pitch: new films are found by their sound."""
    small = RECIPES["zorro_tiny"]
    small = dataclasses.replace(small, training=dataclasses.replace(small.training, steps=60))
    rng = np.random.default_rng(0)

    def films(count):
        kinds = rng.integers(0, 8, count)
        colours = np.random.default_rng(1).integers(0, 256, (8, 3))[kinds]
        noise = rng.integers(-20, 21, (count, *small.inputs["video"].shape))
        video = np.clip(colours[:, None, None, None] + noise, 0, 255).astype(np.uint8)
        seconds = np.arange(small.inputs["audio"].shape[0]) / 16_000
        pitches = 200 * 1.5 ** kinds[:, None]
        waves = 0.3 * np.sin(2 * np.pi * pitches * seconds + rng.uniform(0, 6, (count, 1)))
        return {
            "video": video,
            "audio": (waves + 0.01 * rng.normal(size=waves.shape)).astype(np.float32),
        }, kinds

    known, _ = films(256)
    state = pretrain(small, shuffled(known, small.batch))
    new, kinds = films(64)
    views = jax.jit(small.seen)(jax.random.key(0), new)
    apply = jax.jit(
        lambda params, views: small.transformed.apply(params, state.network_state, None, views, False)[0]
    )
    # Each by itself, the other's tokens absent.
    heard = apply(state.params, {"audio": views["audio"]})
    seen = apply(state.params, {"video": views["video"]})
    assert set(heard) == {"audio", "fusion", "global"}
    found, _ = both_ways(cosines(heard["audio"]["projection"], seen["video"]["projection"]), kinds, kinds)
    assert found.recall[1] > 0.35 > 0.2 > found.chance_recall[1]


def test_views_are_the_modalities() -> None:
    config = ZorroConfig({"picture": Picture(8, 8, patch=4)}, ViTTrunk(1, 8, 2, 8), readout_heads=2)
    with pytest.raises(ValueError, match="A film has the modalities video, a Video, and audio.*'picture'"):
        film_recipe("x", config, (8,), RECIPES["zorro_tiny"].training, 4)
    with pytest.raises(ValueError, match=r"views \['sound'\] must be the modalities \['picture'\]"):
        recipe("x", config, {}, {"sound": lambda key, x: x}, (8,), RECIPES["zorro_tiny"].training, 4)
