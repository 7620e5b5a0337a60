"""Screens, what is said of them, and how models of them are judged."""

import collections
import importlib.util
import json
import re

import numpy as np
import pytest
from limbeck.envs.screen_facts import APPS, NO_APP, NO_PAGE, NUM_APPS, NUM_COMMON, ScreenFacts
from limbeck.envs.screen_goals import APP_TEXTS, AppGoal, is_open, parse_app_goal
from limbeck.envs.screen_sight import apps_in_sight
from limbeck.rewards.frames import DEMONSTRATION, NEAR_MISS, RESET, WALK
from limbeck.rewards.screen_captions import (
    PREDICATES,
    Statement,
    caption_truth,
    column,
    say,
    screen_words,
    truth_table,
)
from limbeck.rewards.screen_comparison import compare
from limbeck.rewards.screen_data import CaptionedScreens, ScreenCaptionConfig, split_apps, walked_screens
from limbeck.rewards.screen_frames import goal_truth, render_frames, screen_frames


CAPTIONS = ScreenCaptionConfig(episodes=30, steps=20)
NAMES = re.compile("|".join(rf"\b{name}\b" for name in sorted(APPS, key=len, reverse=True)))


@pytest.fixture(scope="module")
def walked():
    return walked_screens(CAPTIONS, CAPTIONS.episodes)


def random_facts(count: int) -> ScreenFacts:
    """Facts of every kind: pages, apps and recent apps, under dialogs and without."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, count)
    covered = rng.random(count) < 0.3
    opened = np.where((kind == 0) & ~covered, rng.integers(0, NUM_APPS, count), NO_APP)
    page = np.where(kind == 1, rng.integers(0, NO_PAGE, count), NO_PAGE)
    icons = np.where(rng.random((count, 12)) < 0.6, rng.integers(0, NUM_APPS, (count, 12)), NO_APP)
    icons[kind != 1] = NO_APP
    return ScreenFacts(*(x.astype(np.int32) for x in (opened, page, icons)), covered)


def said_of(statement: Statement, facts: ScreenFacts, i: int) -> bool:
    """Brute force, a screen at a time."""
    opened, page, covered = int(facts.opened[i]), int(facts.page[i]), bool(facts.covered[i])
    shown = {
        "open": opened == statement.number and not covered,
        "icon": statement.number in facts.icons[i].tolist(),
        "page": page == statement.number,
        "home": page < NO_PAGE,
        "app": opened < NO_APP and not covered,
        "recents": page == NO_PAGE and opened == NO_APP and not covered,
        "dialog": covered,
        "dialog_home": covered and page < NO_PAGE,
        "dialog_elsewhere": covered and page == NO_PAGE,
    }[statement.predicate]
    return shown == statement.positive


def every_statement() -> list[Statement]:
    found = []
    for predicate in PREDICATES:
        for number in range({"open": NUM_APPS, "icon": NUM_APPS, "page": NO_PAGE}.get(predicate, 1)):
            found.append(Statement(predicate, number))
    found += [Statement(name, i, False) for name in ("open", "icon") for i in range(NUM_APPS)]
    return found + [Statement(name, positive=False) for name in ("home", "app", "dialog")]


def test_the_truth_of_captions_is_that_of_the_facts() -> None:
    """All statements about screens of every kind, and pairs of them, against a screen at a time."""
    facts, rng = random_facts(600), np.random.default_rng(1)
    statements = every_statement()
    assert len({column(s) for s in statements if s.positive}) == truth_table(facts).shape[1]
    pairs = [[statements[i] for i in rng.integers(0, len(statements), 2)] for _ in range(200)]
    said = [*([statement] for statement in statements), *pairs]
    expected = [[all(said_of(s, facts, i) for s in part) for i in range(600)] for part in said]
    np.testing.assert_array_equal(caption_truth([say(part, rng, 0.5) for part in said], facts), expected)
    assert np.any(expected, axis=1)[: len(statements)].mean() > 0.9


def test_what_cannot_be_said_is_refused() -> None:
    for wrong in (("close", 0, True), ("page", 0, False), ("open", NUM_APPS, True), ("home", 1, True)):
        with pytest.raises(ValueError):
            Statement(*wrong)


def test_words() -> None:
    """Goals in all styles are said, and every word of everything is in the vocabulary."""
    rng = np.random.default_rng(0)
    texts = {say([s], rng, 0.5).text for s in every_statement() for _ in range(100)}
    assert {AppGoal(app).text(style) for app in range(NUM_APPS) for style in APP_TEXTS} <= texts
    texts |= {say([Statement("icon", 3), Statement("icon", 5)], rng).text for _ in range(20)}
    assert "a home screen with Calculator and Calendar" in texts
    assert {word for text in texts for word in re.findall("[a-z]+", text.lower())} == set(screen_words())
    assert say([Statement("page", 1)], rng).text in ("the home screen, page 2", "page 2 of the home screen")


def test_split() -> None:
    train, held_out = split_apps(0, 12)
    assert len(held_out) == 12 and train | held_out == set(range(NUM_APPS)) and not train & held_out
    assert sum(app < NUM_COMMON for app in held_out) == 2
    assert split_apps(0, 6)[1] < held_out and split_apps(1, 12)[1] != held_out
    assert split_apps(0, 0)[0] == set(range(NUM_APPS))
    with pytest.raises(ValueError, match="0 to 59"):
        split_apps(0, 60)


def test_batches(walked) -> None:
    """The same for the same number; each text true of its image; goals by `is_open`; no held-out app named."""
    data = CaptionedScreens(walked, CAPTIONS, 64)
    batch, again = data(3), data(3)
    np.testing.assert_array_equal(batch.frames, again.frames)
    assert list(batch.texts) == list(again.texts) != list(data(4).texts)
    assert batch.frames.shape == (64, 96, 96, 3) and batch.frames.dtype == np.uint8
    assert batch.truth.shape == (96, 64) == (len(batch.texts), 64)
    assert batch.truth.diagonal().all()
    train, held_out = split_apps(CAPTIONS.seed, CAPTIONS.held_out)
    texts = [text for step in range(40) for text in data(step).texts]
    named = collections.Counter(name for text in texts for name in NAMES.findall(text))
    assert set(named) == {APPS[app] for app in train}
    pictures = {picture.tobytes(): i for i, picture in enumerate(render_frames(walked.symbols))}
    rows = [pictures[picture.tobytes()] for picture in batch.frames]
    facts = ScreenFacts(*(part[rows] for part in walked.facts))
    goals = 0
    for text, truth in zip(batch.texts, batch.truth):
        try:
            goal = parse_app_goal(text)
        except ValueError:
            continue
        goals += 1
        np.testing.assert_array_equal(truth, is_open(goal.app, facts))
    assert goals > 16


def test_every_app_is_named_as_often_as_any_other(walked) -> None:
    data = CaptionedScreens(walked, ScreenCaptionConfig(complete=0.0, swaps=0.0, imperative=1.0), 64)
    opened = collections.Counter(
        text for step in range(60) for text in data(step).texts if text.startswith("Open")
    )
    by_app = collections.Counter()
    for text, count in opened.items():
        by_app[parse_app_goal(text).app] += count
    shown = set(np.unique(walked.facts.opened)) & split_apps(0, CAPTIONS.held_out)[0]
    assert set(by_app) == shown and len(shown) > 40
    mean = sum(by_app.values()) / len(shown)
    assert mean == pytest.approx(60 * 32 / len(shown), rel=0.1)
    assert max(by_app.values()) < 2 * mean and min(by_app.values()) > mean / 3


def test_hard_negatives_are_false_and_tempting(walked) -> None:
    """Alone in its batch, an image is the one that its negative is about."""
    data = CaptionedScreens(walked, ScreenCaptionConfig(swaps=1.0, imperative=0.0), 1)
    kinds = collections.Counter()
    for step in range(150):
        batch = data(step)
        assert len(batch.texts) == 2 and batch.truth[0, 0] and not batch.truth[1, 0], batch.texts
        kinds["icon" if "icon in view" in batch.texts[1] or "with" in batch.texts[1] else "open"] += 1
    assert min(kinds.values()) > 20


def test_what_is_in_sight(walked) -> None:
    sight = apps_in_sight(walked.symbols)
    for i in range(0, len(sight), 97):
        shown = {int(walked.facts.opened[i]), *walked.facts.icons[i].tolist()} - {NO_APP}
        assert shown <= set(np.flatnonzero(sight[i]))


def test_strata() -> None:
    """First frames are alone in their episode; demonstrations and near misses end with an app that is open."""
    judged = screen_frames("open_common", episodes=8, steps=12, seed=0, split=2)
    names, counts = np.unique(judged.stratum, return_counts=True)
    found = dict(zip(names, counts))
    assert found[WALK] == 8 * 12 and found[RESET] == 8 and set(found) >= {DEMONSTRATION, NEAR_MISS}
    for episode in np.unique(judged.episode):
        rows = judged.episode == episode
        assert len(set(judged.stratum[rows])) == 1
        if judged.stratum[rows][0] in (DEMONSTRATION, NEAR_MISS):
            assert judged.facts.opened[rows][-1] != NO_APP


class Truthful:
    """An encoder that knows the truth, but for a share of it."""

    def __init__(self, frames, wrong: float = 0.0):
        truth = goal_truth([AppGoal(app) for app in range(NUM_APPS)], frames.facts).astype(float)
        flipped = np.random.default_rng(0).random(truth.shape) < wrong
        rows = np.where(flipped, 1 - truth, truth)
        self._by_picture = {p.tobytes(): row for p, row in zip(render_frames(frames.symbols), rows)}

    def encode_frames(self, frames):
        return np.stack([self._by_picture[frame.tobytes()] for frame in frames])

    def encode_goals(self, texts):
        return np.eye(NUM_APPS)[[parse_app_goal(text).app for text in texts]]


def test_models_are_compared_by_the_truth(walked) -> None:
    known = compare(Truthful(walked), walked, CAPTIONS)
    values = {name: score["value"] for name, score in known.items() if isinstance(score, dict)}
    assert len(values) == 2 * 2 * len(APP_TEXTS) and set(values.values()) == {1.0}
    noisy = compare(Truthful(walked, wrong=0.3), walked, CAPTIONS)
    assert noisy["open_diverse.train.imperative_app"]["value"] < 0.5


@pytest.mark.skipif(importlib.util.find_spec("open_clip") is None, reason="open_clip is not installed")
def test_train_and_judge_by_the_command(tmp_path, capsys, walked) -> None:
    """Both encoders load what is saved, and agree; a model of rooms or of other captions is not gone on with."""
    from limbeck.launchers.command_line import main
    from limbeck.rewards.clip import OpenClip
    from limbeck.rewards.jax_clip import JaxClip

    options = ["--captions.episodes", "4", "--captions.steps", "10", "--steps", "3", "--batch", "16"]
    train = ["rewards", "train", "--out", str(tmp_path / "clips"), "--sizes", "xxs", *options]
    assert main([*train, "--world", "screens"]) == 0
    assert "open_diverse.train.state" in capsys.readouterr().out
    model = tmp_path / "clips" / "xxs"
    assert json.loads((model / "captions.json").read_text())["world"] == "screens"
    config = json.loads((model / "open_clip_config.json").read_text())
    assert config["preprocess_cfg"]["size"] == [96, 96]
    assert config["model_cfg"]["vision_cfg"]["patch_size"] == 12
    frames, texts = render_frames(walked.symbols[:5]), ["Open Mail", "Screenshot of Zoo on Android"]
    for encode in ("encode_frames", "encode_goals"):
        given = frames if encode == "encode_frames" else texts
        one, other = (
            getattr(made, encode)(given) for made in (OpenClip(f"local-dir:{model}"), JaxClip(model))
        )
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert main([*train, "--world", "screens", "--captions.swaps", "0.25"]) == 2
    assert "other captions (swaps)" in capsys.readouterr().err
    assert main(train) == 2
    assert "other captions" in capsys.readouterr().err
    name = "limbeck.rewards.clip_reward:clip_reward"
    about = ["--arguments", "model", f"local-dir:{model}", "family", "open_common", "style", "screenshot"]
    where = ["--out", str(tmp_path / "report"), "--family", "open_common", "--style", "screenshot"]
    small = ["--episodes", "8", "--steps", "10", "--min-positives", "1"]
    assert main(["rewards", "evaluate", name, *about, *where, *small]) == 0
    assert "held-out goals" in capsys.readouterr().out
    assert (tmp_path / "report" / "report.html").exists()
    assert main(["rewards", "check", name, *about, "card", str(tmp_path / "report" / "card.json")]) == 0
    assert main(["rewards", "evaluate", name, *about, *where, "--env-arguments", "size", "8"]) == 2
    assert "no argument 'size'" in capsys.readouterr().err
