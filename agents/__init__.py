"""Source reinforcement learning: pure agents, compiled training, learning histories."""

from ._types import Agent as Agent
from ._types import EVALUATE as EVALUATE
from ._types import EXPLORE as EXPLORE
from ._types import Trajectory as Trajectory
from .a2c import A2CConfig as A2CConfig
from .a2c import a2c as a2c
from .compiled import CompiledConfig as CompiledConfig
from .compiled import History as History
from .compiled import stream_length as stream_length
from .compiled import train as train
from .compiled import train_groups as train_groups
from .ppo import PPOConfig as PPOConfig
from .ppo import ppo as ppo
from .q_learning import QLearningConfig as QLearningConfig
from .q_learning import q_learning as q_learning
from .registry import ALGORITHMS as ALGORITHMS
from .registry import Algorithm as Algorithm
from .registry import make_agent as make_agent
from .rmax import RMaxConfig as RMaxConfig
from .rmax import rmax as rmax
from .ucb import UCB1Config as UCB1Config
from .ucb import ucb1 as ucb1
