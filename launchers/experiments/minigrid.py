"""Actors and a learner on a MiniGrid or BabyAI environment."""

from ..job_config import JobConfig, job_config


def job(env: str = "MiniGrid-DoorKey-5x5-v0", agent: str = "ppo") -> JobConfig:
    """The job, with the settings that suit the agent."""
    return job_config(env, agent, steps=2_000_000, target_success=0.95)
