"""Reward models: what a trajectory is worth."""

from .goal_text import goal_of as goal_of
from .inline import InlineReward as InlineReward
from .labelling import EpisodeLabeller as EpisodeLabeller
from .labelling import Labelled as Labelled
from .labelling import LabelledEpisode as LabelledEpisode
from .loading import load as load
from .relabelling import Relabelled as Relabelled
from .relabelling import relabel as relabel
from .segments import Bundle as Bundle
from .segments import BundleCutter as BundleCutter
from .segments import Segment as Segment
from .segments import bundle_signature as bundle_signature
from .segments import copy_signature as copy_signature
from .segments import read_bundle as read_bundle
from .splicing import StreamSplicer as StreamSplicer
