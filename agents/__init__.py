"""Source reinforcement learning: pure agents, compiled training, learning histories."""

from ._types import EVALUATE as EVALUATE
from ._types import EXPLORE as EXPLORE
from ._types import Agent as Agent
from ._types import Trajectory as Trajectory
from .compiled import CompiledConfig as CompiledConfig
from .compiled import History as History
from .compiled import stream_length as stream_length
from .compiled import train as train
from .compiled import train_groups as train_groups
from .q_learning import QLearningConfig as QLearningConfig
from .q_learning import q_learning as q_learning
from .rmax import RMaxConfig as RMaxConfig
from .rmax import rmax as rmax
from .reference import REFERENCES as REFERENCES
from .reference import optimal_agent as optimal_agent
from .reference import posterior_sampling as posterior_sampling
from .reference import random_agent as random_agent
from .reference import reference_curve as reference_curve
