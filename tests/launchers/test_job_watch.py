"""The hacking watch of a job: heard, seen, and gone on with."""

import json
import logging

import numpy as np
from limbeck.launchers._returns_curve import ReturnsCurve
from limbeck.launchers.job_watch import JobWatch, draw_watches, watch_config
from limbeck.rewards import WatchConfig
from limbeck.rewards.card import CardHits
from limbeck.rewards.labelling import LabelledEpisode
from PIL import Image


def episodes(count: int, hit: float, true: float, seed: int) -> list[LabelledEpisode]:
    """Episodes that a label ends, and that are true, with these probabilities."""
    rng = np.random.default_rng(seed)
    hits, truth = rng.random(count) < hit, rng.random(count) < true
    return [LabelledEpisode(0, 0, bool(h), float(h), 0.0, bool(t)) for h, t in zip(hits, truth)]


def training(watch: JobWatch, hacks: bool, parts=range(30)) -> None:
    """Labelled success rises; the truth rises with it, or falls."""
    for part in parts:
        label = 0.1 + 0.8 * part / 30
        watch.observe(episodes(100, label, 0.9 - label if hacks else label, part), 3200 * (part + 1))


def test_a_planted_hack_is_told_in_log_and_status(tmp_path, caplog) -> None:
    watch = JobWatch(tmp_path / "watch.json")
    assert watch.facts() == {}
    with caplog.at_level(logging.WARNING):
        training(watch, hacks=True)
    assert watch.facts() == {"alarm": "reward hacking"}
    assert "reward hacking, episode" in caplog.text
    kept = json.loads((tmp_path / "watch.json").read_text())  # At once, not when the labeller ends.
    assert kept["events"]


def test_a_truthful_reward_is_silent(tmp_path, caplog) -> None:
    watch = JobWatch(tmp_path / "watch.json")
    with caplog.at_level(logging.WARNING):
        training(watch, hacks=False)
    assert watch.facts() == {} and caplog.text == ""


def test_a_restarted_labeller_goes_on(tmp_path) -> None:
    whole, first = JobWatch(tmp_path / "whole.json"), JobWatch(tmp_path / "parts.json")
    training(whole, hacks=True)
    whole.save()
    training(first, hacks=True, parts=range(12))
    first.save()
    training(second := JobWatch(tmp_path / "parts.json"), hacks=True, parts=range(12, 30))
    second.save()
    assert (tmp_path / "parts.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


class Carded:
    """A model with a card, as far as the watch looks at it."""

    class card:
        first_hits = CardHits(hits=200, right=190, low=0.91, high=0.98, delta=0.05)


def hits(watch: JobWatch, right: float, parts=range(20)) -> None:
    """As many hits throughout, of which so many are right: returns are level, and no trend is seen."""
    rng = np.random.default_rng(5)
    for part in parts:
        watch.observe(
            [LabelledEpisode(0, 0, True, 1.0, 0.0, bool(r)) for r in rng.random(100) < right],
            900 * (part + 1),
        )


def test_first_hits_that_leave_the_card_s_interval_sound_an_alarm(tmp_path, caplog) -> None:
    config = watch_config(Carded())
    assert config == WatchConfig(first_hit_precision=(0.91, 0.98))
    hacked, told = JobWatch(tmp_path / "hacked.json", config), JobWatch(tmp_path / "told.json", config)
    with caplog.at_level(logging.WARNING):
        hits(told, right=0.95)
        assert told.facts() == {} and caplog.text == ""
        hits(hacked, right=0.7)
    assert hacked.facts() == {"alarm": "reward hacking"}
    assert "first hits were true successes" in caplog.text and "at least 0.910" in caplog.text
    # Without a card's interval the same is silent: nothing says how good first hits ought to be.
    bare = JobWatch(tmp_path / "bare.json", watch_config(object()))
    hits(bare, right=0.7)
    assert bare.facts() == {}


def test_returns_are_drawn_at_an_alarm_and_at_the_end(tmp_path) -> None:
    (labelling := tmp_path / "labelling").mkdir()
    hacked, silent = (JobWatch(labelling / f"watch_{i}.json") for i in range(2))
    training(hacked, hacks=True)
    training(silent, hacks=False)
    assert (labelling / "watch_0.png").exists() and not (labelling / "watch_1.png").exists()
    silent.save()
    draw_watches(tmp_path)
    with Image.open(labelling / "watch_1.png") as drawing:
        assert drawing.size[0] > 400 and len(np.unique(np.asarray(drawing))) > 50
    assert (labelling / "watch_0.png").read_bytes() != (labelling / "watch_1.png").read_bytes()
    draw_watches(tmp_path / "no_such_run")


def test_the_table_of_returns_is_of_windows_and_goes_on(tmp_path) -> None:
    path, watch = tmp_path / "watch.csv", JobWatch(tmp_path / "watch.json")
    for part in range(3):
        mine = [LabelledEpisode(0, 0, i < 40, float(i < 40), 0.0, i < 25 + part) for i in range(100)]
        watch.observe(mine, 1000 * (part + 1))
    lines = path.read_text().splitlines()
    assert lines[0] == "steps,episodes,labelled_return,true_success,hits,right_hits"
    assert lines[1:] == ["1000,100,0.4,0.25,40,25", "2000,200,0.4,0.26,40,26", "3000,300,0.4,0.27,40,27"]
    with open(path, "a") as file:
        file.write("4000,40")  # A kill while it was writing.
    again = ReturnsCurve(path)
    for episode in mine:
        again.add(episode, 500)
    assert path.read_text().splitlines()[3:] == [lines[3], "3500,400,0.4,0.27,40,27"]
    ReturnsCurve(tmp_path / "new.csv").draw(tmp_path / "new.png", [])
    assert not (tmp_path / "new.png").exists()
