"""`limbeck rewards evaluate`: how good a reward model is, and the thresholds at which it may be paid."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import tyro

from ..rewards import (
    CalibratedReward,
    Calibration,
    CalibrationConfig,
    Evaluation,
    Pairs,
    calibrate,
    evaluate,
    form_of,
    head_settings,
    load,
    recheck,
    save_card,
    with_first_hits,
    write_report,
)
from ..rewards.frames import ON_POLICY, Frames, join, to_frames
from ..rewards.worlds import World, world_of
from ._usage import UsageError, parse


Name = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
Value = int | float | str | bool

_TRAIN, _HELD_OUT = "goals of training", "held-out goals"


def evaluate_command(arguments: Sequence[str]) -> None:
    """`limbeck rewards evaluate NAME [options]`."""

    def options(
        name: Name,
        arguments: dict[str, Value] = {},  # noqa: B006  # tyro shows it; nothing changes it.
        out: pathlib.Path = pathlib.Path("runs/reward"),
        family: str = "lift",
        style: str = "state",
        episodes: int = 200,
        steps: int = 40,
        env_arguments: dict[str, Value] = {},  # noqa: B006
        plays: tuple[pathlib.Path, ...] = (),
        held_out: int | None = None,
        target: float = 1e-3,
        min_positives: int = 10,
        pooled: bool = False,
        threshold: float = 0.5,
        seed: int = 0,
        json: bool = False,
    ) -> dict[str, Any]:
        """Judges a reward model on rendered rooms or screens, by the environment's true state.

        A model of embeddings whose head has no threshold is calibrated on one half of the episodes and judged on
        the other; its card is written. Any other is judged as it is.

        Args:
          name: package.module:factory, or an entry point; `limbeck.rewards.clip_reward:clip_reward` is a CLIP.
          arguments: of the factory, such as `model local-dir:runs/clips/s family lift`.
          out: directory of `report.html`, `report.json`, `report.csv` and `card.json`.
          family: of goals: find, lift or place in rooms, open_common or open_diverse on screens.
          style: of the goals' texts: state or imperative, and on screens screenshot or imperative_app.
          episodes: random walks of each half; as many first frames, a quarter as many demonstrations and near misses.
          steps: frames of a random walk.
          env_arguments: of the environment, such as `size 8 objects 4` for rooms.
          plays: npz files of episodes that agents trained by this very reward played, judged as the stratum "on
            policy": `symbols` uint8 [episodes, steps, ...], as the environment shows them.
          held_out: objects, or apps, that captions of training did not name, by default as many as those of `limbeck
            rewards train`; goals about them are a family of their own.
          target: highest rate of false positives per frame.
          min_positives: true frames below which a goal is never rewarded.
          pooled: one threshold for all goals of training and one for all held-out goals, where each goal alone is true
            too seldom to calibrate.
          threshold: where the model is not calibrated.
          seed: of the episodes, and of the split of objects or apps.
          json: print JSON.
        """
        return dict(locals())

    given = parse(options, "rewards evaluate", arguments)
    model = load(given["name"], **given["arguments"])
    world = world_of(given["family"])
    goals, texts = _goals(world, given["family"], given["style"])
    where = {key: given[key] for key in ("family", "episodes", "steps", "seed")}
    where |= _environment_arguments(world, given["env_arguments"])
    held_out = world.captions().held_out if given["held_out"] is None else given["held_out"]
    named = world.named(given["seed"], held_out)
    families = {text: _TRAIN if named(goal) else _HELD_OUT for goal, text in zip(goals, texts)}
    judged = world.strata(**where, split=2)
    for path in given["plays"]:
        judged = join(judged, _played(world, given["family"], path))
    pictures = world.pictures(judged.symbols)
    scores, truth = _scores(model, pictures, texts), world.truth(goals, judged.facts)
    thresholds: Any = given["threshold"]
    card = None
    if _can_calibrate(model):
        config = CalibrationConfig(target=given["target"], min_positives=given["min_positives"])
        frames = world.strata(**where, split=1)
        card = _calibrated(model, world, frames, goals, texts, config, families if given["pooled"] else None)
        thresholds = card.levels(texts)
    elif isinstance(model, CalibratedReward):
        thresholds = 0.5
    episodes = [f"judged {episode}" for episode in judged.episode]
    found = evaluate(
        scores, truth, episodes, judged.time, judged.stratum, texts, thresholds, families=families
    )
    out: pathlib.Path = given["out"]
    failing: Sequence[str] = []
    if card is not None:
        pairs = Pairs.of(scores, truth, episodes, judged.time, texts)
        card, failing = with_first_hits(card, pairs), recheck(card, pairs).failing
        out.mkdir(parents=True, exist_ok=True)
        save_card(card, out / "card.json")
    write_report(out, found, pictures, card, f"{model_name(model)} on {given['family']}")
    _print(found, card, failing, out, given["json"])


def model_name(model: Any) -> str:
    """The name that a model gives itself."""
    return getattr(model, "name", type(model).__name__)


def _goals(world: World, family: str, style: str) -> tuple[list[Any], list[str]]:
    """The family's goals and their texts."""
    if style not in world.styles:
        raise UsageError(f"a style of {family} is one of {', '.join(world.styles)}, got {style!r}")
    goals = list(world.goals(family))
    return goals, [goal.text(style) for goal in goals]


def _played(world: World, family: str, path: pathlib.Path) -> Frames:
    """Episodes that agents played."""
    shape = world.environment(family).observation_spec()["symbols"].shape
    try:
        with np.load(path, allow_pickle=False) as file:
            symbols = file["symbols"]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{path} is not an npz file with `symbols`: {error}") from None
    if symbols.dtype != np.uint8 or symbols.ndim != 2 + len(shape) or symbols.shape[2:] != shape:
        wanted = ", ".join(map(str, ("episodes", "steps", *shape)))
        raise UsageError(
            f"{path}: symbols of {world.name} are uint8 [{wanted}], got {symbols.dtype} {list(symbols.shape)}"
        )
    return to_frames([(ON_POLICY, episode) for episode in symbols], world.read)


def _environment_arguments(world: World, given: dict[str, Any]) -> dict[str, Any]:
    if unknown := set(given) - set(world.arguments):
        raise UsageError(
            f"{world.name} have no argument {sorted(unknown)[0]!r} here; known: {', '.join(world.arguments)}"
        )
    return {**world.arguments, **given}


def _can_calibrate(model: Any) -> bool:
    return hasattr(model, "embed") and getattr(getattr(model, "head", None), "threshold", 0) is None


def _calibrated(
    model: Any,
    world: World,
    frames: Frames,
    goals: Sequence[Any],
    texts: Sequence[str],
    config: CalibrationConfig,
    families: Mapping[str, str] | None,
) -> Calibration:
    episodes = [f"calibration {episode}" for episode in frames.episode]
    scores = _scores(model, world.pictures(frames.symbols), texts)
    pairs = Pairs.of(scores, world.truth(goals, frames.facts), episodes, frames.time, texts)
    return calibrate(pairs, model.encoder.fingerprint, head_settings(model.head), config, families)


def _scores(model: Any, pictures: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """`[N, G]`."""
    if form_of(model) != "callable":
        raise UsageError(
            "frames are judged by models of the callable form; give an encoder a head (EncoderReward)"
        )
    if hasattr(model, "embed"):
        embeddings = model.embed(pictures)
        return np.stack([model.score(embeddings, [text] * len(pictures)) for text in texts], axis=1)
    return np.stack([model(pictures, [text] * len(pictures)) for text in texts], axis=1)


def _print(
    found: Evaluation, card: Calibration | None, failing: Sequence[str], out: pathlib.Path, as_json: bool
) -> None:
    if as_json:
        print(found.to_json(), end="")
        return
    names = ("average_precision", "precision", "recall", "false_positive_rate", "first_hit_precision")
    print(f"{'':<20}" + "".join(f"{name.replace('_', ' '):>30}" for name in names))
    for part, metrics in (*found.parts.items(), *found.families.items()):
        print(f"{part:<20}" + "".join(f"{_interval(metrics.get(name)):>30}" for name in names))
    if card is not None:
        abstained = [goal for goal, level in found.thresholds.items() if math.isinf(level)]
        print(f"card: {out / 'card.json'}; never rewarded: {len(abstained)} of {len(found.thresholds)} goals")
        print(f"goals that break their bound on these episodes: {', '.join(failing) or 'none'}")
    print(f"report: {out / 'report.html'}")


def _interval(metric: Any) -> str:
    if not metric or metric["value"] is None or not np.isfinite(metric["value"]):
        return "-"
    return f"{metric['value']:.4f} ({metric['low']:.4f}-{metric['high']:.4f})"
