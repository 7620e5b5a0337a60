"""Reward models: what a trajectory is worth."""

from ._torchvision import clip_versions as clip_versions
from .clip import Drift as Drift
from .clip import OpenClip as OpenClip
from .jax_clip import JaxClip as JaxClip
