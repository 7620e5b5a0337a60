"""Distillation's tokens/s beside a plain PyTorch GPT, and its share of the matrix-multiply peak."""

import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from limbeck.agents import Streams
from limbeck.distillation import (
    ModelConfig,
    WindowConfig,
    WindowSampler,
    distillation_loss,
    environment_network,
)
from limbeck.encoders import TrainConfig, TransformerConfig, train
from limbeck.envs import LAST, MID, make

from ._machine import cores


LAYERS, BATCH, LENGTH, WINDOW = 4, 16, 640, 160
# width -> (heads, updates timed at once)
SIZES = {64: (2, 20), 256: (4, 10)}


def measure(width: int, pairs: int = 3, accumulation: int = 1, steps_per_call: int = 10) -> dict[str, Any]:
    """Tokens/s of one size: both sides by turns, medians; forward, backward, clipping and AdamW.

    Args:
      width: of the residual stream, a key of `SIZES`.
      pairs: turns of each side.
      accumulation: parts that our side cuts a batch into.
      steps_per_call: updates in one compiled call of our side.
    """
    from . import _torch_gpt

    heads, updates = SIZES[width]
    world = make("dark_room")
    config = ModelConfig(
        TransformerConfig(LAYERS, width, heads, feed_forward=4 * width, activation="relu"), window=WINDOW
    )
    actions = int(world.action_spec().num_values)
    sampler = WindowSampler(_streams(), WindowConfig(BATCH, LENGTH), actions, LENGTH, config.burn_in)
    network = environment_network(config, world)
    params, loss = network.init(jax.random.key(0)), distillation_loss(network)
    gpt = _torch_gpt.GPT(width, heads, LAYERS, LENGTH, WINDOW, world.size, actions, world.max_steps)
    peer = _torch_gpt.trainer(gpt, sampler, cores())
    updates = -(-updates // steps_per_call) * steps_per_call
    settings = TrainConfig(
        2 * updates, 1e-3, weight_decay=0.01, accumulation=accumulation, steps_per_call=steps_per_call,
        log_every=updates,
    )  # fmt: skip

    def ours() -> float:
        """Seconds of the second half of a run; the first compiles and warms up."""
        times = []
        train(loss, params, sampler, settings, callbacks=[lambda *_: times.append(time.perf_counter())])
        return times[1] - times[0]

    peer(2)
    tokens = updates * BATCH * LENGTH
    rates: dict[str, list[float]] = {"ours": [], "torch": []}
    for _ in range(pairs):
        rates["ours"].append(tokens / ours())
        rates["torch"].append(tokens / peer(updates))
    one, other = (statistics.median(rates[side]) for side in ("ours", "torch"))
    return {
        "tokens_per_second": round(one),
        "torch_tokens_per_second": round(other),
        "ratio": round(one / other, 3),
        "all_tokens_per_second": {side: [round(x) for x in values] for side, values in rates.items()},
        "flops_per_token": flops_per_token(width, actions),
        "gflops": round(one * flops_per_token(width, actions) / 1e9, 1),
        "parameters": sum(x.size for x in jax.tree.leaves(params)),
        "torch_parameters": sum(x.numel() for x in gpt.parameters()),
        "d_model": width, "heads": heads, "layers": LAYERS, "batch": BATCH, "length": LENGTH, "window": WINDOW,
        "accumulation": accumulation, "steps_per_call": steps_per_call, "devices": jax.local_device_count(),
    }  # fmt: skip


def flops_per_token(width: int, actions: int) -> int:
    """Multiplications and additions of the matrix products that the model needs, forward and backward.

    Projections (4 d^2 weights a layer), feed-forward (8 d^2), the action head, and scores and mixing over
    the mean number of keys that a token may see; a weight costs 2 forward and 4 backward. What an
    implementation computes beside that (masked keys, recomputation) does not count.
    """
    visible = np.minimum(np.arange(LENGTH) + 1, WINDOW).mean()
    forward = LAYERS * (2 * 12 * width**2 + 2 * 2 * width * visible) + 2 * width * actions
    return int(3 * forward)


def matmul_peak(size: int = 2048, repeats: int = 10) -> float:
    """GFLOP/s of this machine's fastest of several float32 products of `size`-square matrices."""
    a = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        product(a, a).block_until_ready()
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds) / 1e9


def _streams(histories: int = 64, episodes: int = 100, horizon: int = 20) -> Streams:
    """Random walks: what is in the tokens does not change how long they take."""
    rng = np.random.default_rng(0)
    shape = (histories, episodes * horizon)
    step_type = np.where(np.arange(shape[1]) % horizon == horizon - 1, LAST, MID).astype(np.int32)
    return Streams(
        observation=rng.integers(0, 9, (*shape, 2)).astype(np.int32),
        action=rng.integers(0, 5, shape).astype(np.int32),
        reward=rng.integers(0, 2, shape).astype(np.float32),
        discount=np.ones(shape, np.float32),
        step_type=np.tile(step_type, (histories, 1)),
        task_id=np.zeros(histories, np.int32),
        length=np.full(histories, shape[1], np.int32),
        history=np.arange(histories, dtype=np.int32),
    )
