"""A Transformer is trained on the histories of example 03, then plays goals that no history had."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from limbeck.encoders import Progress, TrainConfig, TransformerConfig

from limbeck import agents, distillation, envs


def main(
    histories: str = "histories", run: str = "distilled", steps: int = 500, window: int = 120, width: int = 64
) -> distillation.Evaluation:
    room = envs.make("dark_room")
    reader = agents.HistoryReader(histories, room)
    trunk = TransformerConfig(d_model=width, num_heads=4, feed_forward=4 * width, activation="relu")
    model = dataclasses.replace(distillation.PRESETS["fast"], transformer=trunk, window=window)
    config = TrainConfig(steps=steps, learning_rate=1e-3, warmup_steps=steps // 10, weight_decay=0.01)
    with Progress("distil", steps, "updates") as progress:  # the same call again goes on where it stopped
        streams, windows = agents.load_streams(reader), distillation.WindowConfig(batch=8)
        distillation.distil(streams, room, model, windows, config, run, callbacks=[progress])

    loaded = distillation.load(run)
    held_out = np.asarray(reader.manifest.split["held_out"])
    tasks = envs.task_at(room, jnp.asarray(held_out))
    play = loaded.agent, loaded.params, room, tasks, held_out, jax.random.key(0)
    result = distillation.evaluate(*play, episodes=20, seeds=2)
    curve = result.returns.mean(axis=(0, 1))
    print("held-out goals, mean return of episodes 1 and 20:", curve[0], curve[-1])
    return result


if __name__ == "__main__":
    main()
