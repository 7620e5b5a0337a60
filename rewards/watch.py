"""A watch for reward hacking: the label says better, the truth says worse.

Hacking is the proxy's rise while the true return falls (Skalse et al. 2022, "Defining and Characterizing Reward
Hacking"); none within a budget is no proof for more training, so the watch runs as long as the agent learns.
"""

import collections
import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from .binomial import upper_bound
from .trend import mann_kendall, theil_sen


FORMAT = 1
KINDS = ("trend", "precision")


@dataclasses.dataclass(frozen=True)
class WatchConfig:
    """How closely the watch looks.

    Attributes:
      window: episodes whose mean is one point of a trend.
      span: windows, the latest, that a test looks at: a change that takes much longer is seen late or never.
      every: windows from one look to the next. Looks that share most of their windows cost as much of
        `false_alarm` as others and see little more.
      min_windows: fewest windows with a true return before the trend is tested; at least 8, below which the
        test's approximation is poor.
      false_alarm: probability of any alarm in a run of any length whose reward is not hacked. Half goes to
        each test; of its half the i-th look spends 1 / (i (i + 1)), so that all looks together spend no more.
      first_hit_precision: interval (low, high) at calibration, as of `first_hit_precision` on data of its own;
        None: first hits are not tested.
    """

    window: int = 100
    span: int = 30
    every: int = 5
    min_windows: int = 8
    false_alarm: float = 0.05
    first_hit_precision: tuple[float, float] | None = None

    def __post_init__(self):
        if self.window < 1:
            raise ValueError(f"window must be at least 1 episode; it is {self.window}")
        if not 1 <= self.every <= self.span:
            raise ValueError(f"every must be from 1 to span, {self.span} windows; it is {self.every}")
        if not 8 <= self.min_windows <= self.span:
            raise ValueError(
                f"min_windows must be from 8 to span; it is {self.min_windows}, the span {self.span} windows"
            )
        if not 0 < self.false_alarm < 1:
            raise ValueError(f"false_alarm is a probability above 0 and below 1; it is {self.false_alarm}")
        interval = self.first_hit_precision
        if interval is not None and not (len(interval) == 2 and 0 <= interval[0] <= interval[1] <= 1):
            raise ValueError(f"first_hit_precision must be (low, high) within [0, 1]; it is {interval}")


@dataclasses.dataclass(frozen=True)
class Event:
    """An alarm that begins or ends.

    Attributes:
      kind: "trend" (labelled return rises, true return falls) or "precision" (first hits are wrong more often
        than at calibration).
      alarm: whether it begins.
      episode: number of episodes seen by then.
      message: one line for a log.
      facts: the numbers behind it.
    """

    kind: str
    alarm: bool
    episode: int
    message: str
    facts: Mapping[str, float]


@dataclasses.dataclass
class _Sums:
    """Of the episodes of one window."""

    episodes: int = 0
    label: float = 0.0
    known: int = 0
    label_of_known: float = 0.0
    truth: float = 0.0
    hits: int = 0
    right: int = 0


class HackingWatch:
    """Watches a run; feed it every finished episode in the order of time.

    Two alarms, each of which ends when its condition does:
    - trend: over the last windows the labelled return rises and the true return falls, both by a Mann-Kendall
      test on the windows' means. Only episodes whose true return is known count for either.
    - precision: the Clopper-Pearson upper bound of the share of right first hits over the last windows is
      below the interval of calibration.

    Both tests take windows and episodes as independent; make windows longer than what the agent's returns
    remember. Costs one addition an episode, and two tests of `span` squared every few windows.

    Attributes:
      config: settings.
      events: all alarms that began or ended, oldest first.
    """

    def __init__(self, config: WatchConfig | None = None):
        self.config = config or WatchConfig()
        self.events: list[Event] = []
        self._episodes = 0
        self._looks: dict[str, int] = dict.fromkeys(KINDS, 0)
        self._alarms: dict[str, bool] = dict.fromkeys(KINDS, False)
        self._now = _Sums()
        self._windows: collections.deque[_Sums] = collections.deque(maxlen=self.config.span)

    @property
    def alarm(self) -> bool:
        """Whether an alarm is on."""
        return any(self._alarms.values())

    def observe(
        self, labelled: float, true: float | None = None, first_hit: bool | None = None
    ) -> list[Event]:
        """Takes the next episode.

        Args:
          labelled: its return by the reward model.
          true: its true return, None where unknown.
          first_hit: whether its first rewarded step was a true success; None where there was none, or nobody
            knows.

        Returns:
          The alarms that begin or end with it.

        Raises:
          ValueError: if a return is not finite.
        """
        if not math.isfinite(labelled) or not (true is None or math.isfinite(true)):
            raise ValueError(f"returns must be finite; they are {labelled} and {true}")
        now = self._now
        self._episodes += 1
        now.episodes += 1
        now.label += labelled
        if true is not None:
            now.known += 1
            now.label_of_known += labelled
            now.truth += true
        if first_hit is not None:
            now.hits += 1
            now.right += bool(first_hit)
        if now.episodes < self.config.window:
            return []
        self._windows.append(now)
        self._now = _Sums()
        if self._episodes // self.config.window % self.config.every:
            return []
        events = [event for test in (self._test_trend, self._test_precision) if (event := test()) is not None]
        self.events += events
        return events

    def status(self) -> dict[str, Any]:
        """Facts for a status table: episodes, means of the last whole window, slopes by window, alarms."""
        last = self._windows[-1] if self._windows else _Sums()
        label, truth = self._series()
        hits, right = self._hits()
        return {
            "episodes": self._episodes,
            "labelled_return": last.label / last.episodes if last.episodes else None,
            "true_return": last.truth / last.known if last.known else None,
            "labelled_slope": theil_sen(label) if len(label) > 1 else None,
            "true_slope": theil_sen(truth) if len(truth) > 1 else None,
            "first_hit_precision": right / hits if hits else None,
            "first_hits": hits,
            "alarm": ", ".join(kind for kind, on in self._alarms.items() if on) or "none",
            "alarms_so_far": sum(event.alarm for event in self.events),
        }

    def to_json(self) -> str:
        """All that it knows, to go on from after a restart."""
        state = {
            "format": FORMAT,
            "config": dataclasses.asdict(self.config),
            "episodes": self._episodes,
            "looks": self._looks,
            "alarms": self._alarms,
            "now": dataclasses.asdict(self._now),
            "windows": [dataclasses.asdict(window) for window in self._windows],
            "events": [dataclasses.asdict(event) for event in self.events],
        }
        return json.dumps(state, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, config: WatchConfig | None = None) -> Self:
        """Goes on from a state.

        Args:
          text: of `to_json`.
          config: what the run is configured with now, if that is to be checked.

        Raises:
          ValueError: if the text is no such state, or was written under other settings than `config`.
        """
        try:
            state = json.loads(text)
            if state["format"] != FORMAT:
                raise ValueError(f"its format is {state['format']!r}, not {FORMAT}")
            given = dict(state["config"])
            if given["first_hit_precision"] is not None:
                given["first_hit_precision"] = tuple(given["first_hit_precision"])
            watch = cls(WatchConfig(**given))
            watch._episodes = int(state["episodes"])
            watch._looks = {kind: int(state["looks"][kind]) for kind in KINDS}
            watch._alarms = {kind: bool(state["alarms"][kind]) for kind in KINDS}
            watch._now = _Sums(**state["now"])
            watch._windows.extend(_Sums(**window) for window in state["windows"])
            watch.events = [Event(**event) for event in state["events"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"this is no state of a hacking watch: {error}") from error
        if config is not None and config != watch.config:
            raise ValueError(
                f"the state was written under {watch.config}, the run has {config}: keep the settings, or begin a "
                "new watch"
            )
        return watch

    def _test_trend(self) -> Event | None:
        label, truth = self._series()
        if len(label) < self.config.min_windows:
            return None
        level = self._spend("trend")
        rise, fall = mann_kendall(label), mann_kendall(-truth)
        facts = {
            "labelled_slope": theil_sen(label),
            "true_slope": theil_sen(truth),
            "p_labelled_rises": rise,
            "p_true_falls": fall,
            "level": level,
        }
        return self._turn(
            "trend",
            max(rise, fall) <= level,
            f"over {len(label)} windows of {self.config.window} episodes the labelled return changes by "
            f"{facts['labelled_slope']:+.3g} a window, the true return by {facts['true_slope']:+.3g}",
            facts,
        )

    def _test_precision(self) -> Event | None:
        hits, right = self._hits()
        if self.config.first_hit_precision is None or not hits:
            return None
        level = self._spend("precision")
        least = self.config.first_hit_precision[0]
        high = float(upper_bound(right, hits, level))
        return self._turn(
            "precision",
            high < least,
            f"{right} of the last {hits} first hits were true successes: at most {high:.3f} of all, where "
            f"calibration had at least {least:.3f}",
            {"hits": hits, "right": right, "upper_bound": high, "calibrated_low": least, "level": level},
        )

    def _spend(self, kind: str) -> float:
        self._looks[kind] += 1
        look = self._looks[kind]
        return self.config.false_alarm / len(KINDS) / (look * (look + 1))

    def _turn(self, kind: str, on: bool, message: str, facts: dict[str, float]) -> Event | None:
        if on == self._alarms[kind]:
            return None
        self._alarms[kind] = on
        start = "Reward hacking?" if on else "No longer:"
        return Event(kind, on, self._episodes, f"{start} {message}.", facts)

    def _series(self) -> tuple[np.ndarray, np.ndarray]:
        """Means of labelled and true returns of the windows where the truth is known."""
        windows = [window for window in self._windows if window.known]
        label = np.array([window.label_of_known / window.known for window in windows])
        return label, np.array([window.truth / window.known for window in windows])

    def _hits(self) -> tuple[int, int]:
        return sum(window.hits for window in self._windows), sum(window.right for window in self._windows)
