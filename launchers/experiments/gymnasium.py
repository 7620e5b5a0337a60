"""Actors and a learner on any gymnasium environment, or one of your own: `--env package.module:factory`."""

from ..job_config import JobConfig, job_config


def job(env: str = "CartPole-v1", agent: str = "ppo") -> JobConfig:
    """The job, with the settings that suit the agent."""
    return job_config(env, agent)
