"""Calibrated CLIPs as rewards of compiled loops, with the controls: what `vlm_rewards` pays its agents by."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from limbeck.rewards import (
    CalibratedReward,
    Calibration,
    CalibrationConfig,
    CosineHead,
    EncoderReward,
    OpenClip,
    Pairs,
    calibrate,
    head_settings,
    load_card,
    save_card,
)
from limbeck.rewards.frames import WALK, Frames
from limbeck.rewards.paid import HostPay, Pay

from ._paid_agents import Plays, train
from ._vlm_domains import Domain, domain_of


CONTROLS = ("truth", "shuffled", "random")
# Seeds of agents whose play is calibrated on, away from those of the agents that are reported.
_CALIBRATION_SEED = 1000


@dataclasses.dataclass(frozen=True)
class Clip:
    """A model and how it is asked.

    Attributes:
      name: of the reward in results.
      path: of the model.
      style: of the goals' texts.
    """

    name: str
    path: pathlib.Path
    style: str = "state"


@dataclasses.dataclass(frozen=True)
class Calibrating:
    """How thresholds are chosen.

    Attributes:
      way: `walks`: false positives per frame of random walks and demonstrations; `episodes`: episodes of these in
        which the first hit is wrong; `on-policy`: the same of episodes that agents play which were trained by a card
        of `walks`.
      episodes: random walks of a split of their own.
      frame_target: highest false-positive rate per frame.
      hit_target: highest rate of episodes whose first hit is wrong.
      steps: of the agent that plays for `on-policy`.
      min_positives: fewest true frames of a goal.
    """

    way: str = "walks"
    episodes: int = 600
    frame_target: float = 5e-4
    hit_target: float = 0.03
    steps: int = 400_000
    min_positives: int = 10


def judged_frames(domain: Domain, family: str, episodes: int, split: int) -> Frames:
    """Random walks, first frames, demonstrations and near misses; another split, other episodes."""
    settings = domain.families[family]
    return domain.world.strata(
        family, episodes=episodes, steps=settings.horizon, seed=0, split=split, **settings.arguments
    )


def scores_of(model: EncoderReward, domain: Domain, symbols: np.ndarray) -> np.ndarray:
    """float32 `[N, G]`; a picture that comes again is encoded once."""
    flat = symbols.reshape(len(symbols), -1)
    distinct, first, place = np.unique(flat, axis=0, return_index=True, return_inverse=True)
    parts = [
        model.embed(domain.world.pictures(symbols[first[start : start + 1024]]))
        for start in range(0, len(distinct), 1024)
    ]
    embeddings = np.concatenate(parts)
    columns = [model.score(embeddings, [goal] * len(embeddings)) for goal in model.goals]
    return np.stack(columns, axis=1)[place.reshape(-1)]


def model_of(clip: Clip, family: str) -> EncoderReward:
    """Cosines of a CLIP in PyTorch with the goals of a family, in bfloat16: some twice as fast on a CPU that has it."""
    goals = [goal.text(clip.style) for goal in domain_of(family).world.goals(family)]
    return EncoderReward(
        OpenClip(f"local-dir:{clip.path}", precision="bf16", batch=64, threads=1), CosineHead(), goals
    )


class Rewards:
    """The rewards of one run of the benchmark; cards are kept in its directory.

    Args:
      directory: of the run.
      calibrating: how thresholds are chosen.
      first: whose rate the control `random` has, and whose reward is asked about other goals by `shuffled`.
    """

    def __init__(self, directory: pathlib.Path, calibrating: Calibrating, first: Clip):
        self._directory, self._calibrating, self._first = directory, calibrating, first

    def pay(self, family: str, reward: str, clip: Clip | None) -> Pay:
        """What pays: a control by name, or a CLIP."""
        domain = domain_of(family)
        if reward == "truth":
            return domain.truth(family, domain.world.goals(family))
        if reward == "random":
            rate = self._rate(family)
            return lambda observation, goal, key: jax.random.bernoulli(key, rate)
        if reward == "shuffled":
            paid = self._paid(family, self._first, self.card(family, self._first))
            train_goals, _ = domain.split(family)
            moved = np.arange(len(domain.world.goals(family)))
            moved[train_goals] = np.roll(train_goals, len(train_goals) // 2)
            others = jnp.asarray(moved)
            return lambda observation, goal, key: paid(observation, others[goal], key)
        assert clip is not None
        return self._paid(family, clip, self.card(family, clip))

    def card(self, family: str, clip: Clip) -> Calibration:
        """The card of a CLIP, made where it is not there."""
        if self._calibrating.way != "on-policy":
            return self._kept(family, clip, self._calibrating.way, self._from_frames)
        return self._kept(family, clip, "on-policy", self._from_plays)

    def _kept(self, family: str, clip: Clip, way: str, make: Any) -> Calibration:
        path = self._directory / "cards" / f"{family}_{clip.name}_{way}.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            save_card(make(family, clip, way), path)
        return load_card(path)

    def _from_frames(self, family: str, clip: Clip, way: str) -> Calibration:
        domain, how = domain_of(family), self._calibrating
        frames = _calibration_frames(family, how.episodes)
        model = model_of(clip, family)
        pairs = Pairs.of(
            scores_of(model, domain, frames.symbols),
            domain.frame_truth(family, frames.symbols),
            frames.episode,
            frames.time,
            model.goals,
        )
        # A first frame alone is no episode.
        if way == "episodes":
            pairs = pairs.select(np.isin(pairs.episode, np.unique(pairs.episode[pairs.step > 0])))
            config = CalibrationConfig(how.hit_target, min_positives=how.min_positives, unit="first_hit")
        else:
            config = CalibrationConfig(how.frame_target, min_positives=how.min_positives)
        return _calibrated(model, pairs, config, domain, family)

    def _from_plays(self, family: str, clip: Clip, way: str) -> Calibration:
        del way
        domain, how = domain_of(family), self._calibrating
        before = self._kept(family, clip, "walks", self._from_frames)
        goals, held_out = domain.split(family)
        _, plays = train(
            domain.environment(family),
            self._paid(family, clip, before),
            goals,
            held_out,
            how.steps,
            _CALIBRATION_SEED,
            domain.families[family].agent,
        )
        model = model_of(clip, family)
        pairs = plays_as_pairs(model, domain, family, plays)
        config = CalibrationConfig(how.hit_target, min_positives=how.min_positives, unit="first_hit")
        return _calibrated(model, pairs, config, domain, family)

    def _paid(self, family: str, clip: Clip, card: Calibration) -> Pay:
        model = CalibratedReward(model_of(clip, family), card, allow_abstained=True)
        return HostPay(model, domain_of(family).world.render)

    def _rate(self, family: str) -> float:
        """How often the first CLIP pays a frame of a random walk, over the goals of training."""
        domain, model = domain_of(family), model_of(self._first, family)
        frames = _calibration_frames(family, self._calibrating.episodes)
        goals, _ = domain.split(family)
        levels = np.asarray(self.card(family, self._first).levels(model.goals))
        scores = scores_of(model, domain, frames.symbols[frames.stratum == WALK])
        return float((scores >= levels)[:, goals].mean())


def plays_as_pairs(model: EncoderReward, domain: Domain, family: str, plays: list[Plays]) -> Pairs:
    """Every step of played episodes with the episode's own goal."""
    symbols = np.concatenate([part.symbols for part in plays])
    goal = np.concatenate([part.goal for part in plays])
    episodes, steps = symbols.shape[:2]
    frames, own = symbols.reshape(-1, *symbols.shape[2:]), np.repeat(goal, steps)
    rows = np.arange(len(frames))
    return Pairs.of(
        scores_of(model, domain, frames)[rows, own],
        domain.frame_truth(family, frames)[rows, own],
        np.repeat(np.arange(episodes), steps),
        np.tile(np.arange(steps), episodes),
        model.goals,
        own,
    )


def _calibrated(
    model: EncoderReward, pairs: Pairs, config: CalibrationConfig, domain: Domain, family: str
) -> Calibration:
    families = dict.fromkeys(model.goals, family) if domain.families[family].pooled else None
    if families is not None:
        # Goals that the model was never told of would decide for all.
        named = np.isin(pairs.goal, domain.split(family)[0])
        pairs = pairs.select(named)
    return calibrate(pairs, model.encoder.fingerprint, head_settings(model.head), config, families)


@functools.lru_cache(maxsize=2)
def _calibration_frames(family: str, episodes: int) -> Frames:
    return judged_frames(domain_of(family), family, episodes, split=1)
