"""Zorro on three trunks at full depth with random parameters: purity, fusion, missing senses, counts, precision."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.encoders import (
    Classifier,
    HiPTrunk,
    Picture,
    Spectrogram,
    SwinTrunk,
    Tokens,
    Video,
    ViTTrunk,
    Zorro,
    ZorroConfig,
)


MODALITIES = {
    "video": Video(4, 16, 12, 1, (2, 2, 2)),
    "audio": Spectrogram(12, 10, 2),
    "text": Tokens(6, 9),
}
TRUNKS = {
    "vit": ViTTrunk(4, 16, 4, 32),
    "swin": SwinTrunk(8, (2, 1, 1, 1), (1, 2, 4, 4), (2, 3, 2)),
    "hip": HiPTrunk(
        groups=(8, 2, 1, 2, 8),
        self_attentions=(1, 1, 2, 1, 1),
        latents=(4, 8, 12, 8, 4),
        channels=(8, 12, 16, 12, 8),
        heads=(2, 2, 4, 2, 2),
        token_width=8,
        fusion_groups=2,
    ),
}
EACH = pytest.mark.parametrize("trunk", TRUNKS)
READOUTS = ["video", "audio", "text", "fusion", "global"]
BATCH = 2


@functools.cache
def inputs():
    keys = jax.random.split(jax.random.key(7), 3)
    return {
        "video": jax.random.normal(keys[0], (BATCH, *MODALITIES["video"].shape)),
        "audio": jax.random.normal(keys[1], (BATCH, *MODALITIES["audio"].shape)),
        "text": jax.random.randint(keys[2], (BATCH, 6), 0, 9),
    }


def run(function, *arguments):
    """Compiled without LLVM's optimisations, which take longer here than what they save."""
    lowered = jax.jit(function).lower(*arguments)
    return lowered.compile(compiler_options={"xla_backend_optimization_level": "0"})(*arguments)


class Model:
    """A tiny Zorro with every parameter random: a part that starts at zero could hide a leak."""

    def __init__(self, trunk, masked=True):
        self.config = ZorroConfig(MODALITIES, TRUNKS[trunk], fusion_tokens=3, masked=masked, readout_heads=2)
        network = hk.without_apply_rng(hk.transform(lambda x, present=None: Zorro(self.config)(x, present)))
        self.apply = network.apply
        shapes = jax.eval_shape(network.init, jax.random.key(0), inputs())
        rng = np.random.default_rng(1)
        self.params = jax.tree.map(lambda p: 0.4 * rng.standard_normal(p.shape, np.float32), shapes)

    def __call__(self, names, present=None):
        return run(self.apply, self.params, {name: inputs()[name] for name in names}, present)

    @functools.cached_property
    def read(self):
        """By readout and modality: the largest gradient that a random mixture of the readout has. Words have none
        themselves, so that the text's are of its table of words."""

        def gradients(floats, words):
            def readouts(floats, words):
                params = {**self.params, "zorro": {**self.params["zorro"], "text_words": words}}
                out = self.apply(params, {**floats, "text": inputs()["text"]})
                return jnp.stack([out[name] for name in READOUTS])

            out, back = jax.vjp(readouts, floats, words)
            weights = jax.random.normal(jax.random.key(5), out.shape)
            chosen = jnp.eye(len(READOUTS))[:, :, None, None] * weights
            floats, words = jax.vmap(back)(chosen)
            return {**floats, "text": words}

        floats = {name: inputs()[name] for name in ("video", "audio")}
        found = run(gradients, floats, self.params["zorro"]["text_words"])
        return {
            readout: {name: float(jnp.abs(g[i]).max()) for name, g in found.items()}
            for i, readout in enumerate(READOUTS)
        }


@functools.cache
def model(trunk, masked=True):
    return Model(trunk, masked)


@EACH
def test_modalities_are_pure_and_fusion_reads_all(trunk):
    read = model(trunk).read
    for name in MODALITIES:
        for other in MODALITIES:
            assert (read[name][other] > 1e-6) if name == other else (read[name][other] == 0.0), (name, other)
        assert read["fusion"][name] > 1e-6 and read["global"][name] > 1e-6


@EACH
def test_without_the_mask_they_leak(trunk):
    read = model(trunk, masked=False).read
    assert all(read[name][other] > 1e-7 for name in READOUTS for other in MODALITIES)
    masked, free = model(trunk), model(trunk, masked=False)
    assert jax.tree.structure(masked.params) == jax.tree.structure(free.params)


@EACH
def test_a_missing_sense_does_not_move_the_others(trunk):
    whole = model(trunk)(MODALITIES)
    assert sorted(whole) == sorted(READOUTS) and all(
        x.shape == (BATCH, whole["audio"].shape[1]) for x in whole.values()
    )
    alone = model(trunk)(["audio"])
    assert sorted(alone) == ["audio", "fusion", "global"]
    np.testing.assert_allclose(alone["audio"], whole["audio"], atol=1e-5)
    assert np.abs(alone["fusion"] - whole["fusion"]).max() > 1e-3
    pair = model(trunk)(["text", "video"])
    for name in ("text", "video"):
        np.testing.assert_allclose(pair[name], whole[name], atol=1e-5)

    # The same said by flags: of the first example only the audio is there, of the second all but the audio.
    flags = {name: jnp.array([name == "audio", name != "audio"]) for name in MODALITIES}
    flagged = model(trunk)(MODALITIES, flags)
    for name in ("audio", "fusion", "global"):
        np.testing.assert_allclose(flagged[name][0], alone[name][0], atol=1e-5)
    for name in ("text", "video", "fusion", "global"):
        np.testing.assert_allclose(flagged[name][1], pair[name][1], atol=1e-5)
    # A readout of nothing is a constant, not NaN, and what lies in the array is not read.
    spoilt = {**inputs(), "audio": inputs()["audio"].at[1].set(jnp.nan)}
    again = run(model(trunk).apply, model(trunk).params, spoilt, flags)
    for name in READOUTS:
        np.testing.assert_array_equal(again[name], flagged[name])
    np.testing.assert_array_equal(flagged["text"][0], model(trunk).params["zorro/readout_out"]["b"])


@EACH
def test_bfloat16(trunk):
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), model(trunk).params)
    out = run(model(trunk).apply, half, inputs())
    exact = model(trunk)(MODALITIES)
    for name in READOUTS:
        assert out[name].dtype == jnp.float32
        assert np.abs(out[name] - exact[name]).max() < 0.15 * np.abs(exact[name]).max()


def test_vit_b_has_as_many_parameters_as_by_hand():
    modalities = {"video": Video(32, 224, 224), "audio": Spectrogram(800, 128)}
    config = ZorroConfig(modalities, ViTTrunk())
    init = hk.transform(lambda x: Zorro(config)(x)).init
    shapes = {n: jax.ShapeDtypeStruct((1, *m.shape), jnp.float32) for n, m in modalities.items()}
    params = jax.eval_shape(init, jax.random.key(0), shapes)
    kept = jax.tree.leaves({m: x for m, x in params.items() if "/trunk" in m or "_patches" in m})
    block = 768 * 2304 + 2304 + 768 * 768 + 768 + 2 * 768 * 3072 + 3072 + 768 + 4 * 768
    patches = (16 * 16 + 1) * 768 + (2 * 16 * 16 * 3 + 1) * 768
    assert sum(x.size for x in kept) == 12 * block + patches + 2 * 768 == 86_433_792


def test_classifier_averages_what_is_there():
    network = hk.without_apply_rng(hk.transform(lambda x, present=None: Classifier(3)(x, present)))
    keys = jax.random.split(jax.random.key(0), 3)
    readouts = {
        name: jax.random.normal(k, (2, 4)) for name, k in zip(("audio", "video", "fusion"), keys, strict=True)
    }
    params = network.init(jax.random.key(1), readouts)
    heads = {
        name: x @ params[f"classifier/{name}_head"]["w"] + params[f"classifier/{name}_head"]["b"]
        for name, x in readouts.items()
    }
    np.testing.assert_allclose(network.apply(params, readouts), sum(heads.values()) / 3, atol=1e-6)
    got = network.apply(params, readouts, {"video": jnp.array([True, False])})
    np.testing.assert_allclose(got[0], (heads["audio"] + heads["video"] + heads["fusion"])[0] / 3, atol=1e-6)
    np.testing.assert_allclose(got[1], (heads["audio"] + heads["fusion"])[1] / 2, atol=1e-6)
    del readouts["fusion"]
    nothing = {"audio": jnp.array([True, False]), "video": jnp.array([True, False])}
    np.testing.assert_array_equal(network.apply(params, readouts, nothing)[1], 0)


def test_refusals():
    with pytest.raises(ValueError, match="names other than"):
        ZorroConfig({"fusion": Picture(16, 16)}, TRUNKS["vit"])
    with pytest.raises(ValueError, match="fusion_tokens"):
        ZorroConfig(MODALITIES, TRUNKS["vit"], fusion_tokens=0)
    with pytest.raises(ValueError, match="readout_heads=5 must divide"):
        ZorroConfig(MODALITIES, TRUNKS["vit"], readout_heads=5)
    for x, present, message in (
        ({}, None, "some of the modalities"),
        ({"smell": jnp.zeros((2, 3))}, None, "some of the modalities"),
        ({"audio": inputs()["audio"]}, {"video": jnp.ones(2, bool)}, "which are not in inputs"),
        ({"audio": inputs()["audio"]}, {"audio": jnp.ones(2)}, r"must be bool \(2,\), got float32"),
        ({"audio": inputs()["audio"], "text": inputs()["text"][:1]}, None, "one batch size"),
    ):
        with pytest.raises(ValueError, match=message):
            model("vit").apply(model("vit").params, x, present)
