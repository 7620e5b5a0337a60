"""The adversarial bandit: good arms are odd in training and even at test."""

import dataclasses

from ...distillation import PRESETS, WindowConfig
from ...encoders import TrainConfig
from ..config import EvaluationConfig, ExperimentConfig, Preset, TasksConfig, source_config


def config(preset: Preset = "fast", algorithm: str = "ucb1") -> ExperimentConfig:
    """The experiment under a preset. One episode of 100 trials is all there is of a history."""
    return ExperimentConfig(
        preset=preset,
        environment="adversarial_bandit",
        tasks=TasksConfig(train=2000, held_out=100, held_out_arguments={"split": "held_out"}),
        source=source_config(algorithm, {}, runs_per_task=1, episodes=1),
        transport="auto",
        keep_every=1,
        model=dataclasses.replace(PRESETS[preset], window=100),
        window=WindowConfig(batch=64),
        train=TrainConfig(steps=3000, learning_rate=1e-3, warmup_steps=200, weight_decay=0.01),
        evaluation=EvaluationConfig(episodes=1, seeds=10),
    )
