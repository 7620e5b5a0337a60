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
from .histories import HistoryError as HistoryError
from .histories import HistoryInfo as HistoryInfo
from .histories import HistoryReader as HistoryReader
from .histories import HistoryWriter as HistoryWriter
from .histories import Manifest as Manifest
from .histories import split_blocks as split_blocks
from .q_learning import QLearningConfig as QLearningConfig
from .q_learning import q_learning as q_learning
from .rmax import RMaxConfig as RMaxConfig
from .rmax import rmax as rmax
from .streams import Streams as Streams
from .streams import load_streams as load_streams
from .transport import open_transport as open_transport
