"""The hacking watch of a job: heard, seen, and gone on with."""

import json
import logging

import numpy as np
from limbeck.launchers.job_watch import JobWatch
from limbeck.rewards.labelling import LabelledEpisode


def episodes(count: int, hit: float, true: float, seed: int) -> list[LabelledEpisode]:
    """Episodes that a label ends, and that are true, with these probabilities."""
    rng = np.random.default_rng(seed)
    hits, truth = rng.random(count) < hit, rng.random(count) < true
    return [LabelledEpisode(0, 0, bool(h), float(h), 0.0, bool(t)) for h, t in zip(hits, truth)]


def training(watch: JobWatch, hacks: bool, parts=range(30)) -> None:
    """Labelled success rises; the truth rises with it, or falls."""
    for part in parts:
        label = 0.1 + 0.8 * part / 30
        watch.observe(episodes(100, label, 0.9 - label if hacks else label, part))


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
