"""Dark Room 9x9: an unseen goal that only the reward shows."""

import dataclasses

from ...distillation import PRESETS, WindowConfig
from ...encoders import TrainConfig
from ..config import EvaluationConfig, ExperimentConfig, Preset, TasksConfig, source_config


# Episodes by which each source has learned every goal, and how many of them are left out of the context.
SETTINGS = {
    "q_learning": {"learning_rate": 0.9, "gamma": 0.9, "epsilon_steps": 2900},
    # A discount of 0.99 leaves a learner of one stream at four fifths of the optimum, 0.95 takes it there.
    "a2c": {"learning_rate": 1e-3, "gamma": 0.95},
}
LENGTHS = {"rmax": (40, 1), "q_learning": (160, 4), "a2c": (500, 10), "ppo": (200, 5)}
# A stream that shares its learner changes by rewards that it does not hold itself: whoever imitates it learns to
# follow its own whims. With a learner of its own each history explains itself.
RUNS = {"a2c": {"runs_per_task": 12, "unroll": 10, "runs_per_group": 24}}
# What comes of a stochastic policy is learned by heart sooner: the paper's masking of tokens keeps it general.
MASKS = {"a2c": 0.3}

WINDOWS = {"fast": WindowConfig(batch=16, length=640), "paper": WindowConfig(batch=128)}
TRAINING = {
    # One sequence at a time stays in the processor's cache, which is faster than the whole batch at once.
    "fast": TrainConfig(
        steps=2200,
        learning_rate=3e-3,
        final_learning_rate=1.5e-4,
        warmup_steps=200,
        weight_decay=0.01,
        accumulation=16,
        checkpoint_every=200,
    ),
    # Laskin et al. 2022, appendix L; the number of updates and the warm-up are not stated there.
    "paper": TrainConfig(
        steps=50_000,
        learning_rate=3e-4,
        initial_learning_rate=2e-6,
        warmup_steps=1000,
        b1=0.9,
        b2=0.99,
        clip_norm=1.0,
        accumulation=16,
    ),
}


def config(preset: Preset = "fast", algorithm: str = "rmax") -> ExperimentConfig:
    """The experiment under a preset, with the settings that suit the source algorithm."""
    episodes, keep_every = LENGTHS.get(algorithm, (200, 5))
    model = PRESETS[preset]
    if preset == "fast":
        model = dataclasses.replace(model, token_mask=MASKS.get(algorithm, model.token_mask))
    return ExperimentConfig(
        preset=preset,
        environment="dark_room",
        tasks=TasksConfig(held_out=8),
        source=source_config(
            algorithm, SETTINGS, episodes=episodes, **RUNS.get(algorithm, {"runs_per_task": 32})
        ),
        transport="auto",
        keep_every=keep_every,
        model=model,
        window=WINDOWS[preset],
        train=TRAINING[preset],
        evaluation=EvaluationConfig(episodes=150, seeds=20),
    )
