"""A paper's way of learning without labels, as data: what is seen, by which network, and what is asked of it."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from .augmentations import mix_batch
from .training import Batch, TrainConfig, TrainState, train
from .views import View, apply_views


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that `pretrain` needs beside the examples.

    Attributes:
      name: of the recipe.
      source: the paper, and what is other than there.
      inputs: shape and type of an example's entries, by name, without a batch axis.
      views: by name, from one example. They are drawn anew in every update, on the device.
      network: function called inside `hk.transform_with_state` as `(views, is_training)` with arrays `[B, …]` by name;
        gives what `objective` takes.
      objective: from the network's outputs to a scalar.
      training: steps, optimiser and rates.
      batch: examples of an update.
      mixed: names of the views that are mixed with those of other examples (`augmentations.mix_batch`), each by ratios
        of its own.
    """

    name: str
    source: str
    inputs: Mapping[str, jax.ShapeDtypeStruct]
    views: Mapping[str, View]
    network: Callable[[dict[str, jax.Array], bool], Any]
    objective: Callable[[Any], jax.Array]
    training: TrainConfig
    batch: int
    mixed: tuple[str, ...] = ()

    def __post_init__(self):
        if unknown := sorted(set(self.mixed) - set(self.views)):
            raise ValueError(
                f"{self.name} mixes {unknown}, which are no views; there are {sorted(self.views)}."
            )
        if self.training.precision != "float32":
            # The loop rounds a batch before the loss sees it, and 8 bits of a waveform are not enough.
            raise ValueError(
                f"{self.name} has precision {self.training.precision!r}: views are made from float32. Compute the "
                "network alone in another precision, with haiku.mixed_precision."
            )

    @property
    def transformed(self) -> hk.TransformedWithState:
        """The network: `apply(params, network_state, key, views, is_training) -> (outputs, network_state)`."""
        return hk.transform_with_state(self.network)

    def init(self, key: jax.Array) -> tuple[Any, Any]:
        """New parameters and network state."""

        def init(key):
            zeros = {name: jnp.zeros((2, *spec.shape), spec.dtype) for name, spec in self.inputs.items()}
            return self.transformed.init(key, self.seen(key, zeros), True)

        # Compiled, only what the parameters are made of is computed.
        return jax.jit(init)(key)

    def seen(self, key: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """The views of a batch, a dictionary of arrays `[B, …]`, mixed where the recipe mixes."""
        draw_key, mix_key = jax.random.split(key)
        keys = jax.random.split(draw_key, len(jax.tree.leaves(batch)[0]))
        views = jax.vmap(functools.partial(apply_views, views=self.views))(keys, batch)
        partners = {name: lambda key, views, name=name: mix_batch(key, views[name]) for name in self.mixed}
        return views | apply_views(mix_key, views, partners)

    def loss(self, params: Any, network_state: Any, key: jax.Array, batch: Batch) -> tuple[Any, dict, Any]:
        """For `train` with a network state."""
        view_key, network_key = jax.random.split(key)
        views = self.seen(view_key, batch)
        outputs, network_state = self.transformed.apply(params, network_state, network_key, views, True)
        return self.objective(outputs), {}, network_state


def pretrain(
    recipe: Recipe,
    batches: Callable[[int], Batch],
    directory: str | os.PathLike[str] | None = None,
    callbacks: Sequence[Callable[[int, TrainState, dict[str, float]], Any]] = (),
    devices: Sequence[jax.Device] | None = None,
    initial: Mapping[str, Any] | None = None,
) -> TrainState:
    """Trains a recipe's network from new parameters or from another recipe's, or goes on from the newest checkpoint.

    Args:
      recipe: with its settings in `recipe.training`.
      batches: `batches(i)` is a dictionary of arrays `[B, …]`, as `shuffled` makes them; B is `recipe.batch`, if the
        recipe is to mean what it says.
      directory, callbacks, devices: as in `train`.
      initial: parameters to begin with, such as `load_params` finds in another recipe's directory, to fine-tune them.
        Modules that both have are taken from there; the network's others are new, and others of `initial` are left.

    Returns:
      The state, with `params` and `network_state` for `recipe.transformed.apply`.

    Raises:
      ValueError: if `initial` has no module of the network, or one with other shapes.
    """
    # Updates fold their own number into the key of the seed, so this number is theirs never.
    key = jax.random.fold_in(jax.random.key(recipe.training.seed), 2**32 - 1)
    params, network_state = recipe.init(key)
    if initial is not None:
        params = _with(recipe.name, params, initial)
    return train(
        recipe.loss,
        params,
        batches,
        recipe.training,
        directory,
        callbacks,
        devices,
        network_state=network_state,
    )


def _with(name: str, params: Mapping[str, Any], initial: Mapping[str, Any]) -> dict[str, Any]:
    shared = sorted(set(params) & set(initial))
    if not shared:
        raise ValueError(
            f"None of the modules to begin with is one of {name}'s: got {sorted(initial)}, and it has {sorted(params)}."
        )
    for module in shared:
        found, needed = (jax.tree.map(jnp.shape, dict(tree[module])) for tree in (initial, params))
        if found != needed:
            raise ValueError(
                f"{module} to begin with has the shapes {found}, and {name}'s has {needed}: give the parameters of a "
                "network of the same configuration."
            )
    return {**params, **{module: initial[module] for module in shared}}
