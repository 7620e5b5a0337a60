"""Dark Key-to-Door: an unseen key, then an unseen door."""

import dataclasses

from ...distillation import PRESETS, WindowConfig
from ...encoders import TrainConfig
from ..config import EvaluationConfig, ExperimentConfig, Preset, TasksConfig, source_config


# An episode has 50 steps: the context holds eight of them.
WINDOW = 400

SETTINGS = {
    "q_learning": {"learning_rate": 0.9, "gamma": 0.95, "epsilon_steps": 10_000},
    "rmax": {"gamma": 0.95},
}


def config(preset: Preset = "fast", algorithm: str = "q_learning") -> ExperimentConfig:
    """The experiment under a preset, with the settings that suit the source algorithm."""
    return ExperimentConfig(
        preset=preset,
        environment="dark_key_to_door",
        tasks=TasksConfig(train=2000, held_out=100),
        source=source_config(algorithm, SETTINGS, runs_per_task=1, episodes=300),
        transport="auto",
        keep_every=1,
        model=dataclasses.replace(PRESETS[preset], window=WINDOW),
        window=WindowConfig(batch=16),
        train=TrainConfig(steps=10_000, learning_rate=1e-3, warmup_steps=200, weight_decay=0.01),
        evaluation=EvaluationConfig(episodes=150, seeds=5),
    )
