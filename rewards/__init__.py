"""Reward models: what a frame or a trajectory is worth."""

import importlib
from typing import TYPE_CHECKING, Any

from .cache import CachedEncoder as CachedEncoder
from .cache import CachedModel as CachedModel
from .cache import CacheStats as CacheStats
from .contract import FrameEncoder as FrameEncoder
from .contract import Head as Head
from .contract import RewardError as RewardError
from .contract import RewardModel as RewardModel
from .contract import SequenceHead as SequenceHead
from .contract import TrajectoryScorer as TrajectoryScorer
from .contract import check_embeddings as check_embeddings
from .contract import check_frames as check_frames
from .contract import check_goals as check_goals
from .contract import check_rewards as check_rewards
from .contract import form_of as form_of
from .encoder_reward import EncoderReward as EncoderReward
from .ensemble import EnsembleReward as EnsembleReward
from .ensemble import lower_bound as lower_bound
from .heads import ChanceClippedHead as ChanceClippedHead
from .heads import CosineHead as CosineHead
from .heads import GoalBaselineHead as GoalBaselineHead
from .heads import SigmoidHead as SigmoidHead
from .heads import SoftmaxHead as SoftmaxHead
from .negatives import family_negatives as family_negatives
from .negatives import sample_negatives as sample_negatives
from .sequence_heads import PooledHead as PooledHead
from .sequence_heads import PotentialDifference as PotentialDifference


if TYPE_CHECKING:
    from ._torchvision import clip_versions as clip_versions
    from .clip import Drift as Drift
    from .clip import OpenClip as OpenClip
    from .conformance import Finding as Finding
    from .conformance import check as check
    from .jax_clip import JaxClip as JaxClip
    from .loading import load as load
    from .sequence_reward import SequenceReward as SequenceReward


# What needs networks, the agents or the environments is imported when it is asked for.
_HOMES = {
    "_torchvision": ("clip_versions",),
    "clip": ("Drift", "OpenClip"),
    "conformance": ("Finding", "check"),
    "jax_clip": ("JaxClip",),
    "loading": ("load",),
    "sequence_reward": ("SequenceReward",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
