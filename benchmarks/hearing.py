"""An agent that has to hear: boxes that look alike, one of which beeps, and sensors that fail.

python -m benchmarks.hearing                  # three torsos, three seeds; resumed from its files
python -m benchmarks.hearing --quick          # the whole path in small, for a check

PPO in compiled loops, once for each torso (`zorro`; `zorro` with `masked=False`, which is an ordinary Transformer;
`dictionary`, a network for what is seen and a spectral one for what is heard, laid end to end), training and seed. It
sees symbols, as pixels are slow on a CPU. Trainings: `both`, with each sensor missing in a share of the
episodes; `intact`, without that; `sight` and `hearing`, with that sensor alone. The success of each is measured with
both sensors, and with either of them dead.
"""

import argparse
import functools
import pathlib
import time
from typing import Any

import jax
from limbeck.agents import EXPLORE, PPOConfig, make_torso, ppo

from limbeck import envs

from ._compiled_learning import Learning, learn
from ._machine import RESULTS, circumstances, write
from ._seeds import over_seeds
from ._stages import kept


_SMALL = {"width": 32, "feed_forward": 64}
TORSOS: dict[str, tuple[str, dict[str, Any]]] = {
    "zorro": ("zorro", _SMALL),
    "unmasked": ("zorro", {**_SMALL, "masked": False}),
    "concatenated": ("dictionary", {"hidden": (128,)}),
}
SENSORS = ("symbols", "audio")
# By training: the probabilities with which sensors are missing.
TRAININGS: dict[str, dict[str, float]] = {
    "both": dict.fromkeys(SENSORS, 0.15),
    "intact": dict.fromkeys(SENSORS, 0.0),
    "sight": {"symbols": 0.0, "audio": 1.0},
    "hearing": {"symbols": 1.0, "audio": 0.0},
}
# By evaluation, the sensors that are dead.
EVALUATIONS = {"both sensors": (), "deaf": ("audio",), "blind": ("symbols",)}
_PPO = PPOConfig(learning_rate=5e-4, entropy_cost=0.02, epochs=3, minibatches=8)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torsos", nargs="+", choices=tuple(TORSOS), default=list(TORSOS))
    parser.add_argument("--trainings", nargs="+", choices=tuple(TRAININGS), default=list(TRAININGS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=131_072, help="of every training")
    parser.add_argument("--contrast", type=float, default=0.0, help="weight of zorro's auxiliary loss")
    parser.add_argument("--directory", type=pathlib.Path, default=pathlib.Path("runs/hearing"))
    parser.add_argument("--json", type=pathlib.Path, default=RESULTS / "hearing.json")
    parser.add_argument("--quick", action="store_true", help="8,192 steps, one seed, two torsos")
    given = parser.parse_args()
    if given.quick:
        given.steps, given.seeds, given.torsos = 8192, 1, ["zorro", "concatenated"]
        given.directory, given.json = given.directory / "quick", given.directory / "quick" / "hearing.json"
    result = circumstances("hearing")
    result["settings"] = {key: str(value) for key, value in vars(given).items()}
    result["success"] = {
        torso: {training: _success(given, torso, training) for training in given.trainings}
        for torso in given.torsos
    }
    print(f"{'':<30}" + "".join(f"{name:>24}" for name in EVALUATIONS))
    for torso, trainings in result["success"].items():
        for training, found in trainings.items():
            cells = ["{:.2f} ({:.2f}-{:.2f})".format(found[e]["value"], *found[e]["ci"]) for e in EVALUATIONS]
            print(f"{torso + ', ' + training:<30}" + "".join(f"{cell:>24}" for cell in cells))
    write(given.json, result)


def _success(given: argparse.Namespace, torso: str, training: str) -> dict[str, Any]:
    """Success by evaluation over the seeds, with intervals, and every seed's own."""
    runs = []
    for seed in range(given.seeds):
        path = given.directory / f"{torso}_{training}_{given.contrast:g}_{given.steps}_{seed}.json"
        found = kept(path, lambda s=seed: train(torso, training, s, given.steps, given.contrast))
        print(f"{torso} {training} seed {seed}: {found['success']}, {found['seconds']} s", flush=True)
        runs.append(found)
    estimates = {name: over_seeds([run["success"][name] for run in runs]) for name in EVALUATIONS}
    return estimates | {"seeds": [run["success"] for run in runs], "curves": [run["curve"] for run in runs]}


def train(torso: str, training: str, seed: int, steps: int, contrast: float) -> dict[str, Any]:
    """Trains one agent; success by evaluation, the share of episodes that succeeded by chunk, and seconds."""
    began = time.perf_counter()
    world = _world(TRAININGS[training])
    name, settings = TORSOS[torso]
    settings = settings | ({"contrast": contrast} if name == "zorro" else {})
    network = make_torso(name, world.observation_spec(), **settings)
    agent = ppo(world.observation_spec(), world.action_spec(), _PPO, network)
    learning = Learning(streams=64, unroll=32, updates=min(8, max(1, steps // 2048)))
    of_init, of_reset, of_run, of_judge = jax.random.split(jax.random.key(seed), 4)
    learner = jax.jit(agent.init)(of_init)
    actors = jax.jit(jax.vmap(world.reset, (0, None)))(jax.random.split(of_reset, learning.streams), 0)
    run = jax.jit(functools.partial(learn, agent, world, learning, _ended), donate_argnums=(0, 1))
    curve = []
    for chunk in range(-(-steps // learning.steps)):
        learner, actors, counted = run(learner, actors, jax.random.fold_in(of_run, chunk))
        episodes, successes = (int(x) for x in counted)
        curve.append(round(successes / max(1, episodes), 3))
    success = {}
    for evaluation, dead in EVALUATIONS.items():
        judged = _world({sensor: float(sensor in dead) for sensor in SENSORS})
        found = jax.jit(functools.partial(_play, agent, judged, 512))(learner.params, of_judge)
        success[evaluation] = round(float(found.mean()), 4)
    return {"success": success, "curve": curve, "seconds": round(time.perf_counter() - began, 1)}


def _world(missing: dict[str, float]) -> Any:
    box = envs.make("beeping_box", size=7, boxes=3, max_steps=40, views=("symbols", "direction", "audio"))
    return envs.SampledTasks(envs.DropSensors(box, missing))


def _ended(state: Any, led_to: Any) -> tuple[jax.Array, jax.Array]:
    last = led_to.step_type == envs.LAST
    return last, last & (led_to.reward > 0)


def _play(agent: Any, world: Any, episodes: int, params: Any, key: jax.Array) -> jax.Array:
    """Whether each episode of sampled actions succeeded, bool `[E]`."""

    def episode(key):
        of_reset, of_steps = jax.random.split(key)

        def step(carry, key):
            state, timestep, done, paid = carry
            of_act, of_step = jax.random.split(key)
            action, _, _ = agent.act(params, (), of_act, timestep, EXPLORE)
            state, timestep = world.step(of_step, 0, state, action)
            paid = paid | (~done & (timestep.reward > 0))
            return (state, timestep, done | (timestep.step_type == envs.LAST), paid), None

        start = (*world.reset(of_reset, 0), False, False)
        (_, _, _, paid), _ = jax.lax.scan(step, start, jax.random.split(of_steps, world.max_steps))
        return paid

    return jax.vmap(episode)(jax.random.split(key, episodes))


if __name__ == "__main__":
    main()
