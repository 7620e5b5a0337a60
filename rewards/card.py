"""The card of a calibration: a JSON file that says what was calibrated, on what, and what the thresholds hold."""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

from ..encoders import pages
from .binomial import lower_bound, upper_bound
from .contract import RewardError
from .hits import first_hits
from .pairs import Pairs


FORMAT = "limbeck calibration"
VERSION = 1


class CalibrationError(RewardError):
    """A card that cannot be read, or does not cover what it is used for. One clear line."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Threshold:
    """The threshold of a goal, or of a family of goals, and what it was chosen from.

    Attributes:
      name: of the goal or family.
      goals: that share it.
      threshold: frames are rewarded whose score is at or above it; None: abstained, never rewarded.
      reason: why abstained; "" where not.
      positives: frames of the split in which the goal is true.
      negatives: frames in which it is false.
      trials: what the bound is over: the negatives, or episodes with some.
      true_positives: positives that are rewarded.
      false_positives: negatives that are rewarded.
      false_trials: trials that are rewarded.
      bound: Clopper-Pearson upper bound on the rate of false trials, at confidence 1 - delta; None if abstained,
        as are those below.
      recall: true positives among the positives.
      recall_low: its Clopper-Pearson lower bound, over frames.
      prevalence: share of true frames at which precision is given.
      precision: at that prevalence, by recall and the rate of false positives per frame.
      precision_low: the same by the bounds of both.
    """

    name: str
    goals: tuple[str, ...]
    positives: int
    negatives: int
    trials: int
    prevalence: float
    threshold: float | None = None
    reason: str = ""
    true_positives: int = 0
    false_positives: int = 0
    false_trials: int = 0
    bound: float | None = None
    recall: float | None = None
    recall_low: float | None = None
    precision: float | None = None
    precision_low: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CardHits:
    """First hits (`hits.py`) at the thresholds of a card, on episodes that it was not made from.

    Attributes:
      hits: episodes and goals that had one.
      right: of them, those where the goal was true.
      low, high: Clopper-Pearson interval of the share of right ones.
      delta: the probability that the share lies outside it, half on each side.
    """

    hits: int
    right: int
    low: float
    high: float
    delta: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """A card.

    Attributes:
      fingerprint: of the encoder whose scores these thresholds are for.
      head: its settings, JSON values.
      target: highest rate of false trials, per frame or per episode.
      delta: 1 - the confidence of every bound.
      unit: "frame", "episode" or "first_hit", what a trial is (`CalibrationConfig`).
      min_positives: fewest positives of what is not abstained from.
      thresholds: of each goal or family.
      episodes: ids of the episodes that it was made from.
      first_hits: how good its first hits were on others; None where that was not measured (`with_first_hits`).
    """

    fingerprint: str
    head: Mapping[str, Any]
    target: float
    delta: float
    unit: str
    min_positives: int
    thresholds: tuple[Threshold, ...]
    episodes: tuple[int | str, ...]
    first_hits: CardHits | None = None

    def by_goal(self) -> dict[str, Threshold]:
        """The entry of every goal."""
        return {goal: entry for entry in self.thresholds for goal in entry.goals}

    def levels(self, goals: Sequence[str]) -> list[float]:
        """The threshold of each goal, infinity where abstained. Raises `CalibrationError` for a goal not there."""
        known = self.by_goal()
        if unknown := [goal for goal in goals if goal not in known]:
            raise CalibrationError(
                f"the card has no threshold for the goals {unknown[:5]}; it knows {len(known)}. Calibrate them too"
            )
        found = (known[goal].threshold for goal in goals)
        return [math.inf if threshold is None else threshold for threshold in found]

    def check(
        self,
        fingerprint: str,
        goals: Sequence[str],
        head: Mapping[str, Any] | None = None,
        allow_abstained: bool = False,
    ) -> None:
        """Refuses to be used for what it does not cover.

        Args:
          fingerprint: of the encoder at hand.
          goals: that will be asked for.
          head: settings of the head at hand; None leaves them unchecked.
          allow_abstained: whether goals may be among them that are never rewarded.

        Raises:
          CalibrationError: if the fingerprint or a setting of the head differs, or a goal is unknown or, unless
            allowed, abstained from.
        """
        if fingerprint != self.fingerprint:
            raise CalibrationError(
                f"the card is for the encoder {self.fingerprint!r}, not for {fingerprint!r}: other weights, "
                "preprocessing or precision give other scores. Calibrate this encoder"
            )
        if head is not None and (head := _json(head)) != (own := _json(self.head)):
            names = sorted(name for name in {*head, *own} if head.get(name) != own.get(name))
            raise CalibrationError(
                f"the card is for a head that differs in {', '.join(names)}: "
                + "; ".join(f"{name} {own.get(name)!r} there, {head.get(name)!r} here" for name in names[:3])
                + ". Calibrate this head"
            )
        abstained = [goal for goal, level in zip(goals, self.levels(goals)) if level == math.inf]
        if abstained and not allow_abstained:
            first = self.by_goal()[abstained[0]]
            raise CalibrationError(
                f"the card abstains from {len(abstained)} of the goals, which would never be rewarded: "
                f"{abstained[:5]} ({first.name}: {first.reason}). Leave them out, allow abstained goals, or "
                "calibrate with more data"
            )

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(
            {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}, indent=1, allow_nan=False
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The card of a file's text. Raises `CalibrationError` where it is none."""
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise CalibrationError(f"the card is not JSON: {error}") from error
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            raise CalibrationError(f"this is no card: its format should be {FORMAT!r}")
        if (version := content.pop("version", None)) != VERSION:
            raise CalibrationError(f"the card has version {version!r}; this Limbeck reads version {VERSION}")
        try:
            thresholds = tuple(
                Threshold(**{**entry, "goals": tuple(entry["goals"])}) for entry in content.pop("thresholds")
            )
            hits = content.pop("first_hits", None)
            content |= {"thresholds": thresholds, "episodes": tuple(content["episodes"])}
            card = cls(**content, first_hits=None if hits is None else CardHits(**hits))
            card._check_values()
        except (TypeError, KeyError, AttributeError) as error:
            raise CalibrationError(f"the card's content is damaged: {error}") from error
        return card

    def _check_values(self) -> None:
        """What a hand-edited file may have broken, so that no wrong threshold is applied in silence."""
        goals = [goal for entry in self.thresholds for goal in entry.goals]
        if len(set(goals)) != len(goals):
            raise CalibrationError("the card has two thresholds for one goal")
        for entry in self.thresholds:
            known = isinstance(entry.threshold, int | float) and math.isfinite(entry.threshold)
            if not known and (entry.threshold is not None or not entry.reason):
                raise CalibrationError(
                    f"the threshold of {entry.name!r} must be a number, or null with a reason; it is "
                    f"{entry.threshold!r}"
                )
        if self.first_hits is not None and not 0 <= self.first_hits.low <= self.first_hits.high <= 1:
            raise CalibrationError("the interval of the card's first hits lies outside [0, 1]")

    def check_apart(self, pairs: Pairs) -> None:
        """Refuses pairs of episodes that the card was made from. Raises `CalibrationError`."""
        common = sorted({str(x) for x in self.episodes} & {str(x) for x in pairs.episode_ids.tolist()})
        if common:
            raise CalibrationError(
                f"{len(common)} episodes of this split were calibrated on ({', '.join(common[:5])}, ...): a card is "
                "checked on episodes of its own"
            )


def with_first_hits(card: Calibration, pairs: Pairs, delta: float = 0.05) -> Calibration:
    """The card with its first hits on other episodes, which the hacking watch takes as what may be expected.

    Args:
      card: a card.
      pairs: of whole episodes, in goals that it has.
      delta: 1 - the confidence of the interval.

    Raises:
      CalibrationError: if the card was made from some of these episodes, or a goal is not in it.
    """
    card.check_apart(pairs)
    found = first_hits(pairs, card.levels(pairs.goals))
    hits, right = int((found.first >= 0).sum()), int(found.right.sum())
    low, high = (float(bound(right, hits, delta / 2)) for bound in (lower_bound, upper_bound))
    return dataclasses.replace(
        card, first_hits=CardHits(hits=hits, right=right, low=low, high=high, delta=delta)
    )


def save_card(card: Calibration, path: str | os.PathLike[str]) -> None:
    """Writes a card aside, then renames: the file is there whole or not at all."""
    pages.write(pathlib.Path(path), card.to_json() + "\n")


def load_card(path: str | os.PathLike[str]) -> Calibration:
    """Reads a card.

    Raises:
      CalibrationError: if the file is no card, of another version, or damaged.
      OSError: if it cannot be read.
    """
    try:
        return Calibration.from_json(pathlib.Path(path).read_text(encoding="utf-8"))
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from error


def _json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As it comes back from a file: tuples are lists there."""
    return json.loads(json.dumps(dict(settings)))
