import pytest
from limbeck.agents import ALGORITHMS, PPOConfig, ReplayPlan, hosted_config


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"kind": "stack"}, "kind must be one of"),
        ({"unroll": 0}, "unroll must be at least 1"),
        ({"period": 5}, "rows would be left out"),
        ({"samples_per_insert": 2.0}, "samples_per_insert must be 1"),
        ({"kind": "uniform", "samples_per_insert": 0.0}, "must be positive"),
        ({"max_size": 1}, "never holds a batch of 2"),
        ({"kind": "uniform", "min_size": 9, "max_size": 8}, "min_size must be at most"),
        ({"kind": "uniform", "priority_exponent": 0.5}, "counts only where"),
        ({"kind": "prioritised", "importance_exponent": 1.5}, "must lie in"),
    ],
)
def test_replay_plans_are_checked(changes, match):
    ReplayPlan("queue", unroll=4, period=2, batch=2)
    with pytest.raises(ValueError, match=match):
        ReplayPlan(**{"kind": "queue", "unroll": 4, "period": 4, "batch": 2, **changes})


def test_on_policy_learners_take_each_item_once():
    for name in ("a2c", "impala", "ppo"):
        plan = ALGORITHMS[name].replay
        assert plan.kind == "queue" and plan.period == plan.unroll
    # PPO's minibatches must divide the rows of a batch.
    ppo = ALGORITHMS["ppo"]
    assert ppo.replay.unroll * ppo.replay.batch % hosted_config("ppo").minibatches == 0
    assert ALGORITHMS["q_learning"].replay is None


def test_hosted_jobs_have_defaults_of_their_own():
    assert hosted_config("ppo", clip=0.3) == PPOConfig(clip=0.3, **ALGORITHMS["ppo"].hosted)
    assert hosted_config("ppo") != PPOConfig()
    assert hosted_config("ppo", advantage_floor=0.5).advantage_floor == 0.5
    with pytest.raises(ValueError, match="Did you mean 'clip'"):
        hosted_config("ppo", clp=0.3)
    with pytest.raises(ValueError, match="Did you mean 'ppo'"):
        hosted_config("pppo")
