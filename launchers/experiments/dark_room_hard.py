"""Dark Room Hard 17x17: an unseen goal that pays once an episode."""

from ...distillation import PRESETS, WindowConfig
from ...encoders import TrainConfig
from ..config import EvaluationConfig, ExperimentConfig, Preset, TasksConfig, source_config


SETTINGS = {
    "q_learning": {"learning_rate": 0.9, "gamma": 0.95, "epsilon_steps": 12_000},
    "rmax": {"gamma": 0.95},
}


def config(preset: Preset = "fast", algorithm: str = "rmax") -> ExperimentConfig:
    """The experiment under a preset, with the settings that suit the source algorithm."""
    return ExperimentConfig(
        preset=preset,
        environment="dark_room_hard",
        tasks=TasksConfig(held_out=29),
        source=source_config(algorithm, SETTINGS, runs_per_task=8, episodes=300),
        transport="auto",
        keep_every=1,
        model=PRESETS[preset],
        window=WindowConfig(batch=16),
        train=TrainConfig(steps=10_000, learning_rate=1e-3, warmup_steps=200, weight_decay=0.01),
        evaluation=EvaluationConfig(episodes=150, seeds=10),
    )
