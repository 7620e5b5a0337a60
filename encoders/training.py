"""The one supervised training loop: a loss, random-access batches, and everything around them.

The batch of update `i` is `batches(i)`, a pure function of `i`, and the randomness of update `i` comes from
folding `i` into one key. So the update count is the whole position of a run: a run that was killed and
started again does the same updates on the same batches, and ends with the same bits.
"""

import dataclasses
import functools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from . import checkpoints
from ._prefetch import Prefetch
from .lars import lars
from .optimisation import adamw, warmup_cosine


Params = Any
Batch = Any
# (params, key, batch) -> (scalar, metrics); with a network state as `train` says.
Loss = Callable[..., tuple[Any, ...]]

_PREFETCHED_CALLS = 2
_RESERVED = ("loss", "grad_norm", "learning_rate")
# Settings that may change between two runs in one directory, because no update depends on them.
_FREE = ("checkpoint_every", "keep", "log_every")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of the training loop. The batch size is the source's affair.

    Attributes:
      steps: updates in all. The cosine ends here, so a run cannot be resumed with another number.
      learning_rate: peak of the schedule.
      warmup_steps: updates of the straight rise from `initial_learning_rate` to the peak.
      initial_learning_rate: rate of the first update when there is a warm-up.
      final_learning_rate: rate that the cosine ends at.
      optimiser: "adamw", or "lars" for contrastive batches of thousands (`lars`).
      b1: decay of Adam's first moment.
      b2: decay of Adam's second moment.
      eps: added to the square root of the second moment.
      momentum: of LARS, Nesterov's.
      weight_decay: decay of parameters with two axes or more; AdamW's is decoupled and multiplied by the learning
        rate, LARS's is part of the gradient that the trust ratio scales.
      clip_norm: largest global norm of the gradient; None does not clip.
      accumulation: parts that a batch is cut into, one after the other, to save memory. Gradients, loss and
        metrics are the parts' plain means: equal to the whole batch's where the loss is a mean over as many
        terms in each part.
      precision: "float32", or "bfloat16": floating parameters and batches reach the loss in bfloat16, while
        the stored parameters, the gradients and the optimiser stay in float32.
      steps_per_call: updates in one compiled call. More of them hide the cost of a call; a call's batches
        lie in memory together, and up to three calls' at once.
      checkpoint_every: updates between checkpoints, rounded up to the end of a call.
      keep: newest checkpoints that are left.
      log_every: updates that one row of metrics averages, rounded up to the end of a call.
      seed: of the key that the loss gets.
    """

    steps: int = 10_000
    learning_rate: float = 3e-4
    warmup_steps: int = 0
    initial_learning_rate: float = 0.0
    final_learning_rate: float = 0.0
    optimiser: Literal["adamw", "lars"] = "adamw"
    b1: float = 0.9
    b2: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip_norm: float | None = 1.0
    accumulation: int = 1
    precision: str = "float32"
    steps_per_call: int = 10
    checkpoint_every: int = 1000
    keep: int = 2
    log_every: int = 100
    seed: int = 0

    def __post_init__(self):
        for name in ("steps", "accumulation", "steps_per_call", "checkpoint_every", "keep", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision must be 'float32' or 'bfloat16', not {self.precision!r}")
        if self.optimiser not in ("adamw", "lars"):
            raise ValueError(f"optimiser must be 'adamw' or 'lars', not {self.optimiser!r}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, not {self.momentum}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm must be positive, or None for no clipping, not {self.clip_norm}")
        self.schedule()

    def schedule(self) -> optax.Schedule:
        """Learning rate as a function of the update, counted from 0."""
        return warmup_cosine(
            self.learning_rate,
            self.steps,
            self.warmup_steps,
            self.initial_learning_rate,
            self.final_learning_rate,
        )

    def transformation(self) -> optax.GradientTransformation:
        """The optimiser under the schedule, after clipping."""
        if self.optimiser == "lars":
            return lars(self.schedule(), self.momentum, self.weight_decay, clip_norm=self.clip_norm)
        return adamw(self.schedule(), self.b1, self.b2, self.eps, self.weight_decay, self.clip_norm)


class TrainState(NamedTuple):
    """All that a run carries from one update to the next.

    Attributes:
      params: pytree, as given to `train`; floating leaves in float32.
      opt_state: the optimiser's.
      step: int32 scalar, updates done.
      key: typed random key, the same for the whole run; update `i` folds `i` into it.
      network_state: what the network carries beside parameters (Haiku's state: means of batch norms); None for a
        loss without.
    """

    params: Params
    opt_state: optax.OptState
    step: jax.Array
    key: jax.Array
    network_state: Any = None


class NonFiniteLossError(ArithmeticError):
    """The loss or its gradient stopped being finite; nothing was saved since."""


def initial_state(params: Params, config: TrainConfig, network_state: Any = None) -> TrainState:
    """The state before the first update. The arrays of `params` and `network_state` are copied."""
    params, network_state = jax.tree.map(lambda x: jnp.array(x, copy=True), (params, network_state))
    opt_state = config.transformation().init(params)
    return TrainState(params, opt_state, jnp.int32(0), jax.random.key(config.seed), network_state)


def train(
    loss: Loss,
    params: Params,
    batches: Callable[[int], Batch],
    config: TrainConfig,
    directory: str | os.PathLike[str] | None = None,
    callbacks: Sequence[Callable[[int, TrainState, dict[str, float]], Any]] = (),
    devices: Sequence[jax.Device] | None = None,
    stop_at: int | None = None,
    network_state: Any = None,
) -> TrainState:
    """Trains `params` for `config.steps` updates, going on from the newest checkpoint in `directory`.

    Args:
      loss: pure function `(params, key, batch) -> (scalar, metrics)`; metrics are scalars by name. Under
        `precision="bfloat16"` it gets bfloat16 and should do its long sums and softmax in float32.
      params: pytree of arrays to begin with; not changed. Their structure, shapes and dtypes must be those of
        the checkpoint where there is one.
      batches: `batches(i)` is the batch of update `i`, a pytree of arrays `[B, ...]`, and a pure function of
        `i`. Called from one thread beside the training, ahead of need. If it has an attribute
        `tokens_per_batch`, the metrics include `tokens_per_second`.
      config: see `TrainConfig`.
      directory: folder of the checkpoints; None saves nothing. A checkpoint is also written at the end.
      callbacks: each called as `(step, state, metrics)` at least every `log_every` updates and before each
        checkpoint. `metrics` holds means over the updates since the last call: `loss`, `grad_norm` (before
        clipping), `learning_rate`, the loss's own, `updates_per_second`, and `tokens_per_second`. The state's
        arrays are reused by the next update: copy what is kept. A callback that has a method
        `start(step, steps)` gets it called before the first update, with the step that the run goes on from.
      devices: that the batch axis is divided over, the parameters being copied to each; all local ones if
        None.
      stop_at: ends at the first end of a call at or after this update, with a checkpoint; the schedule is
        still that of `config.steps`, and the same command without it goes on.
      network_state: to begin with, for a network that carries more than parameters (`hk.transform_with_state`). The
        loss is then `(params, network_state, key, batch) -> (scalar, metrics, network_state)`; the parts of an
        accumulated batch pass the state on one to the next, and it stays float32.

    Returns:
      The state after the last update.

    Raises:
      NonFiniteLossError: if the loss or the gradient is not finite at some update, which it names.
      CheckpointError: if a checkpoint cannot be written, is damaged, or is of another model.
      ValueError: if the directory holds a run with other settings, or a batch does not divide.
    """
    devices = tuple(jax.local_devices() if devices is None else devices)
    state, begin = initial_state(params, config, network_state), 0
    if directory is not None and checkpoints.steps(directory):
        restored = checkpoints.restore(directory, state)
        _refuse_other_settings(restored.settings, config, directory)
        state, begin = TrainState(*restored.tree), restored.step
    end = config.steps if stop_at is None else min(stop_at, config.steps)
    for callback in callbacks:
        if (start := getattr(callback, "start", None)) is not None:
            start(begin, config.steps)

    mesh = jax.sharding.Mesh(np.array(devices), ("data",))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    # A call's batches are [updates, parts, rows, ...]; the rows are what the devices share.
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, None, "data"))
    compiled = _compiler(loss, config, everywhere)
    state = jax.device_put(state, everywhere)

    spans = list(_spans(begin, end, config))
    make = functools.partial(_stacked, batches, config.accumulation, len(devices), rows)
    interval = _Interval(getattr(batches, "tokens_per_batch", None))
    last_saved = begin if begin else None
    with Prefetch((functools.partial(make, *span) for span in spans), _PREFETCHED_CALLS) as stacks:
        waiting: list[tuple[int, dict]] = []
        for (first, after), stack in zip(spans, stacks, strict=True):
            program, seconds = compiled(state, stack)
            interval.skip(seconds)
            state, outputs = program(state, stack)
            waiting.append((first, outputs))
            save = directory is not None and (
                _crosses(first, after, config.checkpoint_every) or after == spans[-1][1]
            )
            log = save or _crosses(first, after, config.log_every) or after == spans[-1][1]
            # The host stays one call ahead of the device, and waits for it only where it has to look.
            while waiting and (log or len(waiting) > 1):
                begun, outputs = waiting.pop(0)
                values = jax.device_get(outputs)
                _check_finite(begun, values, batches, last_saved)
                interval.add(values)
            if log:
                metrics = interval.finish()
                for callback in callbacks:
                    callback(after, state, metrics)
            if directory is not None and save:
                checkpoints.save(directory, after, state, {"config": dataclasses.asdict(config)}, config.keep)
                last_saved = after
    return state


def load_params(directory: str | os.PathLike[str], step: int | None = None) -> tuple[Params, int]:
    """Parameters of a checkpoint (the newest if `step` is None) and its update count, without a template.

    They come back as nested dictionaries of NumPy arrays, as Haiku's are.

    Raises:
      CheckpointError: if there is none, or it is damaged.
    """
    restored = checkpoints.restore_dict(directory, step)
    return restored.tree.get("params", {}), restored.step


def _spans(begin: int, end: int, config: TrainConfig) -> Iterator[tuple[int, int]]:
    # The cuts are at multiples of steps_per_call, wherever the run began: two compiled calls of unequal
    # length may round differently, and a resumed run must give the same bits.
    while begin < end:
        after = min(config.steps, (begin // config.steps_per_call + 1) * config.steps_per_call)
        yield begin, after
        begin = after


def _crosses(first: int, after: int, every: int) -> bool:
    return after // every > first // every


def _compiler(loss: Loss, config: TrainConfig, everywhere):
    """A function to the program for a state and a call's batches, and the seconds spent on compiling it."""
    update = _update(loss, config)

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=everywhere)
    def run(state, stack):
        return jax.lax.scan(update, state, stack)

    programs: dict[int, Any] = {}

    def get(state, stack):
        begun = time.perf_counter()
        length = jax.tree.leaves(stack)[0].shape[0]
        if length not in programs:
            programs[length] = run.lower(state, stack).compile()
            return programs[length], time.perf_counter() - begun
        return programs[length], 0.0

    return get


def _update(loss: Loss, config: TrainConfig):
    schedule, optimiser = config.schedule(), config.transformation()

    def measured(params, network_state, key, batch):
        if config.precision == "bfloat16":
            params, batch = jax.tree.map(_to_bfloat16, (params, batch))
        if network_state is None:
            value, metrics = loss(params, key, batch)
        else:
            value, metrics, network_state = loss(params, network_state, key, batch)
        if taken := [name for name in metrics if name in _RESERVED]:
            raise ValueError(f"the loss's metrics use names that the loop itself uses: {taken}")
        metrics = {name: jnp.float32(x) for name, x in metrics.items()}
        return value.astype(jnp.float32), (metrics, network_state)

    gradient = jax.value_and_grad(measured, has_aux=True)

    def part_of(params, network_state, key, part):
        (value, (metrics, network_state)), gradients = gradient(params, network_state, key, part)
        return network_state, (value, metrics, gradients)

    def accumulated(params, network_state, key, parts):
        if config.accumulation == 1:
            return part_of(params, network_state, key, jax.tree.map(lambda x: x[0], parts))

        def add(carry, part):
            total, network_state = carry
            network_state, found = part_of(params, network_state, *part)
            return (jax.tree.map(jnp.add, total, found), network_state), None

        keys = jax.random.split(key, config.accumulation)
        one = jax.tree.map(lambda x: x[0], (keys, parts))
        _, shapes = jax.eval_shape(part_of, params, network_state, *one)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        (total, network_state), _ = jax.lax.scan(add, (zeros, network_state), (keys, parts))
        return network_state, jax.tree.map(lambda x: x / config.accumulation, total)

    def update(state: TrainState, parts):
        key = jax.random.fold_in(state.key, state.step)
        network_state, found = accumulated(state.params, state.network_state, key, parts)
        value, metrics, gradients = found
        updates, opt_state = optimiser.update(gradients, state.opt_state, state.params)
        outputs = {
            "loss": value,
            "grad_norm": optax.tree.norm(gradients),
            "learning_rate": schedule(state.step),
            **metrics,
        }
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, opt_state, state.step + 1, state.key, network_state), outputs

    return update


def _to_bfloat16(x):
    return x.astype(jnp.bfloat16) if jnp.issubdtype(x.dtype, jnp.floating) else x


def _stacked(batches, accumulation: int, num_devices: int, sharding, first: int, after: int) -> Batch:
    """The batches of updates `first` to `after` on the devices, `[updates, parts, rows, ...]`."""
    chosen = [batches(i) for i in range(first, after)]
    sizes = {np.shape(x)[:1] for batch in chosen for x in jax.tree.leaves(batch)}
    if len(sizes) != 1 or () in sizes:
        raise ValueError(
            f"the arrays of updates {first} to {after - 1} must all have the batch as their first axis, "
            f"of one size; their first axes are {sorted(sizes)}"
        )
    ((size,),) = sizes
    if size == 0 or size % (accumulation * num_devices):
        raise ValueError(
            f"a batch of {size} cannot be divided into {accumulation} part(s) for each of {num_devices} "
            f"device(s); use a multiple of {accumulation * num_devices}"
        )

    def stack(*arrays):
        stacked = np.stack(arrays)
        return stacked.reshape(len(arrays), accumulation, size // accumulation, *stacked.shape[2:])

    return jax.device_put(jax.tree.map(stack, *chosen), sharding)


def _refuse_other_settings(stored: dict, config: TrainConfig, directory) -> None:
    old, new = stored.get("config", {}), dataclasses.asdict(config)
    changed = [
        f"  {name}: {old.get(name)!r} there, {new.get(name)!r} now"
        for name in sorted(old.keys() | new.keys())
        if name not in _FREE and old.get(name) != new.get(name)
    ]
    if changed:
        raise ValueError(
            f"{directory} holds a run with other settings; go on with those, or use another directory:\n"
            + "\n".join(changed)
        )


def _check_finite(first: int, values: dict, batches, last_saved: int | None) -> None:
    bad = ~(np.isfinite(values["loss"]) & np.isfinite(values["grad_norm"]))
    if not bad.any():
        return
    i = int(np.argmax(bad))
    step = first + i
    floats = [np.asarray(x) for x in jax.tree.leaves(batches(step))]
    sound = all(np.isfinite(x).all() for x in floats if np.issubdtype(x.dtype, np.floating))
    advice = (
        "Its batch is finite. Try a lower learning_rate, a longer warmup_steps, a smaller clip_norm, or "
        "precision='float32'"
        if sound
        else f"Its batch, batches({step}), has values that are not finite: look at the data"
    )
    kept = (
        "no checkpoint was written" if last_saved is None else f"the checkpoint of step {last_saved} is whole"
    )
    raise NonFiniteLossError(
        f"update {step} gave loss {values['loss'][i]:g} and gradient norm {values['grad_norm'][i]:g} at "
        f"learning rate {values['learning_rate'][i]:.3g}. {advice}; {kept}."
    )


class _Interval:
    """Means over the updates since the last report, and how many there were in a second."""

    def __init__(self, tokens_per_batch: float | None):
        self._tokens = tokens_per_batch
        self._reset()

    def _reset(self):
        self._sums: dict[str, float] = {}
        self._count = 0
        self._begun = time.perf_counter()

    def skip(self, seconds: float) -> None:
        """Leaves time out of the rates: that of compiling."""
        self._begun += seconds

    def add(self, values: dict[str, np.ndarray]) -> None:
        for name, array in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + math.fsum(array.tolist())
        self._count += len(values["loss"])

    def finish(self) -> dict[str, float]:
        metrics = {name: total / self._count for name, total in self._sums.items()}
        metrics["updates_per_second"] = self._count / max(time.perf_counter() - self._begun, 1e-9)
        if self._tokens is not None:
            metrics["tokens_per_second"] = metrics["updates_per_second"] * self._tokens
        self._reset()
        return metrics
