"""Zorro with labels: a linear map on each readout, their logits averaged; from new parameters or pre-trained ones."""

from collections.abc import Mapping
from typing import Literal

import haiku as hk
import jax
import jax.numpy as jnp
import optax

from .films import film
from .pretraining import Recipe
from .training import TrainConfig
from .views import View, fixed
from .zorro import Classifier, Zorro, ZorroConfig


def recipe(
    name: str,
    config: ZorroConfig,
    inputs: Mapping[str, jax.ShapeDtypeStruct],
    views: Mapping[str, View],
    classes: int,
    training: TrainConfig,
    batch: int,
    task: Literal["classes", "tags"] = "classes",
    missing: float = 0.0,
) -> Recipe:
    """Learns an example's labels from all its modalities, or from those that are there.

    The network's outputs are `logits` `[B, classes]`, averaged over the readouts of what it is given, and `labels`
    where it is given them. To fine-tune, hand `pretrain` the parameters of a `zorro_contrastive.recipe` of the same
    `config`.

    Args:
      name: of the recipe.
      config: of the network; its modalities are the views' names.
      inputs, views: see `Recipe`; `labels`, float32 `[classes]` with 1 for each that holds, as `clip_batches` gives, is
        added to both.
      classes: how many labels there are.
      training: steps, optimiser and rates.
      batch: examples of an update.
      task: "classes", of which one holds (softmax), or "tags", of which several may (a sigmoid each).
      missing: in training each example keeps one modality, drawn for it, and lacks each other one with this chance, so
        that every readout learns to answer when it is nearly alone.

    Raises:
      ValueError: for views that are not the modalities, a modality called `labels`, or settings other than these.
    """
    if set(views) != set(config.modalities) or "labels" in views:
        raise ValueError(
            f"The views {sorted(views)} must be the modalities {sorted(config.modalities)}, none of them 'labels'."
        )
    if task not in ("classes", "tags") or not 0 <= missing < 1 or classes < 2 - (task == "tags"):
        raise ValueError(
            f"task={task!r}, missing={missing}, classes={classes}: task is 'classes', of two or more, or 'tags', and "
            "missing is at least 0 and below 1."
        )

    def network(seen: dict[str, jax.Array], is_training: bool) -> dict[str, jax.Array]:
        senses = {name: seen[name] for name in config.modalities if name in seen}
        present = _drawn(hk.next_rng_key(), senses, missing) if is_training and missing else None
        out = {"logits": Classifier(classes)(Zorro(config)(senses, present), present)}
        return out | {"labels": seen["labels"]} if "labels" in seen else out

    def objective(outputs: dict[str, jax.Array]) -> jax.Array:
        logits, labels = outputs["logits"], outputs["labels"]
        if task == "tags":
            return jnp.mean(optax.losses.sigmoid_binary_cross_entropy(logits, labels))
        return jnp.mean(optax.losses.softmax_cross_entropy(logits, labels))

    return Recipe(
        name=name,
        source=(
            "Recasens et al. 2023, arXiv 2301.09595: a linear head on each readout, averaged, trained with labels. "
            "Rates, batch and missing modalities are ours"
        ),
        inputs={**inputs, "labels": jax.ShapeDtypeStruct((classes,), jnp.float32)},
        views={**views, "labels": fixed(lambda example: example["labels"])},
        network=network,
        objective=objective,
        training=training,
        batch=batch,
    )


def film_recipe(
    name: str,
    config: ZorroConfig,
    classes: int,
    training: TrainConfig,
    batch: int,
    task: Literal["classes", "tags"] = "classes",
    missing: float = 0.0,
) -> Recipe:
    """`recipe` for films with sound (`films.film`): the modalities are `video` and `audio`."""
    inputs, views = film(config.modalities)
    return recipe(name, config, inputs, views, classes, training, batch, task, missing)


def _drawn(key: jax.Array, senses: Mapping[str, jax.Array], missing: float) -> dict[str, jax.Array]:
    """Which examples have which modality, bool `[B]` by name: each at random, and one that is always there."""
    lost_key, kept_key = jax.random.split(key)
    batch = len(next(iter(senses.values())))
    lost = jax.random.bernoulli(lost_key, missing, (len(senses), batch))
    kept = jax.random.randint(kept_key, (batch,), 0, len(senses))
    return {name: ~lost[i] | (kept == i) for i, name in enumerate(senses)}
