"""Algorithm Distillation: behaviour cloning of whole learning histories (Laskin et al. 2022, Algorithm 1)."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..encoders import TrainConfig, TrainState, train
from ..envs import Environment
from .loading import describe_model, write_description
from .model import ModelConfig, Network, make_network
from .windows import Batch, WindowConfig, WindowSampler


def environment_network(config: ModelConfig, environment: Environment) -> Network:
    """The network for an environment's observations, actions and horizon."""
    return make_network(
        config, environment.observation_spec(), environment.action_spec().num_values, environment.max_steps
    )


def distillation_loss(network: Network, label_smoothing: float = 0.0) -> Callable[..., Any]:
    """`loss(params, key, batch: Batch)`: mean negative log-likelihood of the source's actions over scored steps.

    Metrics: `nll` without smoothing, `accuracy` of the likeliest action.
    """

    def loss(params, key, batch: Batch):
        logits = network.logits(params, key, batch.inputs, True).astype(jnp.float32)
        weight = batch.weight.astype(jnp.float32)
        total = jnp.maximum(jnp.sum(weight), 1.0)
        targets = jax.nn.one_hot(batch.action, logits.shape[-1])
        smoothed = optax.smooth_labels(targets, label_smoothing)
        log_probs = jax.nn.log_softmax(logits)

        def mean(x):
            return jnp.sum(x * weight) / total

        value = mean(-jnp.sum(smoothed * log_probs, axis=-1))
        nll = mean(-jnp.sum(targets * log_probs, axis=-1))
        return value, {"nll": nll, "accuracy": mean(jnp.argmax(logits, axis=-1) == batch.action)}

    return loss


def distil(
    streams: Any,
    environment: Environment,
    model: ModelConfig,
    windows: WindowConfig,
    config: TrainConfig,
    directory: Any = None,
    callbacks: Sequence[Callable[..., Any]] = (),
    devices: Sequence[jax.Device] | None = None,
    stop_at: int | None = None,
) -> TrainState:
    """Trains the network on learning histories.

    Args:
      streams: `limbeck.agents.Streams`.
      environment: that the histories came from: its specs size the network.
      model: the network.
      windows: how sequences are cut.
      config: of the training loop; its seed also begins the weights.
      directory: of the checkpoints and the model's description; the same call goes on from the newest one.
      callbacks: as `limbeck.encoders.train`, which also says what else is raised.
      devices: as there.
      stop_at: as there.

    Raises:
      ValueError: where the histories are shorter than the sequences asked for, or the environment's
        observations are of a kind that the network does not read.
    """
    network = environment_network(model, environment)
    sampler = WindowSampler(
        streams, windows, environment.action_spec().num_values, model.sequence_length, model.burn_in
    )
    if directory is not None:
        write_description(directory, describe_model(model, environment))
    params = network.init(jax.random.key(config.seed))
    loss = distillation_loss(network, model.label_smoothing)
    return train(loss, params, sampler, config, directory, callbacks, devices, stop_at)
