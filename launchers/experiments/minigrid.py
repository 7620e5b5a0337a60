"""Actors and a learner on a MiniGrid or BabyAI environment."""

from ..job_config import JobConfig, JobEvaluationConfig, job_config


def job(env: str = "MiniGrid-DoorKey-5x5-v0", agent: str = "ppo") -> JobConfig:
    """The job, with the settings that suit the agent.

    Evaluations sample the actions, as MiniGrid's agents usually do: the likeliest ones of a policy that has just
    learned a task may turn in place for ever.
    """
    evaluation = JobEvaluationConfig(mode="explore")
    # One actor with sixteen environments keeps up with a learner on a core of its own; more are for more cores.
    return job_config(
        env, agent, actors=1, environments=16, steps=2_000_000, target_success=0.95, evaluation=evaluation
    )
