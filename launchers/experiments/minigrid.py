"""Actors and a learner on a MiniGrid or BabyAI environment."""

from ..job_config import JobConfig, JobEvaluationConfig, job_config


def job(env: str = "MiniGrid-DoorKey-5x5-v0", agent: str = "ppo") -> JobConfig:
    """The job, with the settings that suit the agent.

    Evaluations sample the actions, as MiniGrid's agents usually do: the likeliest ones of a policy that has just
    learned a task may turn in place for ever.
    """
    evaluation = JobEvaluationConfig(mode="explore")
    return job_config(env, agent, steps=2_000_000, target_success=0.95, evaluation=evaluation)
