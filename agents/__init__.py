"""Source reinforcement learning: pure agents, compiled training, learning histories."""

from ._types import EVALUATE as EVALUATE
from ._types import EXPLORE as EXPLORE
from ._types import Agent as Agent
from ._types import Trajectory as Trajectory
