"""Dark Room 9x9: an unseen goal that only the reward shows."""

from ...distillation import PRESETS, WindowConfig
from ...encoders import TrainConfig
from ..config import EvaluationConfig, ExperimentConfig, Preset, TasksConfig, source_config


SETTINGS = {
    "q_learning": {"learning_rate": 0.9, "gamma": 0.9, "epsilon_steps": 3000},
    "rmax": {"gamma": 0.9},
}


def config(preset: Preset = "fast", algorithm: str = "q_learning") -> ExperimentConfig:
    """The experiment under a preset, with the settings that suit the source algorithm."""
    return ExperimentConfig(
        preset=preset,
        environment="dark_room",
        tasks=TasksConfig(held_out=8),
        source=source_config(algorithm, SETTINGS, runs_per_task=27, episodes=200),
        transport="auto",
        keep_every=1,
        model=PRESETS[preset],
        window=WindowConfig(batch=16),
        train=TrainConfig(steps=5000, learning_rate=1e-3, warmup_steps=200, weight_decay=0.01),
        evaluation=EvaluationConfig(episodes=150, seeds=20),
    )
