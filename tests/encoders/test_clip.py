"""CLIP's towers against open_clip's own, with the same random weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.encoders import clip
from limbeck.rewards._torchvision import import_open_clip


VISION = {"layers": 2, "width": 32, "head_width": 8, "patch_size": 8, "image_size": 56}
TEXT = {"layers": 2, "width": 24, "heads": 3, "context_length": 12, "vocab_size": 50}

# Name -> changes of the configuration, of its vision_cfg and of its text_cfg.
VARIANTS = {
    "as OpenAI's": ({"quick_gelu": True}, {}, {}),
    "as CLIPA's": (
        {"init_logit_bias": -10.0},
        {
            "no_ln_pre": True,
            "pool_type": "avg",
            "final_ln_after_pool": True,
            "image_size": [60, 40],
            "mlp_ratio": 2.5,
        },
        {"no_causal_mask": True, "pool_type": "last"},
    ),
    "a class of its own for texts": (
        {"custom_text": True, "nonscalar_logit_scale": True},
        {},
        {"pool_type": "eos", "eos_id": 7, "proj_bias": True},
    ),
    "without a text projection": (
        {},
        {},
        {"pool_type": "first", "proj_type": "none", "width": 16, "heads": 2},
    ),
}


def config_of(name):
    top, vision, text = VARIANTS[name]
    return {"embed_dim": 16, "vision_cfg": {**VISION, **vision}, "text_cfg": {**TEXT, **text}, **top}


def torch_model(config):
    import_open_clip()
    import torch
    from open_clip.model import CLIP, CustomTextCLIP

    torch.manual_seed(0)
    kind = CustomTextCLIP if config.get("custom_text") else CLIP
    model = kind(**{name: value for name, value in config.items() if name != "custom_text"})
    for parameter in model.parameters():
        # Norms and biases begin at 1 and 0, where an exchange would not be seen.
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def arrays_of(model):
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", VARIANTS)
def test_features_and_logits_are_open_clips(name):
    config = config_of(name)
    model = torch_model(config)
    import torch

    ours = clip.clip_config(config)
    params = clip.convert(arrays_of(model), ours)
    frames = np.random.default_rng(0).integers(0, 256, (3, 56, 56, 3), dtype=np.uint8)
    tokens = np.random.default_rng(1).integers(1, 50, (5, 12)).astype(np.int32)
    pixels = torch.from_numpy(np.moveaxis(ours.preprocessing(frames), 3, 1).copy())
    with torch.inference_mode():
        images = model.encode_image(pixels, normalize=True).numpy()
        texts = model.encode_text(torch.from_numpy(tokens).long(), normalize=True).numpy()
        expected = model.get_logits(pixels, torch.from_numpy(tokens).long())[0].numpy()
    found = jax.jit(clip.image_features, static_argnums=1)(params, ours, frames)
    assert found.shape == (3, 16) and found.dtype == np.float32
    np.testing.assert_allclose(found, images, atol=1e-5)
    found_texts = jax.jit(clip.text_features, static_argnums=1)(params, ours, tokens)
    np.testing.assert_allclose(found_texts, texts, atol=1e-5)
    np.testing.assert_allclose(clip.logits(params, found, found_texts), expected, atol=1e-3)


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-16-quickgelu", "ViT-H-14-CLIPA"])
def test_as_many_parameters_as_open_clip(name):
    open_clip = import_open_clip()
    import torch
    from open_clip.model import CLIP

    config = open_clip.get_model_config(name)
    with torch.device("meta"):
        expected = {
            key: tuple(value.shape)
            for key, value in CLIP(
                **{key: value for key, value in config.items() if key != "custom_text"}
            ).named_parameters()
        }
    ours = clip.clip_config(config)
    shapes = jax.eval_shape(functools.partial(clip.init, config=ours), jax.random.key(0))
    count = sum(np.prod(x.shape, dtype=int) for x in jax.tree.leaves(shapes))
    assert count == sum(np.prod(shape, dtype=int) for shape in expected.values())
    if name == "ViT-B-32":
        assert count == 151_277_313


def test_new_parameters_have_the_shapes_of_converted_ones():
    config = config_of("as CLIPA's")
    ours = clip.clip_config(config)
    params, converted = clip.init(jax.random.key(0), ours), clip.convert(arrays_of(torch_model(config)), ours)
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, converted)
    assert params["logits"]["scale"] == pytest.approx(np.log(1 / 0.07)) and params["logits"]["bias"] == -10
    features = clip.image_features(params, ours, jnp.zeros((1, 10, 10, 3), jnp.uint8))
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)


def test_half_precision_weights_become_float32():
    config = config_of("as OpenAI's")
    arrays = {
        name: jnp.asarray(array, jnp.bfloat16) for name, array in arrays_of(torch_model(config)).items()
    }
    params = clip.convert(arrays, clip.clip_config(config))
    assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype("float32")}


def test_weights_of_another_model_are_refused():
    config = config_of("as OpenAI's")
    ours, arrays = clip.clip_config(config), arrays_of(torch_model(config))
    # OpenAI's own files hold the sizes too.
    clip.convert({**arrays, "context_length": np.array(77)}, ours)
    with pytest.raises(ValueError, match=r"have no visual\.ln_pre\.weight"):
        clip.convert({name: array for name, array in arrays.items() if name != "visual.ln_pre.weight"}, ours)
    with pytest.raises(ValueError, match=r"no place for: visual\.transformer\.resblocks\.9\.ls_1\.gamma"):
        clip.convert({**arrays, "visual.transformer.resblocks.9.ls_1.gamma": np.ones(32)}, ours)
    with pytest.raises(ValueError, match=r"positional_embedding has the shape \(13, 24\)"):
        clip.convert({**arrays, "positional_embedding": np.ones((13, 24))}, ours)


@pytest.mark.parametrize(
    ("top", "vision", "text", "words"),
    [
        ({}, {"layers": [3, 4, 6, 3]}, {}, "ResNet"),
        ({}, {"timm_model_name": "vit_base_patch16_siglip_224"}, {}, "timm image tower"),
        ({}, {}, {"hf_model_name": "roberta-base"}, "Hugging Face text tower 'roberta-base'"),
        ({}, {"attentional_pool": True}, {}, "attentional_pool=True"),
        ({}, {"ls_init_value": 1e-4}, {}, "ls_init_value"),
        ({}, {"block_type": "custom"}, {}, "block_type"),
        ({}, {}, {"qk_norm": True}, "text_cfg's qk_norm"),
        ({}, {}, {"embed_cls": True}, "embed_cls"),
        ({}, {}, {"norm_kwargs": {"eps": 1e-6}}, "norm_kwargs"),
        ({"multimodal_cfg": {}}, {}, {}, "multimodal_cfg"),
        ({}, {"rope": True}, {}, "rope"),
    ],
)
def test_towers_that_are_not_built_are_refused(top, vision, text, words):
    config = {"embed_dim": 16, "vision_cfg": {**VISION, **vision}, "text_cfg": {**TEXT, **text}, **top}
    with pytest.raises(ValueError, match=words):
        clip.clip_config(config)


def test_every_architecture_of_open_clip_is_built_or_refused_with_a_reason():
    open_clip = import_open_clip()
    built, reasons = set(), []
    for name in open_clip.list_models():
        try:
            clip.clip_config(open_clip.get_model_config(name))
        except ValueError as error:
            reasons.append(str(error))
        else:
            built.add(name)
    assert all("OpenClip runs this model" in reason for reason in reasons)
    assert {"ViT-B-32", "ViT-L-14-336-quickgelu", "ViT-bigG-14", "ViT-H-14-CLIPA-336"} <= built
    assert not built & {"RN50", "ViT-B-16-SigLIP", "coca_ViT-B-32", "convnext_base", "roberta-ViT-B-32"}


def test_preprocessing_comes_from_the_configuration():
    about = {
        "mean": [0.5, 0.5, 0.5],
        "std": 0.5,
        "interpolation": "bilinear",
        "resize_mode": "squash",
        "size": 99,
    }
    config = clip.clip_config({"model_cfg": config_of("as OpenAI's"), "preprocess_cfg": about})
    preprocessing = config.preprocessing
    assert (preprocessing.height, preprocessing.width) == (56, 56)
    assert preprocessing.mean == preprocessing.std == (0.5, 0.5, 0.5)
    assert (preprocessing.interpolation, preprocessing.resize_mode) == ("bilinear", "squash")
    with pytest.raises(ValueError, match="no vision_cfg, text_cfg"):
        clip.clip_config({"embed_dim": 3})
