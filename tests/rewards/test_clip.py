"""The CLIP encoders: equal to open_clip's own path through PIL, equal to each other, and never with random weights."""

import contextlib
import gzip
import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from limbeck.encoders import clip
from limbeck.rewards import JaxClip, OpenClip
from limbeck.rewards._torchvision import import_open_clip
from PIL import Image


TEXTS = ["the agent faces a red key", "go to the blue door", "a ball"]
RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (5, 56, 56, 3), dtype=np.uint8)

MERGES = [("t", "h"), ("th", "e</w>"), ("r", "e"), ("re", "d</w>")]
# 256 bytes, each also at the end of a word, the merges, the marks of beginning and end.
VOCABULARY = 512 + len(MERGES) + 2


def config(**changes):
    return {
        "model_cfg": {
            "embed_dim": 16,
            "vision_cfg": {
                "layers": 1,
                "width": 32,
                "head_width": 16,
                "patch_size": 8,
                "image_size": 56,
                # In training only: a model left in that mode would be seen.
                "patch_dropout": 0.5,
            },
            "text_cfg": {
                "context_length": 24,
                "vocab_size": VOCABULARY,
                "width": 32,
                "heads": 2,
                "layers": 1,
                # Relative: in the model's folder, wherever the process runs.
                "tokenizer_kwargs": {"bpe_path": "bpe.txt.gz"},
            },
            **changes,
        },
        "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.3, 0.25, 0.2], "interpolation": "bilinear"},
    }


def save(directory, about, seed=0):
    """A folder as open_clip writes them, with random weights, made by open_clip's own classes."""
    import_open_clip()
    import torch
    from open_clip.model import CLIP

    torch.manual_seed(seed)
    model = CLIP(**about["model_cfg"])
    directory.mkdir(exist_ok=True)
    (directory / "open_clip_config.json").write_text(json.dumps(about))
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    safetensors.numpy.save_file(weights, directory / "open_clip_model.safetensors")
    merges = "\n".join(["#version", *(" ".join(pair) for pair in MERGES)])
    (directory / "bpe.txt.gz").write_bytes(gzip.compress(merges.encode()))
    return directory


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("clip") / "tiny", config())


@pytest.fixture(scope="module")
def in_torch(folder):
    return OpenClip(f"local-dir:{folder}", batch=2)


@pytest.fixture(scope="module")
def in_jax(folder):
    return JaxClip(folder, batch=4)


@pytest.fixture
def copy(folder, tmp_path):
    return pathlib.Path(shutil.copytree(folder, tmp_path / "copy"))


def by_open_clip(name, frames, texts, tokenizer=None):
    """The embeddings that open_clip's own factory, transform and tokenizer give."""
    open_clip = import_open_clip()
    import torch

    model, _, transform = open_clip.create_model_and_transforms(name)
    model.eval()
    tokenizer = tokenizer or open_clip.get_tokenizer(name)
    with torch.inference_mode():
        images = torch.stack([transform(Image.fromarray(frame)) for frame in frames])
        return (
            model.encode_image(images, normalize=True).numpy(),
            model.encode_text(tokenizer(texts), normalize=True).numpy(),
        )


@pytest.mark.parametrize("size", [(56, 56), (112, 112), (90, 60)])
def test_embeddings_are_open_clips(folder, in_torch, in_jax, size, monkeypatch):
    frames = RNG.integers(0, 256, (5, *size, 3), dtype=np.uint8)
    # open_clip takes the vocabulary's path from where the process runs.
    monkeypatch.chdir(folder)
    images, texts = by_open_clip(f"local-dir:{folder}", frames, TEXTS)
    monkeypatch.chdir("/")
    for encoder in (in_torch, in_jax):
        found, goals = encoder.encode_frames(frames), encoder.encode_goals(TEXTS)
        assert found.dtype == goals.dtype == np.float32 and found.shape == (5, 16) and goals.shape == (3, 16)
        np.testing.assert_allclose(found, images, atol=1e-4)
        np.testing.assert_allclose(goals, texts, atol=1e-4)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
        # How many are encoded at once changes nothing, nor does none at all.
        np.testing.assert_allclose(encoder.encode_frames(frames[:3]), found[:3], atol=1e-6)
        assert encoder.encode_frames(frames[:0]).shape == (0, 16) == encoder.encode_goals([]).shape
    assert np.abs(images[0] - images[1]).max() > 1e-2 and np.abs(texts[0] - texts[1]).max() > 1e-2


def test_vit_b_32_in_jax_is_that_in_torch(tmp_path):
    open_clip = import_open_clip()
    about = {"model_cfg": open_clip.get_model_config("ViT-B-32"), "preprocess_cfg": {}}
    save(tmp_path / "b32", about)
    in_torch, in_jax = OpenClip(f"local-dir:{tmp_path / 'b32'}"), JaxClip(tmp_path / "b32")
    # Six hundred megabytes that pytest would keep.
    (tmp_path / "b32" / "open_clip_model.safetensors").unlink()
    np.testing.assert_allclose(
        in_jax.encode_frames(FRAMES[:2]), in_torch.encode_frames(FRAMES[:2]), atol=1e-4
    )
    np.testing.assert_allclose(in_jax.encode_goals(TEXTS[:1]), in_torch.encode_goals(TEXTS[:1]), atol=1e-4)


def test_the_pure_function_inside_a_jitted_program(in_jax):
    goals = in_jax.encode_goals(TEXTS)

    @jax.jit
    def rewards(params, goals, frames):
        """A reward for each step of a rollout, frame by frame."""

        def step(best, frame):
            score = jnp.max(in_jax.frames_fn(params, frame[None]) @ goals.T)
            return jnp.maximum(best, score), score

        return jax.lax.scan(step, -1.0, frames)

    best, scores = rewards(in_jax.params, goals, FRAMES)
    expected = (in_jax.encode_frames(FRAMES) @ goals.T).max(axis=1)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert best == pytest.approx(expected.max(), abs=1e-5)


def test_batches_are_padded_to_few_shapes(folder, monkeypatch):
    traced = []

    def image_features(params, config, frames):
        traced.append(len(frames))
        return jnp.ones((len(frames), config.embed_dim)) * jnp.mean(frames, axis=(1, 2, 3))[:, None]

    monkeypatch.setattr(clip, "image_features", image_features)
    encoder = JaxClip(folder, batch=6)
    for n in range(1, 20):
        frames = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 8, 8, 3))
        np.testing.assert_array_equal(encoder.encode_frames(frames)[:, 0], np.arange(n))
    assert sorted(traced) == [1, 2, 4, 6]


def test_frames_need_no_torch(folder, tmp_path, in_jax, repository):
    np.save(tmp_path / "frames.npy", FRAMES)
    program = f"""
import sys
import numpy as np

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "open_clip", "torchvision"):
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, Block())
from limbeck.rewards import JaxClip, OpenClip
encoder = JaxClip({str(folder)!r})
np.save({str(tmp_path / "found.npy")!r}, encoder.encode_frames(np.load({str(tmp_path / "frames.npy")!r})))
for use in (lambda: encoder.encode_goals(["a key"]), lambda: OpenClip("local-dir:x")):
    try:
        use()
    except ImportError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("pip install 'limbeck[clip]'") == 2
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), in_jax.encode_frames(FRAMES), atol=1e-5)


def test_bfloat16_and_its_drift(folder, in_torch):
    half = OpenClip(f"local-dir:{folder}", precision="bf16")
    embeddings = half.encode_frames(FRAMES)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    difference = np.abs(
        embeddings @ half.encode_goals(TEXTS).T
        - in_torch.encode_frames(FRAMES) @ in_torch.encode_goals(TEXTS).T
    )
    drift = half.drift(FRAMES, TEXTS)
    assert drift.max == pytest.approx(difference.max(), abs=1e-6)
    assert drift.mean == pytest.approx(difference.mean(), abs=1e-6)
    assert 1e-5 < drift.mean <= drift.max < 0.05
    assert in_torch.drift(FRAMES, TEXTS) == pytest.approx(drift, abs=1e-6)
    assert half.fingerprint != in_torch.fingerprint
    with pytest.raises(ValueError, match="measured on frames and texts"):
        half.drift(FRAMES[:0], TEXTS)


def test_fingerprints_say_what_embeddings_depend_on(folder, in_torch, in_jax, copy):
    def prints():
        return OpenClip(f"local-dir:{copy}").fingerprint, JaxClip(copy).fingerprint

    # The place of the folder is nothing that embeddings depend on.
    assert prints() == (in_torch.fingerprint, in_jax.fingerprint)
    seen = {in_torch.fingerprint, in_jax.fingerprint}
    about = config()
    about["preprocess_cfg"]["mean"] = [0.5, 0.4, 0.31]
    (copy / "open_clip_config.json").write_text(json.dumps(about))
    seen.update(prints())
    (copy / "open_clip_config.json").write_text(json.dumps(config()))
    weights = safetensors.numpy.load_file(copy / "open_clip_model.safetensors")
    weights["visual.class_embedding"][3] += 1e-6
    safetensors.numpy.save_file(weights, copy / "open_clip_model.safetensors")
    seen.update(prints())
    shutil.copy(folder / "open_clip_model.safetensors", copy)
    swapped = "\n".join(["#version", *(" ".join(pair) for pair in [MERGES[2], *MERGES[:2], MERGES[3]])])
    (copy / "bpe.txt.gz").write_bytes(gzip.compress(swapped.encode()))
    seen.update(prints())
    assert len(seen) == 8


def without_weights(folder):
    (folder / "open_clip_model.safetensors").unlink()


def two_checkpoints(folder):
    (folder / "open_clip_model.safetensors").rename(folder / "a.safetensors")
    shutil.copy(folder / "a.safetensors", folder / "b.safetensors")


def another_width(folder):
    about = config()
    about["model_cfg"]["vision_cfg"]["width"] = 48
    (folder / "open_clip_config.json").write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        (shutil.rmtree, FileNotFoundError, "There is no folder"),
        (
            lambda folder: (folder / "open_clip_config.json").unlink(),
            FileNotFoundError,
            "has no open_clip_config",
        ),
        (lambda folder: (folder / "open_clip_config.json").write_text("{"), ValueError, "is not JSON"),
        (lambda folder: (folder / "open_clip_config.json").write_text("{}"), ValueError, "no 'model_cfg'"),
        (without_weights, FileNotFoundError, "has no weights"),
        (two_checkpoints, ValueError, r"several checkpoints \(a.safetensors, b.safetensors\)"),
        (
            lambda folder: (folder / "open_clip_model.safetensors").write_bytes(b"x" * 99),
            ValueError,
            "damaged",
        ),
        (another_width, ValueError, "another (architecture|model)"),
    ],
)
def test_folders_that_do_not_do(copy, spoil, kind, words):
    spoil(copy)
    for load in (lambda: OpenClip(f"local-dir:{copy}"), lambda: JaxClip(copy)):
        with pytest.raises(kind, match=words):
            load()


def test_names_that_do_not_do(folder):
    weights = folder / "open_clip_model.safetensors"
    for name, kind, words in (
        ("ViT-B-32", ValueError, "names no weights"),
        ("ViT-B-33@openai", ValueError, "no architecture 'ViT-B-33'; close: ViT-B-32"),
        ("ViT-B-32@openal", FileNotFoundError, r"neither a file nor a tag \(tags of ViT-B-32: openai, "),
        # open_clip only warns of this one.
        ("ViT-B-32@openai", ValueError, "trained with QuickGELU.* use ViT-B-32-quickgelu@openai"),
        (f"ViT-B-32@{folder}", ValueError, "name is local-dir:"),
        (f"local-dir:{weights}", FileNotFoundError, "It is a file"),
        ("hf-hub:a/b/c", ValueError, "hf-hub:ORG/REPO"),
    ):
        with pytest.raises(kind, match=words):
            OpenClip(name)
    for settings in ({"precision": "fp16"}, {"batch": 0}, {"threads": 0}):
        with pytest.raises(ValueError, match="precision|at least 1"):
            OpenClip(f"local-dir:{folder}", **settings)
    with pytest.raises(ValueError, match="batch"):
        JaxClip(folder, batch=0)


@contextlib.contextmanager
def architectures(directory, **configs):
    """Makes architectures known to open_clip by name."""
    from open_clip import factory

    for name, about in configs.items():
        (directory / f"{name}.json").write_text(json.dumps(about["model_cfg"]))
    factory.add_model_config(directory)
    try:
        yield
    finally:
        factory._MODEL_CONFIG_PATHS.remove(directory)
        for name in configs:
            factory._MODEL_CONFIGS.pop(name)


def test_an_architecture_with_a_file(folder, tmp_path):
    open_clip = import_open_clip()
    import torch

    weights = str(folder / "open_clip_model.safetensors")
    about = config()
    about["model_cfg"]["text_cfg"]["tokenizer_kwargs"]["bpe_path"] = str(folder / "bpe.txt.gz")
    twin = config(quick_gelu=True)
    with architectures(tmp_path, tiny=about):
        encoder = OpenClip(f"tiny@{weights}")
        model = open_clip.create_model("tiny", pretrained=weights).eval()
        # OpenAI's preprocessing, which is what a file alone gets.
        assert encoder.preprocessing.mean[0] == 0.48145466
        pixels = torch.from_numpy(np.moveaxis(encoder.preprocessing(FRAMES), 3, 1).copy())
        with torch.inference_mode():
            expected = model.encode_image(pixels, normalize=True).numpy()
        np.testing.assert_allclose(encoder.encode_frames(FRAMES), expected, atol=1e-5)
        with architectures(tmp_path, **{"tiny-quickgelu": twin}):
            with pytest.warns(UserWarning, match="need tiny-quickgelu@"):
                OpenClip(f"tiny@{weights}")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_a_hub_model_offline(folder, hub, in_torch):
    with pytest.raises(OSError, match=r"hf-hub:someone/tiny is not in the cache .* name it local-dir:PATH"):
        OpenClip("hf-hub:someone/tiny")
    snapshot = hub / "models--someone--tiny" / "snapshots" / ("0" * 40)
    shutil.copytree(folder, snapshot)
    (hub / "models--someone--tiny" / "refs").mkdir()
    (hub / "models--someone--tiny" / "refs" / "main").write_text("0" * 40)
    encoder = OpenClip("hf-hub:someone/tiny")
    np.testing.assert_array_equal(encoder.encode_frames(FRAMES[:2]), in_torch.encode_frames(FRAMES[:2]))
    without_weights(snapshot)
    with pytest.raises(OSError, match="could not be fetched"):
        OpenClip("hf-hub:someone/tiny")


def test_a_tag_offline(hub):
    with pytest.raises(OSError, match="not in the cache and could not be fetched.* local-dir:PATH"):
        OpenClip("ViT-B-32@laion2b_s34b_b79k")


def test_texts_and_frames_that_do_not_do(in_torch, in_jax, copy):
    for encoder in (in_torch, in_jax):
        with pytest.raises(ValueError, match="26 tokens and the model reads 24"):
            encoder.encode_goals(["a b c d e f g h i j k l m n o p q r s t u v w x"])
        for texts in ("a key", ["a key", ""], [3]):
            with pytest.raises(ValueError, match="list of texts"):
                encoder.encode_goals(texts)
        with pytest.raises(ValueError, match="uint8"):
            encoder.encode_frames(FRAMES / 255)
    # Of 24 tokens, and the last one is the mark of the end.
    assert in_torch.encode_goals(["a b c d e f g h i j k l m n o p q r s t u v"]).shape == (1, 16)
    about = config()
    del about["model_cfg"]["text_cfg"]["tokenizer_kwargs"]
    (copy / "open_clip_config.json").write_text(json.dumps(about))
    for encoder in (OpenClip(f"local-dir:{copy}"), JaxClip(copy)):
        # In JAX an index outside the table would be one inside it, without a word.
        with pytest.raises(ValueError, match="the model's vocabulary has 518"):
            encoder.encode_goals(["a key"])


def test_pickles_are_for_torch_only(copy, in_torch):
    import torch

    weights = safetensors.numpy.load_file(copy / "open_clip_model.safetensors")
    torch.save(
        {name: torch.from_numpy(array) for name, array in weights.items()},
        copy / "open_clip_pytorch_model.bin",
    )
    without_weights(copy)
    with pytest.raises(ValueError, match="is a pickle"):
        JaxClip(copy)
    encoder = OpenClip(f"local-dir:{copy}")
    np.testing.assert_allclose(encoder.encode_frames(FRAMES), in_torch.encode_frames(FRAMES), atol=1e-6)

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(copy / "ran"),)

    torch.save({"logit_scale": Evil()}, copy / "open_clip_pytorch_model.bin")
    with pytest.raises(ValueError, match="cannot be loaded"):
        OpenClip(f"local-dir:{copy}")
    assert not (copy / "ran").exists()


def test_threads_are_set(folder):
    import torch

    before = torch.get_num_threads()
    try:
        OpenClip(f"local-dir:{folder}", threads=before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_a_missing_torchvision_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match=r"needs torchvision: pip install 'limbeck\[clip\]'"):
        import_open_clip()
