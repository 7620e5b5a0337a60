"""Small CLIPs: their vocabulary, losses that know the truth, and a training that may be killed."""

import importlib.util
import json

import numpy as np
import pytest


pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("open_clip") is None, reason="open_clip, of the clip extra, is not installed"
)

torch = pytest.importorskip("torch")

from limbeck.rewards.bpe import learn_merges, save_merges, vocabulary_size  # noqa: E402
from limbeck.rewards.clip_sizes import MERGES_FILE, SIZES, model_config  # noqa: E402
from limbeck.rewards.clip_training import (  # noqa: E402
    CONFIG_FILE,
    WEIGHTS_FILE,
    CaptionedBatch,
    ClipTrainConfig,
    build,
    learning_rate,
    tokenizer,
    train_clip,
)
from limbeck.rewards.contrastive import clip_loss, siglip_loss  # noqa: E402


COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "grey": (120, 120, 120)}
TEXTS = [f"a {color} square on the floor" for color in COLORS]


def squares(step: int, count: int = 32) -> CaptionedBatch:
    """Noise with a square of a colour somewhere."""
    rng = np.random.default_rng(step)
    frames = rng.integers(0, 60, (count, 56, 56, 3)).astype(np.uint8)
    kinds = rng.integers(0, len(TEXTS), count)
    for frame, kind, x in zip(frames, kinds, rng.integers(0, 32, count)):
        frame[16:40, x : x + 24] = list(COLORS.values())[kind]
    return CaptionedBatch(frames, [TEXTS[kind] for kind in kinds], kinds[:, None] == kinds[None])


MERGES = learn_merges(TEXTS) if importlib.util.find_spec("open_clip") else []


def test_every_word_becomes_one_token(tmp_path) -> None:
    save_merges(tmp_path / MERGES_FILE, MERGES)
    tokenize = tokenizer(tmp_path / MERGES_FILE, 10)
    tokens = tokenize(["a red square on the floor", "A GREY square"])
    size = vocabulary_size(MERGES)
    assert tokens.shape == (2, 10)
    assert tokens[0, 0] == size - 2 and tokens[0, 7] == size - 1 and not tokens[0, 8:].any()
    assert tokens[1, 4] == size - 1  # Two ends and three words.
    assert len(set(tokens[0, 1:7].tolist())) == 6
    with pytest.raises(ValueError, match="more than the 8 tokens"):
        tokenize(["a " * 9])


def test_merges_by_hand() -> None:
    # ab and abc: (a, b) joins in abc; in ab the b ends the word.
    assert learn_merges(["ab abc abc"]) == [("a", "b"), ("ab", "c</w>"), ("a", "b</w>")]


def test_the_file_of_merges_is_the_same_every_time(tmp_path) -> None:
    save_merges(tmp_path / "a", MERGES)
    save_merges(tmp_path / "b", MERGES)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("size", "image", "total"),
    [
        ("xxs", 22e3, 55e3),
        ("xs", 120e3, 212e3),
        ("s", 365e3, 508e3),
        ("m", 837e3, 1.13e6),
        ("l", 2.74e6, 3.43e6),
    ],
)
def test_sizes(size, image, total) -> None:
    config = ClipTrainConfig(size=size, context=16)
    model = build(config, [("a", "b")] * (584 - 514))
    assert sum(p.numel() for p in model.visual.parameters()) == pytest.approx(image, rel=0.02)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(total, rel=0.02)


def test_losses_without_known_truth_are_open_clips_own() -> None:
    import open_clip

    torch.manual_seed(0)
    image, text = (torch.nn.functional.normalize(torch.randn(6, 8), dim=-1) for _ in range(2))
    scale, truth = torch.tensor(7.0), torch.eye(6, dtype=torch.bool)
    expected = open_clip.loss.ClipLoss()(image, text, scale)
    torch.testing.assert_close(clip_loss(image, text, scale, truth), expected)
    bias = torch.tensor(-3.0)
    expected = open_clip.loss.SigLipLoss()(image, text, scale, bias)
    torch.testing.assert_close(siglip_loss(image, text, scale, bias, truth), expected)


def test_losses_know_what_is_true() -> None:
    """Text 0 is also true of image 1, and text 2 is a negative without an image; by hand in NumPy."""
    image, text = np.eye(2, 3), np.array([[0.6, 0.8, 0.0], [0.0, 1.0, 0.0], [0.8, 0.0, 0.6]])
    truth = np.array([[True, True], [False, True], [False, False]])
    logits = 2 * text @ image.T
    rows = [np.exp(logits[:, 0]), np.exp(logits[1:, 1])]  # Text 0 is left out for image 1.
    by_image = -np.log(rows[0][0] / rows[0].sum()) - np.log(rows[1][0] / rows[1].sum())
    by_text = 0.0 - np.log(np.exp(logits[1, 1]) / np.exp(logits[1]).sum())  # For text 0 only image 0 is left.
    given = [torch.tensor(x) for x in (image, text, 2.0)]
    expected = (by_image / 2 + by_text / 2) / 2
    np.testing.assert_allclose(clip_loss(*given, torch.tensor(truth)), expected, rtol=1e-6)
    signs = np.where(truth, 1, -1)
    expected = np.log1p(np.exp(-signs * (logits - 1))).sum() / 2
    np.testing.assert_allclose(
        siglip_loss(*given, torch.tensor(-1.0), torch.tensor(truth)), expected, rtol=1e-6
    )


def test_learning_rate() -> None:
    config = ClipTrainConfig(steps=100, learning_rate=2.0, warmup=0.1)
    assert learning_rate(0, config) == pytest.approx(0.2)
    assert learning_rate(9, config) == learning_rate(10, config) == 2.0
    assert learning_rate(55, config) == pytest.approx(1.0)
    assert learning_rate(99, config) < 0.01


@pytest.mark.parametrize("loss", ["clip", "siglip"])
def test_it_learns_and_open_clip_loads_it(tmp_path, loss) -> None:
    import open_clip

    config = ClipTrainConfig(size="xxs", loss=loss, steps=150, batch=32, context=10)
    train_clip(tmp_path, config, MERGES, squares)
    model = open_clip.create_model(f"local-dir:{tmp_path}", require_pretrained=True).eval()
    held_out = squares(10_000, 64)
    about = json.loads((tmp_path / CONFIG_FILE).read_text())["preprocess_cfg"]
    pixels = (held_out.frames / 255 - about["mean"]) / about["std"]
    tokenize = open_clip.get_tokenizer(f"local-dir:{tmp_path}", bpe_path=str(tmp_path / MERGES_FILE))
    with torch.no_grad():
        images = model.encode_image(torch.tensor(pixels).permute(0, 3, 1, 2).float(), normalize=True)
        texts = model.encode_text(tokenize(TEXTS), normalize=True)
    found = [TEXTS[i] for i in (images @ texts.T).argmax(1).tolist()]
    assert np.mean([a == b for a, b in zip(found, held_out.texts)]) > 0.9
    assert not (tmp_path / "training").exists()
    before = (tmp_path / WEIGHTS_FILE).read_bytes()
    train_clip(tmp_path, config, MERGES, lambda step: pytest.fail("it is trained"))
    assert (tmp_path / WEIGHTS_FILE).read_bytes() == before
    with pytest.raises(ValueError, match="steps: 150 there, 60 now"):
        train_clip(tmp_path, ClipTrainConfig(**{**vars(config), "steps": 60}), MERGES, squares)


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path) -> None:
    config = ClipTrainConfig(size="xxs", steps=12, context=10, checkpoint_every=5)

    def dies(step: int) -> CaptionedBatch:
        if step == 8:
            raise KeyboardInterrupt
        return squares(step)

    train_clip(tmp_path / "whole", config, MERGES, squares)
    with pytest.raises(KeyboardInterrupt):
        train_clip(tmp_path / "killed", config, MERGES, dies)
    assert not (tmp_path / "killed" / WEIGHTS_FILE).exists()
    seen = []
    train_clip(tmp_path / "killed", config, MERGES, lambda step: (seen.append(step), squares(step))[1])
    assert seen == list(range(5, 12))
    assert (tmp_path / "killed" / WEIGHTS_FILE).read_bytes() == (
        tmp_path / "whole" / WEIGHTS_FILE
    ).read_bytes()


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="no size 'xxl'; known: xxs, xs, s, m, l"):
        model_config("xxl", 600)
    with pytest.raises(ValueError, match="'clip' or 'siglip'"):
        ClipTrainConfig(loss="triplet")  # type: ignore[arg-type]
    assert set(SIZES) == {"xxs", "xs", "s", "m", "l"}
