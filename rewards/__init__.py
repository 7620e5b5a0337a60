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
    from ._report import write_report as write_report
    from ._scoring import head_settings as head_settings
    from ._torchvision import clip_versions as clip_versions
    from .agreement import kendall_tau as kendall_tau
    from .agreement import swapped_pair_accuracy as swapped_pair_accuracy
    from .bootstrap import Bootstrap as Bootstrap
    from .bootstrap import Estimate as Estimate
    from .calibrated import CalibratedReward as CalibratedReward
    from .calibration import CalibrationConfig as CalibrationConfig
    from .calibration import calibrate as calibrate
    from .calibration import precision_at as precision_at
    from .calibration import recheck as recheck
    from .card import Calibration as Calibration
    from .card import CalibrationError as CalibrationError
    from .card import CardHits as CardHits
    from .card import load_card as load_card
    from .card import save_card as save_card
    from .card import with_first_hits as with_first_hits
    from .clip import Drift as Drift
    from .clip import OpenClip as OpenClip
    from .conformance import Finding as Finding
    from .conformance import check as check
    from .evaluation import Evaluation as Evaluation
    from .evaluation import EvaluationConfig as EvaluationConfig
    from .evaluation import evaluate as evaluate
    from .goal_text import goal_of as goal_of
    from .hits import false_success as false_success
    from .hits import first_hit_precision as first_hit_precision
    from .hits import first_hits as first_hits
    from .inline import InlineReward as InlineReward
    from .inline import InlineStreams as InlineStreams
    from .jax_clip import JaxClip as JaxClip
    from .labelling import EpisodeLabeller as EpisodeLabeller
    from .labelling import Labelled as Labelled
    from .labelling import LabelledEpisode as LabelledEpisode
    from .loading import load as load
    from .metrics import average_precision as average_precision
    from .metrics import epic_distance as epic_distance
    from .metrics import operating_point as operating_point
    from .metrics import operating_points_by_goal as operating_points_by_goal
    from .metrics import partial_auroc as partial_auroc
    from .metrics import precision_recall as precision_recall
    from .metrics import reliability as reliability
    from .pairs import Pairs as Pairs
    from .relabelling import Relabelled as Relabelled
    from .relabelling import relabel as relabel
    from .segments import Bundle as Bundle
    from .segments import BundleCutter as BundleCutter
    from .segments import Segment as Segment
    from .segments import bundle_signature as bundle_signature
    from .segments import copy_signature as copy_signature
    from .segments import read_bundle as read_bundle
    from .sequence_reward import SequenceReward as SequenceReward
    from .splicing import StreamSplicer as StreamSplicer
    from .watch import HackingWatch as HackingWatch
    from .watch import WatchConfig as WatchConfig


# What only some uses of reward models need is imported when it is asked for.
_HOMES = {
    "_report": ("write_report",),
    "_scoring": ("head_settings",),
    "_torchvision": ("clip_versions",),
    "agreement": (
        "kendall_tau",
        "swapped_pair_accuracy",
    ),
    "bootstrap": (
        "Bootstrap",
        "Estimate",
    ),
    "calibrated": ("CalibratedReward",),
    "calibration": (
        "CalibrationConfig",
        "calibrate",
        "precision_at",
        "recheck",
    ),
    "card": (
        "Calibration",
        "CalibrationError",
        "CardHits",
        "load_card",
        "save_card",
        "with_first_hits",
    ),
    "clip": (
        "Drift",
        "OpenClip",
    ),
    "conformance": (
        "Finding",
        "check",
    ),
    "evaluation": (
        "Evaluation",
        "EvaluationConfig",
        "evaluate",
    ),
    "goal_text": ("goal_of",),
    "hits": (
        "false_success",
        "first_hit_precision",
        "first_hits",
    ),
    "inline": ("InlineReward", "InlineStreams"),
    "jax_clip": ("JaxClip",),
    "labelling": (
        "EpisodeLabeller",
        "Labelled",
        "LabelledEpisode",
    ),
    "loading": ("load",),
    "metrics": (
        "average_precision",
        "epic_distance",
        "operating_point",
        "operating_points_by_goal",
        "partial_auroc",
        "precision_recall",
        "reliability",
    ),
    "pairs": ("Pairs",),
    "relabelling": (
        "Relabelled",
        "relabel",
    ),
    "segments": (
        "Bundle",
        "BundleCutter",
        "Segment",
        "bundle_signature",
        "copy_signature",
        "read_bundle",
    ),
    "sequence_reward": ("SequenceReward",),
    "splicing": ("StreamSplicer",),
    "watch": (
        "HackingWatch",
        "WatchConfig",
    ),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
