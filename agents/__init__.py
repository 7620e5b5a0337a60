"""Source reinforcement learning: pure agents, compiled training, learning histories."""

from ._types import EVALUATE as EVALUATE
from ._types import EXPLORE as EXPLORE
from ._types import Agent as Agent
from ._types import Trajectory as Trajectory
from .reference import REFERENCES as REFERENCES
from .reference import optimal_agent as optimal_agent
from .reference import posterior_sampling as posterior_sampling
from .reference import random_agent as random_agent
from .reference import reference_curve as reference_curve
