"""Learning histories: from the compiled trainer to the store on disk, and back."""

import jax
import jax.numpy as jnp

from limbeck import agents, envs


def main(directory: str = "histories", runs: int = 73, episodes: int = 100) -> agents.Streams:
    room = envs.make("dark_room")
    split = envs.split_tasks(room.num_tasks, held_out=8, seed=0)
    goals = [split.train[run % len(split.train)] for run in range(runs)]
    manifest = agents.Manifest.for_environment(
        room,
        split=split,
        length=episodes * room.max_steps,
        histories=[agents.HistoryInfo(g, g, "train", "q_learning", r, 0, 0) for r, g in enumerate(goals)],
        histories_per_chunk=runs,
        steps_per_chunk=episodes * room.max_steps,
        settings={},
    )
    learner = agents.make_agent("q_learning", room, epsilon_steps=episodes * room.max_steps // 2)
    keys = jax.random.split(jax.random.key(0), runs)
    history = agents.train(learner, room, jnp.asarray(goals), keys, agents.CompiledConfig(episodes))
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), history)._asdict()
    with agents.HistoryWriter.create_or_open(directory, manifest) as writer:
        with agents.open_transport("direct", writer) as transport:  # or "reverb", or "auto"
            for group, chunk, block in agents.split_blocks(manifest, rows):
                transport.send(group, chunk, block())
            transport.finish()
    streams = agents.load_streams(agents.HistoryReader(directory, room), keep_every=1)
    print(f"{len(streams.length)} histories of {streams.length[0]} steps in {directory}")
    return streams


if __name__ == "__main__":
    main()
