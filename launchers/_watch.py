"""`limbeck watch`: a GIF of a distilled agent that learns a task in its context."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import jax
import numpy as np
import tyro
from dm_env import specs
from PIL import Image, ImageDraw, ImageFont

from .. import distillation
from ..agents import EVALUATE
from ..envs import LAST, AutoReset
from . import runs
from ._usage import parse
from .config import from_settings
from .tasks import experiment_tasks, pick


_PANEL, _CAPTION, _GAP = 216, 44, 12
_PAPER, _INK, _FAINT = (255, 255, 255), (40, 40, 40), (225, 225, 225)
_TRAIL, _AGENT, _GOAL = (170, 200, 235), (31, 119, 180), (255, 176, 0)


@dataclasses.dataclass(frozen=True)
class WatchOptions:
    """Draws a GIF of some episodes of a distilled agent in one context, side by side.

    Attributes:
      run: the run's directory (of one seed).
      task: its id; the first held-out one by default.
      tasks: those that no history had, or those of training.
      episodes: which ones to draw, counted from 1; all before the last one are played too.
      temperature: of the actions.
      seed: of the play.
      frames_per_second: of the GIF.
      out: where to write; `watch.gif` in the run's directory by default.
    """

    run: Annotated[pathlib.Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    task: int | None = None
    tasks: Literal["held_out", "train"] = "held_out"
    episodes: tuple[int, ...] = (1, 10, 40)
    temperature: float = 1.0
    seed: int = 0
    frames_per_second: float = 6.0
    out: pathlib.Path | None = None


class Episode(NamedTuple):
    """One episode of T steps.

    Attributes:
      number: counted from 1.
      observation: `[T + 1, …]`, the final one included.
      action: int `[T]`.
      reward: float `[T]`.
    """

    number: int
    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray


def watch(arguments: Sequence[str]) -> None:
    """`limbeck watch RUN [options]`."""
    options = parse(WatchOptions, "watch", arguments)
    if not options.episodes or min(options.episodes) < 1:
        raise ValueError(f"episodes are counted from 1, got {' '.join(map(str, options.episodes)) or 'none'}")
    run = runs.open_run(options.run)
    if run.settings["seeds"] > 1:
        raise ValueError(f"{run.directory} holds several seeds: watch one of {run.directory}/seed_*")
    if run.done("distil") is None:
        raise ValueError(f"{run.directory} has no distilled network yet: run its command again to finish it")
    if options.frames_per_second <= 0:
        raise ValueError(f"frames_per_second must be positive, got {options.frames_per_second}")
    side = getattr(experiment_tasks(from_settings(run.settings)), options.tasks)
    one = pick(side, [int(side.ids[0]) if options.task is None else options.task])
    distilled = distillation.load(run.directory, temperature=options.temperature)
    task = jax.tree.map(lambda x: x[0], one.tasks)
    stream = play(
        distilled.agent,
        distilled.params,
        one.environment,
        task,
        jax.random.key(options.seed),
        max(options.episodes),
    )
    chosen = [stream[number - 1] for number in options.episodes]
    out = options.out or run.directory / "watch.gif"
    draw_gif(out, chosen, one.environment, int(one.ids[0]), 1 / options.frames_per_second)
    for episode in chosen:
        print(f"episode {episode.number}: return {episode.reward.sum():g}")
    print(out)


def play(
    agent: Any, params: Any, environment: Any, task: Any, key: jax.Array, episodes: int
) -> list[Episode]:
    """The first `episodes` episodes of one stream, one after the other in one context."""
    world = AutoReset(environment)

    @functools.partial(jax.jit, static_argnums=1)
    def run(params, steps, key):
        begin_key, key = jax.random.split(key)
        state, timestep = world.reset(begin_key, task)

        def step(carry, key):
            state, timestep, memory = carry
            act_key, step_key = jax.random.split(key)
            action, _, memory = agent.act(params, memory, act_key, timestep, EVALUATE)
            after, merged = world.step(step_key, task, state, action)
            row = (timestep.observation, action, merged.reward, merged.step_type, after.final_observation)
            return (after, merged, memory), row

        carry = (state, timestep, agent.initial_memory())
        return jax.lax.scan(step, carry, jax.random.split(key, steps))[1]

    # No episode is longer than the horizon.
    rows = run(params, episodes * environment.max_steps, key)
    observation, action, reward, step_type, led_to = (np.asarray(x) for x in rows)
    ends = np.flatnonzero(step_type == LAST)[:episodes]
    starts = np.concatenate([[0], ends[:-1] + 1])
    return [
        Episode(
            number,
            np.concatenate([observation[a : b + 1], led_to[b : b + 1]]),
            action[a : b + 1],
            reward[a : b + 1],
        )
        for number, (a, b) in enumerate(zip(starts, ends), start=1)
    ]


def draw_gif(
    path: pathlib.Path, episodes: list[Episode], environment: Any, task_id: int, seconds: float
) -> None:
    """Writes the episodes side by side, a frame a step, the last one held for two seconds."""
    spec = environment.observation_spec()
    draw = _draw_grid if _is_grid(spec) else _draw_actions
    frames = []
    for time in range(max(len(episode.action) for episode in episodes) + 1):
        width = len(episodes) * (_PANEL + _GAP) + _GAP
        frame = Image.new("RGB", (width, _PANEL + _CAPTION + 2 * _GAP), _PAPER)
        canvas = ImageDraw.Draw(frame)
        canvas.text((_GAP, 6), f"{environment.name}, task {task_id}", _INK, _font())
        for place, episode in enumerate(episodes):
            now = min(time, len(episode.action))
            left, top = _GAP + place * (_PANEL + _GAP), _CAPTION + _GAP
            earned = f"episode {episode.number}, step {now}, return {episode.reward[:now].sum():g}"
            canvas.text((left, 26), earned, _INK, _font())
            draw(canvas, left, top, episode, now, environment)
        frames.append(frame)
    durations = [round(1000 * seconds)] * (len(frames) - 1) + [2000]
    path.parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0)


def _is_grid(spec: Any) -> bool:
    bounded = isinstance(spec, specs.BoundedArray) and np.issubdtype(spec.dtype, np.integer)
    return bounded and spec.shape == (2,)


def _draw_grid(
    canvas: ImageDraw.ImageDraw, left: int, top: int, episode: Episode, now: int, environment: Any
) -> None:
    """A room from above: the trail, the cells that will pay (outlined) and have paid (filled), the agent."""
    low = np.broadcast_to(environment.observation_spec().minimum, (2,))
    sizes = np.broadcast_to(environment.observation_spec().maximum, (2,)) - low + 1
    cell = _PANEL // int(sizes.max())

    def box(position: np.ndarray, inset: int = 0) -> tuple[int, int, int, int]:
        x, y = (int(i) * cell for i in position - low)
        return left + x + inset, top + y + inset, left + x + cell - inset, top + y + cell - inset

    for x in range(int(sizes[0])):
        for y in range(int(sizes[1])):
            canvas.rectangle(box(low + np.array([x, y])), outline=_FAINT)
    for position in episode.observation[: now + 1]:
        canvas.rectangle(box(position, 1), fill=_TRAIL)
    paid = episode.observation[1:][episode.reward > 0]
    for position in paid:
        canvas.rectangle(box(position, 1), outline=_GOAL, width=2)
    for position in episode.observation[1 : now + 1][episode.reward[:now] > 0]:
        canvas.rectangle(box(position, 1), fill=_GOAL)
    canvas.ellipse(box(episode.observation[now], max(cell // 5, 2)), fill=_AGENT)


def _draw_actions(
    canvas: ImageDraw.ImageDraw, left: int, top: int, episode: Episode, now: int, environment: Any
) -> None:
    """How often each action was taken so far, and which share of its reward it brought."""
    count = int(environment.action_spec().num_values)
    taken = np.bincount(episode.action[:now], minlength=count)
    paid = np.bincount(episode.action[:now], episode.reward[:now], minlength=count)
    most = max(np.bincount(episode.action, minlength=count).max(), paid.max(), 1)
    width = _PANEL // count
    for action in range(count):
        x = left + action * width
        for value, colour in ((taken[action], _TRAIL), (paid[action], _GOAL)):
            height = round((_PANEL - 1) * float(value) / float(most))
            canvas.rectangle((x + 1, top + _PANEL - 1 - height, x + width - 2, top + _PANEL - 1), fill=colour)
        canvas.text((x + 2, top + _PANEL), str(action), _INK, _font())


@functools.cache
def _font() -> Any:
    return ImageFont.load_default(12)
